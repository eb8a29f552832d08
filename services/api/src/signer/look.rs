//! Whether the signer answers, for those who ask how the service is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use provenance::{EntryVerifier, SigningFailure};
use tokio::sync::Mutex;

use super::client::SignerClient;
use super::wire::{KeyPurpose, ToldKeys};
use crate::config::SignerOptions;

/// How long to wait for a signer that is only looked at, where `signer_wait_ms_max` is not less.
const LOOK_MS_MAX: u64 = 500;
/// How long what was seen is told again: anybody may ask how the service is, and a signer has few connections.
const SEEN_KEPT: Duration = Duration::from_secs(1);

/// Looks at the signer of this service.
#[derive(Debug)]
pub struct SignerLook {
    client: Arc<SignerClient>,
    /// The entry key that this process signs with.
    entries: EntryVerifier,
    /// What it needs signatures for.
    needed: &'static [KeyPurpose],
    seen: Mutex<Option<Seen>>,
}

/// What was seen, and when.
#[derive(Debug, Clone)]
struct Seen {
    at: Instant,
    fault: Option<&'static str>,
}

impl SignerLook {
    /// A look at the configured signer; none where there is none.
    #[must_use]
    pub fn new(
        options: &SignerOptions,
        entries: EntryVerifier,
        needed: &'static [KeyPurpose],
    ) -> Option<Self> {
        let options = SignerOptions {
            signer_wait_ms_max: options.signer_wait_ms_max.min(LOOK_MS_MAX),
            ..options.clone()
        };
        Some(Self {
            client: SignerClient::of(&options)?,
            entries,
            needed,
            seen: Mutex::default(),
        })
    }

    /// What is wrong with the signer, in words that name nothing of this machine; none where it answers as it should.
    /// One asks for all who want to know at the same time.
    pub async fn fault(&self) -> Option<&'static str> {
        let mut seen = self.seen.lock().await;
        if let Some(known) = seen.as_ref().filter(|known| known.at.elapsed() < SEEN_KEPT) {
            return known.fault;
        }
        let client = Arc::clone(&self.client);
        let told = tokio::task::spawn_blocking(move || client.keys()).await;
        let told =
            told.unwrap_or_else(|_| Err(SigningFailure::Unavailable("asking panicked".to_owned())));
        let fault = self.fault_in(&told);
        let before = seen.as_ref().and_then(|known| known.fault);
        match (fault, &told) {
            (Some(fault), Err(failure)) if before.is_none() => {
                tracing::warn!(%failure, fault, "the signer cannot be relied on");
            }
            (Some(fault), Ok(_)) if before.is_none() => {
                tracing::warn!(fault, "the signer cannot be relied on");
            }
            (None, _) if before.is_some() => tracing::info!("the signer answers again"),
            _ => {}
        }
        *seen = Some(Seen {
            at: Instant::now(),
            fault,
        });
        fault
    }

    fn fault_in(&self, told: &Result<ToldKeys, SigningFailure>) -> Option<&'static str> {
        let told = match told {
            Ok(told) => told,
            Err(SigningFailure::Unavailable(_)) => return Some("the signer does not answer"),
            Err(SigningFailure::Refused(_)) => return Some("the signer refuses to answer"),
            Err(SigningFailure::Wrong) => return Some("what answers is no signer"),
        };
        if told.entries.parse().ok().as_ref() != Some(&self.entries) {
            return Some("the signer holds another entry key than this process began with");
        }
        let signs = |purpose: &KeyPurpose| told.purposes.contains(purpose);
        match self.needed.iter().all(signs) {
            true => None,
            false => Some("the signer does not sign all that this process needs"),
        }
    }
}
