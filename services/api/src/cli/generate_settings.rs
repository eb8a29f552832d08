//! The settings of `retrace generate` beside prompt, seed and steps.

use std::path::{Path, PathBuf};

use api::config::Limits;
use api::sandbox::Sandbox;
use api::work::{FileOptions, GenerateOrder, MaskReading, SourceFile, SourceMask, SourcePicture};
use clap::{Args, ValueEnum};
use diffusion::seed::NoiseKind;
use media::Format;
use onnx::SigmaSpread;

use super::failure::Failure;
use super::picture_file;

/// Settings that most requests leave alone.
#[derive(Debug, Args)]
pub struct Further {
    /// Picture to start from: PNG, JPEG or WebP
    #[arg(long, value_name = "FILE")]
    init_image: Option<PathBuf>,

    /// Picture of the same size: white is painted anew, black is kept; of a picture with
    /// transparency, its alpha channel
    #[arg(long, value_name = "FILE", requires = "init_image")]
    mask: Option<PathBuf>,

    /// How much of the picture is replaced, above 0 to 1 [default: 0.8, with a mask 1]
    #[arg(long, value_name = "SHARE", requires = "init_image")]
    strength: Option<f32>,

    /// Width and height, multiples of the model's factor [default: the model's]
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    size: Option<(u32, u32)>,

    /// Which random numbers the seeds stand for: chacha20, torch-cpu or torch-cuda
    #[arg(long, value_name = "NAME", value_parser = noise_source)]
    noise_source: Option<NoiseKind>,

    /// How the sigmas are spread: uniform, karras, exponential or beta [default: the model's]
    #[arg(long, value_name = "NAME", value_parser = sigmas)]
    sigmas: Option<SigmaSpread>,

    /// Share of fresh noise in the steps of ddim and tcd, 0 to 1 [default: 0]
    #[arg(long, value_name = "SHARE")]
    eta: Option<f32>,

    /// Class of the training data, for class-conditional models
    #[arg(long, value_name = "CLASS")]
    class_label: Option<u32>,

    /// The prompts weigh their words, as `a (red:1.3) heart` or `a red [heart]`
    #[arg(long)]
    prompt_weights: bool,

    /// Format of signed files
    #[arg(long, value_enum, default_value_t = FileFormat::Png, conflicts_with = "offline")]
    format: FileFormat,

    /// Leave prompt and settings out of signed files
    #[arg(long, conflicts_with = "offline")]
    no_parameters: bool,
}

/// Formats of files.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum FileFormat {
    /// Every pixel is kept
    Png,
    /// Smaller; the recorded pixels are those of the file
    Jpeg,
    /// Every pixel is kept
    Webp,
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x');
    sides
        .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)))
        .filter(|&(width, height): &(u32, u32)| width > 0 && height > 0)
        .ok_or_else(|| "not of the form WIDTHxHEIGHT, such as 64x64".to_owned())
}

fn noise_source(name: &str) -> Result<NoiseKind, String> {
    name.parse()
        .map_err(|error: diffusion::DiffusionError| error.to_string())
}

fn sigmas(name: &str) -> Result<SigmaSpread, String> {
    name.parse()
        .map_err(|error: onnx::OnnxError| error.to_string())
}

impl Further {
    /// The order with these settings; pictures are parsed in confined children.
    pub async fn add_to(
        &self,
        order: GenerateOrder,
        sandbox: &Sandbox,
    ) -> Result<GenerateOrder, Failure> {
        let limits = Limits::default();
        let init_image = match &self.init_image {
            None => None,
            Some(path) => {
                let file = source(path, &limits)?;
                Some(SourcePicture::parse(sandbox, file).await?)
            }
        };
        let mask = match &self.mask {
            None => None,
            Some(path) => {
                let file = source(path, &limits)?;
                Some(SourceMask::parse(sandbox, file, MaskReading::Brightness).await?)
            }
        };
        Ok(GenerateOrder {
            init_image,
            mask,
            strength: self.strength,
            size: self.size,
            noise_source: self.noise_source,
            sigmas: self.sigmas,
            eta: self.eta,
            class_label: self.class_label,
            prompt_weights: self.prompt_weights,
            file: FileOptions {
                format: match self.format {
                    FileFormat::Png => Format::Png,
                    FileFormat::Jpeg => Format::Jpeg,
                    FileFormat::Webp => Format::Webp,
                },
                parameters: !self.no_parameters,
                ..FileOptions::default()
            },
            ..order
        })
    }
}

fn source(path: &Path, limits: &Limits) -> Result<SourceFile, Failure> {
    Ok(SourceFile {
        bytes: picture_file::read(path, limits)?,
        file_name: None,
        media_type: None,
    })
}
