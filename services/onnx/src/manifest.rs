//! `models/manifest.toml`: every model file with its digest, size, source and licence.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use provenance::Digest;
use serde::Deserialize;

use crate::error::OnnxError;
use crate::folder::read_text;
use crate::identity::digest_file;

/// Name of the manifest in the folder of the models.
pub const MANIFEST_FILE: &str = "manifest.toml";
/// Folders beside the models that hold no model files.
const WORKING_FOLDERS: [&str; 2] = ["training", "evaluation"];
/// Endings of files that describe models and that nothing loads; they may stay unlisted.
const DESCRIPTIONS: [&str; 2] = ["md", "png"];

/// One listed file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Path below the folder of the models, with `/` between components.
    pub path: String,
    /// SHA-256.
    pub sha256: Digest,
    /// Length.
    pub bytes: u64,
    /// Where it comes from.
    pub source: String,
    /// Its licence, as an SPDX expression.
    pub licence: String,
}

/// The listed files and the folder they lie in.
#[derive(Debug, Clone)]
pub struct Manifest {
    models: PathBuf,
    files: Vec<ManifestFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestText {
    #[serde(default)]
    file: Vec<ManifestFile>,
}

/// A difference between the manifest and the files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A listed file is not there.
    #[error("{path} is listed in the manifest and missing")]
    Missing {
        /// The listed path.
        path: String,
    },
    /// A listed file has another length.
    #[error("{path} has {found} bytes; the manifest says {listed}")]
    Length {
        /// The listed path.
        path: String,
        /// Length in the manifest.
        listed: u64,
        /// Length of the file.
        found: u64,
    },
    /// A listed file has other contents.
    #[error("{path} has the digest {found}; the manifest says {listed}")]
    Digest {
        /// The listed path.
        path: String,
        /// Digest in the manifest.
        listed: Digest,
        /// Digest of the file.
        found: Digest,
    },
    /// A file lies among the models and is not listed.
    #[error("{path} is not listed in the manifest")]
    Unlisted {
        /// Path below the folder of the models.
        path: String,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// Path below the folder of the models.
        path: String,
        /// What the system said.
        reason: String,
    },
}

impl Manifest {
    /// Reads `manifest.toml` in the folder of the models.
    ///
    /// # Errors
    /// [`OnnxError::FileMissing`] and [`OnnxError::Manifest`]: bad TOML, a path listed twice, or a
    /// path that leads out of the folder.
    pub fn load(models: &Path) -> Result<Self, OnnxError> {
        let path = models.join(MANIFEST_FILE);
        let refuse = |reason: String| OnnxError::Manifest {
            path: path.clone(),
            reason,
        };
        let text: ManifestText =
            toml::from_str(&read_text(&path)?).map_err(|error| refuse(error.to_string()))?;
        let mut seen = BTreeSet::new();
        for file in &text.file {
            let inside = Path::new(&file.path)
                .components()
                .all(|component| matches!(component, Component::Normal(_)));
            if !inside || file.path.is_empty() {
                return Err(refuse(format!(
                    "{:?} is no path inside the folder",
                    file.path
                )));
            }
            if !seen.insert(&file.path) {
                return Err(refuse(format!("{:?} is listed twice", file.path)));
            }
        }
        Ok(Self {
            models: models.to_owned(),
            files: text.file,
        })
    }

    /// The listed files.
    pub fn files(&self) -> &[ManifestFile] {
        &self.files
    }

    /// Folders inside that have a manifest of their own: detectors that were trained here. Nothing in them is used
    /// unless their folder is named, and then by their own manifest.
    pub fn folders_with_own_manifest(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.models).into_iter().flatten();
        let mut folders: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|folder| folder.join(MANIFEST_FILE).is_file())
            .collect();
        folders.sort();
        folders
    }

    /// Compares every listed file with its entry, and looks for files that are not listed. Cards
    /// and pictures (`.md`, `.png`), which nothing loads, may stay unlisted, and so may folders with a
    /// manifest of their own.
    ///
    /// # Errors
    /// Every difference, by name.
    pub fn check(&self) -> Result<(), Vec<Mismatch>> {
        let mut mismatches: Vec<Mismatch> = self
            .files
            .iter()
            .filter_map(|file| self.check_file(file).err())
            .collect();
        let listed: BTreeSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        let mut found = Vec::new();
        if let Err(error) = self.find_files("", &mut found) {
            mismatches.push(error);
        }
        let unlisted = found
            .into_iter()
            .filter(|path| !listed.contains(path.as_str()));
        mismatches.extend(unlisted.map(|path| Mismatch::Unlisted { path }));
        if mismatches.is_empty() {
            Ok(())
        } else {
            Err(mismatches)
        }
    }

    fn check_file(&self, file: &ManifestFile) -> Result<(), Mismatch> {
        let path = self.models.join(&file.path);
        let metadata = path.metadata().map_err(|_| Mismatch::Missing {
            path: file.path.clone(),
        })?;
        if metadata.len() != file.bytes {
            return Err(Mismatch::Length {
                path: file.path.clone(),
                listed: file.bytes,
                found: metadata.len(),
            });
        }
        let found = digest_file(&path).map_err(|error| Mismatch::Unreadable {
            path: file.path.clone(),
            reason: error.to_string(),
        })?;
        if found != file.sha256 {
            return Err(Mismatch::Digest {
                path: file.path.clone(),
                listed: file.sha256,
                found,
            });
        }
        Ok(())
    }

    /// Collects the paths of the files below `relative` that must be listed.
    fn find_files(&self, relative: &str, found: &mut Vec<String>) -> Result<(), Mismatch> {
        let unreadable = |error: std::io::Error| Mismatch::Unreadable {
            path: relative.to_owned(),
            reason: error.to_string(),
        };
        let entries = std::fs::read_dir(self.models.join(relative)).map_err(unreadable)?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(unreadable)?.file_name());
        }
        names.sort();
        for name in names {
            let name = name.to_string_lossy();
            let path = if relative.is_empty() {
                name.into_owned()
            } else {
                format!("{relative}/{name}")
            };
            if self.models.join(&path).is_dir() {
                let has_own = self.models.join(&path).join(MANIFEST_FILE).is_file();
                if !has_own && !WORKING_FOLDERS.contains(&path.as_str()) {
                    self.find_files(&path, found)?;
                }
            } else if path != MANIFEST_FILE && !is_description(&path) {
                found.push(path);
            }
        }
        Ok(())
    }
}

fn is_description(path: &str) -> bool {
    let ending = Path::new(path).extension();
    ending.is_some_and(|ending| DESCRIPTIONS.iter().any(|known| ending == *known))
}
