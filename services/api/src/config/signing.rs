//! Who signs the files that are made, and how the keys lie on the disk.

use std::path::{Path, PathBuf};

use clap::Args;

/// How the secrets in `keys/` of the state folder lie on the disk. Whoever has them and the passphrase, where
/// there is one, can sign anything in the service's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Keys")]
pub struct SigningOptions {
    /// File with the passphrase under which the secrets in keys/ lie, mode 600, better on another disk;
    /// secrets that are made are wrapped, and `retrace key wrap` wraps those that are there
    #[arg(long, env = "RETRACE_KEY_PASSPHRASE_FILE", value_name = "FILE")]
    pub key_passphrase_file: Option<PathBuf>,
}

/// Who signs files, and as whom. Whoever controls the chain and its key signs files in the operator's
/// name; whoever controls the name decides whom every manifest calls the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialOptions {
    /// Name of the person or organisation that runs the service.
    pub operator: String,
    /// The operator's certificate chain, PEM; none is the service's own.
    pub chain: Option<PathBuf>,
    /// The private key of that chain.
    pub key: Option<PathBuf>,
    /// Further trust anchors, PEM. Whoever controls them decides whose uploads are called trusted.
    pub anchors: Option<PathBuf>,
}

impl CredentialOptions {
    /// The service's own chain, in the name of an operator.
    #[must_use]
    pub fn of(operator: &str) -> Self {
        Self {
            operator: operator.to_owned(),
            chain: None,
            key: None,
            anchors: None,
        }
    }

    /// The operator's chain and key.
    #[must_use]
    pub fn own_files(&self) -> Option<(&Path, &Path)> {
        self.chain.as_deref().zip(self.key.as_deref())
    }
}
