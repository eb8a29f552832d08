//! Verifying many signatures of one key: the same strict rules, with the multiples of the key and of
//! the base point looked up in tables.
//!
//! A signature `(R, s)` of a message under the key `A` holds when `R` is the encoding of
//! `s·B − k·A`, with `k = SHA-512(R ‖ A ‖ message)`, `s` below the group order and `R` of large order
//! (RFC 8032, section 5.1.7, without the cofactor, and with the additional rule of `verify_strict`).
//! That is one equation for one signature: unlike batch verification, which multiplies many equations
//! by random numbers and adds them up, it accepts exactly what the single verification accepts.
//!
//! Nothing here is secret, so time may depend on the data.

use std::fmt;
use std::sync::{Arc, OnceLock};

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity as _;
use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha512};

/// A scalar has 32 bytes, and each is one signed digit.
const DIGITS: usize = 32;
/// The multiples 1 to 128 of each digit's weight; the others are their negatives.
const MULTIPLES: usize = 128;

/// The base point's table, the same for all keys: 640 KiB, made in about a millisecond.
static BASE: OnceLock<Table> = OnceLock::new();

/// Multiples of `256^digit · point`, for every digit.
struct Table(Vec<[EdwardsPoint; MULTIPLES]>);

impl Table {
    fn of(point: EdwardsPoint) -> Self {
        let mut weight = point;
        let rows = (0..DIGITS).map(|_| {
            let mut multiple = EdwardsPoint::identity();
            let row = [(); MULTIPLES].map(|()| {
                multiple += weight;
                multiple
            });
            // Twice the last multiple, 128, is 256.
            weight = multiple + multiple;
            row
        });
        Self(rows.collect())
    }

    /// Adds `scalar · point` to the sum.
    fn add_multiple(&self, scalar: &Scalar, sum: &mut EdwardsPoint) {
        for (row, digit) in self.0.iter().zip(signed_digits(scalar)) {
            match digit {
                0 => {}
                1.. => *sum += &row[usize::from(digit.unsigned_abs()) - 1],
                _ => *sum -= &row[usize::from(digit.unsigned_abs()) - 1],
            }
        }
    }
}

/// Digits from -128 to 127 of base 256, the least first. A reduced scalar is below 2^253, so that the
/// last digit takes the last carry.
fn signed_digits(scalar: &Scalar) -> [i16; DIGITS] {
    let mut carry = 0;
    scalar.to_bytes().map(|byte| {
        let digit = i16::from(byte) + carry;
        carry = i16::from(digit >= 128);
        digit - 256 * carry
    })
}

/// A key with its tables.
#[derive(Clone)]
pub(super) struct PreparedKey {
    bytes: [u8; 32],
    /// Of the negative key.
    table: Arc<Table>,
}

impl PreparedKey {
    pub(super) fn new(key: &VerifyingKey) -> Self {
        Self {
            bytes: key.to_bytes(),
            table: Arc::new(Table::of(-key.to_edwards())),
        }
    }

    /// Whether `verify_strict` would accept the signature. The key is not weak, which whoever made
    /// this has checked.
    pub(super) fn accepts(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let (r, s) = signature.split_at(32);
        let s: [u8; 32] = s.try_into().expect("the halves of 64 bytes have 32");
        let Some(s) = Scalar::from_canonical_bytes(s).into_option() else {
            return false;
        };
        let hash = Sha512::new()
            .chain_update(r)
            .chain_update(self.bytes)
            .chain_update(message)
            .finalize();
        let k = Scalar::from_bytes_mod_order_wide(&hash.into());
        let mut expected = EdwardsPoint::identity();
        BASE.get_or_init(|| Table::of(ED25519_BASEPOINT_POINT))
            .add_multiple(&s, &mut expected);
        self.table.add_multiple(&k, &mut expected);
        // Equal bytes are the canonical encoding of this point, so its order is that of R.
        expected.compress().as_bytes()[..] == *r && !expected.is_small_order()
    }
}

impl fmt::Debug for PreparedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PreparedKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, Signer as _, SigningKey};

    use super::*;

    /// The eight points whose order divides 8, each with the encodings that a lenient decoder takes.
    fn small_order() -> Vec<[u8; 32]> {
        let mut encodings: Vec<[u8; 32]> = curve25519_dalek::constants::EIGHT_TORSION
            .iter()
            .map(|point| point.compress().to_bytes())
            .collect();
        for text in [
            "0100000000000000000000000000000000000000000000000000000000000080",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        ] {
            encodings.push(hex::decode(text).unwrap().try_into().unwrap());
        }
        encodings
    }

    fn agree(key: &VerifyingKey, prepared: &PreparedKey, message: &[u8], bytes: &[u8; 64]) -> bool {
        let signature = Signature::from_bytes(bytes);
        let single = key.verify_strict(message, &signature).is_ok();
        assert_eq!(prepared.accepts(message, bytes), single, "{bytes:02x?}");
        single
    }

    #[test]
    fn tables_accept_exactly_what_the_single_strict_verification_accepts() {
        let mut accepted = 0;
        for seed in 0..24_u8 {
            let signing = SigningKey::from_bytes(&[seed; 32]);
            let key = signing.verifying_key();
            let prepared = PreparedKey::new(&key);
            let message = vec![seed; usize::from(seed) * 7];
            let bytes = signing.sign(&message).to_bytes();
            accepted += usize::from(agree(&key, &prepared, &message, &bytes));
            for bit in (0..512).step_by(3) {
                let mut changed = bytes;
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(!agree(&key, &prepared, &message, &changed));
            }
            assert!(!agree(&key, &prepared, b"another message", &bytes));
        }
        assert_eq!(accepted, 24);
    }

    /// s + order of the group signs the same under a lenient verifier.
    #[test]
    fn a_scalar_that_is_not_reduced_is_refused() {
        let signing = SigningKey::from_bytes(&[3; 32]);
        let key = signing.verifying_key();
        let prepared = PreparedKey::new(&key);
        let mut bytes = signing.sign(b"message").to_bytes();
        let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
        let mut carry = 0;
        for (byte, addend) in bytes[32..].iter_mut().zip(hex::decode(order).unwrap()) {
            let sum = u16::from(*byte) + u16::from(addend) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert_eq!(carry, 0);
        assert!(!agree(&key, &prepared, b"message", &bytes));
    }

    /// With R of small order and s chosen to fit, the equation itself holds for some messages.
    #[test]
    fn a_commitment_of_small_order_is_refused_even_where_the_equation_holds() {
        let seed = SigningKey::from_bytes(&[5; 32]);
        let secret = seed.to_scalar();
        let key = seed.verifying_key();
        let prepared = PreparedKey::new(&key);
        for r in small_order() {
            for number in 0..16_u8 {
                let message = [number];
                let hash = Sha512::new()
                    .chain_update(r)
                    .chain_update(key.as_bytes())
                    .chain_update(message)
                    .finalize();
                let k = Scalar::from_bytes_mod_order_wide(&hash.into());
                // s·B − k·A is the identity, which is what an R of order 1 stands for.
                let s = k * secret;
                let mut bytes = [0; 64];
                bytes[..32].copy_from_slice(&r);
                bytes[32..].copy_from_slice(s.as_bytes());
                assert!(!agree(&key, &prepared, &message, &bytes));
            }
        }
    }

    /// A key with a part of small order: the equation without the cofactor holds for some messages,
    /// and both verifications must say the same of each.
    #[test]
    fn a_key_of_mixed_order_is_treated_alike() {
        let signing = SigningKey::from_bytes(&[6; 32]);
        let secret = signing.to_scalar();
        let torsion = curve25519_dalek::constants::EIGHT_TORSION[1];
        let mixed = signing.verifying_key().to_edwards() + torsion;
        let key = VerifyingKey::from_bytes(&mixed.compress().to_bytes()).unwrap();
        let prepared = PreparedKey::new(&key);
        let nonce = Scalar::from(77_u64);
        let r = EdwardsPoint::mul_base(&nonce).compress();
        let mut accepted = 0;
        for number in 0..64_u8 {
            let message = [number];
            let hash = Sha512::new()
                .chain_update(r.as_bytes())
                .chain_update(key.as_bytes())
                .chain_update(message)
                .finalize();
            let k = Scalar::from_bytes_mod_order_wide(&hash.into());
            let s = nonce + k * secret;
            let mut bytes = [0; 64];
            bytes[..32].copy_from_slice(r.as_bytes());
            bytes[32..].copy_from_slice(s.as_bytes());
            accepted += usize::from(agree(&key, &prepared, &message, &bytes));
        }
        // One message in eight makes k a multiple of 8.
        assert!((1..=24).contains(&accepted), "{accepted}");
    }

    #[test]
    fn every_digit_counts_in_the_tables() {
        let table = Table::of(ED25519_BASEPOINT_POINT);
        let largest = Scalar::ZERO - Scalar::ONE;
        let halves = Scalar::from_bytes_mod_order([0x80; 32]);
        for scalar in [
            Scalar::ZERO,
            Scalar::ONE,
            largest,
            halves,
            Scalar::from(255_u64),
        ] {
            let mut sum = EdwardsPoint::identity();
            table.add_multiple(&scalar, &mut sum);
            assert_eq!(sum, EdwardsPoint::mul_base(&scalar));
        }
    }
}
