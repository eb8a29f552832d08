//! `retrace invert`

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use api::config::Limits;
use api::engine::Engine;
use api::sandbox::Sandbox;
use clap::Args;
use onnx::{Inversion, InvertRequest};
use serde_json::json;

use super::environment::EngineArgs;
use super::failure::Failure;
use super::{Outcome, npy, picture_file, progress};

/// White pixels between the pictures of a strip.
const STRIP_GAP: u32 = 4;

const EXAMPLES: &str = "\
Examples:
  retrace invert picture.png
  retrace invert picture.png --steps 50 --output-strip strip.png --output-latents noise.npy

The image is encoded, led to noise by DDIM inversion and led back by DDIM. The strip shows the image,
the way to noise and what came back; the latents are the noise that the inversion ended in.";

/// Arguments of `retrace invert`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Invert {
    /// Image: PNG, JPEG or WebP; one of another size than the model's is resized
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Folder of the model, in the diffusers ONNX layout [default: the built-in model]
    #[arg(short, long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Number of steps, out and back [default: those of the model's inversion.json, or 20]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    steps: Option<u32>,

    /// Pictures of the way to noise in the strip
    #[arg(long, value_name = "COUNT", default_value_t = 8,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    tiles: u32,

    /// Where to write the strip [default: NAME-strip.png in the output folder]
    #[arg(long, value_name = "FILE.png")]
    output_strip: Option<PathBuf>,

    /// Where to write the noise as float32 .npy [default: NAME-noise.npy in the output folder]
    #[arg(long, value_name = "FILE.npy")]
    output_latents: Option<PathBuf>,

    /// Folder for both, made when missing
    #[arg(short, long, value_name = "DIR", default_value = "./retrace-out/")]
    output: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    engine: EngineArgs,
}

impl Invert {
    /// Inverts and writes the files.
    pub fn run(self) -> Outcome {
        let limits = Limits::default();
        let sandbox = Sandbox::new(None, &limits);
        let runtime = super::async_runtime()?;
        let parsed = runtime.block_on(picture_file::parse(&self.file, &sandbox, &limits))?;
        let decoded = parsed.decoded;
        let (width, height) = (decoded.width, decoded.height);
        let picture = onnx::Picture {
            width,
            height,
            rgb: decoded.rgb,
        };
        let options = self.engine.options(self.model.clone());
        let engine = Engine::open(&options).map_err(Failure::environment)?;
        let inversion = self.invert(&engine, &picture)?;
        let (strip_path, latents_path) = self.outputs();
        super::make_folder_of(&strip_path)?;
        super::make_folder_of(&latents_path)?;
        let strip = strip(&inversion)?;
        super::write_file(&strip_path, &strip)?;
        npy::write(&latents_path, inversion.trace.noise())?;
        self.print(&inversion, &strip_path, &latents_path);
        Ok(())
    }

    fn invert(&self, engine: &Engine, picture: &onnx::Picture) -> Result<Inversion, Failure> {
        let slot = engine.generator().map_err(Failure::environment)?;
        let request = InvertRequest {
            picture,
            steps: self.steps,
            preview_steps: self.tiles as usize,
        };
        let bar = progress::bar(0, "inversion");
        let inversion = slot.lock().invert(&request, &mut |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
            ControlFlow::Continue(())
        });
        bar.finish_and_clear();
        inversion.map_err(Failure::work)
    }

    fn outputs(&self) -> (PathBuf, PathBuf) {
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        let default = |ending: &str| self.output.join(format!("{stem}-{ending}"));
        (
            self.output_strip
                .clone()
                .unwrap_or_else(|| default("strip.png")),
            self.output_latents
                .clone()
                .unwrap_or_else(|| default("noise.npy")),
        )
    }

    fn print(&self, inversion: &Inversion, strip: &Path, latents: &Path) {
        if self.json {
            let report = json!({
                "path": self.file,
                "strip_path": strip,
                "latents_path": latents,
                "steps": inversion.trace.steps.len(),
                "resized": inversion.resized,
                "statistics": inversion.statistics,
                "verdict": inversion.verdict,
            });
            println!("{report}");
            return;
        }
        println!("strip    {}", strip.display());
        println!("latents  {}", latents.display());
        if inversion.resized {
            println!("The picture was resized to the model's size; the verdict is weaker then.");
        }
        match &inversion.verdict {
            None => println!("This model has no rule that says whether it made a picture."),
            Some(verdict) => {
                let like = if verdict.made_by_this_model {
                    "like"
                } else {
                    "unlike"
                };
                println!(
                    "Inversion value {:.4} against a threshold of {:.4}: {like} this model's own output.",
                    verdict.value, verdict.threshold
                );
            }
        }
    }
}

/// The image as encoded and decoded, the way to noise, and what came back, side by side.
fn strip(inversion: &Inversion) -> Result<Vec<u8>, Failure> {
    let ends = [&inversion.autoencoded, &inversion.reconstruction];
    let way = inversion.strip.iter();
    let tiles = std::iter::once(ends[0])
        .chain(way)
        .chain(std::iter::once(ends[1]));
    let tiles = tiles
        .map(|tile| media::Picture::new(tile.width, tile.height, tile.rgb.clone()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Failure::work)?;
    let strip = media::strip(&tiles, STRIP_GAP).map_err(Failure::work)?;
    strip.to_png().map_err(Failure::work)
}
