//! `retrace trace`

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use api::config::Limits;
use api::engine::Engine;
use api::sandbox::Sandbox;
use clap::Args;
use detector::trace_file::SemanticRows;
use detector::{ImageTrace, PictureView, TraceConfig, TraceLine};
use onnx::{PhotoPrior, Runtime};
use serde_json::json;

use super::environment::EngineArgs;
use super::failure::Failure;
use super::{Outcome, picture_file, progress};

const EXAMPLES: &str = "\
Examples:
  retrace trace photo.jpg
  retrace trace --output traces.jsonl real/*.jpg generated/*.png
  retrace trace --prior my-prior.onnx --config levels.json --output traces.jsonl pictures/*.png

One JSON object per image and line: path, size, the feature rows of its patches and, with --whole,
every statistic of each patch at each noise level; with --views what the semantic expert sees. Detector heads are trained from exactly these
lines, so that training and serving share one extractor. A refused file gives a line with an error,
the others go on, and the exit code is 1.";

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

    /// Write the whole trace beside the feature rows
    #[arg(long)]
    whole: bool,

    /// Write the features of the semantic expert's views too, about 130 kB a picture
    #[arg(long, conflicts_with = "prior")]
    views: bool,

    /// Photo prior to use instead of the installed detector, which may not exist yet
    #[arg(long, value_name = "FILE.onnx")]
    prior: Option<PathBuf>,

    /// Noise levels and patches for --prior, as JSON [default: the built-in ones]
    #[arg(long, value_name = "FILE.json", requires = "prior")]
    config: Option<PathBuf>,

    /// Accepted so that scripts can say it everywhere: the output is JSON in any case
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    engine: EngineArgs,
}

/// What takes the traces.
enum Extractor {
    /// The installed detector, with its own configuration.
    Installed(Box<Engine>),
    /// A prior alone.
    Prior {
        prior: Box<PhotoPrior>,
        config: TraceConfig,
    },
}

impl Extractor {
    fn extract(&mut self, picture: &PictureView<'_>) -> Result<ImageTrace, Failure> {
        match self {
            Self::Installed(engine) => {
                let slot = engine.detector().map_err(Failure::environment)?;
                slot.lock().trace(picture).map_err(Failure::work)
            }
            Self::Prior { prior, config } => {
                detector::extract(picture, config, prior.as_mut()).map_err(Failure::work)
            }
        }
    }

    /// The views' features; none of a picture that the expert says nothing about.
    fn embed(&self, picture: &PictureView<'_>) -> Result<Option<SemanticRows>, Failure> {
        let Self::Installed(engine) = self else {
            return Ok(None);
        };
        let slot = engine.detector().map_err(Failure::environment)?;
        let embedded = slot.lock().embed(picture).map_err(Failure::work)?;
        Ok(embedded.ok().map(|features| SemanticRows {
            rows: features
                .rows
                .rows()
                .into_iter()
                .map(|row| row.to_vec())
                .collect(),
            views: features.views,
        }))
    }
}

impl TraceArgs {
    /// Traces every file.
    pub fn run(self) -> Outcome {
        let mut extractor = self.extractor()?;
        let limits = Limits::default();
        let sandbox = Sandbox::new(None, &limits);
        let mut out = self.writer()?;
        let runtime = super::async_runtime()?;
        let bar = progress::bar(self.files.len() as u64, "traces");
        let mut refused = 0;
        for path in &self.files {
            let line = runtime
                .block_on(picture_file::parse(path, &sandbox, &limits))
                .and_then(|parsed| {
                    let decoded = &parsed.decoded;
                    let picture = PictureView::new(decoded.width, decoded.height, &decoded.rgb)
                        .map_err(Failure::work)?;
                    let trace = extractor.extract(&picture)?;
                    let mut line = TraceLine::new(&path.to_string_lossy(), &trace, self.whole);
                    if self.views {
                        line.semantic = extractor.embed(&picture)?;
                    }
                    line.to_json().map_err(Failure::work)
                });
            let line = match line {
                Ok(line) => line,
                Err(failure) if failure.concerns_one_file() => {
                    refused += 1;
                    json!({ "path": path, "error": failure.message() }).to_string()
                }
                Err(failure) => return Err(failure),
            };
            writeln!(out, "{line}").map_err(super::cannot_write)?;
            bar.inc(1);
        }
        out.flush().map_err(super::cannot_write)?;
        bar.finish_and_clear();
        super::all_files(refused, self.files.len())
    }

    fn extractor(&self) -> Result<Extractor, Failure> {
        let Some(path) = &self.prior else {
            let engine = Engine::open(&self.engine.options(None)).map_err(Failure::environment)?;
            let slot = engine.detector().map_err(Failure::environment)?;
            if self.views && slot.semantic_installed != Some(true) {
                let missing =
                    "the detector's image encoder is not installed; run `cargo xtask setup`";
                return Err(Failure::environment(missing));
            }
            return Ok(Extractor::Installed(Box::new(engine)));
        };
        let runtime_options = self.engine.runtime_options()?;
        let runtime = Runtime::load(&runtime_options).map_err(Failure::environment)?;
        let prior = PhotoPrior::open(&runtime, path).map_err(Failure::environment)?;
        let config = self
            .config
            .as_deref()
            .map(read_config)
            .transpose()?
            .unwrap_or_default();
        Ok(Extractor::Prior {
            prior: Box::new(prior),
            config,
        })
    }

    fn writer(&self) -> Result<Box<dyn Write>, Failure> {
        match &self.output {
            None => Ok(Box::new(BufWriter::new(std::io::stdout().lock()))),
            Some(path) => {
                let file = File::create(path).map_err(|error| {
                    Failure::environment(format!("{} cannot be written: {error}", path.display()))
                })?;
                Ok(Box::new(BufWriter::new(file)))
            }
        }
    }
}

fn read_config(path: &Path) -> Result<TraceConfig, Failure> {
    let refused = |cause: &dyn std::fmt::Display| {
        Failure::usage(format!("trace configuration {}: {cause}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| refused(&error))?;
    let config: TraceConfig = serde_json::from_str(&text).map_err(|error| refused(&error))?;
    config.check().map_err(|error| refused(&error))?;
    Ok(config)
}
