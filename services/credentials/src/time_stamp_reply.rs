//! Time stamps of an authority (RFC 3161) on any bytes: what is asked, and what an answer proves.
//!
//! The imprint that is stamped is the SHA-256 of the bytes. Signatures are verified by the C2PA library, as those of
//! manifests are. Purpose and trust are checked here: the library takes certificates for other purposes too, and
//! believes every certificate between the signer's and an anchor to be an authority.

use c2pa::crypto::cose::CertificateTrustPolicy;
use c2pa::crypto::time_stamp::{
    TimeStampError, default_rfc3161_message, tsa_signer_cert_der_from_token, verify_time_stamp,
};
use c2pa::status_tracker::StatusTracker;
use provenance::Digest;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::ber::{BerObject, BerObjectContent};
use x509_parser::der_parser::der::parse_der;
use x509_parser::pem::Pem;
use x509_parser::time::ASN1Time;

use crate::time_stamp::TIME_STAMP_BYTES_MAX;
use crate::{CredentialsError, profile};

const OID_SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
const OID_TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";
const OID_SHA256: &str = "2.16.840.1.101.3.4.2.1";
/// Certificates that are followed from the signer's to an anchor. Chains in practice have two to four.
const CHAIN_MAX: usize = 8;

/// The DER of a request (`TimeStampReq`) to stamp the SHA-256 of these bytes, with a nonce, that asks for the
/// certificates of whoever stamps.
///
/// # Errors
/// When the operating system has no randomness.
pub fn time_stamp_request(data: &[u8]) -> Result<Vec<u8>, CredentialsError> {
    default_rfc3161_message(data).map_err(|error| CredentialsError::TimeStamp {
        cause: error.to_string(),
    })
}

/// Why an answer is no time stamp of some bytes that can be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimeStampRefusal {
    /// It cannot be read.
    #[error("it is no answer of a time-stamping authority: {0}")]
    Unreadable(String),
    /// The authority gave no stamp.
    #[error("the authority gave no stamp: its status is {0}")]
    NotGranted(u32),
    /// It stamps something else.
    #[error("it stamps the SHA-256 {stated}, and these bytes have {computed}")]
    ImprintDiffers {
        /// What it stamps.
        stated: Digest,
        /// The digest of the bytes.
        computed: Digest,
    },
    /// The signature does not hold.
    #[error("its signature does not hold: {0}")]
    Signature(String),
    /// The certificate is for other purposes.
    #[error("the certificate of {0} is not for time stamping alone (RFC 3161, section 2.3)")]
    Purpose(String),
    /// The certificate had run out, or was not valid yet.
    #[error("the certificate of {0} was not valid at the time that it states")]
    NotValidThen(String),
    /// Nobody who is trusted vouches for whoever stamped.
    #[error("{0} is under none of the given trust anchors")]
    Untrusted(String),
}

impl TimeStampRefusal {
    /// A stable word for scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "time-stamp-unreadable",
            Self::NotGranted(_) => "time-stamp-not-granted",
            Self::ImprintDiffers { .. } => "time-stamp-imprint-differs",
            Self::Signature(_) => "time-stamp-signature",
            Self::Purpose(_) => "time-stamp-purpose",
            Self::NotValidThen(_) => "time-stamp-certificate-not-valid",
            Self::Untrusted(_) => "time-stamp-untrusted",
        }
    }
}

/// What a time stamp that holds says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeStamp {
    /// The bytes existed at this time, in seconds since 1970.
    pub time_s: i64,
    /// Subject of the certificate of whoever says so.
    pub authority: String,
}

/// Certificates under which authorities are believed.
#[derive(Debug, Clone)]
pub struct TimeStampAnchors(Vec<Vec<u8>>);

impl TimeStampAnchors {
    /// Reads certificates in PEM, one or more.
    ///
    /// # Errors
    /// [`CredentialsError::Anchors`] when there are none, or something else is among them.
    pub fn parse(pem: &str) -> Result<Self, CredentialsError> {
        let refused = |cause: String| CredentialsError::Anchors { cause };
        let mut anchors = Vec::new();
        for block in Pem::iter_from_buffer(pem.as_bytes()) {
            let block = block.map_err(|error| refused(error.to_string()))?;
            parse_certificate(&block.contents).map_err(|error| refused(error.to_string()))?;
            anchors.push(block.contents);
        }
        match anchors.is_empty() {
            true => Err(refused("there is no certificate".to_owned())),
            false => Ok(Self(anchors)),
        }
    }
}

/// The answer of an authority, read but not verified.
#[derive(Debug, Clone)]
pub struct TimeStampReply {
    der: Vec<u8>,
    imprint: Digest,
    time_s: i64,
    /// The certificate of whoever signed, DER.
    signer: Vec<u8>,
    /// All certificates in the answer, DER.
    certificates: Vec<Vec<u8>>,
}

impl TimeStampReply {
    /// Reads the DER of a `TimeStampResp`.
    ///
    /// # Errors
    /// What is not a granted answer with one signer, whose certificate is in it, on a SHA-256.
    pub fn parse(der: &[u8]) -> Result<Self, TimeStampRefusal> {
        if der.len() > TIME_STAMP_BYTES_MAX {
            let detail = format!("it has over {TIME_STAMP_BYTES_MAX} bytes");
            return Err(TimeStampRefusal::Unreadable(detail));
        }
        let answer = whole(der)?;
        let parts = answer.as_sequence().map_err(unreadable)?;
        let status = part(part(parts, 0)?.as_sequence().map_err(unreadable)?, 0)?;
        match status.as_u32().map_err(unreadable)? {
            0 | 1 => {}
            refused => return Err(TimeStampRefusal::NotGranted(refused)),
        }
        let token = content_of(part(parts, 1)?, OID_SIGNED_DATA)?;
        let signed = whole(token)?;
        let signed = signed.as_sequence().map_err(unreadable)?;
        let signers = signed.last().ok_or_else(incomplete)?;
        if signers.as_set().map_err(unreadable)?.len() != 1 {
            let detail = "it has not one signer".to_owned();
            return Err(TimeStampRefusal::Unreadable(detail));
        }
        let content = whole(content_of(part(signed, 2)?, OID_TST_INFO)?)?;
        let info = whole(content.as_slice().map_err(unreadable)?)?;
        let info = info.as_sequence().map_err(unreadable)?;
        let signer = tsa_signer_cert_der_from_token(der).map_err(unreadable)?;
        Ok(Self {
            imprint: imprint_of(part(info, 2)?)?,
            time_s: time_of(part(info, 4)?)?,
            signer: signer.ok_or_else(incomplete)?,
            certificates: certificates_of(signed)?,
            der: der.to_vec(),
        })
    }

    /// The digest that is stamped.
    #[must_use]
    pub fn imprint(&self) -> Digest {
        self.imprint
    }

    /// The time that it states, in seconds since 1970. Not verified.
    #[must_use]
    pub fn stated_time_s(&self) -> i64 {
        self.time_s
    }

    /// Verifies that these bytes are stamped, with a certificate for that. Whose it is, is another question.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn verify(&self, data: &[u8]) -> Result<TimeStamp, TimeStampRefusal> {
        let computed = Digest::of(data);
        if self.imprint != computed {
            return Err(TimeStampRefusal::ImprintDiffers {
                stated: self.imprint,
                computed,
            });
        }
        let signer = parse_certificate(&self.signer)?;
        let authority = signer.subject().to_string();
        let policy = CertificateTrustPolicy::passthrough();
        let verified = verify_time_stamp(
            &self.der,
            data,
            &policy,
            &mut StatusTracker::default(),
            false,
        );
        verified.map_err(|error| match error {
            TimeStampError::ExpiredCertificate => TimeStampRefusal::NotValidThen(authority.clone()),
            error => TimeStampRefusal::Signature(error.to_string()),
        })?;
        if !is_for_stamps_alone(&signer) {
            return Err(TimeStampRefusal::Purpose(authority));
        }
        if !is_valid_at(&signer, self.time_s) {
            return Err(TimeStampRefusal::NotValidThen(authority));
        }
        Ok(TimeStamp {
            time_s: self.time_s,
            authority,
        })
    }

    /// As [`verify`](Self::verify), and that the certificate is under one of these anchors, by authorities that were
    /// valid at the time that is stated. Whether it was revoked is not asked: nothing here reaches the network.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn verify_trusted(
        &self,
        data: &[u8],
        anchors: &TimeStampAnchors,
    ) -> Result<TimeStamp, TimeStampRefusal> {
        let stamp = self.verify(data)?;
        match self.is_under(anchors) {
            true => Ok(stamp),
            false => Err(TimeStampRefusal::Untrusted(stamp.authority)),
        }
    }

    fn is_under(&self, anchors: &TimeStampAnchors) -> bool {
        if anchors.0.contains(&self.signer) {
            return true;
        }
        let Ok(mut current) = parse_certificate(&self.signer) else {
            return false;
        };
        for _ in 0..CHAIN_MAX {
            let issuer = |der| {
                let issuer = parse_certificate(der).ok()?;
                let issued = profile::check_link(&current, &issuer).is_ok();
                (issued && profile::is_authority(&issuer)).then_some(issuer)
            };
            if anchors.0.iter().any(|der| issuer(der).is_some()) {
                return true;
            }
            let mut known = self.certificates.iter().filter_map(|der| issuer(der));
            match known.find(|it| is_valid_at(it, self.time_s)) {
                Some(next) => current = next,
                None => return false,
            }
        }
        false
    }
}

/// RFC 3161, section 2.3: the extension is critical and names the one purpose; and the key may sign.
fn is_for_stamps_alone(certificate: &X509Certificate<'_>) -> bool {
    let Ok(Some(purposes)) = certificate.extended_key_usage() else {
        return false;
    };
    let (is_critical, named) = (purposes.critical, purposes.value);
    let others = named.any
        || named.server_auth
        || named.client_auth
        || named.code_signing
        || named.email_protection
        || named.ocsp_signing
        || !named.other.is_empty();
    let may_sign = match certificate.key_usage() {
        Ok(Some(usage)) => usage.value.digital_signature() || usage.value.non_repudiation(),
        Ok(None) => true,
        Err(_) => false,
    };
    is_critical && named.time_stamping && !others && may_sign
}

fn is_valid_at(certificate: &X509Certificate<'_>, time_s: i64) -> bool {
    ASN1Time::from_timestamp(time_s).is_ok_and(|time| certificate.validity().is_valid_at(time))
}

fn parse_certificate(der: &[u8]) -> Result<X509Certificate<'_>, TimeStampRefusal> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(TimeStampRefusal::Unreadable(
            "a certificate is followed by other bytes".to_owned(),
        )),
        Err(error) => Err(unreadable(error)),
    }
}

/// One DER value and nothing behind it.
fn whole(der: &[u8]) -> Result<BerObject<'_>, TimeStampRefusal> {
    match parse_der(der) {
        Ok(([], object)) => Ok(object),
        Ok(_) => Err(TimeStampRefusal::Unreadable(
            "other bytes follow".to_owned(),
        )),
        Err(error) => Err(unreadable(error)),
    }
}

fn part<'o, 'a>(
    parts: &'o [BerObject<'a>],
    place: usize,
) -> Result<&'o BerObject<'a>, TimeStampRefusal> {
    parts.get(place).ok_or_else(incomplete)
}

/// What lies in `SEQUENCE { OBJECT IDENTIFIER, [0] EXPLICIT content }` of this kind.
fn content_of<'a>(object: &BerObject<'a>, kind: &str) -> Result<&'a [u8], TimeStampRefusal> {
    let parts = object.as_sequence().map_err(unreadable)?;
    let found = part(parts, 0)?.as_oid().map_err(unreadable)?.to_id_string();
    if found != kind {
        let detail = format!("it holds {found} where {kind} belongs");
        return Err(TimeStampRefusal::Unreadable(detail));
    }
    part(parts, 1)?.as_slice().map_err(unreadable)
}

fn imprint_of(object: &BerObject<'_>) -> Result<Digest, TimeStampRefusal> {
    let parts = object.as_sequence().map_err(unreadable)?;
    let algorithm = part(part(parts, 0)?.as_sequence().map_err(unreadable)?, 0)?;
    let algorithm = algorithm.as_oid().map_err(unreadable)?.to_id_string();
    let hash = part(parts, 1)?.as_slice().map_err(unreadable)?;
    let hash = <[u8; 32]>::try_from(hash)
        .ok()
        .filter(|_| algorithm == OID_SHA256);
    hash.map(Digest::from_bytes)
        .ok_or_else(|| TimeStampRefusal::Unreadable("its imprint is no SHA-256".to_owned()))
}

fn time_of(object: &BerObject<'_>) -> Result<i64, TimeStampRefusal> {
    let BerObjectContent::GeneralizedTime(time) = &object.content else {
        return Err(incomplete());
    };
    let moment = time.to_datetime().map_err(unreadable)?;
    Ok(moment.unix_timestamp())
}

/// The certificates of a `SignedData`: its part with the tag [0], one after another.
fn certificates_of(signed: &[BerObject<'_>]) -> Result<Vec<Vec<u8>>, TimeStampRefusal> {
    let is_tagged = |object: &&BerObject<'_>| object.header.raw_tag() == Some(&[0xa0][..]);
    let Some(tagged) = signed.iter().skip(3).find(is_tagged) else {
        return Ok(Vec::new());
    };
    let mut rest = tagged.as_slice().map_err(unreadable)?;
    let mut certificates = Vec::new();
    while !rest.is_empty() {
        let (behind, _) = x509_parser::parse_x509_certificate(rest).map_err(unreadable)?;
        certificates.push(rest[..rest.len() - behind.len()].to_vec());
        rest = behind;
    }
    Ok(certificates)
}

fn unreadable(error: impl std::fmt::Display) -> TimeStampRefusal {
    TimeStampRefusal::Unreadable(error.to_string())
}

fn incomplete() -> TimeStampRefusal {
    TimeStampRefusal::Unreadable("a part of it is missing".to_owned())
}
