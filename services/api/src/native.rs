//! Where models and native parts are.

use std::path::{Path, PathBuf};

use crate::config::EngineOptions;

const RUNTIME_VARIABLE: &str = "RETRACE_RUNTIME";
const RUNTIME_FOLDER: &str = ".runtime";
const MODELS_VARIABLE: &str = "RETRACE_MODELS";
const MODELS_FOLDER: &str = "models";
/// The file that tells a folder of models from any other folder of that name.
const MANIFEST: &str = "manifest.toml";

/// Something that must be on the machine is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// No folder with native parts.
    #[error("no native parts found ({looked_for}); run `cargo xtask setup`")]
    NativeParts {
        /// The places that were tried, as one line.
        looked_for: String,
    },
    /// No folder with models.
    #[error("no models found ({looked_for}); name their folder in {MODELS_VARIABLE}")]
    Models {
        /// The places that were tried, as one line.
        looked_for: String,
    },
}

/// The folder with the native parts: as configured, or named by `RETRACE_RUNTIME`, or the
/// nearest `.runtime/` upwards from the working folder.
///
/// # Errors
/// When there is none. A folder that was named and does not exist is an error of its own.
pub fn runtime_folder(options: &EngineOptions) -> Result<PathBuf, NotFound> {
    let named = named(options.runtime.as_deref(), RUNTIME_VARIABLE);
    find(named, RUNTIME_FOLDER, |folder| folder.is_dir())
        .map_err(|looked_for| NotFound::NativeParts { looked_for })
}

/// The folder with the models: as configured, or named by `RETRACE_MODELS`, or the nearest
/// `models/` with a manifest upwards from the working folder.
///
/// # Errors
/// As [`runtime_folder`].
pub fn models_folder(options: &EngineOptions) -> Result<PathBuf, NotFound> {
    let named = named(options.models.as_deref(), MODELS_VARIABLE);
    find(named, MODELS_FOLDER, |folder| {
        folder.join(MANIFEST).is_file()
    })
    .map_err(|looked_for| NotFound::Models { looked_for })
}

fn named(configured: Option<&Path>, variable: &str) -> Option<PathBuf> {
    configured
        .map(Path::to_path_buf)
        .or_else(|| std::env::var_os(variable).map(PathBuf::from))
}

fn find(
    named: Option<PathBuf>,
    name: &str,
    serves: impl Fn(&Path) -> bool,
) -> Result<PathBuf, String> {
    if let Some(folder) = named {
        return if serves(&folder) {
            Ok(folder)
        } else {
            Err(folder.display().to_string())
        };
    }
    let working = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    working
        .ancestors()
        .map(|folder| folder.join(name))
        .find(|folder| serves(folder))
        .ok_or_else(|| format!("{name}/ in {} and the folders above it", working.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_folder_that_is_missing_is_refused_with_the_command_that_helps() {
        let options = EngineOptions {
            runtime: Some(PathBuf::from("/nowhere")),
            ..EngineOptions::default()
        };
        let error = runtime_folder(&options).unwrap_err().to_string();
        assert!(
            error.contains("/nowhere") && error.contains("cargo xtask setup"),
            "{error}"
        );
    }
}
