//! The values of a request, as JSON or as the texts of a form.

use diffusion::SchedulerKind;
use diffusion::seed::NoiseKind;
use media::Format;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::work::{FileOptions, GenerateOrder};

/// Most partial images of one image, as in OpenAI's interface.
const PARTIAL_IMAGES_MAX: u32 = 3;

/// A request for images, in the shape of OpenAI's images interface. What this service does not do
/// is refused by name, never ignored.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::routes) struct ImageRequest {
    /// What to show.
    #[schema(example = "a red heart")]
    prompt: Option<String>,
    /// What not to show.
    negative_prompt: Option<String>,
    /// Name of the model; the installed one when left out.
    model: Option<String>,
    /// Number of images, 1 when left out.
    n: Option<u32>,
    /// `WIDTHxHEIGHT`, or `auto` for the model's own size.
    size: Option<String>,
    /// `b64_json`, or `url` for an address of this service, which asks for the key too.
    response_format: Option<String>,
    /// `png`, `jpeg` or `webp` (without loss).
    output_format: Option<String>,
    /// Quality of a `jpeg`, 1 to 100.
    output_compression: Option<u8>,
    /// Whether prompt and settings stand in the file (PNG text `parameters`, EXIF user comment), as
    /// other tools write them; true when left out. Who has the file can then read the prompt.
    embed_parameters: Option<bool>,
    /// Seed of the first image; image k has this plus k. Drawn when left out.
    seed: Option<u64>,
    /// `chacha20`, `torch-cpu` or `torch-cuda`: which random numbers the seeds stand for.
    noise_source: Option<String>,
    /// Denoising steps.
    num_inference_steps: Option<u32>,
    /// Weight of classifier-free guidance.
    guidance_scale: Option<f32>,
    /// Name of a scheduler, such as `ddim`, `euler` or `dpm++2m`.
    scheduler: Option<String>,
    /// `uniform`, `karras`, `exponential` or `beta`: how the sigmas are spread.
    sigmas: Option<String>,
    /// Share of fresh noise in the steps of `ddim` and `tcd`, 0 to 1.
    eta: Option<f32>,
    /// Whether the prompts weigh their words, as `(word:1.2)`.
    prompt_weights: Option<bool>,
    /// Class of the training data, for class-conditional models.
    class_label: Option<u32>,
    /// How much of an uploaded picture is replaced, above 0 to 1.
    strength: Option<f32>,
    /// `auto`, the only value there is.
    quality: Option<String>,
    /// `auto` or `opaque`.
    background: Option<String>,
    /// `auto` or `low`; nothing is filtered here.
    moderation: Option<String>,
    /// Whether the answer comes as server-sent events.
    stream: Option<bool>,
    /// Pictures of the way in a stream, 0 to 3 for each image. They are neither signed nor recorded.
    partial_images: Option<u32>,
    /// Accepted and not used.
    #[allow(dead_code, reason = "clients of the interface send it")]
    user: Option<String>,
    /// Accepted and not used.
    #[allow(dead_code, reason = "clients of the interface send it")]
    safety_identifier: Option<String>,
}

/// How the answer is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::routes) struct Delivery {
    /// Addresses in place of the files themselves.
    pub(in crate::routes) by_url: bool,
    /// As server-sent events.
    pub(in crate::routes) stream: bool,
    /// Pictures of the way of each image.
    pub(in crate::routes) partial_images: u32,
    /// The files' format, in which partial images come too.
    pub(in crate::routes) format: Format,
}

impl ImageRequest {
    /// Translates to domain values and refuses what this service does not do.
    pub(in crate::routes) fn parse(self) -> Result<(GenerateOrder, Delivery), Problem> {
        let known = |parameter, value: &Option<String>, supported: &[&str]| {
            only(parameter, value.as_deref(), supported)
        };
        known(
            "response_format",
            &self.response_format,
            &["b64_json", "url"],
        )?;
        known("quality", &self.quality, &["auto"])?;
        known("background", &self.background, &["auto", "opaque"])?;
        known("moderation", &self.moderation, &["auto", "low"])?;
        let file = self.file()?;
        let delivery = self.delivery(file.format)?;
        let scheduler = self.scheduler.as_deref().map(parse_scheduler).transpose()?;
        let noise_source = named::<NoiseKind>("noise_source", self.noise_source.as_deref())?;
        let sigmas = named("sigmas", self.sigmas.as_deref())?;
        let order = GenerateOrder {
            prompt: self.prompt,
            negative_prompt: self.negative_prompt,
            prompt_weights: self.prompt_weights.unwrap_or(false),
            class_label: self.class_label,
            model: self.model,
            images: self.n.unwrap_or(1),
            size: self.size.as_deref().map(parse_size).transpose()?.flatten(),
            seed: self.seed,
            noise_source,
            steps: self.num_inference_steps,
            guidance_scale: self.guidance_scale,
            scheduler,
            sigmas,
            eta: self.eta,
            strength: self.strength,
            // The last preview would be the image itself, before it is recorded: it is not sent.
            preview_steps: match delivery.partial_images {
                0 => 0,
                partial => partial as usize + 1,
            },
            file,
            ..GenerateOrder::default()
        };
        Ok((order, delivery))
    }

    fn file(&self) -> Result<FileOptions, Problem> {
        let format = match self.output_format.as_deref() {
            None | Some("png") => Format::Png,
            Some("jpeg") => Format::Jpeg,
            Some("webp") => Format::Webp,
            Some(_) => {
                only(
                    "output_format",
                    self.output_format.as_deref(),
                    &["png", "jpeg", "webp"],
                )?;
                Format::Png
            }
        };
        let default = FileOptions::default();
        let quality = match self.output_compression {
            None => default.quality,
            Some(quality @ 1..=100) if format == Format::Jpeg => quality,
            // Without loss, nothing is lost: what clients send by default is right.
            Some(100) => default.quality,
            Some(quality) => {
                let detail = format!(
                    "output_compression is {quality}; only jpeg files have one, from 1 to 100"
                );
                return Err(Problem::invalid("output_compression", detail));
            }
        };
        Ok(FileOptions {
            format,
            quality,
            parameters: self.embed_parameters.unwrap_or(default.parameters),
        })
    }

    fn delivery(&self, format: Format) -> Result<Delivery, Problem> {
        let stream = self.stream.unwrap_or(false);
        let partial_images = self.partial_images.unwrap_or(0);
        if partial_images > PARTIAL_IMAGES_MAX {
            let detail = format!("partial_images is {partial_images}, it must be 0 to 3");
            return Err(Problem::invalid("partial_images", detail));
        }
        if partial_images > 0 && !stream {
            let detail = "partial images come in a stream alone: set stream";
            return Err(Problem::invalid("partial_images", detail));
        }
        let by_url = self.response_format.as_deref() == Some("url");
        if by_url && stream {
            let detail = "a stream carries the images themselves: leave response_format out";
            return Err(Problem::invalid("response_format", detail));
        }
        Ok(Delivery {
            by_url,
            stream,
            partial_images,
            format,
        })
    }
}

/// Refuses a value that is none of the supported ones.
fn only(parameter: &'static str, value: Option<&str>, supported: &[&str]) -> Result<(), Problem> {
    match value {
        Some(value) if !supported.contains(&value) => {
            let supported = supported.join(" or ");
            let detail = format!("this {parameter} is not supported, only {supported}");
            Err(Problem::invalid(parameter, detail))
        }
        _ => Ok(()),
    }
}

/// A value with a name of its own.
fn named<T: std::str::FromStr<Err: std::fmt::Display>>(
    parameter: &'static str,
    value: Option<&str>,
) -> Result<Option<T>, Problem> {
    let parsed = value.map(str::parse).transpose();
    parsed.map_err(|error: T::Err| Problem::invalid(parameter, error.to_string()))
}

/// A scheduler that leads to an image.
fn parse_scheduler(name: &str) -> Result<SchedulerKind, Problem> {
    let kind = name.parse::<SchedulerKind>().ok();
    kind.filter(|kind| kind.is_generative()).ok_or_else(|| {
        let known = SchedulerKind::GENERATIVE
            .map(SchedulerKind::name)
            .join(", ");
        let detail = format!("the scheduler is not known; known are {known}");
        Problem::invalid("scheduler", detail)
    })
}

/// `WIDTHxHEIGHT`, or none for `auto`.
fn parse_size(text: &str) -> Result<Option<(u32, u32)>, Problem> {
    if text == "auto" {
        return Ok(None);
    }
    let sides = text
        .split_once('x')
        .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)))
        .filter(|&(width, height): &(u32, u32)| width > 0 && height > 0);
    let refused = || Problem::invalid("size", "size must be auto or WIDTHxHEIGHT, such as 64x64");
    sides.map(Some).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<(GenerateOrder, Delivery), String> {
        let request: ImageRequest =
            serde_json::from_str(json).map_err(|error| error.to_string())?;
        request
            .parse()
            .map_err(|problem| format!("{:?} {problem}", problem.parameter))
    }

    #[test]
    fn a_full_request_is_understood() {
        let (order, delivery) = parse(
            r#"{"prompt":"a red heart","negative_prompt":"blue","n":2,"size":"64x64","seed":7,
                "response_format":"b64_json","output_format":"jpeg","output_compression":80,
                "num_inference_steps":5,"guidance_scale":3.5,"scheduler":"dpm++2m",
                "sigmas":"karras","noise_source":"torch-cpu","quality":"auto","user":"u",
                "stream":true,"partial_images":2,"embed_parameters":false}"#,
        )
        .unwrap();
        assert_eq!(
            (order.images, order.size, order.seed),
            (2, Some((64, 64)), Some(7))
        );
        assert_eq!(order.scheduler, Some(SchedulerKind::DpmSolverMultistep));
        assert_eq!(order.noise_source, Some(NoiseKind::TorchCpu));
        assert_eq!((order.file.format, order.file.quality), (Format::Jpeg, 80));
        assert!(!order.file.parameters);
        assert_eq!((delivery.partial_images, order.preview_steps), (2, 3));
    }

    #[test]
    fn the_texts_of_a_form_are_understood_as_json_is() {
        let form = "prompt=a+red+heart&n=2&stream=true&partial_images=1&strength=0.5";
        let request: ImageRequest = serde_urlencoded::from_str(form).unwrap();
        let (order, delivery) = request.parse().unwrap();
        assert_eq!((order.images, order.strength), (2, Some(0.5)));
        assert!(delivery.stream);
        assert!(serde_urlencoded::from_str::<ImageRequest>("prompt=a&style=vivid").is_err());
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name_and_never_ignored() {
        let cases = [
            (
                r#"{"prompt":"a","response_format":"file"}"#,
                "response_format",
            ),
            (r#"{"prompt":"a","output_format":"gif"}"#, "output_format"),
            (
                r#"{"prompt":"a","output_compression":50}"#,
                "output_compression",
            ),
            (r#"{"prompt":"a","partial_images":2}"#, "partial_images"),
            (
                r#"{"prompt":"a","stream":true,"partial_images":4}"#,
                "partial_images",
            ),
            (r#"{"prompt":"a","scheduler":"ddim-inverse"}"#, "scheduler"),
            (r#"{"prompt":"a","noise_source":"dice"}"#, "noise_source"),
            (r#"{"prompt":"a","sigmas":"steep"}"#, "sigmas"),
            (r#"{"prompt":"a","size":"big"}"#, "size"),
            (r#"{"prompt":"a","size":"0x64"}"#, "size"),
            (r#"{"prompt":"a","background":"transparent"}"#, "background"),
            (r#"{"prompt":"a","mask":"x"}"#, "mask"),
            (r#"{"prompt":"a","seed":-1}"#, "-1"),
        ];
        for (json, name) in cases {
            let error = parse(json).unwrap_err();
            assert!(error.contains(name), "{json}: {error}");
        }
    }
}
