//! Checkpoints as they were published, and their time stamps.

use std::sync::Arc;

use credentials::TimeStampReply;
use ledger::{KeptTimeStamp, LedgerError};
use provenance::{SignedCheckpoint, TreeSize};

use super::WorkError;
use crate::state::AppState;

/// The checkpoint that was published for this size, verified.
///
/// # Errors
/// When none was.
pub async fn checkpoint(
    state: &Arc<AppState>,
    tree_size: TreeSize,
) -> Result<SignedCheckpoint, WorkError> {
    let ledger = state.ledger.clone();
    state
        .run(async move { Ok(ledger.checkpoint(tree_size).await?) })
        .await
}

/// The time stamp of the checkpoint of this size.
///
/// # Errors
/// When none is kept.
pub async fn time_stamp(
    state: &Arc<AppState>,
    tree_size: TreeSize,
) -> Result<KeptTimeStamp, WorkError> {
    let ledger = state.ledger.clone();
    state
        .run(async move { Ok(ledger.time_stamp(tree_size).await?) })
        .await
}

/// Kept time stamps, that of the largest tree first, each with the time that it states in seconds since 1970.
///
/// # Errors
/// Refuses pages over their limit; fails when one that is kept cannot be read.
pub async fn time_stamps(
    state: &Arc<AppState>,
    before: Option<TreeSize>,
    limit: u32,
) -> Result<Vec<(KeptTimeStamp, i64)>, WorkError> {
    let ledger = state.ledger.clone();
    state
        .run(async move {
            let kept = ledger.time_stamps(before, limit).await?;
            let with_time = |kept: KeptTimeStamp| match TimeStampReply::parse(&kept.reply) {
                Ok(reply) => Ok((kept, reply.stated_time_s())),
                Err(refusal) => Err(LedgerError::TimeStampRefused {
                    tree_size: kept.tree_size,
                    detail: refusal.to_string(),
                }
                .into()),
            };
            kept.into_iter().map(with_time).collect()
        })
        .await
}
