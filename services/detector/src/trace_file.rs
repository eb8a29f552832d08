//! The file that training reads: JSON lines, one picture a line.
//!
//! ```json
//! {"path":"a/b.jpg","features":{"trace_version":1,"names_digest":"…","patches":[[0.1, …], …]},"trace":{…}}
//! ```
//!
//! `features.patches` holds one row for each patch with the columns of [`crate::features::names`]; these
//! rows are what the head sees in service, bit for bit. `trace` is the whole [`ImageTrace`] and may be
//! left out to save space. `names_digest` is a 64-bit FNV-1a hash of the joined names, so that rows of
//! two schemas are never mixed. `semantic`, where asked for, holds the rows of the picture's views for the
//! semantic expert's head. A picture without patches has an empty list and `trace.obstacle`.

use serde::{Deserialize, Serialize};

use crate::error::DetectorError;
use crate::features::{features, names};
use crate::patches::Obstacle;
use crate::trace::ImageTrace;
use crate::views::View;

/// One line of a trace file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceLine {
    /// The picture as the caller named it.
    pub path: String,
    /// Width of the picture in pixels.
    pub width: u32,
    /// Height of the picture in pixels.
    pub height: u32,
    /// Why there is no row, where there is none.
    pub obstacle: Option<Obstacle>,
    /// The head's input.
    pub features: FeatureRows,
    /// The views' features for the semantic expert's head, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub semantic: Option<SemanticRows>,
    /// The trace that the rows were made from, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trace: Option<ImageTrace>,
}

/// The features of one picture's views.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SemanticRows {
    /// Where the views lie.
    pub views: Vec<View>,
    /// One row for each view: what the head sees.
    pub rows: Vec<Vec<f32>>,
}

/// The rows of one picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureRows {
    /// Version of the trace.
    pub trace_version: u32,
    /// Which columns: [`names_digest`] of their names.
    pub names_digest: String,
    /// One row for each patch.
    pub patches: Vec<Vec<f32>>,
}

impl TraceLine {
    /// Makes the line of a picture; `with_trace` keeps the whole trace beside the rows.
    #[must_use]
    pub fn new(path: &str, trace: &ImageTrace, with_trace: bool) -> Self {
        let rows = features(trace).rows;
        Self {
            path: path.to_owned(),
            width: trace.width,
            height: trace.height,
            obstacle: trace.obstacle,
            features: FeatureRows {
                trace_version: trace.version,
                names_digest: names_digest(&names(&trace.config)),
                patches: rows.rows().into_iter().map(|row| row.to_vec()).collect(),
            },
            semantic: None,
            trace: with_trace.then(|| trace.clone()),
        }
    }

    /// One line of JSON without a line break.
    ///
    /// # Errors
    /// [`DetectorError::Json`]; cannot happen for finite traces.
    pub fn to_json(&self) -> Result<String, DetectorError> {
        serde_json::to_string(self).map_err(|source| DetectorError::Json {
            what: "trace line",
            source,
        })
    }

    /// Reads one line.
    ///
    /// # Errors
    /// [`DetectorError::Json`].
    pub fn parse(line: &str) -> Result<Self, DetectorError> {
        serde_json::from_str(line).map_err(|source| DetectorError::Json {
            what: "trace line",
            source,
        })
    }
}

/// 64-bit FNV-1a hash of the names joined by line breaks, as 16 hexadecimal digits.
#[must_use]
pub fn names_digest(names: &[String]) -> String {
    // Offset basis and prime as published by Fowler, Noll and Vo.
    let hash = names
        .join("\n")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{hash:016x}")
}
