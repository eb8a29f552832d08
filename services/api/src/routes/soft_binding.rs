//! The reading side of C2PA's Soft Binding Resolution API: which entries of this ledger a fingerprint, or a
//! picture, leads to, their manifests, and the proofs that the ledger holds them.
//!
//! The fingerprint is PDQ, under a name of the log's own: the reversed host name of its origin, and
//! `pdq.1`; `noise.1` in the same name space is the id of the watermark in the starting noise. Manifests
//! state both as soft bindings. A match is named by the leaf index of its entry, which
//! is also the id of its manifest here. Likeness is no proof of origin: the score says how alike the pictures
//! are. Nothing is uploaded or deleted this way: the ledger is append-only, and what it records it made.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diffusion::WatermarkId;
use ledger::Scope;
use media::MATCH_DISTANCE_MAX;
use provenance::LeafIndex;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::uploads::{in_time, read_limited};
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody, kinds};
use crate::state::AppState;
use crate::work::{self, SourceFile};

/// Matches when the request names no number.
const MATCHES_DEFAULT: usize = 10;
/// Most matches of one answer.
const MATCHES_MAX: usize = 100;
/// Bits of the fingerprint.
const BITS: u32 = 256;

/// What the media type of a manifest store is.
const MANIFEST_TYPE: &str = "application/c2pa";
/// The name spaces of a receipt.
const NAME_SPACES: ReceiptContext = ReceiptContext {
    c2pa: "https://c2pa.org/ns/",
    terms: "https://c2pa.org/ns/manifest-receipt#",
};

/// A fingerprint to look up.
#[derive(Debug, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BindingQuery {
    /// Name of the algorithm, as `/services/supportedAlgorithms` lists it.
    alg: String,
    /// The fingerprint in base64.
    value: String,
    /// Matches of the answer, 10 when left out, at most 100.
    #[serde(rename = "maxResults")]
    max_results: Option<usize>,
}

/// How to look up a picture.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ContentQuery {
    /// Name of the algorithm; the only one when left out.
    alg: Option<String>,
    /// Matches of the answer, 10 when left out, at most 100.
    #[serde(rename = "maxResults")]
    max_results: Option<usize>,
}

/// What was found, the most alike first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SoftBindingMatches {
    /// The matches.
    matches: Vec<SoftBindingMatch>,
}

/// One entry whose image is alike.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SoftBindingMatch {
    /// Leaf index of the entry.
    manifest_id: String,
    /// Share of bits that agree, in percent.
    similarity_score: u32,
}

/// What can be looked up.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SupportedAlgorithms {
    /// The watermark, by its id; a picture's is read by scoring it.
    watermarks: Vec<Algorithm>,
    /// The fingerprints.
    fingerprints: Vec<Algorithm>,
}

/// An algorithm.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Algorithm {
    /// Its name.
    alg: String,
}

/// Algorithms of fingerprints and watermarks that can be looked up.
#[utoipa::path(
    get,
    path = "/services/supportedAlgorithms",
    tag = "soft bindings",
    responses((status = 200, body = SupportedAlgorithms))
)]
pub(super) async fn supported_algorithms(state: web::Data<AppState>) -> HttpResponse {
    HttpResponse::Ok().json(SupportedAlgorithms {
        watermarks: vec![Algorithm {
            alg: work::watermark_algorithm(&state.config.origin),
        }],
        fingerprints: vec![Algorithm {
            alg: work::fingerprint_algorithm(&state.config.origin),
        }],
    })
}

/// Entries that a fingerprint leads to.
#[utoipa::path(
    get,
    path = "/matches/byBinding",
    tag = "soft bindings",
    params(BindingQuery),
    responses(
        (status = 200, body = SoftBindingMatches),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["score"]))
)]
pub(super) async fn by_binding(
    state: web::Data<AppState>,
    caller: Caller,
    query: web::Query<BindingQuery>,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Score)?;
    look_up(&state, &query).await
}

/// Entries that a fingerprint leads to, asked for in the body.
#[utoipa::path(
    post,
    path = "/matches/byBinding",
    tag = "soft bindings",
    request_body = BindingQuery,
    responses(
        (status = 200, body = SoftBindingMatches),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["score"]))
)]
pub(super) async fn by_posted_binding(
    state: web::Data<AppState>,
    caller: Caller,
    query: web::Json<BindingQuery>,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Score)?;
    look_up(&state, &query).await
}

async fn look_up(
    state: &web::Data<AppState>,
    query: &BindingQuery,
) -> Result<HttpResponse, Problem> {
    if query.alg == work::watermark_algorithm(&state.config.origin) {
        return look_up_watermark(state, query).await;
    }
    check_algorithm(state, Some(&query.alg))?;
    let bytes = STANDARD.decode(&query.value).ok();
    let hash: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
    let hash = hash.ok_or(Problem::invalid(
        "value",
        "value must be 32 bytes in base64",
    ))?;
    answer(state, hash, query.max_results).await
}

/// Entries that state an id of the watermark. The mark can be carried over to another picture, so whoever
/// read it compares the pictures too.
async fn look_up_watermark(
    state: &web::Data<AppState>,
    query: &BindingQuery,
) -> Result<HttpResponse, Problem> {
    let most = matches_of(query.max_results)?;
    let bytes = STANDARD.decode(&query.value).ok();
    let id: Option<[u8; 5]> = bytes.and_then(|bytes| bytes.try_into().ok());
    let id = id.ok_or(Problem::invalid("value", "value must be 5 bytes in base64"))?;
    let found = work::marked_entries(state, WatermarkId::from_bytes(id)).await?;
    let matches = found
        .into_iter()
        .take(most)
        .map(|leaf_index| SoftBindingMatch {
            manifest_id: leaf_index.to_string(),
            similarity_score: 100,
        });
    Ok(HttpResponse::Ok().json(SoftBindingMatches {
        matches: matches.collect(),
    }))
}

/// How many matches are wanted.
fn matches_of(max_results: Option<usize>) -> Result<usize, Problem> {
    let most = max_results.unwrap_or(MATCHES_DEFAULT);
    if most == 0 || most > MATCHES_MAX {
        let detail = format!("maxResults goes from 1 to {MATCHES_MAX}");
        return Err(Problem::invalid("maxResults", detail));
    }
    Ok(most)
}

/// How to answer with a manifest.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ManifestQuery {
    /// Only false: manifests are given with those of the pictures that the image was made from, as the
    /// signature covers them.
    #[serde(rename = "returnActiveManifest")]
    return_active_manifest: Option<bool>,
}

/// The manifests of an entry's image, as they lie in the file that was recorded. The file itself needs
/// another right.
#[utoipa::path(
    get,
    path = "/manifests/{id}",
    tag = "soft bindings",
    params(("id" = u64, Path, description = "Leaf index, as a match names it"), ManifestQuery),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/c2pa"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["score"]))
)]
pub(super) async fn manifest(
    state: web::Data<AppState>,
    caller: Caller,
    id: web::Path<u64>,
    query: web::Query<ManifestQuery>,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Score)?;
    if query.return_active_manifest == Some(true) {
        let detail = "manifests are given whole: returnActiveManifest must be false";
        return Err(Problem::invalid("returnActiveManifest", detail));
    }
    let store = work::entry_manifests(&state, LeafIndex::new(*id)).await?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, MANIFEST_TYPE))
        .body(store))
}

/// A proof that the repository holds a manifest.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ManifestReceipt {
    #[serde(rename = "@context")]
    context: ReceiptContext,
    #[serde(rename = "@type")]
    kind: &'static str,
    repository: ReceiptRepository,
    anchor: ReceiptAnchor,
    /// Whether the proof held when it was handed out. Believe your own check instead.
    verified: bool,
}

/// Name spaces of the terms.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReceiptContext {
    c2pa: &'static str,
    #[serde(rename = "receipt")]
    terms: &'static str,
}

/// Whose receipt it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReceiptRepository {
    /// Name of the log.
    uri: String,
    /// Leaf index of the entry.
    manifest_id: String,
}

/// What the receipt rests on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReceiptAnchor {
    /// Where the whole bundle is, for whoever may read it.
    uri: String,
    proof: ReceiptProof,
}

/// The entry that states the digest of the file with the manifest in it, and its place in the log.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReceiptProof {
    #[serde(rename = "type")]
    kind: &'static str,
    /// Hash of the leaf that the proof is about, in hex.
    leaf_hash: String,
    /// Inclusion proof and signed checkpoint (C2SP tlog-proof).
    tlog_proof: String,
}

/// The receipt of a manifest, of this log. It travels beside the file, whose digest it proves.
#[utoipa::path(
    get,
    path = "/manifests/{id}/receipts",
    tag = "soft bindings",
    params(("id" = u64, Path, description = "Leaf index, as a match names it")),
    responses(
        (status = 200, body = ManifestReceipt),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["score"]))
)]
pub(super) async fn receipts(
    state: web::Data<AppState>,
    caller: Caller,
    id: web::Path<u64>,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Score)?;
    let bundle = work::manifest_bundle(&state, LeafIndex::new(*id)).await?;
    let proven = ManifestReceipt {
        context: NAME_SPACES,
        kind: "org.c2pa.manifest-receipt",
        repository: ReceiptRepository {
            uri: state.config.origin.clone(),
            manifest_id: id.to_string(),
        },
        anchor: ReceiptAnchor {
            uri: format!("/v1/entries/{id}/bundle"),
            proof: ReceiptProof {
                kind: "c2sp.org/tlog-proof@v1",
                leaf_hash: bundle.envelope().leaf_hash().to_string(),
                tlog_proof: bundle.tlog_proof().to_string(),
            },
        },
        verified: bundle
            .key_history(&state.public_keys)
            .and_then(|keys| {
                let checkpoint = keys.checkpoints().verify(bundle.checkpoint())?;
                bundle.verify_inclusion_in(checkpoint)
            })
            .is_ok(),
    };
    Ok(HttpResponse::Ok().json(proven))
}

/// Entries that a picture leads to: a PNG, JPEG or WebP file as the body. It is parsed in a confined
/// process and not kept.
#[utoipa::path(
    post,
    path = "/matches/byContent",
    tag = "soft bindings",
    params(ContentQuery),
    request_body(content((Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/webp"))),
    responses(
        (status = 200, body = SoftBindingMatches),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["score"]))
)]
pub(super) async fn by_content(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Score)?;
    let query = web::Query::<ContentQuery>::from_query(request.query_string())
        .map_err(|error| Problem::new(kinds::INVALID_REQUEST, error.to_string()))?;
    check_algorithm(&state, query.alg.as_deref())?;
    let bytes_max = state.config.limits.upload_bytes_max;
    let body = in_time(&state, read_limited(payload, bytes_max, bytes_max)).await?;
    let media_type = request.headers().get("content-type");
    let file = SourceFile {
        bytes: body.to_vec(),
        file_name: None,
        media_type: media_type
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned),
    };
    let picture = work::open_picture(&state, file).await?;
    let hash = web::block(move || {
        media::perceptual_hash(picture.width, picture.height, &picture.rgb).hash
    });
    let hash = hash.await.map_err(|error| Problem::internal(&error))?;
    answer(&state, *hash.as_bytes(), query.max_results).await
}

async fn answer(
    state: &web::Data<AppState>,
    hash: [u8; 32],
    max_results: Option<usize>,
) -> Result<HttpResponse, Problem> {
    let most = matches_of(max_results)?;
    let found = work::near_entries(state, hash, MATCH_DISTANCE_MAX).await?;
    let matches = found.into_iter().take(most).map(|near| SoftBindingMatch {
        manifest_id: near.leaf_index.to_string(),
        similarity_score: 100 * (BITS - near.distance) / BITS,
    });
    Ok(HttpResponse::Ok().json(SoftBindingMatches {
        matches: matches.collect(),
    }))
}

fn check_algorithm(state: &AppState, alg: Option<&str>) -> Result<(), Problem> {
    let known = work::fingerprint_algorithm(&state.config.origin);
    match alg {
        Some(alg) if alg != known => {
            let mark = work::watermark_algorithm(&state.config.origin);
            let detail = format!(
                "fingerprints are {known}, watermarks, which are found by their id, {mark}"
            );
            Err(Problem::invalid("alg", detail))
        }
        _ => Ok(()),
    }
}
