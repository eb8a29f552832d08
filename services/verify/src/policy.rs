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
//! Lines that begin with a number sign, and empty lines, mean nothing. Lines that begin with `witness`,
//! `group` or `quorum` say which witnesses must have cosigned a checkpoint (C2SP tlog-policy); without any
//! no cosignature is demanded.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use provenance::{PublicKeys, WitnessPolicy};

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
    logs: Vec<PublicKeys>,
    witnesses: WitnessPolicy,
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
        let mut logs: Vec<PublicKeys> = Vec::new();
        for pair in lines.chunks(2) {
            let keys = PublicKeys::parse(&format!("{}\n", pair.join("\n")))
                .map_err(|refusal| malformed(refusal.to_string()))?;
            if logs.iter().any(|log| log.origin() == keys.origin()) {
                return Err(malformed(format!("{} is pinned twice", keys.origin())));
            }
            logs.push(keys);
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
    pub fn logs(&self) -> &[PublicKeys] {
        &self.logs
    }

    /// The witnesses, and which of them a checkpoint needs.
    pub fn witnesses(&self) -> &WitnessPolicy {
        &self.witnesses
    }

    /// The pinned keys of the log with this origin.
    pub fn keys_of(&self, origin: &str) -> Option<&PublicKeys> {
        self.logs.iter().find(|keys| keys.origin() == origin)
    }

    /// Adds the keys of a log and writes the file anew, all at once.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn pin(&mut self, keys: PublicKeys) -> Result<(), InputError> {
        if self.text.is_empty() {
            self.text.push_str(HEADER);
        } else if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text.push_str(&keys.to_string());
        self.logs.push(keys);
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
