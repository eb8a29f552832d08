//! The signer: how the service reaches it, and what it bears itself.

use std::time::Duration;

use clap::Args;

use crate::signer::SignerAddress;

/// How the service reaches whoever holds the entry key and the checkpoint key. Whoever answers there decides
/// under which keys a new log begins; a log that has begun is refused under others.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Keys")]
pub struct SignerOptions {
    /// Signer that holds the entry key and the checkpoint key (`retrace signer`), in place of seeds in keys/
    #[arg(long, env = "RETRACE_SIGNER", value_name = "unix:PATH")]
    pub signer: Option<SignerAddress>,

    /// Milliseconds to wait for an answer of the signer, its restart included
    #[arg(long, env = "RETRACE_SIGNER_WAIT_MS_MAX", value_name = "MS",
          default_value_t = OPTIONS.signer_wait_ms_max)]
    pub signer_wait_ms_max: u64,
}

const OPTIONS: SignerOptions = SignerOptions {
    signer: None,
    signer_wait_ms_max: 5_000,
};

impl Default for SignerOptions {
    /// No signer, and 5 s of patience with one.
    fn default() -> Self {
        OPTIONS
    }
}

/// What a signer bears of those who ask it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
#[command(next_help_heading = "Limits")]
pub struct SignerLimits {
    /// Connections at one time; more are told that it is busy
    #[arg(long, env = "RETRACE_SIGNER_CONNECTIONS_MAX", value_name = "COUNT",
          default_value_t = LIMITS.connections_max)]
    pub connections_max: usize,

    /// Milliseconds that a connection may be silent between requests
    #[arg(long, env = "RETRACE_SIGNER_IDLE_MS_MAX", value_name = "MS",
          default_value_t = LIMITS.idle_ms_max)]
    pub idle_ms_max: u64,

    /// Milliseconds that a request may take to arrive, and an answer to be taken
    #[arg(long, env = "RETRACE_SIGNER_REQUEST_MS_MAX", value_name = "MS",
          default_value_t = LIMITS.request_ms_max)]
    pub request_ms_max: u64,
}

const LIMITS: SignerLimits = SignerLimits {
    connections_max: 64,
    idle_ms_max: 600_000,
    request_ms_max: 5_000,
};

impl Default for SignerLimits {
    /// 64 connections, ten minutes of silence, five seconds for a request.
    fn default() -> Self {
        LIMITS
    }
}

impl SignerLimits {
    pub(crate) fn idle_max(&self) -> Duration {
        Duration::from_millis(self.idle_ms_max)
    }

    pub(crate) fn request_max(&self) -> Duration {
        Duration::from_millis(self.request_ms_max)
    }
}
