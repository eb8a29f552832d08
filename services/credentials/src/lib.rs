//! Content Credentials (C2PA): manifests in outputs, and what the manifests of uploads say.
//!
//! A manifest is a signed statement inside a file about how the file came to be. It is bound to the
//! file's bytes by a hash, so the digest that the ledger records is that of the file with its
//! manifest, and the ledger's proof travels beside the file. A manifest holds no prompt.
//!
//! Nothing here reaches the network: no manifest and no revocation status is fetched, and a time stamp by
//! whoever the caller hands in.

mod boxes;
mod chain;
mod date;
mod dev_chain;
mod error;
mod profile;
mod read;
mod settings;
mod signer;
mod statement;
mod time_stamp;
mod time_stamp_reply;
mod write;

pub use chain::{CertificateChain, Key};
pub use date::rfc3339;
pub use dev_chain::DevChain;
pub use error::CredentialsError;
pub use profile::BrokenRule;
pub use read::{ManifestCaps, ManifestReader, Reading, State, manifest_store};
pub use signer::CredentialSigner;
pub use statement::{Ingredient, ModelStatement, Operator, SoftBinding, Software, Statement, Work};
pub use time_stamp::{TIME_STAMP_BYTES_MAX, TimeStampAuthority};
pub use time_stamp_reply::{
    TimeStamp, TimeStampAnchors, TimeStampRefusal, TimeStampReply, time_stamp_request,
};
