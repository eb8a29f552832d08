//! Notifications about jobs as hints: they make waiting short, and nothing depends on their coming.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool};
use tokio::sync::broadcast;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::JobId;
use crate::connect::Ledger;
use crate::hints::PUBLISHED;

/// Told when a job waits.
pub(super) const WAITING: &str = "retrace_job_waiting";
/// Told with the job that is to stop.
pub(super) const CANCEL: &str = "retrace_job_cancel";
/// Told with the job that something happened to.
pub(super) const EVENT: &str = "retrace_job_event";

/// Hints that a slow receiver may be behind; it looks once for all that it missed.
const HINTS_MAX: usize = 256;
/// How long to wait before a lost connection is made again.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// What may be worth a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobHint {
    /// A job waits for a worker.
    Waiting,
    /// A running job is to stop.
    Cancel(JobId),
    /// Something happened to a job.
    Event(JobId),
    /// A checkpoint was published.
    Published,
}

impl JobHint {
    fn parse(channel: &str, payload: &str) -> Option<Self> {
        match channel {
            WAITING => Some(Self::Waiting),
            CANCEL => payload.parse().ok().map(Self::Cancel),
            EVENT => payload.parse().ok().map(Self::Event),
            PUBLISHED => Some(Self::Published),
            _ => None,
        }
    }
}

/// Listens for hints in a task of its own, for any number of receivers. Clones share the task.
#[derive(Clone, Debug)]
pub struct JobHints {
    sender: broadcast::Sender<JobHint>,
    _task: Arc<AbortOnDrop>,
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Receives hints from the moment it was made.
#[derive(Debug)]
pub struct JobHintsReceiver {
    receiver: broadcast::Receiver<JobHint>,
}

impl Ledger {
    /// Starts to listen for hints about jobs. It takes one of the connections.
    pub fn watch_jobs(&self) -> JobHints {
        let (sender, _) = broadcast::channel(HINTS_MAX);
        let task = tokio::spawn(forward_for_ever(self.pool.clone(), sender.clone()));
        JobHints {
            sender,
            _task: Arc::new(AbortOnDrop(task.abort_handle())),
        }
    }
}

impl JobHints {
    /// A receiver of what comes from now on. Take one before the first look, so that nothing slips
    /// in between.
    pub fn subscribe(&self) -> JobHintsReceiver {
        JobHintsReceiver {
            receiver: self.sender.subscribe(),
        }
    }
}

impl JobHintsReceiver {
    /// Waits for a hint that is wanted, or as long as a poll may take. The caller looks in both
    /// cases.
    pub async fn wait(&mut self, wanted: impl Fn(&JobHint) -> bool, poll_interval: Duration) {
        let deadline = Instant::now() + poll_interval;
        loop {
            match tokio::time::timeout_at(deadline, self.receiver.recv()).await {
                Ok(Ok(hint)) if !wanted(&hint) => {}
                Ok(Err(broadcast::error::RecvError::Closed)) => {
                    tokio::time::sleep_until(deadline).await;
                    return;
                }
                // A wanted hint, hints that were missed, or time for a look.
                _ => return,
            }
        }
    }
}

async fn forward_for_ever(pool: PgPool, sender: broadcast::Sender<JobHint>) {
    loop {
        match forward(&pool, &sender).await {
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => {
                tracing::debug!(%error, "lost the notifications about jobs; polling goes on");
            }
            Ok(()) => {}
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

async fn forward(pool: &PgPool, sender: &broadcast::Sender<JobHint>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener
        .listen_all([WAITING, CANCEL, EVENT, PUBLISHED])
        .await?;
    loop {
        let notification = listener.recv().await?;
        if let Some(hint) = JobHint::parse(notification.channel(), notification.payload()) {
            // Nobody may be listening just now.
            let _ = sender.send(hint);
        }
    }
}
