//! Who signs manifests.

use std::fmt;
use std::sync::Arc;

use c2pa::{BoxedSigner, Context, create_signer};

use crate::{CertificateChain, CredentialsError, Key, settings};

/// A certificate chain with its private key, ready to sign.
pub struct CredentialSigner {
    chain: CertificateChain,
    signer: BoxedSigner,
    context: Arc<Context>,
}

impl CredentialSigner {
    /// Joins a chain and its private key.
    ///
    /// # Errors
    /// When the key cannot be read or is not the signing certificate's.
    pub fn new(chain: CertificateChain, key: &Key) -> Result<Self, CredentialsError> {
        chain.check_key(key)?;
        let unusable = |error: c2pa::Error| CredentialsError::Key {
            cause: error.to_string(),
        };
        let (certificates, private) = (chain.pem().as_bytes(), key.pem().as_bytes());
        let signer = create_signer::from_keys(certificates, private, chain.algorithm(), None)
            .map_err(unusable)?;
        let context = Context::new()
            .with_settings(settings::of_writing())
            .map_err(|error| CredentialsError::Write {
                cause: error.to_string(),
            })?;
        Ok(Self {
            chain,
            signer,
            context: context.into_shared(),
        })
    }

    /// The chain that readers will see.
    #[must_use]
    pub fn chain(&self) -> &CertificateChain {
        &self.chain
    }

    pub(crate) fn signer(&self) -> &BoxedSigner {
        &self.signer
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

impl fmt::Debug for CredentialSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialSigner of {}", self.chain.subject())
    }
}
