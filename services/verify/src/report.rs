//! What was checked and what came of it.

use std::fmt;

use provenance::{Checkpoint, Digest, Entry, LeafIndex, ProvenanceError};
use serde::Serialize;
use serde_json::Value;

use crate::exit;

/// Why a check failed or was left out.
#[derive(Debug, Clone, Serialize)]
pub struct Reason {
    /// A stable kebab-case word.
    pub code: &'static str,
    /// The reason in words.
    pub detail: String,
}

impl Reason {
    /// A reason in a word and in words.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }
}

impl From<ProvenanceError> for Reason {
    fn from(refusal: ProvenanceError) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}

/// What came of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It holds.
    Ok,
    /// It does not hold.
    Failed,
    /// It was not checked although it should have been.
    NotChecked,
    /// There is nothing to check, or the caller waived it.
    Skipped,
    /// It holds as far as it goes, and somebody should look at it.
    Warning,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    name: &'static str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    detail: String,
}

impl Check {
    /// A check that holds.
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Ok,
            code: None,
            detail: detail.into(),
        }
    }

    /// A check that does not hold.
    pub fn failed(name: &'static str, reason: impl Into<Reason>) -> Self {
        Self::with_reason(name, Status::Failed, reason.into())
    }

    /// A check that should have been made and was not.
    pub fn not_checked(name: &'static str, reason: Reason) -> Self {
        Self::with_reason(name, Status::NotChecked, reason)
    }

    /// A check that was rightly left out.
    pub fn skipped(name: &'static str, reason: Reason) -> Self {
        Self::with_reason(name, Status::Skipped, reason)
    }

    /// A check that holds as far as it goes, and that somebody should look at.
    pub fn warning(name: &'static str, reason: Reason) -> Self {
        Self::with_reason(name, Status::Warning, reason)
    }

    /// Whether it was made and holds.
    pub fn is_ok(&self) -> bool {
        self.status == Status::Ok
    }

    fn with_reason(name: &'static str, status: Status, reason: Reason) -> Self {
        Self {
            name,
            status,
            code: Some(reason.code),
            detail: reason.detail,
        }
    }
}

/// The outcome of all checks.
#[derive(Debug, Serialize)]
pub struct Report {
    holds: bool,
    checks: Vec<Check>,
    /// What was proven, filled in only from parts that hold.
    #[serde(flatten)]
    proven: Proven,
}

/// What the parts that hold say.
#[derive(Debug, Default, Serialize)]
pub struct Proven {
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<ProvenCheckpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_stamped_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<ProvenEntry>,
}

#[derive(Debug, Serialize)]
struct ProvenCheckpoint {
    origin: String,
    tree_size: u64,
    root_hash: String,
}

#[derive(Debug, Serialize)]
struct ProvenEntry {
    leaf_index: u64,
    leaf_hash: String,
    statement: Value,
}

impl Report {
    /// A report without any check, which holds nothing yet.
    pub fn new() -> Self {
        Self {
            holds: false,
            checks: Vec::new(),
            proven: Proven::default(),
        }
    }

    /// A report that ends with this check.
    pub fn of(check: Check) -> Self {
        let mut report = Self::new();
        report.add(check);
        report
    }

    /// Adds a check. The report holds when it has checks and each of them does, is skipped or warns.
    pub fn add(&mut self, check: Check) {
        self.checks.push(check);
        let counts =
            |check: &Check| matches!(check.status, Status::Ok | Status::Skipped | Status::Warning);
        self.holds = self.checks.iter().all(counts);
    }

    /// Records a checkpoint whose signature holds.
    pub fn prove_checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.proven.checkpoint = Some(ProvenCheckpoint {
            origin: checkpoint.origin.clone(),
            tree_size: checkpoint.tree_size.get(),
            root_hash: checkpoint.root_hash.to_string(),
        });
    }

    /// Records when a checkpoint existed, as an authority that is believed says.
    pub fn prove_time(&mut self, time: String) {
        self.proven.time_stamped_at = Some(time);
    }

    /// Records an entry, once its signature and its place in the log hold.
    pub fn prove_entry(&mut self, leaf_index: LeafIndex, leaf_hash: Digest, entry: &Entry) {
        let statement = serde_json::from_slice(&entry.to_bytes())
            .expect("the canonical bytes of an entry are JSON");
        self.proven.entry = Some(ProvenEntry {
            leaf_index: leaf_index.get(),
            leaf_hash: leaf_hash.to_string(),
            statement,
        });
    }

    /// Whether everything so far holds.
    pub fn holds(&self) -> bool {
        self.holds
    }

    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        if self.holds {
            exit::HOLDS
        } else {
            exit::DOES_NOT_HOLD
        }
    }

    /// One JSON document and a newline.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("a report has string keys only");
        json + "\n"
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let status = match check.status {
                Status::Ok => "ok",
                Status::Failed => "FAILED",
                Status::NotChecked => "NOT CHECKED",
                Status::Skipped => "skipped",
                Status::Warning => "WARNING",
            };
            let code = check
                .code
                .map(|code| format!("{code}: "))
                .unwrap_or_default();
            let detail = printable(&check.detail);
            writeln!(
                formatter,
                "{status:<11}  {:<12}  {code}{detail}",
                check.name
            )?;
        }
        let verdict = if self.holds { "holds" } else { "DOES NOT HOLD" };
        writeln!(formatter, "{verdict}")
    }
}

/// The text without characters that could steer a terminal or reorder the line: parts of it come
/// from the very file that is not believed yet.
fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            printable.extend(c.escape_unicode());
        } else {
            printable.push(c);
        }
    }
    printable
}
