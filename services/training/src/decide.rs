//! From raw scores to probabilities and verdicts: measured quality, calibration, fusion and thresholds, as
//! `models/training/detector/calibrate.py` and `fusion.py` fit them.

use detector::calibration::{QualityModel, Stratum, StratumThresholds};
use detector::fusion::FusionStratum;
use detector::{Calibration, Fusion, Thresholds, Verdict};
use ndarray::Array2;

use crate::error::TrainingError;
use crate::logistic::{LogisticSettings, Samples, fit_logistic};
use crate::ridge::fit_ridge;
use crate::table::{Label, Table};

/// From the highest quality down: name and smallest measured quality. The web tier is compressed with quality 60 and
/// the hard tier with 40; the bounds lie between the tiers.
pub const STRATA: [(&str, f64); 3] = [("high", 72.0), ("web", 50.0), ("low", 0.0)];
/// Of photographs, at most this share of a stratum is called likely generated where the trace speaks alone, ...
const FALSE_POSITIVES_MAX: f64 = 0.05;
/// ... of art at most this share, ...
const ART_FALSE_POSITIVES_MAX: f64 = 0.10;
/// ... and of generated pictures at most this share likely not generated.
const MISSES_MAX: f64 = 0.05;
/// With the semantic expert beside the trace, fewer of both are allowed.
const FUSED_FALSE_POSITIVES_MAX: f64 = 0.02;
/// Below this share of generated (photographed) pictures beyond a threshold, the verdict is never given: it would
/// decide next to nothing, and what it decides would be as often wrong as right.
const CAUGHT_MIN: f64 = 0.10;
/// Copies of each class that a stratum needs for a calibration of its own; with fewer it gets that of all strata, and
/// no verdict.
const STRATUM_COPIES_MIN: usize = 12;
/// Ridges of the small regressions: next to none.
const PLATT_STRENGTH: f64 = 1e4;
const FUSION_STRENGTH: f64 = 1e3;

/// A copy as the thresholds see it: judged by heads that did not see its picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Its place in the table.
    pub copy: usize,
    /// The trace's raw score.
    pub trace: f64,
    /// The semantic expert's, where it looked.
    pub semantic: Option<f64>,
    /// Index into [`STRATA`].
    pub stratum: usize,
    /// What the picture is.
    pub label: Label,
    /// How much the copy counts in calibration and figures.
    pub weight: f64,
}

/// Everything between raw scores and verdict.
#[derive(Clone, Debug)]
pub struct Decisions {
    /// Calibration of the trace alone.
    pub strata: Vec<Stratum>,
    /// Thresholds of the trace alone.
    pub thresholds: Vec<StratumThresholds>,
    /// Fusion with its thresholds, where the semantic expert looked.
    pub fusion: Option<Fusion>,
}

/// The probability of a copy, and the verdict on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decided {
    /// Calibrated probability at equal base rates.
    pub probability: f64,
    /// What the service would say.
    pub verdict: Verdict,
}

/// Fits the measurement of compression quality on the copies that heads are fitted on.
///
/// # Errors
/// As [`fit_ridge`].
pub fn fit_quality(table: &Table, fitted: &[bool]) -> Result<QualityModel, TrainingError> {
    let means = table.mean_patches();
    let chosen: Vec<usize> = (0..fitted.len()).filter(|copy| fitted[*copy]).collect();
    let rows = Array2::from_shape_fn((chosen.len(), means.ncols()), |(row, column)| {
        means[[chosen[row], column]]
    });
    let target: Vec<f64> = chosen
        .iter()
        .map(|copy| table.copies[*copy].quality)
        .collect();
    let linear = fit_ridge(rows.view(), &target)?;
    Ok(QualityModel {
        weights: linear.weights,
        intercept: linear.intercept,
    })
}

/// The stratum of each copy.
#[must_use]
pub fn strata_of(table: &Table, quality: &QualityModel) -> Vec<usize> {
    let means = table.mean_patches();
    let measured = means.rows().into_iter().map(|row| quality.measure(row));
    measured
        .map(|quality| {
            STRATA
                .iter()
                .position(|(_, least)| quality >= *least)
                .unwrap_or(STRATA.len() - 1)
        })
        .collect()
}

/// Fits calibration, fusion and thresholds.
///
/// # Errors
/// [`TrainingError::OneClass`] where a class is missing altogether.
pub fn decide(judged: &[Judged], version: &str) -> Result<Decisions, TrainingError> {
    let everything = fit_stratum(judged)?;
    let has_semantic = judged.iter().all(|copy| copy.semantic.is_some());
    let (mut strata, mut thresholds) = (Vec::new(), Vec::new());
    let (mut fused, mut fused_thresholds) = (Vec::new(), Vec::new());
    for (index, (name, quality_min)) in STRATA.iter().enumerate() {
        let inside: Vec<Judged> = judged
            .iter()
            .filter(|copy| copy.stratum == index)
            .copied()
            .collect();
        let is_enough = is_enough(&inside);
        let fit = if is_enough {
            fit_stratum(&inside)?
        } else {
            everything.clone()
        };
        // A stratum that borrows its calibration gets no threshold.
        let known = if is_enough { inside.as_slice() } else { &[] };
        let stratum = Stratum {
            name: (*name).to_owned(),
            quality_min: *quality_min,
            slope: fit.platt.0,
            intercept: fit.platt.1,
        };
        let allowed = (FALSE_POSITIVES_MAX, ART_FALSE_POSITIVES_MAX);
        thresholds.push(limits(name, known, allowed, &|copy| {
            stratum.probability(copy.trace)
        }));
        strata.push(stratum);
        if has_semantic {
            let joined = FusionStratum {
                name: (*name).to_owned(),
                ..fit.fusion
            };
            let probability =
                |copy: &Judged| joined.probability(copy.trace, copy.semantic.unwrap_or_default());
            let allowed = (FUSED_FALSE_POSITIVES_MAX, FUSED_FALSE_POSITIVES_MAX);
            fused_thresholds.push(limits(name, known, allowed, &probability));
            fused.push(joined);
        }
    }
    let version = || version.to_owned();
    let fusion = has_semantic.then(|| Fusion {
        version: version(),
        strata: fused,
        thresholds: Thresholds {
            version: version(),
            strata: fused_thresholds,
        },
    });
    Ok(Decisions {
        strata,
        thresholds,
        fusion,
    })
}

/// Whether a stratum has copies enough of both classes.
fn is_enough(inside: &[Judged]) -> bool {
    let generated = inside
        .iter()
        .filter(|copy| copy.label == Label::Generated)
        .count();
    generated >= STRATUM_COPIES_MIN && inside.len() - generated >= STRATUM_COPIES_MIN
}

/// The thresholds of a stratum.
fn limits(
    name: &str,
    known: &[Judged],
    allowed: (f64, f64),
    probability: &dyn Fn(&Judged) -> f64,
) -> StratumThresholds {
    let known: Vec<(Label, f64)> = known
        .iter()
        .map(|copy| (copy.label, probability(copy)))
        .collect();
    let (generated_min, not_generated_max) = limits_of(&known, allowed.0, allowed.1);
    StratumThresholds {
        name: name.to_owned(),
        generated_min,
        not_generated_max,
    }
}

impl Decisions {
    /// The calibration file, with the measurement of quality.
    #[must_use]
    pub fn calibration(&self, quality: &QualityModel, version: &str) -> Calibration {
        Calibration {
            version: version.to_owned(),
            quality: quality.clone(),
            strata: self.strata.clone(),
        }
    }

    /// What the service would say of a copy, marks and records aside.
    #[must_use]
    pub fn apply(&self, copy: &Judged) -> Decided {
        let trace = self.strata[copy.stratum].probability(copy.trace);
        let alone = verdict(trace, &self.thresholds[copy.stratum]);
        let (Some(fusion), Some(semantic)) = (&self.fusion, copy.semantic) else {
            return Decided {
                probability: trace,
                verdict: alone,
            };
        };
        let probability = fusion.strata[copy.stratum].probability(copy.trace, semantic);
        let joined = verdict(probability, &fusion.thresholds.strata[copy.stratum]);
        let opposed = (joined == Verdict::LikelyGenerated && alone == Verdict::LikelyNotGenerated)
            || (joined == Verdict::LikelyNotGenerated && alone == Verdict::LikelyGenerated);
        Decided {
            probability,
            verdict: if opposed {
                Verdict::Inconclusive
            } else {
                joined
            },
        }
    }
}

fn verdict(probability: f64, limits: &StratumThresholds) -> Verdict {
    if limits
        .generated_min
        .is_some_and(|least| probability >= least)
    {
        Verdict::LikelyGenerated
    } else if limits
        .not_generated_max
        .is_some_and(|most| probability <= most)
    {
        Verdict::LikelyNotGenerated
    } else {
        Verdict::Inconclusive
    }
}

/// The regressions of one stratum.
#[derive(Clone)]
struct StratumFit {
    /// Slope and intercept of the trace alone.
    platt: (f64, f64),
    fusion: FusionStratum,
}

fn fit_stratum(inside: &[Judged]) -> Result<StratumFit, TrainingError> {
    let trace = |copy: &Judged| copy.trace;
    let semantic = |copy: &Judged| copy.semantic.unwrap_or_default();
    let platt = regression(inside, &[&trace], PLATT_STRENGTH)?;
    let both = regression(inside, &[&trace, &semantic], FUSION_STRENGTH)?;
    // An expert that would get a negative weight is left out.
    let fusion = match (both.0[0] >= 0.0, both.0[1] >= 0.0) {
        (true, true) => (both.0[0], both.0[1], both.1),
        (false, _) => {
            let alone = regression(inside, &[&semantic], FUSION_STRENGTH)?;
            (0.0, alone.0[0].max(0.0), alone.1)
        }
        (true, false) => {
            let alone = regression(inside, &[&trace], FUSION_STRENGTH)?;
            (alone.0[0].max(0.0), 0.0, alone.1)
        }
    };
    Ok(StratumFit {
        platt: (platt.0[0].max(0.0), platt.1),
        fusion: FusionStratum {
            name: String::new(),
            trace_weight: fusion.0,
            semantic_weight: fusion.1,
            intercept: fusion.2,
        },
    })
}

/// Weights of the columns and the intercept; both classes weigh the same.
fn regression(
    inside: &[Judged],
    columns: &[&dyn Fn(&Judged) -> f64],
    strength: f64,
) -> Result<(Vec<f64>, f64), TrainingError> {
    let rows = Array2::from_shape_fn((inside.len(), columns.len()), |(row, column)| {
        columns[column](&inside[row]) as f32
    });
    let labels: Vec<bool> = inside
        .iter()
        .map(|copy| copy.label == Label::Generated)
        .collect();
    let mut totals = [0.0; 2];
    for (copy, label) in inside.iter().zip(&labels) {
        totals[usize::from(*label)] += copy.weight;
    }
    let half = inside.len() as f64 / 2.0;
    let weight = |(copy, label): (&Judged, &bool)| copy.weight * half / totals[usize::from(*label)];
    let weights: Vec<f64> = inside.iter().zip(&labels).map(weight).collect();
    let chosen: Vec<usize> = (0..inside.len()).collect();
    let samples = Samples {
        rows: rows.view(),
        chosen: &chosen,
        labels: &labels,
        weights: &weights,
    };
    let linear = fit_logistic(&samples, &LogisticSettings::small(strength), None)?;
    Ok((linear.weights, linear.intercept))
}

/// Both thresholds from labelled probabilities; none where they decide too little.
fn limits_of(known: &[(Label, f64)], real_max: f64, art_max: f64) -> (Option<f64>, Option<f64>) {
    let of = |wanted: Label| -> Vec<f64> {
        known
            .iter()
            .filter(|(label, _)| *label == wanted)
            .map(|(_, probability)| *probability)
            .collect()
    };
    let (real, art, generated) = (of(Label::Real), of(Label::Art), of(Label::Generated));
    let negated: Vec<f64> = generated.iter().map(|value| -value).collect();
    let high = [upper_bound(&real, real_max), upper_bound(&art, art_max)]
        .into_iter()
        .flatten()
        .reduce(f64::max);
    let low = upper_bound(&negated, MISSES_MAX).map(|bound| -bound);
    let (Some(high), Some(low)) = (high, low) else {
        return (None, None);
    };
    let share = |values: &[f64], inside: &dyn Fn(f64) -> bool| {
        values.iter().filter(|value| inside(**value)).count() as f64 / values.len().max(1) as f64
    };
    let others = if real.is_empty() { &art } else { &real };
    (
        (share(&generated, &|value| value >= high) >= CAUGHT_MIN && high > low).then_some(high),
        (share(others, &|value| value <= low) >= CAUGHT_MIN && low < high).then_some(low),
    )
}

/// A value that at most a share of the values reach; none of no values.
fn upper_bound(values: &[f64], share_above: f64) -> Option<f64> {
    let mut ordered = values.to_vec();
    ordered.sort_by(|a, b| b.total_cmp(a));
    let allowed = (share_above * ordered.len() as f64).floor() as usize;
    ordered.get(allowed).map(|value| value.next_up())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Draws;

    fn judged(apart: f64) -> Vec<Judged> {
        let mut draws = Draws::new(2, &["judged"]);
        (0..600)
            .map(|copy| {
                let label = Label::ALL[copy % 3];
                let shift = if label == Label::Generated {
                    apart
                } else {
                    0.0
                };
                Judged {
                    copy,
                    trace: draws.between(-1.0, 1.0) + shift / 2.0,
                    semantic: Some(draws.between(-1.0, 1.0) + shift),
                    stratum: copy / 3 % 2,
                    label,
                    weight: 1.0,
                }
            })
            .collect()
    }

    #[test]
    fn thresholds_keep_what_they_promise_on_what_they_were_fitted_on() {
        let judged = judged(1.2);
        let decisions = decide(&judged, "1").unwrap();
        for label in Label::ALL {
            let of: Vec<&Judged> = judged.iter().filter(|copy| copy.label == label).collect();
            let share = |wanted: Verdict| {
                of.iter()
                    .filter(|copy| decisions.apply(copy).verdict == wanted)
                    .count() as f64
                    / of.len() as f64
            };
            match label {
                Label::Generated => {
                    assert!(share(Verdict::LikelyNotGenerated) <= MISSES_MAX);
                    assert!(share(Verdict::LikelyGenerated) > 0.3);
                }
                _ => assert!(share(Verdict::LikelyGenerated) <= FUSED_FALSE_POSITIVES_MAX),
            }
        }
    }

    #[test]
    fn a_stratum_without_copies_gives_no_verdict_and_borrows_its_calibration() {
        let decisions = decide(&judged(1.2), "1").unwrap();
        let fusion = decisions.fusion.unwrap();
        assert_eq!(fusion.thresholds.strata[2].generated_min, None);
        assert_eq!(decisions.thresholds[2].not_generated_max, None);
        assert!(fusion.strata[2].semantic_weight > 0.0);
    }

    #[test]
    fn scores_that_say_nothing_give_no_verdict() {
        let decisions = decide(&judged(0.0), "1").unwrap();
        for copy in judged(0.0) {
            let decided = decisions.apply(&copy);
            assert_eq!(decided.verdict, Verdict::Inconclusive);
            assert!((decided.probability - 0.5).abs() < 0.2, "{decided:?}");
        }
    }

    #[test]
    fn what_is_written_is_what_the_service_reads() {
        let decisions = decide(&judged(1.0), "7").unwrap();
        let quality = QualityModel {
            weights: vec![1.0],
            intercept: 2.0,
        };
        let calibration = decisions.calibration(&quality, "7");
        let text = serde_json::to_string(&calibration).unwrap();
        let read = Calibration::parse(&text).unwrap();
        assert!((read.strata[0].slope - calibration.strata[0].slope).abs() < 1e-9);
        let fusion = decisions.fusion.unwrap();
        let read = Fusion::parse(&serde_json::to_string(&fusion).unwrap()).unwrap();
        for (read, written) in read.strata.iter().zip(&fusion.strata) {
            assert!((read.semantic_weight - written.semantic_weight).abs() < 1e-9);
        }
    }

    #[test]
    fn a_bound_is_reached_by_the_allowed_share_and_no_more() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let bound = upper_bound(&values, 0.05).unwrap();
        assert_eq!(values.iter().filter(|value| **value >= bound).count(), 5);
        assert_eq!(upper_bound(&[], 0.05), None);
    }
}
