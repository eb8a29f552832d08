//! Exports of a search: rows as they come from the ledger, and a signed manifest at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::{EntryFilter, EntryWalk, Ledger};
use provenance::{EntrySigner, ExportEncoding, ExportWriter, TreeSize};
use tokio::sync::{SemaphorePermit, mpsc};

use super::WorkError;
use crate::state::AppState;

/// Pages of rows that wait for a slow reader.
const PAGES_WAITING_MAX: usize = 2;

/// What to export.
#[derive(Debug, Clone)]
pub struct ExportOrder {
    /// How rows are written.
    pub encoding: ExportEncoding,
    /// Which entries.
    pub filter: EntryFilter,
    /// The conditions of the filter, as the manifest states them.
    pub conditions: BTreeMap<String, String>,
    /// Size of a published checkpoint; the newest when none.
    pub tree_size: Option<TreeSize>,
}

/// An export under way. It holds one page at a time.
#[derive(Debug)]
pub struct Export {
    walk: EntryWalk,
    /// None once the manifest was written.
    writer: Option<ExportWriter>,
    begun: bool,
}

impl Export {
    /// Begins an export.
    ///
    /// # Errors
    /// When there is no such checkpoint.
    pub async fn begin(ledger: &Ledger, order: ExportOrder) -> Result<Self, WorkError> {
        let walk = ledger.walk(order.filter, order.tree_size).await?;
        let writer = ExportWriter::new(order.encoding, order.conditions, walk.checkpoint());
        Ok(Self {
            walk,
            writer: Some(writer),
            begun: false,
        })
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// When the database fails or is damaged. What was written before is not a whole export then: it
    /// has no manifest.
    pub async fn next(&mut self, signer: &EntrySigner) -> Result<Option<Vec<u8>>, WorkError> {
        let Some(mut writer) = self.writer.take() else {
            return Ok(None);
        };
        let page = self.walk.next_page().await?;
        if page.is_empty() {
            let mut bytes = match self.begun {
                true => Vec::new(),
                false => writer.begin(),
            };
            let signer = signer.clone();
            let signed = tokio::task::spawn_blocking(move || writer.finish(&signer));
            bytes.extend(signed.await.map_err(|_| WorkError::Interrupted)??);
            return Ok(Some(bytes));
        }
        let begun = std::mem::replace(&mut self.begun, true);
        let written = tokio::task::spawn_blocking(move || {
            let mut bytes = match begun {
                true => Vec::new(),
                false => writer.begin(),
            };
            for entry in &page {
                writer.row(entry.leaf_index, &entry.envelope, &mut bytes)?;
            }
            Ok::<_, WorkError>((writer, bytes))
        });
        let (writer, bytes) = written.await.map_err(|_| WorkError::Interrupted)??;
        self.writer = Some(writer);
        Ok(Some(bytes))
    }
}

/// Begins an export and gives its bytes page by page. Dropping the receiver ends it.
///
/// # Errors
/// When there is no such checkpoint.
pub async fn export(
    state: &Arc<AppState>,
    order: ExportOrder,
    permit: SemaphorePermit<'static>,
) -> Result<mpsc::Receiver<Result<Vec<u8>, WorkError>>, WorkError> {
    let ledger = state.ledger.clone();
    let mut export = state
        .run(async move { Export::begin(&ledger, order).await })
        .await?;
    let (sender, receiver) = mpsc::channel(PAGES_WAITING_MAX);
    let shared = Arc::clone(state);
    state.runtime.spawn(async move {
        let _permit = permit;
        while let Some(page) = export.next(&shared.signer).await.transpose() {
            let failed = page.is_err();
            // A reader that has left ends the export, and so does a failure.
            if sender.send(page).await.is_err() || failed {
                return;
            }
        }
    });
    Ok(receiver)
}
