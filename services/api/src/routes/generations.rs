//! `POST /v1/images/generations`

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use provenance::Entry;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::jobs;
use super::wire::{EntryBody, ProvenanceBody};
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody};
use crate::state::AppState;
use crate::work::{self, GenerateAnswer, GenerateOrder, IdempotencyKey, RecordedPicture};

/// A request for images, in the shape of OpenAI's images interface.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GenerationRequest {
    /// What to show.
    #[schema(example = "a red heart")]
    prompt: Option<String>,
    /// What not to show.
    negative_prompt: Option<String>,
    /// Name of the model; the installed one when left out.
    model: Option<String>,
    /// Number of images, 1 when left out.
    n: Option<u32>,
    /// `WIDTHxHEIGHT` or `auto`.
    size: Option<String>,
    /// `b64_json`, the only form there is.
    response_format: Option<String>,
    /// `png`, the only format there is.
    output_format: Option<String>,
    /// Seed of the first image; image k has this plus k. Drawn when left out.
    seed: Option<u64>,
    /// Denoising steps.
    num_inference_steps: Option<u32>,
    /// Weight of classifier-free guidance.
    guidance_scale: Option<f32>,
    /// `ddim`, `euler` or `dpm++2m`.
    scheduler: Option<String>,
    /// `auto`, the only value there is.
    quality: Option<String>,
    /// `auto` or `opaque`.
    background: Option<String>,
    /// `auto`, the only value there is.
    moderation: Option<String>,
    /// Not supported in this version: must be left out or false.
    stream: Option<bool>,
    /// Not supported in this version: must be left out or 0.
    partial_images: Option<u32>,
    /// Accepted and not used.
    #[allow(
        dead_code,
        reason = "clients of the interface send it; nothing is done with it"
    )]
    user: Option<String>,
}

impl GenerationRequest {
    /// Translates to domain values and refuses what this version does not do.
    fn parse(self) -> Result<GenerateOrder, Problem> {
        only(
            "response_format",
            self.response_format.as_deref(),
            &["b64_json"],
        )?;
        only("output_format", self.output_format.as_deref(), &["png"])?;
        only("quality", self.quality.as_deref(), &["auto"])?;
        only(
            "background",
            self.background.as_deref(),
            &["auto", "opaque"],
        )?;
        only("moderation", self.moderation.as_deref(), &["auto"])?;
        if self.stream == Some(true) {
            return Err(Problem::invalid(
                "stream",
                "streaming is not supported in this version",
            ));
        }
        if self.partial_images.is_some_and(|images| images > 0) {
            let detail = "partial images are not supported in this version";
            return Err(Problem::invalid("partial_images", detail));
        }
        let scheduler = match self.scheduler {
            None => None,
            Some(name) => {
                let kind = name
                    .parse()
                    .ok()
                    .filter(|kind| diffusion::SchedulerKind::GENERATIVE.contains(kind));
                let refused = || {
                    let detail = "the scheduler is not known; known are ddim, euler and dpm++2m";
                    Problem::invalid("scheduler", detail)
                };
                Some(kind.ok_or_else(refused)?)
            }
        };
        Ok(GenerateOrder {
            prompt: self.prompt,
            negative_prompt: self.negative_prompt,
            model: self.model,
            images: self.n.unwrap_or(1),
            size: self.size.as_deref().map(parse_size).transpose()?.flatten(),
            seed: self.seed,
            steps: self.num_inference_steps,
            guidance_scale: self.guidance_scale,
            scheduler,
            ..GenerateOrder::default()
        })
    }
}

/// Refuses a value that is none of the supported ones.
fn only(parameter: &'static str, value: Option<&str>, supported: &[&str]) -> Result<(), Problem> {
    match value {
        Some(value) if !supported.contains(&value) => {
            let supported = supported.join(" or ");
            let detail =
                format!("this {parameter} is not supported in this version, only {supported}");
            Err(Problem::invalid(parameter, detail))
        }
        _ => Ok(()),
    }
}

/// `WIDTHxHEIGHT`, or none for `auto`.
fn parse_size(text: &str) -> Result<Option<(u32, u32)>, Problem> {
    if text == "auto" {
        return Ok(None);
    }
    let sides = text
        .split_once('x')
        .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let refused = || Problem::invalid("size", "size must be auto or WIDTHxHEIGHT, such as 64x64");
    sides.map(Some).ok_or_else(refused)
}

/// The answer, in the shape of OpenAI's images interface with provenance beside each image.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GenerationResponse {
    /// The request's id, as the entries state it.
    id: String,
    /// Seconds since 1970 UTC.
    created: u64,
    /// Name of the model.
    model: String,
    /// `png`.
    output_format: String,
    /// `WIDTHxHEIGHT`.
    size: String,
    /// The images.
    data: Vec<GeneratedImage>,
    /// What the caller should know: a prompt that was cut, for example.
    warnings: Vec<String>,
    /// Where the time went; left out when the answer was given before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    timings_ms: Option<onnx::Timings>,
}

/// One image with its provenance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GeneratedImage {
    /// The PNG file in base64.
    b64_json: String,
    /// The seed of its noise.
    seed: u64,
    /// The image's digests and size, as the entry states them.
    image: ImageBody,
    /// Entry, proof and checkpoint.
    provenance: ProvenanceBody,
}

/// An image's digests and size.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImageBody {
    /// SHA-256 of the file.
    sha256: String,
    /// SHA-256 of the pixels, with a domain string and the size before them.
    pixel_sha256: String,
    /// Width in pixels.
    width: u32,
    /// Height in pixels.
    height: u32,
    /// Media type of the file.
    media_type: String,
}

impl From<RecordedPicture> for GeneratedImage {
    fn from(picture: RecordedPicture) -> Self {
        let image = &picture.entry.image;
        let image = ImageBody {
            sha256: image.sha256.to_string(),
            pixel_sha256: image.pixel_sha256.to_string(),
            width: image.width,
            height: image.height,
            media_type: image.media_type.clone(),
        };
        let seed = picture.entry.seed;
        let entry = Entry::Generation(picture.entry);
        let entry = EntryBody::new(picture.leaf_index, &picture.leaf_hash, &entry);
        Self {
            b64_json: STANDARD.encode(&picture.file),
            seed,
            image,
            provenance: ProvenanceBody::new(entry, &picture.bundle),
        }
    }
}

impl GenerationResponse {
    fn new(answer: GenerateAnswer) -> Self {
        // The entries say which model it was: a worker may have made the images.
        let first = answer.images.first().map(|image| &image.entry);
        let model = first
            .map(|entry| entry.model.name.clone())
            .unwrap_or_default();
        let size = first.map(|entry| (entry.image.width, entry.image.height));
        let size = size.unwrap_or_default();
        let warnings = answer.truncated_prompt.iter().map(|cut| {
            format!(
                "the prompt has {} tokens, the model takes {}: it did not see {:?}",
                cut.tokens, cut.tokens_max, cut.dropped
            )
        });
        Self {
            id: answer.request_id,
            created: answer.created_at_ms / 1_000,
            model,
            output_format: "png".to_owned(),
            size: format!("{}x{}", size.0, size.1),
            warnings: warnings.collect(),
            timings_ms: answer.timings,
            data: answer
                .images
                .into_iter()
                .map(GeneratedImage::from)
                .collect(),
        }
    }
}

/// Generate images, sign and record them. The answer comes when a checkpoint covers every entry.
#[utoipa::path(
    post,
    path = "/v1/images/generations",
    tag = "images",
    params(("Idempotency-Key" = Option<String>, Header,
            description = "The same key with the same request is carried out once")),
    request_body = GenerationRequest,
    responses(
        (status = 200, body = GenerationResponse),
        (status = 202, body = jobs::JobBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["generate"]))
)]
pub(super) async fn create(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    body: web::Json<GenerationRequest>,
) -> Result<HttpResponse, Problem> {
    caller.require(ledger::Scope::Generate)?;
    let order = body.into_inner().parse()?;
    let key = idempotency_key(&request)?;
    if jobs::prefers_async(&request) {
        return jobs::accept(&state, &caller, order, key.as_ref()).await;
    }
    let answer = match key {
        None => work::generate(&state, &caller, order, None).await?,
        Some(key) => work::generate_once(&state, &caller, order, key).await?,
    };
    Ok(HttpResponse::Ok().json(GenerationResponse::new(answer)))
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<IdempotencyKey>, Problem> {
    let Some(value) = request.headers().get("idempotency-key") else {
        return Ok(None);
    };
    Ok(Some(IdempotencyKey::parse(
        value.to_str().unwrap_or_default(),
    )?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<GenerateOrder, String> {
        let request: GenerationRequest =
            serde_json::from_str(json).map_err(|error| error.to_string())?;
        request
            .parse()
            .map_err(|problem| format!("{:?} {problem}", problem.parameter))
    }

    #[test]
    fn a_full_request_is_understood() {
        let order = parse(
            r#"{"prompt":"a red heart","negative_prompt":"blue","n":2,"size":"64x64","seed":7,
                "response_format":"b64_json","output_format":"png","num_inference_steps":5,
                "guidance_scale":3.5,"scheduler":"dpm++2m","quality":"auto","user":"u"}"#,
        )
        .unwrap();
        assert_eq!(
            (order.images, order.size, order.seed),
            (2, Some((64, 64)), Some(7))
        );
        assert_eq!(
            order.scheduler,
            Some(diffusion::SchedulerKind::DpmSolverMultistep)
        );
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name_and_never_ignored() {
        let cases = [
            (
                r#"{"prompt":"a","response_format":"url"}"#,
                "response_format",
            ),
            (r#"{"prompt":"a","output_format":"webp"}"#, "output_format"),
            (r#"{"prompt":"a","stream":true}"#, "stream"),
            (r#"{"prompt":"a","partial_images":2}"#, "partial_images"),
            (r#"{"prompt":"a","scheduler":"ddim-inverse"}"#, "scheduler"),
            (r#"{"prompt":"a","size":"big"}"#, "size"),
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
