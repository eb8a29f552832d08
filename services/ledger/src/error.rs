//! The one error of this crate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use provenance::{Digest, LeafIndex, ProvenanceError, SigningFailure, TreeSize};

/// Why the ledger refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Postgres was not brought here yet.
    #[error("native part {} is missing: run `cargo xtask setup`", path.display())]
    MissingNativePart {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// A file or folder refused.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The disk is full.
    #[error("the disk that holds {} is full", path.display())]
    DiskFull {
        /// The folder that could not grow.
        path: PathBuf,
    },
    /// The user that Postgres runs as cannot reach a folder.
    #[error("user {id}, which postgres runs as, cannot reach {}: open the folders above it for passing through (chmod o+x)", path.display())]
    ClosedPlace {
        /// The folder.
        path: PathBuf,
        /// The user.
        id: u32,
    },
    /// A folder that must be private belongs to somebody else or is open to others.
    #[error("folder {} must belong to user {id} with mode 0700", path.display())]
    ForeignFolder {
        /// The folder.
        path: PathBuf,
        /// The user.
        id: u32,
    },
    /// `initdb` failed.
    #[error("initdb failed: {detail}")]
    InitdbFailed {
        /// The last lines that it wrote.
        detail: String,
    },
    /// The private Postgres did not start.
    #[error("the private postgres did not start: {detail}")]
    PostgresFailed {
        /// The last lines of its log.
        detail: String,
    },
    /// The name of a database is not a plain one.
    #[error("a database name has 1 to {bytes_max} lower-case letters, digits and underscores")]
    DatabaseName {
        /// The limit.
        bytes_max: usize,
    },
    /// The address of the database cannot be read. It is not repeated, as it may hold a password.
    #[error("the database address is not a postgres:// address")]
    DatabaseUrl,
    /// The database does not answer.
    #[error("the database is down or does not answer: {source}")]
    DatabaseDown {
        /// What the driver said.
        source: sqlx::Error,
    },
    /// The database's disk is full.
    #[error("the database is full: {source}")]
    DatabaseFull {
        /// What the database said.
        source: sqlx::Error,
    },
    /// The database lacks a table, column or function that this version needs.
    #[error("the database's schema does not fit this version: {source}")]
    SchemaMismatch {
        /// What the database said.
        source: sqlx::Error,
    },
    /// A named constraint was violated.
    #[error("the database refused by its constraint {constraint}")]
    Constraint {
        /// The name of the constraint.
        constraint: String,
        /// What the database said.
        source: sqlx::Error,
    },
    /// Any other failure of the database.
    #[error("the database failed: {0}")]
    Database(#[source] sqlx::Error),
    /// The migrations could not be applied.
    #[error("could not migrate the database: {0}")]
    Migration(#[source] Box<sqlx::migrate::MigrateError>),
    /// The login may not work as the role of the service.
    #[error("the login may not act as the role {role}: grant it (GRANT {role} TO <login>)")]
    RoleDenied {
        /// The role.
        role: &'static str,
    },
    /// The database would lose what it confirmed.
    #[error("refusing a database with {setting} = {value}: a recorded entry could be lost")]
    NotDurable {
        /// The setting.
        setting: String,
        /// Its value.
        value: String,
    },
    /// The database is too old.
    #[error("postgres {version_num} is too old: version {version_num_min} or newer is needed")]
    TooOld {
        /// `server_version_num` found.
        version_num: i32,
        /// `server_version_num` needed.
        version_num_min: i32,
    },
    /// An entry, envelope, proof or checkpoint was refused.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    /// The prompt and salt do not open the entry's commitment.
    #[error("the prompt and salt do not open the commitment of the entry")]
    SecretMismatch,
    /// Another entry answers this request already.
    #[error("another entry is already recorded for this client, request and image")]
    RequestConflict,
    /// The entry's signature does not verify under the log's entry key.
    #[error("the entry was refused: its signature does not verify under the log's entry key")]
    BadSignature,
    /// Another entry key has followed the one that signed the entry.
    #[error(
        "the entry was refused: another entry key has followed the one that signed it; start this process anew"
    )]
    KeyRetired,
    /// A statement about keys breaks a rule.
    #[error("the statement about keys was refused: {detail}")]
    KeyStatement {
        /// Which rule.
        detail: String,
    },
    /// The sequencer could not read the envelope.
    #[error("the entry was refused: the sequencer cannot read it")]
    Unreadable,
    /// Too many entries wait.
    #[error("the queue is full: {pending_max} entries wait for the sequencer")]
    QueueFull {
        /// The limit.
        pending_max: u32,
    },
    /// Too many jobs wait or run.
    #[error("the queue is full: jobs_waiting_max ({jobs_waiting_max}) jobs wait or run")]
    JobsFull {
        /// The limit.
        jobs_waiting_max: u32,
    },
    /// Too many jobs of this client wait or run.
    #[error("this client has jobs_per_client_max ({jobs_per_client_max}) jobs that wait or run")]
    ClientJobsFull {
        /// The limit.
        jobs_per_client_max: u32,
    },
    /// The order of a job is too large.
    #[error("the order is over job_order_bytes_max ({bytes_max} bytes)")]
    JobOrderTooLarge {
        /// The limit.
        bytes_max: u32,
    },
    /// The Idempotency-Key stands for another order.
    #[error("this Idempotency-Key was used for another request")]
    JobKeyConflict,
    /// There is no such job.
    #[error("there is no job of this name")]
    NoSuchJob,
    /// A page of jobs was asked for that is empty or over its limit.
    #[error("a page has 1 to {page_jobs_max} jobs")]
    JobPageSize {
        /// The limit.
        page_jobs_max: u32,
    },
    /// The job is another worker's by now, or has ended, or is to stop.
    #[error("the job is no longer in this worker's hands")]
    JobLost,
    /// A job was to end with an entry that answers another request.
    #[error("the entry does not belong to the request of the job")]
    ForeignEntry,
    /// No checkpoint covered the entry in time. It stays queued: appending the same envelope again
    /// waits for the same entry.
    #[error("no checkpoint covered the entry {leaf_hash} within {timeout:?}; it stays queued")]
    NotYetPublished {
        /// The entry.
        leaf_hash: Digest,
        /// The limit.
        timeout: Duration,
    },
    /// Nothing was published yet.
    #[error("the log has no checkpoint yet")]
    NoCheckpoint,
    /// No checkpoint of this size was published.
    #[error("no checkpoint of tree size {tree_size} was published")]
    NoSuchCheckpoint {
        /// The size asked for.
        tree_size: TreeSize,
    },
    /// The checkpoint of this size was not stamped.
    #[error("no time stamp of the checkpoint of tree size {tree_size} is kept")]
    NoTimeStamp {
        /// The size asked for.
        tree_size: TreeSize,
    },
    /// An authority's answer is no time stamp of the checkpoint.
    #[error("the time stamp of the checkpoint of size {tree_size} was refused: {detail}")]
    TimeStampRefused {
        /// The checkpoint.
        tree_size: TreeSize,
        /// What is wrong with it.
        detail: String,
    },
    /// A page of time stamps was asked for that is empty or over its limit.
    #[error("a page has 1 to {page_time_stamps_max} time stamps")]
    TimeStampPageSize {
        /// The limit.
        page_time_stamps_max: u32,
    },
    /// The latest checkpoint does not cover such an entry.
    #[error("leaf index {leaf_index} is outside the published tree of size {tree_size}")]
    NoSuchEntry {
        /// The index asked for.
        leaf_index: LeafIndex,
        /// The size of the latest checkpoint.
        tree_size: TreeSize,
    },
    /// A perceptual distance beyond which the search is not exact.
    #[error("a perceptual distance goes from 0 to {distance_max}")]
    Distance {
        /// The limit.
        distance_max: u32,
    },
    /// More entries are this near than one search can hold.
    #[error(
        "more than {entries_max} entries are within this perceptual distance: ask for a smaller one"
    )]
    TooNear {
        /// The limit.
        entries_max: usize,
    },
    /// Images like that of an entry which does not exist, or states no perceptual hash.
    #[error("no entry {leaf_index} states a perceptual hash that images could be compared with")]
    NoPerceptualHash {
        /// The entry.
        leaf_index: LeafIndex,
    },
    /// A key was asked for that never signed here.
    #[error("no key {key:?} has signed entries of this log")]
    UnknownKey {
        /// The key as it was named.
        key: String,
    },
    /// A page was asked for that is empty or over its limit.
    #[error("a page has 1 to {page_entries_max} entries")]
    PageSize {
        /// The limit.
        page_entries_max: u32,
    },
    /// A number does not fit the database's 64-bit integers.
    #[error("{what} is beyond 2^63 - 1")]
    Beyond {
        /// The number's meaning.
        what: &'static str,
    },
    /// The database lost something that was recorded, or holds something that nobody could have written.
    #[error("the database is damaged: {detail}; run `retrace ledger check`")]
    Damaged {
        /// What is missing or wrong.
        detail: String,
    },
    /// The client's name is taken by a valid key.
    #[error("a client of this name has a valid key already")]
    ClientNameTaken,
    /// The client's name is not usable.
    #[error("a client's name has 1 to {chars_max} characters and no control characters")]
    ClientName {
        /// The limit.
        chars_max: usize,
    },
    /// A key without scopes would be of no use.
    #[error("a key needs at least one scope")]
    NoScopes,
    /// The word is no scope.
    #[error("unknown scope {word:?}: generate, score, audit and admin are known")]
    UnknownScope {
        /// The word.
        word: String,
    },
    /// There is no valid key of this identity.
    #[error("there is no client with a valid key of this identity")]
    NoSuchClient,
    /// There is no such review case.
    #[error("there is no such case")]
    NoSuchCase,
    /// The case has been decided already.
    #[error("the case is closed already")]
    CaseClosed,
    /// The word is no decision.
    #[error("a decision is generated, not_generated or undecided")]
    UnknownDecision,
    /// All kept uploads together would be over their limit.
    #[error(
        "kept uploads have {held} bytes and one more would be over the limit case_bytes_max of {bytes_max}: erase some"
    )]
    CasesFull {
        /// Bytes that are kept.
        held: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A case has as many notes as it may.
    #[error("the case has as many notes as the limit case_notes_max of {notes_max} allows")]
    CaseNotesFull {
        /// The limit.
        notes_max: u32,
    },
    /// A note is empty or too long.
    #[error("a note has 1 to {chars_max} characters")]
    NoteLength {
        /// The limit.
        chars_max: usize,
    },
    /// A page of cases was asked for that is empty or over its limit.
    #[error("a page has 1 to {page_cases_max} cases")]
    CasePageSize {
        /// The limit.
        page_cases_max: u32,
    },
    /// The sequencer has not the checkpoint key that the ledger names.
    #[error("the log's checkpoints are signed by {expected}, and here is {found}: bring the key")]
    WrongKey {
        /// The key of the ledger.
        expected: String,
        /// The key of the sequencer.
        found: String,
    },
    /// Another sequencer holds the lease now.
    #[error("the lease of the sequencer was lost")]
    LeaseLost,
    /// Somebody else stored a checkpoint meanwhile.
    #[error("the checkpoint store changed under the sequencer")]
    CheckpointStoreChanged,
    /// The checkpoint store holds something unreadable or foreign.
    #[error("the checkpoint store {} holds no checkpoint of this log: {detail}", path.display())]
    CheckpointStoreDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The checkpoint store is empty although the log has published checkpoints.
    #[error("the checkpoint store {} is empty, but the log has published a checkpoint of size {tree_size}: bring the store back, or adopt the published checkpoint after checking it against an auditor's copy", path.display())]
    CheckpointStoreMissing {
        /// The file.
        path: PathBuf,
        /// The size of the latest published checkpoint.
        tree_size: TreeSize,
    },
    /// The database holds fewer entries than a checkpoint that was signed: an older copy was restored.
    #[error(
        "the database holds {recorded} entries, but a checkpoint over {signed} was signed: it was rolled back, and nothing more is signed"
    )]
    RolledBack {
        /// The number of entries found.
        recorded: TreeSize,
        /// The size of the checkpoint.
        signed: TreeSize,
    },
    /// The database's tree is not the one that was signed.
    #[error(
        "the tree of size {tree_size} in the database has the root {computed}, but {signed} was signed: nothing more is signed"
    )]
    Inconsistent {
        /// The size of the checkpoint.
        tree_size: TreeSize,
        /// The root in the database.
        computed: Digest,
        /// The root that was signed.
        signed: Digest,
    },
    /// A folder is not a whole backup of this log.
    #[error("{} cannot be restored: {detail}", folder.display())]
    BackupRefused {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A backup can only be restored into an empty database.
    #[error(
        "the database is not empty: table {table} has rows, and nothing was restored over them"
    )]
    NotEmpty {
        /// The first table that has rows.
        table: String,
    },
    /// A test made the sequencer stop here.
    #[doc(hidden)]
    #[error("stopped on purpose after a step")]
    StoppedOnPurpose,
}

impl LedgerError {
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull {
                path: path.to_owned(),
            },
            _ => Self::Io {
                action,
                path: path.to_owned(),
                source,
            },
        }
    }

    pub(crate) fn damaged(detail: impl Into<String>) -> Self {
        Self::Damaged {
            detail: detail.into(),
        }
    }

    /// Whether trying again later, with all state loaded anew, may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::DatabaseDown { .. }
            | Self::DatabaseFull { .. }
            | Self::DiskFull { .. }
            | Self::LeaseLost
            | Self::CheckpointStoreChanged => true,
            // A signer that comes back goes on; one that refuses knows of another history.
            Self::Provenance(ProvenanceError::NotSigned { failure, .. }) => {
                !matches!(failure, SigningFailure::Refused(_))
            }
            _ => false,
        }
    }

    /// The name of the violated constraint, if that is what happened.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Constraint { constraint, .. } => Some(constraint),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for LedgerError {
    fn from(source: sqlx::Error) -> Self {
        use sqlx::Error as Driver;
        let database = match &source {
            Driver::Io(_) | Driver::PoolTimedOut | Driver::PoolClosed | Driver::WorkerCrashed => {
                return Self::DatabaseDown { source };
            }
            Driver::Database(database) => database,
            _ => return Self::Database(source),
        };
        let code = database.code().unwrap_or_default();
        match &*code {
            "53100" => Self::DatabaseFull { source },
            // Connection exceptions, too many connections, and a server that stops or starts.
            "53300" | "57P01" | "57P02" | "57P03" => Self::DatabaseDown { source },
            code if code.starts_with("08") => Self::DatabaseDown { source },
            // Undefined column, function and table.
            "42703" | "42883" | "42P01" => Self::SchemaMismatch { source },
            _ => match database.constraint() {
                Some(constraint) => Self::Constraint {
                    constraint: constraint.to_owned(),
                    source,
                },
                None => Self::Database(source),
            },
        }
    }
}

impl From<sqlx::migrate::MigrateError> for LedgerError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
                match Self::from(source) {
                    Self::Database(source) | Self::Constraint { source, .. } => {
                        Self::Migration(Box::new(MigrateError::Execute(source)))
                    }
                    other => other,
                }
            }
            other => Self::Migration(Box::new(other)),
        }
    }
}
