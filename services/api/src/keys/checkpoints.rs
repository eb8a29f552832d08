//! Another checkpoint key takes the place of the one before, which signs beside it for a time.
//!
//! The order of the durable steps:
//!
//! 1. the public half of the log's first key is kept, as it names the log;
//! 2. the seed of the next key is made;
//! 3. the log records that the next key follows, signed by both: whoever keeps the log has looked for the seed
//!    first, and refuses the entry without it;
//! 4. the old seed is put aside;
//! 5. the next seed takes its place, and the file of the next one is removed;
//! 6. when the time that the entry names is over, the seed that was put aside is destroyed.
//!
//! A crash behind 1 or 2 leaves a key that nobody knows: the next rotation takes it. Which of the seeds signs says
//! the log, and not the name of its file, so that after 3 the log goes on whatever is left of 4 and 5; whoever
//! opens it does the rest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ledger::sequencer::CheckpointSigners;
use provenance::{CheckpointKeys, CheckpointSigner, CheckpointVerifier, SecretSeed};

use super::secrets::{lock, read_secret, write_whole};
use super::{
    CHECKPOINT_FILE, CHECKPOINT_FIRST_FILE, CHECKPOINT_NEXT_FILE, CHECKPOINT_OLD_FILE, KeyError,
    KeyPlace, Keys, Vault, at, public_half, read_seed, seed,
};
use crate::config::Config;
use crate::images::sync_folder;

/// The checkpoint keys of a folder.
pub(super) struct Held {
    /// The one that has its place there.
    pub placed: CheckpointSigner,
    /// The next one and the one before, where they are there.
    pub others: Vec<CheckpointSigner>,
    /// Whether the first was made just now.
    pub created: bool,
}

impl Held {
    /// Reads the seeds, making the first one where it is missing.
    pub(super) fn open(folder: &Path, origin: &str, vault: &Vault) -> Result<Self, KeyError> {
        // In the order in which a seed moves on, so that one that moves meanwhile is not missed.
        let next = other(folder, CHECKPOINT_NEXT_FILE, origin, vault)?;
        let path = folder.join(CHECKPOINT_FILE);
        let (seed, created) = seed(&path, vault)?;
        let placed = signer(&path, origin, seed)?;
        let old = other(folder, CHECKPOINT_OLD_FILE, origin, vault)?;
        Ok(Self {
            placed,
            others: next.into_iter().chain(old).collect(),
            created,
        })
    }
}

/// The public half of the log's first checkpoint key, where another one has followed.
pub(super) fn first(folder: &Path) -> Result<Option<CheckpointVerifier>, KeyError> {
    public_half(&folder.join(CHECKPOINT_FIRST_FILE))
}

fn other(
    folder: &Path,
    file: &str,
    origin: &str,
    vault: &Vault,
) -> Result<Option<CheckpointSigner>, KeyError> {
    let path = folder.join(file);
    match read_seed(&path, vault) {
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => signer(&path, origin, read?).map(Some),
    }
}

fn signer(path: &Path, origin: &str, seed: SecretSeed) -> Result<CheckpointSigner, KeyError> {
    CheckpointSigner::from_seed(origin, seed).map_err(|source| KeyError::Unusable {
        path: path.to_owned(),
        source,
    })
}

impl Keys {
    /// Who signs checkpoints: the keys that are here, and one that a rotation makes later in the same folder.
    #[must_use]
    pub fn checkpoint_signers(&self, config: &Config) -> CheckpointSigners {
        let mut held = vec![self.checkpoint.clone()];
        held.extend(self.other_checkpoints.iter().cloned());
        let signers = CheckpointSigners::new(held);
        if config.signer.signer.is_some() {
            // A signer says at the start which keys it has.
            return signers;
        }
        let (folder, origin) = (config.state.join("keys"), config.origin.clone());
        let passphrase = config.signing.key_passphrase_file.clone();
        signers.or_find(move |key| {
            let found = find(&folder, &origin, passphrase.as_deref(), key);
            found.unwrap_or_else(|error| {
                tracing::error!(%error, "a checkpoint key that is to follow cannot be read");
                None
            })
        })
    }

    /// Steps 1 and 2: keeps the first key's name and makes the key that is to follow, or takes the one that an
    /// earlier rotation has left.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn prepare_next_checkpoint(
        &self,
        state: &Path,
        vault: &Vault,
    ) -> Result<CheckpointSigner, KeyError> {
        let folder = state.join("keys");
        let path = folder.join(CHECKPOINT_FIRST_FILE);
        {
            let _turn = lock(&folder)?;
            if !path.try_exists().map_err(at(&path))? {
                let text = format!("{}\n", self.public.checkpoint);
                write_whole(&path, text.as_bytes(), false).map_err(at(&path))?;
            }
        }
        let path = folder.join(CHECKPOINT_NEXT_FILE);
        let (seed, _) = seed(&path, vault)?;
        signer(&path, self.public.origin(), seed)
    }

    /// Takes the key that the log names for signing checkpoints, does steps 4 and 5 where a rotation was
    /// interrupted before them, and step 6 where its time has come.
    ///
    /// # Errors
    /// When the log names none of the keys, and see [`KeyError`].
    pub(super) fn settle_checkpoints(
        &mut self,
        place: KeyPlace<'_>,
        log: &CheckpointKeys,
    ) -> Result<(), KeyError> {
        let folder = place.state.join("keys");
        let current = &log.current().verifier;
        if self.checkpoint.verifier() != *current {
            let mut others = self.other_checkpoints.iter();
            let found = others.position(|other| other.verifier() == *current);
            let found = found.ok_or_else(|| KeyError::OtherCheckpointKey {
                folder: folder.clone(),
                current: current.key_id(),
                found: self.checkpoint.verifier().key_id(),
            })?;
            std::mem::swap(&mut self.checkpoint, &mut self.other_checkpoints[found]);
        }
        if log.keys().len() > 1 && folder.join(CHECKPOINT_FILE).exists() {
            put_in_place(place, self.public.origin(), log)?;
        }
        Ok(())
    }
}

/// Looks for the seed of a key.
fn find(
    folder: &Path,
    origin: &str,
    passphrase: Option<&Path>,
    key: &CheckpointVerifier,
) -> Result<Option<CheckpointSigner>, KeyError> {
    let vault = Vault::open(passphrase)?;
    let Held { placed, others, .. } = Held::open(folder, origin, &vault)?;
    let mut held = others.into_iter().chain([placed]);
    Ok(held.find(|held| held.verifier() == *key))
}

/// Steps 4 to 6, as far as they are to be done.
fn put_in_place(place: KeyPlace<'_>, origin: &str, log: &CheckpointKeys) -> Result<(), KeyError> {
    let KeyPlace {
        state,
        vault,
        now_ms,
    } = place;
    let folder = &state.join("keys");
    let _turn = lock(folder)?;
    let [placed, next, old] = [CHECKPOINT_FILE, CHECKPOINT_NEXT_FILE, CHECKPOINT_OLD_FILE]
        .map(|file| (folder.join(file), file));
    let key_in = |path: &PathBuf| match read_seed(path, vault) {
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => Ok(Some(signer(path, origin, read?)?.verifier())),
    };
    let current = Some(log.current().verifier.clone());
    if key_in(&next.0)? == current {
        if key_in(&placed.0)? != current {
            copy(&placed.0, &old, vault)?;
            // A crash here leaves the old seed twice, and the next one in its own file still.
            copy(&next.0, &placed, vault)?;
        }
        // A crash here leaves the next seed twice.
        fs::remove_file(&next.0).map_err(at(&next.0))?;
    }
    if let Some(key) = key_in(&old.0)? {
        let is_over = log.keys().iter().any(|known| {
            known.verifier == key && known.until.is_some() && !known.signs_along_at(now_ms)
        });
        if is_over {
            // Nobody needs it any more, so it is not kept.
            fs::remove_file(&old.0).map_err(at(&old.0))?;
            let key = key.key_id();
            tracing::info!(key, "destroyed the seed of an earlier checkpoint key");
        }
    }
    sync_folder(folder).map_err(at(folder))
}

/// Writes the secret of one file under the name of another.
fn copy(from: &Path, (to, name): &(PathBuf, &str), vault: &Vault) -> Result<(), KeyError> {
    let secret = read_secret(from, vault)?;
    write_whole(to, &vault.seal(name, &secret), true).map_err(at(to))
}

#[cfg(test)]
mod tests;
