//! SHA-256 digests.

use std::fmt;
use std::str::FromStr;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::ProvenanceError;

/// Bytes of a SHA-256 digest.
const DIGEST_BYTES: usize = 32;

/// The 32 bytes of a SHA-256 digest. Written as 64 lower-case hexadecimal digits everywhere but in
/// notes and proofs, whose formats ask for base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; DIGEST_BYTES]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of several pieces, as if they were one.
    pub(crate) fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// A digest that was computed elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Writes the digits without asking for memory: an entry has more than a dozen digests.
    fn write_digits<'a>(&self, digits: &'a mut [u8; 2 * DIGEST_BYTES]) -> &'a str {
        base16ct::lower::encode_str(&self.0, digits).expect("two digits a byte")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 2 * DIGEST_BYTES];
        formatter.write_str(self.write_digits(&mut digits))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = ProvenanceError;

    /// Parses 64 lower-case hexadecimal digits and nothing else.
    fn from_str(text: &str) -> Result<Self, ProvenanceError> {
        let mut bytes = [0; DIGEST_BYTES];
        // Without a branch for each digit: an entry has more than a dozen digests.
        match base16ct::lower::decode(text, &mut bytes) {
            Ok(decoded) if decoded.len() == DIGEST_BYTES => Ok(Self(bytes)),
            _ => Err(ProvenanceError::malformed(
                "digest",
                "64 lower-case hexadecimal digits are needed",
            )),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut digits = [0; 2 * DIGEST_BYTES];
        serializer.serialize_str(self.write_digits(&mut digits))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Digits)
    }
}

/// Reads a digest where its digits lie.
struct Digits;

impl Visitor<'_> for Digits {
    type Value = Digest;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("64 lower-case hexadecimal digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_as_64_lower_case_hexadecimal_digits() {
        let digest = Digest::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(
            serde_json::to_string(&digest).unwrap(),
            format!("\"{text}\"")
        );
    }

    #[test]
    fn a_digest_in_any_other_spelling_is_refused() {
        let text = Digest::of(b"abc").to_string();
        for refused in [
            text.to_uppercase(),
            text[1..].to_owned(),
            format!("{text}0"),
            format!(" {}", &text[1..]),
            format!("é{}", &text[2..]),
            String::new(),
        ] {
            assert!(refused.parse::<Digest>().is_err(), "{refused:?}");
        }
    }
}
