//! The semantic expert: a frozen image encoder, which lies among the native parts, and the head for
//! it, which lies in a detector's folder.

use std::path::Path;

use detector::views::{View, ViewConfig, views};
use detector::{PictureView, SemanticScores};
use ndarray::{Array2, ArrayD, Axis};
use provenance::Digest;
use serde::Deserialize;

use crate::error::OnnxError;
use crate::heads::Heads;
use crate::part::{Feed, Part};
use crate::runtime::Runtime;

/// The encoder's input, shape (1, 3, side, side).
const PIXELS: &str = "pixel_values";

/// `semantic.json` of a detector's folder.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SemanticContents {
    /// Which encoder, for people.
    pub encoder: String,
    /// Where the encoder lies below the folder of the native parts.
    pub file: String,
    /// Its SHA-256: the embeddings of another encoder mean nothing to the head.
    pub sha256: Digest,
    /// How the encoder wants its pixels, and of how small pictures.
    pub views: ViewConfig,
    /// A graph in the detector's folder that takes its weights from the encoder file and computes in
    /// 32 bits (ONNX, External Data). Without one the encoder file is run as it is.
    #[serde(default)]
    pub graph: Option<String>,
    /// Values inside the encoder that become features, in this order. Of one with tokens, shape
    /// (1, tokens, width), the first (the class token) is taken; of shape (1, width) all.
    pub layers: Vec<String>,
    /// How many features that makes.
    pub columns: usize,
    /// Path of the head in the detector's folder; it judges one view at a time.
    pub head: String,
}

/// Encoder and head, ready to look at pictures.
#[derive(Debug)]
pub struct SemanticExpert {
    contents: SemanticContents,
    encoder: Part,
    head: Heads,
}

/// The features of one picture's views, as the head takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct SemanticFeatures {
    /// Where the view of each row lies.
    pub views: Vec<View>,
    /// Shape (views, columns).
    pub rows: Array2<f32>,
}

impl SemanticExpert {
    /// Opens the encoder file `encoder` and the head below `folder`. Whether the encoder is the one
    /// that `contents` names is the caller's to check.
    ///
    /// # Errors
    /// [`OnnxError::FileMissing`], [`OnnxError::Session`], [`OnnxError::PortMissing`],
    /// [`OnnxError::PortKind`].
    pub fn open(
        runtime: &Runtime,
        folder: &Path,
        contents: SemanticContents,
        encoder: &Path,
    ) -> Result<Self, OnnxError> {
        let graph = contents.graph.as_ref().map(|graph| folder.join(graph));
        let encoder = match &graph {
            Some(graph) => open_graph(runtime, graph, encoder)?,
            None => open_encoder(runtime, encoder, &contents.layers)?,
        };
        let head = [folder.join(&contents.head)];
        let head = Heads::open(runtime, &head, contents.columns)?;
        Ok(Self {
            encoder,
            head,
            contents,
        })
    }

    /// What the detector's folder says about encoder and head.
    pub fn contents(&self) -> &SemanticContents {
        &self.contents
    }

    /// Embeds the views of a picture; `None` for one too small to say anything about.
    ///
    /// # Errors
    /// [`OnnxError::Run`] when the encoder fails or answers with values that are not finite.
    pub fn embed(
        &mut self,
        picture: &PictureView<'_>,
    ) -> Result<Option<SemanticFeatures>, OnnxError> {
        let config = &self.contents.views;
        if picture.width().min(picture.height()) < config.shorter_side_min {
            return Ok(None);
        }
        let cut = views(picture, config).map_err(|error| failed(error.to_string()))?;
        let mut rows = Array2::zeros((cut.views.len(), self.contents.columns));
        for (view, mut row) in cut.pixels.axis_iter(Axis(0)).zip(rows.rows_mut()) {
            // One view at a time: an encoder of whole numbers scales them over all that it is given
            // at once, so a view's features would depend on its neighbours.
            let pixels = view.insert_axis(Axis(0));
            let feeds = [(PIXELS, Feed::Real(pixels.into_dyn()))];
            let values = self.encoder.run_all(&feeds, &self.contents.layers)?;
            let features: Vec<f32> = values.iter().flat_map(class_token).collect();
            if features.len() != row.len() || features.iter().any(|value| !value.is_finite()) {
                let found = features.len();
                let reason = format!("{found} features, {} finite ones are needed", row.len());
                return Err(failed(reason));
            }
            row.assign(&ndarray::ArrayView1::from(&features));
        }
        let views = cut.views;
        Ok(Some(SemanticFeatures { views, rows }))
    }

    /// Raw scores of embedded views.
    ///
    /// # Errors
    /// [`OnnxError::Run`].
    pub fn scores(&mut self, features: &SemanticFeatures) -> Result<SemanticScores, OnnxError> {
        let raw_scores = self.head.scores(features.rows.view())?;
        Ok(SemanticScores {
            views: features.views.clone(),
            raw_scores,
        })
    }
}

fn failed(reason: String) -> OnnxError {
    OnnxError::Run {
        part: ENCODER.to_owned(),
        reason,
    }
}

/// The first token of (1, tokens, width), or all of (1, width).
fn class_token(values: &ArrayD<f32>) -> Vec<f32> {
    match values.ndim() {
        3 => {
            let tokens = values.index_axis(Axis(0), 0);
            tokens.index_axis(Axis(0), 0).iter().copied().collect()
        }
        _ => values.iter().copied().collect(),
    }
}

/// What errors call the encoder.
const ENCODER: &str = "image encoder";

/// Opens the graph whose weights lie in the file `encoder`.
fn open_graph(runtime: &Runtime, graph: &Path, encoder: &Path) -> Result<Part, OnnxError> {
    let model = std::fs::read(graph).map_err(|error| OnnxError::from_io(graph, &error))?;
    let part = Part::open_bytes(runtime, (ENCODER, graph), &model, encoder.parent())?;
    part.input(PIXELS)?;
    Ok(part)
}

/// Opens the encoder with the values inside it that are wanted as further outputs.
fn open_encoder(runtime: &Runtime, path: &Path, layers: &[String]) -> Result<Part, OnnxError> {
    let part = Part::open(runtime, ENCODER, path)?;
    part.input(PIXELS)?;
    let hidden: Vec<&str> = layers
        .iter()
        .map(String::as_str)
        .filter(|layer| part.outputs().iter().all(|port| port.name != *layer))
        .collect();
    if hidden.is_empty() {
        return Ok(part);
    }
    drop(part);
    let mut model = std::fs::read(path).map_err(|error| OnnxError::from_io(path, &error))?;
    for name in hidden {
        model.extend(declared_output(name));
    }
    Part::open_bytes(runtime, (ENCODER, path), &model, None)
}

/// A piece of ONNX that, behind a model, makes the value `name` one of its outputs. A message that
/// stands twice in Protocol Buffers' wire format is merged and its lists are joined (Protocol Buffers,
/// Encoding, "Last One Wins"), so the piece is a `ModelProto` (field 7: the graph) of a `GraphProto`
/// (field 12: an output) of a `ValueInfoProto` (field 1: its name).
fn declared_output(name: &str) -> Vec<u8> {
    let field = |number: u8, content: &[u8]| {
        // Wire type 2: a length, then as many bytes.
        let mut out = vec![number << 3 | 2];
        let mut length = content.len();
        while length > 0x7f {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(content);
        out
    };
    field(7, &field(12, &field(1, name.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_declared_in_three_nested_fields_with_their_lengths() {
        assert_eq!(declared_output("abc"), b"\x3a\x07\x62\x05\x0a\x03abc");
        let long = declared_output(&"n".repeat(200));
        assert_eq!(
            long[..9],
            [0x3a, 0xce, 0x01, 0x62, 0xcb, 0x01, 0x0a, 0xc8, 0x01]
        );
        assert_eq!(long.len(), 209);
    }
}
