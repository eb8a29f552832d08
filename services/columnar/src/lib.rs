//! Exports as columns: the entries that met a search in one Apache Parquet file, with the signed manifest that
//! exports in lines have too.
//!
//! A Parquet file is read from its end, so the manifest cannot stand behind everything else. It is the value of
//! the key `retrace.manifest` in the file's own metadata, filled up with spaces, and its digest is that of the
//! whole file without this value: rows, names, types and places of the columns are all signed for.
//!
//! Digests are text of 64 lower-case hexadecimal digits, as in the other exports and as `sha256sum` prints them,
//! so that they join with lists of digests without a conversion. Times are milliseconds in UTC. The last column
//! holds the signed envelope, from which every other cell follows.

mod cells;
mod error;
mod manifest;
mod reader;
mod writer;

pub use cells::{COLUMNS, Cell, Column, Holds, Row, row};
pub use error::ColumnarError;
pub use manifest::{FOOTER_BYTES_MAX, FoundManifest, MANIFEST_KEY, find_manifest};
pub use reader::{Rows, place_and_envelope};
pub use writer::{ColumnWriter, GROUP_BYTES_MAX, GROUP_ROWS_MAX};
