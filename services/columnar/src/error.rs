//! What can go wrong with files of columns.

use parquet::errors::ParquetError;
use provenance::ProvenanceError;

/// Why a file of columns cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ColumnarError {
    /// The entry cannot be read, or a manifest is refused.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    /// The Parquet format is not kept.
    #[error("{0}")]
    Parquet(#[from] ParquetError),
    /// The file is not what this crate writes.
    #[error("{detail}")]
    Malformed {
        /// What is not.
        detail: String,
    },
}

impl ColumnarError {
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::Malformed {
            detail: detail.into(),
        }
    }
}
