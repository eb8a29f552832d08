//! Untrusted bytes are parsed in a child process.
//!
//! The child is this same program, started as `retrace parse-untrusted`. It gives up memory,
//! processor time, files, sockets and other programs before it reads the first untrusted byte,
//! decodes one picture and ends. A bomb, a loop or a crash of a decoder costs one request.
//!
//! One exchange: the options are the child's argument, the file is its standard input, and its
//! standard output is a length (u32, big-endian), that many bytes of JSON (`Reply`) and, for a
//! decoded picture, the RGB8 pixels and, where it has one, the alpha channel.

mod child;
mod confine;
mod parent;

pub use child::child_main;
pub use confine::Confinement;
pub use parent::{Parsed, Sandbox, SandboxError};

use serde::{Deserialize, Serialize};

/// The hidden subcommand under which the program is the child.
pub const SUBCOMMAND: &str = "parse-untrusted";

/// What the child is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ChildOptions {
    limits: media::Limits,
    memory_bytes_max: u64,
    cpu_s_max: u64,
}

/// What the child answers.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// The picture without its pixels, which follow.
    Decoded {
        decoded: media::Decoded,
        confinement: Confinement,
    },
    /// Why the file was refused.
    Refused { code: String, message: String },
}
