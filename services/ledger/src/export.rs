//! Reading all entries that meet a filter, page by page, under one checkpoint.

use provenance::{Digest, Envelope, LeafIndex, SignedCheckpoint, TreeSize};
use tokio::task::JoinSet;

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

/// A walk over all entries that meet a filter, oldest first. It holds two pages at a time, the one that
/// was handed out and the one after it, which is read meanwhile. Entries that are recorded after its
/// beginning are not in it: the same filter under the same checkpoint always gives the same entries.
#[derive(Debug)]
pub struct EntryWalk {
    reader: Reader,
    checkpoint: SignedCheckpoint,
    /// The page that is being read; ends with the walk.
    ahead: JoinSet<Result<Vec<WalkedEntry>, LedgerError>>,
    /// Where that page begins.
    after: Option<LeafIndex>,
}

/// What reads a page.
#[derive(Clone, Debug)]
struct Reader {
    ledger: Ledger,
    filter: EntryFilter,
    tree_size: i64,
}

impl Reader {
    /// The entries after a place, at most [`PAGE_ENTRIES_MAX`].
    async fn page(self, after: Option<LeafIndex>) -> Result<Vec<WalkedEntry>, LedgerError> {
        let range = Range::new(Order::Ascending, after, self.tree_size)?;
        let range = self.ledger.signed_range(&self.filter, range).await?;
        let limit = i64::from(PAGE_ENTRIES_MAX);
        let rows = self
            .ledger
            .matching_rows(&self.filter, &range, limit)
            .await?;
        rows.into_iter().map(WalkedEntry::try_from).collect()
    }
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
        let reader = Reader {
            ledger: self.clone(),
            filter,
            tree_size: to_i64(checkpoint.unverified().tree_size.get(), "tree size")?,
        };
        let mut ahead = JoinSet::new();
        ahead.spawn(reader.clone().page(None));
        Ok(EntryWalk {
            reader,
            checkpoint,
            ahead,
            after: None,
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
        let Some(read) = self.ahead.join_next().await else {
            return Ok(Vec::new());
        };
        let page = match read.expect("reading a page does not panic") {
            Ok(page) => page,
            Err(error) => {
                // The walk stands where it stood.
                self.ahead.spawn(self.reader.clone().page(self.after));
                return Err(error);
            }
        };
        if let Some(last) = page.last()
            && page.len() == PAGE_ENTRIES_MAX as usize
        {
            self.after = Some(last.leaf_index);
            self.ahead.spawn(self.reader.clone().page(self.after));
        }
        Ok(page)
    }
}
