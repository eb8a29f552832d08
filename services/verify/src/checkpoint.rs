//! `retrace-verify checkpoint`

use std::path::Path;

use provenance::{Checkpoint, CheckpointKeys, ProvenanceError, SignedCheckpoint};

use crate::arguments::CheckpointTask;
use crate::input::{self, InputError};
use crate::keys::{self, Trusted};
use crate::report::{Check, Report};
use crate::{time_stamp, witnesses};

const CHECK: &str = "checkpoint";

/// Checks the log's signature of a checkpoint, and the witnesses that the policy demands.
pub fn check(task: &CheckpointTask) -> Result<Report, InputError> {
    let (trusted, mut report) = match keys::load(&task.keys)? {
        Ok(loaded) => loaded,
        Err(report) => return Ok(*report),
    };
    if let Some(checkpoint) = check_witnessed(&mut report, &task.file, &trusted)? {
        report.prove_checkpoint(checkpoint.unverified());
        if let (Some(stamp), Some(anchors)) = (&task.time_stamp, &task.time_stamp_anchors) {
            time_stamp::check(&mut report, &checkpoint, stamp, anchors)?;
        }
    }
    Ok(report)
}

/// Checks one checkpoint file and its cosignatures, adds the outcome to the report, and answers what it
/// proves.
pub fn check_witnessed(
    report: &mut Report,
    path: &Path,
    trusted: &Trusted,
) -> Result<Option<SignedCheckpoint>, InputError> {
    let Some(signed) = check_signed(report, path, trusted, false)? else {
        return Ok(None);
    };
    let suffices = witnesses::check(report, &signed, trusted);
    Ok(suffices.then_some(signed))
}

/// Checks a checkpoint file that was kept from before: the log's signature suffices, even that of a key which was
/// revoked since, as the entries are going to show whether it is one of their history.
pub fn check_kept(
    report: &mut Report,
    path: &Path,
    trusted: &Trusted,
) -> Result<Option<Checkpoint>, InputError> {
    let signed = check_signed(report, path, trusted, true)?;
    Ok(signed.map(|signed| signed.unverified().clone()))
}

fn check_signed(
    report: &mut Report,
    path: &Path,
    trusted: &Trusted,
    takes_revoked: bool,
) -> Result<Option<SignedCheckpoint>, InputError> {
    let text = match input::read_text(path, CHECK)? {
        Ok(text) => text,
        Err(check) => {
            report.add(check);
            return Ok(None);
        }
    };
    let log = trusted.history.checkpoints();
    let verified = SignedCheckpoint::parse(&text).and_then(|signed| {
        let verified = log.verify(&signed).map(drop);
        match verified {
            Err(refusal @ ProvenanceError::CheckpointKeyRevoked { .. }) if takes_revoked => {
                report.add(Check::warning("log keys", refusal.into()));
            }
            other => other?,
        }
        Ok(signed)
    });
    match verified {
        Ok(signed) => {
            report.add(Check::ok(CHECK, describe(signed.unverified(), log)));
            Ok(Some(signed))
        }
        Err(refusal) => {
            report.add(Check::failed(CHECK, refusal));
            Ok(None)
        }
    }
}

/// A checkpoint that was verified, in words.
pub fn describe(checkpoint: &Checkpoint, log: &CheckpointKeys) -> String {
    format!(
        "signed by {}, tree size {}, root hash {}",
        log.key_at(checkpoint.tree_size).verifier.key_id(),
        checkpoint.tree_size,
        checkpoint.root_hash
    )
}
