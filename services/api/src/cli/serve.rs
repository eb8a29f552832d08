//! `retrace serve`

use std::net::IpAddr;

use clap::Args;

use super::Outcome;
use super::environment::EnvironmentArgs;

const EXAMPLES: &str = "\
Examples:
  retrace serve
  retrace serve --port 0
  DATABASE_URL=postgres://retrace@db/retrace retrace serve --host 0.0.0.0
  retrace serve --provider cuda --require-gpu

Without a database URL the service starts a private Postgres in its state folder. Without any client
key (retrace key client) it binds to loopback addresses only.";

/// Arguments of `retrace serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Serve {
    /// Address to listen on
    #[arg(long, env = "RETRACE_HOST", default_value = "127.0.0.1")]
    host: IpAddr,

    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "RETRACE_PORT", default_value_t = 8080)]
    port: u16,

    #[command(flatten)]
    environment: EnvironmentArgs,
}
