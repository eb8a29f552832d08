//! The strict spellings that all parsers of this crate share: base64, decimals and canonical JSON.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Digest, ProvenanceError};

/// Standard base64 with padding (RFC 4648, section 4).
pub(crate) fn base64_encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Parses standard base64. Refuses missing padding, white space and spare bits that are not zero, so
/// that every byte string has exactly one spelling.
pub(crate) fn base64_decode(what: &'static str, text: &str) -> Result<Vec<u8>, ProvenanceError> {
    STANDARD
        .decode(text)
        .map_err(|error| ProvenanceError::malformed(what, format!("base64: {error}")))
}

/// Parses the base64 of exactly 32 bytes.
pub(crate) fn base64_digest(what: &'static str, text: &str) -> Result<Digest, ProvenanceError> {
    let bytes = base64_decode(what, text)?;
    let bytes: [u8; 32] = bytes.try_into().map_err(|bytes: Vec<u8>| {
        ProvenanceError::malformed(what, format!("{} bytes where 32 are needed", bytes.len()))
    })?;
    Ok(Digest::from_bytes(bytes))
}

/// Parses an ASCII decimal without sign or leading zeroes into 64 bits.
pub(crate) fn decimal_u64(what: &'static str, text: &str) -> Result<u64, ProvenanceError> {
    let digits_only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits_only || (text.len() > 1 && text.starts_with('0')) {
        return Err(ProvenanceError::malformed(
            what,
            "a decimal without sign or leading zeroes is needed",
        ));
    }
    text.parse()
        .map_err(|_| ProvenanceError::malformed(what, "the number needs more than 64 bits"))
}

/// Compact JSON in the declared order of fields.
pub(crate) fn canonical_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("the crate's own types have string keys and no failing parts")
}

/// Parses JSON and refuses every spelling but the one that [`canonical_json`] writes.
pub(crate) fn parse_canonical_json<T: Serialize + DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, ProvenanceError> {
    let value: T = serde_json::from_slice(bytes)
        .map_err(|error| ProvenanceError::malformed(what, error.to_string()))?;
    let mut rest = Rest(bytes);
    if serde_json::to_writer(&mut rest, &value).is_err() || !rest.0.is_empty() {
        return Err(ProvenanceError::NotCanonical { what });
    }
    Ok(value)
}

/// What is left of the bytes that are expected to be written.
struct Rest<'a>(&'a [u8]);

impl io::Write for Rest<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let rest = self.0.strip_prefix(bytes);
        self.0 = rest.ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Refuses input over its limit before anything looks at it.
pub(crate) fn check_length(
    what: &'static str,
    bytes: usize,
    bytes_max: usize,
) -> Result<(), ProvenanceError> {
    if bytes > bytes_max {
        return Err(ProvenanceError::TooLong {
            what,
            bytes,
            bytes_max,
        });
    }
    Ok(())
}

/// 64-bit numbers as decimal strings, because JSON readers often keep only 53 bits of a number.
pub(crate) mod u64_string {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::decimal_u64("64-bit number", &text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_one_spelling() {
        assert_eq!(base64_decode("x", "AA==").unwrap(), [0]);
        for refused in ["AA", "AA=", "AB==", "AA==\n", " AA==", "A-==", "AA==AA=="] {
            assert!(base64_decode("x", refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_decimal_has_one_spelling() {
        assert_eq!(decimal_u64("x", "0"), Ok(0));
        assert_eq!(decimal_u64("x", "18446744073709551615"), Ok(u64::MAX));
        for refused in [
            "",
            "00",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1.0",
            "١",
            "18446744073709551616",
        ] {
            assert!(decimal_u64("x", refused).is_err(), "{refused:?}");
        }
    }
}
