//! The log's head, proofs between heads, and the public keys. Open to everyone: nothing in them
//! says who did what.

use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, web};
use provenance::TreeSize;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::wire::hexadecimal;
use crate::problem::{Problem, ProblemBody};
use crate::state::AppState;
use crate::work;

/// The newest signed checkpoint (C2SP tlog-checkpoint) with the cosignatures that it has by now. Where the
/// service demands a quorum of witnesses, the newest that has it.
#[utoipa::path(
    get,
    path = "/checkpoint",
    tag = "audit",
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn latest(state: web::Data<AppState>) -> Result<HttpResponse, Problem> {
    let checkpoint = work::witnessed_checkpoint(&state).await?;
    Ok(HttpResponse::Ok()
        .content_type(ContentType::plaintext())
        .body(checkpoint.text()))
}

/// Between which sizes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ConsistencyQuery {
    /// The smaller tree size.
    old: u64,
    /// The larger tree size, published.
    new: u64,
}

/// A consistency proof.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConsistencyProof {
    /// The smaller tree size.
    old_size: u64,
    /// The larger tree size.
    new_size: u64,
    /// The hashes, by RFC 6962.
    consistency_proof: Vec<String>,
}

/// The proof that the tree of the new size continues the tree of the old size.
#[utoipa::path(
    get,
    path = "/v1/consistency",
    tag = "audit",
    params(ConsistencyQuery),
    responses(
        (status = 200, body = ConsistencyProof),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn consistency(
    state: web::Data<AppState>,
    query: web::Query<ConsistencyQuery>,
) -> Result<HttpResponse, Problem> {
    let (old, new) = (TreeSize::new(query.old), TreeSize::new(query.new));
    let hashes = work::consistency(&state, old, new).await?;
    Ok(HttpResponse::Ok().json(ConsistencyProof {
        old_size: old.get(),
        new_size: new.get(),
        consistency_proof: hexadecimal(&hashes),
    }))
}

/// The public key file: the log's first entry key and its checkpoint key, a line each, and where other entry
/// keys followed a line that proves it. Auditors should have the first two from somewhere else than from the
/// service that they check.
#[utoipa::path(
    get,
    path = "/v1/public-key",
    tag = "audit",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
pub(super) async fn public_key(state: web::Data<AppState>) -> Result<HttpResponse, Problem> {
    let file = work::key_file(&state).await?;
    Ok(HttpResponse::Ok()
        .content_type(ContentType::plaintext())
        .body(file.to_string()))
}
