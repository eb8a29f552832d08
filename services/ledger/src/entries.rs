//! Reading recorded entries.

use provenance::{Digest, Entry, Envelope, GenerationDetails, LeafIndex, TreeSize};

use crate::LedgerError;
use crate::connect::Ledger;

/// Most entries that a look-up by digest answers with.
pub const FOUND_MAX: u32 = 100;

/// An entry of the log. Its signature was verified when it was recorded; [`Ledger::check`] does it
/// again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEntry {
    /// Its place in the log.
    pub leaf_index: LeafIndex,
    /// The hash of its leaf.
    pub leaf_hash: Digest,
    /// The signed envelope.
    pub envelope: Envelope,
    /// The statement in the envelope.
    pub entry: Entry,
    /// When it was recorded, in milliseconds since 1970 UTC by the clock of the database. Not signed.
    pub integrated_at_ms: u64,
}

/// The columns that make a [`RecordedEntry`].
pub(crate) struct EntryRow {
    pub leaf_index: i64,
    pub leaf_hash: Vec<u8>,
    pub envelope: Vec<u8>,
    pub integrated_at_ms: i64,
}

impl TryFrom<EntryRow> for RecordedEntry {
    type Error = LedgerError;

    fn try_from(row: EntryRow) -> Result<Self, LedgerError> {
        let envelope = Envelope::parse(&row.envelope)?;
        Ok(Self {
            leaf_index: leaf_index_of(row.leaf_index)?,
            leaf_hash: digest(&row.leaf_hash)?,
            entry: envelope.unverified_entry()?,
            envelope,
            integrated_at_ms: u64::try_from(row.integrated_at_ms).unwrap_or_default(),
        })
    }
}

impl Ledger {
    /// The entry at this place.
    ///
    /// # Errors
    /// Refuses places that the latest checkpoint does not cover.
    pub async fn entry(&self, leaf_index: LeafIndex) -> Result<RecordedEntry, LedgerError> {
        let tree_size = self.published_size().await?;
        if !tree_size.contains(leaf_index) {
            return Err(LedgerError::NoSuchEntry {
                leaf_index,
                tree_size,
            });
        }
        let row = sqlx::query_as!(
            EntryRow,
            r#"SELECT leaf_index, leaf_hash, envelope,
                      (extract(epoch FROM integrated_at) * 1000)::bigint AS "integrated_at_ms!"
               FROM entries WHERE leaf_index = $1"#,
            to_i64(leaf_index.get(), "leaf index")?
        )
        .fetch_optional(&self.pool)
        .await?;
        row.ok_or_else(|| LedgerError::damaged(format!("entry {leaf_index} is missing")))?
            .try_into()
    }

    /// The entries that state this digest of an image file, oldest first, at most [`FOUND_MAX`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_image(&self, image: &Digest) -> Result<Vec<RecordedEntry>, LedgerError> {
        let rows = sqlx::query_as!(
            EntryRow,
            r#"SELECT leaf_index, leaf_hash, envelope,
                      (extract(epoch FROM integrated_at) * 1000)::bigint AS "integrated_at_ms!"
               FROM entries WHERE image_sha256 = $1 AND leaf_index < $2
               ORDER BY leaf_index LIMIT $3"#,
            image.as_bytes(),
            to_i64(self.published_size().await?.get(), "tree size")?,
            i64::from(FOUND_MAX)
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(RecordedEntry::try_from).collect()
    }

    /// The entries that state this digest of decoded pixels, oldest first, at most [`FOUND_MAX`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_pixels(&self, pixels: &Digest) -> Result<Vec<RecordedEntry>, LedgerError> {
        let rows = sqlx::query_as!(
            EntryRow,
            r#"SELECT leaf_index, leaf_hash, envelope,
                      (extract(epoch FROM integrated_at) * 1000)::bigint AS "integrated_at_ms!"
               FROM entries WHERE pixel_sha256 = $1 AND leaf_index < $2
               ORDER BY leaf_index LIMIT $3"#,
            pixels.as_bytes(),
            to_i64(self.published_size().await?.get(), "tree size")?,
            i64::from(FOUND_MAX)
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(RecordedEntry::try_from).collect()
    }

    /// The entries that state one of these watermarks, oldest first, at most [`FOUND_MAX`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_watermarks(&self, ids: &[u64]) -> Result<Vec<RecordedEntry>, LedgerError> {
        let ids: Vec<i64> = ids
            .iter()
            .map(|id| to_i64(*id, "watermark id"))
            .collect::<Result<_, _>>()?;
        let rows = sqlx::query_as!(
            EntryRow,
            r#"SELECT leaf_index, leaf_hash, envelope,
                      (extract(epoch FROM integrated_at) * 1000)::bigint AS "integrated_at_ms!"
               FROM watermarks JOIN entries USING (leaf_index)
               WHERE watermark_id = ANY ($1) AND leaf_index < $2
               ORDER BY leaf_index LIMIT $3"#,
            &ids,
            to_i64(self.published_size().await?.get(), "tree size")?,
            i64::from(FOUND_MAX)
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(RecordedEntry::try_from).collect()
    }

    /// The size of the newest checkpoint; 0 before the first.
    pub(crate) async fn published_size(&self) -> Result<TreeSize, LedgerError> {
        let checkpoint = self.published_checkpoint().await?;
        Ok(checkpoint.map_or(TreeSize::new(0), |signed| signed.unverified().tree_size))
    }
}

/// The request and the place of the image in it; 0 for entries without an image.
pub(crate) fn request_of(entry: &Entry) -> (&str, u32) {
    match entry {
        Entry::Generation(generation) => (&generation.request_id, generation.image_index),
        other => (other.request_id(), 0),
    }
}

/// What is read out of an entry for searching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Projection {
    pub kind: &'static str,
    pub request_id: String,
    pub image_index: i64,
    pub client: String,
    pub created_at_ms: i64,
    pub image_sha256: Option<Vec<u8>>,
    pub pixel_sha256: Option<Vec<u8>>,
    pub model_name: Option<String>,
    pub model_digest: Option<Vec<u8>>,
    pub verdict: Option<String>,
    pub prompt_commitment: Option<Vec<u8>>,
    /// The perceptual hash and its quality; kept in a table of its own.
    pub perceptual_hash: Option<(Vec<u8>, i16)>,
    /// The id of the watermark; kept in a table of its own.
    pub watermark_id: Option<i64>,
}

impl Projection {
    /// Reads the columns out of an entry.
    pub(crate) fn of(entry: &Entry) -> Result<Self, LedgerError> {
        let (request_id, image_index) = request_of(entry);
        let mut projection = Self {
            kind: entry.kind(),
            request_id: request_id.to_owned(),
            image_index: i64::from(image_index),
            client: entry.client().to_owned(),
            created_at_ms: to_i64(entry.created_at_ms(), "created_at_ms")?,
            image_sha256: None,
            pixel_sha256: None,
            model_name: None,
            model_digest: None,
            verdict: None,
            prompt_commitment: None,
            perceptual_hash: None,
            watermark_id: None,
        };
        let bytes = |digest: &Digest| Some(digest.as_bytes().to_vec());
        match entry {
            Entry::Generation(generation) => {
                projection.image_sha256 = bytes(&generation.image.sha256);
                projection.pixel_sha256 = bytes(&generation.image.pixel_sha256);
                projection.model_name = Some(generation.model.name.clone());
                projection.model_digest = bytes(&generation.model.digest);
                projection.prompt_commitment = bytes(&generation.prompt_commitment);
                let details = generation.details.as_ref();
                let stated = details.and_then(|details| details.perceptual_hash);
                projection.perceptual_hash = stated
                    .map(|stated| (stated.hash.as_bytes().to_vec(), i16::from(stated.quality)));
                projection.watermark_id = details
                    .and_then(GenerationDetails::watermark_id)
                    .map(|id| to_i64(id, "watermark id"))
                    .transpose()?;
            }
            Entry::Score(score) => {
                projection.model_name = Some(score.detector.name.clone());
                projection.model_digest = bytes(&score.detector.digest);
                projection.verdict = Some(verdict_word(score.verdict).to_owned());
            }
            Entry::KeySuccession(_)
            | Entry::CheckpointKeySuccession(_)
            | Entry::KeyRevocation(_) => {}
        }
        Ok(projection)
    }
}

/// The verdict as the canonical bytes spell it.
fn verdict_word(verdict: provenance::RecordedVerdict) -> &'static str {
    match verdict {
        provenance::RecordedVerdict::LikelyGenerated => "likely_generated",
        provenance::RecordedVerdict::LikelyNotGenerated => "likely_not_generated",
        provenance::RecordedVerdict::Inconclusive => "inconclusive",
    }
}

/// A number as the database keeps it.
pub(crate) fn to_i64(number: u64, what: &'static str) -> Result<i64, LedgerError> {
    i64::try_from(number).map_err(|_| LedgerError::Beyond { what })
}

pub(crate) fn leaf_index_of(number: i64) -> Result<LeafIndex, LedgerError> {
    u64::try_from(number)
        .map(LeafIndex::new)
        .map_err(|_| LedgerError::damaged(format!("leaf index {number} is negative")))
}

pub(crate) fn tree_size_of(number: i64) -> Result<TreeSize, LedgerError> {
    u64::try_from(number)
        .map(TreeSize::new)
        .map_err(|_| LedgerError::damaged(format!("tree size {number} is negative")))
}

pub(crate) fn digest(bytes: &[u8]) -> Result<Digest, LedgerError> {
    <[u8; 32]>::try_from(bytes)
        .map(Digest::from_bytes)
        .map_err(|_| LedgerError::damaged(format!("a hash of {} bytes", bytes.len())))
}
