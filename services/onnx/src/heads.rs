//! Heads of a detector: feature rows to raw scores.

use std::path::Path;

use ndarray::{ArrayView2, Axis};

use crate::error::OnnxError;
use crate::part::{Feed, Part};
use crate::runtime::Runtime;

/// The heads of a detector folder. Each takes `features` (rows, columns) and gives `raw_score`
/// (rows), a logit; the raw score of a row is the mean over the heads.
pub struct Heads {
    parts: Vec<Part>,
    columns: usize,
}

impl Heads {
    /// Opens the model files of all heads, which must take rows of `columns` features.
    ///
    /// # Errors
    /// [`OnnxError::FileMissing`], [`OnnxError::Session`], [`OnnxError::PortMissing`], and
    /// [`OnnxError::PortKind`] for another number of columns.
    pub fn open<P: AsRef<Path>>(
        runtime: &Runtime,
        paths: &[P],
        columns: usize,
    ) -> Result<Self, OnnxError> {
        let mut parts = Vec::with_capacity(paths.len());
        for path in paths {
            let part = Part::open(runtime, "detector head", path.as_ref())?;
            let declared = part.input("features")?.shape.last().copied();
            if declared != i64::try_from(columns).ok() {
                return Err(OnnxError::PortKind {
                    part: "detector head".to_owned(),
                    port: "input \"features\"".to_owned(),
                    found: format!("{declared:?} columns"),
                    expected: format!("{columns} columns"),
                });
            }
            part.output(&["raw_score"])?;
            parts.push(part);
        }
        if parts.is_empty() {
            return Err(OnnxError::request("a detector needs at least one head"));
        }
        Ok(Self { parts, columns })
    }

    /// Raw scores of feature rows, one for each row; none for no rows.
    ///
    /// # Errors
    /// [`OnnxError::Run`], also where a head answers with another number of scores.
    pub fn scores(&mut self, rows: ArrayView2<'_, f32>) -> Result<Vec<f32>, OnnxError> {
        let failed = |reason: String| OnnxError::Run {
            part: "detector head".to_owned(),
            reason,
        };
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut sums = vec![0.0_f64; rows.nrows()];
        for part in &mut self.parts {
            let feeds = [("features", Feed::Real(rows.into_dyn()))];
            let scores = part.run(&feeds, "raw_score")?;
            if scores.len() != sums.len() {
                return Err(failed(format!(
                    "{} raw scores for {} rows",
                    scores.len(),
                    sums.len()
                )));
            }
            for (sum, score) in sums.iter_mut().zip(&scores) {
                *sum += f64::from(*score);
            }
        }
        let heads = self.parts.len() as f64;
        Ok(sums.into_iter().map(|sum| (sum / heads) as f32).collect())
    }

    /// Raw score of one feature row.
    ///
    /// # Errors
    /// As [`Heads::scores`], and [`OnnxError::Request`] for another number of features.
    pub fn score(&mut self, row: &[f32]) -> Result<f32, OnnxError> {
        if row.len() != self.columns {
            let reason = format!("{} features, {} are needed", row.len(), self.columns);
            return Err(OnnxError::request(reason));
        }
        let row = ndarray::ArrayView1::from(row).insert_axis(Axis(0));
        Ok(self.scores(row)?[0])
    }
}

impl std::fmt::Debug for Heads {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Heads")
            .field("heads", &self.parts.len())
            .field("columns", &self.columns)
            .finish()
    }
}
