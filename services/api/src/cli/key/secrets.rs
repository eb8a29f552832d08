//! `retrace key wrap` and `retrace key unwrap`; they need no database.

use std::path::{Path, PathBuf};

use api::config::EngineOptions;
use api::keys::{self, KeyError, Vault};
use serde_json::json;

use super::super::Outcome;
use super::super::failure::Failure;
use super::super::output::say;
use super::Shared;

pub(super) const EXAMPLES: &str = "\
Examples:
  head -c 32 /dev/urandom | base64 > /media/stick/passphrase && chmod 600 /media/stick/passphrase
  retrace key wrap --key-passphrase-file /media/stick/passphrase
  retrace serve --key-passphrase-file /media/stick/passphrase
  retrace key wrap --old-passphrase-file /media/stick/passphrase --key-passphrase-file new-passphrase
  retrace key unwrap --key-passphrase-file new-passphrase

The passphrase stands in a file, never on the command line, where every process could read it. Without it
wrapped secrets are lost, and with them the log: keep a copy in another place. Each file is replaced whole, so
a command that was killed is simply run again. The disk may keep the old bytes until it reuses their place.";

/// Wraps what does not lie under the passphrase yet.
pub(super) fn wrap(old: Option<&Path>, shared: &Shared) -> Outcome {
    let (state, vault) = state_and_vault(shared)?;
    let from = Vault::open(old).map_err(Failure::environment)?;
    reseal(&state, [&from, &vault], "wrapped", shared.json)
}

/// Leaves the secrets to the permissions of their files.
pub(super) fn unwrap(shared: &Shared) -> Outcome {
    let (state, vault) = state_and_vault(shared)?;
    reseal(
        &state,
        [&vault, &Vault::default()],
        "unwrapped",
        shared.json,
    )
}

fn reseal(state: &Path, [from, to]: [&Vault; 2], word: &str, as_json: bool) -> Outcome {
    let (mut written, mut said) = (Vec::new(), Ok(()));
    let done = keys::reseal(state, from, to, &mut |path| {
        if !as_json {
            let line = say(format_args!("{word:<11}  {}", path.display()));
            said = std::mem::replace(&mut said, Ok(())).and(line);
        }
        written.push(path.to_owned());
    });
    // A passphrase that does not open a secret is an answer, and not a failure of the machine.
    done.map_err(|error| match error {
        KeyError::Sealed { .. } => Failure::does_not_hold(error),
        other => Failure::environment(other),
    })?;
    said?;
    if as_json {
        say(format_args!("{}", json!({ word: written })))?;
    } else if written.is_empty() {
        say(format_args!("Nothing to do: every secret is {word}."))?;
    }
    Ok(())
}

fn state_and_vault(shared: &Shared) -> Result<(PathBuf, Vault), Failure> {
    let config = shared.state.config(EngineOptions::default());
    let Some(file) = &config.signing.key_passphrase_file else {
        return Err(Failure::usage(
            "name the file of the passphrase: --key-passphrase-file FILE",
        ));
    };
    let vault = Vault::open(Some(file)).map_err(Failure::environment)?;
    Ok((config.state, vault))
}
