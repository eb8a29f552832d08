//! Jobs: work that waits for a worker on any machine.
//!
//! # The life of a job
//!
//! 1. [`Ledger::enqueue_job`] queues an order. The same Idempotency-Key of a client gives the same job.
//! 2. A worker claims the oldest waiting job ([`Ledger::claim_job`]): it gets a lease and a fencing
//!    token, and keeps the lease by heartbeats. A crash leaves a lease that runs out; then the job is
//!    claimed again, by anybody, under a newer token.
//! 3. The worker ends it ([`Ledger::finish_job`]): its entries are queued and the job ends in one
//!    transaction under the token. A crash before it leaves no entry and a job that is claimed again,
//!    one after it leaves nothing to do. A worker with an old token is refused, so no job is recorded
//!    twice.
//! 4. Clients follow it by numbered events, and see it succeeded when a checkpoint covers its entries.
//!
//! The order (with its prompt and uploads) is erased when the job ends.

mod enqueue;
mod events;
mod hints;
mod view;
mod work;

use std::fmt;
use std::str::FromStr;

pub use enqueue::{Enqueued, JobLimits, NewJob};
pub use events::{JobEvent, JobEventKind, JobProgress};
pub use hints::{JobHint, JobHints, JobHintsReceiver};
pub use view::{Job, JobQueue, JobState};
pub use work::{ClaimedJob, Heartbeat, WorkerTerms};

use crate::LedgerError;

/// Ids begin with this.
const ID_PREFIX: &str = "job-";
/// Random bytes of an id: nobody guesses one.
const ID_BYTES: usize = 12;

/// The random name of a job, `job-` and 24 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobId(String);

impl JobId {
    /// A new name.
    fn draw() -> Self {
        let mut bytes = [0; ID_BYTES];
        getrandom::fill(&mut bytes).expect("the operating system has randomness");
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{ID_PREFIX}{digits}"))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for JobId {
    type Err = LedgerError;

    /// # Errors
    /// [`LedgerError::NoSuchJob`] for a text that no job can be called.
    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let digits = text.strip_prefix(ID_PREFIX).unwrap_or_default();
        let is_id = digits.len() == 2 * ID_BYTES
            && digits
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if is_id {
            Ok(Self(text.to_owned()))
        } else {
            Err(LedgerError::NoSuchJob)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_id_is_read_back_and_anything_else_names_no_job() {
        let id = JobId::draw();
        assert_eq!(id.as_str().parse::<JobId>().unwrap(), id);
        assert_ne!(JobId::draw(), id);
        for text in [
            "",
            "job-",
            "job-12",
            "req-0123456789abcdef01234567",
            "job-0123456789ABCDEF01234567",
        ] {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
    }
}
