//! Searching entries, page by page along the leaf index. Each page names the checkpoint that it is
//! complete for.

use provenance::{Digest, Entry, LeafIndex, SignedCheckpoint};

use crate::connect::Ledger;
use crate::entries::{EntryRow, leaf_index_of, to_i64};
use crate::{LedgerError, RecordedEntry};

/// Most entries that a search by perceptual distance may meet before its other conditions.
pub const NEAR_ENTRIES_MAX: usize = 10_000;
/// Entries of a block whose earliest and latest times are kept, as the migrations have it.
pub(crate) const TIMES_BLOCK_ENTRIES: i64 = 1024;
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

/// What images are to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// This perceptual hash.
    Hash([u8; 32]),
    /// The image of this entry, by the perceptual hash that it states.
    Entry(LeafIndex),
}

/// A perceptual hash and how many of its 256 bits may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Near {
    /// Whose hash.
    pub to: Likeness,
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
    /// Commitment to the prompt.
    pub prompt_commitment: Option<Digest>,
    /// Verdict, as the canonical bytes spell it.
    pub verdict: Option<String>,
    /// Name and id of the key that signed.
    pub key: Option<String>,
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
        let range = self.signed_range(filter, range).await?;
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
        let (created_from, created_until) = (
            time(filter.created_from_ms)?,
            time(filter.created_until_ms)?,
        );
        let range = self
            .range_of_times(range, created_from, created_until)
            .await?;
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
                 AND ($14::bytea IS NULL OR prompt_commitment = $14)
               ORDER BY CASE WHEN $15 THEN leaf_index END ASC,
                        CASE WHEN NOT $15 THEN leaf_index END DESC
               LIMIT $16"#,
            range.from,
            range.until,
            created_from,
            created_until,
            filter.kind.as_deref() as Option<&str>,
            filter.client.as_deref() as Option<&str>,
            filter.request_id.as_deref() as Option<&str>,
            filter.model_name.as_deref() as Option<&str>,
            bytes(&filter.model_digest) as Option<Vec<u8>>,
            bytes(&filter.image_sha256) as Option<Vec<u8>>,
            bytes(&filter.pixel_sha256) as Option<Vec<u8>>,
            filter.verdict.as_deref() as Option<&str>,
            near.as_deref() as Option<&[i64]>,
            bytes(&filter.prompt_commitment) as Option<Vec<u8>>,
            filter.order == Order::Ascending,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }
}

impl Ledger {
    /// The part of a range outside which no entry states a time between these: the blocks at its ends are left
    /// out as long as none of theirs does.
    async fn range_of_times(
        &self,
        range: &Range,
        created_from: Option<i64>,
        created_until: Option<i64>,
    ) -> Result<Range, LedgerError> {
        if created_from.is_none() && created_until.is_none() {
            return Ok(*range);
        }
        let row = sqlx::query!(
            "SELECT min(block) AS first, max(block) AS last FROM entry_times
             WHERE block >= $1 / $5::bigint AND block <= $2 / $5
               AND ($3::bigint IS NULL OR last_ms >= $3) AND ($4::bigint IS NULL OR first_ms < $4)",
            range.from,
            range.until,
            created_from,
            created_until,
            TIMES_BLOCK_ENTRIES
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(match row.first.zip(row.last) {
            Some((first, last)) => Range {
                from: range.from.max(first * TIMES_BLOCK_ENTRIES),
                until: range.until.min((last + 1) * TIMES_BLOCK_ENTRIES),
            },
            None => Range { from: 0, until: 0 },
        })
    }

    /// The entries within a perceptual distance, all of them.
    async fn near_leaf_indexes(&self, near: &Near) -> Result<Vec<i64>, LedgerError> {
        let hash = match near.to {
            Likeness::Hash(hash) => hash,
            Likeness::Entry(leaf_index) => self.stated_hash(leaf_index).await?,
        };
        let found = self.find_near(&[hash], near.distance_max).await?;
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

    /// The perceptual hash that a published entry states.
    async fn stated_hash(&self, leaf_index: LeafIndex) -> Result<[u8; 32], LedgerError> {
        let recorded = match self.entry(leaf_index).await {
            Ok(recorded) => Some(recorded.entry),
            Err(LedgerError::NoSuchEntry { .. }) => None,
            Err(error) => return Err(error),
        };
        let details = match &recorded {
            Some(Entry::Generation(generation)) => generation.details.as_ref(),
            _ => None,
        };
        let stated = details.and_then(|details| details.perceptual_hash);
        stated
            .map(|stated| *stated.hash.as_bytes())
            .ok_or(LedgerError::NoPerceptualHash { leaf_index })
    }

    /// The part of a range where the key asked for signed.
    pub(crate) async fn signed_range(
        &self,
        filter: &EntryFilter,
        range: Range,
    ) -> Result<Range, LedgerError> {
        let Some(asked) = &filter.key else {
            return Ok(range);
        };
        let history = self.key_history().await?;
        let key = history
            .key(asked)
            .ok_or_else(|| LedgerError::UnknownKey { key: asked.clone() })?;
        let from = to_i64(key.from.get(), "leaf index")?;
        let until = key.until.map(|last| to_i64(last.get(), "leaf index"));
        Ok(Range {
            from: range.from.max(from),
            until: match until.transpose()? {
                Some(last) => range.until.min(last.saturating_add(1)),
                None => range.until,
            },
        })
    }
}

/// The leaf indexes that a page may hold: from, and until but without.
#[derive(Clone, Copy, Debug)]
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
