//! A certificate chain of our own.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519,
};
use time::{Duration, OffsetDateTime};

use crate::{CertificateChain, CredentialsError, Key, date};

/// The purpose of signing Content Credentials.
const CLAIM_SIGNING: &[u64] = &[1, 3, 6, 1, 4, 1, 62_558, 2, 1];
/// Without a time-stamping authority a manifest holds only as long as its certificate, so it is long.
const VALID: Duration = Duration::days(3_652);
/// Certificates are valid from a little before now: the clocks of readers differ.
const BACKDATED: Duration = Duration::hours(1);

/// An own root and a signing certificate that it issued. The root's private key is forgotten: it
/// issues nothing else, so nobody who breaks in can issue a second certificate under it.
#[derive(Debug)]
pub struct DevChain {
    /// The root certificate, PEM: what a reader takes as a trust anchor.
    pub root_pem: String,
    /// The signing certificate and the root, PEM.
    pub chain: CertificateChain,
    /// The signing certificate's private key.
    pub key: Key,
}

impl DevChain {
    /// Makes a chain for who runs the service, valid for ten years from a moment in seconds since
    /// 1970. Both keys are Ed25519.
    ///
    /// # Errors
    /// [`CredentialsError::MakeChain`]; and what the profile says, as the new chain is checked like
    /// any other.
    pub fn make(operator: &str, now_s: i64) -> Result<Self, CredentialsError> {
        let failed = |cause: String| CredentialsError::MakeChain { cause };
        let refused = |error: rcgen::Error| failed(error.to_string());
        let now = date::moment(now_s).ok_or_else(|| failed("there is no such time".to_owned()))?;
        let root_key = KeyPair::generate_for(&PKCS_ED25519).map_err(refused)?;
        let mut root = parameters(operator, now);
        // Roots differ in name as they do in key, so that a reader with several finds the right one.
        let identifier = root.key_identifier(&root_key);
        let start: String = identifier
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let name = format!("Retrace own root {start}");
        root.distinguished_name.push(DnType::CommonName, name);
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root_pem = root.self_signed(&root_key).map_err(refused)?.pem();

        let leaf_key = KeyPair::generate_for(&PKCS_ED25519).map_err(refused)?;
        let mut leaf = parameters(operator, now);
        leaf.distinguished_name
            .push(DnType::CommonName, "Retrace Content Credentials");
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::Other(CLAIM_SIGNING.to_vec()),
            // For readers that do not know the first one yet.
            ExtendedKeyUsagePurpose::EmailProtection,
        ];
        let issuer = Issuer::from_params(&root, &root_key);
        let leaf_pem = leaf.signed_by(&leaf_key, &issuer).map_err(refused)?.pem();
        let chain = CertificateChain::parse(&format!("{leaf_pem}{root_pem}"), now_s)?;
        let key = Key::new(leaf_key.serialize_pem());
        chain.check_key(&key)?;
        Ok(Self {
            root_pem,
            chain,
            key,
        })
    }
}

fn parameters(operator: &str, now: OffsetDateTime) -> CertificateParams {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::OrganizationName, operator);
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = distinguished_name;
    parameters.not_before = now - BACKDATED;
    parameters.not_after = now + VALID;
    parameters
}
