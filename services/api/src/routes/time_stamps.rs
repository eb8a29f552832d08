//! `/v1/checkpoints/…`: checkpoints as they were published, and their time stamps. Open to everyone, as the newest
//! checkpoint is.

use actix_web::http::header::{CACHE_CONTROL, ContentType};
use actix_web::{HttpResponse, web};
use provenance::TreeSize;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::{Problem, ProblemBody};
use crate::state::AppState;
use crate::time_stamps::REPLY_TYPE;
use crate::work;

/// What was published once never changes.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// Time stamps of a page when nobody says how many.
const PAGE_TIME_STAMPS: u32 = 20;

/// The checkpoint that was published for this tree size, as the log alone has signed it: the bytes that its time
/// stamp is over. Cosignatures of witnesses are not in it.
#[utoipa::path(
    get,
    path = "/v1/checkpoints/{tree_size}",
    tag = "audit",
    params(("tree_size" = u64, Path, description = "Size of a published checkpoint")),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn checkpoint(
    state: web::Data<AppState>,
    tree_size: web::Path<u64>,
) -> Result<HttpResponse, Problem> {
    let checkpoint = work::checkpoint(&state, TreeSize::new(tree_size.into_inner())).await?;
    Ok(HttpResponse::Ok()
        .content_type(ContentType::plaintext())
        .insert_header((CACHE_CONTROL, IMMUTABLE))
        .body(checkpoint.text_of_log()))
}

/// The time stamp (RFC 3161) of the checkpoint of this tree size: the authority's answer, whose imprint is the SHA-256
/// of what `/v1/checkpoints/{tree_size}` answers.
#[utoipa::path(
    get,
    path = "/v1/checkpoints/{tree_size}/time-stamp",
    tag = "audit",
    params(("tree_size" = u64, Path, description = "Size of a checkpoint that was stamped")),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/timestamp-reply"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn reply(
    state: web::Data<AppState>,
    tree_size: web::Path<u64>,
) -> Result<HttpResponse, Problem> {
    let kept = work::time_stamp(&state, TreeSize::new(tree_size.into_inner())).await?;
    Ok(HttpResponse::Ok()
        .content_type(REPLY_TYPE)
        .insert_header((CACHE_CONTROL, IMMUTABLE))
        .body(kept.reply))
}

/// Which time stamps.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TimeStampQuery {
    /// Only those of smaller trees: the `next` of the page before.
    before: Option<u64>,
    /// How many, 1 to 100; 20 when left out.
    limit: Option<u32>,
}

/// Time stamps of checkpoints, that of the largest tree first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TimeStampList {
    /// The time stamps.
    time_stamps: Vec<TimeStampBody>,
    /// Where the next page begins, as its `before`; null when this may be the last page.
    next: Option<u64>,
}

/// A checkpoint with a time stamp.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CheckpointTimeStamp)]
pub(super) struct TimeStampBody {
    /// Size of the tree.
    tree_size: u64,
    /// Its root hash, hexadecimal.
    root_hash: String,
    /// The note that is stamped, byte for byte.
    note: String,
    /// The time that the authority states, RFC 3339 in UTC.
    time: Option<String>,
    /// Where the authority's answer is.
    url: String,
}

/// The checkpoints that a time-stamping authority has stamped.
#[utoipa::path(
    get,
    path = "/v1/checkpoints/time-stamps",
    tag = "audit",
    params(TimeStampQuery),
    responses(
        (status = 200, body = TimeStampList),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    state: web::Data<AppState>,
    query: web::Query<TimeStampQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = query.limit.unwrap_or(PAGE_TIME_STAMPS);
    let before = query.before.map(TreeSize::new);
    let kept = work::time_stamps(&state, before, limit).await?;
    let is_full = kept.len() == limit as usize;
    let last = kept.last().map(|(kept, _)| kept.tree_size.get());
    let body = |(kept, time_s): (ledger::KeptTimeStamp, i64)| TimeStampBody {
        tree_size: kept.tree_size.get(),
        root_hash: kept.root_hash.to_string(),
        note: kept.note,
        time: credentials::rfc3339(time_s),
        url: format!("/v1/checkpoints/{}/time-stamp", kept.tree_size),
    };
    Ok(HttpResponse::Ok().json(TimeStampList {
        time_stamps: kept.into_iter().map(body).collect(),
        next: last.filter(|_| is_full),
    }))
}
