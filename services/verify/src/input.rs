//! Files and arguments, read within limits.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use provenance::Digest;

use crate::report::{Check, Reason};

/// Why a check could not even begin.
#[derive(Debug)]
pub enum InputError {
    /// A file cannot be read.
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file cannot be written.
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Arguments that only make sense together.
    Arguments {
        /// What is needed.
        detail: &'static str,
    },
    /// An argument is not hexadecimal.
    Hex {
        /// The argument's name.
        argument: &'static str,
    },
}

impl std::fmt::Display for InputError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { path, source } => {
                write!(formatter, "cannot read {}: {source}", path.display())
            }
            Self::Write { path, source } => {
                write!(formatter, "cannot write {}: {source}", path.display())
            }
            Self::Arguments { detail } => formatter.write_str(detail),
            Self::Hex { argument } => {
                write!(
                    formatter,
                    "{argument} takes an even number of hexadecimal digits"
                )
            }
        }
    }
}

impl std::error::Error for InputError {}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File, InputError> {
    File::open(path).map_err(|source| InputError::File {
        path: path.to_owned(),
        source,
    })
}

/// Reads a file, but not more than one byte over its limit: the parser that knows the limit refuses
/// it then.
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::new();
    open(path)?
        .take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| InputError::File {
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes)
}

/// Larger than any file that holds text: far above every format's own limit.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Reads a text file. Bytes that are not UTF-8 become a failed check.
pub fn read_text(path: &Path, check: &'static str) -> Result<Result<String, Check>, InputError> {
    let text = String::from_utf8(read(path, TEXT_BYTES_MAX)?);
    Ok(text.map_err(|_| {
        let detail = format!("{} is not UTF-8 text", path.display());
        Check::failed(check, Reason::new("malformed", detail))
    }))
}

/// A hash argument. A text that is not hexadecimal at all is a wrong argument; a hash of another
/// length is one that cannot hold.
pub fn parse_hash(
    argument: &'static str,
    text: &str,
) -> Result<Result<Digest, Reason>, InputError> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) || !text.len().is_multiple_of(2) {
        return Err(InputError::Hex { argument });
    }
    let digest = text.to_ascii_lowercase().parse();
    Ok(digest.map_err(|_| {
        let detail = format!(
            "{argument} has {} bytes where 32 are needed",
            text.len() / 2
        );
        Reason::new("hash-length", detail)
    }))
}

/// Hash arguments separated by commas; an empty text is no hash.
pub fn parse_hashes(
    argument: &'static str,
    text: &str,
) -> Result<Result<Vec<Digest>, Reason>, InputError> {
    if text.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    text.split(',')
        .map(|hash| parse_hash(argument, hash))
        .collect()
}
