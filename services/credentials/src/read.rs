//! What the manifest of a file says, and whether it holds.
//!
//! The bytes are a stranger's. Call this in a process that may die: the caps below bound what the
//! library is given, and the process bounds the rest.

use std::io::Cursor;

use c2pa::validation_results::validation_codes::{
    SIGNING_CREDENTIAL_UNTRUSTED, TIMESTAMP_VALIDATED,
};
use c2pa::{Builder, Context, Manifest, Reader, ValidationState, jumbf_io};
use media::Format;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::boxes::{self, BoxCaps, BrokenCap};
use crate::statement::{self, Ingredient};
use crate::{CredentialsError, chain, settings};

/// Validation codes that are reported of one manifest.
const CODES_MAX: usize = 16;
/// Characters of one reported text. Every text of a manifest is its writer's choice.
const TEXT_CHARS_MAX: usize = 200;

/// Caps on the manifests of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestCaps {
    /// Bytes of all manifests together.
    pub manifest_bytes_max: u64,
    /// Bytes of manifests that an image keeps of the picture it was made from.
    pub carried_bytes_max: u64,
}

impl Default for ManifestCaps {
    fn default() -> Self {
        Self {
            manifest_bytes_max: 8 << 20,
            carried_bytes_max: 1 << 20,
        }
    }
}

/// How far a manifest can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There is one, and it was not read: it breaks a cap, or it breaks the reader.
    Refused,
    /// It does not hold: the file, the manifest or the certificate is not what it should be.
    Invalid,
    /// Signature and content hold; the signer is under no trust anchor.
    Valid,
    /// Signature and content hold, and the signer is under a trust anchor.
    Trusted,
}

/// What was read of a file's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// How far it can be relied on.
    pub state: State,
    /// The specification's codes of what does not hold, and for a valid one of what is missing to
    /// trust it. Of a refused one, what was refused.
    pub codes: Vec<String>,
    /// Subject of the signing certificate. Only a trusted one says who signed.
    pub signer: Option<String>,
    /// The program that made the manifest, as it calls itself.
    pub generator: Option<String>,
    /// Whether it says that a model made the picture or a part of it; none where it says nothing of
    /// the picture's origin, or does not hold.
    pub says_generated: Option<bool>,
    /// The id of the manifest.
    pub manifest: Option<String>,
    /// The labels of its assertions.
    pub assertions: Vec<String>,
}

impl Reading {
    /// A manifest that was not read.
    #[must_use]
    pub fn refused(reason: &str) -> Self {
        Self::without_content(State::Refused, reason)
    }

    fn without_content(state: State, code: &str) -> Self {
        Self {
            state,
            codes: vec![shortened(code)],
            signer: None,
            generator: None,
            says_generated: None,
            manifest: None,
            assertions: Vec::new(),
        }
    }

    /// The same with every text cut to what can be shown: for a reading that came from a process
    /// which a file may have taken over.
    #[must_use]
    pub fn shortened(self) -> Self {
        let text = |text: Option<String>| text.as_deref().map(shortened);
        let texts = |texts: Vec<String>| -> Vec<String> {
            texts
                .iter()
                .take(CODES_MAX)
                .map(|it| shortened(it))
                .collect()
        };
        Self {
            state: self.state,
            codes: texts(self.codes),
            signer: text(self.signer),
            generator: text(self.generator),
            says_generated: self.says_generated,
            manifest: text(self.manifest),
            assertions: texts(self.assertions),
        }
    }
}

/// Reads the manifests of files.
#[derive(Debug)]
pub struct ManifestReader {
    context: std::sync::Arc<Context>,
    caps: ManifestCaps,
}

impl ManifestReader {
    /// A reader that trusts who signs under these anchors: certificates in PEM, none or many.
    ///
    /// # Errors
    /// [`CredentialsError::Anchors`] when the text is not empty and holds no certificates.
    pub fn new(anchors_pem: &str, caps: ManifestCaps) -> Result<Self, CredentialsError> {
        let context = Context::new()
            .with_settings(settings::of_reading(anchors_pem))
            .map_err(|error| CredentialsError::Anchors {
                cause: error.to_string(),
            })?;
        Ok(Self {
            context: context.into_shared(),
            caps,
        })
    }

    /// What the manifest of a file says; none where the file has none.
    #[must_use]
    pub fn read(&self, file: &[u8], format: Format) -> Option<Reading> {
        let media_type = format.media_type();
        match jumbf_io::load_jumbf_from_memory(media_type, file) {
            Ok(store) => {
                if let Err(broken) = self.check(&store) {
                    return Some(Reading::refused(&broken.to_string()));
                }
            }
            Err(c2pa::Error::JumbfNotFound) => return None,
            Err(error) => return Some(unreadable(&error)),
        }
        let reader = Reader::from_shared_context(&self.context);
        match reader.with_stream(media_type, Cursor::new(file)) {
            Ok(reader) => Some(summary(&reader)),
            Err(c2pa::Error::JumbfNotFound) => None,
            Err(error) => Some(unreadable(&error)),
        }
    }

    /// The picture as the manifest of an image that is made from it will state it: with its own
    /// manifests where they hold and are small enough.
    #[must_use]
    pub fn ingredient(&self, file: &[u8], format: Format) -> Ingredient {
        let bare = Ingredient::without_manifest(format);
        let holds = self
            .read(file, format)
            .is_some_and(|reading| matches!(reading.state, State::Valid | State::Trusted));
        if !holds {
            return bare;
        }
        let mut builder = Builder::from_shared_context(&self.context);
        let added = builder.add_ingredient_from_stream(
            bare.definition().to_string(),
            format.media_type(),
            &mut Cursor::new(file),
        );
        let Ok(added) = added else { return bare };
        let Some(store) = added.manifest_data().map(|store| store.into_owned()) else {
            return bare;
        };
        if store.len() as u64 > self.caps.carried_bytes_max {
            return bare;
        }
        match serde_json::to_value(&*added) {
            Ok(definition) => bare.carrying(definition, store),
            Err(_) => bare,
        }
    }

    fn check(&self, store: &[u8]) -> Result<(), BrokenCap> {
        boxes::check(
            store,
            BoxCaps {
                bytes_max: self.caps.manifest_bytes_max,
                ..BoxCaps::default()
            },
        )
    }
}

/// All manifests of a file, as they lie in it; none where it has none. For files that are known not to be
/// a stranger's: nothing bounds what is read of them here.
#[must_use]
pub fn manifest_store(file: &[u8], format: Format) -> Option<Vec<u8>> {
    jumbf_io::load_jumbf_from_memory(format.media_type(), file).ok()
}

/// Whether the signature of a file that was made here carries a time stamp that holds. Whose it is, is
/// another question.
pub(crate) fn is_time_stamped(file: &[u8], format: Format) -> bool {
    let context = Context::new().with_settings(settings::of_reading(""));
    let reader = context.and_then(|context| {
        Reader::from_shared_context(&context.into_shared())
            .with_stream(format.media_type(), Cursor::new(file))
    });
    let Ok(reader) = reader else { return false };
    let results = reader.validation_results();
    let active = results.and_then(|results| results.active_manifest());
    active.is_some_and(|codes| {
        let mut success = codes.success().iter();
        success.any(|status| status.code() == TIMESTAMP_VALIDATED)
    })
}

/// A manifest that the library cannot read does not hold.
fn unreadable(error: &c2pa::Error) -> Reading {
    Reading::without_content(State::Invalid, &error.to_string())
}

fn summary(reader: &Reader) -> Reading {
    let active = reader.active_manifest();
    let is_by_authorities = active
        .and_then(Manifest::signature_info)
        .is_some_and(|info| chain::is_by_authorities(info.cert_chain()));
    let state = match reader.validation_state() {
        ValidationState::Trusted if is_by_authorities => State::Trusted,
        ValidationState::Trusted => State::Valid,
        ValidationState::Valid => State::Valid,
        ValidationState::Invalid => State::Invalid,
    };
    let statuses = reader.validation_status().unwrap_or_default();
    let mut codes: Vec<String> = Vec::new();
    for status in statuses {
        let code = shortened(status.code());
        if !codes.contains(&code) && codes.len() < CODES_MAX {
            codes.push(code);
        }
    }
    if reader.validation_state() == ValidationState::Trusted && !is_by_authorities {
        codes.truncate(CODES_MAX - 1);
        codes.insert(0, SIGNING_CREDENTIAL_UNTRUSTED.to_owned());
    }
    let holds = state != State::Invalid;
    Reading {
        state,
        codes,
        signer: active.and_then(signer),
        generator: active.and_then(generator),
        says_generated: active.filter(|_| holds).and_then(says_generated),
        manifest: reader.active_label().map(shortened),
        assertions: active.map(labels).unwrap_or_default(),
    }
}

/// The subject of the signing certificate.
fn signer(manifest: &Manifest) -> Option<String> {
    let chain = manifest.signature_info()?.cert_chain();
    let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).ok()?;
    let leaf = pem.parse_x509().ok()?;
    Some(shortened(&leaf.subject().to_string()))
}

fn generator(manifest: &Manifest) -> Option<String> {
    let info = manifest.claim_generator_info.as_ref()?.first()?;
    let version = info.version.as_deref().unwrap_or_default();
    Some(shortened(format!("{} {version}", info.name).trim_end()))
}

fn labels(manifest: &Manifest) -> Vec<String> {
    let labels = manifest.assertions().iter().take(CODES_MAX);
    labels.map(|it| shortened(it.label())).collect()
}

/// What the actions of the active manifest say about the picture's origin. An edit of a picture says
/// nothing about what the picture was before.
fn says_generated(manifest: &Manifest) -> Option<bool> {
    let mut said = None;
    for assertion in manifest.assertions() {
        if !assertion.label().starts_with("c2pa.actions") {
            continue;
        }
        let actions = assertion.value().ok().and_then(|data| data.get("actions"));
        for action in actions.and_then(Value::as_array).into_iter().flatten() {
            let source = action.get("digitalSourceType").and_then(Value::as_str);
            match source.map(statement::is_of_a_model) {
                Some(true) => return Some(true),
                Some(false) => said = Some(false),
                None => {}
            }
        }
    }
    said
}

/// Printable characters, not too many.
fn shortened(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(TEXT_CHARS_MAX)
        .collect()
}
