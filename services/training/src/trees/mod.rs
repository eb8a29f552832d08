//! Gradient-boosted trees with logistic loss, grown leaf by leaf on histograms of binned features (Ke et al. 2017,
//! LightGBM; Friedman 2001).

mod bins;
mod grow;

use ndarray::ArrayView2;

use crate::draws::Draws;
use crate::error::TrainingError;
use crate::logistic::{Samples, logistic};
use bins::Bins;
use grow::{Grower, Round};

/// How trees are grown.
#[derive(Clone, Copy, Debug)]
pub struct TreeSettings {
    /// Trees.
    pub rounds: usize,
    /// What each tree's leaves are multiplied by.
    pub learning_rate: f64,
    /// Leaves of a tree at most.
    pub leaves_max: usize,
    /// Bins of a feature at most, 2 to 255.
    pub bins_max: usize,
    /// Rows in a leaf at least.
    pub leaf_rows_min: usize,
    /// Share of the features that a tree may ask about.
    pub feature_share: f64,
    /// Share of the rows that a tree is grown on.
    pub row_share: f64,
    /// Ridge on the leaves.
    pub ridge: f64,
}

impl TreeSettings {
    /// As `models/training/detector/heads.py` grows the trees of the trace.
    pub const TRACE: Self = Self {
        rounds: 200,
        learning_rate: 0.06,
        leaves_max: 15,
        bins_max: 63,
        leaf_rows_min: 40,
        feature_share: 0.25,
        row_share: 0.6,
        ridge: 10.0,
    };
}

/// Curvature in a leaf at least, as in the reference.
const CURVATURE_MIN: f64 = 1e-3;

/// One place in a tree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Node {
    /// Asks whether a feature is at most a threshold; `yes` and `no` are places in the tree.
    Split {
        /// Column.
        feature: usize,
        /// The largest value of the yes side.
        threshold: f32,
        /// Where rows go whose value is at most the threshold.
        yes: usize,
        /// Where the others go.
        no: usize,
    },
    /// What a row that ends here adds to the raw score.
    Leaf {
        /// In log-odds.
        value: f64,
    },
}

/// One tree; the root is the first node.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// All nodes.
    pub nodes: Vec<Node>,
}

impl Tree {
    fn score(&self, row: &[f32]) -> f64 {
        let mut at = 0;
        loop {
            match self.nodes[at] {
                Node::Leaf { value } => return value,
                Node::Split {
                    feature,
                    threshold,
                    yes,
                    no,
                } => {
                    at = if row[feature] <= threshold { yes } else { no };
                }
            }
        }
    }
}

/// Trees whose sum is the raw score, a logit.
#[derive(Clone, Debug, PartialEq)]
pub struct Trees {
    /// How many features a row has.
    pub columns: usize,
    /// At least one tree; the first one's leaves hold the log-odds of the whole.
    pub trees: Vec<Tree>,
}

impl Trees {
    /// Raw score of a row.
    #[must_use]
    pub fn score(&self, row: &[f32]) -> f64 {
        self.trees.iter().map(|tree| tree.score(row)).sum()
    }

    /// Raw scores of rows, shape (rows, columns).
    #[must_use]
    pub fn scores(&self, rows: ArrayView2<'_, f32>) -> Vec<f64> {
        rows.rows()
            .into_iter()
            .map(|row| self.score(&row.to_vec()))
            .collect()
    }
}

/// Grows trees. The same samples, settings and draws give the same trees.
///
/// # Errors
/// As [`Samples::check`].
pub fn grow_trees(
    samples: &Samples<'_>,
    settings: &TreeSettings,
    draws: &mut Draws,
) -> Result<Trees, TrainingError> {
    samples.check()?;
    let columns = samples.rows.ncols();
    let bins = Bins::of(samples, settings.bins_max);
    let total: f64 = samples.weights.iter().sum();
    let positive: f64 = samples
        .weights
        .iter()
        .zip(samples.labels)
        .filter(|(_, label)| **label)
        .map(|(w, _)| w)
        .sum();
    if !(positive > 0.0 && positive < total) {
        return Err(TrainingError::NotFinite {
            what: "the log-odds of the classes",
        });
    }
    let base = (positive / (total - positive)).ln();
    let mut scores = vec![base; samples.chosen.len()];
    let grower = Grower::new(&bins, settings);
    let mut trees = Vec::with_capacity(settings.rounds);
    let rows_of_a_tree = share_of(samples.chosen.len(), settings.row_share);
    let features_of_a_tree = share_of(columns, settings.feature_share);
    let (mut rows, mut features): (Vec<usize>, Vec<usize>) =
        ((0..scores.len()).collect(), (0..columns).collect());
    for round in 0..settings.rounds {
        let slopes: Vec<(f64, f64)> = scores
            .iter()
            .zip(samples.labels)
            .zip(samples.weights)
            .map(|((score, label), weight)| {
                let probability = logistic(*score);
                let slope = weight * (probability - f64::from(u8::from(*label)));
                (slope, weight * probability * (1.0 - probability))
            })
            .collect();
        let bag = drawn(&mut rows, rows_of_a_tree, draws);
        let asked = drawn(&mut features, features_of_a_tree, draws);
        let round_of = Round {
            slopes: &slopes,
            asked: &asked,
        };
        let grown = grower.grow(round_of, &bag);
        for (row, score) in scores.iter_mut().enumerate() {
            *score += grown.value(&bins, row);
        }
        trees.push(grown.tree(&bins, if round == 0 { base } else { 0.0 }));
    }
    Ok(Trees { columns, trees })
}

/// At least one of several.
fn share_of(count: usize, share: f64) -> usize {
    ((count as f64 * share).round() as usize).clamp(1.min(count), count)
}

/// The first `count` of a new order, sorted.
fn drawn(order: &mut [usize], count: usize, draws: &mut Draws) -> Vec<usize> {
    for place in 0..count {
        let other = place + draws.below(order.len() - place);
        order.swap(place, other);
    }
    let mut out = order[..count].to_vec();
    out.sort_unstable();
    out
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::figures::auc;

    /// Two features of ten tell the class, and only together.
    fn made(rows: usize, name: &str) -> (Array2<f32>, Vec<bool>) {
        let mut draws = Draws::new(5, &[name]);
        let table = Array2::from_shape_fn((rows, 10), |_| draws.between(-1.0, 1.0) as f32);
        let labels = table
            .rows()
            .into_iter()
            .map(|row| (row[2] > 0.0) != (row[7] > 0.2))
            .collect();
        (table, labels)
    }

    fn grown(table: &Array2<f32>, labels: &[bool], settings: &TreeSettings) -> Trees {
        let chosen: Vec<usize> = (0..labels.len()).collect();
        let weights = vec![1.0; labels.len()];
        let samples = Samples {
            rows: table.view(),
            chosen: &chosen,
            labels,
            weights: &weights,
        };
        grow_trees(&samples, settings, &mut Draws::new(1, &["grow"])).unwrap()
    }

    #[test]
    fn features_that_tell_only_together_are_found() {
        let (table, labels) = made(2000, "train");
        let trees = grown(
            &table,
            &labels,
            &TreeSettings {
                feature_share: 1.0,
                ..TreeSettings::TRACE
            },
        );
        let (held, truth) = made(1000, "held out");
        let found = auc(&trees.scores(held.view()), &truth).unwrap();
        assert!(found > 0.98, "{found}");
    }

    #[test]
    fn the_same_draws_grow_the_same_trees_and_no_tree_breaks_its_limits() {
        let (table, labels) = made(400, "limits");
        let settings = TreeSettings {
            rounds: 20,
            ..TreeSettings::TRACE
        };
        let trees = grown(&table, &labels, &settings);
        assert_eq!(trees, grown(&table, &labels, &settings));
        assert_eq!(trees.trees.len(), 20);
        for tree in &trees.trees {
            let leaves = tree
                .nodes
                .iter()
                .filter(|node| matches!(node, Node::Leaf { .. }))
                .count();
            assert!((1..=settings.leaves_max).contains(&leaves));
            assert_eq!(tree.nodes.len(), 2 * leaves - 1);
        }
    }

    #[test]
    fn features_that_say_nothing_leave_the_log_odds_of_the_classes() {
        let table = Array2::<f32>::zeros((100, 3));
        let labels: Vec<bool> = (0..100).map(|row| row < 75).collect();
        let trees = grown(
            &table,
            &labels,
            &TreeSettings {
                row_share: 1.0,
                ..TreeSettings::TRACE
            },
        );
        assert!((trees.score(&[0.0; 3]) - 3.0_f64.ln()).abs() < 1e-9);
    }
}
