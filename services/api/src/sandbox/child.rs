//! The child's side.

use std::io::{Read, Write};
use std::process::ExitCode;

use credentials::ManifestReader;
use provenance::Digest;

use super::confine::{Confinement, confine};
use super::{ChildOptions, Errand, Reply, Wanted};

/// Runs the child: confines itself, reads one file from standard input, writes one reply.
///
/// Call it first thing in `main` when the first argument is [`super::SUBCOMMAND`], before any
/// thread or runtime starts.
#[must_use]
pub fn child_main() -> ExitCode {
    let options = std::env::args()
        .nth(2)
        .and_then(|text| serde_json::from_str(&text).ok());
    let Some(options) = options else {
        eprintln!("retrace: this subcommand is started by the service alone");
        return ExitCode::from(2);
    };
    let confinement = confine(&options);
    match answer(&options, confinement) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer(options: &ChildOptions, confinement: Confinement) -> std::io::Result<()> {
    let mut input = std::io::stdin().lock();
    let mut anchors = String::new();
    if let Errand::Credentials { anchors_bytes, .. } = options.errand {
        input
            .by_ref()
            .take(anchors_bytes)
            .read_to_string(&mut anchors)?;
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, so that the cap refuses the file instead of cutting it.
    let most = options.limits.bytes_max.saturating_add(1);
    input.take(most).read_to_end(&mut bytes)?;
    let (reply, pixels) = match options.errand {
        Errand::Picture => decode(&bytes, options, confinement),
        Errand::Credentials {
            format,
            caps,
            wanted,
            ..
        } => {
            let reader = ManifestReader::new(&anchors, caps).map_err(std::io::Error::other)?;
            let reply = match wanted {
                Wanted::Reading => Reply::Read(reader.read(&bytes, format)),
                Wanted::Ingredient => Reply::Ingredient(reader.ingredient(&bytes, format)),
            };
            (reply, Vec::new())
        }
    };
    let json = serde_json::to_vec(&reply)?;
    let length = u32::try_from(json.len()).map_err(std::io::Error::other)?;
    let mut out = std::io::stdout().lock();
    out.write_all(&length.to_be_bytes())?;
    out.write_all(&json)?;
    out.write_all(&pixels)?;
    out.flush()
}

/// Decodes the picture; its pixels come apart.
fn decode(bytes: &[u8], options: &ChildOptions, confinement: Confinement) -> (Reply, Vec<u8>) {
    match media::decode_stored(bytes, &options.limits) {
        Ok(stored) => {
            let pixel_sha256 = Digest::of(&stored.pixel_preimage());
            let mut decoded = stored.into_shown();
            let mut pixels = std::mem::take(&mut decoded.rgb);
            pixels.extend(decoded.alpha.take().unwrap_or_default());
            let reply = Reply::Decoded {
                decoded,
                pixel_sha256,
                confinement,
            };
            (reply, pixels)
        }
        Err(error) => {
            let (code, message) = (error.code().to_owned(), error.to_string());
            (Reply::Refused { code, message }, Vec::new())
        }
    }
}
