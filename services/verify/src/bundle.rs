//! `retrace-verify bundle`

use provenance::bundle::BUNDLE_BYTES_MAX;
use provenance::{Bundle, Checkpoint, Entry, KeyHistory};

use crate::arguments::BundleTask;
use crate::checkpoint;
use crate::image;
use crate::input::{self, InputError};
use crate::keys::{self, Trusted};
use crate::report::{Check, Reason, Report};
use crate::witnesses;

/// Checks a bundle part by part, so that the report says which part does not hold.
pub fn check(task: &BundleTask) -> Result<Report, InputError> {
    let bundle_bytes = input::read(&task.file, BUNDLE_BYTES_MAX as u64)?;
    let image_bytes = task.image.as_deref().map(image::read).transpose()?;
    let (trusted, mut report) = match keys::load(&task.keys)? {
        Ok(loaded) => loaded,
        Err(report) => return Ok(*report),
    };
    let bundle = match Bundle::parse(&bundle_bytes) {
        Ok(bundle) => bundle,
        Err(refusal) => {
            report.add(Check::failed("bundle", refusal));
            return Ok(report);
        }
    };
    report.add(Check::ok(
        "bundle",
        format!("{} bytes, canonical", bundle_bytes.len()),
    ));
    let Some(history) = stated_keys(&mut report, &bundle, &trusted) else {
        return Ok(report);
    };
    let checkpoint = check_checkpoint(&mut report, &bundle, &trusted, &history);
    let included = check_inclusion(&mut report, &bundle, checkpoint);
    let entry = check_entry(&mut report, &bundle, &trusted, &history);
    if let Some(entry) = entry.as_ref().filter(|_| included) {
        report.prove_entry(bundle.leaf_index(), bundle.envelope().leaf_hash(), entry);
    }
    check_image(&mut report, task, entry.as_ref(), image_bytes.as_deref());
    Ok(report)
}

/// Of bundle and public key file, whichever states more of what became of the keys. That the log holds what the
/// bundle states is checked with its entry.
fn stated_keys(report: &mut Report, bundle: &Bundle, trusted: &Trusted) -> Option<KeyHistory> {
    let own = match bundle.stated_keys(&trusted.keys) {
        Ok(own) => own,
        Err(refusal) => {
            report.add(Check::failed("entry keys", refusal));
            return None;
        }
    };
    if !own.agrees_with(&trusted.history) {
        report.add(Check::failed(
            "entry keys",
            keys::contradiction("the bundle"),
        ));
        return None;
    }
    match own.statements() > trusted.history.statements() {
        true => Some(own),
        false => Some(trusted.history.clone()),
    }
}

fn check_checkpoint<'a>(
    report: &mut Report,
    bundle: &'a Bundle,
    trusted: &Trusted,
    history: &KeyHistory,
) -> Option<&'a Checkpoint> {
    let log = history.checkpoints();
    match log.verify(bundle.checkpoint()) {
        Ok(checkpoint) => {
            let detail = checkpoint::describe(checkpoint, log);
            report.add(Check::ok("checkpoint", detail));
            if !witnesses::check_under(report, bundle.checkpoint(), &trusted.witnesses, log) {
                return None;
            }
            report.prove_checkpoint(checkpoint);
            Some(checkpoint)
        }
        Err(refusal) => {
            report.add(Check::failed("checkpoint", refusal));
            None
        }
    }
}

fn check_inclusion(report: &mut Report, bundle: &Bundle, checkpoint: Option<&Checkpoint>) -> bool {
    const CHECK: &str = "inclusion";
    let Some(checkpoint) = checkpoint else {
        let reason = Reason::new("checkpoint-not-verified", "there is no root hash to trust");
        report.add(Check::not_checked(CHECK, reason));
        return false;
    };
    match bundle.verify_inclusion_in(checkpoint) {
        Ok(()) => {
            let leaf_hash = bundle.envelope().leaf_hash();
            let detail = format!("leaf index {}, leaf hash {leaf_hash}", bundle.leaf_index());
            report.add(Check::ok(CHECK, detail));
            true
        }
        Err(refusal) => {
            report.add(Check::failed(CHECK, refusal));
            false
        }
    }
}

fn check_entry(
    report: &mut Report,
    bundle: &Bundle,
    trusted: &Trusted,
    history: &KeyHistory,
) -> Option<Entry> {
    const CHECK: &str = "entry";
    if let Err(refusal) = bundle.key_history(&trusted.keys) {
        report.add(Check::failed("entry keys", refusal));
        return None;
    }
    match bundle.verify_entry_under(history) {
        Ok(entry) => {
            let signer = bundle.envelope().key_id();
            let detail = format!("{}, signed by {signer}, {}", entry.kind(), describe(&entry));
            report.add(Check::ok(CHECK, detail));
            let key = history.key(signer).filter(|key| key.revocation.is_some());
            if let Some(key) = key {
                let detail = format!("it stays valid: {}", keys::describe(key));
                let reason = Reason::new("key-revoked-later", detail);
                report.add(Check::warning("entry keys", reason));
            }
            Some(entry)
        }
        Err(refusal) => {
            report.add(Check::failed(CHECK, refusal));
            None
        }
    }
}

fn describe(entry: &Entry) -> String {
    match entry {
        Entry::Generation(entry) => {
            let task = entry.details.as_ref().map(|details| details.task);
            format!(
                "model {} {}, {} by {} pixels{}",
                entry.model.name,
                entry.model.digest,
                entry.image.width,
                entry.image.height,
                task.map(|task| format!(", {task}")).unwrap_or_default()
            )
        }
        Entry::Score(entry) => format!(
            "detector {} {}",
            entry.detector.name, entry.detector.version
        ),
        Entry::KeySuccession(entry) => {
            format!("{} follows {}", entry.new_key, entry.old_key)
        }
        Entry::CheckpointKeySuccession(entry) => {
            format!("{} follows {}", entry.new_key, entry.old_key)
        }
        Entry::KeyRevocation(entry) => format!(
            "{} is revoked from entry {} on: {}",
            entry.key, entry.since, entry.reason
        ),
    }
}

fn check_image(
    report: &mut Report,
    task: &BundleTask,
    entry: Option<&Entry>,
    image_bytes: Option<&[u8]>,
) {
    let checks = match (entry, image_bytes) {
        (None, _) => vec![Check::not_checked(
            image::FILE_CHECK,
            Reason::new("entry-not-verified", "there is no image digest to trust"),
        )],
        (Some(Entry::Generation(entry)), Some(bytes)) => image::check(&entry.image, bytes),
        (Some(Entry::Generation(_)), None) if task.no_image => vec![Check::skipped(
            image::FILE_CHECK,
            Reason::new("image-waived", "not checked, as asked by --no-image"),
        )],
        (Some(Entry::Generation(_)), None) => vec![Check::not_checked(
            image::FILE_CHECK,
            Reason::new(
                "image-not-given",
                "give it with --image, or waive it with --no-image",
            ),
        )],
        (Some(entry), Some(_)) => vec![Check::failed(image::FILE_CHECK, no_image(entry))],
        (Some(entry), None) => vec![Check::skipped(image::FILE_CHECK, no_image(entry))],
    };
    for check in checks {
        report.add(check);
    }
}

fn no_image(entry: &Entry) -> Reason {
    let detail = match entry.is_key_statement() {
        true => "the entry is about the keys of the log",
        false => "a score entry holds a salted digest alone",
    };
    Reason::new("entry-has-no-image", detail)
}
