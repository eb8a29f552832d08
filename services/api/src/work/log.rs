//! The log as files, and walks over it.

use std::sync::Arc;

use ledger::{EntryFilter, EntryWalk, Gauges};
use provenance::{KeyFile, KeyHistory, Tile, TreeSize};

use super::WorkError;
use crate::state::AppState;

/// The bytes of a tile; none when the newest checkpoint does not cover all of it.
///
/// # Errors
/// When the database fails.
pub async fn tile(state: &Arc<AppState>, tile: Tile) -> Result<Option<Vec<u8>>, WorkError> {
    let ledger = state.ledger.clone();
    state.run(async move { Ok(ledger.tile(tile).await?) }).await
}

/// A walk over all entries that meet the filter, under the newest checkpoint or the one of this size.
///
/// # Errors
/// When there is no such checkpoint.
pub async fn walk(
    state: &Arc<AppState>,
    filter: EntryFilter,
    tree_size: Option<TreeSize>,
) -> Result<EntryWalk, WorkError> {
    let ledger = state.ledger.clone();
    state
        .run(async move { Ok(ledger.walk(filter, tree_size).await?) })
        .await
}

/// Sizes of the log and of its queues.
///
/// # Errors
/// When the database fails.
pub async fn gauges(state: &Arc<AppState>) -> Result<Gauges, WorkError> {
    let ledger = state.ledger.clone();
    state.run(async move { Ok(ledger.gauges().await?) }).await
}

/// The public key file as the log stands now.
///
/// # Errors
/// When the database fails.
pub async fn key_file(state: &Arc<AppState>) -> Result<KeyFile, WorkError> {
    let ledger = state.ledger.clone();
    state.run(async move { Ok(ledger.key_file().await?) }).await
}

/// The keys that signed entries so far.
///
/// # Errors
/// When the database fails, or what the log says about its keys does not hold.
pub async fn key_history(state: &Arc<AppState>) -> Result<KeyHistory, WorkError> {
    let ledger = state.ledger.clone();
    state
        .run(async move { Ok(ledger.key_history().await?) })
        .await
}
