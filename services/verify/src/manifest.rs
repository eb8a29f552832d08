//! What the Content Credentials of an image file say, offline.

use std::path::Path;

use credentials::{ManifestCaps, ManifestReader, Reading, State};

use crate::input::{self, InputError};
use crate::report::{Check, Reason};

const CHECK: &str = "credentials";

/// Checks the manifest of a file under the trust anchors of a PEM file, or under none. The manifest
/// covers the file's bytes; the ledger's entry is checked apart and does not depend on it.
pub fn check(file: &[u8], anchors: Option<&Path>) -> Result<Check, InputError> {
    let anchors = match anchors
        .map(|path| input::read_text(path, CHECK))
        .transpose()?
    {
        Some(Ok(text)) => text,
        Some(Err(check)) => return Ok(check),
        None => String::new(),
    };
    let reader = match ManifestReader::new(&anchors, ManifestCaps::default()) {
        Ok(reader) => reader,
        Err(error) => {
            let reason = Reason::new("trust-anchors", error.to_string());
            return Ok(Check::failed(CHECK, reason));
        }
    };
    let reading = media::sniff(file)
        .ok()
        .and_then(|format| reader.read(file, format));
    Ok(match reading {
        None => {
            let detail = "the file has no content credentials";
            Check::skipped(CHECK, Reason::new("no-credentials", detail))
        }
        Some(reading) => outcome(&reading),
    })
}

fn outcome(reading: &Reading) -> Check {
    let codes = reading.codes.join(", ");
    let signer = reading.signer.as_deref().unwrap_or("an unnamed signer");
    match reading.state {
        State::Refused => Check::failed(CHECK, Reason::new("credentials-refused", codes)),
        State::Invalid => Check::failed(CHECK, Reason::new("credentials-invalid", codes)),
        State::Valid => {
            let detail = format!(
                "hold, signed by {signer}, who is under none of the given trust anchors \
                 (--trust-anchors FILE)"
            );
            Check::warning(CHECK, Reason::new("credentials-untrusted", detail))
        }
        State::Trusted => Check::ok(CHECK, format!("hold, signed by {signer}")),
    }
}
