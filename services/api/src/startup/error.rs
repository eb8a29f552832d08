//! Why the service does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use ledger::LedgerError;

use crate::config::LimitRefused;
use crate::cosigning::PolicyError;
use crate::engine::EngineError;
use crate::keys::KeyError;
use crate::native::NotFound;
use crate::sandbox::SandboxError;
use crate::signer::{KeyPurpose, SignerAddress};

/// Everything that can stop a start, or end a running service.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// A limit is out of bounds.
    #[error(transparent)]
    Limit(#[from] LimitRefused),
    /// Native parts or models are missing.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The models cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A folder or file of the state cannot be used.
    #[error("{} cannot be used: {source}", path.display())]
    State {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The signing keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A worker signs in the service's name, so it makes no keys of its own.
    #[error("there are no signing keys in {}: a worker needs those of the service whose jobs it \
             works off (share the state folder, or copy keys/)", folder.display())]
    NoKeys {
        /// Where they would be.
        folder: PathBuf,
    },
    /// The signer does not sign what this role needs.
    #[error("the signer signs nothing for {}, which this role needs", purpose.as_str())]
    NotSigned {
        /// What is to be signed.
        purpose: KeyPurpose,
    },
    /// Another entry key is made where its seed is to lie.
    #[error("the entry key lies with the signer at {address}, which hands the log to no other key")]
    KeysElsewhere {
        /// Where it answers.
        address: SignerAddress,
    },
    /// A worker marks in the service's name, so it makes no seed of its own.
    #[error("there is no watermark.seed in {}: a worker needs that of the service whose jobs it \
             works off (copy keys/ again), or --no-watermark", folder.display())]
    NoWatermarkSeed {
        /// Where it would be.
        folder: PathBuf,
    },
    /// Another process records entries, and would go on with the old key.
    #[error("another process keeps the log: stop the service, change the key, and start it again")]
    LogBusy,
    /// The log knows no such key.
    #[error("the log has no key {key}; `retrace key show` lists them")]
    NoSuchKey {
        /// What was asked for.
        key: String,
    },
    /// The key that signs now cannot be revoked: nothing could be recorded after it.
    #[error(
        "{key} signs now: make another key with `retrace key rotate` (--checkpoint for that of checkpoints), then revoke this one"
    )]
    KeyStillSigns {
        /// The key, as `name+id`.
        key: String,
    },
    /// Two earlier checkpoint keys would sign beside the next one.
    #[error(
        "{key} still signs beside the present key: revoke it first (`retrace key revoke {key} --reason WORDS`), which ends its time"
    )]
    KeySignsAlong {
        /// The key, as `name+id`.
        key: String,
    },
    /// A statement about keys breaks a rule.
    #[error(transparent)]
    KeyStatement(provenance::ProvenanceError),
    /// The policy of witnesses cannot be used.
    #[error("the witness policy {} cannot be used: {source}", path.display())]
    WitnessPolicy {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PolicyError,
    },
    /// The database or the ledger in it cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger was signed with other keys.
    #[error("the ledger's newest checkpoint is not signed by the key in {}: bring back the keys \
             that it was signed with ({source})", keys.display())]
    ForeignLog {
        /// The folder of the keys.
        keys: PathBuf,
        /// What does not hold.
        source: LedgerError,
    },
    /// Uploads could not be parsed.
    #[error("uploads cannot be parsed: {0}")]
    Sandbox(#[from] SandboxError),
    /// Without client keys the service keeps to this machine.
    #[error(
        "without any client key the service listens on loopback addresses only, not on {listen}; \
             make a key with `retrace key client`"
    )]
    NoClientKeys {
        /// The address asked for.
        listen: SocketAddr,
    },
    /// The port is taken.
    #[error("port {} of {} is in use by another program; choose another one, or 0 for a free one",
            listen.port(), listen.ip())]
    PortInUse {
        /// The address asked for.
        listen: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The web server failed.
    #[error("the web server failed: {0}")]
    Server(#[source] io::Error),
    /// The sequencer stopped: nothing more can be recorded, so nothing more may be answered.
    #[error("the sequencer stopped: {0}")]
    Sequencer(#[source] LedgerError),
    /// A part of the start panicked.
    #[error("the start was interrupted")]
    Interrupted,
}
