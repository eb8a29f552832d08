//! `docker-compose.yml` and `Dockerfile` are held against the code: no engine has run them yet.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;

use api::config::Role;
use clap::ValueEnum as _;
use serde_json::Value;
use tests::house::{TextFile, root, text_files};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).unwrap()
}

/// The instructions of the Dockerfile, with continued lines joined: the word and its arguments.
fn instructions() -> Vec<(String, String)> {
    let joined = read("Dockerfile").replace("\\\n", " ");
    joined
        .lines()
        .filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty())
        .filter_map(|line| line.split_once(' '))
        .map(|(word, rest)| {
            (
                word.to_owned(),
                rest.split_whitespace().collect::<Vec<_>>().join(" "),
            )
        })
        .collect()
}

fn arguments_of(word: &str) -> Vec<String> {
    instructions()
        .into_iter()
        .filter(|(name, _)| name == word)
        .map(|(_, rest)| rest)
        .collect()
}

fn api_sources() -> Vec<TextFile> {
    text_files("services/api/src", &[".rs"]).unwrap()
}

/// Whether the api crate's sources hold this string literal.
fn api_says(literal: &str) -> bool {
    let quoted = format!("\"{literal}\"");
    api_sources().iter().any(|file| file.text.contains(&quoted))
}

/// The names of environment variables in a text that belong to the service.
fn settings(text: &str) -> BTreeSet<String> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| word.starts_with("RETRACE_") || *word == "DATABASE_URL")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_setting_is_one_that_the_program_reads() {
    // The build argument of the compose file chooses an image, not a setting of the program.
    let chooses_the_image = "RETRACE_VARIANT";
    for file in ["Dockerfile", "docker-compose.yml"] {
        let named = settings(&read(file));
        assert!(!named.is_empty(), "{file}");
        for name in named.iter().filter(|name| *name != chooses_the_image) {
            let read_by_the_program = api_sources()
                .iter()
                .any(|source| source.text.contains(&format!("env = \"{name}\"")));
            assert!(
                read_by_the_program,
                "{file} sets {name}, which the program does not read"
            );
        }
    }
}

#[test]
fn a_setting_that_nobody_reads_is_caught() {
    let found =
        settings("ENV RETRACE_STATE=/a DATABASE_URL=postgres://x RETRACE_NO_SUCH_SETTING=1");
    assert_eq!(found.len(), 3);
    assert!(
        !api_sources()
            .iter()
            .any(|source| source.text.contains("env = \"RETRACE_NO_SUCH_SETTING\""))
    );
}

#[test]
fn the_image_runs_the_programs_that_the_workspace_builds() {
    let copied = arguments_of("COPY")
        .into_iter()
        .find(|copy| copy.contains("target/release"))
        .unwrap();
    for (program, package) in [("retrace", "api"), ("retrace-verify", "verify")] {
        assert!(
            copied
                .split_whitespace()
                .any(|path| path.ends_with(&format!("/release/{program}"))),
            "{program}"
        );
        let manifest: toml::Table = read(&format!("services/{package}/Cargo.toml"))
            .parse()
            .unwrap();
        let programs = manifest["bin"].as_array().unwrap();
        assert!(
            programs
                .iter()
                .any(|one| one["name"].as_str() == Some(program)),
            "{package} builds no {program}"
        );
        let build = arguments_of("RUN")
            .into_iter()
            .find(|run| run.contains("cargo build"))
            .unwrap();
        assert!(build.contains(&format!("--package {package}")), "{build}");
    }
    assert_eq!(arguments_of("ENTRYPOINT"), ["[\"retrace\"]"]);
    assert_eq!(
        arguments_of("CMD").last().map(String::as_str),
        Some("[\"serve\"]")
    );
}

#[test]
fn the_image_brings_native_parts_and_models_to_where_its_settings_say() {
    let environment = arguments_of("ENV").join(" ");
    let setting = |name: &str| {
        let assigned = environment
            .split_whitespace()
            .find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        assigned.unwrap().trim_end_matches('/').to_owned()
    };
    let copies = arguments_of("COPY");
    let target_of = |source: &str| {
        let copy = copies.iter().find(|copy| copy.contains(source)).unwrap();
        copy.split_whitespace()
            .last()
            .unwrap()
            .trim_end_matches('/')
            .to_owned()
    };
    assert_eq!(target_of(".runtime/"), setting("RETRACE_RUNTIME"));
    for part in ["generator", "detector"] {
        assert!(root().join("models").join(part).is_dir(), "models/{part}");
        assert_eq!(
            target_of(&format!("models/{part}/")),
            format!("{}/{part}", setting("RETRACE_MODELS"))
        );
    }
    assert_eq!(target_of("models/manifest.toml"), setting("RETRACE_MODELS"));
    assert_eq!(arguments_of("VOLUME"), [setting("RETRACE_STATE")]);
    let ignored = read(".dockerignore");
    assert!(
        ignored.lines().any(|line| line == ".runtime"),
        "the image fetches its own native parts"
    );
}

#[test]
fn the_compilers_and_databases_versions_are_those_of_the_project() {
    let toolchain: toml::Table = read("rust-toolchain.toml").parse().unwrap();
    let channel = toolchain["toolchain"]["channel"]
        .as_str()
        .unwrap()
        .to_owned();
    let image = arguments_of("FROM")
        .into_iter()
        .find(|from| from.starts_with("rust:"))
        .unwrap();
    let version = image
        .trim_start_matches("rust:")
        .split('-')
        .next()
        .unwrap()
        .to_owned();
    assert!(
        channel.starts_with(&version),
        "{version} builds, {channel} is pinned"
    );

    let parts: toml::Table = read("services/xtask/native-parts.toml").parse().unwrap();
    let parts = parts["part"].as_array().unwrap();
    let postgres = parts
        .iter()
        .find(|part| part["name"].as_str() == Some("embedded-postgres"))
        .unwrap();
    let major = postgres["version"]
        .as_str()
        .unwrap()
        .split('.')
        .next()
        .unwrap();
    assert_eq!(
        compose()["services"]["postgres"]["image"],
        format!("postgres:{major}")
    );
}

#[test]
fn ports_and_health_checks_are_those_of_the_service() {
    let config = read("services/api/src/config.rs");
    let port = arguments_of("EXPOSE").concat();
    assert!(
        config.contains(&format!("PORT_DEFAULT: u16 = {port}")),
        "{port}"
    );
    let compose = compose();
    let published = compose["services"]["service"]["ports"][0]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        published.starts_with("127.0.0.1:") && published.ends_with(&format!(":{port}")),
        "{published}"
    );
    let image_check = arguments_of("HEALTHCHECK").concat();
    let check_of = |name: &str| compose["services"][name]["healthcheck"]["test"].to_string();
    for check in [image_check, check_of("service"), check_of("worker")] {
        assert!(check.contains(&format!("/127.0.0.1/{port}")), "{check}");
        let path = check
            .split("GET ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned();
        assert!(api_says(&path), "{path} is no path of the service");
    }
}

#[test]
fn secrets_come_from_files_and_everything_named_is_declared() {
    let document = compose();
    for (name, secret) in document["secrets"].as_object().unwrap() {
        assert!(secret["file"].is_string(), "secret {name}");
    }
    for (name, service) in document["services"].as_object().unwrap() {
        for secret in service["secrets"].as_array().unwrap() {
            assert!(
                document["secrets"].get(secret.as_str().unwrap()).is_some(),
                "{name} uses {secret}"
            );
        }
        for volume in service["volumes"].as_array().unwrap() {
            let volume = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(
                document["volumes"].get(volume).is_some(),
                "{name} uses {volume}"
            );
        }
        for other in service["depends_on"]
            .as_object()
            .into_iter()
            .flat_map(|all| all.keys())
        {
            assert!(
                document["services"].get(other).is_some(),
                "{name} depends on {other}"
            );
        }
        assert!(
            service["healthcheck"]["test"].is_array(),
            "{name} has no health check"
        );
    }
    assert!(
        !read("docker-compose.yml").contains("POSTGRES_PASSWORD:"),
        "a password stands in the file"
    );
}

#[test]
fn the_database_is_started_with_what_the_ledger_insists_on() {
    let command = compose()["services"]["postgres"]["command"].to_string();
    let ledger = text_files("services/ledger/src", &[".rs"]).unwrap();
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        assert!(command.contains(&format!("{setting}=on")), "{setting}");
        assert!(
            ledger.iter().any(|file| file.text.contains(setting)),
            "the ledger does not look at {setting}"
        );
    }
}

/// The role that a service of the compose file gives its process.
fn role_of(document: &Value, service: &str) -> Role {
    let word = document["services"][service]["environment"]["RETRACE_ROLE"]
        .as_str()
        .unwrap_or_else(|| panic!("{service} has no role"));
    Role::from_str(word, false).unwrap_or_else(|error| panic!("{service}: {error}"))
}

#[test]
fn roles_are_those_of_the_program_and_each_container_has_what_its_role_needs() {
    let document = compose();
    assert_eq!(role_of(&document, "service"), Role::Api);
    assert_eq!(role_of(&document, "worker"), Role::Worker);
    let environment = arguments_of("ENV").join(" ");
    let default = environment
        .split_whitespace()
        .find_map(|pair| pair.strip_prefix("RETRACE_ROLE="))
        .unwrap();
    assert_eq!(Role::from_str(default, false), Ok(Role::All));
    let (service, worker) = (
        &document["services"]["service"],
        &document["services"]["worker"],
    );
    // One image, one database, one folder of keys and images; and the worker never before the keys.
    for shared in ["image", "volumes", "secrets", "entrypoint", "command"] {
        assert_eq!(service[shared], worker[shared], "{shared}");
    }
    assert_eq!(
        worker["depends_on"]["service"]["condition"],
        "service_healthy"
    );
    assert!(
        worker["ports"].is_null(),
        "a worker answers nobody outside its container"
    );
}

#[test]
fn both_files_say_that_no_engine_has_run_them() {
    for file in ["Dockerfile", "docker-compose.yml"] {
        assert!(read(file).contains("Not yet run with an engine"), "{file}");
    }
}
