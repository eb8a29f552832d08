//! A process of its own that holds the entry key and the checkpoint key and signs over a local socket, so that
//! the service, which talks to the world, has neither.
//!
//! # Protocol `retrace-signer@v1`
//!
//! A Unix domain stream socket. Both sides send frames: the length of what follows as 4 bytes, big-endian, then
//! one JSON object of at most [`FRAME_BYTES_MAX`] bytes. Each request gets one answer, in order; a connection
//! may carry any number of them. Binary values are base64.
//!
//! | Request | Answer |
//! |---|---|
//! | `{"ask":"keys"}` | `{"answer":"keys","protocol":"retrace-signer@v1","public_keys":"…","entries":"…","purposes":["entries","checkpoints"]}`: the text of `retrace.pub` (two lines), the entry key that signs, and what is signed here; where checkpoint keys have followed the first, `"checkpoints":["…"]` has all that are held |
//! | `{"ask":"sign","purpose":"entries","key":"name+id","messages":["…"]}` | `{"answer":"signed","signatures":["…"]}`, one for each of at most [`MESSAGES_MAX`] messages, in their order: all or none |
//! | anything else, or what is not signed | `{"answer":"refused","code":"…","detail":"…"}`; after what cannot be read the connection ends |
//! | any, over the limit of connections | `{"answer":"busy"}`, and the connection ends |
//!
//! # What the signer enforces, and what it cannot
//!
//! It parses every message and signs nothing else than what the purpose names:
//! - *entries*: the canonical bytes of an entry, and the manifest of an export whose checkpoint the log's own
//!   key has signed. It signs no statement that another entry key follows: whoever took over the service could
//!   name a key of his own.
//! - *checkpoints*: the body of a checkpoint of its own log, with each of its checkpoint keys, and nothing that
//!   hands the log to another one; never a smaller tree than the one that it signed
//!   last since it was started, nor another root for the same size.
//!
//! It sees no entries and no tree: that a larger tree continues the smaller one, and that an entry tells the
//! truth, it takes from whoever asks. Witnesses check the first. Whoever can open the socket (its owner and
//! root) can have entries signed as long as the signer runs, and can never learn the keys from it.

mod client;
mod held;
mod look;
mod server;
mod wire;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use client::SignerClient;
pub use held::{HeldKeys, SignerRefusal};
pub use look::SignerLook;
pub use server::{RunningSigner, SignerError, SignerSocket};
pub use wire::{FRAME_BYTES_MAX, KeyPurpose, MESSAGES_MAX, ToldKeys};

/// Where a signer answers: `unix:` and the path of its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerAddress(PathBuf);

impl SignerAddress {
    /// The signer at this socket.
    #[must_use]
    pub fn unix(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The path of its socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for SignerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self(PathBuf::from(path))),
            _ => Err("a signer is named as unix:PATH, by the path of its socket".to_owned()),
        }
    }
}

impl fmt::Display for SignerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "unix:{}", self.0.display())
    }
}
