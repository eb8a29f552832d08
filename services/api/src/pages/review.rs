//! `/review`

use ::ledger::{CaseId, Scope};
use actix_multipart::Multipart;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use media::MediaError;

use super::findings::{self, Shown};
use super::view::{Fact, Findings, Place, ReviewPage, ReviewResult};
use super::visitor::{PageError, Visitor, shown, shown_error};
use super::{pictures, present, respond, strips};
use crate::config::Limits;
use crate::problem::Problem;
use crate::routes::{FormFields, UploadForm};
use crate::work::{self, Examination, RecordedScore, ScoreAnswer, ScoreReport, WorkError};

/// The empty form.
pub(super) async fn show(visitor: Visitor) -> Result<HttpResponse, PageError> {
    visitor.require(Scope::Score)?;
    Ok(respond::page(StatusCode::OK, &page(&visitor)))
}

/// Scores the upload, keeps it in a case where that was asked for, and shows what was found.
pub(super) async fn examine(
    visitor: Visitor,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, PageError> {
    visitor.require(Scope::Score)?;
    let mut page = page(&visitor);
    let form = Multipart::new(request.headers(), payload);
    let form = crate::routes::read_form(&visitor.state, form, FormFields::Page).await;
    let answer = match form {
        Ok(form) => {
            page.note = form.note.clone().unwrap_or_default();
            if form.note.is_some() && !form.open_case {
                let detail = "a note belongs to a case: tick the box that keeps the picture, or \
                              leave the note empty";
                return Ok(refused(page, &Problem::invalid("note", detail)));
            }
            answer(&visitor, form).await
        }
        Err(problem) => return Ok(refused(page, &problem)),
    };
    match answer {
        Ok((found, result)) => {
            page.found = Some(found);
            page.result = Some(result);
            page.note = String::new();
            Ok(respond::page(StatusCode::OK, &page))
        }
        Err(error) => {
            let (status, problem) = shown_error(error);
            page.problem = Some(problem);
            Ok(respond::page(status, &page))
        }
    }
}

/// The page with the refusal of a form that could not be read.
fn refused(mut page: ReviewPage, problem: &Problem) -> HttpResponse {
    let status = StatusCode::from_u16(problem.kind.status);
    page.problem = Some(shown(problem));
    respond::page(status.unwrap_or(StatusCode::BAD_REQUEST), &page)
}

/// Scores and lays out.
async fn answer(
    visitor: &Visitor,
    form: UploadForm,
) -> Result<(Findings, ReviewResult), WorkError> {
    let (state, caller) = (&visitor.state, &visitor.caller);
    let mut upload = form.upload;
    upload.strip_pictures = strips::STRIP_PICTURES;
    let name = upload.file_name.clone();
    let (case, answer) = if form.open_case {
        let opened = work::open_case(state, caller, upload, form.note).await?;
        (Some(opened.id), opened.answer)
    } else {
        (None, work::score(state, caller, upload).await?)
    };
    let drawing = move || lay_out(name.as_deref(), (case, &answer));
    let drawn = web::block(drawing).await;
    drawn
        .map_err(|_| WorkError::Interrupted)?
        .map_err(WorkError::Encode)
}

fn page(visitor: &Visitor) -> ReviewPage {
    let limits = &visitor.state.config.limits;
    ReviewPage {
        frame: visitor.frame("Review", Place::Review),
        bytes_max: limits.upload_bytes_max,
        limits: limits_line(limits),
        scope: detector::SCOPE,
        note: String::new(),
        note_chars_max: ::ledger::NOTE_CHARS_MAX,
        problem: None,
        found: None,
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

/// Draws pictures: for a blocking thread.
fn lay_out(
    name: Option<&str>,
    (case, answer): (Option<CaseId>, &ScoreAnswer),
) -> Result<(Findings, ReviewResult), MediaError> {
    let (examination, recorded) = (&answer.examination, &answer.recorded);
    let decoded = &examination.decoded;
    let picture = work::to_picture(decoded.width, decoded.height, &decoded.rgb)?;
    let shown = Shown {
        picture: Some(picture.upright(decoded.orientation)),
        strips: strips::draw(examination)?,
    };
    let report = ScoreReport::new(examination);
    let index = recorded.leaf_index.get();
    let result = ReviewResult {
        entry_index: index,
        bundle: pictures::inline_bundle(&recorded.bundle),
        bundle_name: present::bundle_name(index),
        facts: facts(examination, recorded),
        command: present::verify_command(index, false),
        case: case.map(CaseId::get),
    };
    Ok((findings::lay_out(&report, name, shown)?, result))
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
