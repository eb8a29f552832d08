//! The ledger against real private Postgres clusters.
//!
//! Tests share one cluster below `target/tmp`, each with its own freshly migrated database. Tests that
//! break a cluster start their own. At its end each test has the whole ledger verified anew.

// House rules let tests unwrap; the lint does not see that this whole crate is one.
#![allow(clippy::unwrap_used)]

mod append;
mod append_only;
mod backup;
mod cases;
mod check;
mod checkpoint_keys;
mod clients;
mod cluster;
mod crash;
mod faults;
mod heads;
mod jobs;
mod keys;
mod near;
mod random;
mod sabotage;
mod search;
mod sequencer;
mod support;
mod tamper;
mod tiles;
mod time_stamps;
mod watermarks;
