//! What the READMEs name exists: commands with their options, files and pictures.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::process::Command;

use tests::house::{TextFile, root, text_files};
use tests::programs::program;

/// All documents of the house.
fn documents() -> Vec<TextFile> {
    let mut files: Vec<TextFile> = ["services", "tests", "models", "migrations"]
        .iter()
        .flat_map(|folder| text_files(folder, &[".md"]).unwrap())
        .filter(|file| !file.path.contains("/."))
        .collect();
    let readme = root().join("README.md");
    if readme.is_file() {
        files.push(TextFile::sample(
            "README.md",
            &std::fs::read_to_string(readme).unwrap(),
        ));
    }
    files
}

/// Targets of links and pictures that are paths, each relative to its document's folder.
fn linked_paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices("](") {
        let rest = &text[start + 2..];
        let Some(end) = rest.find(')') else { continue };
        let target = rest[..end].split('#').next().unwrap_or_default();
        if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
            found.push(target.to_owned());
        }
    }
    found
}

/// The command lines of a document's shell blocks: one for each line that starts with a program of the house, with or
/// without a prompt. Comments and continued lines are taken care of.
fn command_lines(text: &str) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    let mut in_shell = false;
    let mut pending = String::new();
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            in_shell = !in_shell && ["sh", "console", "bash", "shell"].contains(&language.trim());
            continue;
        }
        if !in_shell {
            continue;
        }
        pending.push_str(line.trim().trim_start_matches("$ "));
        if let Some(continued) = pending.strip_suffix('\\') {
            pending = format!("{continued} ");
            continue;
        }
        for command in std::mem::take(&mut pending)
            .split(['|', ';'])
            .flat_map(|part| part.split("&&"))
        {
            let words = words(command);
            if words
                .first()
                .is_some_and(|word| ["cargo", "retrace", "retrace-verify"].contains(&word.as_str()))
            {
                lines.push(words);
            }
        }
    }
    lines
}

/// The words of a command: environment assignments and comments left out, the program without its folder.
fn words(command: &str) -> Vec<String> {
    let is_assignment = |word: &&str| word.contains('=') && !word.starts_with('-');
    let words = command
        .split_whitespace()
        .skip_while(is_assignment)
        .take_while(|word| *word != "#");
    let mut words: Vec<String> = words.map(str::to_owned).collect();
    if let Some(first) = words.first_mut() {
        *first = first.rsplit('/').next().unwrap_or_default().to_owned();
    }
    words
}

/// Help texts by program and subcommand, asked for once each.
#[derive(Default)]
struct Helps(BTreeMap<Vec<String>, String>);

impl Helps {
    fn of(&mut self, name: &str, subcommands: &[String]) -> &str {
        let mut key = vec![name.to_owned()];
        key.extend_from_slice(subcommands);
        self.0.entry(key).or_insert_with(|| {
            let output = Command::new(program(name).unwrap())
                .args(subcommands)
                .arg("--help")
                .output()
                .unwrap();
            if output.status.success() {
                String::from_utf8(output.stdout).unwrap()
            } else {
                String::new()
            }
        })
    }
}

/// What is wrong with a command line, if anything.
fn fault(helps: &mut Helps, line: &[String]) -> Option<String> {
    let (name, rest) = match line {
        [cargo, xtask, rest @ ..] if cargo == "cargo" && xtask == "xtask" => ("xtask", rest),
        [cargo, ..] if cargo == "cargo" => return None,
        [name, rest @ ..] => (name.as_str(), rest),
        [] => return None,
    };
    let mut subcommands: Vec<String> = Vec::new();
    for word in rest.iter().take_while(|word| !word.starts_with('-')) {
        let listed = helps
            .of(name, &subcommands)
            .lines()
            .any(|help| help.split_whitespace().next() == Some(word));
        if !listed {
            break;
        }
        subcommands.push(word.clone());
    }
    if subcommands.is_empty() && rest.first().is_some_and(|word| !word.starts_with('-')) {
        return Some(format!("{name} has no command {}", rest[0]));
    }
    let help = helps.of(name, &subcommands).to_owned();
    let options = rest
        .iter()
        .take_while(|word| *word != "--")
        .filter(|word| word.starts_with('-'));
    for option in options.map(|word| word.split('=').next().unwrap_or(word)) {
        let known = help
            .split(|letter: char| letter.is_whitespace() || ",[]<>=`".contains(letter))
            .any(|word| word == option);
        if !known {
            return Some(format!(
                "{name} {} has no option {option}",
                subcommands.join(" ")
            ));
        }
    }
    None
}

#[test]
fn every_linked_file_and_picture_is_there() {
    let mut missing = Vec::new();
    for document in documents() {
        let full = root().join(&document.path);
        for target in linked_paths(&document.text) {
            if !full.parent().unwrap().join(&target).exists() {
                missing.push(format!("{} links to {target}", document.path));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_command_of_a_document_exists_with_its_options() {
    let mut helps = Helps::default();
    let mut faults = Vec::new();
    let mut count = 0;
    for document in documents() {
        for line in command_lines(&document.text) {
            count += 1;
            if let Some(fault) = fault(&mut helps, &line) {
                faults.push(format!("{}: `{}`: {fault}", document.path, line.join(" ")));
            }
        }
    }
    assert!(count > 0, "no document names a command");
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_command_and_an_option_that_do_not_exist_are_caught() {
    let mut helps = Helps::default();
    let text = "```sh\nRETRACE_STATE=/a cargo xtask demmo   # never\ncargo xtask demo --once \\\n  --twice\ncargo xtask demo --json | head\n```\nretrace nothing\n";
    let lines = command_lines(text);
    let faults: Vec<Option<String>> = lines.iter().map(|line| fault(&mut helps, line)).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(faults[0].as_deref(), Some("xtask has no command demmo"));
    assert_eq!(
        faults[1].as_deref(),
        Some("xtask demo has no option --twice")
    );
    assert_eq!(faults[2], None);
}

#[test]
fn links_to_other_sites_are_left_alone() {
    let text =
        "[a](https://example.org/x) ![b](pictures/b.png) [c](../models/README.md#card) [d](#part)";
    assert_eq!(
        linked_paths(text),
        ["pictures/b.png", "../models/README.md"]
    );
}
