//! Numbers with a fraction inside signed statements.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ProvenanceError;

/// The longest decimal accepted. Every finite `f32` fits: the smallest needs 48 to 56 characters.
pub const DECIMAL_BYTES_MAX: usize = 64;

/// A decimal number kept as text, such as `7.5` or `-0.25`.
///
/// Signed bytes hold no floating-point numbers, because two writers may spell the same number
/// differently. A decimal has one spelling: no exponent, no leading or trailing zeroes, no `-0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal(String);

impl Decimal {
    /// The shortest decimal that reads back as the same `f32`.
    ///
    /// # Errors
    /// Refuses infinities and NaN.
    pub fn from_f32(value: f32) -> Result<Self, ProvenanceError> {
        if !value.is_finite() {
            return Err(ProvenanceError::malformed(
                "decimal",
                format!("{value} is not a finite number"),
            ));
        }
        if value == 0.0 {
            return Ok(Self("0".to_owned()));
        }
        // `Display` of a float is the shortest round-tripping decimal and never has an exponent.
        value.to_string().parse()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest `f32`.
    pub fn to_f32(&self) -> f32 {
        self.0
            .parse()
            .expect("a canonical decimal is a number that the standard library reads")
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Decimal {
    type Err = ProvenanceError;

    fn from_str(text: &str) -> Result<Self, ProvenanceError> {
        let refuse = |detail: &str| Err(ProvenanceError::malformed("decimal", detail));
        if text.len() > DECIMAL_BYTES_MAX {
            return refuse("more than 64 characters");
        }
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (integer, fraction) = match unsigned.split_once('.') {
            Some((integer, fraction)) => (integer, Some(fraction)),
            None => (unsigned, None),
        };
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(integer) || !fraction.is_none_or(digits) {
            return refuse("only digits, one sign and one point are allowed");
        }
        if integer.len() > 1 && integer.starts_with('0') {
            return refuse("leading zeroes");
        }
        if fraction.is_some_and(|fraction| fraction.ends_with('0')) {
            return refuse("trailing zeroes");
        }
        if text == "-0" {
            return refuse("minus zero");
        }
        Ok(Self(text.to_owned()))
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_becomes_its_shortest_decimal() {
        for (value, text) in [
            (7.5, "7.5"),
            (7.0, "7"),
            (0.0, "0"),
            (-0.0, "0"),
            (-0.25, "-0.25"),
            (0.1, "0.1"),
            (1e-7, "0.0000001"),
        ] {
            let decimal = Decimal::from_f32(value).unwrap();
            assert_eq!(decimal.as_str(), text);
            assert_eq!(decimal.to_f32(), value);
        }
    }

    #[test]
    fn every_extreme_float_fits() {
        for value in [f32::MAX, f32::MIN, f32::MIN_POSITIVE, f32::from_bits(1)] {
            assert_eq!(Decimal::from_f32(value).unwrap().to_f32(), value);
        }
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(Decimal::from_f32(value).is_err());
        }
    }

    #[test]
    fn a_decimal_in_any_other_spelling_is_refused() {
        for refused in [
            "", "-", ".5", "5.", "07", "7.50", "7.0", "-0", "-0.0", "+1", "1e3", "1,5", "NaN",
            "--1", "1.2.3", " 1", "٣",
        ] {
            assert!(refused.parse::<Decimal>().is_err(), "{refused:?}");
        }
        assert!("1".repeat(65).parse::<Decimal>().is_err());
    }
}
