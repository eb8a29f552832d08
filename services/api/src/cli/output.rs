//! Lines for people and scripts, where whoever reads them may have left.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _, stderr, stdout};

use super::{Outcome, cannot_write};

/// Writes a line to standard output. That its reader has left is a quiet end: there is nobody to tell.
pub fn say(line: impl Display) -> Outcome {
    let mut output = stdout().lock();
    match writeln!(output, "{line}").and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(cannot_write),
    }
}

/// Writes a line to standard output that somebody must take: it is not shown again.
pub fn hand_over(line: impl Display) -> Outcome {
    let mut output = stdout().lock();
    let written = writeln!(output, "{line}").and_then(|()| output.flush());
    written.map_err(cannot_write)
}

/// Writes a line to standard error. When it cannot be written, there is nowhere to say so.
pub fn tell(line: impl Display) {
    let _ = writeln!(stderr().lock(), "{line}");
}
