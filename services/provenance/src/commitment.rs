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
