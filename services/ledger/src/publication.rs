//! What has been published, and the appends that wait for it.
//!
//! One task for each ledger handle looks once for all waiting appends: after a hint, or when the poll
//! interval has passed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use provenance::{Digest, LeafIndex, SignedCheckpoint};
use sqlx::PgPool;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::connect::LedgerOptions;
use crate::entries::{digest, leaf_index_of};
use crate::heads::Heads;
use crate::hints::{Hints, PUBLISHED};
use crate::sequencer::Refusal;
use crate::{LedgerError, entries, proofs};

/// What became of a queued entry.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It is covered by this checkpoint, which this inclusion proof leads to, and which enough witnesses
    /// have cosigned.
    Covered {
        leaf_index: LeafIndex,
        proof: Vec<Digest>,
        checkpoint: Arc<SignedCheckpoint>,
    },
    /// The sequencer refused it.
    Refused(Refusal),
}

/// Proofs that are made with one query: neighbours share most of their hashes.
const PROOFS_TOGETHER: usize = 1024;

type Waiting = HashMap<Digest, Vec<oneshot::Sender<Outcome>>>;

/// The waiting appends and the task that answers them.
#[derive(Debug)]
pub(crate) struct Publications {
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    pool: PgPool,
    heads: Arc<Heads>,
    poll_interval: Duration,
    hints: Hints,
    waiting: Mutex<Waiting>,
}

impl Publications {
    /// Starts the task.
    pub(crate) fn watch(pool: PgPool, heads: Arc<Heads>, options: &LedgerOptions) -> Self {
        let shared = Arc::new(Shared {
            hints: Hints::listen(pool.clone(), PUBLISHED, options.poll_interval),
            pool,
            heads,
            poll_interval: options.poll_interval,
            waiting: Mutex::default(),
        });
        let task = tokio::spawn(answer_for_ever(Arc::clone(&shared))).abort_handle();
        Self { shared, task }
    }

    /// Registers for the outcome of an entry. To be called before it is queued.
    pub(crate) fn expect(&self, leaf_hash: Digest) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        self.shared
            .waiting()
            .entry(leaf_hash)
            .or_default()
            .push(sender);
        receiver
    }

    /// Makes the task look now.
    pub(crate) fn look(&self) {
        self.shared.hints.give();
    }

    /// Ends the task; waiting appends run into their time limit.
    pub(crate) fn stop(&self) {
        self.task.abort();
        self.shared.hints.stop();
    }
}

impl Drop for Publications {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held, and a map of channels has no half-changed state anyway.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hashes that somebody still waits for.
    fn wanted(&self) -> Vec<Vec<u8>> {
        let mut waiting = self.waiting();
        waiting.retain(|_, senders| {
            senders.retain(|sender| !sender.is_closed());
            !senders.is_empty()
        });
        waiting
            .keys()
            .map(|hash| hash.as_bytes().to_vec())
            .collect()
    }

    fn answer(&self, leaf_hash: &Digest, outcome: &Outcome) {
        for sender in self.waiting().remove(leaf_hash).into_iter().flatten() {
            // Who no longer listens ran out of time; the entry is recorded all the same.
            let _ = sender.send(outcome.clone());
        }
    }

    async fn look(&self) -> Result<(), LedgerError> {
        let wanted = self.wanted();
        if wanted.is_empty() {
            return Ok(());
        }
        self.answer_refused(&wanted).await?;
        let Some(checkpoint) = self.heads.witnessed().await? else {
            return Ok(());
        };
        let checkpoint = Arc::new(checkpoint);
        let tree_size = entries::to_i64(checkpoint.unverified().tree_size.get(), "tree size")?;
        let rows = sqlx::query!(
            "SELECT leaf_hash, leaf_index FROM entries
             WHERE leaf_hash = ANY($1) AND leaf_index < $2",
            &wanted,
            tree_size
        )
        .fetch_all(&self.pool)
        .await?;
        let leaves = rows
            .iter()
            .map(|row| Ok((leaf_index_of(row.leaf_index)?, digest(&row.leaf_hash)?)))
            .collect::<Result<Vec<_>, LedgerError>>()?;
        for leaves in leaves.chunks(PROOFS_TOGETHER) {
            let head = checkpoint.unverified().tree_head();
            let mut connection = self.pool.acquire().await?;
            let proofs = proofs::prove_all(&mut connection, leaves, &head).await?;
            for ((leaf_index, leaf_hash), proof) in leaves.iter().zip(proofs) {
                let outcome = Outcome::Covered {
                    leaf_index: *leaf_index,
                    proof,
                    checkpoint: Arc::clone(&checkpoint),
                };
                self.answer(leaf_hash, &outcome);
            }
        }
        Ok(())
    }

    async fn answer_refused(&self, wanted: &[Vec<u8>]) -> Result<(), LedgerError> {
        let rows = sqlx::query!(
            r#"SELECT leaf_hash, refusal AS "refusal!" FROM pending
               WHERE leaf_hash = ANY($1) AND refusal IS NOT NULL"#,
            wanted
        )
        .fetch_all(&self.pool)
        .await?;
        for row in rows {
            let refusal = Refusal::parse(&row.refusal)?;
            self.answer(&digest(&row.leaf_hash)?, &Outcome::Refused(refusal));
        }
        Ok(())
    }
}

async fn answer_for_ever(shared: Arc<Shared>) {
    loop {
        shared.hints.wait(shared.poll_interval).await;
        if let Err(error) = shared.look().await {
            if matches!(
                &error,
                LedgerError::DatabaseDown {
                    source: sqlx::Error::PoolClosed
                }
            ) {
                return;
            }
            // The appends keep waiting: the database may come back before their time is over.
            tracing::warn!(%error, "could not look for published checkpoints");
        }
    }
}
