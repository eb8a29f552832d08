//! What is signed: statements about generations and scores, and their canonical bytes.
//!
//! The bytes are compact JSON, `{"version":3,"kind":"…","body":{…}}`, with the fields of each body in
//! the order in which its struct declares them. There are no floating-point numbers: fractions are
//! [`Decimal`]s, 64-bit seeds are decimal strings. Digests are 64 lower-case hexadecimal digits. An
//! unknown version, kind or field is refused, so that nobody signs or believes what they cannot read.
//!
//! Generations have three versions: version 2 states besides where the noise came from, the task and
//! every other setting that changes pixels ([`GenerationDetails`]), version 3 the perceptual hash too.
//! Bytes of older versions stay valid for ever. Scores and statements about keys have version 1 alone.

mod bodies;
mod generation;
pub(crate) mod key_statements;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::encoding::{canonical_json, check_length, parse_canonical_json};
use crate::{Decimal, Digest, ProvenanceError};

pub use generation::{
    GenerationDetails, GenerationEntry, NOISE_WATERMARK, PerceptualAlgorithm, RecordedImage,
    RecordedModel, RecordedNoise, RecordedPerceptualHash, RecordedTask, SETTING_BYTES_MAX,
    SETTINGS_MAX, SOURCES_MAX,
};

pub use key_statements::{
    CheckpointKeySuccessionEntry, KeyRequest, KeyRevocationEntry, KeySuccessionEntry,
};

/// The newest version of the canonical bytes that this crate reads and writes.
pub const ENTRY_VERSION_MAX: u64 = 3;
/// Longest canonical bytes of an entry, so that its envelope stays below 65,536 bytes, the limit of
/// an entry in a C2SP tile.
pub const ENTRY_BYTES_MAX: usize = 32 * 1024;
/// Longest name, version or other short text inside an entry.
pub const ENTRY_TEXT_BYTES_MAX: usize = 200;
/// Most files that one model may consist of.
pub const MODEL_PARTS_MAX: usize = 128;
/// Latest time, the largest integer that every JSON reader keeps exactly.
pub const CREATED_AT_MS_MAX: u64 = (1 << 53) - 1;

/// A statement of the service.
#[expect(
    clippy::large_enum_variant,
    reason = "entries are made one at a time and never held in bulk"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An image was generated here.
    Generation(GenerationEntry),
    /// An uploaded image was scored here.
    Score(ScoreEntry),
    /// Another key signs entries from here on.
    KeySuccession(KeySuccessionEntry),
    /// Another key signs checkpoints from here on.
    CheckpointKeySuccession(CheckpointKeySuccessionEntry),
    /// What an earlier key signed is not to be believed.
    KeyRevocation(KeyRevocationEntry),
}

/// States that an upload was scored here, by which detector and with which verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreEntry {
    /// Identifies the request.
    pub request_id: String,
    /// Milliseconds since 1970-01-01 UTC. A claim of the service, not a proof of time.
    pub created_at_ms: u64,
    /// The client that asked for it.
    pub client: String,
    /// [`crate::commit`] to the upload's digest, so that the public log does not say who looked at what.
    pub upload_commitment: Digest,
    /// The detector that scored it.
    pub detector: RecordedDetector,
    /// The version of the calibration.
    pub calibration_version: String,
    /// The version of the thresholds.
    pub thresholds_version: String,
    /// The verdict.
    pub verdict: RecordedVerdict,
    /// The calibrated probability, 0 to 1; none when the detector gave none.
    pub probability: Option<Decimal>,
}

/// The detector of a [`ScoreEntry`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedDetector {
    /// The detector's name.
    pub name: String,
    /// The detector's version.
    pub version: String,
    /// One digest over all its files.
    pub digest: Digest,
}

/// A detector's verdict as it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedVerdict {
    /// Probably the output of a diffusion model.
    LikelyGenerated,
    /// Probably not the output of a diffusion model.
    LikelyNotGenerated,
    /// No verdict is justified.
    Inconclusive,
}

/// The canonical JSON around every body.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement<K, B> {
    version: u64,
    kind: K,
    body: B,
}

const GENERATION: &str = "generation";
const SCORE: &str = "score";
const KEY_SUCCESSION: &str = "key_succession";
const CHECKPOINT_KEY_SUCCESSION: &str = "checkpoint_key_succession";
const KEY_REVOCATION: &str = "key_revocation";

/// The kinds of statements about keys, as the canonical bytes spell them.
pub const KEY_STATEMENT_KINDS: [&str; 3] =
    [KEY_SUCCESSION, CHECKPOINT_KEY_SUCCESSION, KEY_REVOCATION];

impl Entry {
    /// The version of the canonical bytes.
    pub fn version(&self) -> u64 {
        match self {
            Self::Generation(entry) => entry.version(),
            Self::Score(_)
            | Self::KeySuccession(_)
            | Self::CheckpointKeySuccession(_)
            | Self::KeyRevocation(_) => 1,
        }
    }

    /// The kind's name, as the canonical bytes spell it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Generation(_) => GENERATION,
            Self::Score(_) => SCORE,
            Self::KeySuccession(_) => KEY_SUCCESSION,
            Self::CheckpointKeySuccession(_) => CHECKPOINT_KEY_SUCCESSION,
            Self::KeyRevocation(_) => KEY_REVOCATION,
        }
    }

    /// When the service says that it happened, in milliseconds since 1970-01-01 UTC.
    pub fn created_at_ms(&self) -> u64 {
        match self {
            Self::Generation(entry) => entry.created_at_ms,
            Self::Score(entry) => entry.created_at_ms,
            Self::KeySuccession(entry) => entry.created_at_ms,
            Self::CheckpointKeySuccession(entry) => entry.created_at_ms,
            Self::KeyRevocation(entry) => entry.created_at_ms,
        }
    }

    /// The client that asked for it.
    pub fn client(&self) -> &str {
        match self {
            Self::Generation(entry) => &entry.client,
            Self::Score(entry) => &entry.client,
            Self::KeySuccession(entry) => &entry.client,
            Self::CheckpointKeySuccession(entry) => &entry.client,
            Self::KeyRevocation(entry) => &entry.client,
        }
    }

    /// The request that it answers.
    pub fn request_id(&self) -> &str {
        match self {
            Self::Generation(entry) => &entry.request_id,
            Self::Score(entry) => &entry.request_id,
            Self::KeySuccession(entry) => &entry.request_id,
            Self::CheckpointKeySuccession(entry) => &entry.request_id,
            Self::KeyRevocation(entry) => &entry.request_id,
        }
    }

    /// Whether it is about the keys of the log, and not about what the service did.
    pub fn is_key_statement(&self) -> bool {
        matches!(
            self,
            Self::KeySuccession(_) | Self::CheckpointKeySuccession(_) | Self::KeyRevocation(_)
        )
    }

    /// The canonical bytes. They are not checked here: signing does, see [`crate::Envelope::sign`].
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Generation(entry) => statement_bytes(entry.version(), GENERATION, entry),
            Self::Score(entry) => statement_bytes(1, SCORE, entry),
            Self::KeySuccession(entry) => statement_bytes(1, KEY_SUCCESSION, entry),
            Self::CheckpointKeySuccession(entry) => {
                statement_bytes(1, CHECKPOINT_KEY_SUCCESSION, entry)
            }
            Self::KeyRevocation(entry) => statement_bytes(1, KEY_REVOCATION, entry),
        }
    }

    /// Parses canonical bytes.
    ///
    /// # Errors
    /// Refuses unknown versions, kinds and fields, values outside their limits, and every spelling
    /// but the canonical one.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProvenanceError> {
        const WHAT: &str = "entry";
        check_length(WHAT, bytes.len(), ENTRY_BYTES_MAX)?;
        let entry = match opening(bytes) {
            // So begin all canonical bytes: what they are needs no reading of the whole.
            Some((version, kind)) if is_known(version, kind) => {
                Self::parse_known(version, kind, bytes)?
            }
            _ => {
                let header: Statement<String, IgnoredAny> = serde_json::from_slice(bytes)
                    .map_err(|error| ProvenanceError::malformed(WHAT, error.to_string()))?;
                Self::parse_known(header.version, &header.kind, bytes)?
            }
        };
        entry.check_fields()?;
        Ok(entry)
    }

    fn parse_known(version: u64, kind: &str, bytes: &[u8]) -> Result<Self, ProvenanceError> {
        if version == 0 || version > ENTRY_VERSION_MAX {
            return Err(ProvenanceError::UnknownVersion { version });
        }
        Ok(match (kind, version) {
            (GENERATION, 1) => Self::Generation(parse_body::<bodies::Body1>(bytes)?.into()),
            (GENERATION, 2) => Self::Generation(parse_body::<bodies::Body2>(bytes)?.into()),
            (GENERATION, _) => Self::Generation(parse_body::<bodies::Body3>(bytes)?.into()),
            (SCORE, 1) => Self::Score(parse_body(bytes)?),
            (KEY_SUCCESSION, 1) => Self::KeySuccession(parse_body(bytes)?),
            (CHECKPOINT_KEY_SUCCESSION, 1) => Self::CheckpointKeySuccession(parse_body(bytes)?),
            (KEY_REVOCATION, 1) => Self::KeyRevocation(parse_body(bytes)?),
            (SCORE | KEY_SUCCESSION | CHECKPOINT_KEY_SUCCESSION | KEY_REVOCATION, _) => {
                return Err(ProvenanceError::UnknownVersion { version });
            }
            _ => {
                let kind = kind.to_owned();
                return Err(ProvenanceError::UnknownKind { kind });
            }
        })
    }

    /// The canonical bytes, after checking everything that [`Entry::parse`] would check.
    pub(crate) fn checked_bytes(&self) -> Result<Vec<u8>, ProvenanceError> {
        let bytes = self.to_bytes();
        check_length("entry", bytes.len(), ENTRY_BYTES_MAX)?;
        self.check_fields()?;
        Ok(bytes)
    }

    fn check_fields(&self) -> Result<(), ProvenanceError> {
        check_text("client", self.client())?;
        check_time(self.created_at_ms())?;
        match self {
            Self::Generation(entry) => entry.check_fields(),
            Self::Score(entry) => entry.check_fields(),
            Self::KeySuccession(entry) => entry.check_fields(),
            Self::CheckpointKeySuccession(entry) => entry.check_fields(),
            Self::KeyRevocation(entry) => entry.check_fields(),
        }
    }
}

impl ScoreEntry {
    fn check_fields(&self) -> Result<(), ProvenanceError> {
        check_text("request_id", &self.request_id)?;
        check_text("detector.name", &self.detector.name)?;
        check_text("detector.version", &self.detector.version)?;
        check_text("calibration_version", &self.calibration_version)?;
        check_text("thresholds_version", &self.thresholds_version)?;
        match &self.probability {
            Some(probability) if !(0.0..=1.0).contains(&probability.to_f32()) => {
                Err(invalid("probability", "it lies outside 0 to 1"))
            }
            _ => Ok(()),
        }
    }
}

/// Version and kind of what begins as canonical bytes do. It says nothing about what follows.
fn opening(bytes: &[u8]) -> Option<(u64, &str)> {
    let rest = bytes.strip_prefix(br#"{"version":"#)?;
    let (version, rest) = rest.split_first()?;
    let rest = rest.strip_prefix(br#","kind":""#)?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let kind = std::str::from_utf8(&rest[..end]).ok()?;
    version
        .is_ascii_digit()
        .then(|| (u64::from(version - b'0'), kind))
}

/// Whether there are canonical bytes of this version and kind.
fn is_known(version: u64, kind: &str) -> bool {
    match kind {
        GENERATION => (1..=ENTRY_VERSION_MAX).contains(&version),
        SCORE | KEY_SUCCESSION | CHECKPOINT_KEY_SUCCESSION | KEY_REVOCATION => version == 1,
        _ => false,
    }
}

fn statement_bytes<B: Serialize>(version: u64, kind: &str, body: &B) -> Vec<u8> {
    canonical_json(&Statement {
        version,
        kind,
        body,
    })
}

fn parse_body<B: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<B, ProvenanceError> {
    parse_canonical_json::<Statement<String, B>>("entry", bytes).map(|statement| statement.body)
}

fn invalid(field: &'static str, detail: impl Into<String>) -> ProvenanceError {
    ProvenanceError::InvalidField {
        field,
        detail: detail.into(),
    }
}

fn check_text(field: &'static str, text: &str) -> Result<(), ProvenanceError> {
    check_text_within(field, text, ENTRY_TEXT_BYTES_MAX)
}

fn check_text_within(
    field: &'static str,
    text: &str,
    bytes_max: usize,
) -> Result<(), ProvenanceError> {
    if text.is_empty() || text.len() > bytes_max {
        let detail = format!("it must have 1 to {bytes_max} bytes");
        return Err(invalid(field, detail));
    }
    if text.contains(char::is_control) {
        return Err(invalid(field, "control characters are not allowed"));
    }
    Ok(())
}

fn check_time(created_at_ms: u64) -> Result<(), ProvenanceError> {
    if created_at_ms > CREATED_AT_MS_MAX {
        let detail = format!("it is later than {CREATED_AT_MS_MAX}");
        return Err(invalid("created_at_ms", detail));
    }
    Ok(())
}
