//! Who signs checkpoints: the key that the log names, and for a time the one before it as well.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use provenance::{
    Checkpoint, CheckpointKeys, CheckpointSigner, CheckpointVerifier, SignedCheckpoint,
};

use crate::LedgerError;
use crate::blocking::blocking;

/// Looks for the signer of a key of which nobody knew at the start.
type Find = dyn Fn(&CheckpointVerifier) -> Option<CheckpointSigner> + Send + Sync;

/// The signers of the log's checkpoint keys that this process has, and where it looks for others.
#[derive(Clone)]
pub struct CheckpointSigners {
    held: Vec<CheckpointSigner>,
    find: Option<Arc<Find>>,
}

impl From<CheckpointSigner> for CheckpointSigners {
    fn from(signer: CheckpointSigner) -> Self {
        Self::new(vec![signer])
    }
}

impl CheckpointSigners {
    /// These signers alone.
    pub fn new(held: Vec<CheckpointSigner>) -> Self {
        Self { held, find: None }
    }

    /// The same signers, and those that `find` has when the log names another key. It may block. Whoever controls
    /// what it finds can have the log signed by no other key than the log itself names.
    #[must_use]
    pub fn or_find(
        self,
        find: impl Fn(&CheckpointVerifier) -> Option<CheckpointSigner> + Send + Sync + 'static,
    ) -> Self {
        let find: Arc<Find> = Arc::new(find);
        Self {
            find: Some(find),
            ..self
        }
    }

    fn signer(&self, key: &CheckpointVerifier) -> Option<CheckpointSigner> {
        let held = self.held.iter().find(|held| held.verifier() == *key);
        held.cloned()
            .or_else(|| self.find.as_ref()?(key))
            .filter(|found| found.verifier() == *key)
    }

    /// The signers for the next checkpoints of a log with these keys.
    ///
    /// # Errors
    /// [`LedgerError::WrongKey`] when there is none of the key that must sign.
    pub(super) async fn of(&self, log: &CheckpointKeys) -> Result<Signing, LedgerError> {
        let wanted: Vec<CheckpointVerifier> = log.signing_at(now_ms()).cloned().collect();
        let signers = self.clone();
        blocking(move || {
            let mut found = Vec::with_capacity(wanted.len());
            for (place, key) in wanted.iter().enumerate() {
                match signers.signer(key) {
                    Some(signer) => found.push(signer),
                    None if place == 0 => return Err(signers.without(key)),
                    // Those who pinned it must take note of its successor now.
                    None => tracing::warn!(
                        key = key.key_id(),
                        "this key should sign checkpoints for some time yet, and is not here"
                    ),
                }
            }
            Ok(Signing(found))
        })
        .await
    }

    fn without(&self, key: &CheckpointVerifier) -> LedgerError {
        let held = self.held.iter().map(|signer| signer.verifier().key_id());
        LedgerError::WrongKey {
            expected: key.key_id(),
            found: held.collect::<Vec<_>>().join(", "),
        }
    }
}

impl fmt::Debug for CheckpointSigners {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.held.fmt(formatter)
    }
}

/// The signers of the next checkpoints, the one that must sign first.
#[derive(Clone)]
pub(super) struct Signing(Vec<CheckpointSigner>);

impl Signing {
    /// Signs a checkpoint with those of the signers whose keys sign now. They may keep one waiting.
    pub(super) async fn sign(
        &self,
        checkpoint: Checkpoint,
        log: &CheckpointKeys,
    ) -> Result<SignedCheckpoint, LedgerError> {
        let now = now_ms();
        let signs = |signer: &&CheckpointSigner| {
            let mut keys = log.signing_at(now);
            keys.any(|key| *key == signer.verifier())
        };
        let signers: Vec<CheckpointSigner> = self.0.iter().filter(signs).cloned().collect();
        blocking(move || {
            let (first, along) = signers.split_first().expect("the current key was found");
            let mut signed = checkpoint.sign(first)?;
            for signer in along {
                signed = signed.also_signed_by(signer)?;
            }
            Ok(signed)
        })
        .await
    }
}

/// Milliseconds since 1970 UTC.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
