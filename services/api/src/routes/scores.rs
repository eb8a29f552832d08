//! `POST /v1/scores`

use actix_multipart::{Field, Multipart};
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use detector::{Evidence, Heatmap, Verdict};
use futures_util::StreamExt;
use provenance::Entry;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::wire::{EntryBody, ProvenanceBody};
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody, kinds};
use crate::state::AppState;
use crate::work::{self, ScoreAnswer, ScoreTimings, Upload};

/// Longest side of the heatmap picture in an answer.
const HEATMAP_SIDE_MAX: u32 = 512;
/// Room for the JSON around an upload in base64, and for the parts around one in multipart.
const AROUND_UPLOAD_BYTES: u64 = 4 << 10;

/// An upload as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScoreRequest {
    /// The file in base64.
    image_base64: String,
    /// Its name, if it has one.
    file_name: Option<String>,
    /// Its media type, if it is known.
    media_type: Option<String>,
}

/// An upload as a form.
#[derive(ToSchema)]
#[allow(
    dead_code,
    reason = "it describes the form; the form is read as a stream"
)]
pub(super) struct ScoreForm {
    /// A PNG, JPEG or WebP picture.
    #[schema(value_type = String, format = Binary, content_media_type = "application/octet-stream")]
    file: Vec<u8>,
}

/// The answer to an upload.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScoreResponse {
    /// The request's id, as the entry states it.
    id: String,
    /// `LikelyGenerated`, `LikelyNotGenerated` or `Inconclusive`.
    #[schema(value_type = String)]
    verdict: Verdict,
    /// Why, as a stable word.
    #[schema(value_type = String)]
    reason: detector::Reason,
    /// Why, in a sentence.
    explanation: String,
    /// Calibrated probability of being generated, at equal base rates; null where nothing could
    /// be measured.
    probability: Option<f32>,
    /// Mean raw score of the patches.
    raw_score: Option<f32>,
    /// Name and version of the detector.
    detector_version: String,
    /// Version of the calibration.
    calibration_version: String,
    /// Version of the thresholds.
    thresholds_version: String,
    /// Findings beside the probability; none of them enters it but the trace.
    evidence: Vec<EvidenceBody>,
    /// Where the detector looked.
    heatmap: HeatmapBody,
    /// What was read from the file.
    image: UploadBody,
    /// What the detector does not look for.
    scope: String,
    /// Entry, proof and checkpoint of the score.
    provenance: ProvenanceBody,
    /// Opens the upload commitment of the entry: HMAC-SHA256 with this salt (hexadecimal) over
    /// the 32 bytes of the file's SHA-256. Kept nowhere else.
    upload_salt: String,
    /// Where the time went.
    timings_ms: ScoreTimings,
}

/// One finding: its own members, and a sentence for people.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EvidenceBody {
    /// The finding; `kind` tells which.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    finding: Value,
    /// What it can and cannot show.
    sentence: String,
}

impl From<&Evidence> for EvidenceBody {
    fn from(evidence: &Evidence) -> Self {
        Self {
            finding: serde_json::to_value(evidence).expect("findings are plain data"),
            sentence: evidence.sentence(),
        }
    }
}

/// Raw scores of single patches, which are uncalibrated, as numbers and as a picture.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeatmapBody {
    /// The patches in pixels of the upload.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    cells: Heatmap,
    /// The patches drawn over the reduced upload, PNG in base64.
    png_base64: String,
}

/// What was read from the file.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UploadBody {
    /// `png`, `jpeg` or `webp`, by content.
    format: String,
    /// Width in pixels.
    width: u32,
    /// Height in pixels.
    height: u32,
    /// SHA-256 of the file.
    sha256: String,
    /// SHA-256 of the pixels, with a domain string and the size before them.
    pixel_sha256: String,
    /// Transparency was composited on white.
    has_alpha: bool,
    /// Bytes behind the picture's end, which no viewer shows.
    trailing_bytes: u64,
    /// Metadata items that were left out: malformed or over their limits.
    metadata_skipped: u32,
}

impl ScoreResponse {
    fn new(answer: ScoreAnswer) -> Result<Self, Problem> {
        let ScoreAnswer {
            request_id,
            examination,
            recorded,
        } = answer;
        let (decoded, assessment) = (&examination.decoded, examination.assessment);
        let picture = work::to_picture(decoded.width, decoded.height, &decoded.rgb)
            .and_then(|picture| {
                work::heatmap_picture(&picture, &assessment.heatmap, HEATMAP_SIDE_MAX).to_png()
            })
            .map_err(|error| Problem::internal(&error))?;
        let image = UploadBody {
            format: decoded.format.to_string(),
            width: decoded.width,
            height: decoded.height,
            sha256: examination.sha256.to_string(),
            pixel_sha256: examination.pixel_sha256.to_string(),
            has_alpha: decoded.has_alpha,
            trailing_bytes: decoded.trailing_bytes,
            metadata_skipped: decoded.metadata_skipped,
        };
        let entry = Entry::Score(recorded.entry);
        let entry = EntryBody::new(recorded.leaf_index, &recorded.leaf_hash, &entry);
        Ok(Self {
            id: request_id,
            verdict: assessment.verdict,
            reason: assessment.reason,
            explanation: assessment.reason.sentence().to_owned(),
            probability: assessment.probability,
            raw_score: assessment.raw_score,
            detector_version: assessment.detector_version,
            calibration_version: assessment.calibration_version,
            thresholds_version: assessment.thresholds_version,
            evidence: assessment.evidence.iter().map(EvidenceBody::from).collect(),
            heatmap: HeatmapBody {
                cells: assessment.heatmap,
                png_base64: STANDARD.encode(picture),
            },
            image,
            scope: assessment.scope,
            provenance: ProvenanceBody::new(entry, &recorded.bundle),
            upload_salt: hex::encode(recorded.upload_salt),
            timings_ms: examination.timings_ms,
        })
    }
}

/// Score a picture: verdict, calibrated probability and evidence. The score is signed and
/// recorded; the picture is not kept.
#[utoipa::path(
    post,
    path = "/v1/scores",
    tag = "scores",
    request_body(content(
        (ScoreForm = "multipart/form-data"),
        (ScoreRequest = "application/json")
    )),
    responses(
        (status = 200, body = ScoreResponse),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["score"]))
)]
pub(super) async fn create(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(ledger::Scope::Score)?;
    let upload = read_upload(&state, &request, payload).await?;
    let answer = work::score(&state, &caller, upload).await?;
    let response = web::block(move || ScoreResponse::new(answer)).await;
    let response = response.map_err(|error| Problem::internal(&error))??;
    Ok(HttpResponse::Ok().json(response))
}

async fn read_upload(
    state: &AppState,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<Upload, Problem> {
    let bytes_max = state.config.limits.upload_bytes_max;
    let media_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().to_ascii_lowercase();
    if media_type.starts_with("multipart/form-data") {
        read_form(Multipart::new(request.headers(), payload), bytes_max).await
    } else if media_type.starts_with("application/json") {
        // Four characters of base64 for three bytes.
        let most = bytes_max
            .div_ceil(3)
            .saturating_mul(4)
            .saturating_add(AROUND_UPLOAD_BYTES);
        let body = read_limited(payload, most, bytes_max).await?;
        web::block(move || parse_json(&body))
            .await
            .map_err(|error| Problem::internal(&error))?
    } else {
        let detail = "send the picture as multipart/form-data (field file) or as application/json";
        Err(Problem::new(kinds::UNSUPPORTED_MEDIA, detail))
    }
}

fn parse_json(body: &[u8]) -> Result<Upload, Problem> {
    let request: ScoreRequest = serde_json::from_slice(body)
        .map_err(|error| Problem::new(kinds::INVALID_REQUEST, error.to_string()))?;
    let bytes = STANDARD
        .decode(request.image_base64)
        .map_err(|error| Problem::invalid("image_base64", error.to_string()))?;
    let (file_name, media_type) = (request.file_name, request.media_type);
    Ok(Upload {
        bytes,
        file_name,
        media_type,
        strip_pictures: 0,
    })
}

/// Reads the one field `file` of a form; other fields are refused.
pub(crate) async fn read_form(mut form: Multipart, bytes_max: u64) -> Result<Upload, Problem> {
    let mut upload = None;
    while let Some(field) = form.next().await {
        let field = field.map_err(broken_form)?;
        let name = field.name().unwrap_or_default();
        if name != "file" || upload.is_some() {
            let detail = "the form must have the one field file";
            return Err(Problem::invalid("file", detail));
        }
        upload = Some(read_field(field, bytes_max).await?);
    }
    upload.ok_or_else(|| Problem::invalid("file", "the form has no field file"))
}

async fn read_field(field: Field, bytes_max: u64) -> Result<Upload, Problem> {
    let disposition = field.content_disposition();
    let file_name = disposition.and_then(|disposition| disposition.get_filename());
    let file_name = file_name.map(str::to_owned);
    let media_type = field
        .content_type()
        .map(|media_type| media_type.essence_str().to_owned());
    let chunks = field.map(|chunk| chunk.map_err(broken_form));
    let bytes = gather(chunks, bytes_max, bytes_max).await?.to_vec();
    Ok(Upload {
        bytes,
        file_name,
        media_type,
        strip_pictures: 0,
    })
}

fn broken_form(error: actix_multipart::MultipartError) -> Problem {
    Problem::new(
        kinds::INVALID_REQUEST,
        format!("the form cannot be read: {error}"),
    )
}

async fn read_limited(
    payload: web::Payload,
    most: u64,
    upload_bytes_max: u64,
) -> Result<BytesMut, Problem> {
    let broken = |_| Problem::new(kinds::INVALID_REQUEST, "the body broke off");
    gather(
        payload.map(|chunk| chunk.map_err(broken)),
        most,
        upload_bytes_max,
    )
    .await
}

/// Gathers a body of at most `most` bytes, so that nothing larger is ever held.
async fn gather(
    chunks: impl futures_util::Stream<Item = Result<Bytes, Problem>>,
    most: u64,
    upload_bytes_max: u64,
) -> Result<BytesMut, Problem> {
    let mut chunks = std::pin::pin!(chunks);
    let mut body = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if (body.len() + chunk.len()) as u64 > most {
            let detail =
                format!("the file is over the limit upload_bytes_max of {upload_bytes_max}");
            return Err(Problem::new(kinds::TOO_LARGE, detail));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn a_body_is_refused_as_soon_as_it_is_over_its_limit() {
        let endless = futures_util::stream::repeat_with(|| Ok(Bytes::from_static(&[0; 100])));
        let problem = gather(endless, 1_000, 1_000).await.unwrap_err();
        assert_eq!(problem.kind.status, 413);
        assert!(problem.detail.contains("upload_bytes_max"), "{problem}");
    }

    #[test]
    fn a_json_upload_with_bad_base64_or_unknown_members_is_refused() {
        assert_eq!(
            parse_json(br#"{"image_base64":"AAEC"}"#).unwrap().bytes,
            [0, 1, 2]
        );
        let problem = parse_json(br#"{"image_base64":"A*"}"#).unwrap_err();
        assert_eq!(problem.parameter, Some("image_base64"));
        assert!(parse_json(br#"{"image_base64":"","url":"http://x"}"#).is_err());
    }
}
