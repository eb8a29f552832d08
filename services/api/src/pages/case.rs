//! `/cases/{id}` and its forms

use ::ledger::{Case, CaseId, CaseNote, Decision, Scope};
use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::case_view::{CasePage, ClosingView, DecisionView, NoteView};
use super::cases::decision;
use super::findings::{self, Shown};
use super::view::{Fact, Findings, Place, Strip};
use super::visitor::{PageError, Visitor, shown_error};
use super::{present, respond, strips};
use crate::problem::{Problem, kinds};
use crate::work::{self, ScoreReport, WorkError};

/// What the address asks for beside the case.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wish {
    /// Not empty: show the process in pictures.
    process: String,
}

/// A note as the form sends it.
#[derive(Debug, Deserialize)]
pub(super) struct NoteFields {
    note: String,
}

/// A decision as the form sends it.
#[derive(Debug, Deserialize)]
pub(super) struct CloseFields {
    decision: String,
    #[serde(default)]
    note: String,
}

/// One case.
pub(super) async fn show(
    visitor: Visitor,
    id: web::Path<String>,
    wish: web::Query<Wish>,
) -> Result<HttpResponse, PageError> {
    let id = parse(&visitor, &id)?;
    let wants_process = !wish.process.is_empty();
    let page = page(&visitor, id, wants_process).await;
    let page = page.map_err(|error| visitor.refuse(error))?;
    Ok(respond::page(StatusCode::OK, &page))
}

/// Adds a note.
pub(super) async fn add_note(
    visitor: Visitor,
    id: web::Path<String>,
    fields: web::Form<NoteFields>,
) -> Result<HttpResponse, PageError> {
    let id = parse(&visitor, &id)?;
    let note = fields.into_inner().note;
    let added = work::add_case_note(&visitor.state, &visitor.caller, id, note.clone()).await;
    back(&visitor, id, (added, note)).await
}

/// Closes the case.
pub(super) async fn close(
    visitor: Visitor,
    id: web::Path<String>,
    fields: web::Form<CloseFields>,
) -> Result<HttpResponse, PageError> {
    let id = parse(&visitor, &id)?;
    let CloseFields { decision, note } = fields.into_inner();
    let decision: Decision = decision
        .parse()
        .map_err(|error: ::ledger::LedgerError| visitor.refuse(error))?;
    let reason = (!note.trim().is_empty()).then(|| note.clone());
    let (state, caller) = (&visitor.state, &visitor.caller);
    let closed = work::close_case(state, caller, id, (decision, reason)).await;
    back(&visitor, id, (closed, note)).await
}

/// Erases the kept upload.
pub(super) async fn erase(
    visitor: Visitor,
    id: web::Path<String>,
) -> Result<HttpResponse, PageError> {
    let id = parse(&visitor, &id)?;
    let erased = work::erase_case_upload(&visitor.state, &visitor.caller, id).await;
    back(&visitor, id, (erased, String::new())).await
}

/// Back to the case, or the case with the refusal and what was written.
async fn back(
    visitor: &Visitor,
    id: CaseId,
    (done, note): (Result<(), WorkError>, String),
) -> Result<HttpResponse, PageError> {
    let Err(error) = done else {
        return Ok(HttpResponse::SeeOther()
            .insert_header((LOCATION, format!("/cases/{id}")))
            .finish());
    };
    let (status, problem) = shown_error(error);
    let page = page(visitor, id, false).await;
    let mut page = page.map_err(|error| visitor.refuse(error))?;
    page.problem = Some(problem);
    page.note = note;
    Ok(respond::page(status, &page))
}

fn parse(visitor: &Visitor, id: &str) -> Result<CaseId, PageError> {
    if !visitor.caller.may(Scope::Audit) {
        visitor.require(Scope::Score)?;
    }
    id.parse().map(CaseId::new).map_err(|_| {
        let detail = "a case is named by its number";
        visitor.refuse(Problem::new(kinds::NOT_FOUND, detail))
    })
}

async fn page(visitor: &Visitor, id: CaseId, process: bool) -> Result<CasePage, WorkError> {
    let (case, notes) = work::case(&visitor.state, &visitor.caller, id).await?;
    let report: Option<ScoreReport> = serde_json::from_str(&case.report).ok();
    let content = content(visitor, (&case, report), process).await?;
    let may_change = work::may_change(&visitor.caller, &case);
    let entry_index = case.leaf_index.get();
    Ok(CasePage {
        frame: visitor.frame(format!("Case {id}"), Place::Cases),
        id: id.get(),
        opened: present::time(case.opened_at_ms),
        entry_index,
        closing: case.closing.as_ref().map(|closing| ClosingView {
            decision: decision(closing.decision),
            by: closing.by.clone(),
            time: present::time(closing.at_ms),
        }),
        decisions: Decision::ALL.map(choice).to_vec(),
        notes: notes.into_iter().map(note_view).collect(),
        note_chars_max: ::ledger::NOTE_CHARS_MAX,
        note: String::new(),
        problem: None,
        found: content.found,
        upload_missing: content.upload_missing,
        may_change,
        may_erase: may_change && case.erased_at_ms.is_none(),
        offers_process: content.offers_process,
        process_note: content.process_note,
        facts: facts(&case),
        command: present::verify_command(entry_index, false),
        bundle: present::bundle_address(entry_index),
        client: case.client,
    })
}

/// What a case's page shows of its upload and of what was found.
#[derive(Default)]
struct Content {
    found: Option<Findings>,
    upload_missing: Option<String>,
    offers_process: bool,
    process_note: Option<String>,
}

async fn content(
    visitor: &Visitor,
    (case, report): (&Case, Option<ScoreReport>),
    wants_process: bool,
) -> Result<Content, WorkError> {
    let (state, caller) = (&visitor.state, &visitor.caller);
    let Some(report) = report else {
        let missing = "What was found cannot be read by this version.".to_owned();
        return Ok(Content {
            upload_missing: Some(missing),
            ..Content::default()
        });
    };
    let (picture, upload_missing) = match work::case_picture(state, caller, case.id).await {
        Ok((_, picture)) => (Some(picture), None),
        Err(WorkError::NoUpload { reason, .. }) => {
            let detail = format!("The picture is not here: {reason}.");
            (None, Some(detail))
        }
        Err(error) => return Err(error),
    };
    let has_picture = picture.is_some();
    let (strips, process_note) = if wants_process && has_picture {
        process(visitor, case.id, &report).await?
    } else {
        (Vec::new(), None)
    };
    let name = case.file_name.clone();
    let shown = Shown { picture, strips };
    let drawing = move || findings::lay_out(&report, name.as_deref(), shown);
    let drawn = web::block(drawing).await;
    let found = drawn
        .map_err(|_| WorkError::Interrupted)?
        .map_err(WorkError::Encode)?;
    Ok(Content {
        offers_process: has_picture && found.strips.is_empty(),
        found: Some(found),
        upload_missing,
        process_note,
    })
}

/// The process in pictures, made anew from the kept upload.
async fn process(
    visitor: &Visitor,
    id: CaseId,
    report: &ScoreReport,
) -> Result<(Vec<Strip>, Option<String>), WorkError> {
    let (state, caller) = (&visitor.state, &visitor.caller);
    let again = work::examine_case(state, caller, id, strips::STRIP_PICTURES).await?;
    let now = &again.assessment.detector_version;
    let other = (now != &report.assessment.detector_version).then(|| {
        format!(
            "These pictures are made now, by the detector {now}; the findings above are those of {}.",
            report.assessment.detector_version
        )
    });
    let drawn = web::block(move || strips::draw(&again)).await;
    let drawn = drawn.map_err(|_| WorkError::Interrupted)?;
    Ok((drawn.map_err(WorkError::Encode)?, other))
}

fn choice(choice: Decision) -> DecisionView {
    DecisionView {
        value: choice.as_str(),
        label: decision(choice),
    }
}

fn note_view(note: CaseNote) -> NoteView {
    NoteView {
        author: note.author,
        time: present::time(note.written_at_ms),
        text: note.note,
    }
}

fn facts(case: &Case) -> Vec<Fact> {
    let mut facts = vec![
        Fact::plain("Opened (UTC)", present::time(case.opened_at_ms).text),
        Fact::plain("Client", &case.client),
        Fact::mono("File digest", case.upload_sha256.to_string()),
        Fact::plain("Size", format!("{} bytes", case.upload_bytes)),
    ];
    if let Some(salt) = case.upload_salt {
        facts.push(Fact::mono("Salt", hex::encode(salt)));
    }
    if let Some(erased) = case.erased_at_ms {
        facts.push(Fact::plain("Erased (UTC)", present::time(erased).text));
    }
    facts
}
