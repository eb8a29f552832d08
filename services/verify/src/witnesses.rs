//! Whether the witnesses that the policy demands have cosigned a checkpoint.

use provenance::SignedCheckpoint;
use provenance::witness::{Cosignature, Cosignatures};

use crate::keys::Trusted;
use crate::report::{Check, Reason, Report};

const CHECK: &str = "witnesses";

/// Checks the cosignatures of a checkpoint whose own signature holds, and adds what is worth saying.
/// Answers whether they suffice.
pub fn check(report: &mut Report, checkpoint: &SignedCheckpoint, trusted: &Trusted) -> bool {
    let Trusted {
        keys, witnesses, ..
    } = trusted;
    let found = match witnesses.verify(checkpoint, &keys.checkpoint) {
        Ok(found) => found,
        Err(refusal) => {
            report.add(Check::failed(CHECK, refusal));
            return false;
        }
    };
    let Cosignatures {
        known,
        unknown_lines,
    } = found;
    if !witnesses.witnesses().is_empty() {
        let quorum = match witnesses.quorum() {
            Some(quorum) => format!("which is the quorum {quorum}"),
            None => "and the policy demands nobody".to_owned(),
        };
        let named: Vec<String> = known.iter().map(describe).collect();
        let named = match named.is_empty() {
            true => "nobody".to_owned(),
            false => named.join(", "),
        };
        report.add(Check::ok(CHECK, format!("cosigned by {named}, {quorum}")));
    }
    if unknown_lines > 0 {
        let detail = format!(
            "further signature lines not checked: {unknown_lines}; the policy names no such witness"
        );
        report.add(Check::warning(
            CHECK,
            Reason::new("unknown-signature-lines", detail),
        ));
    }
    true
}

fn describe(cosignature: &Cosignature) -> String {
    let Cosignature { witness, time_s } = cosignature;
    let moment = i64::try_from(*time_s).ok().and_then(credentials::rfc3339);
    match moment {
        Some(moment) => format!("{witness} at {moment}"),
        None => format!("{witness} at {time_s} s since 1970"),
    }
}
