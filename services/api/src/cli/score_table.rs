//! Tables of scores that grow a line at a time and can be gone on with.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use detector::Evidence;
use serde_json::{Value, json};

use super::failure::Failure;
use super::score::{Scored, json_line};

/// Columns of the CSV form.
const COLUMNS: [&str; 13] = [
    "path",
    "sha256",
    "verdict",
    "reason",
    "probability",
    "trace_raw_score",
    "semantic_raw_score",
    "own_entries",
    "near_entries",
    "marks",
    "detector_version",
    "leaf_index",
    "error",
];

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One JSON object a line, the same as `--json` prints.
    Json,
    /// Comma-separated values under a head line.
    Csv,
}

/// A table under way.
#[derive(Debug)]
pub struct ScoreTable {
    path: PathBuf,
    file: File,
    form: Form,
    done: HashSet<String>,
}

impl ScoreTable {
    /// Begins a table, or goes on with one. A last line that a stopped run left unfinished is cut off.
    ///
    /// # Errors
    /// An ending that is neither `.jsonl`, `.ndjson` nor `.csv`; a file that is there already without
    /// `resume`; one that is no such table.
    pub fn open(path: &Path, resume: bool) -> Result<Self, Failure> {
        let form = match path.extension().and_then(|ending| ending.to_str()) {
            Some("jsonl" | "ndjson") => Form::Json,
            Some("csv") => Form::Csv,
            _ => {
                let text = format!("{} must end in .jsonl or .csv", path.display());
                return Err(Failure::usage(text));
            }
        };
        let refused = |error: std::io::Error| {
            Failure::environment(format!("{} cannot be opened: {error}", path.display()))
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if resume {
            options.create(true);
        } else {
            options.create_new(true);
        }
        let mut file = options.open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Failure::usage(format!(
                "{} is there already; --resume goes on with it",
                path.display()
            )),
            _ => refused(error),
        })?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(refused)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(refused)?;
        file.seek(SeekFrom::End(0)).map_err(refused)?;
        let done = paths_of(&text[..whole], form)
            .ok_or_else(|| Failure::usage(format!("{} is no table of scores", path.display())))?;
        let mut table = Self {
            path: path.to_owned(),
            file,
            form,
            done,
        };
        if form == Form::Csv && whole == 0 {
            table.append(&csv_line(&COLUMNS))?;
        }
        Ok(table)
    }

    /// Whether the table has a line about the file.
    pub fn has(&self, path: &Path) -> bool {
        self.done.contains(path.to_string_lossy().as_ref())
    }

    /// Adds a line.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, path: &Path, result: &Result<Scored, Failure>) -> Result<(), Failure> {
        let line = match self.form {
            Form::Json => format!("{}\n", value(path, result)?),
            Form::Csv => csv_line(&row(path, result)),
        };
        self.append(&line)
    }

    /// One call for the whole line: a stopped run leaves at most one piece of a line.
    fn append(&mut self, line: &str) -> Result<(), Failure> {
        self.file.write_all(line.as_bytes()).map_err(|error| {
            Failure::environment(format!(
                "{} cannot be written: {error}",
                self.path.display()
            ))
        })
    }
}

fn value(path: &Path, result: &Result<Scored, Failure>) -> Result<Value, Failure> {
    match result {
        Ok((examination, recorded)) => json_line(path, examination, recorded.as_ref()),
        Err(failure) => Ok(json!({ "path": path.to_string_lossy(), "error": failure.message() })),
    }
}

fn row(path: &Path, result: &Result<Scored, Failure>) -> [String; COLUMNS.len()] {
    let mut row = [const { String::new() }; COLUMNS.len()];
    row[0] = path.to_string_lossy().into_owned();
    let (examination, recorded) = match result {
        Ok(scored) => scored,
        Err(failure) => {
            failure.message().clone_into(&mut row[12]);
            return row;
        }
    };
    let assessment = &examination.assessment;
    let number = |value: Option<f32>| value.map_or(String::new(), |value| value.to_string());
    let reason = serde_json::to_value(assessment.reason).unwrap_or_default();
    row[1] = examination.sha256.to_string();
    row[2] = assessment.verdict.to_string();
    row[3] = reason.as_str().unwrap_or_default().to_owned();
    row[4] = number(assessment.probability);
    row[5] = number(assessment.raw_score);
    let (mut own, mut near, mut marks) = (Vec::new(), Vec::new(), Vec::new());
    for finding in &assessment.evidence {
        match finding {
            Evidence::SemanticViews { raw_score, .. } => row[6] = raw_score.to_string(),
            Evidence::OwnEntry { leaf_index, .. } => own.push(leaf_index.to_string()),
            Evidence::GeneratorMark { place, claim } => marks.push(format!("{place}: {claim}")),
            Evidence::InvisibleWatermark { generator, .. } => {
                marks.push(format!("watermark: {generator}"));
            }
            Evidence::NoiseWatermark { id, .. } => marks.push(format!("own watermark: {id}")),
            Evidence::NearMatch {
                leaf_index,
                distance,
                ..
            } => near.push(format!("{leaf_index} at {distance}")),
            _ => {}
        }
    }
    row[7] = own.join("; ");
    row[8] = near.join("; ");
    row[9] = marks.join("; ");
    row[10].clone_from(&assessment.detector_version);
    if let Some(recorded) = recorded {
        row[11] = recorded.leaf_index.to_string();
    }
    row
}

/// One line of comma-separated values (RFC 4180). Line breaks become spaces, so that a line of the file
/// is a line of the table; what a spreadsheet would take for a formula gets a quote before it, as file
/// names and marks are other people's words.
fn csv_line<S: AsRef<str>>(cells: &[S]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let cells = cells.iter().map(|cell| {
        let cell = cell.as_ref().replace(['\n', '\r'], " ");
        let formula = cell.starts_with(FORMULA) && cell.parse::<f64>().is_err();
        if formula { format!("'{cell}") } else { cell }
    });
    let line = cells.collect::<Vec<_>>();
    let written = writer.write_record(&line).is_ok();
    assert!(written, "memory takes every record");
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8(bytes).expect("strings were written")
}

/// What spreadsheets begin a formula with.
const FORMULA: [char; 4] = ['=', '+', '-', '@'];

/// Paths of the lines; `None` for a text that is no such table.
fn paths_of(text: &str, form: Form) -> Option<HashSet<String>> {
    match form {
        Form::Json => text
            .lines()
            .map(|line| {
                let value: Value = serde_json::from_str(line).ok()?;
                Some(value.get("path")?.as_str()?.to_owned())
            })
            .collect(),
        Form::Csv if text.is_empty() => Some(HashSet::new()),
        Form::Csv => {
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            if reader.headers().ok()? != &csv::StringRecord::from(COLUMNS.as_slice()) {
                return None;
            }
            let lines = reader.records();
            lines
                .map(|line| {
                    let line = line.ok()?;
                    let path = line.get(0)?;
                    let guarded = path.strip_prefix('\'').filter(|p| p.starts_with(FORMULA));
                    Some(guarded.unwrap_or(path).to_owned())
                })
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_back_from_their_cells_whatever_they_hold() {
        let paths = ["a.png", "a,b.png", "say \"no\".png", "=1+1.png", "-x.png"];
        let mut text = csv_line(&COLUMNS);
        for path in paths {
            let mut row = [""; COLUMNS.len()];
            row[0] = path;
            text += &csv_line(&row);
        }
        let expected = paths.map(str::to_owned).into();
        assert_eq!(paths_of(&text, Form::Csv), Some(expected));
    }

    #[test]
    fn a_cell_that_a_spreadsheet_would_run_is_quoted_and_a_number_is_not() {
        assert_eq!(
            csv_line(&["=HYPERLINK(1)", "-2.5"]),
            "'=HYPERLINK(1),-2.5\n"
        );
    }

    #[test]
    fn a_line_that_was_not_finished_is_cut_and_another_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.jsonl");
        std::fs::write(&path, "{\"path\":\"a.png\"}\n{\"path\":\"b.p").unwrap();
        let table = ScoreTable::open(&path, true).unwrap();
        assert!(table.has(Path::new("a.png")) && !table.has(Path::new("b.png")));
        drop(table);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"path\":\"a.png\"}\n"
        );
        assert!(ScoreTable::open(&path, false).is_err());
        std::fs::write(&path, "something else\n").unwrap();
        assert!(ScoreTable::open(&path, true).is_err());
        assert!(ScoreTable::open(&folder.path().join("scores.txt"), true).is_err());
    }
}
