//! The policy file: the keys that an auditor has decided to believe, one public key file after another.
//!
//! ```text
//! # Keys that retrace-verify believes.
//! retrace.example/log/entries+1b0c8e4f+AQ…
//! retrace.example/log+92a1f0c3+AQ…
//! witness north witness.example/north+5d1e09aa+BA…
//! quorum north
//! ```
//!
//! Where other keys have followed the two, a third line (the JSON of the public key file) has the log's statements
//! about them, each with its proof: from which entry, and for checkpoints of which size, each key is believed. It is
//! added when a newer public key file proves more, and one that contradicts it is refused later.
//!
//! Lines that begin with a number sign, and empty lines, mean nothing. Lines that begin with `witness`,
//! `group` or `quorum` say which witnesses must have cosigned a checkpoint (C2SP tlog-policy); without any
//! no cosignature is demanded.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use provenance::{KeyFile, KeyHistory, WitnessPolicy};

use crate::input::{self, InputError};
use crate::report::Reason;

/// Above any policy that a person looks after.
const POLICY_BYTES_MAX: u64 = 1 << 20;
const HEADER: &str =
    "# Keys that retrace-verify believes: for each log its entry key and its checkpoint key.\n";

/// The pinned keys.
#[derive(Debug)]
pub struct Policy {
    path: PathBuf,
    text: String,
    logs: Vec<Pinned>,
    witnesses: WitnessPolicy,
}

/// The keys of one log.
#[derive(Debug)]
pub struct Pinned {
    /// As they were read.
    pub file: KeyFile,
    /// The keys that followed, as the file proves them.
    pub history: KeyHistory,
}

impl Policy {
    /// Reads a policy file; one that does not exist pins nothing.
    ///
    /// # Errors
    /// When the file is there and cannot be read. What is wrong inside it is the inner error.
    pub fn read(path: &Path) -> Result<Result<Self, Reason>, InputError> {
        let bytes = match input::read(path, POLICY_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(InputError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        Ok(Self::parse(path, bytes))
    }

    fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, Reason> {
        let malformed = |detail: String| Reason::new("policy-malformed", detail);
        let text = String::from_utf8(bytes)
            .map_err(|_| malformed(format!("{} is not UTF-8 text", path.display())))?;
        if text.len() as u64 > POLICY_BYTES_MAX {
            return Err(malformed(format!(
                "it is over the limit of {POLICY_BYTES_MAX} bytes"
            )));
        }
        let (rules, lines): (Vec<&str>, Vec<&str>) = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .partition(|line| WitnessPolicy::is_line(line));
        let witnesses = match rules[..] {
            [] => WitnessPolicy::default(),
            _ => WitnessPolicy::parse(&rules.join("\n"))
                .map_err(|refusal| malformed(refusal.to_string()))?,
        };
        if !witnesses.logs().is_empty() {
            let detail =
                "a log is pinned by its entry key and its checkpoint key, not by a line `log`";
            return Err(malformed(detail.to_owned()));
        }
        let mut logs: Vec<Pinned> = Vec::new();
        let mut rest = &lines[..];
        while !rest.is_empty() {
            let has_statements = rest.get(2).is_some_and(|line| is_statements(line));
            let length = if has_statements { 3 } else { 2 };
            let (own, others) = rest.split_at(length.min(rest.len()));
            rest = others;
            let file = KeyFile::parse(&format!("{}\n", own.join("\n")));
            let file = file.map_err(|refusal| malformed(refusal.to_string()))?;
            let origin = file.keys.origin();
            if logs.iter().any(|log| log.file.keys.origin() == origin) {
                return Err(malformed(format!("{origin} is pinned twice")));
            }
            let history = file.history();
            let history = history.map_err(|refusal| malformed(refusal.to_string()))?;
            logs.push(Pinned { file, history });
        }
        Ok(Self {
            path: path.to_owned(),
            text,
            logs,
            witnesses,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All pinned logs.
    pub fn logs(&self) -> &[Pinned] {
        &self.logs
    }

    /// The witnesses, and which of them a checkpoint needs.
    pub fn witnesses(&self) -> &WitnessPolicy {
        &self.witnesses
    }

    /// The pinned keys of the log with this origin.
    pub fn pinned_of(&self, origin: &str) -> Option<&Pinned> {
        let mut logs = self.logs.iter();
        logs.find(|log| log.file.keys.origin() == origin)
    }

    /// Adds the keys of a log and writes the file anew, all at once.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn pin(&mut self, file: &KeyFile, history: &KeyHistory) -> Result<(), InputError> {
        if self.text.is_empty() {
            self.text.push_str(HEADER);
        } else if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text.push_str(&file.to_string());
        self.logs.push(Pinned {
            file: file.clone(),
            history: history.clone(),
        });
        self.save()
    }

    /// Pins the keys that followed those of a log, in place of what was pinned of them before.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn follow(&mut self, file: &KeyFile, history: &KeyHistory) -> Result<(), InputError> {
        let last_key = file.keys.checkpoint.to_string();
        let mut text = String::with_capacity(self.text.len());
        let mut is_behind = false;
        for line in self.text.lines() {
            let is_old = is_behind && is_statements(line);
            is_behind &= line.is_empty() || line.starts_with('#');
            if is_old {
                continue;
            }
            text.push_str(line);
            text.push('\n');
            if line == last_key {
                is_behind = true;
                let statements = file.to_string();
                text.extend(statements.lines().skip(2).flat_map(|line| [line, "\n"]));
            }
        }
        self.text = text;
        let mut logs = self.logs.iter_mut();
        if let Some(log) = logs.find(|log| log.file.keys == file.keys) {
            (log.file, log.history) = (file.clone(), history.clone());
        }
        self.save()
    }

    fn save(&self) -> Result<(), InputError> {
        self.write().map_err(|source| InputError::Write {
            path: self.path.clone(),
            source,
        })
    }

    /// A crash leaves the old file or the new one, and perhaps a file with `.new` after its name.
    fn write(&self) -> io::Result<()> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let mut file = fs::File::create(&name)?;
        file.write_all(self.text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&name, &self.path)
    }
}

/// Whether a line is the third one of a public key file.
fn is_statements(line: &str) -> bool {
    line.starts_with('{')
}
