//! What can be verified of an entry before its turn, on as many threads as there are cores.

use std::num::NonZero;
use std::thread;

use provenance::merkle::leaf_hash;
use provenance::{Digest, KeyHistory, ProvenanceError, VerifiedAhead};

use super::rows::Stored;
use crate::LedgerError;
use crate::entries::Projection;

/// A row whose signature was verified, or not, before its turn.
pub(super) struct Ahead {
    pub(super) row: Stored,
    pub(super) leaf_hash: Digest,
    pub(super) verified: Result<VerifiedAhead, ProvenanceError>,
    /// Whether the columns say what the entry says, where it could be told.
    pub(super) columns_agree: Option<bool>,
}

/// Verifies the entries of a page. The answers come in their order.
pub(super) async fn verify_ahead(
    mut page: Vec<Stored>,
    keys: KeyHistory,
) -> Result<Vec<Ahead>, LedgerError> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let share = page.len().div_ceil(threads).max(1);
    let mut shares = Vec::new();
    while !page.is_empty() {
        let rest = page.split_off(share.min(page.len()));
        let (rows, keys) = (std::mem::replace(&mut page, rest), keys.clone());
        shares.push(tokio::task::spawn_blocking(move || {
            let ahead = rows.into_iter().map(|row| verify(row, &keys));
            ahead.collect::<Result<Vec<_>, _>>()
        }));
    }
    let mut verified = Vec::new();
    for share in shares {
        verified.extend(share.await.expect("verification does not panic")?);
    }
    Ok(verified)
}

fn verify(row: Stored, keys: &KeyHistory) -> Result<Ahead, LedgerError> {
    let verified = keys.verify_ahead(&row.envelope);
    let (hash, entry) = match &verified {
        Ok(verified) => (verified.leaf_hash(), verified.entry()),
        Err(_) => (leaf_hash(&row.envelope), None),
    };
    let columns_agree = match entry {
        Some(entry) => Some(row.says(&Projection::of(entry)?)),
        None => None,
    };
    Ok(Ahead {
        leaf_hash: hash,
        columns_agree,
        verified,
        row,
    })
}
