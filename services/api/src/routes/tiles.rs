//! `/tile/…`: the log as files that never change (C2SP tlog-tiles).
//!
//! Hash tiles are open to everyone, as the checkpoint is: they hold hashes alone. Entry bundles say who
//! did what, so they need the scope of `/v1/entries`.

use std::sync::Arc;

use actix_web::http::header::{CACHE_CONTROL, ContentType};
use actix_web::{HttpRequest, HttpResponse, web};
use ledger::Scope;
use provenance::{Tile, TileLevel};

use crate::access::identify;
use crate::problem::{Problem, ProblemBody, kinds};
use crate::state::AppState;
use crate::work;

/// A tile of this name never changes; a year is the longest that caches take seriously.
const OPEN: &str = "public, max-age=31536000, immutable";
/// The same for what only holders of a key may read: no cache that several share may keep it.
const CLOSED: &str = "private, max-age=31536000, immutable";

/// A hash tile: up to 256 hashes of 32 bytes.
#[utoipa::path(
    get,
    path = "/tile/{level}/{index}",
    tag = "audit",
    params(
        ("level" = u8, Path, description = "Level of the tile, 0 for leaf hashes"),
        ("index" = String, Path, description = "Index as in x001/x234/067, with .p/W when partial")
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn hashes(
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    answer(&state, &request).await
}

/// An entry bundle: up to 256 envelopes, each behind its length as a big-endian 16-bit number.
#[utoipa::path(
    get,
    path = "/tile/entries/{index}",
    tag = "audit",
    params(
        ("index" = String, Path, description = "Index as in x001/x234/067, with .p/W when partial")
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["audit"]))
)]
pub(super) async fn entries(
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    answer(&state, &request).await
}

/// Who may read depends on the parsed tile alone, whichever resource the path came in by.
async fn answer(state: &Arc<AppState>, request: &HttpRequest) -> Result<HttpResponse, Problem> {
    // The path as it was sent: each tile has one spelling, so percent signs name nothing.
    let path = request.uri().path();
    let not_found = |detail: String| Problem::new(kinds::NOT_FOUND, detail);
    let tile: Tile = path
        .strip_prefix('/')
        .unwrap_or(path)
        .parse()
        .map_err(|refusal| not_found(format!("no tile has this path: {refusal}")))?;
    let caching = match tile.level() {
        TileLevel::Hashes(_) => OPEN,
        TileLevel::Entries => {
            identify(state, request).await?.require(Scope::Audit)?;
            CLOSED
        }
    };
    let bytes = work::tile(state, tile)
        .await?
        .ok_or_else(|| not_found("no published checkpoint covers this tile".to_owned()))?;
    Ok(HttpResponse::Ok()
        .content_type(ContentType::octet_stream())
        .insert_header((CACHE_CONTROL, caching))
        .body(bytes))
}
