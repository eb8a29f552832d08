//! The rules of the house, as functions from sources to violations, so that each rule can be tried on a sample that
//! breaks it.

pub mod arrows;
pub mod layout;
pub mod purity;
pub mod source;
pub mod wording;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// File or folder, relative to the root of the checkout.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

impl Violation {
    /// A breach at a place.
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            what: what.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.what)
    }
}

/// The root of the checkout that these tests were built from.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests folder lies in the root")
        .to_path_buf()
}

/// A text file of the house.
#[derive(Debug, Clone)]
pub struct TextFile {
    /// Path relative to the root, with forward slashes.
    pub path: String,
    /// Its whole text.
    pub text: String,
}

impl TextFile {
    /// A file made up for a sample.
    pub fn sample(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }
}

/// Folders below which nothing of the house lies.
const FOREIGN: [&str; 6] = [
    "target",
    "node_modules",
    ".venv",
    "__pycache__",
    ".git",
    ".runtime",
];

/// The text files below a folder of the root whose names end in one of `endings`, sorted by path.
pub fn text_files(folder: &str, endings: &[&str]) -> Result<Vec<TextFile>> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.join(folder)];
    while let Some(next) = open.pop() {
        for entry in
            fs::read_dir(&next).with_context(|| format!("{} cannot be read", next.display()))?
        {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if !FOREIGN.contains(&name.as_str()) {
                    open.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("{} is not text", path.display()))?;
                let relative = path
                    .strip_prefix(&root)
                    .context("the file lies below the root")?;
                found.push(TextFile {
                    path: relative.to_string_lossy().replace('\\', "/"),
                    text,
                });
            }
        }
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(found)
}

/// The files below a folder that hold these bytes somewhere.
pub fn files_with_bytes(folder: &Path, bytes: &[u8]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if fs::read(&path)?
                .windows(bytes.len())
                .any(|window| window == bytes)
            {
                found.push(path);
            }
        }
    }
    Ok(found)
}
