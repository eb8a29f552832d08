//! The detector that measures, and the folder of the new one.

use std::collections::BTreeMap;
use std::path::Path;

use api::engine::DetectorSlot;
use onnx::detector_folder::DetectorContents;
use onnx::{Detector, Manifest, OnnxError, Runtime};
use serde_json::Value;
use training::conclude::Base;

use crate::cli::environment::EngineArgs;
use crate::cli::failure::Failure;

/// Refuses an output that is there already, before any work is done.
pub fn refuse_existing(output: &Path) -> Result<(), Failure> {
    if output.symlink_metadata().is_ok() {
        let text = format!(
            "{} exists; a detector is never overwritten, name another --output",
            output.display()
        );
        return Err(Failure::usage(text));
    }
    Ok(())
}

/// Prior, schema and semantic expert of the detector in use.
pub fn base(folder: &Path, slot: &DetectorSlot) -> Result<Base, Failure> {
    let contents = DetectorContents::read(folder).map_err(Failure::environment)?;
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|error| {
            Failure::environment(format!("{} cannot be read: {error}", path.display()))
        })
    };
    let semantic: Option<Value> = match slot.semantic_installed {
        Some(true) => {
            Some(serde_json::from_slice(&read("semantic.json")?).map_err(Failure::environment)?)
        }
        _ => None,
    };
    let graph = match semantic
        .as_ref()
        .and_then(|contents| contents["graph"].as_str())
    {
        Some(path) => Some((path.to_owned(), read(path)?)),
        None => None,
    };
    let schema = slot.lock().profile().schema.clone();
    Ok(Base {
        schema,
        prior: read(&contents.prior)?,
        semantic,
        graph,
    })
}

/// Writes all files beside the output, opens them as the service would, and only then gives the folder its name.
///
/// # Errors
/// A disk that is full, an output that appeared meanwhile, and files that do not open.
pub fn write(
    output: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    engine: &EngineArgs,
) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        Failure::environment(format!("{} cannot be written: {error}", output.display()))
    };
    crate::cli::make_folder_of(output)?;
    let beside = output
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let draft = tempfile::Builder::new()
        .prefix(".retrace-detector-")
        .tempdir_in(beside)
        .map_err(cannot)?;
    let folder = draft.path().join("detector");
    for (name, bytes) in files {
        let path = folder.join(name);
        crate::cli::make_folder_of(&path)?;
        std::fs::write(&path, bytes).map_err(cannot)?;
    }
    open_once(&folder, engine)?;
    refuse_existing(output)?;
    std::fs::rename(&folder, output).map_err(cannot)
}

/// Opens the new folder: what does not open was written wrongly. A refused detector says so itself.
fn open_once(folder: &Path, engine: &EngineArgs) -> Result<(), Failure> {
    if let Err(mismatches) = Manifest::load(folder).map_err(Failure::work)?.check() {
        let first = mismatches
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        return Err(Failure::work(format!(
            "the new detector differs from its manifest: {first}"
        )));
    }
    let options = engine.runtime_options()?;
    let native = onnx::library::native_folder(&options.library);
    let runtime = Runtime::load(&options).map_err(Failure::environment)?;
    match Detector::open(&runtime, folder, &native) {
        Ok(_) | Err(OnnxError::DetectorRefused { .. }) => Ok(()),
        Err(error) => Err(Failure::work(error)),
    }
}

/// The day, as year-month-day.
pub fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}
