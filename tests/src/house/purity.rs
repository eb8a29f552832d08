//! Pure crates do no I/O, read no clock and no environment, and start no threads.

use super::source::{paths, product_tokens};
use super::{TextFile, Violation};

/// Paths of the standard library, and names reached through them, that a pure crate may not name. Reading and writing
/// in memory (`std::io::Cursor`, `Read`, `Write`) stay allowed.
const FORBIDDEN: &[&[&str]] = &[
    &["std", "env"],
    &["std", "fs"],
    &["std", "net"],
    &["std", "os"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "time"],
    &["std", "io", "stdin"],
    &["std", "io", "stdout"],
    &["std", "io", "stderr"],
    &["SystemTime"],
    &["Instant"],
    &["OsRng"],
    &["thread_rng"],
    &["tokio"],
    &["rayon"],
    &["getrandom"],
];

/// Macros that write to the terminal.
const PRINTING: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];

/// Checks one source of a pure crate.
pub fn check(file: &TextFile) -> Vec<Violation> {
    let tokens = product_tokens(&file.text);
    let mut violations = Vec::new();
    for (line, path) in paths(&tokens) {
        let names = |forbidden: &&[&str]| match forbidden {
            [single] => path.iter().any(|segment| segment == single),
            several => path
                .iter()
                .map(String::as_str)
                .take(several.len())
                .eq(several.iter().copied()),
        };
        if FORBIDDEN.iter().any(names) {
            violations.push(Violation::new(
                format!("{}:{line}", file.path),
                format!("a pure crate names {}", path.join("::")),
            ));
        }
        if path.first().is_some_and(|first| first == "std") && path.len() == 1 {
            violations.push(Violation::new(
                format!("{}:{line}", file.path),
                "a pure crate renames or globs std",
            ));
        }
    }
    for pair in tokens.windows(2) {
        if pair[1].text == "!" && PRINTING.contains(&pair[0].text.as_str()) {
            let place = format!("{}:{}", file.path, pair[0].line);
            violations.push(Violation::new(
                place,
                format!("a pure crate prints with {}!", pair[0].text),
            ));
        }
    }
    violations
}
