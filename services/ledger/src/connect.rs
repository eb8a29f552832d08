//! Connecting: migrations, the role of the service, and the settings without which nothing is safe.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use provenance::{PublicKeys, WitnessPolicy};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use crate::LedgerError;
use crate::append::intake::Intake;
use crate::heads::Heads;
use crate::near::Near;
use crate::publication::Publications;
use crate::time_stamps::TimeStampCheck;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// The role that the service works as.
const ROLE: &str = "retrace_app";
/// Postgres 14 is the oldest that is still looked after.
const VERSION_NUM_MIN: i32 = 140_000;
/// Four listeners and the sequencer take one connection each; appending and reading need more.
const CONNECTIONS_MIN: u32 = 7;

/// How to reach the ledger, and its limits.
#[derive(Clone, Debug)]
pub struct LedgerOptions {
    /// Address of the database. Whoever controls it can hide entries and refuse new ones, but cannot
    /// make us sign a tree that contradicts an earlier checkpoint.
    pub database_url: String,
    /// Address with the login that owns the tables and migrates them, when that is another login. Not
    /// needed once the database is migrated.
    pub migration_url: Option<String>,
    /// The log's public keys. Whoever can change them decides whose entries the sequencer accepts.
    pub public_keys: PublicKeys,
    /// Whose cosignatures are handed out, and how many an append waits for. Whoever can change them
    /// decides whether anyone else watches the log; a quorum that is never reached stops all appends.
    pub witnesses: WitnessPolicy,
    /// How time stamps of checkpoints are verified before they are kept, and in a check. Where there is none, they
    /// are counted alone.
    pub time_stamps: Option<TimeStampCheck>,
    /// Most connections to the database; at least 7 are used.
    pub connections_max: u32,
    /// How long to wait for a connection before the database counts as down.
    pub connect_timeout: Duration,
    /// How long an append waits for its checkpoint.
    pub append_timeout: Duration,
    /// How often waiting appends look for new checkpoints when no notification comes.
    pub poll_interval: Duration,
    /// Most entries that may wait for the sequencer.
    pub pending_max: u32,
    /// Most entries that one statement of this process queues: they are held in memory until then.
    pub intake_entries_max: u32,
}

impl LedgerOptions {
    /// The defaults: 16 connections, 5 s to connect, 20 s to append (what clients of public logs
    /// allow), 250 ms between looks, 10,000 waiting entries, 512 queued at once.
    pub fn new(database_url: impl Into<String>, public_keys: PublicKeys) -> Self {
        Self {
            database_url: database_url.into(),
            migration_url: None,
            public_keys,
            witnesses: WitnessPolicy::default(),
            time_stamps: None,
            connections_max: 16,
            connect_timeout: Duration::from_secs(5),
            append_timeout: Duration::from_secs(20),
            poll_interval: Duration::from_millis(250),
            pending_max: 10_000,
            intake_entries_max: 512,
        }
    }
}

/// A handle to the ledger. Clones share the connections. It belongs to the tokio runtime that it was
/// connected on, where a task waits for new checkpoints.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(crate) pool: PgPool,
    pub(crate) options: Arc<LedgerOptions>,
    pub(crate) heads: Arc<Heads>,
    pub(crate) publications: Arc<Publications>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) near: Arc<Near>,
}

impl Ledger {
    /// Migrates the database, checks that it keeps what it confirms, and connects.
    ///
    /// # Errors
    /// A database that is down, too old, not durable, migrated by a newer version, or whose login may
    /// not work as the role of the service.
    pub async fn connect(options: &LedgerOptions) -> Result<Self, LedgerError> {
        let service = parse_url(&options.database_url)?;
        let owner = match &options.migration_url {
            Some(url) => parse_url(url)?,
            None => service.clone(),
        };
        migrate(&owner, options.connect_timeout).await?;
        check_role(&service, options.connect_timeout).await?;
        let pool = PgPoolOptions::new()
            .max_connections(options.connections_max.max(CONNECTIONS_MIN))
            .acquire_timeout(options.connect_timeout)
            .after_connect(|connection, _| Box::pin(take_role(connection)))
            .connect_with(service)
            .await?;
        let mut options = options.clone();
        // The sequencer and the check verify every entry.
        options.public_keys.entries = options.public_keys.entries.prepared();
        let options = Arc::new(options);
        let heads = Arc::new(Heads::new(pool.clone(), &options));
        let watched = Publications::watch(pool.clone(), Arc::clone(&heads), &options);
        let publications = Arc::new(watched);
        let intake = Arc::new(Intake::start(pool.clone(), &options));
        let ledger = Self {
            pool,
            options,
            heads,
            publications,
            intake,
            near: Arc::default(),
        };
        ledger.check_durability().await?;
        Ok(ledger)
    }

    /// Closes all connections. Calls on other clones fail from then on.
    pub async fn close(&self) {
        self.intake.stop();
        self.publications.stop();
        self.pool.close().await;
    }

    /// The log's public keys.
    pub fn public_keys(&self) -> &PublicKeys {
        &self.options.public_keys
    }

    /// The witnesses whose cosignatures are handed out.
    pub fn witnesses(&self) -> &WitnessPolicy {
        &self.options.witnesses
    }

    /// Refuses a database that would lose what it confirmed. Settings can change while the service
    /// runs, so the sequencer asks again whenever it takes over.
    pub(crate) async fn check_durability(&self) -> Result<(), LedgerError> {
        let settings = sqlx::query!(
            r#"SELECT name AS "name!", setting AS "value!" FROM pg_settings
               WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off'
               ORDER BY name LIMIT 1"#
        )
        .fetch_optional(&self.pool)
        .await?;
        match settings {
            None => Ok(()),
            Some(row) => Err(LedgerError::NotDurable {
                setting: row.name,
                value: row.value,
            }),
        }
    }
}

async fn take_role(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    // A plan that was kept from when the tables were small would read all of them later.
    sqlx::raw_sql("SET ROLE retrace_app; SET plan_cache_mode = force_custom_plan")
        .execute(connection)
        .await?;
    Ok(())
}

/// A pool keeps trying when a fresh connection fails, so the role is tried once before it is made.
async fn check_role(service: &PgConnectOptions, timeout: Duration) -> Result<(), LedgerError> {
    let mut connection = connect_once(service, timeout).await?;
    take_role(&mut connection)
        .await
        .map_err(|error| match &error {
            sqlx::Error::Database(database) if database.code().as_deref() == Some("42501") => {
                LedgerError::RoleDenied { role: ROLE }
            }
            _ => error.into(),
        })?;
    connection.close().await?;
    Ok(())
}

async fn connect_once(
    options: &PgConnectOptions,
    timeout: Duration,
) -> Result<PgConnection, LedgerError> {
    let connection = tokio::time::timeout(timeout, PgConnection::connect_with(options))
        .await
        .map_err(|_| LedgerError::DatabaseDown {
            source: sqlx::Error::PoolTimedOut,
        })?;
    Ok(connection?)
}

/// A connection of the login that owns the tables.
pub(crate) async fn as_owner(options: &LedgerOptions) -> Result<PgConnection, LedgerError> {
    let url = options
        .migration_url
        .as_deref()
        .unwrap_or(&options.database_url);
    connect_once(&parse_url(url)?, options.connect_timeout).await
}

async fn migrate(owner: &PgConnectOptions, timeout: Duration) -> Result<(), LedgerError> {
    let mut connection = connect_once(owner, timeout).await?;
    let version =
        sqlx::query!(r#"SELECT current_setting('server_version_num')::integer AS "version_num!""#)
            .fetch_one(&mut connection)
            .await?;
    if version.version_num < VERSION_NUM_MIN {
        return Err(LedgerError::TooOld {
            version_num: version.version_num,
            version_num_min: VERSION_NUM_MIN,
        });
    }
    if !is_current(&mut connection).await {
        MIGRATIONS.run(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

/// Whether exactly these migrations were applied. When in doubt it says no: migrating finds the reason.
async fn is_current(connection: &mut PgConnection) -> bool {
    applied_migrations(connection).await.is_ok_and(|applied| {
        let applied = applied
            .iter()
            .map(|(version, checksum)| (*version, &checksum[..]));
        let known = MIGRATIONS.iter();
        applied.eq(known.map(|migration| (migration.version, &migration.checksum[..])))
    })
}

/// Versions and checksums of what was applied; nothing for an empty database.
async fn applied_migrations(
    connection: &mut PgConnection,
) -> Result<Vec<(i64, Vec<u8>)>, sqlx::Error> {
    let (exists,): (bool,) = sqlx::query_as("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(Vec::new());
    }
    sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version")
        .fetch_all(connection)
        .await
}

fn parse_url(url: &str) -> Result<PgConnectOptions, LedgerError> {
    let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    if !is_postgres {
        return Err(LedgerError::DatabaseUrl);
    }
    PgConnectOptions::from_str(url)
        .map(|options| options.disable_statement_logging())
        .map_err(|_| LedgerError::DatabaseUrl)
}
