//! Start-up and shutdown.
//!
//! The order: limits, native parts, ONNX Runtime and models against their manifest, signing
//! keys, Postgres (the private cluster where none is given), ledger, the child that parses
//! uploads, sequencer, port. Whatever is missing or refused ends the start with one clear error,
//! before anything is answered.

mod error;
mod server;
mod services;
mod storage;

pub use error::StartupError;
pub use server::{App, termination};
pub use services::Services;
pub use storage::Storage;
