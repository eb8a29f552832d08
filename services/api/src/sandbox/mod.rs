//! Untrusted bytes are parsed in a child process.
//!
//! The child is this same program, started as `retrace parse-untrusted`. It gives up memory,
//! processor time, files, sockets and other programs before it reads the first untrusted byte,
//! decodes one picture and ends. A bomb, a loop or a crash of a decoder costs one request.
//! Content Credentials are read by a second child with limits of its own, so that they cannot cost
//! the picture its score.
//!
//! One exchange: the options are the child's argument, the file is its standard input (behind the
//! trust anchors, where credentials are read), and its standard output is a length (u32,
//! big-endian), that many bytes of JSON (`Reply`) and, for a decoded picture, the RGB8 pixels and,
//! where it has one, the alpha channel.

mod child;
mod confine;
mod manifest;
mod parent;

pub use child::child_main;
pub use confine::Confinement;
pub use parent::{Parsed, Sandbox, SandboxError};

use credentials::{Ingredient, ManifestCaps, Reading};
use provenance::Digest;
use serde::{Deserialize, Serialize};

/// The hidden subcommand under which the program is the child.
pub const SUBCOMMAND: &str = "parse-untrusted";

/// What the child is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ChildOptions {
    limits: media::Limits,
    memory_bytes_max: u64,
    cpu_s_max: u64,
    errand: Errand,
}

/// What the child is to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Errand {
    /// Decode the picture.
    Picture,
    /// Read the Content Credentials.
    Credentials {
        format: media::Format,
        caps: ManifestCaps,
        /// Bytes of the trust anchors, which come before the file.
        anchors_bytes: u64,
        /// What is wanted of them.
        wanted: Wanted,
    },
}

/// What is wanted of Content Credentials.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Wanted {
    /// What they say, and whether they hold.
    Reading,
    /// The picture as the manifest of an image that is made from it states it.
    Ingredient,
}

/// What the child answers.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// The picture without its pixels, which follow.
    Decoded {
        decoded: media::Decoded,
        /// Digest of the pixels as stored, before the file's colour profile was applied.
        pixel_sha256: Digest,
        confinement: Confinement,
    },
    /// What the Content Credentials say; none where there are none.
    Read(Option<Reading>),
    /// The picture as an ingredient.
    Ingredient(Ingredient),
    /// Why the file was refused.
    Refused { code: String, message: String },
}
