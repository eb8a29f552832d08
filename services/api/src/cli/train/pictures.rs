//! Which pictures are trained on: folders whose subfolders are sets, or a manifest.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use training::table::{Label, Role};

use crate::cli::failure::Failure;
use crate::cli::picture_list;

/// A picture as the user named it.
#[derive(Debug, Clone)]
pub struct Named {
    /// Where its file is.
    pub path: PathBuf,
    /// What it is.
    pub label: Label,
    /// Its source or generator.
    pub set: String,
    /// What it is for.
    pub role: Role,
    /// Whether it was compressed with loss before it was saved as it is now.
    pub was_lossy: bool,
}

/// All pictures in a folder and below: each is in the set that is named by the first folder on the way to it.
///
/// # Errors
/// A path that is no folder, or a folder without pictures.
pub fn of_folder(folder: &Path, label: Label) -> Result<Vec<Named>, Failure> {
    if !folder.is_dir() {
        return Err(Failure::usage(format!(
            "{} is no folder of pictures",
            folder.display()
        )));
    }
    let own = folder
        .canonicalize()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let own = own.unwrap_or_else(|| label.name().to_owned());
    let paths = picture_list::pictures(&[folder.to_owned()])?;
    Ok(paths
        .into_iter()
        .map(|path| {
            let below = path.strip_prefix(folder).unwrap_or(&path);
            let mut parts = below.components();
            let first = parts.next().filter(|_| parts.next().is_some());
            Named {
                set: first.map_or_else(
                    || own.clone(),
                    |part| part.as_os_str().to_string_lossy().into_owned(),
                ),
                path,
                label,
                role: Role::Both,
                was_lossy: false,
            }
        })
        .collect())
}

#[derive(Deserialize)]
struct Line {
    path: PathBuf,
    label: String,
    set: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    original_format: String,
}

/// The pictures of a CSV file; paths are relative to its folder.
///
/// # Errors
/// A file that cannot be read, and lines with another label or role.
pub fn of_manifest(manifest: &Path) -> Result<Vec<Named>, Failure> {
    let refused = |cause: &dyn std::fmt::Display| {
        Failure::usage(format!("manifest {}: {cause}", manifest.display()))
    };
    let mut reader = csv::Reader::from_path(manifest).map_err(|error| refused(&error))?;
    let folder = manifest.parent().unwrap_or(Path::new("."));
    let mut out = Vec::new();
    for (number, line) in reader.deserialize::<Line>().enumerate() {
        let line = line.map_err(|error| refused(&error))?;
        // The first line holds the names of the columns.
        let at = |what: &str, value: &str| {
            refused(&format!("line {}: unknown {what} {value:?}", number + 2))
        };
        let label = Label::ALL
            .into_iter()
            .find(|label| label.name() == line.label);
        let label = label.ok_or_else(|| at("label", &line.label))?;
        let role = match line.role.as_str() {
            // Of generated pictures a whole set is held out, whatever it is for.
            _ if label == Label::Generated => Role::Both,
            "" => Role::Both,
            "train" => Role::Train,
            "validation" => Role::Validation,
            other => return Err(at("role", other)),
        };
        let format = line.original_format.to_ascii_uppercase();
        out.push(Named {
            path: folder.join(line.path),
            label,
            set: line.set,
            role,
            was_lossy: matches!(format.as_str(), "JPEG" | "JPG" | "MPO" | "WEBP"),
        });
    }
    if out.is_empty() {
        return Err(refused(&"it lists no picture"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subfolder_is_a_set_and_loose_pictures_are_one_of_the_folders_name() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            "mine/camera/a.jpg",
            "mine/camera/deep/b.png",
            "mine/c.webp",
            "mine/notes.txt",
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        let named = of_folder(&folder.path().join("mine"), Label::Real).unwrap();
        let mut sets: Vec<String> = named.into_iter().map(|picture| picture.set).collect();
        sets.sort_unstable();
        assert_eq!(sets, ["camera", "camera", "mine"]);
        assert!(of_folder(&folder.path().join("none"), Label::Real).is_err());
    }

    #[test]
    fn a_manifest_says_label_set_and_role_and_refuses_others() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| {
            let path = folder.path().join("manifest.csv");
            std::fs::write(&path, text).unwrap();
            of_manifest(&path)
        };
        let named = write("path,label,role,set,generator,original_format\na.png,real,validation,camera,,JPEG\nb.png,generated,train,x,y,PNG\n").unwrap();
        assert_eq!(
            (named[0].role, named[0].was_lossy),
            (Role::Validation, true)
        );
        assert_eq!((named[1].role, named[1].was_lossy), (Role::Both, false));
        assert_eq!(
            write("path,label,set\na.png,art,s\n").unwrap()[0].role,
            Role::Both
        );
        for text in [
            "path,label,set\na.png,fake,s\n",
            "path,label,role,set\na.png,real,test,s\n",
            "path,label,set\n",
            "label\nreal\n",
        ] {
            assert!(write(text).is_err(), "{text}");
        }
    }
}
