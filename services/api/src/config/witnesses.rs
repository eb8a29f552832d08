//! Who watches the log from outside.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Bound;

/// Which witnesses are asked to cosign the checkpoints, and how often. Whoever controls the policy decides
/// whether anyone outside notices a second history, and can stop all appends by a quorum that nobody
/// reaches; it makes the service sign nothing.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Witnesses")]
pub struct WitnessOptions {
    /// Witnesses to ask for cosignatures, with their addresses, and the quorum that every append waits for
    /// (C2SP tlog-policy; `quorum none` waits for nobody)
    #[arg(long, env = "RETRACE_WITNESS_POLICY", value_name = "FILE")]
    pub witness_policy: Option<PathBuf>,
    /// How long to let checkpoints pass between two rounds of asking, in milliseconds
    #[arg(long, env = "RETRACE_WITNESS_INTERVAL_MS", default_value_t = WITNESSES.witness_interval_ms)]
    pub witness_interval_ms: u64,
    /// How long one witness may take to answer, in milliseconds
    #[arg(long, env = "RETRACE_WITNESS_TIMEOUT_MS_MAX", default_value_t = WITNESSES.witness_timeout_ms_max)]
    pub witness_timeout_ms_max: u64,
    /// How long to leave a witness alone that has failed again and again, in milliseconds
    #[arg(long, env = "RETRACE_WITNESS_BACKOFF_MS_MAX", default_value_t = WITNESSES.witness_backoff_ms_max)]
    pub witness_backoff_ms_max: u64,
}

/// Public witnesses allow a log about one checkpoint a second.
const WITNESSES: WitnessOptions = WitnessOptions {
    witness_policy: None,
    witness_interval_ms: 1_000,
    witness_timeout_ms_max: 5_000,
    witness_backoff_ms_max: 300_000,
};

impl Default for WitnessOptions {
    fn default() -> Self {
        WITNESSES
    }
}

impl WitnessOptions {
    /// Name, value, least and most of every limit.
    pub(super) fn bounds(&self) -> [Bound; 3] {
        [
            (
                "witness_interval_ms",
                self.witness_interval_ms,
                10,
                3_600_000,
            ),
            (
                "witness_timeout_ms_max",
                self.witness_timeout_ms_max,
                10,
                600_000,
            ),
            (
                "witness_backoff_ms_max",
                self.witness_backoff_ms_max,
                10,
                86_400_000,
            ),
        ]
    }

    /// How long to let checkpoints pass between two rounds.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.witness_interval_ms)
    }

    /// How long one witness may take.
    #[must_use]
    pub fn timeout_max(&self) -> Duration {
        Duration::from_millis(self.witness_timeout_ms_max)
    }

    /// How long a witness is left alone at most.
    #[must_use]
    pub fn backoff_max(&self) -> Duration {
        Duration::from_millis(self.witness_backoff_ms_max)
    }
}
