//! `retrace-verify export`

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use columnar::{ColumnarError, FoundManifest, Rows};
use provenance::envelope::ENVELOPE_BYTES_MAX;
use provenance::export::{MANIFEST_BYTES_MAX, manifest_in, ndjson_row};
use provenance::{
    Checkpoint, Digest, Envelope, ExportEncoding, ExportManifest, KeyHistory, LeafIndex,
    SignedCheckpoint, SignedManifest,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

use crate::arguments::ExportTask;
use crate::completeness::{self, Exported, Log};
use crate::input::{self, InputError};
use crate::keys::{self, Trusted};
use crate::report::{Check, Reason, Report};
use crate::witnesses;

/// The envelope, the statement in it once more, and names and hashes around both.
const LINE_BYTES_MAX: usize = 2 * ENVELOPE_BYTES_MAX + MANIFEST_BYTES_MAX;

/// Checks an export in one pass, in constant memory but for the places of its rows.
pub fn check(task: &ExportTask, show_progress: bool) -> Result<Report, InputError> {
    let (trusted, mut report) = match keys::load(&task.keys)? {
        Ok(loaded) => loaded,
        Err(report) => return Ok(*report),
    };
    let mut reading = Reading::new(&trusted.history);
    let columns = Columns::open(&task.file)?;
    let last = match &columns {
        Some(_) => Vec::new(),
        None => reading.run(&task.file)?,
    };
    let signed = match &columns {
        Some(columns) => columns.manifest(),
        None => manifest_in(&last),
    };
    let Some(manifest) = check_manifest(&mut report, signed, &trusted.history) else {
        return Ok(report);
    };
    let checkpoint = check_checkpoint(&mut report, &manifest, &trusted);
    if let Some(columns) = &columns {
        (reading.bytes, reading.hasher) = columns.hash()?;
    }
    let whole = reading.whole_check(&manifest, columns.is_some());
    // The format is parsed only where the bytes are those that were signed.
    let is_whole = whole.is_ok();
    report.add(whole);
    if let (Some(columns), true) = (columns, is_whole) {
        columns.read(&mut reading);
    }
    report.add(reading.rows_check(&manifest, is_whole));
    if let (Some(tiles), Some(checkpoint), true) = (&task.tiles, checkpoint, report.holds()) {
        let log = Log {
            trusted: &trusted,
            tiles,
            show_progress,
        };
        let exported = Exported {
            manifest: &manifest,
            checkpoint: &checkpoint,
            places: &reading.places,
        };
        completeness::check_export(&mut report, &log, &exported)?;
    }
    Ok(report)
}

fn check_manifest(
    report: &mut Report,
    signed: Option<&[u8]>,
    keys: &KeyHistory,
) -> Option<ExportManifest> {
    const CHECK: &str = "manifest";
    let Some(signed) = signed else {
        let detail =
            "there is no manifest at the end: the export broke off, or its end was cut off";
        report.add(Check::failed(
            CHECK,
            Reason::new("manifest-missing", detail),
        ));
        return None;
    };
    let verified = SignedManifest::parse(signed).and_then(|signed| {
        let key = keys.key(signed.key_id()).unwrap_or(keys.current());
        let manifest = signed.verify(&key.verifier)?;
        Ok((manifest, key))
    });
    match verified {
        // A manifest has no place in the log, so that nobody can say whether it is older than the revocation.
        Ok((_, key)) if key.revocation.is_some() => {
            let reason = Reason::new("key-revoked", keys::describe(key));
            report.add(Check::failed(CHECK, reason));
            None
        }
        Ok((manifest, key)) => {
            let conditions: Vec<String> = manifest
                .filter
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let conditions = match conditions.is_empty() {
                true => "the whole log".to_owned(),
                false => conditions.join(" and "),
            };
            let signer = key.verifier.key_id();
            let detail = format!("signed by {signer}: {} rows, {conditions}", manifest.rows);
            report.add(Check::ok(CHECK, detail));
            Some(manifest)
        }
        Err(refusal) => {
            report.add(Check::failed(CHECK, refusal));
            None
        }
    }
}

fn check_checkpoint(
    report: &mut Report,
    manifest: &ExportManifest,
    trusted: &Trusted,
) -> Option<Checkpoint> {
    const CHECK: &str = "checkpoint";
    let signed = SignedCheckpoint::parse(&manifest.checkpoint).and_then(|signed| {
        trusted.history.checkpoints().verify(&signed)?;
        Ok(signed)
    });
    match signed {
        Ok(signed) => {
            let checkpoint = signed.unverified().clone();
            let last = manifest.last_index;
            if last.is_some_and(|last| !checkpoint.tree_size.contains(last)) {
                let detail = "the last row is outside the tree of the checkpoint";
                report.add(Check::failed(
                    CHECK,
                    Reason::new("index-out-of-range", detail),
                ));
                return None;
            }
            let detail = format!(
                "tree size {}, root hash {}",
                checkpoint.tree_size, checkpoint.root_hash
            );
            report.add(Check::ok(CHECK, detail));
            if !witnesses::check(report, &signed, trusted) {
                return None;
            }
            report.prove_checkpoint(&checkpoint);
            Some(checkpoint)
        }
        Err(refusal) => {
            report.add(Check::failed(CHECK, refusal));
            None
        }
    }
}

/// A row of NDJSON. Its statement is compared by writing the line anew.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    leaf_index: LeafIndex,
    #[serde(rename = "leaf_hash")]
    _leaf_hash: IgnoredAny,
    #[serde(rename = "statement")]
    _statement: IgnoredAny,
    envelope: Envelope,
}

/// What was read so far.
struct Reading<'a> {
    keys: &'a KeyHistory,
    hasher: Sha256,
    bytes: u64,
    rows: u64,
    first: Option<LeafIndex>,
    last: Option<LeafIndex>,
    /// Where the rows say that they stand in the log.
    places: Vec<LeafIndex>,
    /// The first row that does not hold.
    refused: Option<Reason>,
}

impl<'a> Reading<'a> {
    fn new(keys: &'a KeyHistory) -> Self {
        Self {
            keys,
            hasher: Sha256::new(),
            bytes: 0,
            rows: 0,
            first: None,
            last: None,
            places: Vec::new(),
            refused: None,
        }
    }

    /// Reads the whole file; answers its last line.
    fn run(&mut self, path: &Path) -> Result<Vec<u8>, InputError> {
        let mut file = BufReader::new(input::open(path)?);
        let mut held = next_line(&mut file, path)?;
        loop {
            let line = next_line(&mut file, path)?;
            if line.is_empty() {
                return Ok(held);
            }
            self.take(&held);
            held = line;
        }
    }

    /// A line that is not the last one.
    fn take(&mut self, line: &[u8]) {
        self.hasher.update(line);
        self.bytes += line.len() as u64;
        self.rows += 1;
        self.places.extend(csv_place(line));
        // What follows a refused row is counted, and not looked at any more.
        if line.starts_with(b"{") && self.refused.is_none() {
            let row = self.rows;
            if let Err(reason) = self.check_row(line) {
                let detail = format!("row {row}: {}", reason.detail);
                self.refused = Some(Reason::new(reason.code, detail));
            }
        }
    }

    fn check_row(&mut self, line: &[u8]) -> Result<(), Reason> {
        let row: Row = serde_json::from_slice(line)
            .map_err(|error| Reason::new("row-malformed", error.to_string()))?;
        let is_stated = ndjson_row(row.leaf_index, &row.envelope) == line;
        self.take_row(row.leaf_index, &row.envelope, is_stated)
    }

    /// A row with its envelope, and whether it is what that states.
    fn take_row(
        &mut self,
        leaf_index: LeafIndex,
        envelope: &Envelope,
        is_stated: bool,
    ) -> Result<(), Reason> {
        self.keys.verify(envelope, leaf_index)?;
        if !is_stated {
            let detail = "the row is not what its envelope states";
            return Err(Reason::new("row-differs", detail));
        }
        if self.last.is_some_and(|last| last >= leaf_index) {
            let detail = format!("entry {leaf_index} is not behind the row before");
            return Err(Reason::new("row-order", detail));
        }
        self.places.push(leaf_index);
        self.first.get_or_insert(leaf_index);
        self.last = Some(leaf_index);
        Ok(())
    }

    fn whole_check(&self, manifest: &ExportManifest, is_columns: bool) -> Check {
        const CHECK: &str = "export";
        if is_columns != (manifest.encoding == ExportEncoding::Parquet) {
            let detail = format!("the rows are not written as {:?}", manifest.encoding);
            return Check::failed(CHECK, Reason::new("export-differs", detail));
        }
        let sha256 = Digest::from_bytes(self.hasher.clone().finalize().into());
        if (self.bytes, sha256) == (manifest.bytes, manifest.sha256) {
            return Check::ok(CHECK, format!("{} bytes, sha256 {sha256}", self.bytes));
        }
        let detail = format!(
            "{} bytes with sha256 {sha256}, signed were {} with {}",
            self.bytes, manifest.bytes, manifest.sha256
        );
        Check::failed(CHECK, Reason::new("export-differs", detail))
    }

    fn rows_check(&self, manifest: &ExportManifest, is_whole: bool) -> Check {
        const CHECK: &str = "rows";
        if manifest.encoding == ExportEncoding::Parquet && !is_whole {
            let reason = Reason::new("export-differs", "they are not what was signed");
            return Check::not_checked(CHECK, reason);
        }
        if manifest.encoding == ExportEncoding::Csv {
            let detail = "rows of CSV carry no signatures of their own";
            return Check::skipped(CHECK, Reason::new("rows-unsigned", detail));
        }
        if let Some(reason) = &self.refused {
            return Check::failed(CHECK, reason.clone());
        }
        let found = (self.rows, self.first, self.last);
        if found != (manifest.rows, manifest.first_index, manifest.last_index) {
            let detail = format!("{} rows where {} were signed", self.rows, manifest.rows);
            return Check::failed(CHECK, Reason::new("row-count", detail));
        }
        let signer = match self.keys.keys() {
            [only] => only.verifier.key_id(),
            _ => "the key of its place".to_owned(),
        };
        Check::ok(CHECK, format!("{}, each signed by {signer}", self.rows))
    }
}

/// A file of columns.
struct Columns {
    file: File,
    path: PathBuf,
    manifest: Option<FoundManifest>,
}

impl Columns {
    /// Opens the file where it is one of columns.
    fn open(path: &Path) -> Result<Option<Self>, InputError> {
        let mut file = input::open(path)?;
        let failed = |source| InputError::File {
            path: path.to_owned(),
            source,
        };
        let mut magic = [0; 4];
        match file.read_exact(&mut magic) {
            Ok(()) if magic == *b"PAR1" => {}
            Ok(()) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        let manifest = columnar::find_manifest(&mut file).map_err(failed)?;
        Ok(Some(Self {
            file,
            path: path.to_owned(),
            manifest,
        }))
    }

    fn manifest(&self) -> Option<&[u8]> {
        Some(&self.manifest.as_ref()?.signed)
    }

    /// How many bytes stand around the manifest, and their digest.
    fn hash(&self) -> Result<(u64, Sha256), InputError> {
        let (start, length) = match &self.manifest {
            Some(found) => (found.start, found.length),
            None => (u64::MAX, 0),
        };
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        for (from, length) in [(0, start), (start.saturating_add(length), u64::MAX)] {
            let mut file = &self.file;
            let read = file
                .seek(SeekFrom::Start(from))
                .and_then(|_| io::copy(&mut file.take(length), &mut hasher));
            bytes += read.map_err(|source| InputError::File {
                path: self.path.clone(),
                source,
            })?;
        }
        Ok((bytes, hasher))
    }

    /// Reads the rows, whose bytes are those that were signed.
    fn read(self, reading: &mut Reading<'_>) {
        let read = || -> Result<(), Reason> {
            let malformed = |error: ColumnarError| Reason::new("row-malformed", error.to_string());
            let mut rows = Rows::open(self.file).map_err(malformed)?;
            while let Some(row) = rows.next_row().map_err(malformed)? {
                reading.rows += 1;
                let (place, envelope) = columnar::place_and_envelope(&row).map_err(malformed)?;
                let stated = columnar::row(place, &envelope).map_err(malformed)?;
                reading.take_row(place, &envelope, stated == row)?;
            }
            Ok(())
        };
        if let Err(reason) = read() {
            let detail = format!("row {}: {}", reading.rows, reason.detail);
            reading.refused = Some(Reason::new(reason.code, detail));
        }
    }
}

/// The place that a row of CSV begins with; none for the line of names and for other lines.
fn csv_place(line: &[u8]) -> Option<LeafIndex> {
    let place = line.split(|byte| *byte == b',').next()?;
    str::from_utf8(place).ok()?.parse().ok().map(LeafIndex::new)
}

/// The next line with its end; nothing at the end of the file. A line over the limit comes in pieces,
/// which are no rows.
fn next_line(file: &mut BufReader<File>, path: &Path) -> Result<Vec<u8>, InputError> {
    let mut line = Vec::new();
    file.by_ref()
        .take(LINE_BYTES_MAX as u64)
        .read_until(b'\n', &mut line)
        .map_err(|source| InputError::File {
            path: path.to_owned(),
            source,
        })?;
    Ok(line)
}
