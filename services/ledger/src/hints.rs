//! Notifications as hints: they make waiting short, and nothing depends on their coming.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Told by appenders when something waits in an empty queue.
pub(crate) const PENDING: &str = "retrace_pending";
/// Told by the sequencer when a checkpoint was published or an entry refused.
pub(crate) const PUBLISHED: &str = "retrace_published";

/// Listens on one channel in a task of its own, until dropped.
#[derive(Debug)]
pub(crate) struct Hints {
    notify: Arc<Notify>,
    task: AbortHandle,
}

impl Hints {
    /// Starts to listen. A lost connection is made again after the retry interval.
    pub(crate) fn listen(pool: PgPool, channel: &'static str, retry_interval: Duration) -> Self {
        let notify = Arc::new(Notify::new());
        let hints = Arc::clone(&notify);
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = forward(&pool, channel, &hints).await {
                    if matches!(error, sqlx::Error::PoolClosed) {
                        return;
                    }
                    tracing::debug!(%error, channel, "lost the notifications; polling goes on");
                }
                tokio::time::sleep(retry_interval).await;
            }
        });
        Self {
            notify,
            task: task.abort_handle(),
        }
    }

    /// Waits for a hint, or as long as a poll may take.
    pub(crate) async fn wait(&self, poll_interval: Duration) {
        // Running out of time is as good an answer as a hint: the caller looks in both cases.
        let _ = tokio::time::timeout(poll_interval, self.notify.notified()).await;
    }

    /// Gives a hint from inside this process.
    pub(crate) fn give(&self) {
        self.notify.notify_one();
    }

    /// Stops listening.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn forward(pool: &PgPool, channel: &str, hints: &Notify) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(channel).await?;
    loop {
        listener.recv().await?;
        hints.notify_one();
    }
}
