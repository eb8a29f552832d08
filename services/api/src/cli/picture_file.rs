//! Pictures that the user names: read within the limits, parsed in a child process.

use std::path::Path;

use api::config::Limits;
use api::sandbox::{Parsed, Sandbox, SandboxError};

use super::failure::Failure;

/// Reads a file, refusing one over the limit before reading it.
pub fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::does_not_hold(format!("{} cannot be read: {error}", path.display()))
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        let text = format!("{} is a folder; name the pictures in it", path.display());
        return Err(Failure::does_not_hold(text));
    }
    if metadata.len() > limits.upload_bytes_max {
        return Err(Failure::does_not_hold(format!(
            "{} has {} bytes, over upload_bytes_max ({})",
            path.display(),
            metadata.len(),
            limits.upload_bytes_max
        )));
    }
    std::fs::read(path).map_err(unreadable)
}

/// Reads and parses a picture.
pub async fn parse(path: &Path, sandbox: &Sandbox, limits: &Limits) -> Result<Parsed, Failure> {
    parse_bytes(path, &read(path, limits)?, sandbox).await
}

/// Parses a picture that was read.
pub async fn parse_bytes(path: &Path, bytes: &[u8], sandbox: &Sandbox) -> Result<Parsed, Failure> {
    sandbox.parse(bytes).await.map_err(|error| match error {
        SandboxError::NotStarted { .. } => Failure::environment(error),
        refused => Failure::does_not_hold(format!("{}: {refused}", path.display())),
    })
}
