//! Which pictures a command is about: files as they are named, folders with all that lies below.

use std::path::{Path, PathBuf};

use super::failure::Failure;

/// Endings of files that are taken from folders; a file that is named itself may have any.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Folders inside folders, at most.
const FOLDER_DEPTH_MAX: usize = 64;

/// All pictures in the order of the names, those of a folder sorted by path. Symbolic links inside
/// folders are not followed.
///
/// # Errors
/// A folder that cannot be read, one that holds no picture, and folders nested too deep.
pub fn pictures(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut out = Vec::new();
    for path in named {
        if !path.is_dir() {
            out.push(path.clone());
            continue;
        }
        let before = out.len();
        walk(path, 0, &mut out)?;
        if out.len() == before {
            let text = format!("{} holds no PNG, JPEG or WebP file", path.display());
            return Err(Failure::usage(text));
        }
        out[before..].sort();
    }
    Ok(out)
}

fn walk(folder: &Path, depth: usize, out: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable = |cause: &dyn std::fmt::Display| {
        Failure::environment(format!(
            "folder {} cannot be read: {cause}",
            folder.display()
        ))
    };
    if depth > FOLDER_DEPTH_MAX {
        return Err(unreadable(&format!("over {FOLDER_DEPTH_MAX} folders deep")));
    }
    for item in std::fs::read_dir(folder).map_err(|error| unreadable(&error))? {
        let item = item.map_err(|error| unreadable(&error))?;
        let kind = item.file_type().map_err(|error| unreadable(&error))?;
        let path = item.path();
        if kind.is_dir() {
            walk(&path, depth + 1, out)?;
        } else if kind.is_file() && is_picture(&path) {
            out.push(path);
        }
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| {
        ENDINGS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(ending))
    })
}
