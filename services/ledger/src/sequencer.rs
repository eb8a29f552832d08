//! The sequencer: it alone decides which entry gets which leaf index, and signs the checkpoints.
//!
//! Any number of processes may run one; the lease in the database lets one work at a time. The order
//! of the durable steps of a batch:
//!
//! 1. entries and tree nodes are recorded and leave the queue, in one transaction;
//! 2. the checkpoint is signed, in memory or by a signer elsewhere;
//! 3. the checkpoint replaces the last signed one in the checkpoint store, by compare and swap;
//! 4. the checkpoint is published in the database.
//!
//! Comments between the steps say what a crash there leaves behind. All of it is repaired by the same
//! code: whoever takes over loads everything anew, compares it with the checkpoint store, and then
//! signs and publishes what is recorded but not covered.

mod batch;
mod checkpoint_store;
mod lease;
mod signers;
mod tree;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use provenance::{Checkpoint, Digest, KeyHistory, SignedCheckpoint, TreeSize};
use tokio::sync::watch;

pub use self::checkpoint_store::CheckpointStore;
use self::lease::Lease;
pub use self::signers::CheckpointSigners;
use self::signers::Signing;
use crate::connect::Ledger;
use crate::entries::to_i64;
use crate::hints::{Hints, PENDING, PUBLISHED};
use crate::{LedgerError, keys, proofs};

/// Why the sequencer refused an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    BadSignature,
    Unreadable,
    RequestConflict,
    KeyRetired,
    KeyStatement,
}

impl Refusal {
    const ALL: [Self; 5] = [
        Self::BadSignature,
        Self::Unreadable,
        Self::RequestConflict,
        Self::KeyRetired,
        Self::KeyStatement,
    ];

    /// The word in the database.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::BadSignature => "bad_signature",
            Self::Unreadable => "unreadable",
            Self::RequestConflict => "request_conflict",
            Self::KeyRetired => "key_retired",
            Self::KeyStatement => "key_statement",
        }
    }

    pub(crate) fn parse(word: &str) -> Result<Self, LedgerError> {
        Self::ALL
            .into_iter()
            .find(|refusal| refusal.word() == word)
            .ok_or_else(|| LedgerError::damaged(format!("unknown refusal {word:?}")))
    }
}

impl From<Refusal> for LedgerError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BadSignature => Self::BadSignature,
            Refusal::Unreadable => Self::Unreadable,
            Refusal::RequestConflict => Self::RequestConflict,
            Refusal::KeyRetired => Self::KeyRetired,
            Refusal::KeyStatement => Self::KeyStatement {
                detail: "it does not follow from what the log says about its keys".to_owned(),
            },
        }
    }
}

/// The limits of a sequencer.
#[derive(Clone, Debug)]
pub struct SequencerOptions {
    /// Name of this process in the lease, for people who look.
    pub holder: String,
    /// Most entries of one batch: they are held in memory, and their transaction holds the lease's row.
    pub batch_entries_max: u32,
    /// How long to let entries gather after a batch before the next one.
    pub batch_interval: Duration,
    /// How often to look for entries, and for a free lease, when no notification comes.
    pub poll_interval: Duration,
    /// How long the lease lasts without a heartbeat. After a crash, nothing is recorded for so long.
    pub lease_duration: Duration,
    /// How long to wait after a failure that may pass, such as a database that is down.
    pub retry_interval: Duration,
    /// How long the reason of a refusal is kept for callers that ask again.
    pub refusal_kept: Duration,
    /// For tests: stop, as if killed, after doing this step once.
    #[doc(hidden)]
    pub stop_after: Option<Step>,
}

impl Default for SequencerOptions {
    /// 2,048 entries a batch, 5 ms apart; looks every 100 ms; a lease of 10 s.
    fn default() -> Self {
        Self {
            holder: format!("process {}", std::process::id()),
            batch_entries_max: 2048,
            batch_interval: Duration::from_millis(5),
            poll_interval: Duration::from_millis(100),
            lease_duration: Duration::from_secs(10),
            retry_interval: Duration::from_millis(500),
            refusal_kept: Duration::from_secs(3600),
            stop_after: None,
        }
    }
}

/// The steps of a batch, for tests that break off after one.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Entries and nodes were written, but the transaction was not committed.
    Write,
    /// Entries and nodes are recorded.
    Record,
    /// The checkpoint was signed.
    Sign,
    /// The checkpoint is in the store.
    Store,
    /// The checkpoint is published.
    Publish,
}

/// Records queued entries and signs checkpoints while it holds the lease; stands by otherwise.
#[derive(Debug)]
pub struct Sequencer {
    ledger: Ledger,
    signers: CheckpointSigners,
    store: CheckpointStore,
    options: SequencerOptions,
    leading: watch::Sender<bool>,
}

/// What the leading sequencer knows: the recorded tree, and the last signed checkpoint.
struct Head {
    tree_size: TreeSize,
    root_hash: Digest,
    signed: Option<SignedCheckpoint>,
    /// The keys that signed the recorded entries; the last one signs the next.
    keys: KeyHistory,
    /// Who signs the next checkpoint.
    signing: Signing,
}

impl Sequencer {
    /// A sequencer with the default limits. The checkpoint store is a folder outside the database,
    /// better on another disk and in another backup than it: whoever can set both back together can
    /// make us sign a second history.
    pub fn new(
        ledger: Ledger,
        signers: impl Into<CheckpointSigners>,
        checkpoint_store: PathBuf,
    ) -> Self {
        Self::with_options(
            ledger,
            signers,
            checkpoint_store,
            SequencerOptions::default(),
        )
    }

    /// A sequencer with these limits.
    pub fn with_options(
        ledger: Ledger,
        signers: impl Into<CheckpointSigners>,
        checkpoint_store: PathBuf,
        options: SequencerOptions,
    ) -> Self {
        Self {
            ledger,
            signers: signers.into(),
            store: CheckpointStore::new(checkpoint_store),
            options,
            leading: watch::Sender::new(false),
        }
    }

    /// Tells whether this sequencer holds the lease and publishes checkpoints.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Works until the shutdown future completes: waits for the lease, leads, and goes on after
    /// failures that may pass. The batch at hand is finished first.
    ///
    /// # Errors
    /// Only what nobody but a person can repair: a database that was rolled back or contradicts a
    /// signed checkpoint, a checkpoint store that is missing or damaged, the wrong key, a schema that
    /// does not fit. Nothing is signed over any of these.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), LedgerError> {
        let hints = Hints::listen(
            self.ledger.pool.clone(),
            PENDING,
            self.options.retry_interval,
        );
        let mut shutdown = std::pin::pin!(shutdown);
        let mut lease = None;
        loop {
            let ended = tokio::select! {
                () = &mut shutdown => return self.leave(lease).await,
                taken = self.wait_for_lease(lease.as_ref()) => taken,
            };
            let ended = match ended {
                Ok(taken) => {
                    let taken = lease.insert(taken);
                    let ended = self.lead(taken, &hints, shutdown.as_mut()).await;
                    self.leading.send_replace(false);
                    ended
                }
                Err(error) => Err(error),
            };
            match ended {
                Ok(()) => return self.leave(lease).await,
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, "the sequencer stops for now and starts anew");
                    tokio::select! {
                        () = &mut shutdown => return self.leave(lease).await,
                        () = tokio::time::sleep(self.options.retry_interval) => {}
                    }
                }
                Err(error) => {
                    if let LedgerError::WrongKey { .. } = error {
                        // Nothing was touched: one that has the key need not wait.
                        self.leave(lease).await?;
                    }
                    tracing::error!(%error, "the sequencer stops");
                    return Err(error);
                }
            }
        }
    }

    /// Makes the newest published checkpoint the last signed one of an empty store. For a person who
    /// lost the store, or brings up a sequencer on another machine, and has compared that checkpoint
    /// with a copy that the database's keeper cannot change.
    ///
    /// # Errors
    /// Refuses a store that is not empty, and a log without checkpoints.
    pub async fn adopt_published_checkpoint(&self) -> Result<SignedCheckpoint, LedgerError> {
        let published = self
            .ledger
            .published_checkpoint()
            .await?
            .ok_or(LedgerError::NoCheckpoint)?;
        self.store.replace(None, &published).await?;
        Ok(published)
    }

    async fn wait_for_lease(&self, previous: Option<&Lease>) -> Result<Lease, LedgerError> {
        let terms = lease::Terms {
            holder: &self.options.holder,
            duration: self.options.lease_duration,
        };
        loop {
            if let Some(lease) = Lease::take(&self.ledger.pool, &terms, previous).await? {
                return Ok(lease);
            }
            tokio::time::sleep(self.options.poll_interval).await;
        }
    }

    /// Gives the lease back, if there is one, so that a successor need not wait for its end.
    async fn leave(&self, lease: Option<Lease>) -> Result<(), LedgerError> {
        if let Some(lease) = lease
            && let Err(error) = lease.release(&self.ledger.pool).await
        {
            // It runs out by itself.
            tracing::debug!(%error, "could not give the lease back");
        }
        Ok(())
    }

    /// Works until the shutdown, or until something fails.
    async fn lead(
        &self,
        lease: &Lease,
        hints: &Hints,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), LedgerError> {
        self.ledger.check_durability().await?;
        let mut head = self.take_over(lease).await?;
        tracing::info!(tree_size = head.tree_size.get(), "the sequencer leads");
        self.leading.send_replace(true);
        let heartbeat_interval = self.options.lease_duration / 3;
        let mut held_at = Instant::now();
        loop {
            let mut taken = 0;
            if self.has_waiting().await? || held_at.elapsed() > heartbeat_interval {
                taken = self.work_once(lease, &mut head).await?;
                held_at = Instant::now();
            }
            let pause = async {
                match taken {
                    // Whoever queues into an empty queue tells; polling is for hints that got lost.
                    0 => {
                        hints
                            .wait(self.options.poll_interval.min(heartbeat_interval))
                            .await
                    }
                    // More may have come meanwhile, without telling, as the queue was not empty.
                    _ => tokio::time::sleep(self.options.batch_interval).await,
                }
            };
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                () = pause => {}
            }
        }
    }

    /// One batch through all steps. Answers how many rows left the queue.
    async fn work_once(&self, lease: &Lease, head: &mut Head) -> Result<usize, LedgerError> {
        let recorded = self.record_batch(lease, head).await?;
        if recorded.entries > 0 {
            self.publish(lease, head).await?;
        } else if recorded.taken > 0 {
            self.tell_published().await?;
        }
        Ok(recorded.taken)
    }

    async fn has_waiting(&self) -> Result<bool, LedgerError> {
        let row = sqlx::query!(
            r#"SELECT EXISTS (SELECT FROM pending WHERE refusal IS NULL) AS "waiting!""#
        )
        .fetch_one(&self.ledger.pool)
        .await?;
        Ok(row.waiting)
    }

    /// Loads everything anew, refuses to go on from anything that contradicts a signed checkpoint, and
    /// signs and publishes what a crash left uncovered.
    async fn take_over(&self, lease: &Lease) -> Result<Head, LedgerError> {
        let stored = self.store.read().await?;
        let published = self.ledger.published_checkpoint().await?;
        let mut transaction = self.ledger.pool.begin().await?;
        lease.hold(&mut transaction).await?;
        let tree_size = tree::recorded_size(&mut transaction).await?;
        let statements = keys::statements(&mut transaction, tree_size).await?;
        let keys = keys::history(self.ledger.first_key(), &statements)?.prepared();
        if let Some(stored) = &stored {
            self.store
                .verify_recorded(stored, keys.checkpoints(), tree_size)?;
        }
        let mut root_hash = None;
        for signed in stored.iter().chain(&published) {
            let Checkpoint {
                tree_size: signed_size,
                root_hash: signed_root,
                ..
            } = signed.unverified();
            if *signed_size > tree_size {
                return Err(LedgerError::RolledBack {
                    recorded: tree_size,
                    signed: *signed_size,
                });
            }
            let computed = proofs::root_at(&mut transaction, *signed_size).await?;
            if computed != *signed_root {
                return Err(LedgerError::Inconsistent {
                    tree_size: *signed_size,
                    computed,
                    signed: *signed_root,
                });
            }
            if *signed_size == tree_size {
                root_hash = Some(computed);
            }
        }
        let root_hash = match root_hash {
            Some(root_hash) => root_hash,
            None => proofs::root_at(&mut transaction, tree_size).await?,
        };
        transaction.commit().await?;
        let signing = self.signers.of(keys.checkpoints()).await?;
        let signed = self.catch_up_store(stored, published.as_ref()).await?;
        let mut head = Head {
            tree_size,
            root_hash,
            signed,
            keys,
            signing,
        };
        let is_published =
            published.is_some_and(|published| published.unverified().tree_size == head.tree_size);
        if !is_published {
            self.publish(lease, &mut head).await?;
        }
        Ok(head)
    }

    /// A store behind the published log belongs to a sequencer that stood by; both were found to be
    /// consistent with the recorded tree, so it catches up. An empty store is another matter.
    async fn catch_up_store(
        &self,
        stored: Option<SignedCheckpoint>,
        published: Option<&SignedCheckpoint>,
    ) -> Result<Option<SignedCheckpoint>, LedgerError> {
        match (stored, published) {
            (None, Some(published)) => Err(LedgerError::CheckpointStoreMissing {
                path: self.store.path(),
                tree_size: published.unverified().tree_size,
            }),
            (Some(stored), Some(published))
                if stored.unverified().tree_size < published.unverified().tree_size =>
            {
                self.store.replace(Some(&stored), published).await?;
                Ok(Some(published.clone()))
            }
            (stored, _) => Ok(stored),
        }
    }

    /// Steps 2 to 4 for the recorded tree.
    async fn publish(&self, lease: &Lease, head: &mut Head) -> Result<(), LedgerError> {
        // A crash here leaves recorded entries that no checkpoint covers. Their appends have not
        // answered. Whoever takes over signs a checkpoint over them.
        let checkpoint = Checkpoint {
            origin: self.ledger.options.public_keys.origin().to_owned(),
            tree_size: head.tree_size,
            root_hash: head.root_hash,
        };
        // A signer elsewhere may keep one waiting. When it gives no signature, this ends as a crash does.
        let signed = head.signing.sign(checkpoint, head.keys.checkpoints());
        let signed = signed.await?;
        self.stop_on_purpose(Step::Sign)?;
        // A crash here loses a signature that nobody has seen; the same one is made again, less that of an earlier
        // key whose time is over by then.
        if head.signed.as_ref() != Some(&signed) {
            self.store.replace(head.signed.as_ref(), &signed).await?;
            head.signed = Some(signed.clone());
        }
        self.stop_on_purpose(Step::Store)?;
        // A crash here leaves a stored checkpoint that is not published. Whoever takes over finds it
        // consistent with the recorded tree and publishes one of at least its size.
        let mut transaction = self.ledger.pool.begin().await?;
        lease.hold(&mut transaction).await?;
        sqlx::query!(
            "INSERT INTO checkpoints (tree_size, root_hash, note) VALUES ($1, $2, $3)
             ON CONFLICT (tree_size) DO NOTHING",
            to_i64(head.tree_size.get(), "tree size")?,
            head.root_hash.as_bytes(),
            signed.text()
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(r#"SELECT pg_notify($1, '') IS NULL AS told"#, PUBLISHED)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        self.stop_on_purpose(Step::Publish)
        // A crash here leaves appends of this process unanswered; appends of other processes see the
        // checkpoint. A caller that tries again with the same envelope gets the same place.
    }

    /// Tells waiting appends to look, when a batch held nothing but refused entries.
    async fn tell_published(&self) -> Result<(), LedgerError> {
        sqlx::query!(r#"SELECT pg_notify($1, '') IS NULL AS told"#, PUBLISHED)
            .fetch_one(&self.ledger.pool)
            .await?;
        Ok(())
    }

    fn stop_on_purpose(&self, step: Step) -> Result<(), LedgerError> {
        if self.options.stop_after == Some(step) {
            return Err(LedgerError::StoppedOnPurpose);
        }
        Ok(())
    }
}
