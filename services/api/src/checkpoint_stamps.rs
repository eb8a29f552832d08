//! Having the checkpoints of the log stamped by a time-stamping authority (RFC 3161).
//!
//! It happens in the background, in the process that publishes the checkpoints, and nobody waits for it. What is
//! stamped is the SHA-256 of the newest checkpoint's note, byte for byte as it was published: its text with the
//! signature lines of the log, without those of witnesses. As each checkpoint covers all entries before it, one stamp
//! now and then dates everything: at most one request in an interval, and none while there is nothing new, so that
//! the last checkpoint before a quiet time is stamped when the interval is over. An authority that fails is asked
//! again after an interval, and after longer each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use credentials::{CredentialsError, TimeStampAuthority, TimeStampReply, time_stamp_request};
use ledger::{Ledger, LedgerError};
use provenance::{SignedCheckpoint, TreeSize};
use tokio::sync::watch;

use crate::config::TimeStampOptions;
use crate::time_stamps::HttpAuthority;

/// How often to look for a checkpoint that is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Checkpoints that were stamped, and askings that failed, in this process.
pub static STAMPS: AtomicU64 = AtomicU64::new(0);
/// See [`STAMPS`].
pub static FAILURES: AtomicU64 = AtomicU64::new(0);

/// Verifies that an answer is a time stamp of a note. Under whose root it stands is for auditors to judge.
///
/// # Errors
/// Why it is none.
pub fn verify(note: &[u8], reply: &[u8]) -> Result<(), String> {
    let verified = TimeStampReply::parse(reply).and_then(|reply| reply.verify(note));
    verified.map(drop).map_err(|refusal| refusal.to_string())
}

/// Asks the authority.
pub(crate) struct CheckpointStamper {
    ledger: Ledger,
    authority: Arc<HttpAuthority>,
    interval: Duration,
    backoff_max: Duration,
    /// The size of the tree that was stamped last; not known before the first look.
    stamped: Option<TreeSize>,
    failures: u32,
    not_before: Instant,
}

/// Why there is no stamp.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Authority(String),
    #[error(transparent)]
    Request(#[from] CredentialsError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl CheckpointStamper {
    /// A stamper, where an authority is configured and checkpoints are to be stamped.
    pub(crate) fn new(ledger: Ledger, options: &TimeStampOptions) -> Option<Self> {
        Some(Self {
            ledger,
            authority: Arc::new(HttpAuthority::new(options)?),
            interval: options.checkpoint_interval()?,
            backoff_max: options.checkpoint_backoff_max(),
            stamped: None,
            failures: 0,
            not_before: Instant::now(),
        })
    }

    /// Works until told to stop, while this process publishes checkpoints.
    pub(crate) async fn run(
        mut self,
        leading: watch::Receiver<bool>,
        mut stopping: watch::Receiver<bool>,
    ) {
        loop {
            tokio::select! {
                // A closed channel is a service that has gone.
                _ = stopping.wait_for(|stopping| *stopping) => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            if !*leading.borrow() {
                // Another process asks meanwhile.
                self.stamped = None;
                continue;
            }
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                looked = self.look() => if let Err(error) = looked {
                    tracing::warn!(%error, "no checkpoint could be looked at for a time stamp");
                }
            }
        }
    }

    /// Has the newest checkpoint stamped, when the time has come and it is not stamped yet.
    async fn look(&mut self) -> Result<(), LedgerError> {
        if Instant::now() < self.not_before {
            return Ok(());
        }
        if self.stamped.is_none() {
            let newest = self.ledger.newest_time_stamp().await?;
            let (stamped, age) = newest.unwrap_or((TreeSize::new(0), self.interval));
            self.stamped = Some(stamped);
            // The interval holds across restarts.
            self.not_before = Instant::now() + self.interval.saturating_sub(age);
            if age < self.interval {
                return Ok(());
            }
        }
        let Some(newest) = self.ledger.published_checkpoint().await? else {
            return Ok(());
        };
        let size = newest.unverified().tree_size;
        // A stamp on the empty log would date nothing.
        if self.stamped.is_some_and(|stamped| size <= stamped) {
            return Ok(());
        }
        let asked = self.ask(&newest).await;
        self.note(asked, size);
        Ok(())
    }

    async fn ask(&self, checkpoint: &SignedCheckpoint) -> Result<(), Refusal> {
        let request = time_stamp_request(checkpoint.text_of_log().as_bytes())?;
        let authority = Arc::clone(&self.authority);
        let asked = tokio::task::spawn_blocking(move || authority.time_stamp(&request)).await;
        let reply = asked
            .unwrap_or_else(|_| Err("asking panicked".to_owned()))
            .map_err(Refusal::Authority)?;
        Ok(self.ledger.add_time_stamp(checkpoint, reply).await?)
    }

    /// Remembers how it went, and for how long nobody is asked. Of failures in a row the first is logged.
    fn note(&mut self, asked: Result<(), Refusal>, size: TreeSize) {
        let tree_size = size.get();
        match asked {
            Ok(()) => {
                STAMPS.fetch_add(1, Ordering::Relaxed);
                if self.failures > 0 {
                    tracing::info!(tree_size, "checkpoints are time-stamped again");
                }
                (self.stamped, self.failures) = (Some(size), 0);
                self.not_before = Instant::now() + self.interval;
            }
            Err(refusal) => {
                FAILURES.fetch_add(1, Ordering::Relaxed);
                self.failures = self.failures.saturating_add(1);
                let wait = backoff(self.failures, self.interval, self.backoff_max);
                self.not_before = Instant::now() + wait;
                let again_in_s = wait.as_secs();
                if self.failures == 1 {
                    tracing::warn!(tree_size, %refusal, again_in_s, "no time stamp of a checkpoint");
                } else {
                    tracing::debug!(tree_size, %refusal, again_in_s, "no time stamp of a checkpoint");
                }
            }
        }
    }
}

/// Twice as long after each failure, from the interval up to the limit, which is no less than the interval.
fn backoff(failures: u32, interval: Duration, most: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    interval
        .saturating_mul(1 << doublings)
        .min(most.max(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_fails_is_asked_less_often_each_time() {
        let seconds = Duration::from_secs;
        let waits = [1, 2, 3, 4, u32::MAX].map(|n| backoff(n, seconds(600), seconds(3_600)));
        assert_eq!(waits, [600, 1_200, 2_400, 3_600, 3_600].map(seconds));
        assert_eq!(backoff(9, seconds(600), seconds(1)), seconds(600));
    }
}
