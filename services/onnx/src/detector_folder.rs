//! A detector from its folder: prior, heads, calibration, thresholds, feature schema.

use std::collections::BTreeMap;
use std::path::Path;

use detector::features::FeatureSchema;
use detector::{
    Assessment, Calibration, DetectorProfile, Features, Fusion, ImageTrace, PatchPath, PictureView,
    Scores, SemanticAnswer, Silence, Thresholds, TraceRange,
};
use provenance::Digest;
use serde::Deserialize;

use crate::error::OnnxError;
use crate::heads::Heads;
use crate::identity::{digest_file, digest_of_parts};
use crate::prior::PhotoPrior;
use crate::runtime::Runtime;
use crate::semantic::{SemanticContents, SemanticExpert, SemanticFeatures};

/// `detector.json`: which files make up a detector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorContents {
    /// Name of the detector.
    pub name: String,
    /// Version of prior and heads.
    pub version: String,
    /// Path of the photo prior in the folder.
    pub prior: String,
    /// Paths of the heads in the folder.
    pub heads: Vec<String>,
    /// Why the detector must not be used: what its training found. Empty for one that may.
    #[serde(default)]
    pub refused: Vec<String>,
}

/// The file without which a folder is no detector.
const CONTENTS_FILE: &str = "detector.json";

impl DetectorContents {
    /// Reads `detector.json` of a folder.
    ///
    /// # Errors
    /// [`OnnxError::FileMissing`], [`OnnxError::Read`], [`OnnxError::Folder`].
    pub fn read(folder: &Path) -> Result<Self, OnnxError> {
        let path = folder.join(CONTENTS_FILE);
        let text =
            std::fs::read_to_string(&path).map_err(|error| OnnxError::from_io(&path, &error))?;
        Self::parse(&text, &path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, OnnxError> {
        serde_json::from_str(text).map_err(|error| OnnxError::folder(path, error.to_string()))
    }

    /// Refuses a detector whose training found a reason.
    ///
    /// # Errors
    /// [`OnnxError::DetectorRefused`].
    pub fn check_refusal(&self, folder: &Path) -> Result<(), OnnxError> {
        if self.refused.is_empty() {
            return Ok(());
        }
        Err(OnnxError::DetectorRefused {
            folder: folder.to_owned(),
            reason: self.refused.join("; "),
        })
    }
}

/// What a score entry says about the detector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectorIdentity {
    /// Name of the detector.
    pub name: String,
    /// Version of prior and heads.
    pub version: String,
    /// One digest over all parts, made as [`crate::ModelIdentity::digest`] is.
    pub digest: Digest,
    /// Digest of each file by its path in the folder.
    pub parts: BTreeMap<String, Digest>,
}

/// A detector, ready to assess pictures.
#[derive(Debug)]
pub struct Detector {
    identity: DetectorIdentity,
    profile: DetectorProfile,
    range: Option<TraceRange>,
    prior: PhotoPrior,
    heads: Heads,
    semantic: Semantic,
}

/// The second expert of a detector.
#[derive(Debug)]
enum Semantic {
    /// The folder has none.
    None,
    /// The folder has one, whose encoder is not among the native parts.
    NotInstalled,
    /// Ready.
    Ready(Box<SemanticExpert>),
}

/// What the heads of a detector are fitted on: everything that is measured of one picture.
#[derive(Clone, Debug)]
pub struct Measurements {
    /// The photo prior's trace.
    pub trace: ImageTrace,
    /// Features of the semantic expert's views, or why there are none.
    pub semantic: Result<SemanticFeatures, Silence>,
}

/// The files that make up a second expert; a detector may lack both.
const SEMANTIC_FILE: &str = "semantic.json";
const FUSION_FILE: &str = "fusion.json";
/// The file that a picture's trace curve is drawn against; a detector may lack it.
const TRACE_RANGE_FILE: &str = "trace_range.json";

impl Detector {
    /// Opens the folder: `detector.json` names the prior and the heads; `features.json`,
    /// `calibration.json` and `thresholds.json` lie beside it, and `trace_range.json` may. That one
    /// explains scores and makes none, so it is no part of the identity. `semantic.json` and
    /// `fusion.json` add the second expert, whose image encoder lies below `native`, the folder of the
    /// native parts; without the encoder the trace speaks alone, and every answer says so.
    ///
    /// # Errors
    /// What is missing or does not fit together, by file, an encoder of another digest, and a detector
    /// whose training refused it.
    pub fn open(runtime: &Runtime, folder: &Path, native: &Path) -> Result<Self, OnnxError> {
        let mut parts = Parts {
            folder,
            digests: BTreeMap::new(),
        };
        let text = parts.text(CONTENTS_FILE)?;
        let contents = DetectorContents::parse(&text, &folder.join(CONTENTS_FILE))?;
        contents.check_refusal(folder)?;
        let schema = FeatureSchema::parse(&parts.text("features.json")?)?;
        let calibration = Calibration::parse(&parts.text("calibration.json")?)?;
        let thresholds = Thresholds::parse(&parts.text("thresholds.json")?)?;
        let columns = schema.names.len();
        let version = format!("{} {}", contents.name, contents.version);
        let mut profile = DetectorProfile::new(version, schema, calibration, thresholds)?;
        let mut semantic = Semantic::None;
        if folder.join(SEMANTIC_FILE).is_file() {
            profile = profile.with_fusion(Fusion::parse(&parts.text(FUSION_FILE)?)?)?;
            semantic = open_semantic(runtime, &mut parts, native)?;
        }
        let prior = PhotoPrior::open(runtime, &parts.file(&contents.prior)?)?;
        let mut heads = Vec::with_capacity(contents.heads.len());
        for head in &contents.heads {
            heads.push(parts.file(head)?);
        }
        let heads = Heads::open(runtime, &heads, columns)?;
        let range = folder.join(TRACE_RANGE_FILE);
        let range = match std::fs::read_to_string(&range) {
            Ok(text) => Some(TraceRange::parse(&text, &profile.schema.config)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(OnnxError::from_io(&range, &error)),
        };
        let identity = DetectorIdentity {
            name: contents.name,
            version: contents.version,
            digest: digest_of_parts(&parts.digests),
            parts: parts.digests,
        };
        Ok(Self {
            identity,
            profile,
            range,
            prior,
            heads,
            semantic,
        })
    }

    /// Whether the second expert is there; `None` where the folder has none.
    pub fn semantic_installed(&self) -> Option<bool> {
        match self.semantic {
            Semantic::None => None,
            Semantic::NotInstalled => Some(false),
            Semantic::Ready(_) => Some(true),
        }
    }

    /// Name, version and digests.
    pub fn identity(&self) -> &DetectorIdentity {
        &self.identity
    }

    /// Schema, calibration and thresholds.
    pub fn profile(&self) -> &DetectorProfile {
        &self.profile
    }

    /// What a picture's trace curve is drawn against, where the folder says.
    pub fn trace_range(&self) -> Option<&TraceRange> {
        self.range.as_ref()
    }

    /// One patch on its way towards noise and back under the prior, as pictures. `place` is the
    /// patch's left upper corner.
    ///
    /// # Errors
    /// Whatever the prior says, and a place outside the picture.
    pub fn patch_path(
        &mut self,
        picture: &PictureView<'_>,
        place: (u32, u32),
    ) -> Result<PatchPath, OnnxError> {
        let config = &self.profile.schema.config;
        Ok(detector::patch_path::patch_path(
            picture,
            place,
            config,
            &mut self.prior,
        )?)
    }

    /// Takes the trace of a picture under the detector's own configuration.
    ///
    /// # Errors
    /// Whatever the prior says.
    pub fn trace(&mut self, picture: &PictureView<'_>) -> Result<ImageTrace, OnnxError> {
        Ok(detector::extract(
            picture,
            &self.profile.schema.config,
            &mut self.prior,
        )?)
    }

    /// Takes the trace of a picture and embeds its views. A picture without a patch is not embedded:
    /// nothing could be said about it.
    ///
    /// # Errors
    /// Whatever prior and encoder say.
    pub fn measure(&mut self, picture: &PictureView<'_>) -> Result<Measurements, OnnxError> {
        let trace = self.trace(picture)?;
        let semantic = if trace.patches.is_empty() {
            Err(Silence::TooSmall)
        } else {
            self.embed(picture)?
        };
        Ok(Measurements { trace, semantic })
    }

    /// Embeds the views of a picture for the semantic expert, or says why not.
    ///
    /// # Errors
    /// Whatever the encoder says.
    pub fn embed(
        &mut self,
        picture: &PictureView<'_>,
    ) -> Result<Result<SemanticFeatures, Silence>, OnnxError> {
        match &mut self.semantic {
            Semantic::Ready(expert) => Ok(expert.embed(picture)?.ok_or(Silence::TooSmall)),
            Semantic::None | Semantic::NotInstalled => Ok(Err(Silence::NotInstalled)),
        }
    }

    /// Assesses what this detector measured.
    ///
    /// # Errors
    /// Whatever the heads say.
    pub fn assess_measured(&mut self, measured: &Measurements) -> Result<Assessment, OnnxError> {
        let features: Features = detector::features(&measured.trace);
        let patches = self.heads.scores(features.rows.view())?;
        let semantic = match (&mut self.semantic, &measured.semantic) {
            (Semantic::None, _) => SemanticAnswer::NoExpert,
            (Semantic::Ready(expert), Ok(features)) => {
                SemanticAnswer::Scores(expert.scores(features)?)
            }
            (_, Err(silence)) => SemanticAnswer::Silent(*silence),
            (Semantic::NotInstalled, Ok(_)) => SemanticAnswer::Silent(Silence::NotInstalled),
        };
        let scores = Scores {
            patches: &patches,
            semantic,
        };
        let trace = &measured.trace;
        Ok(detector::assess(trace, &features, &scores, &self.profile)?)
    }

    /// Trace, views, raw scores, calibration and verdict in one go.
    ///
    /// # Errors
    /// As [`Detector::measure`] and [`Detector::assess_measured`].
    pub fn assess(&mut self, picture: &PictureView<'_>) -> Result<Assessment, OnnxError> {
        let measured = self.measure(picture)?;
        self.assess_measured(&measured)
    }
}

/// The second expert that `semantic.json` describes. An encoder that is there and is another one than
/// the head was fitted on is refused.
fn open_semantic(
    runtime: &Runtime,
    parts: &mut Parts<'_>,
    native: &Path,
) -> Result<Semantic, OnnxError> {
    let path = parts.folder.join(SEMANTIC_FILE);
    let contents: SemanticContents = serde_json::from_str(&parts.text(SEMANTIC_FILE)?)
        .map_err(|error| OnnxError::folder(&path, error.to_string()))?;
    parts.file(&contents.head)?;
    if let Some(graph) = &contents.graph {
        parts.file(graph)?;
    }
    let encoder = native.join(&contents.file);
    if !encoder.is_file() {
        return Ok(Semantic::NotInstalled);
    }
    let found = digest_file(&encoder)?;
    if found != contents.sha256 {
        let reason = format!(
            "has the digest {found}; {SEMANTIC_FILE} needs {}",
            contents.sha256
        );
        return Err(OnnxError::folder(&encoder, reason));
    }
    parts.digests.insert(contents.file.clone(), found);
    let expert = SemanticExpert::open(runtime, parts.folder, contents, &encoder)?;
    Ok(Semantic::Ready(Box::new(expert)))
}

/// Reads files of a folder and keeps their digests.
struct Parts<'a> {
    folder: &'a Path,
    digests: BTreeMap<String, Digest>,
}

impl Parts<'_> {
    fn bytes(&mut self, name: &str) -> Result<Vec<u8>, OnnxError> {
        let path = self.folder.join(name);
        let bytes = std::fs::read(&path).map_err(|error| OnnxError::from_io(&path, &error))?;
        self.digests.insert(name.to_owned(), Digest::of(&bytes));
        Ok(bytes)
    }

    fn text(&mut self, name: &str) -> Result<String, OnnxError> {
        String::from_utf8(self.bytes(name)?)
            .map_err(|error| OnnxError::folder(&self.folder.join(name), error.to_string()))
    }

    fn file(&mut self, name: &str) -> Result<std::path::PathBuf, OnnxError> {
        self.bytes(name)?;
        Ok(self.folder.join(name))
    }
}
