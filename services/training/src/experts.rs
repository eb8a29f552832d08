//! The heads of both experts, fitted on a table, and the raw scores that they give its copies.

use crate::draws::Draws;
use crate::error::TrainingError;
use crate::logistic::{Linear, LogisticSettings, Samples, fit_logistic};
use crate::table::{Rows, Table};
use crate::trees::{TreeSettings, Trees, grow_trees};

/// The semantic head: thousands of features meet a few thousand copies, so the ridge is strong
/// (`models/training/detector/semantic_head.py`).
const SEMANTIC: LogisticSettings = LogisticSettings {
    strength: 1e-3,
    standardised: true,
    steps_max: 300,
    tolerance: 1e-6,
};

/// What a fit sees.
#[derive(Clone, Copy, Debug)]
pub struct FitOn<'a> {
    /// For each copy, whether it is fitted on.
    pub copies: &'a [bool],
    /// For each copy, whether it counts as generated.
    pub generated: &'a [bool],
}

/// The heads of one fit.
#[derive(Clone, Debug)]
pub struct Heads {
    /// Judges patches of the trace.
    pub trace: Trees,
    /// Judges views, where the semantic expert looked.
    pub semantic: Option<Linear>,
}

/// Raw scores of all copies by the heads of one fit.
#[derive(Clone, Debug, PartialEq)]
pub struct RawScores {
    /// The trace's, mean over the patches.
    pub trace: Vec<f64>,
    /// The semantic expert's, mean over the views.
    pub semantic: Option<Vec<f64>>,
}

impl Heads {
    /// Fits both heads. `start` is a semantic head fitted before, which saves steps.
    ///
    /// # Errors
    /// [`TrainingError::OneClass`] and [`TrainingError::NotFinite`].
    pub fn fit(
        table: &Table,
        on: &FitOn<'_>,
        start: Option<&Linear>,
        draws: &mut Draws,
    ) -> Result<Self, TrainingError> {
        let weights = table.weights(on.copies, on.generated);
        let patches = Chosen::new(table, &table.patches, on, &weights);
        let trace = grow_trees(
            &patches.samples(&table.patches),
            &TreeSettings::TRACE,
            draws,
        )?;
        let semantic = table.views.as_ref().map(|views| {
            let chosen = Chosen::new(table, views, on, &weights);
            fit_logistic(&chosen.samples(views), &SEMANTIC, start)
        });
        Ok(Self {
            trace,
            semantic: semantic.transpose()?,
        })
    }

    /// Raw scores of every copy of the table.
    #[must_use]
    pub fn scores(&self, table: &Table) -> RawScores {
        let pooled = |rows: &Rows, score: &dyn Fn(&[f32]) -> f64| {
            let (mut sums, mut counts) =
                (vec![0.0; table.copies.len()], vec![0.0; table.copies.len()]);
            for (row, copy) in rows.values.rows().into_iter().zip(&rows.copy) {
                sums[*copy] += score(row.as_slice().expect("rows lie one behind the other"));
                counts[*copy] += 1.0;
            }
            sums.iter()
                .zip(counts)
                .map(|(sum, count)| sum / count)
                .collect::<Vec<f64>>()
        };
        RawScores {
            trace: pooled(&table.patches, &|row| self.trace.score(row)),
            semantic: table
                .views
                .as_ref()
                .zip(self.semantic.as_ref())
                .map(|(views, head)| pooled(views, &|row| head.score(row))),
        }
    }
}

/// The rows of the copies that are fitted on.
struct Chosen {
    rows: Vec<usize>,
    labels: Vec<bool>,
    weights: Vec<f64>,
}

impl Chosen {
    /// A copy's weight is shared evenly by its rows, and the mean weight of a row is one.
    fn new(table: &Table, rows: &Rows, on: &FitOn<'_>, weights: &[f64]) -> Self {
        let mut counts = vec![0.0; table.copies.len()];
        rows.copy.iter().for_each(|copy| counts[*copy] += 1.0);
        let mut out = Self {
            rows: Vec::new(),
            labels: Vec::new(),
            weights: Vec::new(),
        };
        for (row, copy) in rows
            .copy
            .iter()
            .enumerate()
            .filter(|(_, copy)| on.copies[**copy])
        {
            out.rows.push(row);
            out.labels.push(on.generated[*copy]);
            out.weights.push(weights[*copy] / counts[*copy]);
        }
        let mean = out.weights.iter().sum::<f64>() / out.weights.len().max(1) as f64;
        out.weights.iter_mut().for_each(|weight| *weight /= mean);
        out
    }

    fn samples<'a>(&'a self, rows: &'a Rows) -> Samples<'a> {
        Samples {
            rows: rows.values.view(),
            chosen: &self.rows,
            labels: &self.labels,
            weights: &self.weights,
        }
    }
}
