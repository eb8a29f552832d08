//! `retrace models`

use std::path::{Path, PathBuf};

use api::config::EngineOptions;
use clap::{Args, Subcommand};
use onnx::detector_folder::DetectorContents;
use onnx::{Manifest, Mismatch};
use serde_json::{Value, json};

use super::Outcome;
use super::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  retrace models check
  retrace models check --models ./models --json
  retrace models check --detector models/detector-2026-11

The digest of every file is computed and compared with models/manifest.toml, and those of detectors that
`retrace train` made with the manifests in their folders. Exit code 1 when a file is missing or differs, and when the
detector named by --detector is refused, because its controls failed when it was trained.";

/// Arguments of `retrace models`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub struct Models {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// Compare every model file with the manifest
    #[command(after_help = EXAMPLES)]
    Check {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Model folder with manifest.toml [default: models/ upwards from the working folder]
        #[arg(
            long,
            env = "RETRACE_MODELS",
            value_name = "DIR",
            hide_env_values = true
        )]
        models: Option<PathBuf>,
        /// Folder of a trained detector that is to be used, and must not be refused
        #[arg(long, env = "RETRACE_DETECTOR", value_name = "DIR")]
        detector: Option<PathBuf>,
    },
}

impl Models {
    /// Checks and reports.
    pub fn run(self) -> Outcome {
        let ModelsCommand::Check {
            json,
            models,
            detector,
        } = self.command;
        let options = EngineOptions {
            models,
            ..EngineOptions::default()
        };
        let folder = api::native::models_folder(&options).map_err(Failure::environment)?;
        let models = Checked::of(&folder)?;
        let mut detectors = models.manifest.folders_with_own_manifest();
        if let Some(named) = &detector
            && !detectors
                .iter()
                .any(|other| other.canonicalize().ok() == named.canonicalize().ok())
        {
            detectors.push(named.clone());
        }
        let mut checked = vec![models];
        for detector in &detectors {
            checked.push(Checked::of(detector)?);
        }
        if json {
            println!("{}", checked[0].json(&checked[1..]));
        } else {
            checked.iter().for_each(Checked::print);
        }
        let differing = checked
            .iter()
            .find(|checked| !checked.mismatches.is_empty());
        if let Some(differing) = differing {
            return Err(Failure::does_not_hold(format!(
                "{} does not match its manifest, differences: {}",
                differing.folder.display(),
                differing.mismatches.len()
            )));
        }
        match detector {
            Some(named) => DetectorContents::read(&named)
                .and_then(|contents| contents.check_refusal(&named))
                .map_err(Failure::does_not_hold),
            None => Ok(()),
        }
    }
}

/// A folder compared with its manifest.
struct Checked {
    folder: PathBuf,
    manifest: Manifest,
    mismatches: Vec<Mismatch>,
    /// Why the detector in it must not be used, where it is a trained one.
    refused: Vec<String>,
}

impl Checked {
    fn of(folder: &Path) -> Result<Self, Failure> {
        let manifest = Manifest::load(folder).map_err(Failure::environment)?;
        let mismatches = manifest.check().err().unwrap_or_default();
        let contents = DetectorContents::read(folder).ok();
        Ok(Self {
            folder: folder.to_owned(),
            manifest,
            mismatches,
            refused: contents
                .map(|contents| contents.refused)
                .unwrap_or_default(),
        })
    }

    fn json(&self, detectors: &[Self]) -> Value {
        let differences: Vec<String> = self.mismatches.iter().map(ToString::to_string).collect();
        let mut report = json!({
            "files": self.manifest.files().len(),
            "bytes": self.manifest.files().iter().map(|file| file.bytes).sum::<u64>(),
            "sound": self.mismatches.is_empty(),
            "differences": differences,
        });
        if detectors.is_empty() && !self.refused.is_empty() {
            report["refused"] = json!(self.refused);
        }
        report["models"] = json!(self.folder);
        if !detectors.is_empty() {
            report["detectors"] = detectors
                .iter()
                .map(|detector| detector.json(&[]))
                .collect();
        }
        report
    }

    fn print(&self) {
        if self.mismatches.is_empty() {
            let files = self.manifest.files().len();
            println!(
                "{files} files in {} are as the manifest says",
                self.folder.display()
            );
        }
        for mismatch in &self.mismatches {
            println!("{mismatch}");
        }
        for reason in &self.refused {
            println!(
                "the detector in {} is refused: {reason}",
                self.folder.display()
            );
        }
    }
}
