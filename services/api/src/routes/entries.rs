//! `GET /v1/entries…`: what auditors read.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, ContentDisposition, DispositionParam,
    DispositionType,
};
use actix_web::{HttpResponse, web};
use ledger::{EntryFilter, Order, Scope};
use provenance::{LeafIndex, TreeSize};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::wire::{CheckpointBody, EntryBody, hexadecimal};
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody};
use crate::state::AppState;
use crate::work::{self, Conditions};

/// Entries of a page when the request names no number.
const LIMIT_DEFAULT: u32 = 50;

/// What is recorded under an index never changes, but a private cache must not outlive a key.
const IMMUTABLE: &str = "private, max-age=3600, immutable";

/// Which entries to list. All conditions must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EntryQuery {
    /// Continue behind this leaf index: `next` of the page before.
    after: Option<u64>,
    /// Entries of the page, 50 when left out.
    limit: Option<u32>,
    /// `desc` (newest first, the default) or `asc`.
    order: Option<String>,
    /// `generation`, `score`, `key_succession`, `checkpoint_key_succession` or `key_revocation`.
    kind: Option<String>,
    /// Name of the client.
    client: Option<String>,
    /// The request's id.
    request_id: Option<String>,
    /// Name of the generator or detector.
    model: Option<String>,
    /// Digest of the generator or detector.
    model_digest: Option<String>,
    /// The key that signed, as `keyid` in envelopes names it.
    key: Option<String>,
    /// Digest of an image file.
    image_sha256: Option<String>,
    /// Digest of an image's pixels.
    pixel_sha256: Option<String>,
    /// Salted commitment to a prompt, as entries state it.
    prompt_commitment: Option<String>,
    /// PDQ hash of an image, 64 hexadecimal digits: finds images that look like it.
    perceptual_hash: Option<String>,
    /// Leaf index of an image's entry: finds images that look like it.
    near_entry: Option<u64>,
    /// Bits of the perceptual hash that may differ, 31 when left out, and at most that.
    distance: Option<u32>,
    /// `likely_generated`, `likely_not_generated` or `inconclusive`.
    verdict: Option<String>,
    /// Stated time at or after this, milliseconds since 1970 UTC.
    created_from_ms: Option<u64>,
    /// Stated time before this, milliseconds since 1970 UTC.
    created_until_ms: Option<u64>,
}

impl EntryQuery {
    pub(super) fn filter(self) -> Result<EntryFilter, Problem> {
        let order = match self.order.as_deref() {
            None | Some("desc") => Order::Descending,
            Some("asc") => Order::Ascending,
            Some(_) => return Err(Problem::invalid("order", "order must be asc or desc")),
        };
        let conditions = Conditions {
            created_from_ms: self.created_from_ms,
            created_until_ms: self.created_until_ms,
            kind: self.kind,
            client: self.client,
            request_id: self.request_id,
            model: self.model,
            model_digest: self.model_digest,
            key: self.key,
            image_sha256: self.image_sha256,
            pixel_sha256: self.pixel_sha256,
            prompt_commitment: self.prompt_commitment,
            verdict: self.verdict,
            perceptual_hash: self.perceptual_hash,
            near_entry: self.near_entry,
            distance: self.distance,
        };
        Ok(conditions.filter(order)?)
    }
}

/// A page of entries.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EntryPage {
    /// The entries.
    entries: Vec<EntryBody>,
    /// The page misses nothing that this checkpoint covers; null while the log has none.
    checkpoint: Option<CheckpointBody>,
    /// `after` of the next page; null on the last one.
    next: Option<u64>,
}

/// Search the entries, newest first.
#[utoipa::path(
    get,
    path = "/v1/entries",
    tag = "audit",
    params(EntryQuery),
    responses(
        (status = 200, body = EntryPage),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["audit"]))
)]
pub(super) async fn list(
    state: web::Data<AppState>,
    caller: Caller,
    query: web::Query<EntryQuery>,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Audit)?;
    let query = query.into_inner();
    let after = query.after.map(LeafIndex::new);
    let limit = query
        .limit
        .unwrap_or(LIMIT_DEFAULT.min(state.config.limits.entries_per_page_max));
    let page = work::search(&state, query.filter()?, after, limit).await?;
    Ok(HttpResponse::Ok().json(EntryPage {
        entries: page.entries.iter().map(EntryBody::from).collect(),
        checkpoint: page.checkpoint.as_ref().map(CheckpointBody::from),
        next: page.next.map(LeafIndex::get),
    }))
}

/// One entry.
#[utoipa::path(
    get,
    path = "/v1/entries/{index}",
    tag = "audit",
    params(("index" = u64, Path, description = "Leaf index")),
    responses(
        (status = 200, body = EntryBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["audit"]))
)]
pub(super) async fn get(
    state: web::Data<AppState>,
    caller: Caller,
    index: web::Path<u64>,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Audit)?;
    let recorded = work::entry(&state, LeafIndex::new(*index)).await?;
    Ok(HttpResponse::Ok().json(EntryBody::from(&recorded)))
}

/// Under which tree size.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SizeQuery {
    /// Size of a published checkpoint; the newest when left out.
    tree_size: Option<u64>,
}

impl SizeQuery {
    fn size(&self) -> Option<TreeSize> {
        self.tree_size.map(TreeSize::new)
    }
}

/// An inclusion proof.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InclusionProof {
    /// Place in the log.
    leaf_index: u64,
    /// SHA-256(0x00 || envelope).
    leaf_hash: String,
    /// The hashes from the leaf's sibling up to the root.
    inclusion_proof: Vec<String>,
    /// The checkpoint whose root they lead to.
    checkpoint: CheckpointBody,
}

/// The inclusion proof of an entry.
#[utoipa::path(
    get,
    path = "/v1/entries/{index}/proof",
    tag = "audit",
    params(("index" = u64, Path, description = "Leaf index"), SizeQuery),
    responses(
        (status = 200, body = InclusionProof),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["audit"]))
)]
pub(super) async fn proof(
    state: web::Data<AppState>,
    caller: Caller,
    index: web::Path<u64>,
    query: web::Query<SizeQuery>,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Audit)?;
    let proof = work::entry_proof(&state, LeafIndex::new(*index), query.size()).await?;
    Ok(HttpResponse::Ok().json(InclusionProof {
        leaf_index: proof.leaf_index.get(),
        leaf_hash: proof.leaf_hash.to_string(),
        inclusion_proof: hexadecimal(&proof.hashes),
        checkpoint: CheckpointBody::from(&proof.checkpoint),
    }))
}

/// The bundle of an entry: the file that `retrace-verify bundle` checks offline.
#[utoipa::path(
    get,
    path = "/v1/entries/{index}/bundle",
    tag = "audit",
    params(("index" = u64, Path, description = "Leaf index"), SizeQuery),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/vnd.retrace.bundle+json"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["audit"]))
)]
pub(super) async fn bundle(
    state: web::Data<AppState>,
    caller: Caller,
    index: web::Path<u64>,
    query: web::Query<SizeQuery>,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Audit)?;
    let bundle = work::entry_bundle(&state, LeafIndex::new(*index), query.size()).await?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/vnd.retrace.bundle+json"))
        .insert_header((
            CONTENT_DISPOSITION,
            attachment(format!("retrace-{index}.bundle")),
        ))
        .body(bundle.to_bytes()))
}

/// The image of a generation entry, a file of the service's own making. The client that asked for
/// it may fetch it too.
#[utoipa::path(
    get,
    path = "/v1/entries/{index}/image",
    tag = "audit",
    params(("index" = u64, Path, description = "Leaf index")),
    responses(
        (status = 200, content((Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"),
            (Vec<u8> = "image/webp"))),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["audit"]))
)]
pub(super) async fn image(
    state: web::Data<AppState>,
    caller: Caller,
    index: web::Path<u64>,
) -> Result<HttpResponse, Problem> {
    if !caller.may(Scope::Generate) {
        caller.require(Scope::Audit)?;
    }
    let (recorded, image) = work::entry_image(&state, LeafIndex::new(*index)).await?;
    if recorded.entry.client() != caller.client {
        caller.require(Scope::Audit)?;
    }
    let format = media::sniff(&image).map_err(|error| Problem::internal(&error))?;
    let inline = ContentDisposition {
        disposition: DispositionType::Inline,
        parameters: vec![DispositionParam::Filename(format!(
            "retrace-{index}.{format}"
        ))],
    };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, format.media_type()))
        .insert_header((CONTENT_DISPOSITION, inline))
        .insert_header((CACHE_CONTROL, IMMUTABLE))
        .body(image))
}

fn attachment(file_name: String) -> ContentDisposition {
    ContentDisposition {
        disposition: DispositionType::Attachment,
        parameters: vec![DispositionParam::Filename(file_name)],
    }
}
