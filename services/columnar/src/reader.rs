//! Reading, a group of rows at a time.

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::reader::{ChunkReader, FileReader, RowGroupReader, SerializedFileReader};
use provenance::{Envelope, LeafIndex};

use crate::cells::{COLUMNS, Cell, ENVELOPE, LEAF_INDEX, schema};
use crate::writer::GROUP_ROWS_MAX;
use crate::{ColumnarError, Row};

/// The rows of a file, in their order.
pub struct Rows<R: ChunkReader> {
    file: SerializedFileReader<R>,
    next_group: usize,
    group: std::vec::IntoIter<Row>,
}

impl<R: ChunkReader + 'static> Rows<R> {
    /// Opens a file whose digest was compared with a signed one.
    ///
    /// # Errors
    /// Refuses files with other columns than [`COLUMNS`].
    pub fn open(file: R) -> Result<Self, ColumnarError> {
        let file = SerializedFileReader::new(file)?;
        if *file.metadata().file_metadata().schema() != *schema()? {
            return Err(ColumnarError::malformed(
                "the columns are not those of an export",
            ));
        }
        Ok(Self {
            file,
            next_group: 0,
            group: Vec::new().into_iter(),
        })
    }

    /// The next row; none at the end.
    ///
    /// # Errors
    /// When the file is not what this crate writes.
    pub fn next_row(&mut self) -> Result<Option<Row>, ColumnarError> {
        loop {
            if let Some(row) = self.group.next() {
                return Ok(Some(row));
            }
            if self.next_group == self.file.num_row_groups() {
                return Ok(None);
            }
            let group = self.file.get_row_group(self.next_group)?;
            self.group = read_group(&*group)?.into_iter();
            self.next_group += 1;
        }
    }
}

/// The place and the envelope that a row states.
///
/// # Errors
/// Refuses rows without them.
pub fn place_and_envelope(row: &Row) -> Result<(LeafIndex, Envelope), ColumnarError> {
    let (Some(Cell::Number(place)), Some(Cell::Bytes(envelope))) =
        (row.get(LEAF_INDEX), row.get(ENVELOPE))
    else {
        return Err(ColumnarError::malformed(
            "a row has no place or no envelope",
        ));
    };
    let place = u64::try_from(*place)
        .map_err(|_| ColumnarError::malformed("a leaf index is below zero"))?;
    Ok((LeafIndex::new(place), Envelope::parse(envelope)?))
}

fn read_group(group: &dyn RowGroupReader) -> Result<Vec<Row>, ColumnarError> {
    let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(usize::MAX);
    if rows > GROUP_ROWS_MAX {
        let detail = format!("a group has more than {GROUP_ROWS_MAX} rows");
        return Err(ColumnarError::malformed(detail));
    }
    let mut read = vec![Row::with_capacity(COLUMNS.len()); rows];
    for (place, column) in COLUMNS.iter().enumerate() {
        let cells = match group.get_column_reader(place)? {
            ColumnReader::Int64ColumnReader(reader) => cells(reader, rows, Cell::Number)?,
            ColumnReader::DoubleColumnReader(reader) => cells(reader, rows, Cell::Fraction)?,
            ColumnReader::ByteArrayColumnReader(reader) => {
                cells(reader, rows, |bytes: ByteArray| {
                    Cell::Bytes(bytes.data().to_vec())
                })?
            }
            _ => return Err(ColumnarError::malformed("a column has another type")),
        };
        let is_short = cells.len() != rows || (column.is_required && cells.contains(&Cell::Empty));
        if is_short {
            let detail = format!("the column {} has too few cells", column.name);
            return Err(ColumnarError::malformed(detail));
        }
        for (row, cell) in read.iter_mut().zip(cells) {
            row.push(cell);
        }
    }
    Ok(read)
}

fn cells<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    rows: usize,
    cell: impl Fn(T::T) -> Cell,
) -> Result<Vec<Cell>, ColumnarError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let mut read = 0;
    while read < rows {
        let (records, _, _) =
            reader.read_records(rows - read, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            break;
        }
        read += records;
    }
    let mut values = values.into_iter();
    if levels.is_empty() {
        return Ok(values.map(cell).collect());
    }
    let cells = levels.into_iter().map(|level| match level {
        0 => Some(Cell::Empty),
        _ => values.next().map(&cell),
    });
    cells
        .collect::<Option<_>>()
        .ok_or_else(|| ColumnarError::malformed("a column has too few values"))
}
