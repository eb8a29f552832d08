//! The root listing, lengths of files and names of modules.

use std::collections::BTreeSet;

use super::source::{test_lines, tokens};
use super::{TextFile, Violation};

/// What may lie in the root of the checkout: the house, and files that tools insist on there.
pub const ROOT: &[&str] = &[
    "Cargo.toml",
    "services",
    "models",
    "migrations",
    "tests",
    "docker-compose.yml",
    "README.md",
    "Cargo.lock",
    "Dockerfile",
    "rust-toolchain.toml",
    "clippy.toml",
    "deny.toml",
    ".cargo",
    ".ci",
    ".sqlx",
    ".gitignore",
    ".gitattributes",
    ".dockerignore",
    "LICENSE",
];

/// What must lie there.
pub const ROOT_REQUIRED: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "services",
    "models",
    "migrations",
    "tests",
    "docker-compose.yml",
    "Dockerfile",
    "README.md",
    "LICENSE",
    ".ci",
];

/// Files stop at this many lines, tests not counted.
pub const LINES_MAX: usize = 600;

/// Names that say nothing about a subject.
const EMPTY_NAMES: [&str; 8] = [
    "common", "util", "utils", "helper", "helpers", "types", "misc", "shared",
];

/// Checks the names of the committed things in the root.
pub fn check_root(names: &BTreeSet<String>) -> Vec<Violation> {
    let strangers = names.iter().filter(|name| !ROOT.contains(&name.as_str()));
    let absent = ROOT_REQUIRED.iter().filter(|name| !names.contains(**name));
    strangers
        .map(|name| Violation::new(name, "does not belong into the root"))
        .chain(absent.map(|name| Violation::new(*name, "is missing from the root")))
        .collect()
}

/// Checks the length of a source. Files that hold tests alone have no limit here.
pub fn check_length(file: &TextFile) -> Vec<Violation> {
    let lines = file.text.lines().count();
    let tests: usize = if file.path.ends_with(".rs") {
        test_lines(&file.text)
            .into_iter()
            .map(|range| range.end.min(lines + 1).saturating_sub(range.start))
            .sum()
    } else {
        0
    };
    if lines - tests > LINES_MAX {
        let what = format!(
            "has {} lines without its tests; the limit is {LINES_MAX}",
            lines - tests
        );
        return vec![Violation::new(&file.path, what)];
    }
    Vec::new()
}

/// Whether a file holds nothing but tests.
pub fn is_test_file(path: &str) -> bool {
    let inner = path
        .strip_prefix("tests/")
        .map(|rest| !rest.starts_with("src/"));
    inner.unwrap_or(false)
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.contains("/test_")
}

/// Checks that neither a file, nor a folder, nor a module declared in a source has a name without a subject.
pub fn check_names(file: &TextFile) -> Vec<Violation> {
    let mut violations = Vec::new();
    for part in file.path.split('/') {
        let stem = part.split('.').next().unwrap_or(part);
        if EMPTY_NAMES.contains(&stem) {
            violations.push(Violation::new(
                &file.path,
                format!("{stem} names no subject"),
            ));
        }
    }
    if file.path.ends_with(".rs") {
        for pair in tokens(&file.text).windows(2) {
            if pair[0].text == "mod" && EMPTY_NAMES.contains(&pair[1].text.as_str()) {
                let place = format!("{}:{}", file.path, pair[0].line);
                violations.push(Violation::new(
                    place,
                    format!("module {} names no subject", pair[1].text),
                ));
            }
        }
    }
    violations
}
