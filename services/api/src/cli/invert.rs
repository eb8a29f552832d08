//! `retrace invert`

use std::path::PathBuf;

use clap::Args;

use super::Outcome;
use super::environment::EnvironmentArgs;

const EXAMPLES: &str = "\
Examples:
  retrace invert picture.png
  retrace invert picture.png --steps 50 --output-strip strip.png --output-latents noise.npy
  retrace generate --latents noise.npy --steps 50 --scheduler ddim --guidance-scale 1 --offline

The image is encoded, run to noise by DDIM inversion and back by DDIM. The strip shows the way out
and the way back; the latents are the noise that the inversion ended in.";

/// Arguments of `retrace invert`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Invert {
    /// Image: PNG, JPEG or WebP
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Folder of the model, in the diffusers ONNX layout [default: the built-in model]
    #[arg(short, long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Number of steps, out and back
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,

    /// Where to write the strip [default: FILE-strip.png in the output folder]
    #[arg(long, value_name = "FILE.png")]
    output_strip: Option<PathBuf>,

    /// Where to write the noise as float32 .npy [default: FILE-noise.npy in the output folder]
    #[arg(long, value_name = "FILE.npy")]
    output_latents: Option<PathBuf>,

    /// Folder for both, made when missing
    #[arg(short, long, value_name = "DIR", default_value = "./retrace-out/")]
    output: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    environment: EnvironmentArgs,
}
