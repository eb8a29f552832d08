//! Salted commitments to texts that must stay erasable.

use crate::Digest;

/// The block length of SHA-256, to which HMAC pads its key.
const SHA256_BLOCK_BYTES: usize = 64;

/// Commits to a text (a prompt, or the digest of an upload) without disclosing it:
/// HMAC-SHA256 (RFC 2104) with the salt as key and the text as message.
///
/// The log keeps the commitment for ever; salt and text live elsewhere and can be erased, after which
/// the commitment says nothing. Whoever holds both can show that this very text was meant, with any
/// tool: `openssl mac -digest SHA256 -macopt hexkey:SALT -in FILE HMAC`. The salt must be 32 random
/// bytes, drawn anew for each commitment: with a salt that an attacker knows or sets, a short text
/// can be guessed.
pub fn commit(salt: &[u8; 32], text: &[u8]) -> Digest {
    let mut inner_pad = [0x36; SHA256_BLOCK_BYTES];
    let mut outer_pad = [0x5c; SHA256_BLOCK_BYTES];
    for (place, byte) in salt.iter().enumerate() {
        inner_pad[place] ^= byte;
        outer_pad[place] ^= byte;
    }
    let inner = Digest::of_parts(&[&inner_pad, text]);
    Digest::of_parts(&[&outer_pad, inner.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_is_the_hmac_of_its_text() {
        // Made with Python: hmac.new(bytes(range(32)), text, "sha256").hexdigest().
        let salt: [u8; 32] = std::array::from_fn(|place| u8::try_from(place).unwrap());
        for (text, expected) in [
            (
                "",
                "d38b42096d80f45f826b44a9d5607de72496a415d3f4a1a8c88e3bb9da8dc1cb",
            ),
            (
                "a red heart",
                "1ae5ac9396145c21ec2fb57dda6ea7826032ba80fa626f9b5916760ce36bcb45",
            ),
        ] {
            assert_eq!(commit(&salt, text.as_bytes()).to_string(), expected);
        }
    }

    #[test]
    fn another_salt_or_text_gives_another_commitment() {
        let commitment = commit(&[1; 32], b"a red heart");
        assert_ne!(commit(&[2; 32], b"a red heart"), commitment);
        assert_ne!(commit(&[1; 32], b"a red heart "), commitment);
    }
}
