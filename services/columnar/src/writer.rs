//! Writing, a group of rows at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::ColumnPath;
use provenance::export::ExportTally;
use provenance::{
    EntrySigner, Envelope, ExportEncoding, LeafIndex, SignedCheckpoint, SignedManifest,
};

use crate::cells::{COLUMNS, Cell, Column, Holds, row, schema};
use crate::manifest::{MANIFEST_KEY, locate};
use crate::{ColumnarError, Row};

/// Most rows of a group.
pub const GROUP_ROWS_MAX: usize = 20_000;
/// Bytes of text in the rows of a group after which the next one begins. It is what an export holds in memory,
/// twice over while the group is encoded.
pub const GROUP_BYTES_MAX: usize = 16 << 20;

/// The cells of one column in the group under way.
#[derive(Debug)]
enum Values {
    Numbers(Vec<i64>),
    Fractions(Vec<f64>),
    Bytes(Vec<ByteArray>),
}

#[derive(Debug)]
struct Gathered {
    column: Column,
    values: Values,
    /// 1 for each row that has a value, 0 for the others.
    levels: Vec<i16>,
}

impl Gathered {
    fn new(column: Column) -> Self {
        let values = match column.holds {
            Holds::Number | Holds::Unsigned | Holds::Time => Values::Numbers(Vec::new()),
            Holds::Fraction => Values::Fractions(Vec::new()),
            Holds::Text | Holds::Bytes => Values::Bytes(Vec::new()),
        };
        Self {
            column,
            values,
            levels: Vec::new(),
        }
    }

    /// Takes a cell; its bytes of text.
    fn take(&mut self, cell: Cell) -> Result<usize, ColumnarError> {
        self.levels.push(i16::from(cell != Cell::Empty));
        match (&mut self.values, cell) {
            (Values::Numbers(values), Cell::Number(value)) => values.push(value),
            (Values::Fractions(values), Cell::Fraction(value)) => values.push(value),
            (Values::Bytes(values), Cell::Bytes(value)) => {
                let length = value.len();
                values.push(ByteArray::from(value));
                return Ok(length);
            }
            (_, Cell::Empty) if !self.column.is_required => {}
            _ => {
                let name = self.column.name;
                return Err(ColumnarError::malformed(format!("{name} cannot hold this")));
            }
        }
        Ok(0)
    }

    fn write(&self, mut writer: SerializedColumnWriter<'_>) -> Result<(), ColumnarError> {
        let levels = (!self.column.is_required).then_some(&self.levels[..]);
        match &self.values {
            Values::Numbers(values) => writer
                .typed::<Int64Type>()
                .write_batch(values, levels, None)?,
            Values::Fractions(values) => writer
                .typed::<DoubleType>()
                .write_batch(values, levels, None)?,
            Values::Bytes(values) => writer
                .typed::<ByteArrayType>()
                .write_batch(values, levels, None)?,
        };
        Ok(writer.close()?)
    }
}

/// Writes an export. It holds one group of rows, and a few bytes for each group that it wrote.
pub struct ColumnWriter {
    file: SerializedFileWriter<Vec<u8>>,
    tally: ExportTally,
    group: Vec<Gathered>,
    rows: usize,
    bytes: usize,
}

impl std::fmt::Debug for ColumnWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ColumnWriter")
            .field("rows", &self.rows)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl ColumnWriter {
    /// Begins an export of what met this search under this checkpoint.
    ///
    /// # Errors
    /// None that a caller could bring about.
    pub fn new(
        filter: BTreeMap<String, String>,
        checkpoint: &SignedCheckpoint,
    ) -> Result<Self, ColumnarError> {
        Ok(Self {
            file: SerializedFileWriter::new(Vec::new(), schema()?, properties())?,
            tally: ExportTally::new(ExportEncoding::Parquet, filter, checkpoint),
            group: COLUMNS.map(Gathered::new).into(),
            rows: 0,
            bytes: 0,
        })
    }

    /// Adds an entry. What became ready is added to the bytes that are about to be sent.
    ///
    /// # Errors
    /// Refuses an envelope whose statement cannot be read.
    pub fn row(
        &mut self,
        leaf_index: LeafIndex,
        envelope: &Envelope,
        bytes: &mut Vec<u8>,
    ) -> Result<(), ColumnarError> {
        self.take(row(leaf_index, envelope)?)?;
        self.tally.row(leaf_index);
        if self.rows >= GROUP_ROWS_MAX || self.bytes >= GROUP_BYTES_MAX {
            self.write_group()?;
            bytes.extend(self.written()?);
        }
        Ok(())
    }

    fn take(&mut self, cells: Row) -> Result<(), ColumnarError> {
        for (gathered, cell) in self.group.iter_mut().zip(cells) {
            self.bytes += gathered.take(cell)?;
        }
        self.rows += 1;
        Ok(())
    }

    fn write_group(&mut self) -> Result<(), ColumnarError> {
        let gathered = std::mem::replace(&mut self.group, COLUMNS.map(Gathered::new).into());
        (self.rows, self.bytes) = (0, 0);
        let mut group = self.file.next_row_group()?;
        for column in &gathered {
            let writer = group.next_column()?;
            let writer = writer.ok_or_else(|| ColumnarError::malformed("a column has no place"))?;
            column.write(writer)?;
        }
        group.close()?;
        Ok(())
    }

    /// What was written since the last time.
    fn written(&mut self) -> Result<Vec<u8>, ColumnarError> {
        self.file.flush().map_err(ParquetError::from)?;
        let written = std::mem::take(self.file.inner_mut());
        self.tally.count(&written);
        Ok(written)
    }

    /// Ends the rows: those that are left become a group.
    ///
    /// # Errors
    /// None that a caller could bring about.
    pub fn end_rows(&mut self, bytes: &mut Vec<u8>) -> Result<(), ColumnarError> {
        if self.rows > 0 {
            self.write_group()?;
        }
        bytes.extend(self.written()?);
        Ok(())
    }

    /// The last bytes: rows that are left, and the file's metadata with the signed manifest in it.
    ///
    /// # Errors
    /// When the signer fails.
    pub fn finish(mut self, signer: &EntrySigner) -> Result<Vec<u8>, ColumnarError> {
        let mut bytes = Vec::new();
        self.end_rows(&mut bytes)?;
        // The metadata names the length of the manifest, and the manifest the digest of the metadata: so there is
        // room for the longest, and spaces fill it up.
        let mut longest = self.tally.clone().finish();
        longest.bytes = u64::MAX;
        let room = SignedManifest::length(&longest, signer);
        let value = " ".repeat(room);
        let entry = KeyValue::new(MANIFEST_KEY.to_owned(), value);
        self.file.append_key_value_metadata(entry);
        self.file.finish()?;
        let mut footer = std::mem::take(self.file.inner_mut());
        let (from, value) =
            locate(&footer).ok_or_else(|| ColumnarError::malformed("the manifest has no place"))?;
        let until = from + value.len();
        self.tally.count(&footer[..from]);
        self.tally.count(&footer[until..]);
        let signed = SignedManifest::sign(&self.tally.finish(), signer)?.to_bytes();
        footer[from..from + signed.len()].copy_from_slice(&signed);
        bytes.extend(footer);
        Ok(bytes)
    }
}

fn properties() -> WriterPropertiesPtr {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("retrace ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::SNAPPY)
        // Least and greatest values would bring text that clients chose into the metadata; those of numbers
        // and times let a reader pass over groups.
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true);
    for column in &COLUMNS {
        let path = ColumnPath::from(column.name);
        properties = properties.set_column_dictionary_enabled(path.clone(), column.repeats);
        if matches!(column.holds, Holds::Number | Holds::Time) {
            properties = properties.set_column_statistics_enabled(path, EnabledStatistics::Chunk);
        }
    }
    Arc::new(properties.build())
}
