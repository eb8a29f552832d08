//! Whose signatures are believed: the public key file, and the keys that were pinned before.

use std::path::Path;

use provenance::{Digest, PublicKeys, WitnessPolicy};

use crate::arguments::KeyArguments;
use crate::input::{self, InputError};
use crate::policy::Policy;
use crate::report::{Check, Reason, Report};

const KEY_CHECK: &str = "public key";
const POLICY_CHECK: &str = "policy";

/// Whose signatures are believed.
#[derive(Debug)]
pub struct Trusted {
    /// The log's keys.
    pub keys: PublicKeys,
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
        Some(Ok(keys)) => Some(keys),
        None => None,
    };
    let Some(path) = arguments.policy.as_deref() else {
        let keys = given.expect("one of --public-key and --policy is required");
        let report = Report::of(keys_check(&keys));
        let witnesses = WitnessPolicy::default();
        return Ok(Ok((Trusted { keys, witnesses }, report)));
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
        Some(keys) => compare(policy, keys),
        None => Ok(pinned_alone(&policy)),
    }
}

/// The text of the public key file has one spelling, so its digest names the keys: `sha256sum` of the
/// file says the same.
pub fn fingerprint(keys: &PublicKeys) -> Digest {
    Digest::of(keys.to_string().as_bytes())
}

fn read_keys(path: &Path) -> Result<Result<PublicKeys, Check>, InputError> {
    let text = match input::read_text(path, KEY_CHECK)? {
        Ok(text) => text,
        Err(check) => return Ok(Err(check)),
    };
    Ok(PublicKeys::parse(&text).map_err(|refusal| Check::failed(KEY_CHECK, refusal)))
}

fn keys_check(keys: &PublicKeys) -> Check {
    let detail = format!(
        "{} and {}, fingerprint {}",
        keys.entries.key_id(),
        keys.checkpoint.key_id(),
        fingerprint(keys)
    );
    Check::ok(KEY_CHECK, detail)
}

fn compare(mut policy: Policy, keys: PublicKeys) -> Result<Loaded, InputError> {
    let mut report = Report::of(keys_check(&keys));
    match policy.keys_of(keys.origin()) {
        Some(pinned) if *pinned == keys => {
            report.add(Check::ok(POLICY_CHECK, "these are the pinned keys"));
        }
        Some(pinned) => {
            let detail = format!(
                "the policy pins other keys for {}, with the fingerprint {}; when the log has changed its \
                 keys, make sure of it from another source and remove the old ones from the policy",
                keys.origin(),
                fingerprint(pinned)
            );
            let reason = Reason::new("key-differs-from-policy", detail);
            report.add(Check::failed(POLICY_CHECK, reason));
            return Ok(Err(Box::new(report)));
        }
        None => {
            policy.pin(keys.clone())?;
            let detail = format!(
                "first use of {}: its keys are pinned in {} from now on; compare the fingerprint with what \
                 the log's operator says elsewhere (retrace key show)",
                keys.origin(),
                policy.path().display()
            );
            let reason = Reason::new("key-first-use", detail);
            report.add(Check::warning(POLICY_CHECK, reason));
        }
    }
    let witnesses = policy.witnesses().clone();
    Ok(Ok((Trusted { keys, witnesses }, report)))
}

fn pinned_alone(policy: &Policy) -> Loaded {
    let refused = |code, detail: &str| {
        Box::new(Report::of(Check::failed(
            POLICY_CHECK,
            Reason::new(code, detail),
        )))
    };
    match policy.logs() {
        [keys] => {
            let mut report = Report::of(keys_check(keys));
            report.add(Check::ok(POLICY_CHECK, "these are the pinned keys"));
            let trusted = Trusted {
                keys: keys.clone(),
                witnesses: policy.witnesses().clone(),
            };
            Ok((trusted, report))
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
