//! `/v1/cases`

use actix_web::http::header::{
    CONTENT_DISPOSITION, CONTENT_TYPE, ContentDisposition, DispositionParam, DispositionType,
    LOCATION,
};
use actix_web::{HttpRequest, HttpResponse, web};
use ledger::{Case, CaseId, CaseNote, Closing, Decision};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::scores::ScoreResponse;
use super::uploads::{CaseForm, CaseRequest, FormFields, read_upload};
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody};
use crate::state::AppState;
use crate::work::{self, CaseList};

/// A review case.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Case)]
pub(super) struct CaseBody {
    /// Its number.
    id: i64,
    /// `open` or `closed`.
    state: &'static str,
    /// The client that opened it.
    client: String,
    /// When, in milliseconds since 1970 UTC.
    opened_at_ms: u64,
    /// The signed score entry that it is about.
    leaf_index: u64,
    /// Where that entry is.
    entry_url: String,
    /// The kept upload.
    upload: KeptBody,
    /// What was found: verdict, evidence, heatmap, trace curve.
    #[schema(value_type = Object)]
    report: Value,
    /// The reviewer's decision; null while the case is open.
    closing: Option<ClosingBody>,
    /// Notes, oldest first; left out of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<Vec<NoteBody>>,
}

/// The upload of a case.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeptBody {
    /// SHA-256 of the file.
    sha256: String,
    /// Length of the file.
    bytes: u64,
    /// Name that it came with; null once it is erased.
    file_name: Option<String>,
    /// Opens the entry's upload commitment; null once the upload is erased.
    salt: Option<String>,
    /// Whether the file is kept.
    kept: bool,
    /// When it was erased, in milliseconds since 1970 UTC.
    erased_at_ms: Option<u64>,
    /// The picture, decoded and encoded anew, while it is kept.
    image_url: Option<String>,
    /// The file, byte for byte, as a download, while it is kept.
    upload_url: Option<String>,
}

/// How a case was closed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClosingBody {
    /// `generated`, `not_generated` or `undecided`.
    decision: &'static str,
    /// The client that closed it.
    by: String,
    /// When, in milliseconds since 1970 UTC.
    at_ms: u64,
}

/// A note.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NoteBody {
    /// The client that wrote it.
    author: String,
    /// When, in milliseconds since 1970 UTC.
    written_at_ms: u64,
    /// The text.
    note: String,
}

impl CaseBody {
    fn new(case: Case, notes: Option<Vec<CaseNote>>) -> Self {
        let id = case.id.get();
        let url = |what: &str| case.has_upload().then(|| format!("/v1/cases/{id}/{what}"));
        let upload = KeptBody {
            sha256: case.upload_sha256.to_string(),
            bytes: case.upload_bytes,
            salt: case.upload_salt.map(hex::encode),
            kept: case.has_upload(),
            erased_at_ms: case.erased_at_ms,
            image_url: url("image"),
            upload_url: url("upload"),
            file_name: case.file_name,
        };
        let leaf_index = case.leaf_index.get();
        Self {
            id,
            state: if case.closing.is_some() {
                "closed"
            } else {
                "open"
            },
            client: case.client,
            opened_at_ms: case.opened_at_ms,
            leaf_index,
            entry_url: format!("/v1/entries/{leaf_index}"),
            upload,
            report: serde_json::from_str(&case.report).unwrap_or(Value::Null),
            closing: case.closing.map(ClosingBody::from),
            notes: notes.map(|notes| notes.into_iter().map(NoteBody::from).collect()),
        }
    }
}

impl From<Closing> for ClosingBody {
    fn from(closing: Closing) -> Self {
        Self {
            decision: closing.decision.as_str(),
            by: closing.by,
            at_ms: closing.at_ms,
        }
    }
}

impl From<CaseNote> for NoteBody {
    fn from(note: CaseNote) -> Self {
        Self {
            author: note.author,
            written_at_ms: note.written_at_ms,
            note: note.note,
        }
    }
}

/// The answer to an opened case.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OpenedBody {
    /// The case.
    case: CaseBody,
    /// The score, as `POST /v1/scores` answers it.
    score: ScoreResponse,
}

/// One page of cases.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CasesBody {
    /// The cases, newest first.
    cases: Vec<CaseBody>,
    /// The `before` of the next page; null on the last one.
    next: Option<i64>,
}

/// Which cases to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct CasesQuery {
    /// `open` or `closed`; both when left out.
    state: Option<String>,
    /// Only cases below this number.
    before: Option<i64>,
    /// Cases of the page, at most `cases_per_page_max`.
    limit: Option<u32>,
}

/// A note to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoteRequest {
    /// The text, 1 to 10,000 characters.
    note: String,
}

/// How to close a case.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CloseRequest {
    /// The reviewer's decision: `generated`, `not_generated` or `undecided`.
    decision: String,
    /// The reason, as a last note.
    note: Option<String>,
}

/// Score a picture and keep it in a review case.
#[utoipa::path(
    post,
    path = "/v1/cases",
    tag = "cases",
    request_body(content(
        (CaseForm = "multipart/form-data"),
        (CaseRequest = "application/json")
    )),
    responses(
        (status = 201, body = OpenedBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["score"]))
)]
pub(super) async fn open(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(ledger::Scope::Score)?;
    let form = read_upload(&state, &request, (payload, FormFields::Case)).await?;
    let opened = work::open_case(&state, &caller, form.upload, form.note).await?;
    let (case, notes) = work::case(&state, &caller, opened.id).await?;
    let score = web::block(move || ScoreResponse::new(opened.answer)).await;
    let score = score.map_err(|error| Problem::internal(&error))??;
    let case = CaseBody::new(case, Some(notes));
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("/v1/cases/{}", case.id)))
        .json(OpenedBody { case, score }))
}

/// Review cases, newest first: a client's own, or with the scope audit all.
#[utoipa::path(
    get,
    path = "/v1/cases",
    tag = "cases",
    params(CasesQuery),
    responses(
        (status = 200, body = CasesBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["score"]), ("key" = ["audit"]))
)]
pub(super) async fn list(
    state: web::Data<AppState>,
    caller: Caller,
    query: web::Query<CasesQuery>,
) -> Result<HttpResponse, Problem> {
    require_reader(&caller)?;
    let open = match query.state.as_deref() {
        None => None,
        Some("open") => Some(true),
        Some("closed") => Some(false),
        Some(_) => return Err(Problem::invalid("state", "state is open or closed")),
    };
    let asked = CaseList {
        open,
        before: query.before.map(CaseId::new),
        limit: query.limit,
    };
    let page = work::list_cases(&state, &caller, asked).await?;
    let cases = page.cases.into_iter();
    Ok(HttpResponse::Ok().json(CasesBody {
        cases: cases.map(|case| CaseBody::new(case, None)).collect(),
        next: page.next.map(CaseId::get),
    }))
}

/// One review case with its notes.
#[utoipa::path(
    get,
    path = "/v1/cases/{id}",
    tag = "cases",
    params(("id" = i64, Path, description = "Number of the case")),
    responses(
        (status = 200, body = CaseBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["score"]), ("key" = ["audit"]))
)]
pub(super) async fn get(
    state: web::Data<AppState>,
    caller: Caller,
    id: web::Path<i64>,
) -> Result<HttpResponse, Problem> {
    require_reader(&caller)?;
    answer(&state, &caller, CaseId::new(*id)).await
}

/// The kept picture as PNG: decoded and encoded anew, turned upright, so that nothing of the
/// uploaded file but its pixels reaches the reader.
#[utoipa::path(
    get,
    path = "/v1/cases/{id}/image",
    tag = "cases",
    params(("id" = i64, Path, description = "Number of the case")),
    responses(
        (status = 200, body = Vec<u8>, content_type = "image/png"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["score"]), ("key" = ["audit"]))
)]
pub(super) async fn image(
    state: web::Data<AppState>,
    caller: Caller,
    id: web::Path<i64>,
) -> Result<HttpResponse, Problem> {
    require_reader(&caller)?;
    let (_, picture) = work::case_picture(&state, &caller, CaseId::new(*id)).await?;
    let png = web::block(move || picture.to_png()).await;
    let png = png
        .map_err(|error| Problem::internal(&error))?
        .map_err(|error| Problem::internal(&error))?;
    let disposition = named(DispositionType::Inline, format!("case-{id}.png"));
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media::Format::Png.media_type()))
        .insert_header((CONTENT_DISPOSITION, disposition))
        .body(png))
}

/// The kept upload, byte for byte, as a download. Its bytes are a stranger's: open it with care.
#[utoipa::path(
    get,
    path = "/v1/cases/{id}/upload",
    tag = "cases",
    params(("id" = i64, Path, description = "Number of the case")),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["score"]), ("key" = ["audit"]))
)]
pub(super) async fn upload(
    state: web::Data<AppState>,
    caller: Caller,
    id: web::Path<i64>,
) -> Result<HttpResponse, Problem> {
    require_reader(&caller)?;
    let (_, bytes) = work::case_upload(&state, &caller, CaseId::new(*id)).await?;
    // No browser shows this, nor takes it for anything: the headers of every answer forbid guessing.
    let disposition = named(DispositionType::Attachment, format!("case-{id}.upload"));
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/octet-stream"))
        .insert_header((CONTENT_DISPOSITION, disposition))
        .body(bytes))
}

/// Add a note to a case.
#[utoipa::path(
    post,
    path = "/v1/cases/{id}/notes",
    tag = "cases",
    params(("id" = i64, Path, description = "Number of the case")),
    request_body = NoteRequest,
    responses(
        (status = 200, body = CaseBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["score"]), ("key" = ["admin"]))
)]
pub(super) async fn add_note(
    state: web::Data<AppState>,
    caller: Caller,
    id: web::Path<i64>,
    request: web::Json<NoteRequest>,
) -> Result<HttpResponse, Problem> {
    require_reader(&caller)?;
    let id = CaseId::new(*id);
    work::add_case_note(&state, &caller, id, request.into_inner().note).await?;
    answer(&state, &caller, id).await
}

/// Close a case with the reviewer's decision.
#[utoipa::path(
    post,
    path = "/v1/cases/{id}/close",
    tag = "cases",
    params(("id" = i64, Path, description = "Number of the case")),
    request_body = CloseRequest,
    responses(
        (status = 200, body = CaseBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["score"]), ("key" = ["admin"]))
)]
pub(super) async fn close(
    state: web::Data<AppState>,
    caller: Caller,
    id: web::Path<i64>,
    request: web::Json<CloseRequest>,
) -> Result<HttpResponse, Problem> {
    require_reader(&caller)?;
    let (id, request) = (CaseId::new(*id), request.into_inner());
    let decision: Decision = request.decision.parse()?;
    work::close_case(&state, &caller, id, (decision, request.note)).await?;
    answer(&state, &caller, id).await
}

/// Erase the kept upload of a case: file, name and salt. Findings, notes and decision stay.
#[utoipa::path(
    delete,
    path = "/v1/cases/{id}/image",
    tag = "cases",
    params(("id" = i64, Path, description = "Number of the case")),
    responses(
        (status = 200, body = CaseBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["score"]), ("key" = ["admin"]))
)]
pub(super) async fn erase(
    state: web::Data<AppState>,
    caller: Caller,
    id: web::Path<i64>,
) -> Result<HttpResponse, Problem> {
    require_reader(&caller)?;
    let id = CaseId::new(*id);
    work::erase_case_upload(&state, &caller, id).await?;
    answer(&state, &caller, id).await
}

async fn answer(
    state: &web::Data<AppState>,
    caller: &Caller,
    id: CaseId,
) -> Result<HttpResponse, Problem> {
    let (case, notes) = work::case(state, caller, id).await?;
    Ok(HttpResponse::Ok().json(CaseBody::new(case, Some(notes))))
}

/// Which cases a caller sees is decided case by case; without either scope it is none.
fn require_reader(caller: &Caller) -> Result<(), Problem> {
    if caller.may(ledger::Scope::Audit) {
        return Ok(());
    }
    caller.require(ledger::Scope::Score)
}

fn named(disposition: DispositionType, file_name: String) -> ContentDisposition {
    ContentDisposition {
        disposition,
        parameters: vec![DispositionParam::Filename(file_name)],
    }
}
