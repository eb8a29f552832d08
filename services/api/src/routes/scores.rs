//! `POST /v1/scores`

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use detector::{Evidence, Heatmap, Verdict};
use media::{ColourProfile, ProfileColours, ProfileTreatment};
use provenance::Entry;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::uploads::{FormFields, ScoreForm, ScoreRequest, read_upload};
use super::wire::{EntryBody, ProvenanceBody};
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody};
use crate::state::AppState;
use crate::work::{self, ScoreAnswer, ScoreTimings, TraceCurve};

/// Longest side of the heatmap picture in an answer.
const HEATMAP_SIDE_MAX: u32 = 512;

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
    /// The trace as a curve, and the range of photographs; null where no patch was looked at.
    trace_curve: Option<TraceCurve>,
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
    /// The patches in pixels of the upload as it is stored.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    cells: Heatmap,
    /// The patches drawn over the reduced upload, upright, PNG in base64.
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
    /// SHA-256 of the pixels as stored, before any colour profile, with a domain string and the size before
    /// them.
    pixel_sha256: String,
    /// Which side is up, as EXIF numbers it: 1 is as stored.
    orientation: u8,
    /// What was done to the picture before it was examined, a sentence each.
    notes: Vec<String>,
    /// The file's colour profile (ICC) and what was done about it; null where it has none.
    colour_profile: Option<ColourProfileBody>,
    /// Transparency was composited on white.
    has_alpha: bool,
    /// Bytes behind the picture's end, which no viewer shows.
    trailing_bytes: u64,
    /// Metadata items that were left out: malformed or over their limits.
    metadata_skipped: u32,
}

/// A colour profile in the file.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ColourProfileBody {
    /// Its own name, in the words of whoever made the file: one printable line, shortened; null where it states
    /// none.
    name: Option<String>,
    /// The colours that it is for: `rgb`, `grey` or `cmyk`; null where it does not say, or says others.
    #[schema(value_type = Option<String>)]
    colours: Option<ProfileColours>,
    /// `converted` to sRGB, `already_srgb`, or ignored because it is `broken`, `too_large`, `unsupported` or for
    /// `other_colours` than the picture has.
    #[schema(value_type = String)]
    treatment: ProfileTreatment,
}

impl From<&ColourProfile> for ColourProfileBody {
    fn from(profile: &ColourProfile) -> Self {
        Self {
            name: profile.name.clone(),
            colours: profile.colours,
            treatment: profile.treatment,
        }
    }
}

impl ScoreResponse {
    pub(super) fn new(answer: ScoreAnswer) -> Result<Self, Problem> {
        let ScoreAnswer {
            request_id,
            examination,
            recorded,
        } = answer;
        let (decoded, assessment) = (&examination.decoded, examination.assessment);
        let picture = work::to_picture(decoded.width, decoded.height, &decoded.rgb)
            .and_then(|picture| {
                work::heatmap_picture(&picture, &assessment.heatmap, HEATMAP_SIDE_MAX)
                    .upright(decoded.orientation)
                    .to_png()
            })
            .map_err(|error| Problem::internal(&error))?;
        let image = UploadBody {
            format: decoded.format.to_string(),
            width: decoded.width,
            height: decoded.height,
            sha256: examination.sha256.to_string(),
            pixel_sha256: examination.pixel_sha256.to_string(),
            orientation: decoded.orientation.exif(),
            notes: decoded.notes(),
            colour_profile: decoded.colour_profile.as_ref().map(ColourProfileBody::from),
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
            trace_curve: examination.curve,
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
    let form = read_upload(&state, &request, (payload, FormFields::File)).await?;
    let answer = work::score(&state, &caller, form.upload).await?;
    let response = web::block(move || ScoreResponse::new(answer)).await;
    let response = response.map_err(|error| Problem::internal(&error))??;
    Ok(HttpResponse::Ok().json(response))
}
