//! The embedded default: a private Postgres in the state folder, and the command line on the same state.

use std::process::Command;

use provenance::{Bundle, PublicKeys};
use serde_json::Value;
use tests::house::root;
use tests::programs::program;
use tests::service::{reachable_folder, runtime_folder};

/// A command of the program on a state folder, with the models and native parts of this checkout.
fn retrace(state: &std::path::Path, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(program("retrace").unwrap());
    command
        .args(arguments)
        .env_remove("DATABASE_URL")
        .env("RETRACE_STATE", state)
        .env("RETRACE_MODELS", root().join("models"))
        .env("RETRACE_RUNTIME", runtime_folder())
        .current_dir(state);
    command.output().unwrap()
}

fn succeed(output: &std::process::Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_command_line_generates_signs_and_checks_on_a_private_postgres() {
    let folder = reachable_folder().unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let made = retrace(
        &state,
        &[
            "generate",
            "--prompt",
            "a red heart",
            "--seed",
            "7",
            "--steps",
            "4",
            "--json",
        ],
    );
    let document: Value = serde_json::from_str(succeed(&made).lines().next().unwrap()).unwrap();
    let written: Vec<_> = std::fs::read_dir(state.join("retrace-out"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let with_ending = |ending: &str| {
        let found = written.iter().find(|path| {
            path.extension()
                .is_some_and(|extension| extension == ending)
        });
        found
            .unwrap_or_else(|| panic!("no .{ending} among {written:?}; {document}"))
            .clone()
    };
    let keys =
        PublicKeys::parse(&std::fs::read_to_string(state.join("retrace.pub")).unwrap()).unwrap();
    let bundle = Bundle::parse(&std::fs::read(with_ending("bundle")).unwrap()).unwrap();
    bundle.verify(&keys).unwrap();
    let verified = Command::new(program("retrace-verify").unwrap())
        .arg("bundle")
        .arg(with_ending("bundle"))
        .arg("--image")
        .arg(with_ending("png"))
        .arg("--public-key")
        .arg(state.join("retrace.pub"))
        .output()
        .unwrap();
    succeed(&verified);
    succeed(&retrace(&state, &["ledger", "check"]));
    succeed(&retrace(&state, &["models", "check"]));
}

#[test]
fn scores_without_a_ledger_need_no_database_and_come_as_one_object_a_line() {
    let folder = reachable_folder().unwrap();
    let samples = runtime_folder().join("samples");
    let (chelsea, coffee) = (samples.join("chelsea.png"), samples.join("coffee.png"));
    let arguments = [
        "score",
        "--offline",
        "--json",
        chelsea.to_str().unwrap(),
        coffee.to_str().unwrap(),
    ];
    let lines = succeed(&retrace(folder.path(), &arguments));
    let documents: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(documents.len(), 2);
    for document in &documents {
        for member in [
            "path",
            "verdict",
            "probability",
            "raw_score",
            "evidence",
            "detector_version",
        ] {
            assert!(document.get(member).is_some(), "{member} of {document}");
        }
    }
    assert!(
        !folder.path().join("postgres").exists(),
        "a database was made"
    );
}

#[test]
fn an_unsigned_image_says_that_it_is_unsigned() {
    let folder = reachable_folder().unwrap();
    let arguments = [
        "generate",
        "--prompt",
        "a red heart",
        "--steps",
        "2",
        "--offline",
        "--json",
    ];
    let line = succeed(&retrace(folder.path(), &arguments));
    let document: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    assert_eq!(document["signed"], false, "{document}");
}
