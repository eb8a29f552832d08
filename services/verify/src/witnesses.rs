//! Whether the witnesses that the policy demands have cosigned a checkpoint.

use provenance::witness::{Cosignature, Cosignatures};
use provenance::{CheckpointKeys, SignedCheckpoint, WitnessPolicy};

use crate::keys::Trusted;
use crate::report::{Check, Reason, Report};

const CHECK: &str = "witnesses";

/// Checks the cosignatures of a checkpoint whose own signature holds, and adds what is worth saying.
/// Answers whether they suffice.
pub fn check(report: &mut Report, checkpoint: &SignedCheckpoint, trusted: &Trusted) -> bool {
    let log = trusted.history.checkpoints();
    check_under(report, checkpoint, &trusted.witnesses, log)
}

/// As [`check`], under keys that are known from elsewhere.
pub fn check_under(
    report: &mut Report,
    checkpoint: &SignedCheckpoint,
    witnesses: &WitnessPolicy,
    log: &CheckpointKeys,
) -> bool {
    let found = match witnesses.verify(checkpoint, log) {
        Ok(found) => found,
        Err(refusal) => {
            report.add(Check::failed(CHECK, refusal));
            return false;
        }
    };
    let Cosignatures {
        known,
        unseen_log_keys,
        unknown_lines,
    } = found;
    if !unseen_log_keys.is_empty() {
        let detail = format!(
            "{} has signed as well: the log may have named another checkpoint key; take its newer public key file \
             (retrace key show, /v1/public-key) before the one known here stops signing",
            unseen_log_keys.join(", ")
        );
        let reason = Reason::new("checkpoint-key-unseen", detail);
        report.add(Check::warning("log keys", reason));
    }
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
