//! Statements about the keys of the log, made by a command of the operator and recorded in the log.

use std::time::Duration;

use ledger::Ledger;
use ledger::sequencer::SequencerOptions;
use provenance::{
    CheckpointKey, CheckpointKeySuccessionEntry, CheckpointKeys, Entry, EntryKey, Envelope,
    KeyHistory, KeyRequest, KeyRevocationEntry, KeySuccessionEntry, LeafIndex,
};

use super::services::RunningSequencer;
use super::{CHECKPOINT_STORE, StartupError, Storage};
use crate::config::Config;
use crate::keys::{KeyPlace, write_public};
use crate::request_id;
use crate::work::now_ms;

/// Whom statements about keys name as the one who asked.
const OPERATOR: &str = "operator";
/// How much longer than a lease lasts to wait for one.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// An earlier key that is to be revoked.
#[derive(Debug, Clone)]
pub struct KeyToRevoke {
    /// The key, as `name+id`, or its fingerprint.
    pub key: String,
    /// The first entry that is not to be believed, or that no checkpoint of the key may cover; none takes back
    /// nothing that the key has signed alone.
    pub since: Option<Since>,
    /// Why.
    pub reason: String,
}

/// From where on entries are not to be believed.
#[derive(Debug, Clone, Copy)]
pub enum Since {
    /// From this place in the log.
    Entry(LeafIndex),
    /// From the first entry that states this time or a later one, in milliseconds since 1970 UTC.
    TimeMs(u64),
}

/// A key that was named or revoked.
#[derive(Debug, Clone)]
pub struct KeyChange {
    /// The key, as the log has it now.
    pub key: ChangedKey,
    /// The entry that says so.
    pub recorded_at: LeafIndex,
}

/// A key of either purpose.
#[derive(Debug, Clone)]
pub enum ChangedKey {
    /// It signs entries.
    Entries(EntryKey),
    /// It signs checkpoints.
    Checkpoints(CheckpointKey),
}

/// Makes another entry key and records that it follows. No other process may keep the log meanwhile: what it
/// signs with the old key would be refused until it starts anew.
///
/// # Errors
/// See [`StartupError`]. The old key signs on, unless the log has recorded the new one.
pub async fn rotate_entry_key(config: &Config) -> Result<KeyChange, StartupError> {
    if let Some(address) = &config.signer.signer {
        let address = address.clone();
        return Err(StartupError::KeysElsewhere { address });
    }
    let storage = Storage::open(config).await?;
    let (state, vault) = (&config.state, &storage.vault);
    let store = state.join(CHECKPOINT_STORE);
    let (ledger, mut keys) = (storage.ledger, storage.keys);
    let (sequencer, _) = RunningSequencer::start(&ledger, keys.checkpoint_signers(config), store);
    let changed = async {
        let patience = SequencerOptions::default().lease_duration + LEASE_MARGIN;
        if !sequencer.leads_within(patience).await {
            return Err(StartupError::LogBusy);
        }
        let next = keys.prepare_next(state, vault)?;
        let old = keys.entries.verifier();
        let statement = KeySuccessionEntry::new(request(), &old, &next).map_err(refused)?;
        let envelope = Envelope::sign(&Entry::KeySuccession(statement), &keys.entries);
        let recorded_at = ledger.append(&envelope.map_err(refused)?, None).await?;
        keys.next = Some(next);
        let history = ledger.key_history().await?;
        let place = KeyPlace {
            state,
            vault,
            now_ms: now_ms(),
        };
        keys.settle(place, &history)?;
        write_public(state, &ledger.key_file().await?)?;
        Ok(KeyChange {
            key: ChangedKey::Entries(history.current().clone()),
            recorded_at: recorded_at.leaf_index,
        })
    };
    let changed = changed.await;
    end(sequencer, ledger, storage.cluster).await?;
    changed
}

/// Makes another checkpoint key and records that it follows. The one before signs beside it for the transition.
/// A service that runs meanwhile goes on, and signs with both.
///
/// # Errors
/// See [`StartupError`]. The old key signs on alone, unless the log has recorded the new one.
pub async fn rotate_checkpoint_key(
    config: &Config,
    transition: Duration,
) -> Result<KeyChange, StartupError> {
    if let Some(address) = &config.signer.signer {
        let address = address.clone();
        return Err(StartupError::KeysElsewhere { address });
    }
    let storage = Storage::open(config).await?;
    let (state, vault) = (&config.state, &storage.vault);
    let store = state.join(CHECKPOINT_STORE);
    let (ledger, mut keys) = (storage.ledger, storage.keys);
    let (sequencer, _) = RunningSequencer::start(&ledger, keys.checkpoint_signers(config), store);
    let changed = async {
        let request = request();
        let history = ledger.key_history().await?;
        require_alone(history.checkpoints(), request.created_at_ms)?;
        let next = keys.prepare_next_checkpoint(state, vault)?;
        let transition_ms = u64::try_from(transition.as_millis()).unwrap_or(u64::MAX);
        let until_ms = request.created_at_ms.saturating_add(transition_ms);
        let statement =
            CheckpointKeySuccessionEntry::new(request, &keys.checkpoint, &next, until_ms);
        let entry = Entry::CheckpointKeySuccession(statement.map_err(refused)?);
        let envelope = Envelope::sign(&entry, &keys.entries).map_err(refused)?;
        let recorded_at = ledger.append(&envelope, None).await?;
        keys.other_checkpoints.push(next);
        let history = ledger.key_history().await?;
        let place = KeyPlace {
            state,
            vault,
            now_ms: now_ms(),
        };
        keys.settle(place, &history)?;
        write_public(state, &ledger.key_file().await?)?;
        Ok(KeyChange {
            key: ChangedKey::Checkpoints(history.checkpoints().current().clone()),
            recorded_at: recorded_at.leaf_index,
        })
    };
    let changed = changed.await;
    end(sequencer, ledger, storage.cluster).await?;
    changed
}

/// Refuses a change while an earlier key still signs along: a checkpoint has room for two.
fn require_alone(log: &CheckpointKeys, now_ms: u64) -> Result<(), StartupError> {
    match log.signing_at(now_ms).nth(1) {
        None => Ok(()),
        Some(earlier) => Err(StartupError::KeySignsAlong {
            key: earlier.key_id(),
        }),
    }
}

/// Records that what an earlier key signed is not to be believed. A service that runs meanwhile goes on.
///
/// # Errors
/// See [`StartupError`].
pub async fn revoke_key(config: &Config, order: &KeyToRevoke) -> Result<KeyChange, StartupError> {
    let storage = Storage::open(config).await?;
    let store = config.state.join(CHECKPOINT_STORE);
    let (ledger, keys) = (storage.ledger, storage.keys);
    let (sequencer, _) = RunningSequencer::start(&ledger, keys.checkpoint_signers(config), store);
    let changed = async {
        let history = ledger.key_history().await?;
        let statement = revocation(&ledger, &history, order).await?;
        let key_id = statement.key.clone();
        let signer = keys.entries.clone();
        let signed = tokio::task::spawn_blocking(move || {
            Envelope::sign(&Entry::KeyRevocation(statement), &signer)
        });
        let envelope = signed.await.map_err(|_| StartupError::Interrupted)?;
        let recorded_at = ledger.append(&envelope.map_err(refused)?, None).await?;
        write_public(&config.state, &ledger.key_file().await?)?;
        let history = ledger.key_history().await?;
        let of_entries = history.key(&key_id).cloned().map(ChangedKey::Entries);
        let of_checkpoints = || {
            let key = history.checkpoints().key(&key_id).cloned();
            key.map(ChangedKey::Checkpoints)
        };
        let key = of_entries.or_else(of_checkpoints);
        let key = key.ok_or_else(|| unknown(&key_id))?;
        Ok(KeyChange {
            key,
            recorded_at: recorded_at.leaf_index,
        })
    };
    let changed = changed.await;
    end(sequencer, ledger, storage.cluster).await?;
    changed
}

async fn revocation(
    ledger: &Ledger,
    history: &KeyHistory,
    order: &KeyToRevoke,
) -> Result<KeyRevocationEntry, StartupError> {
    let Meant { key, from, behind } = meant(history, &order.key)?;
    let Some(behind) = behind else {
        return Err(StartupError::KeyStillSigns { key });
    };
    let since = match order.since {
        None => behind,
        Some(Since::Entry(place)) => place,
        Some(Since::TimeMs(ms)) => {
            let place = ledger.first_entry_since(ms).await?;
            place.unwrap_or(behind).clamp(from, behind)
        }
    };
    let request = request();
    let statement = KeyRevocationEntry {
        request_id: request.request_id,
        created_at_ms: request.created_at_ms,
        client: request.client,
        key,
        since,
        reason: order.reason.clone(),
    };
    history.check_revocation(&statement).map_err(refused)?;
    Ok(statement)
}

/// A key that somebody means, and the entries that it is about.
struct Meant {
    key: String,
    from: LeafIndex,
    /// The first entry that it is not about any more; none while it signs.
    behind: Option<LeafIndex>,
}

/// The key of either purpose with this name or fingerprint.
fn meant(history: &KeyHistory, named: &str) -> Result<Meant, StartupError> {
    let entries = history.keys().iter().map(|key| {
        let behind = key.until.map(|until| until.get().saturating_add(1));
        let print = fingerprint(&key.verifier);
        (key.verifier.key_id(), print, key.from.get(), behind)
    });
    let checkpoints = history.checkpoints().keys().iter().map(|key| {
        let (print, from) = (fingerprint(&key.verifier), key.from.get().saturating_sub(1));
        let behind = key.behind().map(LeafIndex::get);
        (key.verifier.key_id(), print, from, behind)
    });
    let mut keys = entries.chain(checkpoints);
    let found = keys.find(|(key, print, ..)| key == named || print == named);
    let (key, _, from, behind) = found.ok_or_else(|| unknown(named))?;
    Ok(Meant {
        key,
        from: LeafIndex::new(from),
        behind: behind.map(LeafIndex::new),
    })
}

/// The digest of a key's text, which names it without its bytes.
#[must_use]
pub fn fingerprint(key: &impl std::fmt::Display) -> String {
    provenance::Digest::of(format!("{key}\n").as_bytes()).to_string()
}

fn request() -> KeyRequest {
    KeyRequest {
        request_id: request_id::draw(),
        created_at_ms: now_ms(),
        client: OPERATOR.to_owned(),
    }
}

fn unknown(key: &str) -> StartupError {
    StartupError::NoSuchKey {
        key: key.to_owned(),
    }
}

fn refused(source: provenance::ProvenanceError) -> StartupError {
    StartupError::KeyStatement(source)
}

async fn end(
    sequencer: RunningSequencer,
    ledger: Ledger,
    cluster: Option<ledger::cluster::PrivateCluster>,
) -> Result<(), StartupError> {
    let sequenced = sequencer.stop().await;
    super::storage::close(ledger, cluster).await?;
    sequenced.map_err(StartupError::Sequencer)
}
