//! Figures of a detector: how well scores tell two classes apart, and how well probabilities hold.

use serde::{Deserialize, Serialize};

/// Bins of a reliability diagram and of the calibration error.
pub const RELIABILITY_BINS: usize = 15;
/// 95 % of a normal distribution lie within this many deviations.
const NORMAL_95: f64 = 1.959_964;

/// Area under the ROC curve: how often a generated picture scores above another one; ties count half. `None` where a
/// class is missing.
#[must_use]
pub fn auc(scores: &[f64], generated: &[bool]) -> Option<f64> {
    let positive = generated.iter().filter(|label| **label).count() as f64;
    let negative = generated.len() as f64 - positive;
    if positive == 0.0 || negative == 0.0 {
        return None;
    }
    let order = falling(scores);
    let (mut area, mut above) = (0.0, 0.0);
    for tied in order.chunk_by(|a, b| scores[*a].total_cmp(&scores[*b]).is_eq()) {
        let hits = tied.iter().filter(|index| generated[**index]).count() as f64;
        let others = tied.len() as f64 - hits;
        area += others * (above + hits / 2.0);
        above += hits;
    }
    Some(area / (positive * negative))
}

/// Standard error of an AUC of one half with so many independent pictures of each class (Hanley and McNeil 1982).
#[must_use]
pub fn chance_error(positive: usize, negative: usize) -> f64 {
    let (positive, negative) = (positive as f64, negative as f64);
    ((positive + negative + 1.0) / (12.0 * positive * negative).max(1e-9)).sqrt()
}

/// A point of a ROC curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RocPoint {
    /// Share of pictures that are not generated and score at least so high.
    pub false_positives: f64,
    /// Share of generated pictures that do.
    pub true_positives: f64,
}

/// The curve at `points` thresholds or fewer, from (0, 0) to (1, 1). Empty where a class is missing.
#[must_use]
pub fn roc(scores: &[f64], generated: &[bool], points: usize) -> Vec<RocPoint> {
    let positive = generated.iter().filter(|label| **label).count() as f64;
    let negative = generated.len() as f64 - positive;
    if positive == 0.0 || negative == 0.0 {
        return Vec::new();
    }
    let order = falling(scores);
    let mut all = vec![RocPoint {
        false_positives: 0.0,
        true_positives: 0.0,
    }];
    let (mut hits, mut alarms) = (0.0, 0.0);
    for tied in order.chunk_by(|a, b| scores[*a].total_cmp(&scores[*b]).is_eq()) {
        let found = tied.iter().filter(|index| generated[**index]).count() as f64;
        hits += found;
        alarms += tied.len() as f64 - found;
        all.push(RocPoint {
            false_positives: alarms / negative,
            true_positives: hits / positive,
        });
    }
    let step = all.len().div_ceil(points.max(2));
    let last = all.len() - 1;
    all.into_iter()
        .enumerate()
        .filter(|(index, _)| index % step == 0 || *index == last)
        .map(|(_, point)| point)
        .collect()
}

/// Share of generated pictures found at a threshold that at most `allowed` of the others reach.
#[must_use]
pub fn found_at(scores: &[f64], generated: &[bool], allowed: f64) -> Option<f64> {
    let curve = roc(scores, generated, usize::MAX);
    let inside = curve
        .iter()
        .filter(|point| point.false_positives <= allowed);
    inside.map(|point| point.true_positives).reduce(f64::max)
}

/// One bin of a reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Mean probability.
    pub probability: f64,
    /// Weighted share of generated pictures.
    pub generated: f64,
    /// Share of the weight that lies in the bin.
    pub weight: f64,
}

/// Even bins of probability that hold anything.
#[must_use]
pub fn reliability(
    probabilities: &[f64],
    generated: &[bool],
    weights: &[f64],
) -> Vec<ReliabilityBin> {
    let total: f64 = weights.iter().sum();
    let mut sums = [(0.0, 0.0, 0.0); RELIABILITY_BINS];
    for ((probability, label), weight) in probabilities.iter().zip(generated).zip(weights) {
        let bin = ((probability * RELIABILITY_BINS as f64) as usize).min(RELIABILITY_BINS - 1);
        sums[bin].0 += weight;
        sums[bin].1 += weight * probability;
        sums[bin].2 += weight * f64::from(u8::from(*label));
    }
    let filled = sums.iter().filter(|sum| sum.0 > 0.0);
    filled
        .map(|(weight, probability, hits)| ReliabilityBin {
            probability: probability / weight,
            generated: hits / weight,
            weight: weight / total,
        })
        .collect()
}

/// Expected calibration error: the mean distance of the bins from the diagonal.
#[must_use]
pub fn calibration_error(bins: &[ReliabilityBin]) -> f64 {
    bins.iter()
        .map(|bin| bin.weight * (bin.probability - bin.generated).abs())
        .sum()
}

/// Brier score: mean squared distance of probabilities from the truth; 0.25 says nothing.
#[must_use]
pub fn brier(probabilities: &[f64], generated: &[bool], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let each = probabilities.iter().zip(generated).zip(weights);
    each.map(|((probability, label), weight)| {
        weight * (probability - f64::from(u8::from(*label))).powi(2)
    })
    .sum::<f64>()
        / total.max(f64::MIN_POSITIVE)
}

/// A point of risk against coverage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RiskPoint {
    /// Share of the weight that is decided: the probabilities farthest from one half.
    pub coverage: f64,
    /// Share of the decided that is decided wrongly.
    pub risk: f64,
}

/// Risk against coverage in `points` even steps of coverage.
#[must_use]
pub fn risk_coverage(
    probabilities: &[f64],
    generated: &[bool],
    weights: &[f64],
    points: usize,
) -> Vec<RiskPoint> {
    let surest: Vec<f64> = probabilities
        .iter()
        .map(|probability| (probability - 0.5).abs())
        .collect();
    let total: f64 = weights.iter().sum();
    let (mut decided, mut wrong) = (0.0, 0.0);
    let mut out: Vec<RiskPoint> = Vec::new();
    for index in falling(&surest) {
        decided += weights[index];
        wrong +=
            weights[index] * f64::from(u8::from((probabilities[index] >= 0.5) != generated[index]));
        let coverage = decided / total;
        if coverage * points as f64 + 1e-9 >= out.len() as f64 + 1.0 {
            out.push(RiskPoint {
                coverage,
                risk: wrong / decided,
            });
        }
    }
    out
}

/// A share of counted things with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// How many there are.
    pub of: usize,
    /// The share that was counted.
    pub share: f64,
    /// Lower end of the 95 % interval (Wilson 1927), which takes the things for independent.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Share {
    /// `count` of `of`.
    #[must_use]
    pub fn new(count: usize, of: usize) -> Self {
        let all = (of as f64).max(1.0);
        let share = count as f64 / all;
        let square = NORMAL_95 * NORMAL_95;
        let scale = 1.0 + square / all;
        let middle = (share + square / (2.0 * all)) / scale;
        let half =
            NORMAL_95 * (share * (1.0 - share) / all + square / (4.0 * all * all)).sqrt() / scale;
        Self {
            of,
            share,
            low: (middle - half).max(0.0),
            high: (middle + half).min(1.0),
        }
    }
}

/// Indices from the highest score to the lowest.
fn falling(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_counts_pairs_and_halves_ties() {
        assert_eq!(auc(&[1.0, 2.0, 3.0], &[false, true, true]), Some(1.0));
        assert_eq!(auc(&[1.0, 1.0], &[false, true]), Some(0.5));
        assert_eq!(
            auc(&[3.0, 2.0, 1.0, 0.0], &[true, false, true, false]),
            Some(0.75)
        );
        assert_eq!(auc(&[1.0], &[true]), None);
    }

    #[test]
    fn the_curve_goes_from_corner_to_corner_and_its_area_is_the_auc() {
        let scores: Vec<f64> = (0..200).map(|index| f64::from(index % 37)).collect();
        let generated: Vec<bool> = (0..200).map(|index| index % 37 + index % 11 > 25).collect();
        let curve = roc(&scores, &generated, usize::MAX);
        let area: f64 = curve
            .windows(2)
            .map(|pair| {
                (pair[1].false_positives - pair[0].false_positives)
                    * (pair[0].true_positives + pair[1].true_positives)
                    / 2.0
            })
            .sum();
        assert!((area - auc(&scores, &generated).unwrap()).abs() < 1e-9);
        let short = roc(&scores, &generated, 5);
        assert!(short.len() <= 7);
        assert_eq!(short.first().map(|point| point.true_positives), Some(0.0));
        assert_eq!(short.last().map(|point| point.false_positives), Some(1.0));
    }

    #[test]
    fn probabilities_that_hold_have_no_calibration_error() {
        let probabilities = [0.25; 8];
        let generated = [true, true, false, false, false, false, false, false];
        let bins = reliability(&probabilities, &generated, &[1.0; 8]);
        assert!(calibration_error(&bins) < 1e-12);
        assert!((brier(&probabilities, &generated, &[1.0; 8]) - 0.1875).abs() < 1e-12);
    }

    #[test]
    fn what_is_surest_is_decided_first() {
        let curve = risk_coverage(
            &[0.9, 0.4, 0.6, 0.1],
            &[true, true, false, false],
            &[1.0; 4],
            4,
        );
        let risks: Vec<f64> = curve.iter().map(|point| point.risk).collect();
        assert_eq!(risks[..2], [0.0, 0.0]);
        assert!((risks[3] - 0.5).abs() < 1e-12);
    }

    #[test]
    fn an_interval_holds_its_share_and_shrinks_with_more() {
        let (few, many) = (Share::new(1, 10), Share::new(100, 1000));
        assert!(few.low < 0.1 && few.high > 0.1);
        assert!(many.high - many.low < few.high - few.low);
        assert_eq!(Share::new(0, 0).share, 0.0);
    }
}
