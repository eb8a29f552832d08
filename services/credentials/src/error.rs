//! What can go wrong with certificates and manifests.

use crate::profile::BrokenRule;

/// Why a chain, a key or a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The text holds no certificates.
    #[error("the certificate chain is not PEM with at least one certificate: {cause}")]
    ChainText {
        /// What is wrong with it.
        cause: String,
    },
    /// The chain is longer than any that signs in practice.
    #[error(
        "the certificate chain has {certificates} certificates, at most {certificates_max} are read"
    )]
    ChainLength {
        /// Certificates in the text.
        certificates: usize,
        /// The limit.
        certificates_max: usize,
    },
    /// A certificate breaks the profile of the C2PA specification.
    #[error("certificate {position} of the chain ({subject}) {rule}")]
    Profile {
        /// Its place in the chain, 1 for the one that signs.
        position: usize,
        /// Its subject.
        subject: String,
        /// The rule that it breaks.
        rule: BrokenRule,
    },
    /// The private key cannot be read.
    #[error(
        "the private key is not a PKCS#8 key in PEM that can sign for the certificate: {cause}"
    )]
    Key {
        /// What is wrong with it; never the key.
        cause: String,
    },
    /// The private key is not the one of the first certificate.
    #[error("the private key does not belong to the first certificate of the chain")]
    KeyMismatch,
    /// A chain of our own cannot be made.
    #[error("a certificate chain cannot be made: {cause}")]
    MakeChain {
        /// What the library said.
        cause: String,
    },
    /// The trust anchors cannot be read.
    #[error("the trust anchors cannot be used: {cause}")]
    Anchors {
        /// What is wrong with them.
        cause: String,
    },
    /// There is no time stamp to put beside a signature.
    #[error("the signature cannot be time-stamped: {cause}")]
    TimeStamp {
        /// What the authority, or the way to it, said.
        cause: String,
    },
    /// A manifest cannot be written.
    #[error("content credentials cannot be written: {cause}")]
    Write {
        /// What the library said.
        cause: String,
    },
}
