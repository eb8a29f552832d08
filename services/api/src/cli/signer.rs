//! `retrace signer`

use std::path::PathBuf;

use api::config::{ORIGIN_DEFAULT, SignerLimits, SigningOptions};
use api::keys::{Keys, Vault};
use api::signer::{HeldKeys, KeyPurpose, SignerAddress, SignerSocket};
use api::startup::termination;
use clap::Args;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use serde_json::json;

use super::Outcome;
use super::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  retrace signer --state signer-state/ --socket run/signer.sock
  retrace serve --signer unix:run/signer.sock
  retrace signer --state signer-state/ --socket run/signer.sock --key-passphrase-file /media/stick/passphrase
  retrace signer --state signer-state/ --socket run/entries.sock --purpose entries

The first start makes the entry key and the checkpoint key in keys/ of its state folder. To take those of a
log that there is, stop the service and move entries.seed, checkpoint.seed and, if they are there,
checkpoint.old.seed, entries.first.pub and checkpoint.first.pub from keys/ of its state folder to keys/ of the
signer's. Watermark and Content Credentials stay with the service.

Only the owner of the socket can open it (mode 600), and others cannot read the signer's memory. It signs
nothing but entries, manifests of exports and checkpoints of this log, never a smaller tree than the last one
since it was started nor another root for its size, and no statement that hands the log to another key: to
rotate either key, move the seeds back first. With two checkpoint seeds it signs with both. Whoever opens the socket can have entries signed meanwhile.";

/// Arguments of `retrace signer`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SignerArgs {
    /// Folder whose keys/ holds the seeds; not the service's
    #[arg(long, env = "RETRACE_SIGNER_STATE", value_name = "DIR")]
    state: PathBuf,

    /// Socket to answer on; its folder must be there, and nobody else may write to it
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,

    /// Name of the log in checkpoints and keys
    #[arg(long, env = "RETRACE_ORIGIN", value_name = "NAME", default_value = ORIGIN_DEFAULT)]
    origin: String,

    /// Sign for this alone; several times for several [default: both]
    #[arg(long = "purpose", value_name = "PURPOSE", value_enum)]
    purposes: Vec<KeyPurpose>,

    /// Print socket and keys as one JSON object when the signer is ready
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    signing: SigningOptions,

    #[command(flatten)]
    limits: SignerLimits,
}

impl SignerArgs {
    /// Signs until the process is asked to end.
    pub fn run(self) -> Outcome {
        // Neither a debugger of the same user nor a memory dump gets at the keys.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Failure::environment)?;
        // The socket first: a second signer touches no key.
        let socket = SignerSocket::bind(&self.socket).map_err(Failure::environment)?;
        let vault = Vault::open(self.signing.key_passphrase_file.as_deref());
        let vault = vault.map_err(Failure::environment)?;
        std::fs::create_dir_all(&self.state).map_err(Failure::environment)?;
        let keys = Keys::open(&self.state, &self.origin, &vault).map_err(Failure::environment)?;
        let purposes = match &self.purposes[..] {
            [] => &[KeyPurpose::Entries, KeyPurpose::Checkpoints][..],
            named => named,
        };
        let held = HeldKeys::new(keys, purposes);
        let told = held.told();
        let address = SignerAddress::unix(&self.socket);
        super::async_runtime()?.block_on(async {
            let ended = termination();
            let running = socket.serve(held, self.limits);
            if self.json {
                let purposes: Vec<_> = told.purposes.iter().map(|it| it.as_str()).collect();
                println!(
                    "{}",
                    json!({
                        "signer": address.to_string(),
                        "origin": self.origin,
                        "entries": told.entries,
                        "public_keys": told.public_keys,
                        "purposes": purposes,
                    })
                );
            } else {
                println!("The signer of {} is ready: {address}", self.origin);
            }
            ended.await;
            drop(running);
        });
        Ok(())
    }
}
