//! Asking witnesses to cosign the checkpoints of this service (C2SP tlog-witness).
//!
//! It happens in rounds, in the background, in the process that publishes the checkpoints: all witnesses
//! are asked for the same checkpoint at once, so that a quorum comes together under load too. A witness
//! that fails is left alone for a while, longer each time; nobody waits for it but whoever demands it in
//! the quorum.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use ledger::{Ledger, LedgerError};
use provenance::witness::{PolicyWitness, WITNESS_POLICY_BYTES_MAX};
use provenance::{
    AddCheckpoint, CheckpointVerifier, ProvenanceError, SignedCheckpoint, TreeSize, WitnessPolicy,
    WitnessVerifier,
};
use tokio::sync::watch;
use ureq::Agent;

use crate::config::WitnessOptions;
use crate::witness::TREE_SIZE_TYPE;

/// Beside the log's own line, and that of the key before it for a time, a note has room for this many.
const WITNESSES_MAX: usize = 14;
/// An answer is a few signature lines, or a sentence.
const ANSWER_BYTES_MAX: u64 = 16 << 10;
/// Characters of a refusal that are logged.
const DETAIL_CHARS_MAX: usize = 200;

/// Cosignatures that came, and askings that failed, in this process.
pub static COSIGNATURES: AtomicU64 = AtomicU64::new(0);
/// See [`COSIGNATURES`].
pub static FAILURES: AtomicU64 = AtomicU64::new(0);

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// It is no policy.
    #[error("{0}")]
    Policy(#[from] ProvenanceError),
    /// It is none for this service.
    #[error("{0}")]
    Unfit(String),
}

/// Reads the policy of a service whose log has these keys.
///
/// # Errors
/// Refuses policies for other logs, more witnesses than a checkpoint has room for, and addresses that are
/// neither http nor https.
pub fn read_policy(path: &Path, log: &[CheckpointVerifier]) -> Result<WitnessPolicy, PolicyError> {
    let length = fs::metadata(path)?.len();
    if length > WITNESS_POLICY_BYTES_MAX as u64 {
        return Err(PolicyError::Unfit(format!("it has {length} bytes")));
    }
    let policy = WitnessPolicy::parse(&fs::read_to_string(path)?)?;
    if !policy.logs().is_empty() && !policy.logs().iter().any(|named| log.contains(named)) {
        let names: Vec<String> = log.iter().map(CheckpointVerifier::key_id).collect();
        let detail = format!("it is for other logs than {}", names.join(" and "));
        return Err(PolicyError::Unfit(detail));
    }
    if policy.witnesses().len() > WITNESSES_MAX {
        let detail = format!("more than {WITNESSES_MAX} witnesses");
        return Err(PolicyError::Unfit(detail));
    }
    for PolicyWitness { name, url, .. } in policy.witnesses() {
        let is_web = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        if url.as_ref().is_some_and(|url| !is_web(url)) {
            let detail = format!("the address of {name} is neither https nor http");
            return Err(PolicyError::Unfit(detail));
        }
    }
    Ok(policy)
}

/// Asks the witnesses of a policy.
pub(crate) struct Cosigner {
    ledger: Ledger,
    agent: Agent,
    options: WitnessOptions,
    witnesses: Vec<Asked>,
}

/// A witness, and how it has answered.
struct Asked {
    name: String,
    key: WitnessVerifier,
    url: String,
    /// The size of the newest tree that it has cosigned for us; not known before the first round.
    cosigned: Option<TreeSize>,
    /// The size that it said it has seen.
    seen: TreeSize,
    failures: u32,
    not_before: Instant,
}

/// Why there is no cosignature.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it answers {status}: {detail}")]
    Status { status: u16, detail: String },
    #[error(
        "it has seen a tree of {seen} entries where this log has published {published}: the log was set \
         back, or somebody else signs with its key"
    )]
    Ahead { seen: TreeSize, published: TreeSize },
    #[error("it says that this log does not continue what it saw: {0}")]
    Forked(String),
    #[error("its answer does not hold: {0}")]
    Answer(#[from] ProvenanceError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Refusal {
    /// Whether it speaks of two histories, which a person must look into.
    fn is_grave(&self) -> bool {
        matches!(self, Self::Ahead { .. } | Self::Forked(_))
    }
}

impl Cosigner {
    /// A cosigner for those witnesses of the policy that have an address.
    pub(crate) fn new(ledger: Ledger, policy: &WitnessPolicy, options: WitnessOptions) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(options.timeout_max()))
            .http_status_as_error(false)
            // A witness is where the policy says, and nowhere else.
            .max_redirects(0)
            .build()
            .new_agent();
        let asked = |witness: &PolicyWitness| {
            Some(Asked {
                name: witness.name.clone(),
                key: witness.key.clone(),
                url: format!(
                    "{}/add-checkpoint",
                    witness.url.as_ref()?.trim_end_matches('/')
                ),
                cosigned: None,
                seen: TreeSize::new(0),
                failures: 0,
                not_before: Instant::now(),
            })
        };
        let witnesses = policy.witnesses().iter().filter_map(asked).collect();
        Self {
            ledger,
            agent,
            options,
            witnesses,
        }
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
                () = tokio::time::sleep(self.options.interval()) => {}
            }
            if !*leading.borrow() {
                // Another process asks meanwhile.
                self.witnesses
                    .iter_mut()
                    .for_each(|asked| asked.cosigned = None);
                continue;
            }
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                ended = self.round() => if let Err(error) = ended {
                    tracing::warn!(%error, "no witness could be asked");
                }
            }
        }
    }

    /// Asks every witness that has not cosigned the newest checkpoint and is not left alone.
    async fn round(&mut self) -> Result<(), LedgerError> {
        let Some(newest) = self.ledger.published_checkpoint().await? else {
            return Ok(());
        };
        let size = newest.unverified().tree_size;
        for asked in &mut self.witnesses {
            if asked.cosigned.is_none() {
                let cosigned = self.ledger.size_cosigned_by(&asked.key).await?;
                (asked.cosigned, asked.seen) = (Some(cosigned), cosigned);
            }
        }
        let (ledger, agent, options) = (&self.ledger, &self.agent, &self.options);
        let now = Instant::now();
        let due = self.witnesses.iter_mut().filter(|asked| {
            asked.not_before <= now && asked.cosigned.is_some_and(|cosigned| cosigned < size)
        });
        let asking = due.map(async |asked| {
            let answer = asked.ask(ledger, agent, &newest).await;
            asked.note(answer, size, options);
        });
        join_all(asking).await;
        Ok(())
    }
}

impl Asked {
    /// Asks for one checkpoint, a second time where the witness has seen another size than was thought.
    async fn ask(
        &mut self,
        ledger: &Ledger,
        agent: &Agent,
        checkpoint: &SignedCheckpoint,
    ) -> Result<(), Refusal> {
        match self.ask_once(ledger, agent, checkpoint).await? {
            None => {}
            Some(seen) if seen > checkpoint.unverified().tree_size => {
                let published = checkpoint.unverified().tree_size;
                return Err(Refusal::Ahead { seen, published });
            }
            Some(seen) => {
                self.seen = seen;
                if self.ask_once(ledger, agent, checkpoint).await?.is_some() {
                    let detail = "it has seen yet another size".to_owned();
                    return Err(Refusal::Status {
                        status: 409,
                        detail,
                    });
                }
            }
        }
        Ok(())
    }

    /// Asks, and records the cosignature. Answers the size that the witness has seen, where that is
    /// another than was said.
    async fn ask_once(
        &self,
        ledger: &Ledger,
        agent: &Agent,
        checkpoint: &SignedCheckpoint,
    ) -> Result<Option<TreeSize>, Refusal> {
        let consistency_proof = match self.seen.get() {
            0 => Vec::new(),
            _ => {
                let new_size = checkpoint.unverified().tree_size;
                ledger.consistency_proof(self.seen, new_size).await?
            }
        };
        let request = AddCheckpoint {
            old_size: self.seen,
            consistency_proof,
            checkpoint: checkpoint.clone(),
        };
        let (agent, url) = (agent.clone(), self.url.clone());
        let body = request.to_string();
        let posted = tokio::task::spawn_blocking(move || post(&agent, &url, body)).await;
        let posted = posted.map_err(|_| Refusal::Unreachable("asking panicked".to_owned()))?;
        let Answer {
            status,
            media_type,
            text,
        } = posted.map_err(|error| Refusal::Unreachable(error.to_string()))?;
        match status {
            200 => {
                let line = self.key.read_answer(checkpoint, &text)?;
                ledger.add_cosignature(checkpoint, &self.key, &line).await?;
                Ok(None)
            }
            409 if media_type == TREE_SIZE_TYPE => match text.trim_end().parse() {
                Ok(seen) => Ok(Some(TreeSize::new(seen))),
                Err(_) => Err(Refusal::Status {
                    status,
                    detail: "without a size".to_owned(),
                }),
            },
            409 | 422 => Err(Refusal::Forked(printable(&text))),
            _ => Err(Refusal::Status {
                status,
                detail: printable(&text),
            }),
        }
    }

    /// Remembers how it went, and for how long the witness is left alone.
    fn note(&mut self, answer: Result<(), Refusal>, size: TreeSize, options: &WitnessOptions) {
        let name = &self.name;
        match answer {
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!(witness = name, "the witness cosigns again");
                }
                COSIGNATURES.fetch_add(1, Ordering::Relaxed);
                (self.cosigned, self.seen, self.failures) = (Some(size), size, 0);
            }
            Err(refusal) => {
                FAILURES.fetch_add(1, Ordering::Relaxed);
                self.failures = self.failures.saturating_add(1);
                let wait = backoff(self.failures, options);
                self.not_before = Instant::now() + wait;
                let again_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                if refusal.is_grave() {
                    tracing::error!(witness = name, %refusal, again_in_ms, "a witness does not cosign");
                } else {
                    tracing::warn!(witness = name, %refusal, again_in_ms, "a witness does not cosign");
                }
            }
        }
    }
}

/// Twice as long after each failure, from the interval up to the limit.
fn backoff(failures: u32, options: &WitnessOptions) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let wait = options.interval().saturating_mul(1 << doublings);
    wait.min(options.backoff_max())
}

struct Answer {
    status: u16,
    media_type: String,
    text: String,
}

fn post(agent: &Agent, url: &str, body: String) -> Result<Answer, ureq::Error> {
    let mut answer = agent.post(url).content_type("text/plain").send(body)?;
    let media_type = answer.headers().get("content-type");
    let media_type = media_type.and_then(|value| value.to_str().ok());
    Ok(Answer {
        status: answer.status().as_u16(),
        media_type: media_type.unwrap_or_default().to_owned(),
        text: answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_string()?,
    })
}

/// The beginning of a text from outside, for the log.
fn printable(text: &str) -> String {
    let characters = text.trim_end().chars().take(DETAIL_CHARS_MAX);
    characters.flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_that_fails_is_left_alone_longer_each_time() {
        let options = WitnessOptions {
            witness_interval_ms: 100,
            witness_backoff_ms_max: 1_000,
            ..WitnessOptions::default()
        };
        let waits = [1, 2, 3, 4, 5, u32::MAX].map(|failures| backoff(failures, &options));
        let expected = [100, 200, 400, 800, 1_000, 1_000].map(Duration::from_millis);
        assert_eq!(waits, expected);
    }
}
