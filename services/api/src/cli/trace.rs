//! `retrace trace`

use std::path::PathBuf;

use clap::Args;

use super::Outcome;
use super::environment::EnvironmentArgs;

const EXAMPLES: &str = "\
Examples:
  retrace trace photo.jpg
  retrace trace --output traces.jsonl real/*.jpg generated/*.png

One JSON object per image and line: path, quality, and the statistics of each patch at each noise
level. Detector heads are trained from exactly these lines, so that training and serving share one
extractor. A refused file gives a line with an error, and the exit code is 1.";

/// Arguments of `retrace trace`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TraceArgs {
    /// Images: PNG, JPEG or WebP
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Where to write the lines [default: standard output]
    #[arg(short, long, value_name = "FILE.jsonl")]
    output: Option<PathBuf>,

    /// Accepted for symmetry: the output is JSON in any case
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    environment: EnvironmentArgs,
}
