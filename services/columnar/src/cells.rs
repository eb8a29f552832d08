//! The columns, and what an entry puts into them.

use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::errors::ParquetError;
use parquet::schema::types::{Type, TypePtr};
use provenance::{
    Digest, Entry, Envelope, GenerationEntry, LeafIndex, RecordedVerdict, ScoreEntry,
};

use crate::ColumnarError;

/// What the cells of a column hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A number that is at least zero, as INT64.
    Number,
    /// A number of up to 64 bits, as INT64 that is read as unsigned.
    Unsigned,
    /// Milliseconds since 1970 UTC, as TIMESTAMP.
    Time,
    /// A fraction, as DOUBLE. The envelope has its exact digits.
    Fraction,
    /// Text in UTF-8.
    Text,
    /// Bytes.
    Bytes,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What its cells hold.
    pub holds: Holds,
    /// Whether every row has it.
    pub is_required: bool,
    /// Whether its values come again and again, so that a dictionary pays.
    pub repeats: bool,
}

const fn required(name: &'static str, holds: Holds, repeats: bool) -> Column {
    Column {
        name,
        holds,
        is_required: true,
        repeats,
    }
}

const fn optional(name: &'static str, holds: Holds, repeats: bool) -> Column {
    Column {
        name,
        holds,
        is_required: false,
        repeats,
    }
}

/// The columns of every export, in their order.
pub const COLUMNS: [Column; 22] = [
    required("leaf_index", Holds::Number, false),
    required("leaf_hash", Holds::Text, false),
    required("kind", Holds::Text, true),
    required("created_at", Holds::Time, false),
    required("client", Holds::Text, true),
    required("request_id", Holds::Text, false),
    optional("image_index", Holds::Number, true),
    optional("model_name", Holds::Text, true),
    optional("model_digest", Holds::Text, true),
    optional("image_sha256", Holds::Text, false),
    optional("pixel_sha256", Holds::Text, false),
    optional("width", Holds::Number, true),
    optional("height", Holds::Number, true),
    optional("scheduler", Holds::Text, true),
    optional("steps", Holds::Number, true),
    optional("seed", Holds::Unsigned, false),
    optional("prompt_commitment", Holds::Text, false),
    optional("perceptual_hash", Holds::Text, false),
    optional("upload_commitment", Holds::Text, false),
    optional("verdict", Holds::Text, true),
    optional("probability", Holds::Fraction, false),
    required("envelope", Holds::Bytes, false),
];

/// The place of the first column.
pub(crate) const LEAF_INDEX: usize = 0;
/// The place of the last column.
pub(crate) const ENVELOPE: usize = COLUMNS.len() - 1;

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Nothing.
    Empty,
    /// A number or a time. Unsigned numbers from 2^63 on are below zero.
    Number(i64),
    /// A fraction.
    Fraction(f64),
    /// Text or bytes.
    Bytes(Vec<u8>),
}

/// The cells of one entry, in the order of [`COLUMNS`].
pub type Row = Vec<Cell>;

fn text(text: &str) -> Cell {
    Cell::Bytes(text.as_bytes().to_vec())
}

fn digest(digest: &Digest) -> Cell {
    text(&digest.to_string())
}

fn number(number: u64) -> Result<Cell, ColumnarError> {
    let number = i64::try_from(number);
    number
        .map(Cell::Number)
        .map_err(|_| ColumnarError::malformed("a number is beyond 2^63 - 1"))
}

/// What an entry puts into the columns.
///
/// # Errors
/// Refuses an envelope whose statement cannot be read.
pub fn row(leaf_index: LeafIndex, envelope: &Envelope) -> Result<Row, ColumnarError> {
    let entry = envelope.unverified_entry()?;
    let mut cells = vec![
        number(leaf_index.get())?,
        digest(&envelope.leaf_hash()),
        text(entry.kind()),
        number(entry.created_at_ms())?,
        text(entry.client()),
        text(entry.request_id()),
    ];
    match &entry {
        Entry::Generation(generation) => cells.extend(generation_cells(generation)?),
        Entry::Score(score) => cells.extend(score_cells(score)),
        Entry::KeySuccession(_) | Entry::CheckpointKeySuccession(_) | Entry::KeyRevocation(_) => {}
    }
    cells.resize(ENVELOPE, Cell::Empty);
    cells.push(Cell::Bytes(envelope.to_bytes()));
    Ok(cells)
}

fn generation_cells(entry: &GenerationEntry) -> Result<[Cell; 12], ColumnarError> {
    let details = entry.details.as_ref();
    let stated = details.and_then(|details| details.perceptual_hash);
    Ok([
        number(entry.image_index.into())?,
        text(&entry.model.name),
        digest(&entry.model.digest),
        digest(&entry.image.sha256),
        digest(&entry.image.pixel_sha256),
        number(entry.image.width.into())?,
        number(entry.image.height.into())?,
        text(&entry.scheduler),
        number(entry.steps.into())?,
        // The column is read as unsigned: the same 64 bits.
        Cell::Number(entry.seed.cast_signed()),
        digest(&entry.prompt_commitment),
        stated.map_or(Cell::Empty, |stated| digest(&stated.hash)),
    ])
}

fn score_cells(entry: &ScoreEntry) -> [Cell; 15] {
    let verdict = match entry.verdict {
        RecordedVerdict::LikelyGenerated => "likely_generated",
        RecordedVerdict::LikelyNotGenerated => "likely_not_generated",
        RecordedVerdict::Inconclusive => "inconclusive",
    };
    let probability = entry.probability.as_ref();
    let probability = probability.and_then(|probability| probability.as_str().parse().ok());
    let mut cells = [const { Cell::Empty }; 15];
    cells[1] = text(&entry.detector.name);
    cells[2] = digest(&entry.detector.digest);
    cells[12] = digest(&entry.upload_commitment);
    cells[13] = text(verdict);
    cells[14] = probability.map_or(Cell::Empty, Cell::Fraction);
    cells
}

/// The columns as Parquet describes them.
pub(crate) fn schema() -> Result<TypePtr, ParquetError> {
    let fields = COLUMNS.iter().map(|column| {
        let (physical, logical) = match column.holds {
            Holds::Number => (Physical::INT64, None),
            Holds::Unsigned => (Physical::INT64, Some(LogicalType::integer(64, false))),
            Holds::Time => {
                let unit = TimeUnit::MILLIS;
                (Physical::INT64, Some(LogicalType::timestamp(true, unit)))
            }
            Holds::Fraction => (Physical::DOUBLE, None),
            Holds::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Holds::Bytes => (Physical::BYTE_ARRAY, None),
        };
        let repetition = match column.is_required {
            true => Repetition::REQUIRED,
            false => Repetition::OPTIONAL,
        };
        let builder = Type::primitive_type_builder(column.name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical);
        builder.build().map(Arc::new)
    });
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    let root = Type::group_type_builder("entries").with_fields(fields);
    root.build().map(Arc::new)
}
