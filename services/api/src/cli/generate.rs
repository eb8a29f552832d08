//! `retrace generate`

use std::path::PathBuf;

use clap::Args;
use diffusion::SchedulerKind;

use super::Outcome;
use super::environment::EnvironmentArgs;

const EXAMPLES: &str = "\
Examples:
  retrace generate --prompt \"a red heart\"
  retrace generate --prompt \"a blue car\" --seed 7 -n 4 --scheduler euler --output pictures/
  retrace generate --model ~/stable-diffusion-onnx --prompt \"a lighthouse\" --offline
  retrace generate --model ./ddpm --offline --latents start.npy --output-latents end.npy --json

Without --offline every image is signed and appended to the ledger before it is written; beside
PICTURE.png lie PICTURE.bundle (the offline proof) and PICTURE.json (the request and its entry).
With --offline nothing is signed, and the JSON says so.";

/// Arguments of `retrace generate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Generate {
    /// What the image shows; left out for a model without a text encoder
    #[arg(short, long)]
    prompt: Option<String>,

    /// What the image should not show
    #[arg(long, requires = "prompt")]
    negative_prompt: Option<String>,

    /// Folder of the model, in the diffusers ONNX layout; a folder outside the manifest is accepted
    /// by its computed digests [default: the built-in model]
    #[arg(short, long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Seed of the first image; the n-th image takes seed + n - 1 [default: drawn]
    #[arg(short, long)]
    seed: Option<u64>,

    /// Number of denoising steps [default: the model's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,

    /// Scheduler: ddim, euler or dpm++2m [default: the model's]
    #[arg(long, value_parser = generative_scheduler)]
    scheduler: Option<SchedulerKind>,

    /// Strength of classifier-free guidance; 1 switches it off [default: the model's]
    #[arg(long, value_name = "SCALE")]
    guidance_scale: Option<f32>,

    /// Number of images
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,

    /// Folder for the images, made when missing
    #[arg(short, long, value_name = "DIR", default_value = "./retrace-out/")]
    output: PathBuf,

    /// Starting sample as float32 .npy, used as it is, unscaled; its first dimension is the batch
    #[arg(long, value_name = "FILE.npy", conflicts_with_all = ["seed", "count"])]
    latents: Option<PathBuf>,

    /// Where to write the last sample, before decoding
    #[arg(long, value_name = "FILE.npy")]
    output_latents: Option<PathBuf>,

    /// No ledger: nothing is signed or recorded
    #[arg(long)]
    offline: bool,

    /// Print one JSON object per image
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    environment: EnvironmentArgs,
}

fn generative_scheduler(name: &str) -> Result<SchedulerKind, String> {
    name.parse()
        .ok()
        .filter(|kind| SchedulerKind::GENERATIVE.contains(kind))
        .ok_or_else(|| "not one of ddim, euler, dpm++2m".to_owned())
}

impl Generate {
    /// Generates, records unless offline, and writes the files.
    pub fn run(self) -> Outcome {
        todo_body()
    }
}
