//! `retrace witness`

use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};

use api::config::SigningOptions;
use api::keys;
use api::startup::termination;
use api::witness::Witness;
use clap::Args;
use provenance::{CheckpointKeys, KeyFile};
use serde_json::json;

use super::Outcome;
use super::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  retrace witness --name witness.example/w1 --log retrace.pub --state witness-state/

A log posts its newest checkpoint to /add-checkpoint with the proof that it continues the one before
(C2SP tlog-witness), and gets a cosignature. A log that shows a second history is refused. The state folder
holds the witness's key and the last checkpoint of each log: losing it means that the next checkpoint of
each log is believed, setting it back that a second history may be cosigned.

When a log names another checkpoint key, start the witness again with its new retrace.pub before the old key
stops signing: from then on it asks for the new one.";

/// Arguments of `retrace witness`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct WitnessArgs {
    /// Name of the witness, as it will stand in its cosignatures
    #[arg(long, value_name = "NAME")]
    name: String,

    /// Public key file of a log to witness (retrace.pub); several times for several
    #[arg(long = "log", value_name = "FILE", required = true)]
    logs: Vec<PathBuf>,

    /// Folder for the key and for what was seen
    #[arg(long, env = "RETRACE_WITNESS_STATE", value_name = "DIR")]
    state: PathBuf,

    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,

    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8090)]
    port: u16,

    /// Print address and public key as one JSON object when the witness is ready
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    signing: SigningOptions,
}

impl WitnessArgs {
    /// Witnesses until the process is asked to end.
    pub fn run(self) -> Outcome {
        let logs = self.logs.iter().map(|path| read_log(path));
        let logs = logs.collect::<Result<Vec<_>, _>>()?;
        let vault = keys::Vault::open(self.signing.key_passphrase_file.as_deref());
        let vault = vault.map_err(Failure::environment)?;
        let signer = keys::open_witness(&self.state, &self.name, &vault);
        let signer = signer.map_err(Failure::environment)?;
        let key = signer.verifier().to_string();
        let listener = TcpListener::bind((self.host, self.port)).map_err(Failure::environment)?;
        let address = listener.local_addr().map_err(Failure::environment)?;
        let witness = Witness::new(signer, logs, &self.state);
        super::async_runtime()?.block_on(async {
            let server = witness.serve(listener).map_err(Failure::environment)?;
            let handle = server.handle();
            tokio::spawn(async move {
                termination().await;
                handle.stop(true).await;
            });
            if self.json {
                let url = format!("http://{address}");
                println!(
                    "{}",
                    json!({ "url": url, "port": address.port(), "key": key })
                );
            } else {
                println!("The witness is ready: http://{address}, key {key}");
            }
            server.await.map_err(Failure::environment)
        })
    }
}

fn read_log(path: &Path) -> Result<CheckpointKeys, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::environment(format!("{}: {error}", path.display())))?;
    let file = KeyFile::parse(&text)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let history = file
        .history()
        .map_err(|error| Failure::does_not_hold(format!("{}: {error}", path.display())))?;
    Ok(history.checkpoints().clone())
}
