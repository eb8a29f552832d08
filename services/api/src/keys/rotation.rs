//! Another entry key takes the place of the one before.
//!
//! The order of the durable steps:
//!
//! 1. the public half of the log's first key is kept, as it names the log;
//! 2. the seed of the next key is made;
//! 3. the log records that the next key follows, which is what counts;
//! 4. the next seed takes the place of the old one.
//!
//! A crash behind 1 or 2 leaves a key that nobody knows: the next rotation takes it. A crash behind 3 leaves
//! both seeds: whoever opens the log sees which one it names, and does 4.

use std::fs;
use std::io;
use std::path::Path;

use provenance::{EntrySigner, EntryVerifier, KeyHistory};

use super::secrets::{lock, read_secret, write_whole};
use super::{
    ENTRIES_FILE, ENTRIES_FIRST_FILE, ENTRIES_NEXT_FILE, KeyError, KeyPlace, Keys, Vault, at,
    public_half, read_seed, seed,
};
use crate::images::sync_folder;

/// The key that is to follow, where one was made.
pub(super) fn next(
    folder: &Path,
    origin: &str,
    vault: &Vault,
) -> Result<Option<EntrySigner>, KeyError> {
    let path = folder.join(ENTRIES_NEXT_FILE);
    let seed = match read_seed(&path, vault) {
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        read => read?,
    };
    signer(&path, origin, seed).map(Some)
}

/// The public half of the log's first entry key, where another one has followed.
pub(super) fn first(folder: &Path) -> Result<Option<EntryVerifier>, KeyError> {
    public_half(&folder.join(ENTRIES_FIRST_FILE))
}

fn signer(
    path: &Path,
    origin: &str,
    seed: provenance::SecretSeed,
) -> Result<EntrySigner, KeyError> {
    EntrySigner::from_seed(origin, seed).map_err(|source| KeyError::Unusable {
        path: path.to_owned(),
        source,
    })
}

impl Keys {
    /// Steps 1 and 2: keeps the first key's name and makes the key that is to follow, or takes the one that
    /// an earlier rotation has left.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn prepare_next(&self, state: &Path, vault: &Vault) -> Result<EntrySigner, KeyError> {
        let folder = state.join("keys");
        let path = folder.join(ENTRIES_FIRST_FILE);
        {
            let _turn = lock(&folder)?;
            if !path.try_exists().map_err(at(&path))? {
                let text = format!("{}\n", self.public.entries);
                write_whole(&path, text.as_bytes(), false).map_err(at(&path))?;
            }
        }
        let path = folder.join(ENTRIES_NEXT_FILE);
        let (seed, _) = seed(&path, vault)?;
        signer(&path, self.public.origin(), seed)
    }

    /// Takes the keys that the log names for signing, and does what is left of a rotation that was interrupted
    /// behind its record.
    ///
    /// # Errors
    /// When the log names none of the keys that are here, and see [`KeyError`].
    pub fn settle(&mut self, place: KeyPlace<'_>, history: &KeyHistory) -> Result<(), KeyError> {
        self.settle_checkpoints(place, history.checkpoints())?;
        let KeyPlace { state, vault, .. } = place;
        let current = &history.current().verifier;
        let is_next = |next: &EntrySigner| next.verifier() == *current;
        if self.next.as_ref().is_some_and(is_next) {
            promote(&state.join("keys"), vault)?;
            self.entries = self.next.take().expect("it was there a moment ago");
        }
        if self.entries.verifier() == *current {
            return Ok(());
        }
        Err(KeyError::OtherEntryKey {
            folder: state.join("keys"),
            current: current.key_id(),
            found: self.entries.verifier().key_id(),
        })
    }
}

/// Step 4. Nobody needs the old seed any more, so it is not kept.
fn promote(folder: &Path, vault: &Vault) -> Result<(), KeyError> {
    let _turn = lock(folder)?;
    let (from, to) = (folder.join(ENTRIES_NEXT_FILE), folder.join(ENTRIES_FILE));
    let secret = match read_secret(&from, vault) {
        // Another process was faster.
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(());
        }
        read => read?,
    };
    write_whole(&to, &vault.seal(ENTRIES_FILE, &secret), true).map_err(at(&to))?;
    // A crash here leaves the same key twice; the next start does this step again.
    fs::remove_file(&from).map_err(at(&from))?;
    sync_folder(folder).map_err(at(folder))
}

#[cfg(test)]
mod tests {
    use provenance::{Envelope, KeyRequest, KeySuccessionEntry, LeafIndex};

    use super::*;

    const ORIGIN: &str = "test.local/log";

    fn open(state: &Path) -> Keys {
        Keys::open(state, ORIGIN, &Vault::default()).unwrap()
    }

    /// What the log says after its first entry has named the next key.
    fn succeeded(keys: &Keys, next: &EntrySigner) -> KeyHistory {
        let request = KeyRequest {
            request_id: "1".to_owned(),
            created_at_ms: 1,
            client: "operator".to_owned(),
        };
        let old = keys.entries.verifier();
        let statement = KeySuccessionEntry::new(request, &old, next).unwrap();
        let entry = provenance::Entry::KeySuccession(statement);
        let envelope = Envelope::sign(&entry, &keys.entries).unwrap();
        let mut history = KeyHistory::new(&keys.public);
        history.take(&envelope, LeafIndex::new(0)).unwrap();
        history
    }

    #[test]
    fn whatever_a_crash_leaves_of_a_rotation_the_key_that_the_log_names_signs() {
        let state = tempfile::tempdir().unwrap();
        let (state, vault) = (state.path(), Vault::default());
        let place = KeyPlace {
            state,
            vault: &vault,
            now_ms: 1,
        };
        let mut keys = open(state);
        let old = keys.entries.verifier();
        let unchanged = KeyHistory::new(&keys.public);
        // Behind step 2: the next key is there, and the log knows nothing of it.
        let next = keys.prepare_next(state, &vault).unwrap();
        let mut again = open(state);
        again.settle(place, &unchanged).unwrap();
        assert_eq!(again.entries.verifier(), old);
        assert_eq!(again.public, keys.public);
        let taken = again.prepare_next(state, &vault).unwrap();
        assert_eq!(taken.verifier(), next.verifier());
        // Behind step 3: the log names it.
        let history = succeeded(&keys, &next);
        let mut again = open(state);
        again.settle(place, &history).unwrap();
        assert_eq!(again.entries.verifier(), next.verifier());
        // Between the two writes of step 4: the same key twice.
        let folder = state.join("keys");
        fs::copy(folder.join(ENTRIES_FILE), folder.join(ENTRIES_NEXT_FILE)).unwrap();
        let mut again = open(state);
        again.settle(place, &history).unwrap();
        assert!(!folder.join(ENTRIES_NEXT_FILE).exists());
        // Behind it, the log has the name that it always had.
        let mut settled = open(state);
        settled.settle(place, &history).unwrap();
        assert_eq!(settled.public, keys.public);
        // The old key alone does not do.
        let refused = keys.settle(place, &history).unwrap_err();
        assert!(
            matches!(refused, KeyError::OtherEntryKey { .. }),
            "{refused}"
        );
    }
}
