//! A detector from its folder: prior, heads, calibration, thresholds, feature schema.

use std::collections::BTreeMap;
use std::path::Path;

use detector::features::FeatureSchema;
use detector::{
    Assessment, Calibration, DetectorProfile, Features, ImageTrace, PatchPath, PictureView,
    Thresholds, TraceRange,
};
use provenance::Digest;
use serde::Deserialize;

use crate::error::OnnxError;
use crate::heads::Heads;
use crate::identity::digest_of_parts;
use crate::prior::PhotoPrior;
use crate::runtime::Runtime;

/// `detector.json`: which files make up a detector.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    name: String,
    version: String,
    prior: String,
    heads: Vec<String>,
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
}

/// The file that a picture's trace curve is drawn against; a detector may lack it.
const TRACE_RANGE_FILE: &str = "trace_range.json";

impl Detector {
    /// Opens the folder: `detector.json` names the prior and the heads; `features.json`,
    /// `calibration.json` and `thresholds.json` lie beside it, and `trace_range.json` may. That one
    /// explains scores and makes none, so it is no part of the identity.
    ///
    /// # Errors
    /// What is missing or does not fit together, by file.
    pub fn open(runtime: &Runtime, folder: &Path) -> Result<Self, OnnxError> {
        let mut parts = Parts {
            folder,
            digests: BTreeMap::new(),
        };
        let contents: Contents = serde_json::from_str(&parts.text("detector.json")?)
            .map_err(|error| OnnxError::folder(&folder.join("detector.json"), error.to_string()))?;
        let schema = FeatureSchema::parse(&parts.text("features.json")?)?;
        let calibration = Calibration::parse(&parts.text("calibration.json")?)?;
        let thresholds = Thresholds::parse(&parts.text("thresholds.json")?)?;
        let columns = schema.names.len();
        let version = format!("{} {}", contents.name, contents.version);
        let profile = DetectorProfile::new(version, schema, calibration, thresholds)?;
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
        })
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

    /// Assesses a trace that this detector took.
    ///
    /// # Errors
    /// Whatever the heads say.
    pub fn assess_trace(&mut self, trace: &ImageTrace) -> Result<Assessment, OnnxError> {
        let features: Features = detector::features(trace);
        let scores = self.heads.scores(features.rows.view())?;
        Ok(detector::assess(trace, &features, &scores, &self.profile)?)
    }

    /// Trace, features, raw scores, calibration and verdict in one go.
    ///
    /// # Errors
    /// As [`Detector::trace`] and [`Detector::assess_trace`].
    pub fn assess(&mut self, picture: &PictureView<'_>) -> Result<Assessment, OnnxError> {
        let trace = self.trace(picture)?;
        self.assess_trace(&trace)
    }
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
