//! Controls: classifiers on what must say nothing about the label. A detector that learned from pictures whose label
//! shows in their files, or that says nothing, is not to be used.

use ndarray::{Array2, ArrayView2, Axis, Slice};
use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::error::TrainingError;
use crate::experts::{FitOn, Heads};
use crate::figures::{auc, chance_error};
use crate::logistic::Samples;
use crate::recipe::CONTAINER_COLUMNS;
use crate::table::{FOLDS, Label, Table};
use crate::tasks::SHUFFLES;
use crate::trees::{TreeSettings, grow_trees};

/// How far a control may lie from chance, however many pictures there are.
pub const TOLERANCE: f64 = 0.03;
/// Bytes for each pixel follow what a picture shows: folders of unlike subjects are allowed this much.
pub const BYTES_TOLERANCE: f64 = 0.20;
/// With few pictures chance alone lies this many standard errors from one half once in some hundred trainings.
pub const STANDARD_ERRORS: f64 = 3.0;
/// The classifiers' trees: small ones, for few rows.
const TREES: TreeSettings = TreeSettings {
    rounds: 60,
    learning_rate: 0.1,
    leaves_max: 8,
    bins_max: 63,
    leaf_rows_min: 10,
    feature_share: 0.5,
    row_share: 0.8,
    ridge: 1.0,
};

/// Which control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Canary {
    /// Size, kind, tables and sampling of the copies' files.
    Container,
    /// The same and bytes for each pixel.
    BytesPerPixel,
    /// A grey picture of 16 pixels a side: what is shown, and nothing of how it was made.
    Thumbnail,
}

impl Canary {
    /// All controls on single copies.
    pub const ALL: [Self; 3] = [Self::Container, Self::BytesPerPixel, Self::Thumbnail];
}

/// A control's figure and what is asked of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanaryResult {
    /// What was tried, for people.
    pub name: String,
    /// Area under the ROC curve.
    pub auc: f64,
    /// The largest one that is accepted; none where the control only informs.
    pub auc_max: Option<f64>,
    /// The smallest one that is accepted, where too little is as bad.
    pub auc_min: Option<f64>,
    /// What a figure outside means, for people.
    pub meaning: String,
}

impl CanaryResult {
    /// Whether the figure is one that is accepted.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.auc_max.is_none_or(|most| self.auc <= most)
            && self.auc_min.is_none_or(|least| self.auc >= least)
    }
}

/// The tolerance for a control judged on a table's pictures: `least`, or so many standard errors of chance as
/// [`STANDARD_ERRORS`] says, whichever is larger.
#[must_use]
pub fn tolerance(table: &Table, least: f64) -> f64 {
    let generated = table.count(Label::Generated);
    let others = table.pictures.len() - generated;
    // Copies of one picture stand or fall together, so pictures are counted.
    least.max(STANDARD_ERRORS * chance_error(generated, others))
}

/// A classifier on the copies' files, judged on pictures that it did not see.
pub(crate) fn container_auc(
    table: &Table,
    with_bytes: bool,
    seed: u64,
) -> Result<f64, TrainingError> {
    let columns = if with_bytes {
        CONTAINER_COLUMNS
    } else {
        CONTAINER_COLUMNS - 1
    };
    let rows = table
        .containers
        .slice_axis(Axis(1), Slice::from(..columns))
        .to_owned();
    cross_validated(table, &rows, (seed, "container"))
}

/// A classifier on the tiny grey pictures.
pub(crate) fn thumbnail_auc(table: &Table, seed: u64) -> Result<f64, TrainingError> {
    cross_validated(table, &table.thumbnails, (seed, "thumbnail"))
}

/// AUC of trees over parts that keep a picture's copies together.
fn cross_validated(
    table: &Table,
    rows: &Array2<f32>,
    (seed, name): (u64, &str),
) -> Result<f64, TrainingError> {
    let generated = table.generated();
    let mut scores = vec![0.0; generated.len()];
    for fold in 0..FOLDS {
        let inside = |copy: &usize| table.folds[table.copies[*copy].picture] == fold;
        let (judged, fitted): (Vec<usize>, Vec<usize>) = (0..generated.len()).partition(inside);
        let labels: Vec<bool> = fitted.iter().map(|copy| generated[*copy]).collect();
        let weights = class_weights(&labels);
        let view: ArrayView2<'_, f32> = rows.view();
        let samples = Samples {
            rows: view,
            chosen: &fitted,
            labels: &labels,
            weights: &weights,
        };
        let trees = grow_trees(
            &samples,
            &TREES,
            &mut Draws::new(seed, &["canary", name, &fold.to_string()]),
        )?;
        for copy in judged {
            scores[copy] = trees.score(&rows.row(copy).to_vec());
        }
    }
    Ok(auc(&scores, &generated).unwrap_or(0.5))
}

/// Both classes weigh the same, so that no part leans to the class that it has more of.
fn class_weights(labels: &[bool]) -> Vec<f64> {
    let positive = labels.iter().filter(|label| **label).count().max(1) as f64;
    let negative = (labels.len() as f64 - positive).max(1.0);
    let half = labels.len() as f64 / 2.0;
    labels
        .iter()
        .map(|label| half / if *label { positive } else { negative })
        .collect()
}

/// Heads fitted on one half of the pictures with labels that were shuffled between them, judged by the shuffled labels
/// of the other half: AUC of the trace and of the semantic expert.
pub(crate) fn shuffled_auc(
    table: &Table,
    draw: usize,
    seed: u64,
) -> Result<(f64, Option<f64>), TrainingError> {
    let mut draws = Draws::new(seed, &["shuffled", &draw.to_string()]);
    let mut labels: Vec<bool> = table
        .pictures
        .iter()
        .map(|row| row.label == Label::Generated)
        .collect();
    draws.shuffle(&mut labels);
    // Half of each shuffled class is fitted on.
    let mut seen = vec![false; labels.len()];
    let mut next = [false; 2];
    let mut order: Vec<usize> = (0..labels.len()).collect();
    draws.shuffle(&mut order);
    for picture in order {
        let turn = &mut next[usize::from(labels[picture])];
        *turn = !*turn;
        seen[picture] = *turn;
    }
    let of_copies = |values: &[bool]| -> Vec<bool> {
        table
            .copies
            .iter()
            .map(|copy| values[copy.picture])
            .collect()
    };
    let (fitted, generated) = (of_copies(&seen), of_copies(&labels));
    let on = FitOn {
        copies: &fitted,
        generated: &generated,
    };
    let scores = Heads::fit(table, &on, None, &mut draws)?.scores(table);
    let judged: Vec<usize> = (0..fitted.len()).filter(|copy| !fitted[*copy]).collect();
    let truth: Vec<bool> = judged.iter().map(|copy| generated[*copy]).collect();
    let of = |scores: &[f64]| {
        let scores: Vec<f64> = judged.iter().map(|copy| scores[*copy]).collect();
        auc(&scores, &truth).unwrap_or(0.5)
    };
    Ok((of(&scores.trace), scores.semantic.as_deref().map(of)))
}

/// The figures of all controls, in the order of [`Canary::ALL`], with the mean over the shuffles.
#[must_use]
pub fn results(
    table: &Table,
    single: &[f64; 3],
    shuffled: &[(f64, Option<f64>)],
) -> Vec<CanaryResult> {
    let plain = tolerance(table, TOLERANCE);
    // The mean over shuffles of half the pictures: half of them judge, and the draws are nearly independent.
    let of_mean = TOLERANCE.max(
        STANDARD_ERRORS
            * chance_error(
                table.count(Label::Generated).div_ceil(2),
                (table.pictures.len() - table.count(Label::Generated)).div_ceil(2),
            )
            / (SHUFFLES as f64).sqrt(),
    );
    let result = |name: &str, auc: f64, auc_max: Option<f64>, meaning: &str| CanaryResult {
        name: name.to_owned(),
        auc,
        auc_max,
        auc_min: None,
        meaning: meaning.to_owned(),
    };
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let mut out = vec![
        result(
            "size, kind, tables and sampling of the copies' files",
            single[0],
            Some(0.5 + plain),
            "the label shows in the copies' files, so the recipe that makes them is broken",
        ),
        result(
            "the same and bytes for each pixel",
            single[1],
            Some(0.5 + tolerance(table, BYTES_TOLERANCE)),
            "the folders differ so much in how much detail their pictures have that a detector would learn that",
        ),
        result(
            "a grey picture of 16 pixels a side",
            single[2],
            None,
            "how far the folders can be told apart by what they show alone; some of every figure comes from that",
        ),
        result(
            "trace, labels shuffled between pictures (mean)",
            mean(shuffled.iter().map(|pair| pair.0).collect()),
            Some(0.5 + of_mean),
            "pictures are judged by heads that saw them or their doubles",
        ),
    ];
    let semantic: Vec<f64> = shuffled.iter().filter_map(|pair| pair.1).collect();
    if !semantic.is_empty() {
        out.push(result(
            "semantic expert, labels shuffled between pictures (mean)",
            mean(semantic),
            Some(0.5 + of_mean),
            "pictures are judged by heads that saw them or their doubles",
        ));
    }
    out
}
