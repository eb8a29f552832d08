//! Who vouches for the time of signatures.

use std::time::Duration;

use clap::Args;

use super::Bound;

/// Which authority is asked to stamp the signatures of manifests and the checkpoints of the log. It sees their hashes
/// and how often files are signed; it makes the service sign nothing.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Time stamps")]
pub struct TimeStampOptions {
    /// Address of a time-stamping authority (RFC 3161) for the signatures of files, where each image waits for
    /// its answer, and for checkpoints of the log, where nobody waits
    #[arg(long, env = "RETRACE_TIME_STAMP_AUTHORITY", value_name = "URL", value_parser = address)]
    pub time_stamp_authority: Option<String>,
    /// Make no image while the authority gives no stamp, instead of signing without one
    #[arg(
        long,
        env = "RETRACE_REQUIRE_TIME_STAMPS",
        requires = "time_stamp_authority"
    )]
    pub require_time_stamps: bool,
    /// Have checkpoints of the log stamped alone, and sign files without a stamp
    #[arg(
        long,
        env = "RETRACE_TIME_STAMP_CHECKPOINTS_ONLY",
        requires = "time_stamp_authority",
        conflicts_with = "require_time_stamps"
    )]
    pub time_stamp_checkpoints_only: bool,
    /// How long to let checkpoints pass between two that are stamped, in seconds; 0 has none stamped
    #[arg(long, env = "RETRACE_CHECKPOINT_STAMP_INTERVAL_S", default_value_t = TIME_STAMPS.checkpoint_stamp_interval_s)]
    pub checkpoint_stamp_interval_s: u64,
    /// How long at most to wait before asking an authority again that has stamped no checkpoint again and again,
    /// in seconds
    #[arg(long, env = "RETRACE_CHECKPOINT_STAMP_BACKOFF_S_MAX", default_value_t = TIME_STAMPS.checkpoint_stamp_backoff_s_max)]
    pub checkpoint_stamp_backoff_s_max: u64,
    /// How long the authority may take to answer, in milliseconds
    #[arg(long, env = "RETRACE_TIME_STAMP_TIMEOUT_MS_MAX", default_value_t = TIME_STAMPS.time_stamp_timeout_ms_max)]
    pub time_stamp_timeout_ms_max: u64,
    /// How long to leave the authority alone that has failed, in milliseconds
    #[arg(long, env = "RETRACE_TIME_STAMP_PAUSE_MS", default_value_t = TIME_STAMPS.time_stamp_pause_ms)]
    pub time_stamp_pause_ms: u64,
}

const TIME_STAMPS: TimeStampOptions = TimeStampOptions {
    time_stamp_authority: None,
    require_time_stamps: false,
    time_stamp_checkpoints_only: false,
    checkpoint_stamp_interval_s: 600,
    checkpoint_stamp_backoff_s_max: 7_200,
    time_stamp_timeout_ms_max: 5_000,
    time_stamp_pause_ms: 30_000,
};

impl Default for TimeStampOptions {
    fn default() -> Self {
        TIME_STAMPS
    }
}

impl TimeStampOptions {
    /// Name, value, least and most of every limit.
    pub(super) fn bounds(&self) -> [Bound; 4] {
        [
            (
                "checkpoint_stamp_interval_s",
                self.checkpoint_stamp_interval_s,
                0,
                2_592_000,
            ),
            (
                "checkpoint_stamp_backoff_s_max",
                self.checkpoint_stamp_backoff_s_max,
                1,
                2_592_000,
            ),
            (
                "time_stamp_timeout_ms_max",
                self.time_stamp_timeout_ms_max,
                10,
                600_000,
            ),
            (
                "time_stamp_pause_ms",
                self.time_stamp_pause_ms,
                0,
                86_400_000,
            ),
        ]
    }

    /// How long to let checkpoints pass between two that are stamped; none where none is.
    #[must_use]
    pub fn checkpoint_interval(&self) -> Option<Duration> {
        let interval_s = self.checkpoint_stamp_interval_s;
        (interval_s > 0).then(|| Duration::from_secs(interval_s))
    }

    /// How long at most to wait before an authority is asked for the stamp of a checkpoint again.
    #[must_use]
    pub fn checkpoint_backoff_max(&self) -> Duration {
        Duration::from_secs(self.checkpoint_stamp_backoff_s_max)
    }

    /// How long the authority may take.
    #[must_use]
    pub fn timeout_max(&self) -> Duration {
        Duration::from_millis(self.time_stamp_timeout_ms_max)
    }

    /// How long an authority that has failed is left alone.
    #[must_use]
    pub fn pause(&self) -> Duration {
        Duration::from_millis(self.time_stamp_pause_ms)
    }
}

/// An address that can be asked.
fn address(text: &str) -> Result<String, String> {
    let schemes = ["http://", "https://"];
    match schemes.iter().any(|scheme| text.starts_with(scheme)) {
        true => Ok(text.to_owned()),
        false => Err("not an address that begins with http:// or https://".to_owned()),
    }
}
