//! Statements about the keys of the log: that another one follows one, and that one is not to be believed
//! any more. The log holds them like every other entry, so that an auditor who knows the first key alone
//! learns of the others from the log.

use serde::{Deserialize, Serialize};

use super::{check_text, check_text_within, invalid};
use crate::encoding::{base64_decode, base64_encode};
use crate::keys::KEY_NAME_BYTES_MAX;
use crate::{
    CheckpointSigner, CheckpointVerifier, EntrySigner, EntryVerifier, LeafIndex, ProvenanceError,
};

/// Longest text form of a key: name, id, type and 32 bytes in base64.
const KEY_TEXT_BYTES_MAX: usize = KEY_NAME_BYTES_MAX + 64;
/// The first line of what a new key signs to show that somebody holds it. Neither entries nor checkpoints
/// begin so.
const POSSESSION_FORMAT: &str = "retrace-key-possession@v1";

/// The first line of what both checkpoint keys sign when one follows the other. A checkpoint begins with an
/// origin, which has no spaces.
const CHECKPOINT_SUCCESSION_FORMAT: &str = "retrace checkpoint key succession v1";

/// States that from the next entry on another key signs entries. The old key signs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySuccessionEntry {
    /// Identifies the request.
    pub request_id: String,
    /// Milliseconds since 1970-01-01 UTC. A claim of the service: what counts is the place in the log.
    pub created_at_ms: u64,
    /// Who asked for it.
    pub client: String,
    /// The key that signs until here, as `name+id`.
    pub old_key: String,
    /// The key that signs from the next entry on, as a C2SP verifier key.
    pub new_key: String,
    /// The new key's Ed25519 signature over both keys, base64: whoever names a key holds it.
    pub possession: String,
}

/// States that from the checkpoint on that covers this entry another key signs checkpoints. The entry key signs
/// the entry, and both checkpoint keys sign what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointKeySuccessionEntry {
    /// Identifies the request.
    pub request_id: String,
    /// Milliseconds since 1970-01-01 UTC. A claim of the service.
    pub created_at_ms: u64,
    /// Who asked for it.
    pub client: String,
    /// The key that signs alone until here, as `name+id`.
    pub old_key: String,
    /// The key that signs from here on, as a C2SP verifier key of the same name.
    pub new_key: String,
    /// Until when the old key signs as well, in milliseconds since 1970-01-01 UTC: the time that those who pinned
    /// it have to take note. No signature is refused because of it.
    pub old_key_signs_until_ms: u64,
    /// The old key's Ed25519 signature over all three, base64.
    pub authority: String,
    /// The new key's Ed25519 signature over the same, base64: whoever names a key holds it.
    pub possession: String,
}

/// States that what an earlier key signed, from a place in the log on, is not to be believed: entries of an entry
/// key, and of a checkpoint key the checkpoints that cover that place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRevocationEntry {
    /// Identifies the request.
    pub request_id: String,
    /// Milliseconds since 1970-01-01 UTC. A claim of the service.
    pub created_at_ms: u64,
    /// Who asked for it.
    pub client: String,
    /// The key, as `name+id`.
    pub key: String,
    /// The first entry that is not to be believed; those before stay valid.
    pub since: LeafIndex,
    /// Why, in a few words.
    pub reason: String,
}

impl KeySuccessionEntry {
    /// The statement that one key follows another.
    ///
    /// # Errors
    /// When the signer of the new key fails.
    pub fn new(
        request: KeyRequest,
        old: &EntryVerifier,
        new: &EntrySigner,
    ) -> Result<Self, ProvenanceError> {
        let (old_key, new_key) = (old.key_id(), new.verifier().to_string());
        let signature = new.sign(&possession_message(&old_key, &new_key))?;
        Ok(Self {
            request_id: request.request_id,
            created_at_ms: request.created_at_ms,
            client: request.client,
            possession: base64_encode(&signature),
            old_key,
            new_key,
        })
    }

    /// The key that follows, once it has shown that somebody holds it.
    ///
    /// # Errors
    /// Refuses a key that cannot be used, and a signature of it that does not hold.
    pub(crate) fn successor(&self) -> Result<EntryVerifier, ProvenanceError> {
        let key: EntryVerifier = self.new_key.parse()?;
        let signature = base64_decode("proof of possession", &self.possession)?;
        let message = possession_message(&self.old_key, &self.new_key);
        key.key().verify(&message, &signature)?;
        Ok(key)
    }

    pub(super) fn check_fields(&self) -> Result<(), ProvenanceError> {
        check_text("request_id", &self.request_id)?;
        check_text_within("old_key", &self.old_key, KEY_TEXT_BYTES_MAX)?;
        check_text_within("new_key", &self.new_key, KEY_TEXT_BYTES_MAX)?;
        check_text("possession", &self.possession)
    }
}

impl CheckpointKeySuccessionEntry {
    /// The statement that one key follows another, which signs as well until a time in milliseconds since 1970.
    ///
    /// # Errors
    /// When one of the signers fails.
    pub fn new(
        request: KeyRequest,
        old: &CheckpointSigner,
        new: &CheckpointSigner,
        old_key_signs_until_ms: u64,
    ) -> Result<Self, ProvenanceError> {
        let mut statement = Self {
            request_id: request.request_id,
            created_at_ms: request.created_at_ms,
            client: request.client,
            old_key: old.public().label(),
            new_key: new.verifier().to_string(),
            old_key_signs_until_ms,
            authority: String::new(),
            possession: String::new(),
        };
        let message = statement.message();
        statement.authority = base64_encode(&old.sign(&message)?);
        statement.possession = base64_encode(&new.sign(&message)?);
        Ok(statement)
    }

    /// The key that follows, once both have signed it.
    ///
    /// # Errors
    /// Refuses a key that cannot be used or is of another log, and a signature of either that does not hold.
    pub(crate) fn successor(
        &self,
        old: &CheckpointVerifier,
    ) -> Result<CheckpointVerifier, ProvenanceError> {
        let new: CheckpointVerifier = self.new_key.parse()?;
        if new.name() != old.name() {
            return Err(ProvenanceError::OriginMismatch {
                expected: old.name().to_owned(),
                found: new.name().to_owned(),
            });
        }
        let message = self.message();
        let signatures = [(old, &self.authority), (&new, &self.possession)];
        for (key, signature) in signatures {
            let signature = base64_decode("signature of a checkpoint key", signature)?;
            key.key().verify(&message, &signature)?;
        }
        Ok(new)
    }

    /// What both keys sign.
    fn message(&self) -> Vec<u8> {
        let Self {
            old_key,
            new_key,
            old_key_signs_until_ms,
            ..
        } = self;
        let text = format!(
            "{CHECKPOINT_SUCCESSION_FORMAT}\n{old_key}\n{new_key}\n{old_key_signs_until_ms}\n"
        );
        text.into_bytes()
    }

    pub(super) fn check_fields(&self) -> Result<(), ProvenanceError> {
        check_text("request_id", &self.request_id)?;
        check_text_within("old_key", &self.old_key, KEY_TEXT_BYTES_MAX)?;
        check_text_within("new_key", &self.new_key, KEY_TEXT_BYTES_MAX)?;
        if self.old_key_signs_until_ms > super::CREATED_AT_MS_MAX {
            return Err(invalid(
                "old_key_signs_until_ms",
                "it is larger than 2^53 - 1",
            ));
        }
        check_text("authority", &self.authority)?;
        check_text("possession", &self.possession)
    }
}

impl KeyRevocationEntry {
    pub(super) fn check_fields(&self) -> Result<(), ProvenanceError> {
        check_text("request_id", &self.request_id)?;
        check_text_within("key", &self.key, KEY_TEXT_BYTES_MAX)?;
        check_text("reason", &self.reason)?;
        if self.since.get() > super::CREATED_AT_MS_MAX {
            return Err(invalid("since", "it is larger than 2^53 - 1"));
        }
        Ok(())
    }
}

/// Who asks for a statement about a key, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    /// Identifies the request.
    pub request_id: String,
    /// Milliseconds since 1970-01-01 UTC.
    pub created_at_ms: u64,
    /// Who asks.
    pub client: String,
}

/// The old and the new key that a proof of possession names; none in anything else.
pub(crate) fn possession_of(message: &[u8]) -> Option<(String, String)> {
    let text = str::from_utf8(message).ok()?;
    let [POSSESSION_FORMAT, old_key, new_key, ""] = text.split('\n').collect::<Vec<_>>()[..] else {
        return None;
    };
    Some((old_key.to_owned(), new_key.to_owned()))
}

fn possession_message(old_key: &str, new_key: &str) -> Vec<u8> {
    format!("{POSSESSION_FORMAT}\n{old_key}\n{new_key}\n").into_bytes()
}
