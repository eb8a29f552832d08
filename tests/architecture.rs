//! The house keeps its rules: each is checked on the sources of this checkout, and each is shown to catch a sample that
//! breaks it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::process::Command;

use tests::house::arrows::{self, ROOMS, Room};
use tests::house::{TextFile, Violation, layout, purity, root, text_files, wording};

fn none(violations: Vec<Violation>) {
    let lines: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(
        lines.is_empty(),
        "{} violations:\n{}",
        lines.len(),
        lines.join("\n")
    );
}

fn caught(violations: &[Violation], words: &str) {
    assert!(
        violations
            .iter()
            .any(|violation| violation.what.contains(words)),
        "{words:?} not among {violations:?}"
    );
}

fn read(path: &str) -> TextFile {
    TextFile::sample(path, &std::fs::read_to_string(root().join(path)).unwrap())
}

fn rust_sources() -> Vec<TextFile> {
    ["services", "tests"]
        .iter()
        .flat_map(|folder| text_files(folder, &[".rs"]).unwrap())
        .collect()
}

fn room(name: &str) -> &'static Room {
    ROOMS.iter().find(|room| room.name == name).unwrap()
}

/// A crate's manifest with the given dependency lines.
fn manifest(name: &str, dependencies: &str) -> TextFile {
    let text = format!(
        "[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n[dependencies]\n{dependencies}\n"
    );
    TextFile::sample("Cargo.toml", &text)
}

#[test]
fn crates_use_only_what_lies_below_them() {
    for room in ROOMS {
        let path = format!("{}/Cargo.toml", arrows::folder(room));
        none(arrows::check_manifest(room, &read(&path)).unwrap());
    }
}

#[test]
fn the_workspace_is_the_house_and_forbids_unsafe_code() {
    none(arrows::check_workspace(&read("Cargo.toml")).unwrap());
}

#[test]
fn an_arrow_against_the_order_is_caught() {
    let violations = arrows::check_manifest(
        room("provenance"),
        &manifest("provenance", "media.workspace = true"),
    );
    caught(&violations.unwrap(), "provenance may not use media");
    let violations = arrows::check_manifest(
        room("verify"),
        &manifest("verify", "ledger.workspace = true"),
    );
    caught(&violations.unwrap(), "verify may not use ledger");
}

#[test]
fn tests_and_examples_keep_to_the_arrows_too() {
    let shipped = manifest("onnx", "").text;
    let text = format!("{shipped}[dev-dependencies]\nmedia.workspace = true\n");
    let violations =
        arrows::check_manifest(room("onnx"), &TextFile::sample("Cargo.toml", &text)).unwrap();
    caught(&violations, "onnx may not use media");
}

#[test]
fn an_import_outside_its_only_home_is_caught() {
    for (name, line, words) in [
        (
            "api",
            "sqlx.workspace = true",
            "only ledger may import sqlx",
        ),
        (
            "api",
            "image = { workspace = true }",
            "only media may import image",
        ),
        (
            "detector",
            "image-webp.workspace = true",
            "only media may import image-webp",
        ),
        (
            "ledger",
            "actix-web.workspace = true",
            "only api may import actix-web",
        ),
        ("api", "ort.workspace = true", "only onnx may import ort"),
        (
            "api",
            "c2pa.workspace = true",
            "only credentials may import c2pa",
        ),
    ] {
        caught(
            &arrows::check_manifest(room(name), &manifest(name, line)).unwrap(),
            words,
        );
    }
}

#[test]
fn an_impure_dependency_of_a_pure_crate_is_caught() {
    let violations = arrows::check_manifest(
        room("diffusion"),
        &manifest("diffusion", "tokio.workspace = true"),
    );
    caught(
        &violations.unwrap(),
        "diffusion is pure and may not import tokio",
    );
}

#[test]
fn a_crate_with_own_versions_own_name_or_own_lints_is_caught() {
    let violations =
        arrows::check_manifest(room("media"), &manifest("pictures", "serde = \"1\"")).unwrap();
    caught(&violations, "not called media");
    caught(&violations, "version of serde");
    let bare = TextFile::sample("Cargo.toml", "[package]\nname = \"media\"\n");
    caught(
        &arrows::check_manifest(room("media"), &bare).unwrap(),
        "lints of the workspace",
    );
}

#[test]
fn a_stranger_in_the_workspace_and_allowed_unsafe_code_are_caught() {
    let text = "[workspace]\nmembers = [\"services/common\"]\n[workspace.lints.rust]\nunsafe_code = \"warn\"\n";
    let violations = arrows::check_workspace(&TextFile::sample("Cargo.toml", text)).unwrap();
    caught(&violations, "services/common is no crate of the house");
    caught(&violations, "provenance is not a member");
    caught(&violations, "unsafe code is not forbidden");
}

#[test]
fn pure_crates_do_no_input_output_and_read_no_clock_or_environment() {
    for room in ROOMS.iter().filter(|room| room.pure) {
        let files = text_files(&format!("{}/src", arrows::folder(room)), &[".rs"]).unwrap();
        let product = files
            .iter()
            .filter(|file| !layout::is_test_file(&file.path));
        none(product.flat_map(purity::check).collect());
    }
}

#[test]
fn every_kind_of_impurity_is_caught() {
    for (line, words) in [
        ("use std::{collections::BTreeMap, fs};", "std::fs"),
        ("let home = std::env::var(\"HOME\");", "std::env::var"),
        ("fn now() -> std::time::Duration { todo() }", "std::time"),
        ("let start = Instant::now();", "Instant"),
        ("std::thread::spawn(|| ());", "std::thread"),
        ("let x = tokio::spawn(async {});", "tokio::spawn"),
        ("println!(\"hello\");", "println!"),
        ("use std as standard;", "renames or globs std"),
        (
            "fn fill(bytes: &mut [u8]) { getrandom::fill(bytes); }",
            "getrandom",
        ),
    ] {
        caught(&purity::check(&TextFile::sample("lib.rs", line)), words);
    }
    let harmless =
        "use std::io::{Cursor, Read};\n// std::fs\n#[cfg(test)]\nmod tests { use std::fs; }\n";
    none(purity::check(&TextFile::sample("lib.rs", harmless)));
}

/// Names in the root that git keeps, or all that lie there where this is not a git checkout.
fn root_listing() -> BTreeSet<String> {
    let listed = Command::new("git")
        .arg("-C")
        .arg(root())
        .args(["ls-files", "-z"])
        .output();
    match listed {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => {
            String::from_utf8(output.stdout)
                .unwrap()
                .split('\0')
                .filter_map(|path| path.split('/').next())
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        }
        _ => {
            let ignored = std::fs::read_to_string(root().join(".gitignore")).unwrap();
            let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
            std::fs::read_dir(root())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
                .filter(|name| name != ".git" && !ignored.contains(&name.as_str()))
                .collect()
        }
    }
}

#[test]
fn the_root_holds_the_house_and_nothing_else() {
    none(layout::check_root(&root_listing()));
}

#[test]
fn a_stranger_in_the_root_and_a_missing_room_are_caught() {
    let names: BTreeSet<String> = ["Cargo.toml", "notes.txt"].map(str::to_owned).into();
    let violations = layout::check_root(&names);
    assert!(violations.contains(&Violation::new(
        "notes.txt",
        "does not belong into the root"
    )));
    assert!(violations.contains(&Violation::new("services", "is missing from the root")));
}

#[test]
fn every_top_folder_explains_itself() {
    for folder in ["services", "models", "migrations", "tests"] {
        let path = root().join(folder).join("README.md");
        assert!(path.is_file(), "{folder}/README.md is missing");
    }
}

#[test]
fn files_stop_at_their_limit() {
    let mut files = rust_sources();
    files.extend(text_files("models", &[".py"]).unwrap());
    none(
        files
            .iter()
            .filter(|file| !layout::is_test_file(&file.path))
            .flat_map(layout::check_length)
            .collect(),
    );
}

#[test]
fn a_long_file_is_caught_and_its_tests_are_not_counted() {
    let long = "fn a() {}\n".repeat(layout::LINES_MAX + 1);
    caught(
        &layout::check_length(&TextFile::sample("services/a/src/lib.rs", &long)),
        "601 lines",
    );
    let tested = format!(
        "{}#[cfg(test)]\nmod tests {{\n{}}}\n",
        "fn a() {}\n".repeat(599),
        "fn b() {}\n".repeat(90)
    );
    none(layout::check_length(&TextFile::sample(
        "services/a/src/lib.rs",
        &tested,
    )));
}

#[test]
fn every_module_is_named_after_its_subject() {
    let mut files = rust_sources();
    files.extend(text_files("models", &[".py"]).unwrap());
    none(files.iter().flat_map(layout::check_names).collect());
}

#[test]
fn a_name_without_a_subject_is_caught() {
    caught(
        &layout::check_names(&TextFile::sample("services/api/src/util.rs", "")),
        "util names no subject",
    );
    caught(
        &layout::check_names(&TextFile::sample("services/helpers/src/lib.rs", "")),
        "helpers names no subject",
    );
    caught(
        &layout::check_names(&TextFile::sample(
            "services/api/src/lib.rs",
            "mod types { }",
        )),
        "module types",
    );
}

#[test]
fn identifiers_use_the_words_of_the_field() {
    none(
        rust_sources()
            .iter()
            .flat_map(wording::check_identifiers)
            .collect(),
    );
}

#[test]
fn a_wrong_word_and_unsafe_code_are_caught() {
    let sample = |text: &str| wording::check_identifiers(&TextFile::sample("lib.rs", text));
    caught(
        &sample("struct EulerSettings { sampler: u8 }"),
        "the word is scheduler",
    );
    caught(&sample("let fake_score = 1;"), "the word is generated");
    caught(
        &sample("fn merkle_path_of() {}"),
        "the word is inclusion proof",
    );
    caught(&sample("unsafe { go() }"), "unsafe code");
    none(sample(
        "// the sampler of the user interface\nlet scheduler = 1;",
    ));
}

#[test]
fn nothing_is_left_unfinished_and_no_path_of_one_machine_is_named() {
    let endings = [
        ".rs", ".py", ".md", ".toml", ".sql", ".html", ".css", ".js", ".yml",
    ];
    let mut files: Vec<TextFile> = ["services", "tests", "models", "migrations"]
        .iter()
        .flat_map(|folder| text_files(folder, &endings).unwrap())
        .collect();
    for name in [
        "Cargo.toml",
        "README.md",
        "Dockerfile",
        "docker-compose.yml",
        ".ci/run",
    ] {
        if root().join(name).is_file() {
            files.push(read(name));
        }
    }
    none(
        files
            .iter()
            .filter(|file| !file.path.ends_with("tests/architecture.rs"))
            .flat_map(wording::check_text)
            .collect(),
    );
}

#[test]
fn unfinished_work_and_a_machines_path_are_caught() {
    let sample = |text: &str| wording::check_text(&TextFile::sample("lib.rs", text));
    caught(&sample(&["// TO", "DO: later"].concat()), "unfinished work");
    caught(
        &sample(&["let a = \"/ho", "me/ada/picture.png\";"].concat()),
        "a path of one machine",
    );
}

#[test]
fn tests_neither_sleep_nor_are_switched_off() {
    none(
        rust_sources()
            .iter()
            .flat_map(wording::check_tests)
            .collect(),
    );
}

#[test]
fn a_sleeping_test_and_a_hidden_test_are_caught() {
    let sleeping = "#[cfg(test)]\nmod tests {\n#[test]\nfn a() { std::thread::sleep(ONE); }\n}\n";
    caught(
        &wording::check_tests(&TextFile::sample("services/a/src/lib.rs", sleeping)),
        "a test sleeps",
    );
    let hidden = "#[test]\n#[ignore]\nfn a() {}\n";
    caught(
        &wording::check_tests(&TextFile::sample("tests/journeys/a.rs", hidden)),
        "switched off",
    );
}
