//! `retrace models`

use std::path::PathBuf;

use api::config::EngineOptions;
use clap::{Args, Subcommand};
use onnx::Manifest;
use serde_json::json;

use super::Outcome;
use super::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  retrace models check
  retrace models check --models ./models --json

The digest of every file is computed and compared with models/manifest.toml. Exit code 1 when a file
is missing or differs.";

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
    },
}

impl Models {
    /// Checks and reports.
    pub fn run(self) -> Outcome {
        let ModelsCommand::Check { json, models } = self.command;
        let options = EngineOptions {
            models,
            ..EngineOptions::default()
        };
        let folder = api::native::models_folder(&options).map_err(Failure::environment)?;
        let manifest = Manifest::load(&folder).map_err(Failure::environment)?;
        let mismatches = manifest.check().err().unwrap_or_default();
        if json {
            let differences: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
            let report = json!({
                "models": folder,
                "files": manifest.files().len(),
                "bytes": manifest.files().iter().map(|file| file.bytes).sum::<u64>(),
                "sound": mismatches.is_empty(),
                "differences": differences,
            });
            println!("{report}");
        } else if mismatches.is_empty() {
            let files = manifest.files().len();
            println!(
                "{files} files in {} are as the manifest says",
                folder.display()
            );
        } else {
            for mismatch in &mismatches {
                println!("{mismatch}");
            }
        }
        match mismatches.len() {
            0 => Ok(()),
            count => Err(Failure::does_not_hold(format!(
                "{} does not match its manifest, differences: {count}",
                folder.display()
            ))),
        }
    }
}
