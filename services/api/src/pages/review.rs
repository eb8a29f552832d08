//! `/review`

use ::ledger::Scope;
use actix_multipart::Multipart;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use media::MediaError;

use super::view::{Fact, Place, ReviewPage, ReviewResult, Strip, StripTile};
use super::visitor::{PageError, Visitor, shown, shown_error};
use super::{pictures, present, present_score, respond};
use crate::config::Limits;
use crate::engine::Engine;
use crate::work::{self, Examination, InversionStrip, RecordedScore, ScoreAnswer, WorkError};

/// Pictures of the way to noise.
const STRIP_PICTURES: usize = 8;
/// Longest side of the examined picture in the page.
const PICTURE_SIDE_MAX: u32 = 720;
/// Longest file name that is repeated.
const FILE_NAME_CHARS_MAX: usize = 120;

/// The empty form.
pub(super) async fn show(visitor: Visitor) -> Result<HttpResponse, PageError> {
    visitor.require(Scope::Score)?;
    Ok(respond::page(StatusCode::OK, &page(&visitor)))
}

/// Scores the upload and shows what was found.
pub(super) async fn examine(
    visitor: Visitor,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, PageError> {
    visitor.require(Scope::Score)?;
    let mut page = page(&visitor);
    let form = Multipart::new(request.headers(), payload);
    let mut upload = match crate::routes::read_form(&visitor.state, form).await {
        Ok(upload) => upload,
        Err(problem) => {
            let status = StatusCode::from_u16(problem.kind.status);
            page.problem = Some(shown(&problem));
            return Ok(respond::page(
                status.unwrap_or(StatusCode::BAD_REQUEST),
                &page,
            ));
        }
    };
    upload.strip_pictures = STRIP_PICTURES;
    let name = file_name(upload.file_name.as_deref());
    let answer = work::score(&visitor.state, &visitor.caller, upload).await;
    let engine = std::sync::Arc::clone(&visitor.state.engine);
    let shown = match answer {
        Ok(answer) => web::block(move || result(&engine, &name, &answer))
            .await
            .map_err(|_| WorkError::Interrupted)
            .and_then(|result| result.map_err(WorkError::Encode)),
        Err(error) => Err(error),
    };
    match shown {
        Ok(result) => {
            page.result = Some(result);
            Ok(respond::page(StatusCode::OK, &page))
        }
        Err(error) => {
            let (status, problem) = shown_error(error);
            page.problem = Some(problem);
            Ok(respond::page(status, &page))
        }
    }
}

fn page(visitor: &Visitor) -> ReviewPage {
    let limits = &visitor.state.config.limits;
    ReviewPage {
        frame: visitor.frame("Review", Place::Review),
        bytes_max: limits.upload_bytes_max,
        limits: limits_line(limits),
        scope: detector::SCOPE,
        problem: None,
        result: None,
    }
}

fn limits_line(limits: &Limits) -> String {
    format!(
        "PNG, JPEG or WebP, up to {} MB and {} megapixels",
        limits.upload_bytes_max / 1_000_000,
        limits.upload_pixels_max / 1_000_000
    )
}

/// The name that the browser sent, shortened.
fn file_name(name: Option<&str>) -> String {
    let name = name
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .unwrap_or("the upload");
    name.chars()
        .filter(|letter| !letter.is_control())
        .take(FILE_NAME_CHARS_MAX)
        .collect()
}

/// Draws pictures: for a blocking thread.
fn result(engine: &Engine, name: &str, answer: &ScoreAnswer) -> Result<ReviewResult, MediaError> {
    let ScoreAnswer {
        examination,
        recorded,
        ..
    } = answer;
    let assessment = &examination.assessment;
    let thresholds = stratum(examination).and_then(|stratum| {
        engine
            .detector()
            .ok()
            .and_then(|slot| slot.thresholds.of(stratum))
    });
    let (verdict, verdict_class) = present_score::verdict(assessment.verdict);
    let index = recorded.leaf_index.get();
    let decoded = &examination.decoded;
    let picture = work::to_picture(decoded.width, decoded.height, &decoded.rgb)?;
    let picture = pictures::inline(&picture.fit(PICTURE_SIDE_MAX))?;
    Ok(ReviewResult {
        file_name: name.to_owned(),
        verdict,
        verdict_class,
        reason: present_score::sentence(assessment.reason.sentence()),
        probability: present_score::probability(assessment, thresholds),
        no_probability: "Nothing could be measured on this picture.".to_owned(),
        own_entry: present_score::own_entry(assessment),
        evidence: present_score::evidence(assessment),
        heatmap: Some(present_score::heatmap(&assessment.heatmap, picture)),
        strips: examination
            .strip
            .as_ref()
            .map(strips)
            .transpose()?
            .unwrap_or_default(),
        entry_index: index,
        bundle: pictures::inline_bundle(&recorded.bundle),
        bundle_name: present::bundle_name(index),
        facts: facts(examination, recorded),
        command: present::verify_command(index, false),
    })
}

/// The stratum that the picture's measured quality falls into.
fn stratum(examination: &Examination) -> Option<&str> {
    examination
        .assessment
        .evidence
        .iter()
        .find_map(|finding| match finding {
            detector::Evidence::PriorTrace { stratum, .. } => Some(stratum.as_str()),
            _ => None,
        })
}

fn facts(examination: &Examination, recorded: &RecordedScore) -> Vec<Fact> {
    let assessment = &examination.assessment;
    let checkpoint = recorded.bundle.checkpoint();
    let head = checkpoint.unverified();
    vec![
        Fact::plain("Detector", assessment.detector_version.clone()),
        Fact::plain(
            "Calibration, thresholds",
            format!(
                "{}, {}",
                assessment.calibration_version, assessment.thresholds_version
            ),
        ),
        Fact::mono("Leaf hash", recorded.leaf_hash.to_string()),
        Fact::plain("Checkpoint", present::entries(head.tree_size.get())),
        Fact::mono("Root hash", head.root_hash.to_string()),
        Fact::mono("File digest", examination.sha256.to_string()),
        Fact::mono(
            "Upload commitment",
            recorded.entry.upload_commitment.to_string(),
        ),
        Fact::mono("Salt", hex::encode(recorded.upload_salt)),
    ]
}

/// Out to noise and back.
fn strips(strip: &InversionStrip) -> Result<Vec<Strip>, MediaError> {
    let size = if strip.resized {
        ", after resizing to the generator's own size"
    } else {
        ""
    };
    let tile = |picture: &onnx::Picture, caption: &str| {
        Ok(StripTile {
            source: pictures::inline_output(picture)?,
            caption: caption.to_owned(),
            alt: format!("The picture, {caption}"),
        })
    };
    let count = strip.to_noise.len();
    let mut forward = vec![tile(&strip.autoencoded, "start")?];
    for (place, picture) in strip.to_noise.iter().enumerate() {
        let caption = match place + 1 {
            last if last == count => "noise".to_owned(),
            // The pictures are spread evenly over the steps.
            done => format!("{} %", done * 100 / count),
        };
        forward.push(tile(picture, &caption)?);
    }
    let mut back = Vec::new();
    if let Some(noise) = strip.to_noise.last() {
        back.push(tile(noise, "noise")?);
    }
    back.push(tile(&strip.reconstruction, "came back")?);
    let forward = Strip {
        title: "Inversion, towards noise",
        explanation: format!(
            "This service's own generator ({}) leads the picture to noise by DDIM inversion{size}. \
             The strip belongs to the question whether this one generator made the picture; the \
             probability above rests on another model, the photo prior.",
            strip.model
        ),
        tiles: forward,
    };
    let back = Strip {
        title: "The reverse process, from that noise",
        explanation:
            "What the same generator makes of the noise. Its own outputs come back almost \
                      unchanged; other pictures less so."
                .to_owned(),
        tiles: back,
    };
    Ok(vec![forward, back])
}
