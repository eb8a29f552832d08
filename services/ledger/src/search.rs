//! Searching entries, page by page along the leaf index. Each page names the checkpoint that it is
//! complete for.

use provenance::{Digest, LeafIndex, SignedCheckpoint};

use crate::connect::Ledger;
use crate::entries::{EntryRow, leaf_index_of, to_i64};
use crate::{LedgerError, RecordedEntry};

/// Most entries that a search by perceptual distance may meet before its other conditions.
pub const NEAR_ENTRIES_MAX: usize = 10_000;
/// Most entries of one page.
pub const PAGE_ENTRIES_MAX: u32 = 500;

/// Which way the pages run along the leaf index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    Descending,
    /// Oldest first.
    Ascending,
}

/// A perceptual hash and how many of its 256 bits may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Near {
    /// The hash.
    pub hash: [u8; 32],
    /// Most bits that differ, at most [`provenance::NEAR_DISTANCE_MAX`].
    pub distance_max: u32,
}

/// What to search for: an entry must meet every condition that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Stated time at or after this, in milliseconds since 1970 UTC.
    pub created_from_ms: Option<u64>,
    /// Stated time before this, in milliseconds since 1970 UTC.
    pub created_until_ms: Option<u64>,
    /// Kind, as the canonical bytes spell it.
    pub kind: Option<String>,
    /// Client.
    pub client: Option<String>,
    /// Request.
    pub request_id: Option<String>,
    /// Name of the generator, or of the detector for scores.
    pub model_name: Option<String>,
    /// Digest of the generator, or of the detector for scores.
    pub model_digest: Option<Digest>,
    /// Digest of the image file.
    pub image_sha256: Option<Digest>,
    /// Digest of the decoded pixels.
    pub pixel_sha256: Option<Digest>,
    /// Verdict, as the canonical bytes spell it.
    pub verdict: Option<String>,
    /// Perceptual hash of the image.
    pub near: Option<Near>,
    /// Which way the pages run.
    pub order: Order,
}

impl EntryFilter {
    /// Postgres keeps no zero character in a text, so no entry can have it, and it refuses to be
    /// asked.
    fn asks_for_a_zero_character(&self) -> bool {
        let Self {
            kind,
            client,
            request_id,
            model_name,
            verdict,
            ..
        } = self;
        [kind, client, request_id, model_name, verdict]
            .into_iter()
            .flatten()
            .any(|text| text.contains('\0'))
    }
}

/// One page of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The entries, in the order asked for.
    pub entries: Vec<RecordedEntry>,
    /// The page misses nothing that this checkpoint covers; none while the log has none.
    pub checkpoint: Option<SignedCheckpoint>,
    /// Where the next page begins, as its `after`; none when this is the last page.
    pub next: Option<LeafIndex>,
}

impl Ledger {
    /// One page of the entries that meet the filter, from behind `after` in the filter's order.
    ///
    /// # Errors
    /// Refuses pages of no entries or of more than [`PAGE_ENTRIES_MAX`].
    pub async fn search(
        &self,
        filter: &EntryFilter,
        after: Option<LeafIndex>,
        limit: u32,
    ) -> Result<Page, LedgerError> {
        if limit == 0 || limit > PAGE_ENTRIES_MAX {
            return Err(LedgerError::PageSize {
                page_entries_max: PAGE_ENTRIES_MAX,
            });
        }
        let Some(checkpoint) = self.latest_checkpoint().await? else {
            return Ok(Page {
                entries: Vec::new(),
                checkpoint: None,
                next: None,
            });
        };
        let tree_size = to_i64(checkpoint.unverified().tree_size.get(), "tree size")?;
        let range = Range::new(filter.order, after, tree_size)?;
        // One more than asked for tells whether there is a next page.
        let mut rows = self
            .matching_rows(filter, &range, i64::from(limit) + 1)
            .await?;
        let next = match rows.len() > limit as usize {
            true => {
                rows.truncate(limit as usize);
                rows.last().map(|row| leaf_index_of(row.leaf_index))
            }
            false => None,
        };
        Ok(Page {
            entries: rows
                .into_iter()
                .map(RecordedEntry::try_from)
                .collect::<Result<_, _>>()?,
            checkpoint: Some(checkpoint),
            next: next.transpose()?,
        })
    }

    pub(crate) async fn matching_rows(
        &self,
        filter: &EntryFilter,
        range: &Range,
        limit: i64,
    ) -> Result<Vec<EntryRow>, LedgerError> {
        if filter.asks_for_a_zero_character() {
            return Ok(Vec::new());
        }
        let near = match &filter.near {
            None => None,
            Some(near) => Some(self.near_leaf_indexes(near).await?),
        };
        let time = |time: Option<u64>| time.map(|time| to_i64(time, "time")).transpose();
        let bytes = |digest: &Option<Digest>| digest.map(|digest| digest.as_bytes().to_vec());
        let rows = sqlx::query_as!(
            EntryRow,
            r#"SELECT leaf_index, leaf_hash, envelope,
                      (extract(epoch FROM integrated_at) * 1000)::bigint AS "integrated_at_ms!"
               FROM entries
               WHERE leaf_index >= $1 AND leaf_index < $2
                 AND ($3::bigint IS NULL OR created_at_ms >= $3)
                 AND ($4::bigint IS NULL OR created_at_ms < $4)
                 AND ($5::text IS NULL OR kind = $5)
                 AND ($6::text IS NULL OR client = $6)
                 AND ($7::text IS NULL OR request_id = $7)
                 AND ($8::text IS NULL OR model_name = $8)
                 AND ($9::bytea IS NULL OR model_digest = $9)
                 AND ($10::bytea IS NULL OR image_sha256 = $10)
                 AND ($11::bytea IS NULL OR pixel_sha256 = $11)
                 AND ($12::text IS NULL OR verdict = $12)
                 AND ($13::bigint[] IS NULL OR leaf_index = ANY($13))
               ORDER BY CASE WHEN $14 THEN leaf_index END ASC,
                        CASE WHEN NOT $14 THEN leaf_index END DESC
               LIMIT $15"#,
            range.from,
            range.until,
            time(filter.created_from_ms)? as Option<i64>,
            time(filter.created_until_ms)? as Option<i64>,
            filter.kind.as_deref() as Option<&str>,
            filter.client.as_deref() as Option<&str>,
            filter.request_id.as_deref() as Option<&str>,
            filter.model_name.as_deref() as Option<&str>,
            bytes(&filter.model_digest) as Option<Vec<u8>>,
            bytes(&filter.image_sha256) as Option<Vec<u8>>,
            bytes(&filter.pixel_sha256) as Option<Vec<u8>>,
            filter.verdict.as_deref() as Option<&str>,
            near.as_deref() as Option<&[i64]>,
            filter.order == Order::Ascending,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }
}

impl Ledger {
    /// The entries within a perceptual distance, all of them.
    async fn near_leaf_indexes(&self, near: &Near) -> Result<Vec<i64>, LedgerError> {
        let found = self.find_near(&[near.hash], near.distance_max).await?;
        let found = found.into_iter().flatten();
        let leaf_indexes = found
            .map(|neighbour| to_i64(neighbour.leaf_index, "leaf index"))
            .collect::<Result<Vec<_>, _>>()?;
        if leaf_indexes.len() > NEAR_ENTRIES_MAX {
            return Err(LedgerError::TooNear {
                entries_max: NEAR_ENTRIES_MAX,
            });
        }
        Ok(leaf_indexes)
    }
}

/// The leaf indexes that a page may hold: from, and until but without.
pub(crate) struct Range {
    from: i64,
    until: i64,
}

impl Range {
    pub(crate) fn new(
        order: Order,
        after: Option<LeafIndex>,
        tree_size: i64,
    ) -> Result<Self, LedgerError> {
        let after = after
            .map(|after| to_i64(after.get(), "leaf index"))
            .transpose()?;
        Ok(match (order, after) {
            (_, None) => Self {
                from: 0,
                until: tree_size,
            },
            (Order::Ascending, Some(after)) => Self {
                from: after.saturating_add(1),
                until: tree_size,
            },
            (Order::Descending, Some(after)) => Self {
                from: 0,
                until: after.min(tree_size),
            },
        })
    }
}
