//! The private Postgres cluster that Retrace starts itself when no `DATABASE_URL` is given.
//!
//! Several processes of one machine share it. Everyone who uses it holds a shared file lock, which the
//! kernel releases when a process dies. The first one starts the server, later ones attach, and the
//! last one to leave stops it, whoever started it. When all users were killed the server goes on alone;
//! the next start finds it, attaches, and stops it at its end. A server that was killed itself is
//! started again by whoever uses it, or by the next start, and recovers from the write-ahead log.
//!
//! The server listens on a unix socket only, in a folder that one user may enter. Postgres refuses to
//! run as root: a service started by root runs it as user 65534 (`nobody`). When that user cannot reach
//! the folders asked for (a checkout under a closed home, say), binaries and data go below
//! [`ClusterOptions::system`], and a file `ELSEWHERE` in the data folder says where.

mod locks;
mod place;
mod postmaster;
mod supervision;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use self::locks::{Locks, UserLock};
use self::place::Place;
use self::postmaster::Watched;
use self::supervision::Supervision;
use crate::LedgerError;
use crate::blocking::blocking;

/// The login that owns the ledger's databases and migrates them. Not a superuser.
const OWNER: &str = "retrace_owner";
/// Longest name of a database that Postgres does not cut (`NAMEDATALEN` - 1).
const DATABASE_NAME_BYTES_MAX: usize = 63;

/// Where a private cluster comes from and where it lives.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Folder with Postgres in `bin`, `lib` and `share` (`.runtime/postgres`). Whoever can write here
    /// runs code as the database user.
    pub binaries: PathBuf,
    /// Folder for data, locks and log (`<state>/postgres`). Whoever can write here can rewrite the
    /// database; the checkpoint store and the auditors' copies are what shows it.
    pub data: PathBuf,
    /// Where a service started by root keeps what the unprivileged user must reach and the two folders
    /// above do not let it reach. Unused otherwise.
    pub system: PathBuf,
}

impl ClusterOptions {
    /// A cluster with `/var/lib/retrace` as its system folder.
    pub fn new(binaries: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Self {
        Self {
            binaries: binaries.into(),
            data: data.into(),
            system: PathBuf::from("/var/lib/retrace"),
        }
    }
}

/// A running private cluster that this process uses. Leaving it (by [`stop`](Self::stop) or by dropping
/// it) stops the server if nobody else uses it.
#[derive(Debug)]
pub struct PrivateCluster {
    place: Place,
    locks: Locks,
    user: Option<UserLock>,
    supervision: Supervision,
    // Kept for its thread's sake: in a mutex because a channel's receiver is not `Sync`.
    _watched: Option<Mutex<Watched>>,
}

impl PrivateCluster {
    /// The database that every private cluster has.
    pub const DATABASE: &'static str = "retrace";

    /// Attaches to the running cluster of this data folder, or makes and starts it.
    ///
    /// # Errors
    /// Missing native parts, unreachable folders, a full disk, and what `initdb` or the server said.
    pub async fn start_or_attach(options: &ClusterOptions) -> Result<Self, LedgerError> {
        let options = options.clone();
        let runtime = tokio::runtime::Handle::current();
        let cluster = blocking(move || {
            let place = place::choose(&options)?;
            let locks = Locks::in_folder(&place.home);
            let door = locks.enter()?;
            let user = locks.join(&door)?;
            let watched = if runtime.block_on(is_answering(&place)) {
                None
            } else {
                postmaster::make_cluster(&place)?;
                let watched = postmaster::start(&place)?;
                runtime.block_on(wait_until_ready(&place, &watched))?;
                Some(Mutex::new(watched))
            };
            runtime.block_on(prepare(&place.socket))?;
            Ok(Self {
                supervision: Supervision::start(place.clone()),
                place,
                locks,
                user: Some(user),
                _watched: watched,
            })
        })
        .await?;
        Ok(cluster)
    }

    /// The address of a database for [`Ledger::connect`](crate::Ledger::connect).
    pub fn database_url(&self, name: &str) -> String {
        self.url(OWNER, name)
    }

    /// The address of a database for its superuser, who can break everything: for tests and repair.
    pub fn superuser_url(&self, name: &str) -> String {
        self.url(postmaster::SUPERUSER, name)
    }

    /// Makes an empty database unless it exists.
    ///
    /// # Errors
    /// Refuses names that are not 1 to 63 lower-case letters, digits and underscores.
    pub async fn create_database(&self, name: &str) -> Result<(), LedgerError> {
        create_database(&self.place.socket, name).await
    }

    /// Removes a database with everything in it, and cuts its connections.
    ///
    /// # Errors
    /// Refuses names as [`create_database`](Self::create_database) does.
    pub async fn drop_database(&self, name: &str) -> Result<(), LedgerError> {
        check_database_name(name)?;
        let mut connection = connect(&self.place.socket, SUPERUSER_DATABASE).await?;
        let statement = format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)");
        connection.execute(AssertSqlSafe(statement)).await?;
        Ok(())
    }

    /// Leaves the cluster and stops it if nobody else uses it.
    ///
    /// # Errors
    /// When the lock files cannot be opened.
    pub async fn stop(mut self) -> Result<(), LedgerError> {
        blocking(move || self.leave()).await
    }

    /// The folder that holds the data, the locks and the server's log.
    pub fn home(&self) -> &Path {
        &self.place.home
    }

    fn url(&self, user: &str, database: &str) -> String {
        let socket: String = self.place.socket.to_string_lossy().into_owned();
        let mut escaped = String::new();
        for byte in socket.bytes() {
            if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
                escaped.push(char::from(byte));
            } else {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        }
        format!("postgres://{user}@localhost:5432/{database}?host={escaped}&sslmode=disable")
    }

    fn leave(&mut self) -> Result<(), LedgerError> {
        let Some(user) = self.user.take() else {
            return Ok(());
        };
        self.supervision.stop();
        let door = self.locks.enter()?;
        if user.is_last(&door) {
            postmaster::stop(&self.place);
            if !self.place.socket.starts_with(&self.place.home) {
                // Only an empty folder goes; a server that is slow to stop keeps its socket.
                let _ = std::fs::remove_dir(&self.place.socket);
            }
        }
        Ok(())
    }
}

impl Drop for PrivateCluster {
    fn drop(&mut self) {
        // Blocks for the tenth of a second of a shutdown; `stop` is the way that does not.
        if let Err(error) = self.leave() {
            tracing::warn!(%error, "could not leave the private cluster in order");
        }
    }
}

/// The database that exists before any other.
const SUPERUSER_DATABASE: &str = "postgres";

async fn connect(socket: &Path, database: &str) -> Result<PgConnection, sqlx::Error> {
    let options = PgConnectOptions::new_without_pgpass()
        .socket(socket)
        .port(5432)
        .username(postmaster::SUPERUSER)
        .database(database)
        .ssl_mode(PgSslMode::Disable);
    PgConnection::connect_with(&options).await
}

/// Whether a running server answers. One that replays its log or is about to stop is waited for.
async fn is_answering(place: &Place) -> bool {
    let deadline = Instant::now() + postmaster::START_TIMEOUT;
    loop {
        if connect(&place.socket, SUPERUSER_DATABASE).await.is_ok() {
            return true;
        }
        if !postmaster::is_running(place) || Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(postmaster::LOOK_INTERVAL).await;
    }
}

async fn wait_until_ready(place: &Place, watched: &Watched) -> Result<(), LedgerError> {
    let deadline = Instant::now() + postmaster::START_TIMEOUT;
    while connect(&place.socket, SUPERUSER_DATABASE).await.is_err() {
        if watched.exit_status().is_some() {
            return Err(postmaster::start_failure(place));
        }
        if Instant::now() > deadline {
            postmaster::stop(place);
            return Err(postmaster::start_failure(place));
        }
        tokio::time::sleep(postmaster::LOOK_INTERVAL).await;
    }
    Ok(())
}

/// Makes the owner and the database of the ledger. Runs behind the door, and again after a crash.
async fn prepare(socket: &Path) -> Result<(), LedgerError> {
    let mut connection = connect(socket, SUPERUSER_DATABASE).await?;
    let (exists,): (bool,) =
        sqlx::query_as("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
            .bind(OWNER)
            .fetch_one(&mut connection)
            .await?;
    if !exists {
        let statement = format!("CREATE ROLE {OWNER} LOGIN CREATEROLE CREATEDB");
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    create_database(socket, PrivateCluster::DATABASE).await
}

async fn create_database(socket: &Path, name: &str) -> Result<(), LedgerError> {
    check_database_name(name)?;
    let mut connection = connect(socket, SUPERUSER_DATABASE).await?;
    let (exists,): (bool,) =
        sqlx::query_as("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
    if exists {
        return Ok(());
    }
    let statement = format!("CREATE DATABASE \"{name}\" OWNER {OWNER}");
    connection.execute(AssertSqlSafe(statement)).await?;
    Ok(())
}

fn check_database_name(name: &str) -> Result<(), LedgerError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name.len() > DATABASE_NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(LedgerError::DatabaseName {
            bytes_max: DATABASE_NAME_BYTES_MAX,
        });
    }
    Ok(())
}
