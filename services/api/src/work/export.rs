//! Exports of a search: rows as they come from the ledger, and a signed manifest at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use columnar::ColumnWriter;
use ledger::{EntryFilter, EntryWalk, Ledger, WalkedEntry};
use provenance::{
    EntrySigner, ExportEncoding, ExportWriter, LineEncoding, SignedCheckpoint, TreeSize,
};
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

/// Writes rows in one of the encodings.
#[derive(Debug)]
enum Writer {
    Lines(Box<ExportWriter>),
    Columns(Box<ColumnWriter>),
}

impl Writer {
    fn new(order: ExportOrder, checkpoint: &SignedCheckpoint) -> Result<Self, WorkError> {
        let lines = match order.encoding {
            ExportEncoding::Ndjson => LineEncoding::Ndjson,
            ExportEncoding::Csv => LineEncoding::Csv,
            ExportEncoding::Parquet => {
                let columns = ColumnWriter::new(order.conditions, checkpoint)?;
                return Ok(Self::Columns(Box::new(columns)));
            }
        };
        let lines = ExportWriter::new(lines, order.conditions, checkpoint);
        Ok(Self::Lines(Box::new(lines)))
    }

    fn begin(&mut self) -> Vec<u8> {
        match self {
            Self::Lines(lines) => lines.begin(),
            Self::Columns(_) => Vec::new(),
        }
    }

    fn row(&mut self, entry: &WalkedEntry, bytes: &mut Vec<u8>) -> Result<(), WorkError> {
        match self {
            Self::Lines(lines) => lines.row(entry.leaf_index, &entry.envelope, bytes)?,
            Self::Columns(columns) => columns.row(entry.leaf_index, &entry.envelope, bytes)?,
        }
        Ok(())
    }

    /// Ends the rows, where that takes work.
    fn end_rows(&mut self, bytes: &mut Vec<u8>) -> Result<(), WorkError> {
        match self {
            Self::Lines(_) => Ok(()),
            Self::Columns(columns) => Ok(columns.end_rows(bytes)?),
        }
    }

    fn finish(self, signer: &EntrySigner) -> Result<Vec<u8>, WorkError> {
        match self {
            Self::Lines(lines) => Ok(lines.finish(signer)?),
            Self::Columns(columns) => Ok(columns.finish(signer)?),
        }
    }
}

/// An export under way. It holds one page at a time, and one group of rows where it writes columns.
#[derive(Debug)]
pub struct Export {
    walk: EntryWalk,
    /// None once the manifest was written.
    writer: Option<Writer>,
    begun: bool,
}

impl Export {
    /// Begins an export.
    ///
    /// # Errors
    /// When there is no such checkpoint.
    pub async fn begin(ledger: &Ledger, order: ExportOrder) -> Result<Self, WorkError> {
        let walk = ledger.walk(order.filter.clone(), order.tree_size).await?;
        let writer = Writer::new(order, walk.checkpoint())?;
        Ok(Self {
            walk,
            writer: Some(writer),
            begun: false,
        })
    }

    /// The next bytes, perhaps none yet; nothing at the end.
    ///
    /// # Errors
    /// When the database fails or is damaged. What was written before is not a whole export then: it
    /// has no manifest.
    pub async fn next(&mut self, signer: &EntrySigner) -> Result<Option<Vec<u8>>, WorkError> {
        let Some(mut writer) = self.writer.take() else {
            return Ok(None);
        };
        let page = self.walk.next_page().await?;
        let is_last = page.is_empty();
        let begun = std::mem::replace(&mut self.begun, true);
        let written = tokio::task::spawn_blocking(move || {
            let mut bytes = match begun {
                true => Vec::new(),
                false => writer.begin(),
            };
            for entry in &page {
                writer.row(entry, &mut bytes)?;
            }
            if is_last {
                writer.end_rows(&mut bytes)?;
            }
            Ok::<_, WorkError>((writer, bytes))
        });
        let (writer, mut bytes) = written.await.map_err(|_| WorkError::Interrupted)??;
        if is_last {
            let signer = signer.clone();
            let signed = tokio::task::spawn_blocking(move || writer.finish(&signer));
            bytes.extend(signed.await.map_err(|_| WorkError::Interrupted)??);
        } else {
            self.writer = Some(writer);
        }
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
