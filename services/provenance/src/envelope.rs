//! The signed form of an entry: a DSSE envelope (secure-systems-lab DSSE 1.0.2) with one signature.

use serde::{Deserialize, Serialize};

use crate::encoding::parse_canonical_json;
use crate::encoding::{base64_decode, base64_encode, canonical_json, check_length};
use crate::merkle::{self, Hash};
use crate::{Entry, EntrySigner, EntryVerifier, ProvenanceError};

/// The payload type of every entry. It is signed together with the payload.
pub const PAYLOAD_TYPE: &str = "application/vnd.retrace.entry+json";
/// Longest canonical bytes of an envelope: a C2SP tile counts an entry's length in 16 bits.
pub const ENVELOPE_BYTES_MAX: usize = 65_535;

const WHAT: &str = "envelope";

/// What stands in the canonical bytes before the payload, and after it between payload, type, key, signature
/// and end. The same as what [`Wire`] gives.
const START: &str = r#"{"payload":""#;
const BETWEEN: [&str; 4] = [
    r#"","payloadType":""#,
    r#"","signatures":[{"keyid":"#,
    r#","sig":""#,
    r#""}]}"#,
];

/// An entry's canonical bytes under one Ed25519 signature. Parsing does not verify it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Envelope {
    payload: Vec<u8>,
    key_id: String,
    signature: [u8; 64],
}

/// The canonical JSON of an envelope, fields in the order of the DSSE specification.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: [WireSignature; 1],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    keyid: String,
    sig: String,
}

impl Envelope {
    /// Signs an entry.
    ///
    /// # Errors
    /// Refuses an entry that [`Entry::parse`] would refuse to read back, and fails when the signer does.
    pub fn sign(entry: &Entry, signer: &EntrySigner) -> Result<Self, ProvenanceError> {
        let payload = entry.checked_bytes()?;
        let signature = signer.sign(&pre_authentication_encoding(PAYLOAD_TYPE, &payload))?;
        Self::of(payload, signer, signature)
    }

    /// Signs the entries of one request, in their order: the signer is asked once, for all or none.
    ///
    /// # Errors
    /// As [`sign`](Self::sign).
    pub fn sign_all(entries: &[Entry], signer: &EntrySigner) -> Result<Vec<Self>, ProvenanceError> {
        let payloads = entries.iter().map(Entry::checked_bytes);
        let payloads = payloads.collect::<Result<Vec<_>, _>>()?;
        let messages: Vec<Vec<u8>> = payloads
            .iter()
            .map(|payload| pre_authentication_encoding(PAYLOAD_TYPE, payload))
            .collect();
        let signatures = signer.sign_all(&messages)?;
        let signed = payloads.into_iter().zip(signatures);
        signed
            .map(|(payload, signature)| Self::of(payload, signer, signature))
            .collect()
    }

    fn of(
        payload: Vec<u8>,
        signer: &EntrySigner,
        signature: [u8; 64],
    ) -> Result<Self, ProvenanceError> {
        let envelope = Self {
            payload,
            key_id: signer.public().label(),
            signature,
        };
        check_length(WHAT, envelope.to_bytes().len(), ENVELOPE_BYTES_MAX)?;
        Ok(envelope)
    }

    /// The canonical bytes, which are the data of the log's leaf.
    pub fn to_bytes(&self) -> Vec<u8> {
        let key_id = canonical_json(&self.key_id);
        let payload = base64_encode(&self.payload);
        let signature = base64_encode(&self.signature);
        let [before_type, before_key, before_signature, end] = BETWEEN.map(str::as_bytes);
        let pieces = [
            START.as_bytes(),
            payload.as_bytes(),
            before_type,
            PAYLOAD_TYPE.as_bytes(),
            before_key,
            &key_id,
            before_signature,
            signature.as_bytes(),
            end,
        ];
        pieces.concat()
    }

    /// Parses canonical bytes, without verifying the signature.
    ///
    /// # Errors
    /// Refuses another payload type, more or fewer than one signature, and every spelling but the
    /// canonical one.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProvenanceError> {
        check_length(WHAT, bytes.len(), ENVELOPE_BYTES_MAX)?;
        if let Some(envelope) = Self::parse_plain(bytes) {
            return Ok(envelope);
        }
        let wire: Wire = parse_canonical_json(WHAT, bytes)?;
        Self::try_from(wire)
    }

    /// The short way, for the canonical bytes of an envelope whose key's name needs no escape: all that
    /// varies in them has one spelling. None for everything else, which the long way judges.
    fn parse_plain(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let [before_type, before_key, before_signature, end] = BETWEEN;
        let (payload, rest) = text.strip_prefix(START)?.split_once(before_type)?;
        let rest = rest.strip_prefix(PAYLOAD_TYPE)?.strip_prefix(before_key)?;
        let (key_id, rest) = rest.strip_prefix('"')?.split_once('"')?;
        let is_escaped = |byte: u8| byte < b' ' || byte == b'\\';
        if key_id.bytes().any(is_escaped) {
            return None;
        }
        let signature = rest.strip_prefix(before_signature)?.strip_suffix(end)?;
        Some(Self {
            payload: base64_decode(WHAT, payload).ok()?,
            key_id: key_id.to_owned(),
            signature: base64_decode(WHAT, signature).ok()?.try_into().ok()?,
        })
    }

    /// Verifies the signature and parses the entry.
    ///
    /// # Errors
    /// Refuses another key's signature, a signature that does not verify, and a payload that is not
    /// an entry's canonical bytes.
    pub fn verify(&self, verifier: &EntryVerifier) -> Result<Entry, ProvenanceError> {
        let key = verifier.key();
        if self.key_id != key.label() {
            return Err(ProvenanceError::UnknownKey {
                expected: key.label(),
                found: self.key_id.clone(),
            });
        }
        let message = pre_authentication_encoding(PAYLOAD_TYPE, &self.payload);
        key.verify(&message, &self.signature)?;
        Entry::parse(&self.payload)
    }

    /// The entry, believed without looking at the signature. For indexing what this process has just
    /// signed or verified.
    ///
    /// # Errors
    /// Refuses a payload that is not an entry's canonical bytes.
    pub fn unverified_entry(&self) -> Result<Entry, ProvenanceError> {
        Entry::parse(&self.payload)
    }

    /// The canonical bytes of the entry, not yet believed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The key that the envelope names, as `name+id`.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The hash of the log's leaf.
    pub fn leaf_hash(&self) -> Hash {
        merkle::leaf_hash(&self.to_bytes())
    }
}

impl From<Envelope> for Wire {
    fn from(envelope: Envelope) -> Self {
        Self {
            payload: base64_encode(&envelope.payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: [WireSignature {
                keyid: envelope.key_id,
                sig: base64_encode(&envelope.signature),
            }],
        }
    }
}

impl TryFrom<Wire> for Envelope {
    type Error = ProvenanceError;

    fn try_from(wire: Wire) -> Result<Self, ProvenanceError> {
        if wire.payload_type != PAYLOAD_TYPE {
            return Err(ProvenanceError::UnknownPayloadType {
                found: wire.payload_type,
            });
        }
        let [WireSignature { keyid, sig }] = wire.signatures;
        let signature = base64_decode(WHAT, &sig)?
            .try_into()
            .map_err(|_| ProvenanceError::malformed(WHAT, "a signature has 64 bytes"))?;
        Ok(Self {
            payload: base64_decode(WHAT, &wire.payload)?,
            key_id: keyid,
            signature,
        })
    }
}

/// What is signed: PAE(type, body) of DSSE, which binds the type and both lengths.
pub(crate) fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let header = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    [header.as_bytes(), payload].concat()
}

/// The payload type and the payload in what is signed. None in anything else.
pub(crate) fn pre_authenticated(message: &[u8]) -> Option<(&str, &[u8])> {
    let mut parts = message.splitn(5, |byte| *byte == b' ');
    let [b"DSSEv1", _, payload_type, _, payload] = [(); 5].map(|()| parts.next().unwrap_or(b""))
    else {
        return None;
    };
    let payload_type = str::from_utf8(payload_type).ok()?;
    // The lengths have one spelling, so writing it again tells whether they were right.
    let same = pre_authentication_encoding(payload_type, payload) == message;
    same.then_some((payload_type, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, RecordedDetector, RecordedVerdict, ScoreEntry};

    /// Both ways of reading and of writing an envelope, for a key whose name needs escapes and for one whose
    /// name needs none.
    #[test]
    fn the_short_way_reads_and_writes_what_the_long_way_does() {
        for key_id in ["retrace.test/log+0123abcd", "é+1", "a\"b\\c\u{7f}\n+2", ""] {
            let envelope = Envelope {
                payload: br#"{"version":1}"#.to_vec(),
                key_id: key_id.to_owned(),
                signature: [7; 64],
            };
            let bytes = envelope.to_bytes();
            assert_eq!(bytes, canonical_json(&envelope));
            assert_eq!(Envelope::parse(&bytes).as_ref(), Ok(&envelope));
            let is_plain = !key_id.contains(['"', '\\', '\n']);
            assert_eq!(Envelope::parse_plain(&bytes).is_some(), is_plain);
            let long_way = |bytes: &[u8]| {
                parse_canonical_json::<Wire>(WHAT, bytes).and_then(Envelope::try_from)
            };
            for place in 0..bytes.len() {
                for byte in [b' ', b'"', b'\\', b'=', b'/', b'A', b'}', 0, 0xff] {
                    let mut changed = bytes.clone();
                    changed[place] = byte;
                    assert_eq!(Envelope::parse(&changed), long_way(&changed));
                }
                let shorter = [&bytes[..place], &bytes[place + 1..]].concat();
                assert_eq!(Envelope::parse(&shorter), long_way(&shorter));
                let longer = [&bytes[..place], b" ", &bytes[place..]].concat();
                assert_eq!(Envelope::parse(&longer), long_way(&longer));
            }
        }
    }

    #[test]
    fn an_entry_that_could_not_be_read_back_is_not_signed() {
        let signer = EntrySigner::from_seed("retrace.test/log", [1; 32]).unwrap();
        let digest = Digest::of(b"");
        let mut entry = ScoreEntry {
            request_id: "1".to_owned(),
            created_at_ms: 0,
            client: "studio".to_owned(),
            upload_commitment: digest,
            detector: RecordedDetector {
                name: "photo-prior".to_owned(),
                version: "1".to_owned(),
                digest,
            },
            calibration_version: "1".to_owned(),
            thresholds_version: "1".to_owned(),
            verdict: RecordedVerdict::Inconclusive,
            probability: None,
        };
        let envelope = Envelope::sign(&Entry::Score(entry.clone()), &signer).unwrap();
        assert_eq!(Envelope::parse(&envelope.to_bytes()), Ok(envelope));
        entry.client = "two\nlines".to_owned();
        let refused = Envelope::sign(&Entry::Score(entry), &signer).unwrap_err();
        assert_eq!(refused.code(), "invalid-entry-field");
    }
}
