//! `retrace key show`, `retrace key rotate` and `retrace key revoke` of the keys of the log.

use api::config::EngineOptions;
use api::keys::PUBLIC_KEY_FILE;
use api::startup::{
    ChangedKey, KeyChange, KeyToRevoke, Since, StartupError, fingerprint, revoke_key,
    rotate_checkpoint_key, rotate_entry_key,
};
use std::time::Duration;

use jiff::Timestamp;
use provenance::{CheckpointKey, EntryKey, KeyFile, LeafIndex, Revocation};
use serde_json::{Value, json};

use super::super::Outcome;
use super::super::failure::Failure;
use super::super::output::{say, tell};
use super::Shared;

const DAY_SECONDS: u64 = 24 * 60 * 60;

pub(super) const EXAMPLES: &str = "\
Examples:
  retrace key revoke 3
  retrace key rotate && retrace key show > retrace.pub
  retrace key rotate --checkpoint && retrace key show > retrace.pub
  retrace key revoke 5f0c… --reason 'the machine was stolen' --since 2026-11-28T02:00:00Z

Rotating stops no auditor: the log itself says which key follows, signed by the old one, and retrace-verify
follows from the first. A key that signs now is rotated before it is revoked. Entries before --since stay
valid, those of the key from there on are refused as key-revoked. Neither can be undone. Whoever has the
entry key and the database could name a key of his own in the same way.

Another checkpoint key is named by an entry that the old one has signed as well. Until the transition is over
each checkpoint carries two signatures, and whoever pinned the old key goes on; after it he needs the new
retrace.pub, and gets checkpoint-key-unseen without; a bundle carries the proof itself. Revoking the old checkpoint
key ends the transition at once.";

/// Makes another entry key.
pub(super) fn rotate(shared: &Shared) -> Outcome {
    let config = shared.state.config(EngineOptions::default());
    let changed = super::super::async_runtime()?.block_on(rotate_entry_key(&config));
    let change = changed.map_err(explain)?;
    told(&change, shared)?;
    if !shared.json {
        tell(format_args!(
            "Start the service again; give auditors the new retrace.pub (retrace key show)."
        ));
    }
    Ok(())
}

/// Makes another checkpoint key.
pub(super) fn rotate_checkpoint(transition_days: u32, shared: &Shared) -> Outcome {
    let config = shared.state.config(EngineOptions::default());
    let transition = Duration::from_secs(u64::from(transition_days) * DAY_SECONDS);
    let changed = rotate_checkpoint_key(&config, transition);
    let change = super::super::async_runtime()?.block_on(changed);
    told(&change.map_err(explain)?, shared)?;
    if !shared.json {
        tell(format_args!(
            "The old key signs beside it for {transition_days} days; give auditors and witnesses the new \
             retrace.pub (retrace key show) meanwhile."
        ));
    }
    Ok(())
}

/// Says which key was made.
fn told(change: &KeyChange, shared: &Shared) -> Outcome {
    if shared.json {
        return say(format_args!("{}", report(change)));
    }
    let (key, print, from) = match &change.key {
        ChangedKey::Entries(key) => (
            key.verifier.key_id(),
            fingerprint(&key.verifier),
            format!("from entry {} on", key.from),
        ),
        ChangedKey::Checkpoints(key) => (
            key.verifier.key_id(),
            fingerprint(&key.verifier),
            format!("for checkpoints from {} entries on", key.from),
        ),
    };
    say(format_args!("key          {key}"))?;
    say(format_args!("fingerprint  {print}"))?;
    say(format_args!("valid        {from}"))?;
    say(format_args!("recorded in  entry {}", change.recorded_at))
}

/// Takes back what an earlier key of the log signed.
pub(super) fn revoke(key: String, reason: String, since: Option<&str>, shared: &Shared) -> Outcome {
    let config = shared.state.config(EngineOptions::default());
    let since = since.map(parse_since).transpose()?;
    let order = KeyToRevoke { key, since, reason };
    let changed = super::super::async_runtime()?.block_on(revoke_key(&config, &order));
    let change = changed.map_err(explain)?;
    if shared.json {
        return say(format_args!("{}", report(&change)));
    }
    let (key, validity, taken_back) = match &change.key {
        ChangedKey::Entries(key) => {
            let taken_back = match key.taken_back() {
                Some((first, last)) => format!("entries {first} to {last}"),
                None => "no entry".to_owned(),
            };
            (key.verifier.key_id(), validity(key), taken_back)
        }
        ChangedKey::Checkpoints(key) => (
            key.verifier.key_id(),
            checkpoint_validity(key),
            match key.taken_back() {
                Some((first, last)) => format!("its checkpoints of {first} to {last} entries"),
                None => "no checkpoint".to_owned(),
            },
        ),
    };
    say(format_args!("key          {key}"))?;
    say(format_args!("validity     {validity}"))?;
    say(format_args!("recorded in  entry {}", change.recorded_at))?;
    say(format_args!("taken back   {taken_back}"))
}

/// Reads the public key file; it needs no database.
pub(super) fn show(shared: &Shared) -> Outcome {
    let config = shared.state.config(EngineOptions::default());
    let path = config.state.join(PUBLIC_KEY_FILE);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::environment(format!(
            "no public keys in {} ({error}); the first `retrace serve` makes them",
            path.display()
        ))
    })?;
    let file = KeyFile::parse(&text).map_err(Failure::environment)?;
    let history = file.history().map_err(Failure::does_not_hold)?;
    let keys = &file.keys;
    let checkpoints = history.checkpoints();
    if shared.json {
        let entry_keys: Vec<Value> = history.keys().iter().map(describe).collect();
        let all: Vec<Value> = checkpoints.keys().iter().map(describe_checkpoint).collect();
        let report = json!({
            "origin": keys.origin(),
            "entries": keys.entries.to_string(),
            "checkpoint": keys.checkpoint.to_string(),
            "path": path,
            "fingerprint": file.fingerprint(),
            "entry_keys": entry_keys,
            "checkpoint_keys": all,
        });
        say(format_args!("{report}"))?;
        return Ok(());
    }
    say(file.to_string().trim_end())?;
    // Beside the file, not in it: auditors compare these by another way than the file came.
    let digest = file.fingerprint();
    tell(format_args!(
        "fingerprint  {digest} (sha256 of the first two lines; it stays)"
    ));
    for key in history.keys() {
        tell(format_args!("entries      {}", key.verifier.key_id()));
        tell(format_args!(
            "             fingerprint {}",
            fingerprint(&key.verifier)
        ));
        tell(format_args!("             {}", validity(key)));
    }
    for key in checkpoints.keys() {
        tell(format_args!("checkpoints  {}", key.verifier.key_id()));
        let print = fingerprint(&key.verifier);
        tell(format_args!("             fingerprint {print}"));
        tell(format_args!("             {}", checkpoint_validity(key)));
    }
    Ok(())
}

/// Which entries a key signs, and whether it was revoked.
fn validity(key: &EntryKey) -> String {
    let from = key.from;
    let named = key.named_at_ms.and_then(|ms| i64::try_from(ms).ok());
    let named = named.map_or_else(String::new, |ms| format!(" ({})", super::time(ms)));
    let window = match key.until {
        Some(until) => format!("signs entries {from} to {until}"),
        None => format!("signs from entry {from}{named} on; no end is set"),
    };
    match &key.revocation {
        Some(revocation) => format!(
            "{window}; revoked in entry {} from entry {} on: {}",
            revocation.recorded_at, revocation.since, revocation.reason
        ),
        None => window,
    }
}

/// Which checkpoints a key signs, and whether it was revoked.
fn checkpoint_validity(key: &CheckpointKey) -> String {
    let from = key.from;
    let named = key.named_at_ms.and_then(|ms| i64::try_from(ms).ok());
    let named = named.map_or_else(String::new, |ms| format!(" ({})", super::time(ms)));
    let window = match key.until {
        Some(until) => {
            let along = key
                .signs_along_until_ms
                .and_then(|ms| i64::try_from(ms).ok());
            let along = along.map_or_else(String::new, |ms| {
                format!(", and beside the next key until {}", super::time(ms))
            });
            format!("signs checkpoints of {from} to {until} entries{along}")
        }
        None => format!("signs checkpoints from {from} entries{named} on; no end is set"),
    };
    match &key.revocation {
        Some(revocation) => format!(
            "{window}; revoked in entry {}, for checkpoints that cover entry {}: {}",
            revocation.recorded_at, revocation.since, revocation.reason
        ),
        None => window,
    }
}

fn describe_revocation(revocation: &Revocation) -> Value {
    json!({
        "since_entry": revocation.since,
        "recorded_at_entry": revocation.recorded_at,
        "reason": revocation.reason,
    })
}

fn describe_checkpoint(key: &CheckpointKey) -> Value {
    json!({
        "key": key.verifier.key_id(),
        "verifier": key.verifier.to_string(),
        "purpose": "checkpoints",
        "fingerprint": fingerprint(&key.verifier),
        "valid_from_tree_size": key.from,
        "valid_until_tree_size": key.until,
        "signs_along_until_ms": key.signs_along_until_ms,
        "named_at_ms": key.named_at_ms,
        "revoked": key.revocation.as_ref().map(describe_revocation),
    })
}

fn describe(key: &EntryKey) -> Value {
    let revocation = key.revocation.as_ref().map(describe_revocation);
    json!({
        "key": key.verifier.key_id(),
        "purpose": "entries",
        "fingerprint": fingerprint(&key.verifier),
        "valid_from_entry": key.from,
        "valid_until_entry": key.until,
        "named_at_ms": key.named_at_ms,
        "revoked": revocation,
    })
}

fn report(change: &KeyChange) -> Value {
    let mut report = match &change.key {
        ChangedKey::Entries(key) => describe(key),
        ChangedKey::Checkpoints(key) => describe_checkpoint(key),
    };
    report["recorded_in_entry"] = json!(change.recorded_at);
    report
}

fn parse_since(text: &str) -> Result<Since, Failure> {
    if let Ok(place) = text.parse() {
        return Ok(Since::Entry(LeafIndex::new(place)));
    }
    let time: Option<Timestamp> = text.parse().ok();
    let ms = time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
    ms.map(Since::TimeMs).ok_or_else(|| {
        Failure::usage("--since is the number of an entry, or a time such as 2026-11-28T02:00:00Z")
    })
}

fn explain(error: StartupError) -> Failure {
    match error {
        StartupError::NoSuchKey { .. } => Failure::does_not_hold(error),
        StartupError::KeyStillSigns { .. }
        | StartupError::KeySignsAlong { .. }
        | StartupError::KeyStatement(_) => Failure::usage(error),
        other => Failure::from(other),
    }
}
