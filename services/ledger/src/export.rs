//! Reading all entries that meet a filter, page by page, under one checkpoint.

use provenance::{Digest, Envelope, LeafIndex, SignedCheckpoint, TreeSize};

use crate::connect::Ledger;
use crate::entries::{EntryRow, digest, leaf_index_of, to_i64};
use crate::search::Range;
use crate::{EntryFilter, LedgerError, Order, PAGE_ENTRIES_MAX};

/// One entry of a walk. The statement in the envelope is not read here: a walk passes many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkedEntry {
    /// Its place in the log.
    pub leaf_index: LeafIndex,
    /// The hash of its leaf.
    pub leaf_hash: Digest,
    /// The signed envelope.
    pub envelope: Envelope,
}

impl TryFrom<EntryRow> for WalkedEntry {
    type Error = LedgerError;

    fn try_from(row: EntryRow) -> Result<Self, LedgerError> {
        Ok(Self {
            leaf_index: leaf_index_of(row.leaf_index)?,
            leaf_hash: digest(&row.leaf_hash)?,
            envelope: Envelope::parse(&row.envelope)?,
        })
    }
}

/// A walk over all entries that meet a filter, oldest first. It holds one page at a time, and entries
/// that are recorded after its beginning are not in it: the same filter under the same checkpoint
/// always gives the same entries.
#[derive(Debug)]
pub struct EntryWalk {
    ledger: Ledger,
    filter: EntryFilter,
    checkpoint: SignedCheckpoint,
    after: Option<LeafIndex>,
    ended: bool,
}

impl Ledger {
    /// Begins a walk under the newest checkpoint, or under the one of this tree size. The order of the
    /// filter does not matter.
    ///
    /// # Errors
    /// Refuses sizes without a checkpoint, and a log without any.
    pub async fn walk(
        &self,
        filter: EntryFilter,
        tree_size: Option<TreeSize>,
    ) -> Result<EntryWalk, LedgerError> {
        let checkpoint = match tree_size {
            Some(tree_size) => self.checkpoint(tree_size).await?,
            None => self
                .witnessed_checkpoint()
                .await?
                .ok_or(LedgerError::NoCheckpoint)?,
        };
        let filter = EntryFilter {
            order: Order::Ascending,
            ..filter
        };
        Ok(EntryWalk {
            ledger: self.clone(),
            filter,
            checkpoint,
            after: None,
            ended: false,
        })
    }
}

impl EntryWalk {
    /// The checkpoint that the walk is complete for.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// The next entries, at most [`PAGE_ENTRIES_MAX`]; none at the end.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn next_page(&mut self) -> Result<Vec<WalkedEntry>, LedgerError> {
        if self.ended {
            return Ok(Vec::new());
        }
        let tree_size = to_i64(self.checkpoint.unverified().tree_size.get(), "tree size")?;
        let range = Range::new(Order::Ascending, self.after, tree_size)?;
        let range = self.ledger.signed_range(&self.filter, range).await?;
        let limit = i64::from(PAGE_ENTRIES_MAX);
        let rows = self
            .ledger
            .matching_rows(&self.filter, &range, limit)
            .await?;
        self.ended = rows.len() < PAGE_ENTRIES_MAX as usize;
        if let Some(last) = rows.last() {
            self.after = Some(leaf_index_of(last.leaf_index)?);
        }
        rows.into_iter().map(WalkedEntry::try_from).collect()
    }
}
