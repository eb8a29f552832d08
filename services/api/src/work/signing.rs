//! Signing entries, here or with a signer elsewhere.

use provenance::{Entry, Envelope};

use super::WorkError;
use crate::state::AppState;

/// Signs the entries of one request with one question to the signer: all or none.
///
/// # Errors
/// When an entry may not be signed, or the signer fails.
pub(super) async fn sign_entries(
    state: &AppState,
    entries: Vec<Entry>,
) -> Result<Vec<Envelope>, WorkError> {
    let signer = state.signer.clone();
    // A signer elsewhere may keep one waiting.
    let signed = tokio::task::spawn_blocking(move || Envelope::sign_all(&entries, &signer));
    Ok(signed.await.map_err(|_| WorkError::Interrupted)??)
}
