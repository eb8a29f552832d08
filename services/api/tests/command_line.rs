//! The command line as scripts see it: help, exit codes, one line per error.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::process::{Command, Output};

/// Runs `retrace` away from any checkout, with nothing set in the environment.
fn retrace(arguments: &[&str]) -> Output {
    retrace_in(Path::new("/"), arguments)
}

fn retrace_in(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_retrace"))
        .args(arguments)
        .env_clear()
        .current_dir(folder)
        .output()
        .expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The one line that a failed command says.
fn one_line(output: &Output) -> String {
    let text = stderr(output);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("retrace: "), "{text}");
    text
}

const COMMANDS: [&[&str]; 21] = [
    &["serve"],
    &["generate"],
    &["score"],
    &["trace"],
    &["train"],
    &["invert"],
    &["key"],
    &["key", "client"],
    &["key", "list"],
    &["key", "revoke"],
    &["key", "show"],
    &["key", "wrap"],
    &["key", "unwrap"],
    &["key", "rotate"],
    &["ledger"],
    &["ledger", "backup"],
    &["ledger", "check"],
    &["ledger", "restore"],
    &["models"],
    &["models", "check"],
    &["witness"],
];

#[test]
fn every_command_has_help_with_examples() {
    for command in COMMANDS {
        let output = retrace(&[command, &["--help"]].concat());
        let help = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        assert!(help.contains("Examples:\n  "), "{command:?}: {help}");
        let mentions = help
            .lines()
            .filter(|line| line.trim_start().starts_with("retrace "));
        assert!(mentions.count() >= 1, "{command:?}: {help}");
    }
}

#[test]
fn the_first_help_names_every_command_and_every_exit_code() {
    let output = retrace(&["--help"]);
    let help = stdout(&output);
    for word in [
        "serve", "generate", "score", "trace", "invert", "key", "ledger", "models", "witness",
    ] {
        assert!(help.contains(&format!("\n  {word} ")), "{word}: {help}");
    }
    for code in 0..=4 {
        assert!(help.contains(&format!("\n  {code}  ")), "{code}: {help}");
    }
    assert!(
        !help.contains("parse-untrusted"),
        "an inner command is not for people"
    );
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_with_code_2() {
    let refused: [&[&str]; 12] = [
        &[],
        &["paint"],
        &["score"],
        &["score", "--loud", "a.png"],
        &["generate", "--steps", "0"],
        &["generate", "--steps", "-3"],
        &["generate", "--seed", "-1"],
        &["generate", "--seed", "18446744073709551616"],
        &["generate", "--scheduler", "ddim-inverse"],
        &["generate", "-n", "0"],
        &["serve", "--port", "65536"],
        &["key", "client", "press", "--scope", "everything"],
    ];
    for arguments in refused {
        let output = retrace(arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn starting_latents_exclude_what_they_stand_for() {
    for other in [
        &["--seed", "1"][..],
        &["--count", "2"],
        &["--noise-source", "torch-cpu"],
        &["--size", "64x64"],
    ] {
        let arguments = [&["generate", "--latents", "start.npy"], other].concat();
        let output = retrace(&arguments);
        assert_eq!(output.status.code(), Some(2), "{other:?}");
        assert!(stderr(&output).contains(other[0]), "{}", stderr(&output));
    }
    for alone in [&["--mask", "mask.png"][..], &["--strength", "0.5"]] {
        let output = retrace(&[&["generate", "--prompt", "a"], alone].concat());
        assert_eq!(output.status.code(), Some(2), "{alone:?}");
        assert!(
            stderr(&output).contains("--init-image"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn missing_native_parts_and_models_are_one_line_and_code_3() {
    let empty = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 5] = [
        &["score", "--offline", "a.png"],
        &["trace", "a.png"],
        &["generate", "--offline", "--prompt", "a red heart"],
        &["serve", "--port", "0"],
        &["models", "check"],
    ];
    for arguments in commands {
        let output = retrace_in(empty.path(), arguments);
        assert_eq!(
            output.status.code(),
            Some(3),
            "{arguments:?}: {}",
            stderr(&output)
        );
        one_line(&output);
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    let output = retrace_in(empty.path(), &["score", "--offline", "a.png"]);
    assert!(one_line(&output).contains("cargo xtask setup"));
}

#[test]
fn a_database_address_that_is_none_is_refused_without_repeating_it() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().to_str().unwrap();
    let arguments = [
        "ledger",
        "check",
        "--state",
        folder,
        "--database-url",
        "mysql://u:secret@db/x",
    ];
    let output = retrace(&arguments);
    assert_eq!(output.status.code(), Some(3));
    assert!(!one_line(&output).contains("secret"));
}

#[test]
fn a_database_that_is_down_is_one_line_and_code_3() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().to_str().unwrap();
    // Port 1 belongs to no database; connecting to it is refused at once.
    let url = "postgres://nobody@127.0.0.1:1/none";
    let output = retrace(&["key", "list", "--state", folder, "--database-url", url]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(
        one_line(&output).contains("database"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn public_keys_that_do_not_exist_yet_are_not_made_by_showing_them() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().to_str().unwrap();
    let output = retrace(&["key", "show", "--state", folder]);
    assert_eq!(output.status.code(), Some(3));
    assert!(one_line(&output).contains("retrace serve"));
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
}

#[test]
fn the_parser_of_untrusted_files_is_for_the_service_alone() {
    let output = retrace(&["parse-untrusted"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(one_line(&output).contains("service alone"));
}

#[test]
fn model_files_that_differ_from_their_manifest_give_code_1_and_are_named() {
    let models = tempfile::tempdir().unwrap();
    std::fs::write(models.path().join("weights.onnx"), b"changed").unwrap();
    let manifest = format!(
        "[[file]]\npath = \"weights.onnx\"\nsha256 = \"{}\"\nbytes = 7\nsource = \"a test\"\n\
         licence = \"Apache-2.0\"\n",
        "0".repeat(64)
    );
    std::fs::write(models.path().join("manifest.toml"), manifest).unwrap();
    let folder = models.path().to_str().unwrap();
    let output = retrace(&["models", "check", "--models", folder]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("weights.onnx"));
    one_line(&output);
    let output = retrace(&["models", "check", "--json", "--models", folder]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["sound"], false);
    assert_eq!(report["differences"].as_array().unwrap().len(), 1);
}
