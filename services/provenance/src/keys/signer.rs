//! Who makes signatures: a key in the memory of this process, or somebody elsewhere who holds one.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};

use super::{NamedKey, Purpose, SIGNATURE_TYPE_ED25519, SecretSeed, Signable, Verifier};
use crate::ProvenanceError;

/// Holds the secret half of one key and makes Ed25519 signatures (RFC 8032) with it.
///
/// Whoever implements it decides what is signed in the log's name, and when. It may wait: call it where a
/// thread may block.
pub trait KeyHolder: fmt::Debug + Send + Sync {
    /// Signs the messages, each by itself, and answers in their order: all of them or none.
    ///
    /// # Errors
    /// Why there are no signatures.
    fn sign(&self, messages: &[Vec<u8>]) -> Result<Vec<[u8; 64]>, SigningFailure>;
}

/// Why a key's holder has made no signature that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningFailure {
    /// It does not answer now. Asking again later, for the same, may help.
    #[error("the signer does not answer: {0}")]
    Unavailable(String),
    /// It answers, and does not sign this.
    #[error("the signer refuses: {0}")]
    Refused(String),
    /// It answered with something else than signatures of the key over the messages.
    #[error("the signer's answer is no signature of this key")]
    Wrong,
}

/// Signs for one purpose. A secret in this process is wiped from memory when the last clone is dropped; it
/// has no text form but its public name.
#[derive(Clone)]
pub struct Signer<P: Purpose> {
    holder: Arc<dyn KeyHolder>,
    /// Whether the holder is somebody whose answers are not believed unseen.
    elsewhere: bool,
    verifier: Verifier<P>,
}

/// A secret in the memory of this process.
struct OwnKey(SigningKey);

impl KeyHolder for OwnKey {
    fn sign(&self, messages: &[Vec<u8>]) -> Result<Vec<[u8; 64]>, SigningFailure> {
        let signed = |message: &Vec<u8>| self.0.sign(message).to_bytes();
        Ok(messages.iter().map(signed).collect())
    }
}

impl fmt::Debug for OwnKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("OwnKey(..)")
    }
}

impl<P: Purpose> Signer<P> {
    /// The signer of the log with this origin, with its secret in this process.
    ///
    /// # Errors
    /// Refuses an origin that a signed note cannot carry as a key name.
    pub fn from_seed(origin: &str, seed: impl Into<SecretSeed>) -> Result<Self, ProvenanceError> {
        let seed = seed.into();
        let key = seed.signing_key();
        let public = key.verifying_key();
        let verifier = Verifier {
            key: NamedKey::new(&P::key_name(origin), SIGNATURE_TYPE_ED25519, public)?,
            purpose: PhantomData,
        };
        Ok(Self {
            holder: Arc::new(OwnKey(key)),
            elsewhere: false,
            verifier,
        })
    }

    /// The signer of a key that somebody else holds. Each of its signatures is verified before it is used.
    pub fn held_by(holder: Arc<dyn KeyHolder>, verifier: Verifier<P>) -> Self {
        Self {
            holder,
            elsewhere: true,
            verifier,
        }
    }

    /// The public half.
    pub fn verifier(&self) -> Verifier<P>
    where
        P: Clone,
    {
        self.verifier.clone()
    }

    /// Signs messages that somebody else has made and this process has read, in their order: all or none.
    ///
    /// # Errors
    /// When the holder of the key fails.
    pub fn sign_read(&self, messages: &[Signable<P>]) -> Result<Vec<[u8; 64]>, ProvenanceError> {
        let messages: Vec<Vec<u8>> = messages
            .iter()
            .map(|message| message.message().to_vec())
            .collect();
        self.sign_all(&messages)
    }

    pub(crate) fn public(&self) -> &NamedKey {
        &self.verifier.key
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; 64], ProvenanceError> {
        let signatures = self.sign_all(&[message.to_vec()])?;
        signatures
            .first()
            .copied()
            .ok_or_else(|| self.failed(SigningFailure::Wrong))
    }

    pub(crate) fn sign_all(&self, messages: &[Vec<u8>]) -> Result<Vec<[u8; 64]>, ProvenanceError> {
        let signatures = self.holder.sign(messages);
        let signatures = signatures.map_err(|failure| self.failed(failure))?;
        let fits = |(message, signature): (&Vec<u8>, &[u8; 64])| {
            self.public().verify(message, signature).is_ok()
        };
        let wrong = signatures.len() != messages.len()
            || (self.elsewhere && !messages.iter().zip(&signatures).all(fits));
        match wrong {
            true => Err(self.failed(SigningFailure::Wrong)),
            false => Ok(signatures),
        }
    }

    fn failed(&self, failure: SigningFailure) -> ProvenanceError {
        ProvenanceError::NotSigned {
            key: self.public().label(),
            failure,
        }
    }
}

impl<P: Purpose> fmt::Debug for Signer<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.elsewhere {
            " held elsewhere"
        } else {
            ""
        };
        let key = self.public().label();
        write!(formatter, "Signer of {} ({key}{place})", P::NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CheckpointSigner, Digest, EntrySigner, Envelope, TreeSize};

    const ORIGIN: &str = "retrace.test/log";

    /// Answers with what it was made with, whatever it is asked.
    #[derive(Debug)]
    struct Answers(Result<Vec<[u8; 64]>, SigningFailure>);

    impl KeyHolder for Answers {
        fn sign(&self, _: &[Vec<u8>]) -> Result<Vec<[u8; 64]>, SigningFailure> {
            self.0.clone()
        }
    }

    /// Holds another key of this process.
    #[derive(Debug)]
    struct Holds(EntrySigner);

    impl KeyHolder for Holds {
        fn sign(&self, messages: &[Vec<u8>]) -> Result<Vec<[u8; 64]>, SigningFailure> {
            self.0.sign_all(messages).map_err(|_| SigningFailure::Wrong)
        }
    }

    fn failure<T: fmt::Debug>(signed: Result<T, ProvenanceError>) -> SigningFailure {
        match signed.unwrap_err() {
            ProvenanceError::NotSigned { key, failure } => {
                assert!(key.starts_with(ORIGIN), "{key}");
                failure
            }
            other => panic!("{other}"),
        }
    }

    fn checkpoint() -> crate::Checkpoint {
        crate::Checkpoint {
            origin: ORIGIN.to_owned(),
            tree_size: TreeSize::new(1),
            root_hash: Digest::of(b"x"),
        }
    }

    #[test]
    fn a_key_elsewhere_signs_as_the_same_key_here_does() {
        let own = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
        let held = EntrySigner::held_by(Arc::new(Holds(own.clone())), own.verifier());
        let messages = [b"one".to_vec(), b"two".to_vec()];
        assert_eq!(held.sign_all(&messages), own.sign_all(&messages));
        assert_eq!(held.sign_all(&[]), Ok(Vec::new()));
        assert!(format!("{held:?}").contains("held elsewhere"));
    }

    #[test]
    fn what_is_no_signature_of_the_key_is_never_used() {
        let own = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
        let other = EntrySigner::from_seed(ORIGIN, [2; 32]).unwrap();
        let foreign = EntrySigner::held_by(Arc::new(Holds(other)), own.verifier());
        assert_eq!(failure(foreign.sign(b"one")), SigningFailure::Wrong);
        let good = own.sign(b"one").unwrap();
        let two = [b"one".to_vec(), b"two".to_vec()];
        for answer in [
            vec![],
            vec![good],
            vec![good; 2],
            vec![good; 3],
            vec![[0; 64]; 2],
        ] {
            let held = EntrySigner::held_by(Arc::new(Answers(Ok(answer))), own.verifier());
            assert_eq!(failure(held.sign_all(&two)), SigningFailure::Wrong);
        }
    }

    #[test]
    fn a_signer_that_fails_leaves_nothing_signed() {
        let gone = SigningFailure::Unavailable("it is gone".to_owned());
        let holder: Arc<dyn KeyHolder> = Arc::new(Answers(Err(gone.clone())));
        let log = CheckpointSigner::from_seed(ORIGIN, [2; 32]).unwrap();
        let log = CheckpointSigner::held_by(Arc::clone(&holder), log.verifier());
        assert_eq!(failure(checkpoint().sign(&log)), gone);
        let own = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
        let held = EntrySigner::held_by(holder, own.verifier());
        assert_eq!(failure(Envelope::sign_all(&[], &held)), gone);
    }
}
