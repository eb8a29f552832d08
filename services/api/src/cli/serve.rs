//! `retrace serve`

use std::net::{IpAddr, SocketAddr};

use api::config::{Limits, PORT_DEFAULT, Role, WitnessOptions};
use api::startup::{App, termination};
use clap::Args;
use serde_json::json;

use super::Outcome;
use super::environment::{CredentialArgs, EngineArgs, StateArgs};
use super::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  retrace serve
  retrace serve --port 0
  DATABASE_URL=postgres://retrace@db/retrace retrace serve --host 0.0.0.0
  retrace serve --provider cuda --require-gpu
  retrace serve --role api
  retrace serve --role worker --port 0 --provider cuda
  retrace serve --signer unix:run/signer.sock

Without a database URL the service starts a private Postgres in its state folder. Without any client
key (retrace key client) it listens on loopback addresses only. SIGTERM and Ctrl-C let requests under
way finish; jobs under way go back to the queue. The log goes to standard error; RETRACE_LOG sets its level (for example: debug).

Roles share one database, the images (<state>/images) and the signing keys (<state>/keys). Exactly
one state folder holds the checkpoint store, that of the `all` or `api` processes; workers may run on
any number of machines, and claim jobs from the database.

With --signer the entry key and the checkpoint key are held by `retrace signer`, and no seed of theirs lies in
the state folder. Workers ask for entries alone: on another machine, a signer with the same keys/.

A witness policy (C2SP tlog-policy: lines witness, group and quorum) names who is asked to cosign checkpoints.
With a quorum in it every append waits for it; commands that run once (retrace generate) do not.";

/// Arguments of `retrace serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Serve {
    /// What this process does: everything, answering requests, or working off jobs
    #[arg(long, env = "RETRACE_ROLE", value_enum, default_value_t = Role::All)]
    role: Role,

    /// Address to listen on
    #[arg(long, env = "RETRACE_HOST", default_value = "127.0.0.1")]
    host: IpAddr,

    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "RETRACE_PORT", default_value_t = PORT_DEFAULT)]
    port: u16,

    /// Print the address as one JSON object when the service is ready
    #[arg(long)]
    json: bool,

    /// Folder of a generator outside the models, accepted by its computed digests
    #[arg(long, env = "RETRACE_GENERATOR", value_name = "DIR")]
    generator: Option<std::path::PathBuf>,

    /// Connections to Postgres at most
    #[arg(
        long,
        env = "RETRACE_DATABASE_CONNECTIONS_MAX",
        value_name = "COUNT",
        default_value_t = 16
    )]
    database_connections_max: u32,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    state: StateArgs,

    #[command(flatten)]
    credentials: CredentialArgs,

    #[command(flatten)]
    witnesses: WitnessOptions,

    #[command(flatten)]
    limits: Limits,
}

impl Serve {
    /// Serves until the process is asked to end.
    pub fn run(self) -> Outcome {
        let config = self
            .state
            .config(self.engine.options(self.generator.clone()));
        let mut config = self.credentials.add_to(config);
        config.role = self.role;
        config.listen = SocketAddr::new(self.host, self.port);
        config.witnesses = self.witnesses.clone();
        config.limits = self.limits.clone();
        config.database_connections_max = self.database_connections_max;
        super::async_runtime()?.block_on(async {
            let app = App::build(config).await.map_err(Failure::from)?;
            self.announce(app.address());
            app.run_until(termination()).await.map_err(Failure::from)
        })
    }

    fn announce(&self, address: SocketAddr) {
        let url = format!("http://{address}");
        if self.json {
            println!("{}", json!({ "url": url, "port": address.port() }));
        } else {
            println!("Retrace is ready: {url}");
        }
    }
}
