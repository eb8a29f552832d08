//! `retrace key`

mod changes;
mod secrets;

use std::future::Future;
use std::path::PathBuf;

use api::config::EngineOptions;
use api::credential_keys::{CredentialKeys, ROOTS_PUBLIC_FILE};
use api::keys::Vault;
use api::startup::Storage;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use ledger::{ClientId, ClientKey, Ledger, LedgerError, Scope};
use serde_json::{Value, json};

use super::Outcome;
use super::environment::{CredentialArgs, StateArgs};
use super::failure::Failure;
use super::output::{hand_over, say, tell};

const EXAMPLES: &str = "\
Examples:
  retrace key client newsroom --scope generate --scope score
  retrace key list
  retrace key revoke 3
  retrace key rotate
  retrace key rotate --checkpoint --transition-days 30
  retrace key show > retrace.pub
  retrace key dev-ca --operator Newsroom
  retrace key wrap --key-passphrase-file /media/stick/passphrase

A client's key is shown once and kept only as a hash. As soon as one valid key exists, the service
asks every caller for one; without any, it listens on loopback addresses only.";

/// For how long auditors who check once a month need not know of a new checkpoint key.
const TRANSITION_DAYS_DEFAULT: u32 = 30;
/// Ten years: a transition without an end would be no change of keys.
const TRANSITION_DAYS_MAX: i64 = 3_650;

/// Arguments of `retrace key`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub struct Key {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key for a new client and print it once
    #[command(after_help = EXAMPLES)]
    Client {
        /// Name of the client, as it will stand in its entries
        name: String,
        /// What the key allows; several times for several
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<ScopeName>,
        #[command(flatten)]
        shared: Shared,
    },
    /// List all keys, revoked ones too
    #[command(after_help = EXAMPLES)]
    List {
        #[command(flatten)]
        shared: Shared,
    },
    /// Make a client's key invalid from now on; or take back what an earlier entry key or checkpoint key signed,
    /// which an entry of the log says for good
    #[command(after_help = changes::EXAMPLES)]
    Revoke {
        /// Number of a client's key, as `retrace key list` shows it; or fingerprint or name of an earlier key of
        /// the log, as `retrace key show` does
        key: String,
        /// Why a key of the log is revoked, in a few words: it stands in the log for everybody to read
        #[arg(long, value_name = "WORDS")]
        reason: Option<String>,
        /// The first entry that is not to be believed, or that no checkpoint of the key may cover, by its number
        /// or by a time such as 2026-11-28T02:00:00Z [default: nothing that the key has signed alone]
        #[arg(long, value_name = "ENTRY|TIME", requires = "reason")]
        since: Option<String>,
        #[command(flatten)]
        shared: Shared,
    },
    /// Make another entry key: the log records that it follows, and the old one signs nothing more. Stop the
    /// service before, and start it again after. With --checkpoint another checkpoint key, under a service that
    /// goes on: for a time checkpoints carry the signatures of both
    #[command(after_help = changes::EXAMPLES)]
    Rotate {
        /// Make another checkpoint key instead; the service may run
        #[arg(long)]
        checkpoint: bool,
        /// For how many days the old checkpoint key signs beside the new one, for auditors and witnesses that
        /// pinned it; 0 ends it at once
        #[arg(long, value_name = "DAYS", requires = "checkpoint", default_value_t = TRANSITION_DAYS_DEFAULT,
              value_parser = clap::value_parser!(u32).range(..=TRANSITION_DAYS_MAX))]
        transition_days: u32,
        #[command(flatten)]
        shared: Shared,
    },
    /// Make a certificate chain of our own that signs the files made here: root and signing
    /// certificate, Ed25519, valid for ten years. The first start of the service makes one by itself
    #[command(after_help = EXAMPLES)]
    DevCa {
        /// Make a new chain where there is one; files signed before stay as they are
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        credentials: CredentialArgs,
        #[command(flatten)]
        shared: Shared,
    },
    /// Wrap the secrets in keys/ of the state folder under a passphrase: from then on every start needs it
    #[command(after_help = secrets::EXAMPLES)]
    Wrap {
        /// File with the passphrase under which they lie now, to change it; --key-passphrase-file names the
        /// new one
        #[arg(long, value_name = "FILE")]
        old_passphrase_file: Option<PathBuf>,
        #[command(flatten)]
        shared: Shared,
    },
    /// Leave the secrets in keys/ of the state folder to the permissions of their files again
    #[command(after_help = secrets::EXAMPLES)]
    Unwrap {
        #[command(flatten)]
        shared: Shared,
    },
    /// Print the public keys that auditors need (the file retrace.pub), and on standard error their
    /// fingerprints and which entries each signs
    #[command(after_help = EXAMPLES)]
    Show {
        #[command(flatten)]
        shared: Shared,
    },
}

#[derive(Debug, Args)]
struct Shared {
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// The scopes, as the command line spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScopeName {
    /// Generate images
    Generate,
    /// Score images
    Score,
    /// Read entries, images and proofs
    Audit,
    /// Everything
    Admin,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Scope {
        match name {
            ScopeName::Generate => Scope::Generate,
            ScopeName::Score => Scope::Score,
            ScopeName::Audit => Scope::Audit,
            ScopeName::Admin => Scope::Admin,
        }
    }
}

impl Key {
    /// Runs the subcommand.
    pub fn run(self) -> Outcome {
        match self.command {
            KeyCommand::Client {
                name,
                scopes,
                shared,
            } => create(&name, &scopes, &shared),
            KeyCommand::List { shared } => list(&shared),
            KeyCommand::Revoke {
                key,
                reason,
                since,
                shared,
            } => match (key.parse(), reason) {
                (Ok(id), None) => revoke(ClientId::new(id), &shared),
                (Ok(_), Some(_)) => Err(Failure::usage(
                    "a client's key is revoked by its number alone, without --reason",
                )),
                (Err(_), Some(reason)) => changes::revoke(key, reason, since.as_deref(), &shared),
                (Err(_), None) => Err(Failure::usage("say why the key is revoked, with --reason")),
            },
            KeyCommand::Rotate {
                checkpoint: false,
                shared,
                ..
            } => changes::rotate(&shared),
            KeyCommand::Rotate {
                transition_days,
                shared,
                ..
            } => changes::rotate_checkpoint(transition_days, &shared),
            KeyCommand::DevCa {
                replace,
                credentials,
                shared,
            } => dev_ca(replace, &credentials, &shared),
            KeyCommand::Wrap {
                old_passphrase_file,
                shared,
            } => secrets::wrap(old_passphrase_file.as_deref(), &shared),
            KeyCommand::Unwrap { shared } => secrets::unwrap(&shared),
            KeyCommand::Show { shared } => changes::show(&shared),
        }
    }
}

fn create(name: &str, scopes: &[ScopeName], shared: &Shared) -> Outcome {
    let mut scopes: Vec<Scope> = scopes.iter().map(|scope| Scope::from(*scope)).collect();
    scopes.sort_unstable();
    scopes.dedup();
    let asked = scopes.clone();
    let name_asked = name.to_owned();
    let (id, key) = with_ledger(shared, |ledger| async move {
        ledger.create_client(&name_asked, &asked).await
    })?;
    let scopes: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    if shared.json {
        let report = json!({ "id": id.get(), "name": name, "scopes": scopes, "key": key });
        return hand_over(report);
    }
    // The key alone on standard output, so that a script can take it.
    tell(format_args!(
        "Key {id} of {name}, for: {}. It is shown this once:",
        scopes.join(", ")
    ));
    hand_over(key)
}

fn list(shared: &Shared) -> Outcome {
    let keys = with_ledger(shared, |ledger| async move { ledger.list_clients().await })?;
    if shared.json {
        for key in &keys {
            say(format_args!("{}", describe(key)))?;
        }
        return Ok(());
    }
    if keys.is_empty() {
        say(format_args!(
            "No keys: the service serves this machine alone."
        ))?;
        return Ok(());
    }
    say(format_args!(
        "{:>4}  {:24}  {:28}  {:22}  revoked",
        "id", "client", "scopes", "last used"
    ))?;
    for key in &keys {
        say(format_args!(
            "{:>4}  {:24}  {:28}  {:22}  {}",
            key.client.id.get(),
            key.client.name,
            scope_words(key).join(" "),
            key.last_used_at_ms.map_or_else(|| "never".to_owned(), time),
            key.revoked_at_ms.map_or_else(String::new, time),
        ))?;
    }
    Ok(())
}

fn revoke(id: ClientId, shared: &Shared) -> Outcome {
    with_ledger(
        shared,
        |ledger| async move { ledger.revoke_client(id).await },
    )?;
    if shared.json {
        say(format_args!(
            "{}",
            json!({ "id": id.get(), "revoked": true })
        ))?;
    } else {
        say(format_args!("Key {id} is revoked."))?;
    }
    Ok(())
}

/// Makes the chain that signs files; it needs no database.
fn dev_ca(replace: bool, credentials: &CredentialArgs, shared: &Shared) -> Outcome {
    let config = credentials.add_to(shared.state.config(EngineOptions::default()));
    let (state, options) = (&config.state, &config.credentials);
    if options.own_files().is_some() {
        return Err(Failure::usage(
            "a chain is made for a service without one: leave out --credential-chain and \
             --credential-key",
        ));
    }
    if !replace && CredentialKeys::exist(state, options) {
        return Err(Failure::does_not_hold(
            "there is a certificate chain already; --replace makes a new one",
        ));
    }
    std::fs::create_dir_all(state).map_err(Failure::environment)?;
    let now_s = Timestamp::now().as_second();
    let vault = Vault::open(config.signing.key_passphrase_file.as_deref());
    let vault = vault.map_err(Failure::environment)?;
    let keys = CredentialKeys::replace(state, options, now_s, &vault);
    let keys = keys.map_err(Failure::environment)?;
    let chain = keys.signer.chain();
    let root = state.join(ROOTS_PUBLIC_FILE);
    let valid_until = time(chain.valid_until_s().saturating_mul(1_000));
    if shared.json {
        let report = json!({
            "signer": chain.subject(),
            "issuer": chain.issuer(),
            "valid_until": valid_until,
            "root_path": root,
        });
        say(format_args!("{report}"))?;
    } else {
        say(format_args!("signer       {}", chain.subject()))?;
        say(format_args!("issuer       {}", chain.issuer()))?;
        say(format_args!("valid until  {valid_until}"))?;
        say(format_args!("root         {}", root.display()))?;
        tell(format_args!(
            "Nobody else trusts this root unless they take that file as a trust anchor."
        ));
    }
    Ok(())
}

/// Opens the ledger, runs one action on it and closes it again.
fn with_ledger<T, F: Future<Output = Result<T, LedgerError>>>(
    shared: &Shared,
    action: impl FnOnce(Ledger) -> F,
) -> Result<T, Failure> {
    let config = shared.state.config(EngineOptions::default());
    super::async_runtime()?.block_on(async {
        let storage = Storage::open(&config).await?;
        let result = action(storage.ledger.clone()).await;
        storage.close().await?;
        result.map_err(|error| match error {
            LedgerError::NoSuchClient => Failure::does_not_hold(error),
            LedgerError::ClientName { .. } | LedgerError::ClientNameTaken => Failure::usage(error),
            error => Failure::environment(error),
        })
    })
}

fn describe(key: &ClientKey) -> Value {
    json!({
        "id": key.client.id.get(),
        "name": key.client.name,
        "scopes": scope_words(key),
        "created_at": time(key.created_at_ms),
        "last_used_at": key.last_used_at_ms.map(time),
        "revoked_at": key.revoked_at_ms.map(time),
    })
}

fn scope_words(key: &ClientKey) -> Vec<&'static str> {
    key.client
        .scopes
        .iter()
        .map(|scope| scope.as_str())
        .collect()
}

/// Milliseconds since 1970 as UTC, to the second.
fn time(ms: i64) -> String {
    let seconds = Timestamp::from_second(ms.div_euclid(1_000));
    seconds.map_or_else(|_| ms.to_string(), |time| time.to_string())
}
