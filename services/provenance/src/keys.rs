//! Ed25519 keys, one for each purpose, and the public key file.
//!
//! The entry key signs statements, the checkpoint key signs tree heads. They are different types with
//! different names, so that a signature made for one purpose can never pass for the other.

mod prepared;
mod signable;
mod signer;

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use self::prepared::PreparedKey;
pub use self::signable::{EntryMatter, Signable};
pub use self::signer::{KeyHolder, Signer, SigningFailure};
use crate::encoding::{base64_decode, base64_encode, check_length};
use crate::{Digest, ProvenanceError};

/// The type byte of plain Ed25519 note signatures in C2SP signed-note.
const SIGNATURE_TYPE_ED25519: u8 = 0x01;
/// The type byte of timestamped Ed25519 cosignatures in C2SP tlog-cosignature.
pub(crate) const SIGNATURE_TYPE_COSIGNATURE: u8 = 0x04;
/// Longest name of a key; an origin is a host name with a short path.
pub const KEY_NAME_BYTES_MAX: usize = 255;
/// What the entry key's name adds to the origin.
const ENTRIES_SUFFIX: &str = "/entries";
/// Longest public key file: two names, two ids and two keys.
const PUBLIC_KEYS_BYTES_MAX: usize = 1024;

/// The 32 secret bytes of an Ed25519 key (the seed of RFC 8032). Wiped from memory when dropped.
///
/// Whoever holds the entry seed can sign any statement in the service's name; whoever holds the
/// checkpoint seed can sign any history.
#[derive(Clone)]
pub struct SecretSeed(Zeroizing<[u8; 32]>);

impl SecretSeed {
    /// The key that grows from the seed.
    pub(crate) fn signing_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.0)
    }
}

impl SecretSeed {
    /// A seed drawn elsewhere from the operating system's randomness.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Parses the text of a seed file: 64 lower-case hexadecimal digits and an optional newline.
    ///
    /// # Errors
    /// Refuses everything else, without repeating any of it.
    pub fn parse_hex(text: &str) -> Result<Self, ProvenanceError> {
        let refused = || {
            ProvenanceError::malformed("secret seed", "64 lower-case hexadecimal digits are needed")
        };
        let digits = text.strip_suffix('\n').unwrap_or(text);
        if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(refused());
        }
        let mut seed = Self::from_bytes([0; 32]);
        hex::decode_to_slice(digits, seed.0.as_mut()).map_err(|_| refused())?;
        Ok(seed)
    }

    /// A secret of its own for one purpose: HMAC-SHA256 (RFC 2104) of the purpose under the seed. It says
    /// nothing about the seed or about the secrets of other purposes.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*crate::commit(&self.0, purpose.as_bytes()).as_bytes())
    }

    /// The text of a seed file, without a newline. It is wiped from memory when dropped.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0.as_ref()))
    }
}

impl From<[u8; 32]> for SecretSeed {
    fn from(bytes: [u8; 32]) -> Self {
        Self::from_bytes(bytes)
    }
}

/// A named public key with its 4-byte id, in the sense of C2SP signed-note.
#[derive(Clone)]
pub(crate) struct NamedKey {
    name: String,
    /// The type byte of its signatures.
    signature_type: u8,
    id: [u8; 4],
    key: VerifyingKey,
    /// For verifying many signatures, see [`Verifier::prepared`].
    prepared: Option<PreparedKey>,
}

impl PartialEq for NamedKey {
    fn eq(&self, other: &Self) -> bool {
        // The id follows from these, and the tables from the key.
        (&self.name, self.signature_type, &self.key)
            == (&other.name, other.signature_type, &other.key)
    }
}

impl Eq for NamedKey {}

impl NamedKey {
    pub(crate) fn new(
        name: &str,
        signature_type: u8,
        key: VerifyingKey,
    ) -> Result<Self, ProvenanceError> {
        check_key_name(name)?;
        let refuse = |detail| ProvenanceError::InvalidPublicKey {
            name: name.to_owned(),
            detail,
        };
        // A key of small order would let one signature pass for many messages.
        if key.is_weak() {
            return Err(refuse("it has small order"));
        }
        if !has_canonical_y(key.as_bytes()) {
            return Err(refuse("its encoding is not canonical"));
        }
        let id = key_id(name, signature_type, key.as_bytes());
        Ok(Self {
            name: name.to_owned(),
            signature_type,
            id,
            key,
            prepared: None,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Whether the two are one key, whatever they are called.
    pub(crate) fn same_bytes(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// `name+id`, which names the key and says nothing about its bytes.
    pub(crate) fn label(&self) -> String {
        label(&self.name, self.id)
    }

    /// Verifies with the strict rules (no small-order points, canonical scalar).
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), ProvenanceError> {
        let invalid = || ProvenanceError::SignatureInvalid { key: self.label() };
        let signature: &[u8; 64] = signature.try_into().map_err(|_| invalid())?;
        let holds = match &self.prepared {
            Some(prepared) => prepared.accepts(message, signature),
            None => self
                .key
                .verify_strict(message, &Signature::from_bytes(signature))
                .is_ok(),
        };
        if holds { Ok(()) } else { Err(invalid()) }
    }
}

impl fmt::Display for NamedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed_key = vec![self.signature_type];
        typed_key.extend_from_slice(self.key.as_bytes());
        write!(formatter, "{}+{}", self.label(), base64_encode(&typed_key))
    }
}

impl fmt::Debug for NamedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NamedKey({self})")
    }
}

impl NamedKey {
    /// Parses a C2SP verifier key, `name+id+base64(type || key)`, of this type.
    pub(crate) fn parse(text: &str, signature_type: u8) -> Result<Self, ProvenanceError> {
        const WHAT: &str = "public key";
        let malformed = |detail: &str| ProvenanceError::malformed(WHAT, detail);
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(typed_key)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("name+id+key is needed"));
        };
        let typed_key = base64_decode(WHAT, typed_key)?;
        let Some((found_type, key)) = typed_key.split_first() else {
            return Err(malformed("a key is a type and 32 bytes"));
        };
        if *found_type != signature_type {
            return Err(malformed(
                "the key is of another type than its purpose needs",
            ));
        }
        let key: [u8; 32] = key
            .try_into()
            .map_err(|_| malformed("an Ed25519 key has 32 bytes"))?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| malformed("not a curve point"))?;
        let key = Self::new(name, signature_type, key)?;
        if hex::encode(key.id) != id {
            return Err(malformed("the id does not belong to this name and key"));
        }
        Ok(key)
    }
}

/// `name+id`, with the id in hexadecimal.
pub(crate) fn label(name: &str, id: [u8; 4]) -> String {
    format!("{name}+{}", hex::encode(id))
}

/// Refuses names that signed notes cannot carry.
pub(crate) fn check_key_name(name: &str) -> Result<(), ProvenanceError> {
    let refuse = |detail| {
        Err(ProvenanceError::InvalidKeyName {
            name: name.chars().take(KEY_NAME_BYTES_MAX).collect(),
            detail,
        })
    };
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > KEY_NAME_BYTES_MAX {
        return refuse("it has more than 255 bytes");
    }
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.contains(forbidden) {
        return refuse("spaces, control characters and plus signs are not allowed");
    }
    Ok(())
}

/// SHA-256(name || newline || type || key), first four bytes.
fn key_id(name: &str, signature_type: u8, key: &[u8; 32]) -> [u8; 4] {
    let digest = Digest::of_parts(&[name.as_bytes(), b"\n", &[signature_type], key]);
    let [a, b, c, d, ..] = *digest.as_bytes();
    [a, b, c, d]
}

/// Whether the y coordinate is below 2^255 - 19, so that the point has no second spelling.
fn has_canonical_y(key: &[u8; 32]) -> bool {
    let top = key[31] & 0x7f;
    let all_ones = top == 0x7f && key[1..31].iter().all(|byte| *byte == 0xff);
    !(all_ones && key[0] >= 0xed)
}

/// What a key signs. Sealed: there are exactly two purposes.
pub trait Purpose: sealed::Sealed {
    /// The purpose in words.
    const NAME: &'static str;

    /// What a message under this purpose says.
    type Matter;

    /// Reads a message that a key of this purpose is asked to sign.
    ///
    /// # Errors
    /// Refuses whatever such a key never signs.
    fn read(message: &[u8]) -> Result<Self::Matter, ProvenanceError>;

    /// The name of the key of the log with this origin.
    fn key_name(origin: &str) -> String;
}

mod sealed {
    /// Keeps [`super::Purpose`] to the purposes of this module.
    pub trait Sealed {}
}

/// Signing statements. The key is named `<origin>/entries`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {}

/// Signing tree heads. The key is named as the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoints {}

impl sealed::Sealed for Entries {}
impl sealed::Sealed for Checkpoints {}

impl Purpose for Entries {
    const NAME: &'static str = "entries";
    type Matter = EntryMatter;

    fn read(message: &[u8]) -> Result<EntryMatter, ProvenanceError> {
        EntryMatter::parse(message)
    }

    fn key_name(origin: &str) -> String {
        format!("{origin}{ENTRIES_SUFFIX}")
    }
}

impl Purpose for Checkpoints {
    const NAME: &'static str = "checkpoints";
    type Matter = crate::Checkpoint;

    fn read(message: &[u8]) -> Result<crate::Checkpoint, ProvenanceError> {
        crate::Checkpoint::parse_text(message)
    }

    fn key_name(origin: &str) -> String {
        origin.to_owned()
    }
}

/// Signs entries.
pub type EntrySigner = Signer<Entries>;
/// Verifies entries.
pub type EntryVerifier = Verifier<Entries>;
/// Signs checkpoints.
pub type CheckpointSigner = Signer<Checkpoints>;
/// Verifies checkpoints.
pub type CheckpointVerifier = Verifier<Checkpoints>;

/// The public half of a key. Written as a C2SP verifier key, `name+id+key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier<P: Purpose> {
    key: NamedKey,
    purpose: PhantomData<P>,
}

impl<P: Purpose> Verifier<P> {
    /// The key's name.
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// `name+id`, as signatures refer to the key.
    pub fn key_id(&self) -> String {
        self.key.label()
    }

    /// The same key, with tables that make each verification a few times faster: for whoever verifies
    /// thousands of signatures. Takes about a millisecond and 640 KiB.
    #[must_use]
    pub fn prepared(&self) -> Self {
        let mut key = self.key.clone();
        key.prepared = Some(PreparedKey::new(&self.key.key));
        Self {
            key,
            purpose: PhantomData,
        }
    }

    pub(crate) fn key(&self) -> &NamedKey {
        &self.key
    }
}

impl<P: Purpose> fmt::Display for Verifier<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(formatter)
    }
}

impl<P: Purpose> FromStr for Verifier<P> {
    type Err = ProvenanceError;

    /// Parses a verifier key. That its name fits the purpose is checked where both keys of a log come
    /// together, in [`PublicKeys::new`].
    fn from_str(text: &str) -> Result<Self, ProvenanceError> {
        Ok(Self {
            key: NamedKey::parse(text, SIGNATURE_TYPE_ED25519)?,
            purpose: PhantomData,
        })
    }
}

/// The public key file: the entry key and the checkpoint key of one log, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeys {
    /// Verifies entries; named `<origin>/entries`.
    pub entries: EntryVerifier,
    /// Verifies checkpoints; named as the log's origin.
    pub checkpoint: CheckpointVerifier,
}

impl PublicKeys {
    /// Puts two keys of the same log together.
    ///
    /// # Errors
    /// Refuses keys whose names do not belong together, and one key for both purposes.
    pub fn new(
        entries: EntryVerifier,
        checkpoint: CheckpointVerifier,
    ) -> Result<Self, ProvenanceError> {
        if entries.name() != Entries::key_name(checkpoint.name()) {
            return Err(ProvenanceError::malformed(
                "public key file",
                "the entry key must have the checkpoint key's name with /entries after it",
            ));
        }
        if entries.key.key == checkpoint.key.key {
            return Err(ProvenanceError::malformed(
                "public key file",
                "one key may not serve both purposes",
            ));
        }
        Ok(Self {
            entries,
            checkpoint,
        })
    }

    /// Parses the public key file: two lines, the entry key first, each ended by a newline.
    ///
    /// # Errors
    /// Refuses any other shape, unknown key types, weak keys and ids that do not fit.
    pub fn parse(text: &str) -> Result<Self, ProvenanceError> {
        const WHAT: &str = "public key file";
        check_length(WHAT, text.len(), PUBLIC_KEYS_BYTES_MAX)?;
        let lines: Vec<&str> = text.split('\n').collect();
        let [entries, checkpoint, ""] = lines[..] else {
            return Err(ProvenanceError::malformed(
                WHAT,
                "two lines are needed, the entry key and the checkpoint key",
            ));
        };
        Self::new(entries.parse()?, checkpoint.parse()?)
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        self.checkpoint.name()
    }
}

impl fmt::Display for PublicKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.entries)?;
        writeln!(formatter, "{}", self.checkpoint)
    }
}

impl FromStr for PublicKeys {
    type Err = ProvenanceError;

    fn from_str(text: &str) -> Result<Self, ProvenanceError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_file_is_64_lower_case_digits_and_at_most_one_newline() {
        let text = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let seed = SecretSeed::parse_hex(text).unwrap();
        assert_eq!(*seed.to_hex(), text);
        assert!(SecretSeed::parse_hex(&format!("{text}\n")).is_ok());
        for refused in [
            format!("{text}\n\n"),
            format!(" {text}"),
            text.to_uppercase(),
            text[2..].to_owned(),
            format!("{text}00"),
            String::new(),
        ] {
            assert!(SecretSeed::parse_hex(&refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn nothing_secret_is_ever_printed() {
        let seed = SecretSeed::from_bytes([0xab; 32]);
        let signer = EntrySigner::from_seed("retrace.test/log", seed.clone()).unwrap();
        let printed = format!("{signer:?}");
        assert!(printed.contains("retrace.test/log/entries"));
        assert!(
            !printed.contains("abab") && !printed.contains("171"),
            "{printed}"
        );
        let refused = SecretSeed::parse_hex(&"AB".repeat(32)).err().unwrap();
        assert!(!refused.to_string().contains("AB"));
    }

    #[test]
    fn an_origin_that_a_note_cannot_carry_is_refused() {
        for origin in ["", "a b", "a+b", "a\nb", "a\u{a0}b", &"n".repeat(300)] {
            assert!(
                CheckpointSigner::from_seed(origin, [1; 32]).is_err(),
                "{origin:?}"
            );
        }
        assert!(EntrySigner::from_seed(&"n".repeat(250), [1; 32]).is_err());
    }
}
