//! What a manifest says, as JSON for the C2PA library.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use media::Format;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{CredentialsError, date};

/// Version of the C2PA specification that the manifests are written to.
const SPECIFICATION: &str = "2.4";
/// The label of our own assertion: who runs the system, and what names the image in its log.
pub(crate) const OWN_ASSERTION: &str = "retrace.generation";
/// Under which name actions speak of the picture that an image was made from.
const SOURCE: &str = "source";
/// Terms of the IPTC vocabulary of digital source types.
const GENERATED: &str = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia";
const COMPOSED: &str =
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia";

/// Whether a digital source type says that a trained model made the picture or a part of it.
pub(crate) fn is_of_a_model(source_type: &str) -> bool {
    let term = source_type.rsplit('/').next();
    [GENERATED, COMPOSED]
        .iter()
        .any(|known| known.rsplit('/').next() == term)
}

/// The program that makes images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Software<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
}

/// Who runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operator<'a> {
    /// Name of the person or organisation.
    pub name: &'a str,
    /// Name of the log that holds the image's entry.
    pub log: &'a str,
}

/// The model that made the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelStatement<'a> {
    /// Its name.
    pub name: &'a str,
    /// SHA-256 over its parts, in hex, as entries state it.
    pub digest: &'a str,
}

/// How the image came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work<'a> {
    /// From noise.
    Created,
    /// From a picture, which went through the model as a whole.
    Edited(&'a Ingredient),
    /// From a picture of which a part was painted anew.
    Composed(&'a Ingredient),
}

/// A picture that an image was made from, as far as the image's manifest states it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingredient {
    format: Format,
    carried: Option<Carried>,
}

/// The manifests that the picture's file had, with what their check gave.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Carried {
    /// The ingredient as the C2PA library writes it.
    definition: Value,
    /// The manifest store.
    #[serde(with = "in_base64")]
    store: Vec<u8>,
}

impl fmt::Debug for Ingredient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let carried = self.carried.as_ref().map_or(0, |it| it.store.len());
        write!(f, "{} with {carried} bytes of manifests", self.format)
    }
}

impl Ingredient {
    /// A picture whose file has no manifest, or none that holds.
    #[must_use]
    pub fn without_manifest(format: Format) -> Self {
        Self {
            format,
            carried: None,
        }
    }

    /// The same picture with the manifests that its file had.
    pub(crate) fn carrying(self, mut definition: Value, store: Vec<u8>) -> Self {
        if let Some(fields) = definition.as_object_mut() {
            // They name parts of the reader's memory, which the writer does not have.
            for field in ["thumbnail", "manifest_data", "ocsp_responses"] {
                fields.remove(field);
            }
        }
        Self {
            carried: Some(Carried { definition, store }),
            ..self
        }
    }

    /// Whether the picture's own manifests come along.
    #[must_use]
    pub fn carries_manifests(&self) -> bool {
        self.carried.is_some()
    }

    /// The manifest store that comes along.
    pub(crate) fn store(&self) -> Option<&[u8]> {
        self.carried
            .as_ref()
            .map(|carried| carried.store.as_slice())
    }

    pub(crate) fn definition(&self) -> Value {
        if let Some(carried) = &self.carried {
            return carried.definition.clone();
        }
        json!({
            "title": "source picture",
            "format": self.format.media_type(),
            "relationship": "parentOf",
            "label": SOURCE,
        })
    }
}

/// Everything that the manifest of one image says. It has no place for a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The format of the file.
    pub format: Format,
    /// The program.
    pub software: Software<'a>,
    /// Who runs it.
    pub operator: Operator<'a>,
    /// The model.
    pub model: ModelStatement<'a>,
    /// How the image came to be.
    pub work: Work<'a>,
    /// The request's id, as the entry states it.
    pub request_id: &'a str,
    /// The image's place in the request.
    pub image_index: u32,
    /// When it was made, in milliseconds since 1970: the service's claim.
    pub created_at_ms: u64,
    /// What finds the manifest again when it was taken off the file.
    pub soft_bindings: &'a [SoftBinding<'a>],
}

/// A fingerprint or watermark of the pixels, by which a repository finds the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoftBinding<'a> {
    /// The algorithm, as the repository names it.
    pub algorithm: &'a str,
    /// The fingerprint.
    pub value: &'a [u8],
}

impl Statement<'_> {
    /// The definition of the manifest.
    pub(crate) fn definition(&self) -> Result<Value, CredentialsError> {
        let seconds = i64::try_from(self.created_at_ms / 1_000).ok();
        let when = seconds.and_then(date::rfc3339);
        let when = when.ok_or_else(|| CredentialsError::Write {
            cause: format!("{} ms is no time", self.created_at_ms),
        })?;
        let mut assertions = vec![self.actions(&when), self.disclosure(), self.own(&when)];
        assertions.extend(self.soft_bindings.iter().map(SoftBinding::assertion));
        Ok(json!({
            "claim_version": 2,
            "claim_generator_info": [{
                "name": self.software.name,
                "version": self.software.version,
                "specVersion": SPECIFICATION,
            }],
            "format": self.format.media_type(),
            "assertions": assertions,
        }))
    }

    /// The picture that the image was made from.
    pub(crate) fn ingredient(&self) -> Option<&Ingredient> {
        match self.work {
            Work::Created => None,
            Work::Edited(ingredient) | Work::Composed(ingredient) => Some(ingredient),
        }
    }

    fn actions(&self, when: &str) -> Value {
        let agent = json!({ "name": self.software.name, "version": self.software.version });
        let opened = json!({
            "action": "c2pa.opened",
            "when": when,
            "softwareAgent": agent,
            "parameters": { "ingredientIds": [SOURCE] },
        });
        let made = |action: &str, source_type: &str| {
            json!({
                "action": action,
                "when": when,
                "softwareAgent": agent,
                "digitalSourceType": source_type,
            })
        };
        let actions = match self.work {
            Work::Created => vec![made("c2pa.created", GENERATED)],
            Work::Edited(_) => vec![opened, made("c2pa.edited", GENERATED)],
            Work::Composed(_) => vec![opened, made("c2pa.edited", COMPOSED)],
        };
        json!({
            "label": "c2pa.actions.v2",
            "created": true,
            "data": { "actions": actions, "allActionsIncluded": true },
        })
    }

    /// A person gave the prompt or the settings; nobody approved the image.
    fn disclosure(&self) -> Value {
        json!({
            "label": "c2pa.ai-disclosure",
            "created": true,
            "data": {
                "modelType": "c2pa.types.model.onnx",
                "modelName": self.model.name,
                "modelIdentifier": format!("sha256:{}", self.model.digest),
                "contentProfile": { "humanOversightLevel": "prompt_guided" },
            },
        })
    }

    fn own(&self, when: &str) -> Value {
        json!({
            "label": OWN_ASSERTION,
            "created": true,
            "data": {
                "operator": self.operator.name,
                "system": self.software.name,
                "version": self.software.version,
                "created_at": when,
                "log": self.operator.log,
                "request_id": self.request_id,
                "image_index": self.image_index,
            },
        })
    }
}

impl SoftBinding<'_> {
    /// Of the whole picture. The value is text, as other programs read and write it.
    fn assertion(&self) -> Value {
        json!({
            "label": "c2pa.soft-binding",
            "created": true,
            "data": {
                "alg": self.algorithm,
                "blocks": [{ "scope": {}, "value": STANDARD.encode(self.value) }],
                "pad": [],
            },
        })
    }
}

/// Bytes as base64 in JSON.
mod in_base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}
