//! `retrace generate`

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::access::Caller;
use api::config::Limits;
use api::engine::Engine;
use api::sandbox::Sandbox;
use api::startup::Services;
use api::state::AppState;
use api::work::{self, GenerateOrder, LatentsSink, OnProgress, OwnLatents, RecordedPicture};
use clap::Args;
use diffusion::SchedulerKind;
use indicatif::ProgressBar;
use ndarray::Array4;
use onnx::{GenerateRequest, GeneratedImage, Generation, ModelIdentity, TruncatedPrompt};
use provenance::Digest;
use serde_json::{Value, json};

use super::environment::{CredentialArgs, EngineArgs, StateArgs};
use super::failure::Failure;
use super::generate_settings::Further;
use super::{Outcome, npy, progress};

/// The command line works for one person on their own machine: only the generator's own limits
/// hold.
const IMAGES_MAX: u32 = onnx::request::IMAGES_MAX as u32;
const STEPS_MAX: u32 = 1_000;

const EXAMPLES: &str = "\
Examples:
  retrace generate --prompt \"a red heart\"
  retrace generate --prompt \"a blue car\" --seed 7 -n 4 --scheduler euler --output pictures/
  retrace generate --model ~/stable-diffusion-onnx --prompt \"a lighthouse\" --offline
  retrace generate --prompt \"a red heart\" --init-image sketch.png --strength 0.6
  retrace generate --prompt \"a red heart\" --init-image photo.jpg --mask where.png --format jpeg
  retrace generate --prompt \"a (red:1.3) heart\" --prompt-weights --noise-source torch-cpu --seed 7
  retrace generate --prompt \"a red heart\" --scheduler ddim --eta 0.5 --size 64x64
  retrace generate --model ./ddpm --class-label 3
  retrace generate --model ./ddpm --latents start.npy --output-latents end.npy --json

Without --offline every image is signed and appended to the ledger before it is written. Beside
NAME.png lie NAME.bundle (the offline proof) and NAME.json (the request and its entry); the public
keys are in retrace.pub. With --offline nothing is signed, and file and JSON say so.
Signed files carry Content Credentials.
Prompt and settings stand in each signed file, as other tools write them, unless --no-parameters.
Of starting latents the entry states the digest, of pictures and masks a salted commitment.";

/// Arguments of `retrace generate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Generate {
    /// What the image shows; left out for a model without a text encoder
    #[arg(short, long)]
    prompt: Option<String>,

    /// What the image should not show
    #[arg(long)]
    negative_prompt: Option<String>,

    /// Folder of the model, in the diffusers ONNX layout; a folder outside the manifest is accepted
    /// by its computed digests [default: the built-in model]
    #[arg(short, long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Seed of the first image, the n-th takes this plus n - 1 [default: drawn]
    #[arg(short, long)]
    seed: Option<u64>,

    /// Number of denoising steps [default: the model's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(STEPS_MAX)))]
    steps: Option<u32>,

    /// Scheduler, such as ddim, euler or dpm++2m [default: the model's]
    #[arg(long, value_name = "NAME", value_parser = generative_scheduler)]
    scheduler: Option<SchedulerKind>,

    /// Weight of classifier-free guidance; 1 switches it off [default: the model's]
    #[arg(long, value_name = "SCALE")]
    guidance_scale: Option<f32>,

    #[command(flatten)]
    further: Further,

    /// Number of images
    #[arg(short = 'n', long = "count", value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(IMAGES_MAX)))]
    count: u32,

    /// Folder for the images, made when missing
    #[arg(short, long, value_name = "DIR", default_value = "./retrace-out/")]
    output: PathBuf,

    /// Starting sample as float32 .npy, used as it is, unscaled; its first dimension is the batch
    #[arg(long, value_name = "FILE.npy",
          conflicts_with_all = ["seed", "count", "noise_source", "init_image", "size"])]
    latents: Option<PathBuf>,

    /// Where to write the last sample, before decoding
    #[arg(long, value_name = "FILE.npy")]
    output_latents: Option<PathBuf>,

    /// No ledger and no database: nothing is signed or recorded
    #[arg(long)]
    offline: bool,

    /// Print one JSON object per image, on one line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    state: StateArgs,

    #[command(flatten)]
    credentials: CredentialArgs,
}

fn generative_scheduler(name: &str) -> Result<SchedulerKind, String> {
    name.parse()
        .ok()
        .filter(|kind| SchedulerKind::GENERATIVE.contains(kind))
        .ok_or_else(|| {
            let known = SchedulerKind::GENERATIVE.map(SchedulerKind::name);
            format!("not one of {}", known.join(", "))
        })
}

impl Generate {
    /// Generates, records unless offline, and writes the files.
    pub fn run(self) -> Outcome {
        let runtime = super::async_runtime()?;
        std::fs::create_dir_all(&self.output).map_err(|error| {
            let folder = self.output.display();
            Failure::environment(format!("folder {folder} cannot be made: {error}"))
        })?;
        if self.offline {
            runtime.block_on(self.offline())
        } else {
            runtime.block_on(self.recorded())
        }
    }

    async fn order(&self, sandbox: &Sandbox) -> Result<GenerateOrder, Failure> {
        let latents = self.latents.as_deref().map(npy::read).transpose()?;
        let order = GenerateOrder {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative_prompt.clone(),
            images: self.count,
            seed: self.seed,
            steps: self.steps,
            guidance_scale: self.guidance_scale,
            scheduler: self.scheduler,
            latents: latents.map(OwnLatents),
            last_latents: self.output_latents.is_some().then(LatentsSink::default),
            ..GenerateOrder::default()
        };
        self.further.add_to(order, sandbox).await
    }

    fn limits() -> Limits {
        Limits {
            images_per_request_max: IMAGES_MAX,
            steps_max: STEPS_MAX,
            guidance_scale_max: onnx::request::GUIDANCE_SCALE_MAX,
            ..Limits::default()
        }
    }

    /// Signed and recorded.
    async fn recorded(&self) -> Outcome {
        let config = self.state.config(self.engine.options(self.model.clone()));
        let mut config = self.credentials.add_to(config);
        config.limits = Self::limits();
        let services = Services::open(config).await?;
        let outcome = self.record(services.state()).await;
        outcome.and(services.close().await.map_err(Failure::from))
    }

    async fn record(&self, state: &Arc<AppState>) -> Outcome {
        let bar = progress::bar(0, "generating");
        let (caller, order) = (Caller::local(), self.order(&state.sandbox).await?);
        let last_latents = order.last_latents.clone();
        let on_progress = Some(report_to(&bar));
        let answer = work::generate(state, &caller, order, on_progress).await;
        bar.finish_and_clear();
        let answer = answer?;
        warn_of_truncation(answer.truncated_prompt.as_ref());
        self.write_latents(last_latents.and_then(|sink| sink.take()).as_ref())?;
        let keys = self.output.join("retrace.pub");
        let file = work::key_file(state).await?;
        super::write_file(&keys, file.to_string().as_bytes())?;
        for image in &answer.images {
            self.write_recorded(image, &keys)?;
        }
        Ok(())
    }

    fn write_latents(&self, latents: Option<&Array4<f32>>) -> Outcome {
        if let (Some(path), Some(latents)) = (&self.output_latents, latents) {
            super::make_folder_of(path)?;
            npy::write(path, latents)?;
        }
        Ok(())
    }

    fn write_recorded(&self, image: &RecordedPicture, keys: &Path) -> Outcome {
        let name = format!("retrace-{}", image.leaf_index);
        // `image/jpeg` and its like: the word behind the solidus is the format.
        let (_, format) = image
            .entry
            .image
            .media_type
            .split_once('/')
            .unwrap_or_default();
        let path = self.output.join(format!("{name}.{format}"));
        let bundle_path = self.output.join(format!("{name}.bundle"));
        super::write_file(&path, &image.file)?;
        super::write_file(&bundle_path, &image.bundle.to_bytes())?;
        let checkpoint = image.bundle.checkpoint();
        let head = checkpoint.unverified();
        let report = json!({
            "image_path": path,
            "signed": true,
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "image": image.entry.image,
            "entry": {
                "leaf_index": image.leaf_index,
                "leaf_hash": image.leaf_hash,
                "body": image.entry,
            },
            "checkpoint": {
                "tree_size": head.tree_size,
                "root_hash": head.root_hash,
                "note": checkpoint.text(),
            },
            "bundle_path": bundle_path,
            "public_key_path": keys,
            "output_latents_path": self.output_latents,
        });
        super::write_file(
            &self.output.join(format!("{name}.json")),
            pretty(&report).as_bytes(),
        )?;
        if self.json {
            println!("{report}");
            return Ok(());
        }
        println!("{}", path.display());
        println!(
            "  entry {} under the checkpoint of tree size {}",
            image.leaf_index, head.tree_size
        );
        println!("  leaf hash {}", image.leaf_hash);
        println!(
            "  seed {}, {}, {} steps",
            image.entry.seed, image.entry.scheduler, image.entry.steps
        );
        println!(
            "  check: retrace-verify bundle {} --image {} --public-key {}",
            bundle_path.display(),
            path.display(),
            keys.display()
        );
        Ok(())
    }

    /// Neither signed nor recorded.
    async fn offline(&self) -> Outcome {
        let options = self.engine.options(self.model.clone());
        let engine = Arc::new(Engine::open(&options).map_err(Failure::environment)?);
        let slot = engine.generator().map_err(Failure::environment)?;
        let sandbox = Sandbox::new(None, &Limits::default());
        let order = self.order(&sandbox).await?;
        let plan = order.plan(slot, &Self::limits())?;
        let model = slot.model.clone();
        let request = plan.request();
        let settings = request.clone();
        let bar = progress::bar(0, "generating");
        let rendered = work::render(Arc::clone(&engine), request, Some(report_to(&bar))).await;
        bar.finish_and_clear();
        let generation = rendered?;
        warn_of_truncation(generation.truncated_prompt.as_ref());
        self.write_latents(Some(&generation.latents))?;
        let unsigned = Unsigned {
            settings: &settings,
            model: &model,
            generation: &generation,
        };
        for image in &generation.images {
            self.write_unsigned(&unsigned, image)?;
        }
        Ok(())
    }

    fn write_unsigned(&self, unsigned: &Unsigned<'_>, image: &GeneratedImage) -> Outcome {
        let seed = image
            .seed
            .map_or_else(|| "latents".to_owned(), |seed| seed.to_string());
        let pixels = media::pixel_preimage(image.width, image.height, &image.rgb);
        let pixel_sha256 = Digest::of(&pixels);
        // The pixels are in the name, so that another prompt with the same seed replaces nothing.
        let start = &pixel_sha256.to_string()[..8];
        let name = format!("unsigned-{seed}-{start}");
        let path = self.output.join(format!("{name}.png"));
        let software = format!("Retrace {}", env!("CARGO_PKG_VERSION"));
        let texts = [("Software", software.as_str()), ("Retrace-Signed", "no")];
        let png = media::encode_png(image.width, image.height, &image.rgb, &texts)
            .map_err(Failure::work)?;
        super::write_file(&path, &png)?;
        let written = UnsignedFile {
            image,
            path: &path,
            sha256: Digest::of(&png),
            pixel_sha256,
        };
        let report = self.unsigned_report(unsigned, &written);
        super::write_file(
            &self.output.join(format!("{name}.json")),
            pretty(&report).as_bytes(),
        )?;
        if self.json {
            println!("{report}");
        } else {
            println!("{} (unsigned)", path.display());
        }
        Ok(())
    }

    fn unsigned_report(&self, unsigned: &Unsigned<'_>, written: &UnsignedFile<'_>) -> Value {
        let image = written.image;
        json!({
            "image_path": written.path,
            "signed": false,
            "prompt": unsigned.settings.prompt,
            "negative_prompt": unsigned.settings.negative_prompt,
            "image": {
                "sha256": written.sha256,
                "pixel_sha256": written.pixel_sha256,
                "width": image.width,
                "height": image.height,
                "media_type": "image/png",
            },
            "model": unsigned.model,
            "scheduler": unsigned.generation.scheduler,
            "steps": unsigned.settings.steps,
            "guidance_scale": unsigned.settings.guidance_scale,
            "seed": image.seed,
            "latents_path": self.latents,
            "output_latents_path": self.output_latents,
            "timings_ms": unsigned.generation.timings,
        })
    }
}

/// What the unsigned images of a request share.
struct Unsigned<'a> {
    settings: &'a GenerateRequest,
    model: &'a ModelIdentity,
    generation: &'a Generation,
}

/// One unsigned image as it was written.
struct UnsignedFile<'a> {
    path: &'a Path,
    image: &'a GeneratedImage,
    sha256: Digest,
    pixel_sha256: Digest,
}

fn report_to(bar: &ProgressBar) -> OnProgress {
    let bar = bar.clone();
    Box::new(move |progress| {
        bar.set_length((progress.images * progress.steps) as u64);
        bar.set_position(progress.evaluations_done as u64);
        ControlFlow::Continue(())
    })
}

fn warn_of_truncation(truncated: Option<&TruncatedPrompt>) {
    if let Some(truncated) = truncated {
        eprintln!("retrace: {}", super::truncation(truncated));
    }
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a JSON value serialises");
    text.push('\n');
    text
}
