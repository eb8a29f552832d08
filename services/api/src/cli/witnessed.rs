//! Which witnesses of a policy have cosigned the log, as `retrace ledger check` reports it.

use ledger::{Ledger, LedgerError};
use provenance::{SignedCheckpoint, WitnessPolicy};
use serde_json::{Value, json};

use super::Outcome;
use super::failure::Failure;

/// What witnesses have cosigned.
pub(super) struct Witnessed {
    /// How many witnesses the policy names.
    named: usize,
    /// Size of the newest checkpoint, and who has cosigned it.
    newest: Option<(u64, Vec<String>)>,
    quorum: Option<String>,
    /// Size of the newest checkpoint that the quorum has cosigned.
    quorum_size: Option<u64>,
}

impl Witnessed {
    /// Looks at the newest checkpoints of a ledger that was opened under a policy; none where it names nobody.
    pub(super) async fn of(ledger: &Ledger) -> Result<Option<Self>, LedgerError> {
        let policy = ledger.witnesses();
        if policy.witnesses().is_empty() {
            return Ok(None);
        }
        let latest = ledger.latest_checkpoint().await?;
        let newest = latest.map(|latest| (size(&latest), cosigners(policy, &latest)));
        let quorum = policy.quorum().map(str::to_owned);
        let quorum_size = match quorum {
            Some(_) => ledger.witnessed_checkpoint().await?.as_ref().map(size),
            None => None,
        };
        Ok(Some(Self {
            named: policy.witnesses().len(),
            newest,
            quorum,
            quorum_size,
        }))
    }

    pub(super) fn words(&self) -> String {
        let Some((size, cosigners)) = &self.newest else {
            return format!("{} in the policy, and no checkpoint yet", self.named);
        };
        let names = match cosigners.is_empty() {
            true => String::new(),
            false => format!(" ({})", cosigners.join(", ")),
        };
        let count = cosigners.len();
        let newest = format!(
            "{count} of {} cosigned the newest checkpoint, of {size} entries{names}",
            self.named
        );
        match (&self.quorum, self.quorum_size) {
            (None, _) => newest,
            (Some(quorum), Some(size)) => {
                format!("{newest}; the quorum {quorum} cosigned that of {size} entries")
            }
            (Some(quorum), None) => format!("{newest}; the quorum {quorum} cosigned none"),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let newest = self.newest.as_ref();
        json!({
            "named": self.named,
            "tree_size": newest.map(|(size, _)| size),
            "cosigned": newest.map_or(0, |(_, cosigners)| cosigners.len()),
            "cosigned_by": newest.map(|(_, cosigners)| cosigners),
            "quorum": self.quorum,
            "quorum_tree_size": self.quorum_size,
        })
    }

    /// Fails where a quorum is demanded and no checkpoint has it.
    pub(super) fn require_quorum(&self) -> Outcome {
        match (&self.quorum, self.quorum_size) {
            (Some(quorum), None) if self.newest.is_some() => Err(Failure::does_not_hold(format!(
                "the quorum {quorum} of the policy has cosigned no checkpoint"
            ))),
            _ => Ok(()),
        }
    }
}

fn size(checkpoint: &SignedCheckpoint) -> u64 {
    checkpoint.unverified().tree_size.get()
}

/// The witnesses of the policy whose lines under a checkpoint verify.
fn cosigners(policy: &WitnessPolicy, checkpoint: &SignedCheckpoint) -> Vec<String> {
    let witnesses = policy.witnesses().iter();
    let cosigned = witnesses.filter(|witness| witness.key.verify(checkpoint).is_ok());
    cosigned.map(|witness| witness.name.clone()).collect()
}
