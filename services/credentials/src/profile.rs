//! The certificate profile of the C2PA specification, rule by rule.
//!
//! The C2PA library checks the same rules and answers "the certificate is invalid" to most breaches.
//! This check comes first and names the rule.

use std::fmt;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
    OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ED25519, Oid,
};
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

use crate::date::rfc3339;

/// Purposes of which a signing certificate names at least one: signing Content Credentials, email
/// protection, document signing, and one vendor's own purpose for Content Credentials.
const PURPOSES: [&str; 4] = [
    "1.3.6.1.4.1.62558.2.1",
    "1.3.6.1.5.5.7.3.4",
    "1.3.6.1.5.5.7.3.36",
    "1.3.6.1.4.1.311.76.59.1.9",
];
/// The smallest RSA key that the profile allows, in bits.
const RSA_BITS_MIN: usize = 2_048;

/// A rule that a certificate breaks. Reads on from "certificate 1 of the chain (CN=...)".
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokenRule {
    /// Not version 3.
    Version,
    /// Not valid yet.
    NotYetValid(String),
    /// Not valid any more.
    Expired(String),
    /// Signed with an algorithm that is not allowed.
    SignatureAlgorithm(String),
    /// Its key is of a kind or size that is not allowed.
    KeyAlgorithm(String),
    /// It has the unique ids of version 2.
    UniqueIds,
    /// The signing certificate is an authority.
    LeafIsAuthority,
    /// The signing certificate was issued by itself.
    SelfSigned,
    /// No authority key identifier.
    AuthorityKeyIdentifier,
    /// No subject key identifier in an authority.
    SubjectKeyIdentifier,
    /// No key usage.
    KeyUsage,
    /// Key usage without digitalSignature.
    DigitalSignature,
    /// A signing certificate that may sign certificates.
    LeafSignsCertificates,
    /// No extended key usage.
    ExtendedKeyUsage,
    /// The extended key usage anyExtendedKeyUsage.
    AnyPurpose,
    /// Extended key usages, but none that signs Content Credentials.
    Purpose(Vec<String>),
    /// A purpose of time-stamping or status authorities.
    AuthorityPurpose,
    /// A critical extension that nobody here understands.
    CriticalExtension(String),
    /// An extension that cannot be read, or stands twice.
    Unreadable(String),
    /// An issuer that is no authority.
    IssuerIsNoAuthority,
    /// The next certificate has another name than this one's issuer.
    IssuerName(String),
    /// The next certificate's key did not sign this one.
    IssuerSignature,
}

impl fmt::Display for BrokenRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version => f.write_str("must be an X.509 certificate of version 3"),
            Self::NotYetValid(from) => write!(f, "is not valid before {from}"),
            Self::Expired(until) => write!(f, "expired on {until}"),
            Self::SignatureAlgorithm(oid) => write!(
                f,
                "is signed with algorithm {oid}; allowed are Ed25519, ECDSA with SHA-256 or SHA-384, \
                 RSA with SHA-256 to SHA-512, and RSA-PSS"
            ),
            Self::KeyAlgorithm(what) => write!(
                f,
                "has a key of kind {what}; allowed are Ed25519, P-256, P-384, and RSA of at least \
                 {RSA_BITS_MIN} bits"
            ),
            Self::UniqueIds => f.write_str("must not have issuer or subject unique ids"),
            Self::LeafIsAuthority => f.write_str(
                "must be an end entity's (basicConstraints CA:FALSE), as it comes first and signs",
            ),
            Self::SelfSigned => f.write_str(
                "is issued by itself; the signing certificate must be issued by an authority",
            ),
            Self::AuthorityKeyIdentifier => f.write_str(
                "lacks the authority key identifier (`openssl x509 -req` leaves it out unless its \
                 extension file says authorityKeyIdentifier=keyid)",
            ),
            Self::SubjectKeyIdentifier => f.write_str("lacks the subject key identifier"),
            Self::KeyUsage => f.write_str("lacks the extension keyUsage"),
            Self::DigitalSignature => f.write_str("lacks digitalSignature in its keyUsage"),
            Self::LeafSignsCertificates => {
                f.write_str("has keyCertSign in its keyUsage, which only an authority may")
            }
            Self::ExtendedKeyUsage => f.write_str("lacks the extension extendedKeyUsage"),
            Self::AnyPurpose => f.write_str("must not have anyExtendedKeyUsage"),
            Self::Purpose(found) => write!(
                f,
                "names none of the extended key usages that may sign Content Credentials ({}), but \
                 only {}",
                PURPOSES.join(", "),
                found.join(", ")
            ),
            Self::AuthorityPurpose => f.write_str(
                "mixes timeStamping or OCSPSigning with other extended key usages",
            ),
            Self::CriticalExtension(oid) => {
                write!(f, "has the critical extension {oid}, which is not understood")
            }
            Self::Unreadable(what) => write!(f, "has an unreadable extension: {what}"),
            Self::IssuerIsNoAuthority => f.write_str(
                "issues another one, but is no authority (basicConstraints CA:TRUE with keyCertSign)",
            ),
            Self::IssuerName(issuer) => write!(
                f,
                "is issued by {issuer}, which is not the subject of the next certificate: they \
                 stand in the order signing certificate, its issuer, and so on"
            ),
            Self::IssuerSignature => {
                f.write_str("is not signed by the key of the next certificate")
            }
        }
    }
}

/// Checks the certificate that signs manifests, as of a moment in seconds since 1970.
pub(crate) fn check_leaf(leaf: &X509Certificate<'_>, now_s: i64) -> Result<(), BrokenRule> {
    check_any(leaf, now_s)?;
    if leaf.is_ca() {
        return Err(match leaf.issuer() == leaf.subject() {
            true => BrokenRule::SelfSigned,
            false => BrokenRule::LeafIsAuthority,
        });
    }
    if leaf.issuer() == leaf.subject() {
        return Err(BrokenRule::SelfSigned);
    }
    let usage = leaf.key_usage().map_err(unreadable)?;
    let usage = usage.ok_or(BrokenRule::KeyUsage)?.value;
    if !usage.digital_signature() {
        return Err(BrokenRule::DigitalSignature);
    }
    if usage.key_cert_sign() {
        return Err(BrokenRule::LeafSignsCertificates);
    }
    check_authority_key_identifier(leaf)?;
    check_purposes(leaf)
}

/// Checks a certificate that issued the one before it.
pub(crate) fn check_issuer(issuer: &X509Certificate<'_>, now_s: i64) -> Result<(), BrokenRule> {
    check_any(issuer, now_s)?;
    let usage = issuer.key_usage().map_err(unreadable)?;
    if !issuer.is_ca() || !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err(BrokenRule::IssuerIsNoAuthority);
    }
    let has_identifier = issuer.extensions().iter().any(|extension| {
        matches!(
            extension.parsed_extension(),
            ParsedExtension::SubjectKeyIdentifier(_)
        )
    });
    if !has_identifier {
        return Err(BrokenRule::SubjectKeyIdentifier);
    }
    if issuer.issuer() != issuer.subject() {
        check_authority_key_identifier(issuer)?;
    }
    Ok(())
}

/// Whether a certificate may issue others: that its extensions say so, as RFC 5280, section 6.1.4 (k) and (n), asks.
pub(crate) fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    let may_sign = match certificate.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    };
    certificate.is_ca() && may_sign
}

/// Whether a chain, the signing certificate first, was issued by authorities: each certificate names the next one as its
/// issuer, which is an authority that may have as many others below it (RFC 5280, section 6.1.4). That the keys signed is
/// verified elsewhere.
pub(crate) fn is_by_authorities(chain: &[X509Certificate<'_>]) -> bool {
    chain.windows(2).enumerate().all(|(below, pair)| {
        let (certificate, issuer) = (&pair[0], &pair[1]);
        let below_max = match issuer.basic_constraints() {
            Ok(Some(constraints)) => constraints.value.path_len_constraint,
            Ok(None) | Err(_) => None,
        };
        certificate.issuer() == issuer.subject()
            && is_authority(issuer)
            && below_max.is_none_or(|most| below <= most as usize)
    })
}

/// Checks that a certificate is issued by the next one.
pub(crate) fn check_link(
    certificate: &X509Certificate<'_>,
    next: &X509Certificate<'_>,
) -> Result<(), BrokenRule> {
    if certificate.issuer() != next.subject() {
        return Err(BrokenRule::IssuerName(certificate.issuer().to_string()));
    }
    certificate
        .verify_signature(Some(next.public_key()))
        .map_err(|_| BrokenRule::IssuerSignature)
}

/// What holds for every certificate of a chain.
fn check_any(certificate: &X509Certificate<'_>, now_s: i64) -> Result<(), BrokenRule> {
    if certificate.version() != X509Version::V3 {
        return Err(BrokenRule::Version);
    }
    let (from, until) = (
        certificate.validity().not_before,
        certificate.validity().not_after,
    );
    let now = ASN1Time::from_timestamp(now_s).map_err(|_| BrokenRule::NotYetValid(moment(from)))?;
    if now < from {
        return Err(BrokenRule::NotYetValid(moment(from)));
    }
    if now > until {
        return Err(BrokenRule::Expired(moment(until)));
    }
    check_algorithms(certificate)?;
    if certificate.issuer_uid.is_some() || certificate.subject_uid.is_some() {
        return Err(BrokenRule::UniqueIds);
    }
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::ParseError { error } => {
                let what = format!("{} ({error})", extension.oid);
                return Err(BrokenRule::Unreadable(what));
            }
            ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::Unparsed
                if extension.critical =>
            {
                return Err(BrokenRule::CriticalExtension(extension.oid.to_id_string()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_algorithms(certificate: &X509Certificate<'_>) -> Result<(), BrokenRule> {
    let allowed = [
        OID_SIG_ED25519,
        OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384,
        OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA,
        OID_PKCS1_SHA512WITHRSA,
        OID_PKCS1_RSASSAPSS,
    ];
    let signed_with = &certificate.signature_algorithm.algorithm;
    if !allowed.contains(signed_with) {
        return Err(BrokenRule::SignatureAlgorithm(signed_with.to_id_string()));
    }
    let key = certificate.public_key();
    let kind = &key.algorithm.algorithm;
    if *kind == OID_SIG_ED25519 {
        return Ok(());
    }
    let refused = |what: String| Err(BrokenRule::KeyAlgorithm(what));
    if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        return match curve(certificate) {
            Some(curve) if curve == OID_EC_P256 || curve == OID_NIST_EC_P384 => Ok(()),
            Some(curve) => refused(format!("elliptic curve {curve}")),
            None => refused("elliptic curve without a name".to_owned()),
        };
    }
    if *kind == OID_PKCS1_RSAENCRYPTION || *kind == OID_PKCS1_RSASSAPSS {
        return match key.parsed() {
            Ok(PublicKey::RSA(rsa)) if rsa.key_size() >= RSA_BITS_MIN => Ok(()),
            Ok(PublicKey::RSA(rsa)) => refused(format!("RSA of {} bits", rsa.key_size())),
            _ => refused("RSA that cannot be read".to_owned()),
        };
    }
    refused(kind.to_id_string())
}

/// The named curve of an elliptic-curve key.
pub(crate) fn curve(certificate: &X509Certificate<'_>) -> Option<Oid<'static>> {
    let parameters = certificate.public_key().algorithm.parameters.as_ref()?;
    parameters.as_oid().ok().map(|oid| oid.to_owned())
}

fn check_authority_key_identifier(certificate: &X509Certificate<'_>) -> Result<(), BrokenRule> {
    let found = certificate.extensions().iter().any(|extension| {
        matches!(
            extension.parsed_extension(),
            ParsedExtension::AuthorityKeyIdentifier(_)
        )
    });
    found
        .then_some(())
        .ok_or(BrokenRule::AuthorityKeyIdentifier)
}

fn check_purposes(leaf: &X509Certificate<'_>) -> Result<(), BrokenRule> {
    let usage = leaf.extended_key_usage().map_err(unreadable)?;
    let usage = usage.ok_or(BrokenRule::ExtendedKeyUsage)?.value;
    if usage.any {
        return Err(BrokenRule::AnyPurpose);
    }
    let named = [
        (usage.email_protection, "1.3.6.1.5.5.7.3.4"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let named = named.iter().filter(|(has, _)| *has);
    let mut found: Vec<String> = named.map(|(_, name)| (*name).to_owned()).collect();
    found.extend(usage.other.iter().map(Oid::to_id_string));
    if !found
        .iter()
        .any(|purpose| PURPOSES.contains(&purpose.as_str()))
    {
        return Err(BrokenRule::Purpose(found));
    }
    if usage.time_stamping || usage.ocsp_signing {
        return Err(BrokenRule::AuthorityPurpose);
    }
    Ok(())
}

fn unreadable(error: x509_parser::error::X509Error) -> BrokenRule {
    BrokenRule::Unreadable(error.to_string())
}

fn moment(time: ASN1Time) -> String {
    rfc3339(time.timestamp()).unwrap_or_else(|| time.to_string())
}
