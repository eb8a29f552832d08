//! The arrows between crates, and which crate alone may import what.

use anyhow::{Context, Result};

use super::{TextFile, Violation};

/// What a crate may use of the house.
pub struct Room {
    /// Folder and package name.
    pub name: &'static str,
    /// The crates of the house that it may depend on.
    pub may_use: &'static [&'static str],
    /// Whether it does no I/O, reads no clock and no environment, and starts no threads.
    pub pure: bool,
}

/// The crates of the house, in the order of the arrows.
pub const ROOMS: &[Room] = &[
    Room {
        name: "provenance",
        may_use: &[],
        pure: true,
    },
    Room {
        name: "diffusion",
        may_use: &[],
        pure: true,
    },
    Room {
        name: "media",
        may_use: &[],
        pure: true,
    },
    Room {
        name: "detector",
        may_use: &["diffusion", "media"],
        pure: true,
    },
    Room {
        name: "training",
        may_use: &["media", "detector"],
        pure: true,
    },
    Room {
        name: "onnx",
        may_use: &["diffusion", "detector", "provenance"],
        pure: false,
    },
    Room {
        name: "credentials",
        may_use: &["provenance", "media"],
        pure: false,
    },
    Room {
        name: "columnar",
        may_use: &["provenance"],
        pure: true,
    },
    Room {
        name: "ledger",
        may_use: &["provenance"],
        pure: false,
    },
    Room {
        name: "api",
        may_use: &[
            "provenance",
            "diffusion",
            "media",
            "detector",
            "onnx",
            "credentials",
            "columnar",
            "ledger",
            "training",
        ],
        pure: false,
    },
    Room {
        name: "verify",
        may_use: &["provenance", "credentials", "media", "columnar"],
        pure: false,
    },
    Room {
        name: "xtask",
        may_use: &[],
        pure: false,
    },
    Room {
        name: "tests",
        may_use: &[
            "provenance",
            "diffusion",
            "media",
            "detector",
            "onnx",
            "credentials",
            "ledger",
            "api",
        ],
        pure: false,
    },
];

/// Families of packages and the one crate that may import them. A family is the package and all whose names begin
/// with it and a hyphen or underscore.
pub const HOMES: &[(&str, &str)] = &[
    ("image", "media"),
    ("jpeg-encoder", "media"),
    ("moxcms", "media"),
    ("zune-jpeg", "media"),
    ("ort", "onnx"),
    ("tokenizers", "onnx"),
    ("c2pa", "credentials"),
    ("rcgen", "credentials"),
    ("parquet", "columnar"),
    ("sqlx", "ledger"),
    ("actix", "api"),
    ("utoipa", "api"),
];

/// Packages with which a crate could do I/O, read a clock or the environment, or start threads.
pub const IMPURE: &[&str] = &[
    "tokio",
    "ureq",
    "reqwest",
    "tempfile",
    "rayon",
    "getrandom",
    "rustix",
    "jiff",
    "indicatif",
    "tracing-subscriber",
    "signal-hook",
    "ort",
    "sqlx",
    "actix-web",
];

/// Checks one crate's `Cargo.toml` against the arrows, the homes and purity.
pub fn check_manifest(room: &Room, manifest: &TextFile) -> Result<Vec<Violation>> {
    let document: toml::Table = manifest
        .text
        .parse()
        .with_context(|| format!("{} is not TOML", manifest.path))?;
    let mut violations = Vec::new();
    let mut report = |what: String| violations.push(Violation::new(&manifest.path, what));
    if document
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(toml::Value::as_str)
        != Some(room.name)
    {
        report(format!(
            "the package is not called {} as its folder is",
            room.name
        ));
    }
    if document
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .and_then(toml::Value::as_bool)
        != Some(true)
    {
        report("the lints of the workspace are not inherited".to_owned());
    }
    for (section, dependency) in dependencies(&document) {
        let of_the_house = ROOMS.iter().any(|other| other.name == dependency);
        if of_the_house && !room.may_use.contains(&dependency.as_str()) {
            report(format!("{} may not use {dependency}", room.name));
        }
        if let Some((_, home)) = HOMES
            .iter()
            .find(|(family, _)| belongs(&dependency, family))
            && *home != room.name
        {
            report(format!("only {home} may import {dependency}"));
        }
        // A pure crate's own tests may read files; what it ships may not.
        if room.pure && section == "dependencies" && IMPURE.contains(&dependency.as_str()) {
            report(format!(
                "{} is pure and may not import {dependency}",
                room.name
            ));
        }
    }
    for (name, value) in versions(&document) {
        if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
            report(format!(
                "the version of {name} does not come from the workspace"
            ));
        }
    }
    Ok(violations)
}

/// Checks the root `Cargo.toml`: its members are the crates of the house, and unsafe code is forbidden.
pub fn check_workspace(manifest: &TextFile) -> Result<Vec<Violation>> {
    let document: toml::Table = manifest
        .text
        .parse()
        .with_context(|| format!("{} is not TOML", manifest.path))?;
    let workspace = document
        .get("workspace")
        .context("the root Cargo.toml has no workspace")?;
    let mut violations = Vec::new();
    let members: Vec<&str> = workspace
        .get("members")
        .and_then(toml::Value::as_array)
        .context("the workspace lists its members")?
        .iter()
        .filter_map(toml::Value::as_str)
        .collect();
    for member in &members {
        let name = member.strip_prefix("services/").unwrap_or(member);
        if !ROOMS.iter().any(|room| room.name == name) {
            violations.push(Violation::new(
                &manifest.path,
                format!("{member} is no crate of the house"),
            ));
        }
    }
    for room in ROOMS {
        if !members.contains(&folder(room).as_str()) {
            violations.push(Violation::new(
                &manifest.path,
                format!("{} is not a member", room.name),
            ));
        }
    }
    let unsafe_code = workspace
        .get("lints")
        .and_then(|lints| lints.get("rust")?.get("unsafe_code"));
    if unsafe_code.and_then(toml::Value::as_str) != Some("forbid") {
        violations.push(Violation::new(
            &manifest.path,
            "unsafe code is not forbidden",
        ));
    }
    if document.contains_key("package") {
        violations.push(Violation::new(
            &manifest.path,
            "the root is a package as well as a workspace",
        ));
    }
    Ok(violations)
}

/// A crate's folder, relative to the root.
pub fn folder(room: &Room) -> String {
    if room.name == "tests" {
        room.name.to_owned()
    } else {
        format!("services/{}", room.name)
    }
}

fn belongs(dependency: &str, family: &str) -> bool {
    dependency
        .strip_prefix(family)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

/// Sections in which dependencies stand.
const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

fn versions(document: &toml::Table) -> Vec<(String, toml::Value)> {
    SECTIONS
        .iter()
        .filter_map(|section| document.get(*section).and_then(toml::Value::as_table))
        .flat_map(|table| {
            table
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
        })
        .collect()
}

fn dependencies(document: &toml::Table) -> Vec<(&'static str, String)> {
    SECTIONS
        .iter()
        .filter_map(|section| Some((*section, document.get(*section)?.as_table()?)))
        .flat_map(|(section, table)| table.keys().map(move |name| (section, name.clone())))
        .collect()
}
