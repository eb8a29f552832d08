//! The keys of a log whose secrets a signer holds.

use std::path::Path;
use std::sync::Arc;

use provenance::{CheckpointSigner, CheckpointVerifier, EntryVerifier, PublicKeys};

use super::{
    CHECKPOINT_FILE, CHECKPOINT_NEXT_FILE, CHECKPOINT_OLD_FILE, ENTRIES_FILE, ENTRIES_NEXT_FILE,
    KeyError, Keys, checkpoints, keep_public, make_keys_folder, rotation,
};
use crate::signer::{KeyPurpose, SignerClient};

impl Keys {
    /// The keys that a signer holds. It writes the public key file and makes no secret. It blocks until the
    /// signer answers.
    ///
    /// # Errors
    /// When the signer does not answer, or has the keys of another log.
    pub fn held_by(
        state: &Path,
        origin: &str,
        client: &Arc<SignerClient>,
    ) -> Result<Self, KeyError> {
        let told = client.keys().map_err(|failure| KeyError::Signer {
            address: client.address().clone(),
            failure,
        })?;
        let folder = make_keys_folder(state)?;
        let unusable = |source| KeyError::SignerKeys {
            address: client.address().clone(),
            source,
        };
        let named = PublicKeys::parse(&told.public_keys).map_err(unusable)?;
        if named.origin() != origin {
            return Err(KeyError::SignerOrigin {
                address: client.address().clone(),
                origin: origin.to_owned(),
                found: named.origin().to_owned(),
            });
        }
        let entries: EntryVerifier = told.entries.parse().map_err(unusable)?;
        let mut held = Vec::with_capacity(told.checkpoints.len() + 1);
        match &told.checkpoints[..] {
            [] => held.push(named.checkpoint.clone()),
            several => {
                for text in several {
                    let key: CheckpointVerifier = text.parse().map_err(unusable)?;
                    held.push(key);
                }
            }
        }
        for checkpoint in &held {
            // Each is a key of this log, and not the one of the other purpose.
            PublicKeys::new(entries.clone(), checkpoint.clone()).map_err(unusable)?;
        }
        let first = rotation::first(&folder)?.unwrap_or(named.entries);
        let checkpoint = checkpoints::first(&folder)?.unwrap_or(named.checkpoint);
        let public = PublicKeys::new(first, checkpoint).map_err(unusable)?;
        for file in [
            ENTRIES_FILE,
            ENTRIES_NEXT_FILE,
            CHECKPOINT_FILE,
            CHECKPOINT_NEXT_FILE,
            CHECKPOINT_OLD_FILE,
        ] {
            let path = folder.join(file);
            if path.exists() {
                let path = path.display();
                tracing::warn!(%path, "a signer holds the keys: this seed is not used, and better not here");
            }
        }
        keep_public(state, &public)?;
        let signer = |key| client.signer(KeyPurpose::Checkpoints, key);
        let mut checkpoints: Vec<CheckpointSigner> = held.into_iter().map(signer).collect();
        Ok(Self {
            entries: client.signer(KeyPurpose::Entries, entries),
            checkpoint: checkpoints.remove(0),
            other_checkpoints: checkpoints,
            next: None,
            public,
            created: false,
            purposes: told.purposes,
        })
    }

    /// Whether somebody signs for a purpose.
    #[must_use]
    pub fn sign_for(&self, purpose: KeyPurpose) -> bool {
        self.purposes.contains(&purpose)
    }
}
