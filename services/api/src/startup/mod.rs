//! Start-up and shutdown.
//!
//! The order: limits, native parts, ONNX Runtime and models against their manifest, signing
//! keys, Postgres (the private cluster where none is given), ledger, the key that signs files, the
//! child that parses uploads, sequencer, port, workers. Whatever is missing or refused ends the start with one clear error,
//! before anything is answered.
//!
//! What a role leaves out: `api` opens no generator and has no workers, `worker` makes no keys, has
//! no sequencer and answers nothing but how it is.

mod error;
mod key_changes;
mod server;
mod services;
mod storage;
mod workers;

pub use error::StartupError;
pub use key_changes::{
    ChangedKey, KeyChange, KeyToRevoke, Since, fingerprint, revoke_key, rotate_checkpoint_key,
    rotate_entry_key,
};
pub use server::{App, termination};
pub use services::Services;
pub use storage::{CHECKPOINT_STORE, Storage, restore};
