//! Words: one word, one meaning; nothing unfinished; no machine's own paths; tests that neither sleep nor hide.

use super::source::{Token, tokens};
use super::{TextFile, Violation};

/// Words that identifiers may not hold, and the field's own word for the same thing.
const IDENTIFIERS: &[(&str, &str)] = &[
    ("sampler", "scheduler"),
    ("fake", "generated"),
    ("merkle_path", "inclusion proof"),
    ("receipt", "inclusion proof"),
    ("confidence", "calibrated probability"),
    ("undo", "inversion"),
];

/// Keys of published files that hold such a word; whoever reads the files must spell them so.
const PUBLISHED_KEYS: &[&str] = &["noise_sampler_seed"];

/// Signs of work that was left lying. They are put together here, so that this file does not hold them.
const UNFINISHED: &[&[&str]] = &[
    &["TO", "DO"],
    &["FIX", "ME"],
    &["HA", "CK:"],
    &["lorem ", "ipsum"],
];

/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: &[&[&str]] = &[
    &["/wo", "rk/"],
    &["/ho", "me/"],
    &["/ro", "ot/"],
    &["/Us", "ers/"],
];

/// Checks the identifiers of a Rust source.
pub fn check_identifiers(file: &TextFile) -> Vec<Violation> {
    let mut violations = Vec::new();
    for Token { text, line } in tokens(&file.text) {
        let lower = text.to_lowercase();
        if PUBLISHED_KEYS.contains(&lower.as_str()) {
            continue;
        }
        for (word, instead) in IDENTIFIERS {
            if lower.split('_').any(|part| part == *word)
                || lower == *word
                || (word.contains('_') && lower.contains(word))
            {
                let place = format!("{}:{line}", file.path);
                violations.push(Violation::new(
                    place,
                    format!("{text} says {word}; the word is {instead}"),
                ));
            }
        }
        if text == "unsafe" {
            violations.push(Violation::new(
                format!("{}:{line}", file.path),
                "unsafe code",
            ));
        }
    }
    violations
}

/// Checks any text of the house for unfinished work and for paths of one machine.
pub fn check_text(file: &TextFile) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let mut look_for = |all: &[&[&str]], what: &str| {
            for parts in all {
                if line.contains(&parts.concat()) {
                    let place = format!("{}:{}", file.path, index + 1);
                    violations.push(Violation::new(
                        place,
                        format!("{what} ({})", parts.concat()),
                    ));
                }
            }
        };
        look_for(UNFINISHED, "unfinished work");
        look_for(MACHINE_PATHS, "a path of one machine");
    }
    violations
}

/// Checks that a source's tests neither sleep nor are switched off. Waiting is for an event, with a time limit.
pub fn check_tests(file: &TextFile) -> Vec<Violation> {
    let all = tokens(&file.text);
    let is_test = all
        .windows(3)
        .any(|three| three[0].text == "[" && three[1].text == "test" && three[2].text == "]")
        || all
            .iter()
            .any(|token| token.text == "test" || token.text == "tests");
    let mut violations = Vec::new();
    for three in all.windows(3) {
        if three[0].text == "#" && three[1].text == "[" && three[2].text == "ignore" {
            violations.push(Violation::new(
                format!("{}:{}", file.path, three[0].line),
                "a test is switched off",
            ));
        }
    }
    if is_test {
        let ranges = super::source::test_lines(&file.text);
        let whole = super::layout::is_test_file(&file.path);
        for token in all.iter().filter(|token| token.text == "sleep") {
            if whole || ranges.iter().any(|range| range.contains(&token.line)) {
                violations.push(Violation::new(
                    format!("{}:{}", file.path, token.line),
                    "a test sleeps",
                ));
            }
        }
    }
    violations
}
