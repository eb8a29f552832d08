//! Near matches: the entries whose image has a perceptual hash close to a given one.
//!
//! The index lies in the memory of each process that asks. It is read from the table of hashes when it is
//! first needed, and afterwards reads what was published since: a notification makes that soon, and every
//! question makes sure. So any number of processes agree, and nothing but Postgres has to be restored.

use std::sync::{Arc, PoisonError, RwLock};

use provenance::{LeafIndex, NEAR_DISTANCE_MAX, NearIndex, Neighbour};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use crate::LedgerError;
use crate::blocking::blocking;
use crate::connect::Ledger;
use crate::entries::{digest, to_i64};
use crate::hints::{Hints, PUBLISHED};

/// How long the watch waits for a notification before it looks by itself.
const WATCH_INTERVAL: std::time::Duration = std::time::Duration::from_secs(5);
/// Hashes that are read from the database at a time.
const PAGE_HASHES: i64 = 50_000;

/// The index of a ledger handle and how far it has read. Clones of the handle share it.
#[derive(Debug, Default)]
pub(crate) struct Near {
    index: RwLock<Arc<NearIndex>>,
    /// The leaf index behind the last one that was read. Held while reading, so that one reads.
    next: Mutex<u64>,
}

/// Keeps the index of a ledger handle fresh, until dropped.
#[derive(Debug)]
pub struct NearWatch(AbortHandle);

impl Drop for NearWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Near {
    fn index(&self) -> Arc<NearIndex> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut NearIndex)) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        // A question under way keeps the state that it began with; the large part is shared.
        change(Arc::make_mut(&mut index));
    }
}

impl Ledger {
    /// Starts to keep the index of near matches fresh. It takes one of the connections.
    pub fn watch_near(&self) -> NearWatch {
        let ledger = self.clone();
        let poll_interval = self.options.poll_interval;
        let task = tokio::spawn(async move {
            let hints = Hints::listen(ledger.pool.clone(), PUBLISHED, poll_interval);
            loop {
                if let Err(error) = ledger.read_hashes().await {
                    tracing::debug!(%error, "the index of near matches is not fresh; trying again");
                }
                hints.wait(WATCH_INTERVAL).await;
            }
        });
        NearWatch(task.abort_handle())
    }

    /// The published entries whose image's perceptual hash is within a distance of each given hash, the
    /// nearest first. Complete for the newest checkpoint, and exact up to [`NEAR_DISTANCE_MAX`].
    ///
    /// # Errors
    /// Refuses greater distances; and when the database fails.
    pub async fn find_near(
        &self,
        hashes: &[[u8; 32]],
        distance_max: u32,
    ) -> Result<Vec<Vec<Neighbour>>, LedgerError> {
        if distance_max > NEAR_DISTANCE_MAX {
            return Err(LedgerError::Distance {
                distance_max: NEAR_DISTANCE_MAX,
            });
        }
        self.read_hashes().await?;
        let (index, hashes) = (self.near.index(), hashes.to_vec());
        blocking(move || {
            let found = hashes.iter().map(|hash| index.within(hash, distance_max));
            Ok(found.collect())
        })
        .await
    }

    /// Reads the hashes of entries that were published since the last time.
    async fn read_hashes(&self) -> Result<(), LedgerError> {
        let mut next = self.near.next.lock().await;
        loop {
            let rows = sqlx::query!(
                "SELECT leaf_index, hash, quality FROM perceptual_hashes
                 WHERE leaf_index >= $1
                   AND leaf_index < (SELECT coalesce(max(tree_size), 0) FROM checkpoints)
                 ORDER BY leaf_index LIMIT $2",
                to_i64(*next, "leaf index")?,
                PAGE_HASHES
            )
            .fetch_all(&self.pool)
            .await?;
            let mut read = Vec::with_capacity(rows.len());
            for row in &rows {
                let leaf_index = crate::entries::leaf_index_of(row.leaf_index)?;
                let quality = u8::try_from(row.quality).unwrap_or_default();
                read.push((*digest(&row.hash)?.as_bytes(), leaf_index, quality));
            }
            let last = read.last().map(|(_, leaf_index, _)| *leaf_index);
            if !read.is_empty() {
                self.near.change(|index| {
                    for (hash, leaf_index, quality) in &read {
                        index.push(hash, leaf_index.get(), *quality);
                    }
                });
            }
            let Some(last) = last.map(LeafIndex::get) else {
                break;
            };
            *next = last + 1;
            if (rows.len() as i64) < PAGE_HASHES {
                break;
            }
        }
        let index = self.near.index();
        if index.wants_tables() {
            let made = blocking(move || Ok(index.with_tables())).await?;
            // Reading is this task's alone while it holds the lock, so nothing came since.
            self.near.change(|index| index.take_tables(made));
        }
        Ok(())
    }
}
