//! `retrace-verify checkpoint`

use std::path::Path;

use provenance::{Checkpoint, ProvenanceError, PublicKeys, SignedCheckpoint};

use crate::arguments::CheckpointTask;
use crate::input::{self, InputError};
use crate::keys::{self, Trusted};
use crate::report::{Check, Report};
use crate::witnesses;

const CHECK: &str = "checkpoint";

/// Checks the log's signature of a checkpoint, and the witnesses that the policy demands.
pub fn check(task: &CheckpointTask) -> Result<Report, InputError> {
    let (trusted, mut report) = match keys::load(&task.keys)? {
        Ok(loaded) => loaded,
        Err(report) => return Ok(*report),
    };
    if let Some(checkpoint) = check_witnessed(&mut report, &task.file, &trusted)? {
        report.prove_checkpoint(&checkpoint);
    }
    Ok(report)
}

/// Checks one checkpoint file and its cosignatures, adds the outcome to the report, and answers what it
/// proves.
pub fn check_witnessed(
    report: &mut Report,
    path: &Path,
    trusted: &Trusted,
) -> Result<Option<Checkpoint>, InputError> {
    let Some(signed) = check_signed(report, path, &trusted.keys)? else {
        return Ok(None);
    };
    let suffices = witnesses::check(report, &signed, trusted);
    Ok(suffices.then(|| signed.unverified().clone()))
}

/// Checks a checkpoint file that was kept from before: the log's signature suffices.
pub fn check_kept(
    report: &mut Report,
    path: &Path,
    keys: &PublicKeys,
) -> Result<Option<Checkpoint>, InputError> {
    let signed = check_signed(report, path, keys)?;
    Ok(signed.map(|signed| signed.unverified().clone()))
}

fn check_signed(
    report: &mut Report,
    path: &Path,
    keys: &PublicKeys,
) -> Result<Option<SignedCheckpoint>, InputError> {
    let text = match input::read_text(path, CHECK)? {
        Ok(text) => text,
        Err(check) => {
            report.add(check);
            return Ok(None);
        }
    };
    match verify(&text, keys) {
        Ok((signed, detail)) => {
            report.add(Check::ok(CHECK, detail));
            Ok(Some(signed))
        }
        Err(refusal) => {
            report.add(Check::failed(CHECK, refusal));
            Ok(None)
        }
    }
}

fn verify(text: &str, keys: &PublicKeys) -> Result<(SignedCheckpoint, String), ProvenanceError> {
    let signed = SignedCheckpoint::parse(text)?;
    let checkpoint = signed.verify(&keys.checkpoint)?;
    let detail = format!(
        "signed by {}, tree size {}, root hash {}",
        keys.checkpoint.key_id(),
        checkpoint.tree_size,
        checkpoint.root_hash
    );
    Ok((signed, detail))
}
