//! Backup and restore: every row of every table in one folder, and the way back into an empty database.
//!
//! The rows travel by `COPY`, so no program of Postgres is needed and the versions may differ. They are
//! read in one snapshot. `backup.json` names all files with their digests and is written last: a folder
//! without it is no backup. What a superuser could have changed in the database he could change in the
//! folder too; what shows that is [`Ledger::check`], which restoring ends with.
//!
//! The lease of the sequencer is not in it, and neither are the signing keys, the images and the
//! checkpoint store, which lie outside the database.

mod tables;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use provenance::{Digest, SignedCheckpoint, TreeSize};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use self::tables::Table;
use crate::connect::{self, Ledger, LedgerOptions};
use crate::{CheckReport, LedgerError};

/// The name and version of the format.
const FORMAT: &str = "retrace-backup@v1";
/// The file that names all others.
const MANIFEST: &str = "backup.json";
/// Longest manifest: a few tables and a checkpoint.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a file that are held at a time.
const CHUNK_BYTES: usize = 1 << 16;

/// Fills a column that older backups lack out of the envelopes, as the migration that added it did.
const FILL_PROMPT_COMMITMENTS: &str = "
    ALTER TABLE entries ALTER COLUMN prompt_commitment TYPE bytea USING CASE WHEN kind = 'generation' THEN
        decode(
            convert_from(decode(convert_from(envelope, 'UTF8')::jsonb ->> 'payload', 'base64'), 'UTF8')::jsonb
                #>> '{body,prompt_commitment}',
            'hex'
        )
    END";

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    format: String,
    /// The log's public keys, as the public key file has them.
    public_keys: String,
    /// Number of recorded entries.
    pub entries: TreeSize,
    /// The newest checkpoint, a signed note; none before the first.
    pub checkpoint: Option<String>,
    /// The tables.
    pub tables: Vec<BackupTable>,
}

/// One table of a backup, in the file `<name>.copy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupTable {
    /// Its name.
    pub name: String,
    /// Its columns, in the order of the file.
    pub columns: Vec<String>,
    /// Length of the file.
    pub bytes: u64,
    /// Digest of the file.
    pub sha256: Digest,
}

impl BackupTable {
    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.copy", self.name))
    }

    fn table(&self) -> Table {
        Table {
            name: self.name.clone(),
            columns: self.columns.clone(),
        }
    }
}

impl Ledger {
    /// Writes everything that the database holds into a new folder, in one snapshot.
    ///
    /// # Errors
    /// Refuses a folder that is there already. When the database or the disk fails; what was written
    /// before is no backup, as its manifest is missing.
    pub async fn backup(&self, folder: &Path) -> Result<Backup, LedgerError> {
        DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .map_err(|source| LedgerError::io("make", folder, source))?;
        let mut transaction = self.pool.begin().await?;
        sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .execute(&mut *transaction)
            .await?;
        let (entries,): (i64,) = sqlx::query_as("SELECT count(*) FROM entries")
            .fetch_one(&mut *transaction)
            .await?;
        let note: Option<(String,)> =
            sqlx::query_as("SELECT note FROM checkpoints ORDER BY tree_size DESC LIMIT 1")
                .fetch_optional(&mut *transaction)
                .await?;
        let mut written = Vec::new();
        for table in tables::of(&mut transaction).await? {
            written.push(copy_out(&mut transaction, table, folder).await?);
        }
        transaction.commit().await?;
        let backup = Backup {
            format: FORMAT.to_owned(),
            public_keys: self.options.public_keys.to_string(),
            entries: crate::entries::tree_size_of(entries)?,
            checkpoint: note.map(|(note,)| note),
            tables: written,
        };
        // A crash before this leaves a folder without a manifest, which nobody restores.
        let text = serde_json::to_vec_pretty(&backup)
            .expect("the parts of a manifest are texts and numbers");
        let path = folder.join(MANIFEST);
        let failed = |source| LedgerError::io("write", &path, source);
        let mut file = create(&path)?;
        file.write_all(&text).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| LedgerError::io("make durable", folder, source))?;
        Ok(backup)
    }
}

/// Brings a backup into an empty database, in one transaction, and verifies the whole ledger anew:
/// against the checkpoint of the backup and against those that were kept elsewhere, above all the
/// checkpoint store's. The database is migrated first.
///
/// # Errors
/// Refuses a folder that is not a whole backup of this log, and a database that holds anything. What
/// is wrong with the restored ledger is in the report.
pub async fn restore(
    options: &LedgerOptions,
    folder: &Path,
    kept: &[SignedCheckpoint],
) -> Result<(Backup, CheckReport), LedgerError> {
    let backup = read(folder, options)?;
    // Migrates, and checks that the database keeps what it confirms.
    let ledger = Ledger::connect(options).await?;
    let restored = restore_into(options, &backup, folder).await;
    if let Err(error) = restored {
        ledger.close().await;
        return Err(error);
    }
    let mut checkpoints = kept.to_vec();
    if let Some(note) = &backup.checkpoint {
        // The check verifies it, under the keys that the restored log names.
        checkpoints.push(SignedCheckpoint::parse(note)?);
    }
    let report = ledger.check_against(&checkpoints).await;
    ledger.close().await;
    Ok((backup, report?))
}

async fn restore_into(
    options: &LedgerOptions,
    backup: &Backup,
    folder: &Path,
) -> Result<(), LedgerError> {
    let mut connection = connect::as_owner(options).await?;
    let mut transaction = connection.begin().await?;
    let known = tables::of(&mut transaction).await?;
    for table in &backup.tables {
        let is_known = known.iter().any(|known| {
            let mut columns = table.columns.iter();
            known.name == table.name && columns.all(|column| known.columns.contains(column))
        });
        if !is_known {
            let detail = format!("this version has no table {} with its columns", table.name);
            return Err(refused(folder, detail));
        }
        tables::require_empty(&mut transaction, &table.table()).await?;
    }
    // In the order in which rows may refer to others.
    for table in &known {
        if let Some(table) = backup.tables.iter().find(|kept| kept.name == table.name) {
            copy_in(&mut transaction, table, folder).await?;
            tables::continue_identities(&mut transaction, &table.table()).await?;
        }
    }
    let is_old = |table: &BackupTable| {
        let mut columns = table.columns.iter();
        table.name == "entries" && columns.all(|column| column != "prompt_commitment")
    };
    if backup.tables.iter().any(is_old) {
        sqlx::raw_sql(FILL_PROMPT_COMMITMENTS)
            .execute(&mut *transaction)
            .await?;
    }
    // A crash before the commit leaves an empty database.
    transaction.commit().await?;
    connection.close().await?;
    Ok(())
}

/// Reads and checks the manifest, and every file against it, before any row is written.
fn read(folder: &Path, options: &LedgerOptions) -> Result<Backup, LedgerError> {
    let path = folder.join(MANIFEST);
    let mut text = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MANIFEST_BYTES_MAX).read_to_end(&mut text))
        .map_err(|source| LedgerError::io("read", &path, source))?;
    let backup: Backup =
        serde_json::from_slice(&text).map_err(|error| refused(folder, error.to_string()))?;
    if backup.format != FORMAT {
        return Err(refused(
            folder,
            format!("its format is {:?}", backup.format),
        ));
    }
    if backup.public_keys != options.public_keys.to_string() {
        let detail = "it is of another log, or the signing keys were not brought back first";
        return Err(refused(folder, detail));
    }
    for table in &backup.tables {
        let path = table.path(folder);
        let mut hasher = Sha256::new();
        let mut bytes = 0;
        each_chunk(&path, |chunk| {
            hasher.update(chunk);
            bytes += chunk.len() as u64;
        })?;
        if (bytes, Digest::from_bytes(hasher.finalize().into())) != (table.bytes, table.sha256) {
            return Err(refused(folder, format!("{} was changed", path.display())));
        }
    }
    Ok(backup)
}

fn refused(folder: &Path, detail: impl Into<String>) -> LedgerError {
    LedgerError::BackupRefused {
        folder: folder.to_owned(),
        detail: detail.into(),
    }
}

fn create(path: &Path) -> Result<File, LedgerError> {
    // Prompts and hashes of keys stand in these files.
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| LedgerError::io("make", path, source))
}

fn each_chunk(path: &Path, mut take: impl FnMut(&[u8])) -> Result<(), LedgerError> {
    let failed = |source| LedgerError::io("read", path, source);
    let mut file = File::open(path).map_err(failed)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk).map_err(failed)? {
            0 => return Ok(()),
            read => take(&chunk[..read]),
        }
    }
}

async fn copy_out(
    connection: &mut PgConnection,
    table: Table,
    folder: &Path,
) -> Result<BackupTable, LedgerError> {
    let mut written = BackupTable {
        name: table.name.clone(),
        columns: table.columns.clone(),
        bytes: 0,
        sha256: Digest::of(b""),
    };
    let path = written.path(folder);
    let failed = |source| LedgerError::io("write", &path, source);
    let mut file = create(&path)?;
    let mut hasher = Sha256::new();
    let statement = format!("COPY {} TO STDOUT (FORMAT binary)", table.quoted());
    let mut rows = connection.copy_out_raw(&statement).await?;
    while let Some(bytes) = rows.try_next().await? {
        hasher.update(&bytes);
        written.bytes += bytes.len() as u64;
        file.write_all(&bytes).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;
    written.sha256 = Digest::from_bytes(hasher.finalize().into());
    Ok(written)
}

async fn copy_in(
    connection: &mut PgConnection,
    table: &BackupTable,
    folder: &Path,
) -> Result<(), LedgerError> {
    let path = table.path(folder);
    let failed = |source| LedgerError::io("read", &path, source);
    let mut file = File::open(&path).map_err(failed)?;
    let statement = format!("COPY {} FROM STDIN (FORMAT binary)", table.table().quoted());
    let mut rows = connection.copy_in_raw(&statement).await?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(source) => {
                rows.abort("the file cannot be read").await?;
                return Err(failed(source));
            }
        };
        rows.send(&chunk[..read]).await?;
    }
    rows.finish().await?;
    Ok(())
}

/// A statement made of names that the database itself gave.
fn statement(text: String) -> AssertSqlSafe<String> {
    AssertSqlSafe(text)
}
