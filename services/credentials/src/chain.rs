//! A certificate chain and its private key.

use std::fmt;

use c2pa::SigningAlg;
use rcgen::{KeyPair, PublicKeyData};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_SIG_ED25519};
use x509_parser::pem::Pem;
use zeroize::Zeroizing;

use crate::CredentialsError;
use crate::profile::{self, BrokenRule};

/// Certificates that are read of one chain. Chains in practice have two to four.
const CERTIFICATES_MAX: usize = 8;

/// A chain that keeps the profile: the signing certificate, its issuer, and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateChain {
    pem: String,
    /// DER, the signing certificate first.
    certificates: Vec<Vec<u8>>,
    subject: String,
    issuer: String,
    valid_until_s: i64,
    algorithm: SigningAlg,
}

/// A private key in PKCS#8 PEM, forgotten from memory when dropped and never printed.
#[derive(Clone)]
pub struct Key(pub(crate) Zeroizing<String>);

impl Key {
    /// A key from the text of its file. Whether it can sign is seen when it is joined to a chain.
    #[must_use]
    pub fn new(pem: String) -> Self {
        Self(Zeroizing::new(pem))
    }

    /// The text for its file.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl CertificateChain {
    /// Reads a chain from PEM and checks it against the profile of the C2PA specification, as of a
    /// moment in seconds since 1970. Where the issuer of a certificate stands behind it, the link is
    /// checked too; the root may be left out.
    ///
    /// # Errors
    /// [`CredentialsError::Profile`] names the certificate and the rule that it breaks.
    pub fn parse(pem: &str, now_s: i64) -> Result<Self, CredentialsError> {
        let certificates = certificates(pem)?;
        let parsed = certificates
            .iter()
            .enumerate()
            .map(|(index, der)| parse(index, der))
            .collect::<Result<Vec<_>, _>>()?;
        let leaf = &parsed[0];
        profile::check_leaf(leaf, now_s).map_err(breach(0, leaf))?;
        for (index, pair) in parsed.windows(2).enumerate() {
            profile::check_link(&pair[0], &pair[1]).map_err(breach(index, &pair[0]))?;
            profile::check_issuer(&pair[1], now_s).map_err(breach(index + 1, &pair[1]))?;
        }
        let until = parsed.iter().map(|it| it.validity().not_after.timestamp());
        Ok(Self {
            pem: pem.to_owned(),
            subject: leaf.subject().to_string(),
            issuer: leaf.issuer().to_string(),
            valid_until_s: until.min().expect("a chain has a certificate"),
            algorithm: algorithm(leaf),
            certificates: certificates.clone(),
        })
    }

    /// The chain as it was read.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The subject of the signing certificate.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The issuer of the signing certificate.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// When the first of its certificates expires, in seconds since 1970.
    #[must_use]
    pub fn valid_until_s(&self) -> i64 {
        self.valid_until_s
    }

    /// The signing certificate, DER.
    #[must_use]
    pub fn leaf_der(&self) -> &[u8] {
        &self.certificates[0]
    }

    pub(crate) fn algorithm(&self) -> SigningAlg {
        self.algorithm
    }

    /// Checks that a private key is the signing certificate's.
    pub(crate) fn check_key(&self, key: &Key) -> Result<(), CredentialsError> {
        let pair = KeyPair::from_pem(&key.0).map_err(|error| CredentialsError::Key {
            cause: error.to_string(),
        })?;
        let leaf = parse(0, self.leaf_der())?;
        let own = leaf.public_key().subject_public_key.data.as_ref();
        if own == pair.der_bytes() {
            Ok(())
        } else {
            Err(CredentialsError::KeyMismatch)
        }
    }
}

/// Whether the chain of a manifest that was read, in PEM, was issued by authorities alone. The C2PA library verifies
/// the signatures up to an anchor, and asks neither whether who issued a certificate is an authority nor its name.
pub(crate) fn is_by_authorities(pem: &str) -> bool {
    let Ok(certificates) = certificates(pem) else {
        return false;
    };
    let parsed = certificates.iter().enumerate();
    let parsed = parsed.map(|(index, der)| parse(index, der));
    parsed
        .collect::<Result<Vec<_>, _>>()
        .is_ok_and(|chain| profile::is_by_authorities(&chain))
}

/// The certificates of a PEM text in DER; other blocks are refused.
fn certificates(pem: &str) -> Result<Vec<Vec<u8>>, CredentialsError> {
    let refused = |cause: String| CredentialsError::ChainText { cause };
    let mut certificates = Vec::new();
    for block in Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.map_err(|error| refused(error.to_string()))?;
        if block.label != "CERTIFICATE" {
            return Err(refused(format!("it has a block of kind {:?}", block.label)));
        }
        certificates.push(block.contents);
    }
    match certificates.len() {
        0 => Err(refused("it has no certificate".to_owned())),
        1..=CERTIFICATES_MAX => Ok(certificates),
        more => Err(CredentialsError::ChainLength {
            certificates: more,
            certificates_max: CERTIFICATES_MAX,
        }),
    }
}

fn parse(index: usize, der: &[u8]) -> Result<X509Certificate<'_>, CredentialsError> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((_, _)) => Err(CredentialsError::ChainText {
            cause: format!("certificate {} is followed by other bytes", index + 1),
        }),
        Err(error) => Err(CredentialsError::ChainText {
            cause: format!("certificate {} cannot be read: {error}", index + 1),
        }),
    }
}

fn breach(
    index: usize,
    certificate: &X509Certificate<'_>,
) -> impl FnOnce(BrokenRule) -> CredentialsError {
    let subject = certificate.subject().to_string();
    move |rule| CredentialsError::Profile {
        position: index + 1,
        subject,
        rule,
    }
}

/// The signature algorithm that goes with a key of the profile.
fn algorithm(leaf: &X509Certificate<'_>) -> SigningAlg {
    let kind = &leaf.public_key().algorithm.algorithm;
    if *kind == OID_SIG_ED25519 {
        SigningAlg::Ed25519
    } else if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        match profile::curve(leaf) {
            Some(curve) if curve == OID_NIST_EC_P384 => SigningAlg::Es384,
            _ => SigningAlg::Es256,
        }
    } else {
        SigningAlg::Ps256
    }
}
