//! Where the ONNX Runtime library is.

use std::path::{Path, PathBuf};

use crate::error::OnnxError;

/// Environment variable that names the folder with the native parts.
pub const RUNTIME_VARIABLE: &str = "RETRACE_RUNTIME";
/// Folder with the native parts, looked for from the working folder upwards.
pub const RUNTIME_FOLDER: &str = ".runtime";
/// The library inside the folder with the native parts.
pub const LIBRARY_PATH: &str = "onnxruntime/libonnxruntime.so";

/// Finds the ONNX Runtime library: in the folder that `RETRACE_RUNTIME` names, or else in the
/// nearest `.runtime/` upwards from the working folder.
///
/// # Errors
/// [`OnnxError::LibraryMissing`] with the places that were tried. A folder that is named by the
/// variable and lacks the library is an error: nothing else is tried then.
pub fn locate_library() -> Result<PathBuf, OnnxError> {
    let named = std::env::var_os(RUNTIME_VARIABLE).map(PathBuf::from);
    let working = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    locate_library_from(named.as_deref(), &working)
}

/// As [`locate_library`], with the variable's value and the working folder as arguments.
///
/// # Errors
/// As [`locate_library`].
pub fn locate_library_from(named: Option<&Path>, working: &Path) -> Result<PathBuf, OnnxError> {
    if let Some(folder) = named {
        let library = folder.join(LIBRARY_PATH);
        return if library.is_file() {
            Ok(library)
        } else {
            Err(OnnxError::LibraryMissing {
                looked_for: format!("{}, named by {RUNTIME_VARIABLE}", library.display()),
            })
        };
    }
    working
        .ancestors()
        .map(|folder| folder.join(RUNTIME_FOLDER).join(LIBRARY_PATH))
        .find(|library| library.is_file())
        .ok_or_else(|| OnnxError::LibraryMissing {
            looked_for: format!(
                "{RUNTIME_FOLDER}/{LIBRARY_PATH} in {} and the folders above it",
                working.display()
            ),
        })
}

/// The folder of the native parts that a located library lies in.
pub fn native_folder(library: &Path) -> PathBuf {
    let up = Path::new(LIBRARY_PATH).components().count();
    let folder = library.ancestors().nth(up);
    folder.unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_library_names_the_command_that_fetches_it() {
        let error = locate_library_from(Some(Path::new("/nowhere")), Path::new("/")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("/nowhere/onnxruntime/libonnxruntime.so"),
            "{text}"
        );
        assert!(text.contains("cargo xtask setup"), "{text}");
    }
}
