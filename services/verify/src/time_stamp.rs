//! When a checkpoint existed, as a time-stamping authority (RFC 3161) says.

use std::path::Path;

use credentials::{TIME_STAMP_BYTES_MAX, TimeStampAnchors, TimeStampReply};
use provenance::SignedCheckpoint;

use crate::input::{self, InputError};
use crate::report::{Check, Reason, Report};

const CHECK: &str = "time stamp";

/// Checks a time stamp of a checkpoint whose own signature holds.
pub fn check(
    report: &mut Report,
    checkpoint: &SignedCheckpoint,
    stamp: &Path,
    anchors: &Path,
) -> Result<(), InputError> {
    let anchors = match input::read_text(anchors, CHECK)? {
        Ok(text) => TimeStampAnchors::parse(&text),
        Err(check) => {
            report.add(check);
            return Ok(());
        }
    };
    let anchors = match anchors {
        Ok(anchors) => anchors,
        Err(error) => {
            let reason = Reason::new("trust-anchors", error.to_string());
            report.add(Check::failed(CHECK, reason));
            return Ok(());
        }
    };
    let reply = input::read(stamp, TIME_STAMP_BYTES_MAX as u64)?;
    let note = checkpoint.text_of_log();
    let verified = TimeStampReply::parse(&reply)
        .and_then(|reply| reply.verify_trusted(note.as_bytes(), &anchors));
    let check = match verified {
        Ok(stamp) => {
            let time = credentials::rfc3339(stamp.time_s)
                .unwrap_or_else(|| format!("{} s since 1970", stamp.time_s));
            report.prove_time(time.clone());
            Check::ok(
                CHECK,
                format!("existed at {time}, says {}", stamp.authority),
            )
        }
        Err(refusal) => Check::failed(CHECK, Reason::new(refusal.code(), refusal.to_string())),
    };
    report.add(check);
    Ok(())
}
