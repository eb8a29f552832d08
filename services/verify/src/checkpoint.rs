//! `retrace-verify checkpoint`

use std::path::Path;

use provenance::{Checkpoint, ProvenanceError, PublicKeys, SignedCheckpoint};

use crate::arguments::CheckpointTask;
use crate::input::{self, InputError};
use crate::keys;
use crate::report::{Check, Report};

const CHECK: &str = "checkpoint";

/// Checks the log's signature of a checkpoint.
pub fn check(task: &CheckpointTask) -> Result<Report, InputError> {
    let (keys, mut report) = match keys::load(&task.keys)? {
        Ok(loaded) => loaded,
        Err(report) => return Ok(*report),
    };
    if let Some(checkpoint) = check_file(&mut report, &task.file, &keys)? {
        report.prove_checkpoint(&checkpoint);
    }
    Ok(report)
}

/// Checks one checkpoint file, adds the outcome to the report, and answers what it proves.
pub fn check_file(
    report: &mut Report,
    path: &Path,
    keys: &PublicKeys,
) -> Result<Option<Checkpoint>, InputError> {
    let text = match input::read_text(path, CHECK)? {
        Ok(text) => text,
        Err(check) => {
            report.add(check);
            return Ok(None);
        }
    };
    match verify(&text, keys) {
        Ok((checkpoint, detail)) => {
            report.add(Check::ok(CHECK, detail));
            Ok(Some(checkpoint))
        }
        Err(refusal) => {
            report.add(Check::failed(CHECK, refusal));
            Ok(None)
        }
    }
}

fn verify(text: &str, keys: &PublicKeys) -> Result<(Checkpoint, String), ProvenanceError> {
    let signed = SignedCheckpoint::parse(text)?;
    let checkpoint = signed.verify(&keys.checkpoint)?;
    let others = match signed.signature_count() - 1 {
        0 => String::new(),
        others => format!(", further signature lines not checked: {others}"),
    };
    let detail = format!(
        "signed by {}, tree size {}, root hash {}{others}",
        keys.checkpoint.key_id(),
        checkpoint.tree_size,
        checkpoint.root_hash
    );
    Ok((checkpoint.clone(), detail))
}
