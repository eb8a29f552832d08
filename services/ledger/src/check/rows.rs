//! The rows of the entries, page by page.

use std::collections::HashMap;

use sqlx::PgConnection;

use crate::LedgerError;
use crate::entries::Projection;

/// Entries of a page; a few pages are held in memory at a time.
pub(super) const PAGE_ENTRIES: i64 = 512;

/// One entry as it is stored.
pub(super) struct Stored {
    pub(super) leaf_index: i64,
    pub(super) leaf_hash: Vec<u8>,
    pub(super) envelope: Vec<u8>,
    kind: String,
    request_id: String,
    image_index: i64,
    client: String,
    pub(super) created_at_ms: i64,
    image_sha256: Option<Vec<u8>>,
    pixel_sha256: Option<Vec<u8>>,
    model_name: Option<String>,
    model_digest: Option<Vec<u8>>,
    verdict: Option<String>,
    prompt_commitment: Option<Vec<u8>>,
    /// The hash and its quality.
    perceptual_hash: Option<(Vec<u8>, i16)>,
    watermark_id: Option<i64>,
}

/// The entries from a leaf index on, at most [`PAGE_ENTRIES`] of them.
pub(super) async fn load_page(
    connection: &mut PgConnection,
    first: i64,
) -> Result<Vec<Stored>, LedgerError> {
    let rows = sqlx::query!(
        "SELECT leaf_index, leaf_hash, envelope, kind, request_id, image_index, client, created_at_ms,
                image_sha256, pixel_sha256, model_name, model_digest, verdict, prompt_commitment
         FROM entries WHERE leaf_index >= $1 ORDER BY leaf_index LIMIT $2",
        first,
        PAGE_ENTRIES
    )
    .fetch_all(&mut *connection)
    .await?;
    // Joined here: as one statement under a plan for any page, the other tables are read from their
    // beginning for each page.
    let last = rows.last().map_or(first, |row| row.leaf_index);
    let mut hashes = perceptual_hashes(connection, first, last).await?;
    let mut watermarks = watermarks(connection, first, last).await?;
    let stored = rows.into_iter().map(|row| Stored {
        leaf_index: row.leaf_index,
        leaf_hash: row.leaf_hash,
        envelope: row.envelope,
        kind: row.kind,
        request_id: row.request_id,
        image_index: row.image_index,
        client: row.client,
        created_at_ms: row.created_at_ms,
        image_sha256: row.image_sha256,
        pixel_sha256: row.pixel_sha256,
        model_name: row.model_name,
        model_digest: row.model_digest,
        verdict: row.verdict,
        prompt_commitment: row.prompt_commitment,
        perceptual_hash: hashes.remove(&row.leaf_index),
        watermark_id: watermarks.remove(&row.leaf_index),
    });
    Ok(stored.collect())
}

async fn perceptual_hashes(
    connection: &mut PgConnection,
    first: i64,
    last: i64,
) -> Result<HashMap<i64, (Vec<u8>, i16)>, LedgerError> {
    let rows = sqlx::query!(
        "SELECT leaf_index, hash, quality FROM perceptual_hashes WHERE leaf_index BETWEEN $1 AND $2",
        first,
        last
    )
    .fetch_all(connection)
    .await?;
    let listed = rows.into_iter();
    Ok(listed
        .map(|row| (row.leaf_index, (row.hash, row.quality)))
        .collect())
}

async fn watermarks(
    connection: &mut PgConnection,
    first: i64,
    last: i64,
) -> Result<HashMap<i64, i64>, LedgerError> {
    let rows = sqlx::query!(
        "SELECT leaf_index, watermark_id FROM watermarks WHERE leaf_index BETWEEN $1 AND $2",
        first,
        last
    )
    .fetch_all(connection)
    .await?;
    let listed = rows.into_iter();
    Ok(listed
        .map(|row| (row.leaf_index, row.watermark_id))
        .collect())
}

impl Stored {
    /// Whether the columns say what the entry says.
    pub(super) fn says(&self, projection: &Projection) -> bool {
        self.kind == projection.kind
            && self.request_id == projection.request_id
            && self.image_index == projection.image_index
            && self.client == projection.client
            && self.created_at_ms == projection.created_at_ms
            && self.image_sha256 == projection.image_sha256
            && self.pixel_sha256 == projection.pixel_sha256
            && self.model_name == projection.model_name
            && self.model_digest == projection.model_digest
            && self.verdict == projection.verdict
            && self.prompt_commitment == projection.prompt_commitment
            && self.perceptual_hash == projection.perceptual_hash
            && self.watermark_id == projection.watermark_id
    }
}
