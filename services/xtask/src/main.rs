//! Developers' commands: native parts, demonstration, tests, benchmarks, fixtures.

mod native_parts;
mod progress;
mod setup;
mod tree;
mod wheel;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Developers' commands of Retrace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Brings the native parts (ONNX Runtime, Postgres, two sample photographs) into `.runtime/`.
    Setup {
        /// Takes ONNX Runtime with the CUDA execution provider.
        #[arg(long)]
        gpu: bool,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match &arguments.command {
        Command::Setup { gpu } => {
            setup::run(&workspace, setup::Options { gpu: *gpu })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
