//! Time stamps of an authority (RFC 3161) on the signatures of manifests.
//!
//! A stamp shows that the signature was there at a time that the authority vouches for, so that it stays
//! valid when the certificate has run out.

use std::sync::{Mutex, PoisonError};

use c2pa::{BoxedSigner, Signer, SigningAlg};

/// Bytes that are set aside for a time stamp beside the signature: the answers of public authorities, with
/// their certificates, have 3 to 8 KiB.
pub const TIME_STAMP_BYTES_MAX: usize = 12 << 10;

/// Whoever stamps.
pub trait TimeStampAuthority: Send + Sync {
    /// The DER of a `TimeStampResp` for that of a `TimeStampReq`.
    ///
    /// # Errors
    /// Why there is none, for people.
    fn time_stamp(&self, request: &[u8]) -> Result<Vec<u8>, String>;
}

/// A signer whose signatures are stamped.
pub(crate) struct Stamping<'a> {
    signer: &'a BoxedSigner,
    authority: &'a dyn TimeStampAuthority,
    outcome: Mutex<Outcome>,
}

/// What came of asking the authority.
enum Outcome {
    NotAsked,
    Answered,
    Failed(String),
}

impl<'a> Stamping<'a> {
    pub(crate) fn new(signer: &'a BoxedSigner, authority: &'a dyn TimeStampAuthority) -> Self {
        Self {
            signer,
            authority,
            outcome: Mutex::new(Outcome::NotAsked),
        }
    }

    /// Why a signing failed with this error, where it is the stamp's fault: there was none, or the library
    /// does not take the one that came.
    pub(crate) fn fault(self, error: &c2pa::Error) -> Option<String> {
        let outcome = self.outcome.into_inner();
        match outcome.unwrap_or_else(PoisonError::into_inner) {
            Outcome::NotAsked => None,
            Outcome::Answered => Some(error.to_string()),
            Outcome::Failed(reason) => Some(reason),
        }
    }

    fn stamp(&self, message: &[u8]) -> c2pa::Result<Vec<u8>> {
        let request = self.timestamp_request_body(message)?;
        let answer = self.authority.time_stamp(&request);
        let answer = answer.and_then(|answer| match answer.len() {
            0..=TIME_STAMP_BYTES_MAX => Ok(answer),
            bytes => Err(format!(
                "the answer has {bytes} bytes, over {TIME_STAMP_BYTES_MAX}"
            )),
        });
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = match &answer {
            Ok(_) => Outcome::Answered,
            Err(reason) => Outcome::Failed(reason.clone()),
        };
        answer.map_err(|reason| c2pa::Error::OtherError(reason.into()))
    }
}

impl Signer for Stamping<'_> {
    fn sign(&self, data: &[u8]) -> c2pa::Result<Vec<u8>> {
        self.signer.sign(data)
    }

    fn alg(&self) -> SigningAlg {
        self.signer.alg()
    }

    fn certs(&self) -> c2pa::Result<Vec<Vec<u8>>> {
        self.signer.certs()
    }

    fn reserve_size(&self) -> usize {
        self.signer.reserve_size() + TIME_STAMP_BYTES_MAX
    }

    fn send_timestamp_request(&self, message: &[u8]) -> Option<c2pa::Result<Vec<u8>>> {
        Some(self.stamp(message))
    }
}
