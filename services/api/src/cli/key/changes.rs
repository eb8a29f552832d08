//! `retrace key show`, `retrace key rotate` and `retrace key revoke` of entry keys.

use api::config::EngineOptions;
use api::keys::PUBLIC_KEY_FILE;
use api::startup::{
    KeyChange, KeyToRevoke, Since, StartupError, fingerprint, revoke_entry_key, rotate_entry_key,
};
use jiff::Timestamp;
use provenance::{Digest, EntryKey, KeyFile, LeafIndex};
use serde_json::{Value, json};

use super::super::Outcome;
use super::super::failure::Failure;
use super::super::output::{say, tell};
use super::Shared;

pub(super) const EXAMPLES: &str = "\
Examples:
  retrace key revoke 3
  retrace key rotate && retrace key show > retrace.pub
  retrace key revoke 5f0c… --reason 'the machine was stolen' --since 2026-11-28T02:00:00Z

Rotating stops no auditor: the log itself says which key follows, signed by the old one, and retrace-verify
follows from the first. A key that signs now is rotated before it is revoked. Entries before --since stay
valid, those of the key from there on are refused as key-revoked. Neither can be undone. Whoever has the
entry key and the database could name a key of his own in the same way.";

/// Makes another entry key.
pub(super) fn rotate(shared: &Shared) -> Outcome {
    let config = shared.state.config(EngineOptions::default());
    let changed = super::super::async_runtime()?.block_on(rotate_entry_key(&config));
    let KeyChange { key, recorded_at } = changed.map_err(explain)?;
    if shared.json {
        say(format_args!("{}", report(&key, recorded_at)))?;
    } else {
        say(format_args!("key          {}", key.verifier.key_id()))?;
        say(format_args!("fingerprint  {}", fingerprint(&key.verifier)))?;
        say(format_args!("valid        from entry {} on", key.from))?;
        say(format_args!("recorded in  entry {recorded_at}"))?;
        tell(format_args!(
            "Start the service again; give auditors the new retrace.pub (retrace key show)."
        ));
    }
    Ok(())
}

/// Takes back entries of an earlier entry key.
pub(super) fn revoke(key: String, reason: String, since: Option<&str>, shared: &Shared) -> Outcome {
    let config = shared.state.config(EngineOptions::default());
    let since = since.map(parse_since).transpose()?;
    let order = KeyToRevoke { key, since, reason };
    let changed = super::super::async_runtime()?.block_on(revoke_entry_key(&config, &order));
    let KeyChange { key, recorded_at } = changed.map_err(explain)?;
    if shared.json {
        say(format_args!("{}", report(&key, recorded_at)))?;
        return Ok(());
    }
    say(format_args!("key          {}", key.verifier.key_id()))?;
    say(format_args!("validity     {}", validity(&key)))?;
    say(format_args!("recorded in  entry {recorded_at}"))?;
    match key.taken_back() {
        Some((first, last)) => say(format_args!("taken back   entries {first} to {last}"))?,
        None => say(format_args!("taken back   no entry"))?,
    }
    Ok(())
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
    let checkpoint = Digest::of(format!("{}\n", keys.checkpoint).as_bytes());
    if shared.json {
        let entry_keys: Vec<Value> = history.keys().iter().map(describe).collect();
        let report = json!({
            "origin": keys.origin(),
            "entries": keys.entries.to_string(),
            "checkpoint": keys.checkpoint.to_string(),
            "path": path,
            "fingerprint": file.fingerprint(),
            "entry_keys": entry_keys,
            "checkpoint_key": {
                "key": keys.checkpoint.key_id(),
                "purpose": "checkpoints",
                "fingerprint": checkpoint,
                "valid_from_entry": 0,
                "valid_until_entry": null,
            },
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
    tell(format_args!("checkpoints  {}", keys.checkpoint.key_id()));
    tell(format_args!("             fingerprint {checkpoint}"));
    tell(format_args!(
        "             signs all checkpoints; no end is set"
    ));
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

fn describe(key: &EntryKey) -> Value {
    let revocation = key.revocation.as_ref().map(|revocation| {
        json!({
            "since_entry": revocation.since,
            "recorded_at_entry": revocation.recorded_at,
            "reason": revocation.reason,
        })
    });
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

fn report(key: &EntryKey, recorded_at: LeafIndex) -> Value {
    let mut report = describe(key);
    report["recorded_in_entry"] = json!(recorded_at);
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
        StartupError::KeyStillSigns { .. } | StartupError::KeyStatement(_) => Failure::usage(error),
        other => Failure::from(other),
    }
}
