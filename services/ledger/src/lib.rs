//! The append-only ledger on Postgres.
//!
//! # How an entry is recorded
//!
//! 1. Any process signs an entry and hands it to [`Ledger::append`], which queues it.
//! 2. One process at a time holds the lease of the [`sequencer`](sequencer::Sequencer). It takes a
//!    batch out of the queue, verifies each signature, and writes entries and tree nodes in one
//!    transaction, with leaf indexes that have no gaps.
//! 3. It signs a checkpoint over the new tree and replaces the last signed one in the checkpoint
//!    store, a file outside the database. This is what shows a database that was rolled back.
//! 4. It publishes the checkpoint, and every waiting `append` answers with the proof.
//!
//! # How work waits for workers
//!
//! Jobs are claimed by workers on any machine, under a lease and a fencing token, and end in the same
//! transaction that queues their entries: a worker that dies loses no job and records none twice.
//!
//! # Who may do what
//!
//! Tables belong to the login that migrates; the service works as the role `retrace_app`, which may
//! add entries, nodes and checkpoints and read them, and nothing else. Triggers refuse changes by
//! everyone. Neither stops a superuser, and neither needs to: [`Ledger::check`] recomputes everything
//! from the entries and finds what was changed.

mod announced;
mod append;
mod backup;
mod blocking;
mod cases;
mod check;
mod clients;
pub mod cluster;
mod connect;
mod entries;
mod error;
mod export;
mod gauges;
mod heads;
mod hints;
mod jobs;
mod keys;
mod near;
mod prompts;
mod proofs;
mod publication;
mod search;
pub mod sequencer;
mod tiles;
mod time_stamps;

pub use append::{Appended, PromptSecret, SignedEntry};
pub use backup::{Backup, BackupTable, restore};
pub use cases::{
    Case, CaseFilter, CaseId, CaseNote, CasePage, Closing, Decision, FILE_NAME_CHARS_MAX,
    NOTE_CHARS_MAX, NewCase, NewCaseNote, PAGE_CASES_MAX,
};
pub use check::{CheckReport, CheckedCheckpointKey, CheckedKey, PROBLEMS_MAX, Problem};
pub use clients::{Client, ClientId, ClientKey, Scope};
pub use connect::{Ledger, LedgerOptions};
pub use entries::{FOUND_MAX, RecordedEntry};
pub use error::LedgerError;
pub use export::{EntryWalk, WalkedEntry};
pub use gauges::Gauges;
pub use jobs::{
    ClaimedJob, Enqueued, Heartbeat, Job, JobEvent, JobEventKind, JobHint, JobHints,
    JobHintsReceiver, JobId, JobLimits, JobProgress, JobQueue, JobState, NewJob, WorkerTerms,
};
pub use near::NearWatch;
pub use search::{EntryFilter, Likeness, NEAR_ENTRIES_MAX, Near, Order, PAGE_ENTRIES_MAX, Page};
pub use time_stamps::{KeptTimeStamp, PAGE_TIME_STAMPS_MAX, TimeStampCheck};
