//! The key and certificates with which files are signed (Content Credentials). They are apart from
//! the ledger's keys: one key, one purpose.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use credentials::{
    CertificateChain, CredentialSigner, CredentialsError, DevChain, Key, ManifestCaps,
    ManifestReader,
};

use crate::config::CredentialOptions;
use crate::keys::{
    CREDENTIALS_FILE, KeyError, Vault, check_mode, lock, make_keys_folder, name_of, read_secret,
    write_whole,
};

/// Every root of our own so far, newest first, in the folder of keys.
const ROOTS_FILE: &str = "credential-roots.pem";
/// A copy of the roots for everybody, in the state folder.
pub const ROOTS_PUBLIC_FILE: &str = "retrace-root.pem";

/// The line before a certificate in PEM.
const FIRST_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// What signs the files that the service makes.
#[derive(Debug, Clone)]
pub struct CredentialKeys {
    /// The chain with its key.
    pub signer: Arc<CredentialSigner>,
    /// Whether the chain ends in a root of our own, which nobody else trusts.
    pub own_root: bool,
    /// The roots of our own so far, PEM.
    pub own_roots_pem: String,
    /// Whether the chain was made just now.
    pub created: bool,
}

impl CredentialKeys {
    /// Whether they can be opened without making any.
    #[must_use]
    pub fn exist(state: &Path, options: &CredentialOptions) -> bool {
        options.own_files().is_some() || state.join("keys").join(CREDENTIALS_FILE).is_file()
    }

    /// Opens the operator's own chain and key where they are set, else the service's, which are made
    /// where they are missing.
    ///
    /// # Errors
    /// See [`KeyError`]; of certificates the rule that one breaks. Nothing is ever replaced.
    pub fn open(
        state: &Path,
        options: &CredentialOptions,
        now_s: i64,
        vault: &Vault,
    ) -> Result<Self, KeyError> {
        let folder = state.join("keys");
        if let Some((chain, key)) = options.own_files() {
            let signer = brought(chain, key, now_s)?;
            return Ok(Self {
                signer: Arc::new(signer),
                own_root: false,
                own_roots_pem: read_or_empty(&folder.join(ROOTS_FILE))?,
                created: false,
            });
        }
        let path = folder.join(CREDENTIALS_FILE);
        let created = !path.exists() && make(state, &options.operator, now_s, vault)?;
        let signer = read_own(&path, now_s, vault)?;
        // A crash before this leaves a chain whose root is not among our own: the next start adds it.
        let own_roots_pem = with_root_of(signer.chain().pem(), &folder.join(ROOTS_FILE))?;
        write_public(&state.join(ROOTS_PUBLIC_FILE), &own_roots_pem)?;
        Ok(Self {
            signer: Arc::new(signer),
            own_root: true,
            own_roots_pem,
            created,
        })
    }

    /// Replaces the service's chain by a new one. Files that the old one signed keep their
    /// certificates, and its root stays among our own.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn replace(
        state: &Path,
        options: &CredentialOptions,
        now_s: i64,
        vault: &Vault,
    ) -> Result<Self, KeyError> {
        let folder = state.join("keys");
        let path = folder.join(CREDENTIALS_FILE);
        if path.exists() {
            let old = key_in(&path, vault)?;
            with_root_of(old.pem(), &folder.join(ROOTS_FILE))?;
            // A crash behind this leaves no chain: the next start makes one.
            fs::remove_file(&path).map_err(at(&path))?;
        }
        Self::open(state, options, now_s, vault)
    }
}

impl CredentialKeys {
    /// The certificates under which signers of uploads are trusted, PEM: our own roots, the last
    /// certificate of the chain that signs here, and the operator's anchors.
    ///
    /// # Errors
    /// When the operator's anchors cannot be read.
    pub fn anchors(&self, options: &CredentialOptions) -> Result<String, KeyError> {
        let chain = self.signer.chain().pem();
        let last = chain.rfind(FIRST_CERTIFICATE).map(|start| &chain[start..]);
        let own = format!("{}{}\n", self.own_roots_pem, last.unwrap_or_default());
        with_further_anchors(own, options)
    }
}

/// The trust anchors of a command that opens no keys: our own roots, where the state folder names
/// any, and the operator's anchors.
///
/// # Errors
/// When they cannot be read.
pub fn offline_anchors(state: &Path, options: &CredentialOptions) -> Result<String, KeyError> {
    with_further_anchors(read_or_empty(&state.join(ROOTS_PUBLIC_FILE))?, options)
}

fn with_further_anchors(own: String, options: &CredentialOptions) -> Result<String, KeyError> {
    let Some(path) = &options.anchors else {
        return Ok(own);
    };
    let further = fs::read_to_string(path).map_err(at(path))?;
    // Checked here, where the file can be named: the children that use them cannot say what is wrong.
    ManifestReader::new(&further, ManifestCaps::default()).map_err(unusable(path))?;
    Ok(format!("{own}{further}"))
}

/// Makes a chain and writes it unless another process was faster; says whether it was written.
fn make(state: &Path, operator: &str, now_s: i64, vault: &Vault) -> Result<bool, KeyError> {
    let path = make_keys_folder(state)?.join(CREDENTIALS_FILE);
    let _turn = lock(&state.join("keys"))?;
    let made = DevChain::make(operator, now_s).map_err(unusable(&path))?;
    let text = Key::new(format!("{}{}", made.key.pem(), made.chain.pem()));
    let sealed = vault.seal(&name_of(&path), text.pem().as_bytes());
    match write_whole(&path, &sealed, false) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(KeyError::File { path, source }),
    }
}

/// The roots of our own with that of a chain, the last certificate of its text. It is added to their
/// file where it is missing.
fn with_root_of(chain: &str, roots: &Path) -> Result<String, KeyError> {
    let known = read_or_empty(roots)?;
    let root = chain.rfind(FIRST_CERTIFICATE).map(|start| &chain[start..]);
    match root.map(str::trim_end) {
        Some(root) if !known.contains(root) => {
            let all = format!("{root}\n{known}");
            let _turn = lock(roots.parent().expect("the roots lie in the folder of keys"))?;
            write_whole(roots, all.as_bytes(), true).map_err(at(roots))?;
            Ok(all)
        }
        _ => Ok(known),
    }
}

/// Reads the service's own key and chain from their one file.
fn read_own(path: &Path, now_s: i64, vault: &Vault) -> Result<CredentialSigner, KeyError> {
    let text = key_in(path, vault)?;
    let start = text.pem().find(FIRST_CERTIFICATE).unwrap_or_default();
    let (key, chain) = text.pem().split_at(start);
    join(chain, &Key::new(key.to_owned()), now_s).map_err(unusable(path))
}

/// The text of the service's own file, wrapped or not.
fn key_in(path: &Path, vault: &Vault) -> Result<Key, KeyError> {
    let bytes = read_secret(path, vault)?;
    // What is no text is no key either, which joining it says.
    let text = str::from_utf8(&bytes).unwrap_or_default();
    Ok(Key::new(text.to_owned()))
}

/// Reads the operator's own chain and key.
fn brought(chain: &Path, key: &Path, now_s: i64) -> Result<CredentialSigner, KeyError> {
    check_mode(key)?;
    let certificates = fs::read_to_string(chain).map_err(at(chain))?;
    let private = Key::new(fs::read_to_string(key).map_err(at(key))?);
    join(&certificates, &private, now_s).map_err(|source| match source {
        CredentialsError::Key { .. } => unusable(key)(source),
        _ => unusable(chain)(source),
    })
}

fn join(chain: &str, key: &Key, now_s: i64) -> Result<CredentialSigner, CredentialsError> {
    CredentialSigner::new(CertificateChain::parse(chain, now_s)?, key)
}

fn read_or_empty(path: &Path) -> Result<String, KeyError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(at(path)),
    }
}

fn write_public(path: &Path, text: &str) -> Result<(), KeyError> {
    if fs::read_to_string(path).is_ok_and(|written| written == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(at(path))?;
    fs::set_permissions(path, Permissions::from_mode(0o644)).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::File { path, source }
}

fn unusable(path: &Path) -> impl FnOnce(CredentialsError) -> KeyError {
    let path: PathBuf = path.to_owned();
    move |source| KeyError::Credentials { path, source }
}
