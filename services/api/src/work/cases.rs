//! Open a review case, read it, decide it.

use std::sync::Arc;

use ledger::{
    Case, CaseFilter, CaseId, CaseNote, CasePage, Decision, LedgerError, NewCase, NewCaseNote,
    Scope,
};
use media::Picture;

use super::score::{Means, examine_in_turn, score};
use super::{Examination, ScoreAnswer, ScoreReport, Upload, WorkError, to_picture};
use crate::access::Caller;
use crate::kept_uploads::UploadName;
use crate::state::AppState;

/// A case that was opened, and the score that it is about.
#[derive(Debug, Clone)]
pub struct OpenedCase {
    /// Its number.
    pub id: CaseId,
    /// The score.
    pub answer: ScoreAnswer,
}

/// Scores an upload as [`score`] does, and keeps it in a case.
///
/// # Errors
/// See [`WorkError`]. When the case cannot be opened after all, the score stays recorded.
pub async fn open_case(
    state: &Arc<AppState>,
    caller: &Caller,
    upload: Upload,
    note: Option<String>,
) -> Result<OpenedCase, WorkError> {
    let limits = &state.config.limits;
    let (bytes_max, upload_bytes) = (limits.case_bytes_max, upload.bytes.len() as u64);
    let ledger = state.ledger.clone();
    let room = async move { Ok(ledger.check_case_room(upload_bytes, bytes_max).await?) };
    check_note(note.as_deref())?;
    state.run(room).await?;
    let (bytes, file_name) = (upload.bytes.clone(), upload.file_name.clone());
    let answer = score(state, caller, upload).await?;
    let report = ScoreReport::new(&answer.examination);
    let report = serde_json::to_string(&report).expect("reports are plain data");
    let (state, client) = (Arc::clone(state), caller.client.clone());
    // Not dropped when the client leaves: what was begun here is brought to its end.
    let runtime = state.runtime.clone();
    let keeping = runtime.spawn(async move {
        let case = NewCase {
            client: &client,
            leaf_index: answer.recorded.leaf_index,
            upload_sha256: answer.examination.sha256,
            upload_bytes,
            upload_salt: answer.recorded.upload_salt,
            file_name: file_name.as_deref(),
            report: &report,
            note: note.as_deref(),
        };
        let id = state.ledger.open_case(&case, bytes_max).await?;
        let name = UploadName {
            case: id,
            sha256: case.upload_sha256,
        };
        keep(&state, name, bytes).await?;
        Ok(OpenedCase { id, answer })
    });
    keeping.await.unwrap_or(Err(WorkError::Interrupted))
}

/// Puts the upload of a case into the store.
async fn keep(state: &Arc<AppState>, name: UploadName, bytes: Vec<u8>) -> Result<(), WorkError> {
    // A crash here leaves a case without its upload, which its page says.
    let store = state.cases.clone();
    let kept = tokio::task::spawn_blocking(move || store.put(&name, &bytes)).await;
    match kept.map_err(|_| WorkError::Interrupted)? {
        // A crash here leaves a file whose case does not say that it is there; erasing removes it.
        Ok(()) => Ok(state.ledger.case_upload_kept(name.case).await?),
        Err(error) => {
            // The case gives its room back. Should this fail too, erasing by hand does the same.
            state.ledger.case_upload_erased(name.case).await?;
            Err(WorkError::Images(error))
        }
    }
}

/// One page of the cases that the caller may see, newest first.
///
/// # Errors
/// When the page is empty or over its limit.
pub async fn list_cases(
    state: &Arc<AppState>,
    caller: &Caller,
    asked: CaseList,
) -> Result<CasePage, WorkError> {
    let limits = &state.config.limits;
    let most = limits.cases_per_page_max.min(ledger::PAGE_CASES_MAX);
    let limit = asked.limit.unwrap_or(most);
    if limit == 0 || limit > most {
        let detail = format!("limit is {limit}, it must be 1 to cases_per_page_max ({most})");
        return Err(WorkError::invalid("limit", detail));
    }
    let client = (!caller.may(Scope::Audit)).then(|| caller.client.clone());
    let ledger = state.ledger.clone();
    let listing = async move {
        let filter = CaseFilter {
            client: client.as_deref(),
            open: asked.open,
        };
        Ok(ledger.list_cases(&filter, asked.before, limit).await?)
    };
    state.run(listing).await
}

/// Which cases are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CaseList {
    /// Open ones or closed ones alone.
    pub open: Option<bool>,
    /// Those below this number.
    pub before: Option<CaseId>,
    /// How many at most; as many as the limit allows when none is named.
    pub limit: Option<u32>,
}

/// One case with its notes.
///
/// # Errors
/// When there is no such case, or none that the caller may see: both are answered alike.
pub async fn case(
    state: &Arc<AppState>,
    caller: &Caller,
    id: CaseId,
) -> Result<(Case, Vec<CaseNote>), WorkError> {
    let (ledger, caller) = (state.ledger.clone(), caller.clone());
    let reading = async move {
        let case = visible_case(&ledger, &caller, id).await?;
        Ok((case, ledger.case_notes(id).await?))
    };
    state.run(reading).await
}

/// The kept upload of a case, byte for byte.
///
/// # Errors
/// When there is no such case, or its upload was erased or never became durable.
pub async fn case_upload(
    state: &Arc<AppState>,
    caller: &Caller,
    id: CaseId,
) -> Result<(Case, Vec<u8>), WorkError> {
    let (case, _) = case(state, caller, id).await?;
    let reason = match (case.is_kept, case.erased_at_ms) {
        (_, Some(_)) => Some("it was erased"),
        (false, None) => Some("opening the case was interrupted before it was kept"),
        (true, None) => None,
    };
    if let Some(reason) = reason {
        let case = id.get();
        return Err(WorkError::NoUpload { case, reason });
    }
    let (store, name) = (state.cases.clone(), name_of(&case));
    let read = tokio::task::spawn_blocking(move || store.get(&name)).await;
    let bytes = read
        .map_err(|_| WorkError::Interrupted)?
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => WorkError::NoUpload {
                case: id.get(),
                reason: "its file is not in this service's store",
            },
            _ => WorkError::Images(error),
        })?;
    Ok((case, bytes))
}

/// The kept picture of a case, decoded anew and turned upright: nothing of the file but its pixels.
///
/// # Errors
/// As [`case_upload`], and what the parser says.
pub async fn case_picture(
    state: &Arc<AppState>,
    caller: &Caller,
    id: CaseId,
) -> Result<(Case, Picture), WorkError> {
    let (case, bytes) = case_upload(state, caller, id).await?;
    let shared = Arc::clone(state);
    let parsing = async move {
        let _turn = shared.scores.take().await?;
        Ok(shared.sandbox.parse(&bytes).await?.decoded)
    };
    let decoded = state.run(parsing).await?;
    let turning = tokio::task::spawn_blocking(move || {
        let picture = to_picture(decoded.width, decoded.height, &decoded.rgb);
        picture.map(|picture| picture.upright(decoded.orientation))
    });
    let picture = turning.await.map_err(|_| WorkError::Interrupted)?;
    Ok((case, picture.map_err(WorkError::Encode)?))
}

/// Examines the kept upload of a case once more, for the pictures of the process. Nothing is
/// recorded, and the case's own findings stay what they were.
///
/// # Errors
/// As [`case_upload`], and as a score.
pub async fn examine_case(
    state: &Arc<AppState>,
    caller: &Caller,
    id: CaseId,
    strip_pictures: usize,
) -> Result<Examination, WorkError> {
    let (_, bytes) = case_upload(state, caller, id).await?;
    let upload = Upload {
        bytes,
        file_name: None,
        media_type: None,
        strip_pictures,
    };
    let shared = Arc::clone(state);
    let work = async move {
        let turn = shared.scores.take().await?;
        examine_in_turn(Means::of(&shared), &shared.sandbox, upload, turn).await
    };
    state.run(work).await
}

/// Adds a note to a case.
///
/// # Errors
/// When the caller may not change the case, and for notes over their limits.
pub async fn add_case_note(
    state: &Arc<AppState>,
    caller: &Caller,
    id: CaseId,
    note: String,
) -> Result<(), WorkError> {
    check_note(Some(&note))?;
    let notes_max = state.config.limits.case_notes_max;
    let (ledger, caller) = (state.ledger.clone(), caller.clone());
    let adding = async move {
        changeable_case(&ledger, &caller, id).await?;
        let author = &caller.client;
        Ok(ledger
            .add_case_note(
                id,
                NewCaseNote {
                    author,
                    note: &note,
                },
                notes_max,
            )
            .await?)
    };
    state.run(adding).await
}

/// Closes a case with the reviewer's decision, and a note where there is one.
///
/// # Errors
/// When the caller may not change the case, and when it is closed already.
pub async fn close_case(
    state: &Arc<AppState>,
    caller: &Caller,
    id: CaseId,
    (decision, note): (Decision, Option<String>),
) -> Result<(), WorkError> {
    check_note(note.as_deref())?;
    let notes_max = state.config.limits.case_notes_max;
    let (ledger, caller) = (state.ledger.clone(), caller.clone());
    let closing = async move {
        let case = changeable_case(&ledger, &caller, id).await?;
        if case.closing.is_some() {
            return Err(LedgerError::CaseClosed.into());
        }
        let author = &caller.client;
        // A crash after the note leaves an open case with its reason, to be closed again.
        if let Some(note) = note {
            ledger
                .add_case_note(
                    id,
                    NewCaseNote {
                        author,
                        note: &note,
                    },
                    notes_max,
                )
                .await?;
        }
        Ok(ledger.close_case(id, author, decision).await?)
    };
    state.run(closing).await
}

/// Erases the kept upload of a case: file, name and salt. Findings, notes and decision stay.
///
/// # Errors
/// When the caller may not change the case, or the disk refuses.
pub async fn erase_case_upload(
    state: &Arc<AppState>,
    caller: &Caller,
    id: CaseId,
) -> Result<(), WorkError> {
    let (shared, caller) = (Arc::clone(state), caller.clone());
    let erasing = async move {
        let case = changeable_case(&shared.ledger, &caller, id).await?;
        let (store, name) = (shared.cases.clone(), name_of(&case));
        let erased = tokio::task::spawn_blocking(move || store.erase(&name)).await;
        erased
            .map_err(|_| WorkError::Interrupted)?
            .map_err(WorkError::Images)?;
        // A crash here leaves a case that believes in its file; erasing again repairs it.
        Ok(shared.ledger.case_upload_erased(id).await?)
    };
    state.run(erasing).await
}

/// Whether the caller may add to a case, decide it and erase its upload: the client that opened it,
/// and administrators.
#[must_use]
pub fn may_change(caller: &Caller, case: &Case) -> bool {
    let own = case.client == caller.client && caller.may(Scope::Score);
    own || caller.may(Scope::Admin)
}

fn name_of(case: &Case) -> UploadName {
    UploadName {
        case: case.id,
        sha256: case.upload_sha256,
    }
}

async fn visible_case(
    ledger: &ledger::Ledger,
    caller: &Caller,
    id: CaseId,
) -> Result<Case, WorkError> {
    let case = ledger.case(id).await?;
    case.filter(|case| may_change(caller, case) || caller.may(Scope::Audit))
        .ok_or(WorkError::Ledger(LedgerError::NoSuchCase))
}

async fn changeable_case(
    ledger: &ledger::Ledger,
    caller: &Caller,
    id: CaseId,
) -> Result<Case, WorkError> {
    let case = visible_case(ledger, caller, id).await?;
    if !may_change(caller, &case) {
        return Err(WorkError::ForeignCase { case: id.get() });
    }
    Ok(case)
}

/// Refuses a note before any work: the ledger would refuse it after.
fn check_note(note: Option<&str>) -> Result<(), WorkError> {
    let Some(note) = note else {
        return Ok(());
    };
    let chars_max = ledger::NOTE_CHARS_MAX;
    if note.trim().is_empty() || note.chars().count() > chars_max {
        let detail = format!("a note has 1 to {chars_max} characters");
        return Err(WorkError::invalid("note", detail));
    }
    Ok(())
}
