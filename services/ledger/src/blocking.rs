//! Work that may block leaves the async threads.

use crate::LedgerError;

/// Runs file and process work on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    tokio::task::spawn_blocking(work)
        .await
        .expect("work that does not panic is not cancelled once it runs")
}
