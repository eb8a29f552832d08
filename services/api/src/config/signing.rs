//! Who signs the files that are made.

use std::path::{Path, PathBuf};

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
