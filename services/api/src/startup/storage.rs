//! Keys, Postgres and ledger.

use std::fs;
use std::path::{Path, PathBuf};

use ledger::cluster::{ClusterOptions, PrivateCluster};
use ledger::sequencer::CheckpointStore;
use ledger::{Backup, CheckReport, Ledger, LedgerError, LedgerOptions};

use super::StartupError;
use crate::config::{Config, Role};
use crate::keys::{KeyPlace, Keys, Vault, write_public};
use crate::native;
use crate::signer::SignerClient;
use crate::work::now_ms;
use crate::{checkpoint_stamps, cosigning};
use provenance::CheckpointSigner;

/// Folder of the private cluster inside the native parts.
const POSTGRES_PARTS: &str = "postgres";
/// Folder of the last signed checkpoint inside the state folder.
pub const CHECKPOINT_STORE: &str = "checkpoint-store";

/// What is kept: the signing keys and the ledger. Enough for commands without models.
#[derive(Debug)]
pub struct Storage {
    /// The service's signing keys.
    pub keys: Keys,
    /// The ledger.
    pub ledger: Ledger,
    /// The private cluster, where one is used.
    pub cluster: Option<PrivateCluster>,
    /// What opens the service's secrets.
    pub vault: Vault,
}

impl Storage {
    /// Opens the keys and connects to the ledger, starting the private cluster where no database
    /// is configured.
    ///
    /// # Errors
    /// See [`StartupError`].
    pub async fn open(config: &Config) -> Result<Self, StartupError> {
        let state = make_state_folder(config)?;
        let vault = Vault::open(config.signing.key_passphrase_file.as_deref())?;
        let makes_keys = config.role != Role::Worker;
        let mut keys = open_keys(config, &state, &vault, makes_keys).await?;
        if keys.created {
            tracing::info!(folder = %state.join("keys").display(), "made signing keys; back them up");
        }
        let (database_url, cluster) = database(config, &state).await?;
        let mut options = LedgerOptions::new(database_url, keys.public.clone());
        options.connections_max = config.database_connections_max;
        options.time_stamps = Some(checkpoint_stamps::verify);
        if let Some(path) = &config.witnesses.witness_policy {
            let mut log = vec![keys.public.checkpoint.clone(), keys.checkpoint.verifier()];
            log.extend(
                keys.other_checkpoints
                    .iter()
                    .map(CheckpointSigner::verifier),
            );
            let read = cosigning::read_policy(path, &log);
            options.witnesses = read.map_err(|source| StartupError::WitnessPolicy {
                path: path.clone(),
                source,
            })?;
        }
        let ledger = Ledger::connect(&options).await?;
        // The database is not trusted with signatures, so reading checkpoint and keys verifies them.
        let foreign = |error| match error {
            source @ LedgerError::Provenance(_) => StartupError::ForeignLog {
                keys: state.join("keys"),
                source,
            },
            other => other.into(),
        };
        ledger.published_checkpoint().await.map_err(foreign)?;
        let history = ledger.key_history().await.map_err(foreign)?;
        let place = KeyPlace {
            state: &state,
            vault: &vault,
            now_ms: now_ms(),
        };
        keys.settle(place, &history)?;
        write_public(&state, &ledger.key_file().await?)?;
        Ok(Self {
            keys,
            ledger,
            cluster,
            vault,
        })
    }

    /// Closes the connections and leaves the private cluster.
    ///
    /// # Errors
    /// When the cluster cannot be left in order.
    pub async fn close(self) -> Result<(), StartupError> {
        close(self.ledger, self.cluster).await
    }
}

/// Brings a backup into the empty database of a state folder, and verifies the whole ledger against the
/// checkpoint store, where there is one.
///
/// # Errors
/// See [`StartupError`]. The signing keys must be there: a log under new keys is another log.
pub async fn restore(
    config: &Config,
    backup: &Path,
) -> Result<(Backup, CheckReport), StartupError> {
    let state = make_state_folder(config)?;
    let vault = Vault::open(config.signing.key_passphrase_file.as_deref())?;
    let keys = open_keys(config, &state, &vault, false).await?;
    let store = CheckpointStore::new(state.join(CHECKPOINT_STORE));
    let kept: Vec<_> = store.read().await?.into_iter().collect();
    let (database_url, cluster) = database(config, &state).await?;
    let mut options = LedgerOptions::new(database_url, keys.public);
    options.time_stamps = Some(checkpoint_stamps::verify);
    let restored = ledger::restore(&options, backup, &kept).await;
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    Ok(restored?)
}

/// Opens the keys: those of the signer where one is configured, else those of the state folder, which are made
/// only where that is wanted.
async fn open_keys(
    config: &Config,
    state: &Path,
    vault: &Vault,
    makes_keys: bool,
) -> Result<Keys, StartupError> {
    if let Some(client) = SignerClient::of(&config.signer) {
        let (state, origin) = (state.to_owned(), config.origin.clone());
        let asked = tokio::task::spawn_blocking(move || Keys::held_by(&state, &origin, &client));
        return Ok(asked.await.map_err(|_| StartupError::Interrupted)??);
    }
    if !makes_keys && !Keys::exist(state) {
        let folder = state.join("keys");
        return Err(StartupError::NoKeys { folder });
    }
    Ok(Keys::open(state, &config.origin, vault)?)
}

/// The database's address, and the private cluster where none is configured.
async fn database(
    config: &Config,
    state: &Path,
) -> Result<(String, Option<PrivateCluster>), StartupError> {
    if let Some(url) = &config.database_url {
        return Ok((url.clone(), None));
    }
    let binaries = native::runtime_folder(&config.engine)?.join(POSTGRES_PARTS);
    let options = ClusterOptions::new(binaries, state.join("postgres"));
    let cluster = PrivateCluster::start_or_attach(&options).await?;
    let url = cluster.database_url(PrivateCluster::DATABASE);
    Ok((url, Some(cluster)))
}

pub(super) async fn close(
    ledger: Ledger,
    cluster: Option<PrivateCluster>,
) -> Result<(), StartupError> {
    ledger.close().await;
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    Ok(())
}

/// Makes the state folder; its absolute path.
fn make_state_folder(config: &Config) -> Result<PathBuf, StartupError> {
    let unusable = |source| StartupError::State {
        path: config.state.clone(),
        source,
    };
    fs::create_dir_all(&config.state).map_err(unusable)?;
    config.state.canonicalize().map_err(unusable)
}
