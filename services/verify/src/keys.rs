//! Whose signatures are believed: the public key file, and the keys that were pinned before.

use std::path::Path;

use provenance::{CheckpointKey, EntryKey, KeyFile, KeyHistory, PublicKeys, WitnessPolicy};

use crate::arguments::KeyArguments;
use crate::input::{self, InputError};
use crate::policy::{Pinned, Policy};
use crate::report::{Check, Reason, Report};

const KEY_CHECK: &str = "public key";
const POLICY_CHECK: &str = "policy";
const ENTRY_KEY_CHECK: &str = "entry keys";
const CHECKPOINT_KEY_CHECK: &str = "log keys";

/// Whose signatures are believed.
#[derive(Debug)]
pub struct Trusted {
    /// The log's keys.
    pub keys: PublicKeys,
    /// The keys that followed them, as far as public key file and policy prove them.
    pub history: KeyHistory,
    /// The witnesses, and which of them a checkpoint needs.
    pub witnesses: WitnessPolicy,
}

/// What to check with and a report that begins with them; or the report that says why there are
/// none to be believed.
pub type Loaded = Result<(Trusted, Report), Box<Report>>;

/// Reads the keys, compares them with the pinned ones, and pins those of a log that is new.
///
/// # Errors
/// When a file cannot be read, or the policy file cannot be written.
pub fn load(arguments: &KeyArguments) -> Result<Loaded, InputError> {
    let given = match arguments.public_key.as_deref().map(read_keys).transpose()? {
        Some(Err(check)) => return Ok(Err(Box::new(Report::of(check)))),
        Some(Ok(given)) => Some(given),
        None => None,
    };
    let Some(path) = arguments.policy.as_deref() else {
        let given = given.expect("one of --public-key and --policy is required");
        let report = given.report();
        return Ok(Ok((given.trusted(WitnessPolicy::default()), report)));
    };
    let policy = match Policy::read(path)? {
        Ok(policy) => policy,
        Err(reason) => {
            return Ok(Err(Box::new(Report::of(Check::failed(
                POLICY_CHECK,
                reason,
            )))));
        }
    };
    match given {
        Some(given) => compare(policy, given),
        None => Ok(pinned_alone(&policy)),
    }
}

/// A public key file that was read, with its statements verified.
struct Given {
    file: KeyFile,
    history: KeyHistory,
}

impl Given {
    fn of(file: KeyFile) -> Result<Self, Check> {
        match file.history() {
            Ok(history) => Ok(Self { file, history }),
            Err(refusal) => Err(Check::failed(ENTRY_KEY_CHECK, refusal)),
        }
    }

    /// A report that begins with the keys.
    fn report(&self) -> Report {
        let keys = &self.file.keys;
        let detail = format!(
            "{} and {}, fingerprint {}",
            keys.entries.key_id(),
            keys.checkpoint.key_id(),
            self.file.fingerprint()
        );
        let mut report = Report::of(Check::ok(KEY_CHECK, detail));
        if self.history.statements() > 0 {
            let keys: Vec<String> = self.history.keys().iter().map(describe).collect();
            report.add(Check::ok(ENTRY_KEY_CHECK, keys.join("; ")));
        }
        if let [_, _, ..] = self.history.checkpoints().keys() {
            let keys = self.history.checkpoints().keys().iter();
            let keys: Vec<String> = keys.map(describe_checkpoint).collect();
            report.add(Check::ok(CHECKPOINT_KEY_CHECK, keys.join("; ")));
        }
        report
    }

    fn trusted(self, witnesses: WitnessPolicy) -> Trusted {
        Trusted {
            keys: self.file.keys,
            history: self.history,
            witnesses,
        }
    }
}

/// A key with the entries that it signed, in words.
pub fn describe(key: &EntryKey) -> String {
    let name = key.verifier.key_id();
    let from = key.from;
    let window = match key.until {
        Some(until) => format!("{name} signs entries {from} to {until}"),
        None => format!("{name} signs from entry {from} on"),
    };
    match &key.revocation {
        Some(revocation) => format!(
            "{window} and was revoked in entry {} from entry {} on ({})",
            revocation.recorded_at, revocation.since, revocation.reason
        ),
        None => window,
    }
}

/// A key with the checkpoints that it signs, in words.
pub fn describe_checkpoint(key: &CheckpointKey) -> String {
    let name = key.verifier.key_id();
    let from = key.from;
    let window = match key.until {
        Some(until) => format!("{name} signs checkpoints of {from} to {until} entries"),
        None => format!("{name} signs checkpoints from {from} entries on"),
    };
    match &key.revocation {
        Some(revocation) => format!(
            "{window} and was revoked in entry {} for those that cover entry {} ({})",
            revocation.recorded_at, revocation.since, revocation.reason
        ),
        None => window,
    }
}

/// That something names other keys than those that are trusted.
pub fn contradiction(who: &str) -> Reason {
    let detail = format!(
        "{who} states other changes of the log's keys than public key file and policy do: somebody shows two histories"
    );
    Reason::new("keys-contradict", detail)
}

fn read_keys(path: &Path) -> Result<Result<Given, Check>, InputError> {
    let text = match input::read_text(path, KEY_CHECK)? {
        Ok(text) => text,
        Err(check) => return Ok(Err(check)),
    };
    Ok(match KeyFile::parse(&text) {
        Ok(file) => Given::of(file),
        Err(refusal) => Err(Check::failed(KEY_CHECK, refusal)),
    })
}

fn compare(mut policy: Policy, given: Given) -> Result<Loaded, InputError> {
    let mut report = given.report();
    let keys = &given.file.keys;
    let history = match policy.pinned_of(keys.origin()) {
        Some(Pinned { file, history }) if file.keys == *keys => {
            if !history.agrees_with(&given.history) {
                report.add(Check::failed(
                    POLICY_CHECK,
                    contradiction("the public key file"),
                ));
                return Ok(Err(Box::new(report)));
            }
            let newer = given.history.statements() > history.statements();
            match newer {
                true => {
                    policy.follow(&given.file, &given.history)?;
                    let detail = format!(
                        "these are the pinned keys; those that followed are pinned in {} as well",
                        policy.path().display()
                    );
                    report.add(Check::ok(POLICY_CHECK, detail));
                    given.history.clone()
                }
                false => {
                    report.add(Check::ok(POLICY_CHECK, "these are the pinned keys"));
                    history.clone()
                }
            }
        }
        Some(Pinned { file, .. }) => {
            let detail = format!(
                "the policy pins other keys for {}, with the fingerprint {}; a log keeps these for good, and names \
                 the keys that follow in its own entries: make sure of it from another source and remove the \
                 old ones from the policy",
                keys.origin(),
                file.fingerprint()
            );
            let reason = Reason::new("key-differs-from-policy", detail);
            report.add(Check::failed(POLICY_CHECK, reason));
            return Ok(Err(Box::new(report)));
        }
        None => {
            policy.pin(&given.file, &given.history)?;
            let detail = format!(
                "first use of {}: its keys are pinned in {} from now on; compare the fingerprint with what \
                 the log's operator says elsewhere (retrace key show)",
                keys.origin(),
                policy.path().display()
            );
            let reason = Reason::new("key-first-use", detail);
            report.add(Check::warning(POLICY_CHECK, reason));
            given.history.clone()
        }
    };
    let trusted = Trusted {
        keys: given.file.keys,
        history,
        witnesses: policy.witnesses().clone(),
    };
    Ok(Ok((trusted, report)))
}

fn pinned_alone(policy: &Policy) -> Loaded {
    let refused = |code, detail: &str| {
        Box::new(Report::of(Check::failed(
            POLICY_CHECK,
            Reason::new(code, detail),
        )))
    };
    match policy.logs() {
        [Pinned { file, history }] => {
            let given = Given {
                file: file.clone(),
                history: history.clone(),
            };
            let mut report = given.report();
            report.add(Check::ok(POLICY_CHECK, "these are the pinned keys"));
            Ok((given.trusted(policy.witnesses().clone()), report))
        }
        [] => Err(refused(
            "no-key-pinned",
            "the policy pins no keys yet: give the log's with --public-key",
        )),
        _ => Err(refused(
            "several-logs-pinned",
            "the policy pins the keys of several logs: say which with --public-key",
        )),
    }
}
