//! Secrets at rest, under a passphrase that lies elsewhere.
//!
//! A wrapped secret is one line of text with five parts: the format, the cost of the passphrase (Argon2id,
//! RFC 9106), a salt, a nonce, and the secret under XChaCha20-Poly1305, the last three in base64:
//!
//! ```text
//! retrace-wrapped@v1 m=65536,t=3,p=4 c2FsdA… bm9uY2U… Y2lwaGVydGV4dA…
//! ```
//!
//! The name of the file and all parts before the secret are authenticated with it, so that a wrapped entry
//! seed does not pass for a checkpoint seed.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::{KeyError, check_mode};

/// The first word of a wrapped file.
const FORMAT: &str = "retrace-wrapped@v1";
/// Cost of a passphrase: memory in KiB, passes and lanes. The second recommendation of RFC 9106, section 4.
const COST: Cost = Cost {
    memory_kib: 65_536,
    passes: 3,
    lanes: 4,
};
/// Most memory that a file may ask for, in KiB, and most passes.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 64;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;
/// Shortest passphrase: with fewer characters no cost helps.
const PASSPHRASE_BYTES_MIN: usize = 12;
/// A passphrase is a line; a file over this is something else.
const PASSPHRASE_BYTES_MAX: usize = 4_096;

/// Opens and closes secrets. Without a passphrase they lie as they are, guarded by the permissions of
/// their files alone.
#[derive(Default)]
pub struct Vault {
    passphrase: Option<Passphrase>,
}

/// A passphrase, and what trying one costs. Wiped from memory when dropped.
struct Passphrase {
    bytes: Zeroizing<Vec<u8>>,
    cost: Cost,
}

/// Why a secret could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is wrapped, and no passphrase was given.
    #[error(
        "it is wrapped, and no passphrase was given: name the file that holds it with \
         --key-passphrase-file or RETRACE_KEY_PASSPHRASE_FILE"
    )]
    NoPassphrase,
    /// The passphrase is another one, or the file was changed or renamed.
    #[error(
        "this passphrase does not open it: it is another one, or the file was changed or renamed"
    )]
    Refused,
    /// It begins as a wrapped file does and goes on otherwise.
    #[error("it is no wrapped secret that this program knows")]
    Malformed,
    /// A passphrase is too short or too long.
    #[error("a passphrase has {PASSPHRASE_BYTES_MIN} to {PASSPHRASE_BYTES_MAX} bytes")]
    Passphrase,
}

#[derive(Clone, Copy)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl fmt::Display for Cost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            memory_kib,
            passes,
            lanes,
        } = self;
        write!(formatter, "m={memory_kib},t={passes},p={lanes}")
    }
}

impl Cost {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.splitn(3, ',');
        let mut number = |name: &str| numbers.next()?.strip_prefix(name)?.parse().ok();
        let cost = Self {
            memory_kib: number("m=")?,
            passes: number("t=")?,
            lanes: number("p=")?,
        };
        let bearable = cost.memory_kib <= MEMORY_KIB_MAX && cost.passes <= PASSES_MAX;
        (bearable && cost.to_string() == text).then_some(cost)
    }
}

impl Vault {
    /// A vault with the passphrase in this file, which nobody else may read; without a file one that
    /// leaves secrets as they are. Whoever has the passphrase and the state folder can sign anything in
    /// the service's name.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn open(passphrase: Option<&Path>) -> Result<Self, KeyError> {
        let Some(path) = passphrase else {
            return Ok(Self::default());
        };
        let at = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        let refused = || KeyError::Sealed {
            path: path.to_owned(),
            source: SealError::Passphrase,
        };
        check_mode(path)?;
        // One byte for the newline, one to notice a file that is too long. Reserved at once: growing would
        // leave copies that nobody wipes.
        let room = PASSPHRASE_BYTES_MAX + 2;
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        let file = File::open(path).map_err(at)?;
        file.take(room as u64).read_to_end(&mut bytes).map_err(at)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if !(PASSPHRASE_BYTES_MIN..=PASSPHRASE_BYTES_MAX).contains(&bytes.len()) {
            return Err(refused());
        }
        let cost = COST;
        Ok(Self {
            passphrase: Some(Passphrase { bytes, cost }),
        })
    }

    /// Whether the bytes of a file of this name lie as this vault would write them.
    pub(crate) fn has_sealed(&self, name: &str, bytes: &Zeroizing<Vec<u8>>) -> bool {
        match self.wraps() {
            true => is_wrapped(bytes) && self.unseal(name, bytes.clone()).is_ok(),
            false => !is_wrapped(bytes),
        }
    }

    /// Whether secrets are wrapped when they are written.
    #[must_use]
    pub fn wraps(&self) -> bool {
        self.passphrase.is_some()
    }

    /// The bytes to be written for a secret in a file of this name.
    pub(crate) fn seal(&self, name: &str, secret: &[u8]) -> Zeroizing<Vec<u8>> {
        let Some(passphrase) = &self.passphrase else {
            return Zeroizing::new(secret.to_vec());
        };
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
        for bytes in [&mut salt[..], &mut nonce[..]] {
            getrandom::fill(bytes).expect("the operating system has randomness");
        }
        let Passphrase { bytes, cost } = passphrase;
        let head = head(*cost, &salt, &nonce);
        let key = derive(bytes, *cost, &salt).expect("the cost is one that Argon2 takes");
        let payload = Payload {
            msg: secret,
            aad: &authenticated(name, &head),
        };
        let sealed = cipher(&key)
            .encrypt(&XNonce::from(nonce), payload)
            .expect("a secret is far shorter than what the cipher takes");
        Zeroizing::new(format!("{head} {}\n", STANDARD.encode(sealed)).into_bytes())
    }

    /// The secret in the bytes of a file of this name. What is not wrapped is the secret itself.
    pub(crate) fn unseal(
        &self,
        name: &str,
        bytes: Zeroizing<Vec<u8>>,
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        if !is_wrapped(&bytes) {
            return Ok(bytes);
        }
        let passphrase = self.passphrase.as_ref().ok_or(SealError::NoPassphrase)?;
        let text = str::from_utf8(&bytes).map_err(|_| SealError::Malformed)?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let (before, sealed) = text.rsplit_once(' ').ok_or(SealError::Malformed)?;
        let [FORMAT, cost, salt, nonce] = before.split(' ').collect::<Vec<_>>()[..] else {
            return Err(SealError::Malformed);
        };
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| SealError::Malformed);
        let cost = Cost::parse(cost).ok_or(SealError::Malformed)?;
        let (salt, nonce, sealed) = (decode(salt)?, decode(nonce)?, decode(sealed)?);
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| SealError::Malformed)?;
        if salt.len() != SALT_BYTES {
            return Err(SealError::Malformed);
        }
        let key = derive(&passphrase.bytes, cost, &salt).ok_or(SealError::Malformed)?;
        let payload = Payload {
            msg: &sealed,
            aad: &authenticated(name, before),
        };
        let secret = cipher(&key).decrypt(&XNonce::from(nonce), payload);
        secret.map(Zeroizing::new).map_err(|_| SealError::Refused)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Vault(wraps: {})", self.wraps())
    }
}

/// Whether the bytes of a file are those of a wrapped secret.
pub(crate) fn is_wrapped(bytes: &[u8]) -> bool {
    bytes.starts_with(FORMAT.as_bytes())
}

fn head(cost: Cost, salt: &[u8], nonce: &[u8]) -> String {
    let (salt, nonce) = (STANDARD.encode(salt), STANDARD.encode(nonce));
    format!("{FORMAT} {cost} {salt} {nonce}")
}

/// What is authenticated beside the secret.
fn authenticated(name: &str, head: &str) -> Vec<u8> {
    format!("{name}\n{head}").into_bytes()
}

/// The key that a passphrase gives; none for a cost that Argon2 does not take.
fn derive(passphrase: &[u8], cost: Cost, salt: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(KEY_BYTES)).ok()?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, key.as_mut())
        .ok()?;
    Some(key)
}

fn cipher(key: &[u8; KEY_BYTES]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As cheap as Argon2 allows: the tests try many.
    fn vault(passphrase: &str) -> Vault {
        let cost = Cost {
            memory_kib: 8,
            passes: 1,
            lanes: 1,
        };
        let bytes = Zeroizing::new(passphrase.as_bytes().to_vec());
        Vault {
            passphrase: Some(Passphrase { bytes, cost }),
        }
    }

    fn unseal(vault: &Vault, name: &str, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        let opened = vault.unseal(name, Zeroizing::new(bytes.to_vec()));
        opened.map(|secret| secret.to_vec())
    }

    #[test]
    fn what_is_wrapped_opens_with_the_passphrase_and_under_its_name_alone() {
        let (own, other) = (vault("correct horse battery"), vault("wrong horse battery"));
        let sealed = own.seal("entries.seed", b"a secret seed");
        assert!(is_wrapped(&sealed));
        let holds = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|it| it == part);
        assert!(!holds(&sealed, b"secret") && !holds(&sealed, b"horse"));
        assert_eq!(
            unseal(&own, "entries.seed", &sealed).unwrap(),
            b"a secret seed"
        );
        let refused = Err(SealError::Refused);
        assert_eq!(unseal(&other, "entries.seed", &sealed), refused);
        assert_eq!(unseal(&own, "checkpoint.seed", &sealed), refused);
        let none = unseal(&Vault::default(), "entries.seed", &sealed);
        assert_eq!(none, Err(SealError::NoPassphrase));
        // Two times the same secret look nothing alike.
        assert_ne!(*own.seal("entries.seed", b"a secret seed"), *sealed);
    }

    #[test]
    fn every_changed_byte_of_a_wrapped_secret_is_noticed() {
        let own = vault("correct horse battery");
        let sealed = own.seal("entries.seed", b"s");
        // Its format's own letters make it another file; the final newline says nothing.
        for place in (FORMAT.len()..sealed.len() - 1).step_by(3) {
            let mut changed = sealed.to_vec();
            changed[place] ^= 1;
            assert!(unseal(&own, "entries.seed", &changed).is_err(), "{place}");
        }
        let text = String::from_utf8(sealed.to_vec()).unwrap();
        for refused in [
            text.replace("m=8", "m=4294967295"),
            text.replace("t=1", "t=9999"),
            text.replace("m=8", "m=08"),
            text.replace(' ', "  "),
            FORMAT.to_owned(),
            format!("{FORMAT} "),
        ] {
            let answer = unseal(&own, "entries.seed", refused.as_bytes());
            assert_eq!(answer, Err(SealError::Malformed), "{refused}");
        }
    }

    #[test]
    fn without_a_passphrase_secrets_lie_as_they_are() {
        let plain = Vault::default();
        assert_eq!(*plain.seal("entries.seed", b"seed"), b"seed");
        assert_eq!(unseal(&plain, "entries.seed", b"seed").unwrap(), b"seed");
        assert_eq!(
            format!("{:?}", vault("correct horse")),
            "Vault(wraps: true)"
        );
    }
}
