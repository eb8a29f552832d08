//! The public key file: the keys that name a log for good, and what became of them since.
//!
//! The first two lines are the log's [`PublicKeys`]: its first entry key and its first checkpoint key. They never
//! change, so auditors pin them. Where others followed, or one was revoked, a third line holds the log's
//! statements about it, compact JSON:
//! `{"format":"retrace-keys@v1","checkpoint":"…","statements":[{"envelope":{…},"leaf_index":7,"inclusion_proof":["…"]}]}`.
//! The file needs no belief: each statement is signed by the key before and held by the log's tree.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::encoding::{canonical_json, check_length, parse_canonical_json};
use crate::key_history::{KEY_STATEMENT_BYTES_MAX, KEY_STATEMENTS_MAX};
use crate::note::NOTE_BYTES_MAX;
use crate::{Digest, KeyHistory, KeyStatement, ProvenanceError, PublicKeys, SignedCheckpoint};

/// The name and version of the format of the third line.
pub const KEY_FILE_FORMAT: &str = "retrace-keys@v1";
/// Longest public key file.
pub const KEY_FILE_BYTES_MAX: usize =
    2 * NOTE_BYTES_MAX + KEY_STATEMENTS_MAX * KEY_STATEMENT_BYTES_MAX;

const WHAT: &str = "public key file";

/// A public key file. Parsing does not verify its statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// The keys that name the log.
    pub keys: PublicKeys,
    changes: Option<KeyChanges>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyChanges {
    checkpoint: SignedCheckpoint,
    statements: Vec<KeyStatement>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: String,
    checkpoint: String,
    statements: Vec<KeyStatement>,
}

impl KeyFile {
    /// The file of a log whose first key still signs.
    pub fn new(keys: PublicKeys) -> Self {
        Self {
            keys,
            changes: None,
        }
    }

    /// The same file with the log's statements about keys, proven under this checkpoint.
    #[must_use]
    pub fn with_statements(
        self,
        checkpoint: SignedCheckpoint,
        statements: Vec<KeyStatement>,
    ) -> Self {
        let changes = (!statements.is_empty()).then_some(KeyChanges {
            checkpoint,
            statements,
        });
        Self { changes, ..self }
    }

    /// Parses the file: two lines of keys, and perhaps one of statements.
    ///
    /// # Errors
    /// Refuses any other shape and every spelling but the canonical one.
    pub fn parse(text: &str) -> Result<Self, ProvenanceError> {
        check_length(WHAT, text.len(), KEY_FILE_BYTES_MAX)?;
        let second = text.match_indices('\n').nth(1).map(|(end, _)| end + 1);
        let (keys, rest) = text.split_at(second.unwrap_or(text.len()));
        let file = Self::new(PublicKeys::parse(keys)?);
        if rest.is_empty() {
            return Ok(file);
        }
        let malformed = |detail: &str| ProvenanceError::malformed(WHAT, detail);
        let line = rest.strip_suffix('\n').filter(|line| !line.contains('\n'));
        let line =
            line.ok_or_else(|| malformed("it has two lines of keys and at most one more"))?;
        let wire: Wire = parse_canonical_json(WHAT, line.as_bytes())?;
        if wire.format != KEY_FILE_FORMAT {
            return Err(malformed("the third line is of another format"));
        }
        if wire.statements.is_empty() {
            return Err(ProvenanceError::NotCanonical { what: WHAT });
        }
        let checkpoint = SignedCheckpoint::parse(&wire.checkpoint)?;
        Ok(file.with_statements(checkpoint, wire.statements))
    }

    /// Verifies the statements; the keys that signed until the checkpoint of the file.
    ///
    /// # Errors
    /// A statement that is refused ([`KeyHistory::take`]) or that the log does not hold, and a checkpoint that does
    /// not verify.
    pub fn history(&self) -> Result<KeyHistory, ProvenanceError> {
        let mut history = KeyHistory::new(&self.keys);
        if let Some(changes) = &self.changes {
            history.take_all(&changes.statements)?;
            let checkpoint = history.checkpoints().verify_sole(&changes.checkpoint)?;
            KeyHistory::verify_held(&changes.statements, checkpoint)?;
        }
        Ok(history)
    }

    /// The digest of the first two lines, which names the log's keys for good.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(self.keys.to_string().as_bytes())
    }
}

impl fmt::Display for KeyFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.fmt(formatter)?;
        let Some(changes) = &self.changes else {
            return Ok(());
        };
        let line = canonical_json(&Wire {
            format: KEY_FILE_FORMAT.to_owned(),
            checkpoint: changes.checkpoint.text(),
            statements: changes.statements.clone(),
        });
        writeln!(formatter, "{}", String::from_utf8_lossy(&line))
    }
}
