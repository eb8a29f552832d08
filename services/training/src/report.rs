//! What a training found out about its detector (`report.json`), from copies that were judged by heads that did not see
//! their pictures.

use detector::Verdict;
use serde::{Deserialize, Serialize};

use crate::canaries::CanaryResult;
use crate::decide::{Decided, Decisions, Judged, STRATA};
use crate::error::TrainingError;
use crate::figures::{
    ReliabilityBin, RiskPoint, RocPoint, Share, auc, brier, calibration_error, found_at,
    reliability, risk_coverage, roc,
};
use crate::recipe::Tier;
use crate::table::{FOLDS, Label, Table};

/// Sets with fewer copies are listed, and too small for a mean of their own.
pub const SET_COPIES_MIN: usize = 20;
/// Points of a ROC curve and of a curve of risk, at most about.
const CURVE_POINTS: usize = 60;
/// The coverage at which accuracy is reported.
const COVERAGE: f64 = 0.6;

/// Pictures of one set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetCount {
    /// What the pictures are.
    pub label: Label,
    /// The set.
    pub set: String,
    /// Pictures that were used.
    pub pictures: usize,
}

/// A picture that was not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its path as it was found.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// What is known about a training besides its figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Name of the detector.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Day of the training, as year-month-day.
    pub date: String,
    /// Seed of every draw.
    pub seed: u64,
    /// Program and version.
    pub made_with: String,
    /// Whether the semantic expert looked; without it the trace speaks alone.
    pub has_semantic: bool,
    /// Name and version of the detector that prior and encoder come from.
    pub base: String,
    /// Names the recipe of the copies.
    pub recipe: String,
    /// Share of photographs that brought compression tables.
    pub history_share: f64,
    /// Pictures that were not used, and why.
    pub skipped: Vec<Skipped>,
}

/// How well the classes are told apart in one tier, or in all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TierFigures {
    /// `all`, or the tier's name.
    pub tier: String,
    /// AUC of the detector against photographs.
    pub auc: Option<f64>,
    /// AUC of the trace's raw score against photographs.
    pub trace_auc: Option<f64>,
    /// AUC of the semantic raw score against photographs.
    pub semantic_auc: Option<f64>,
    /// AUC of the detector against art.
    pub art_auc: Option<f64>,
    /// Share of generated copies found where 1 % of photographs are taken for generated.
    pub found_at_1_percent: Option<f64>,
    /// The same for 5 %.
    pub found_at_5_percent: Option<f64>,
    /// The curve of the detector against photographs.
    pub roc: Vec<RocPoint>,
}

/// A set that was left out of the fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// What its pictures are.
    pub label: Label,
    /// The set.
    pub set: String,
    /// Its copies.
    pub copies: usize,
    /// AUC of a generated set against photographs, or of photographs or art against all generated ones.
    pub auc: Option<f64>,
    /// The same by the trace's raw score.
    pub trace_auc: Option<f64>,
    /// The same by the semantic raw score.
    pub semantic_auc: Option<f64>,
    /// Of its copies, those that are called likely generated.
    pub called_generated: Share,
}

/// Verdicts on the copies of one label in one tier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdicts {
    /// What the pictures are.
    pub label: Label,
    /// `all`, or the tier's name.
    pub tier: String,
    /// Called likely generated.
    pub generated: Share,
    /// Called likely not generated.
    pub not_generated: Share,
    /// Left open.
    pub inconclusive: Share,
}

/// How well the probabilities hold in one stratum of measured quality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StratumFigures {
    /// Its name, or `all`.
    pub stratum: String,
    /// Its copies.
    pub copies: usize,
    /// Expected calibration error.
    pub calibration_error: f64,
    /// Brier score; 0.25 says nothing.
    pub brier: f64,
}

/// All figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// All copies, then each tier.
    pub tiers: Vec<TierFigures>,
    /// Sets left out of the fit: generated ones, then sources of photographs and art.
    pub left_out: Vec<LeftOut>,
    /// Mean AUC over generated sets that are large enough.
    pub macro_auc: Option<f64>,
    /// The smallest of them.
    pub minimum_auc: Option<f64>,
    /// Verdicts under thresholds that were fitted on other pictures.
    pub verdicts: Vec<Verdicts>,
    /// All copies, then each stratum.
    pub strata: Vec<StratumFigures>,
    /// Reliability over all copies.
    pub reliability: Vec<ReliabilityBin>,
    /// Risk against coverage.
    pub risk: Vec<RiskPoint>,
    /// Share of right answers among the surest three fifths.
    pub accuracy_at_60_percent: Option<f64>,
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was done.
    pub facts: Facts,
    /// What was used.
    pub sets: Vec<SetCount>,
    /// Copies that were made, measured and used.
    pub copies: usize,
    /// Copies without texture, or that the semantic expert could not look at.
    pub copies_left_out: usize,
    /// Controls.
    pub canaries: Vec<CanaryResult>,
    /// Why the detector must not be used; empty for one that may.
    pub refused: Vec<String>,
    /// How good it is.
    pub figures: Figures,
}

/// Judged copies with what the frozen decisions, and those fitted on other pictures, make of them.
pub(crate) struct Evidence<'a> {
    pub(crate) table: &'a Table,
    pub(crate) judged: &'a [Judged],
    /// By the final decisions.
    pub(crate) decided: Vec<Decided>,
    /// By decisions that were fitted on the other parts of the pictures.
    pub(crate) held_out: Vec<Decided>,
    /// Copies of left-out sources of photographs and art, by heads that saw nothing of the source.
    pub(crate) sources: Vec<(Label, String, Vec<Judged>)>,
    pub(crate) decisions: &'a Decisions,
}

impl<'a> Evidence<'a> {
    /// Applies the decisions, and for each part of the pictures those of the others.
    ///
    /// # Errors
    /// As [`crate::decide::decide`].
    pub(crate) fn new(
        table: &'a Table,
        judged: &'a [Judged],
        decisions: &'a Decisions,
        sources: Vec<(Label, String, Vec<Judged>)>,
    ) -> Result<Self, TrainingError> {
        let part = |copy: &Judged| table.folds[table.copies[copy.copy].picture];
        let decided: Vec<Decided> = judged.iter().map(|copy| decisions.apply(copy)).collect();
        let mut held_out = decided.clone();
        for fold in 0..FOLDS {
            let others: Vec<Judged> = judged
                .iter()
                .filter(|copy| part(copy) != fold)
                .copied()
                .collect();
            let decisions = crate::decide::decide(&others, "")?;
            for (place, copy) in judged
                .iter()
                .enumerate()
                .filter(|(_, copy)| part(copy) == fold)
            {
                held_out[place] = decisions.apply(copy);
            }
        }
        Ok(Self {
            table,
            judged,
            decided,
            held_out,
            sources,
            decisions,
        })
    }

    /// AUC over the chosen copies of a score, generated against all others among them.
    fn auc_of(&self, chosen: &[usize], score: &dyn Fn(usize) -> f64) -> Option<f64> {
        let scores: Vec<f64> = chosen.iter().map(|place| score(*place)).collect();
        auc(&scores, &self.labels(chosen))
    }

    fn labels(&self, chosen: &[usize]) -> Vec<bool> {
        chosen
            .iter()
            .map(|place| self.judged[*place].label == Label::Generated)
            .collect()
    }

    fn places(&self, wanted: impl Fn(&Judged) -> bool) -> Vec<usize> {
        (0..self.judged.len())
            .filter(|place| wanted(&self.judged[*place]))
            .collect()
    }

    fn tier_of(&self, copy: &Judged) -> Tier {
        self.table.copies[copy.copy].tier
    }

    /// AUC of everything that was judged, generated against all others.
    pub(crate) fn overall_auc(&self) -> f64 {
        self.auc_of(&self.places(|_| true), &|place| {
            self.decided[place].probability
        })
        .unwrap_or(0.5)
    }

    pub(crate) fn figures(&self) -> Figures {
        let mut tiers = vec![self.tier("all", |_| true)];
        tiers.extend(
            Tier::ALL.map(|tier| self.tier(tier.name(), |copy| self.tier_of(copy) == tier)),
        );
        let mut left_out = self.generated_sets();
        let large: Vec<f64> = left_out
            .iter()
            .filter(|set| set.copies >= SET_COPIES_MIN)
            .filter_map(|set| set.auc)
            .collect();
        left_out.extend(self.sources.iter().map(|source| self.source(source)));
        let probabilities: Vec<f64> = self
            .held_out
            .iter()
            .map(|decided| decided.probability)
            .collect();
        let all = self.places(|_| true);
        let (labels, weights) = (self.labels(&all), self.weights(&all));
        let risk = risk_coverage(&probabilities, &labels, &weights, CURVE_POINTS);
        let mut strata = vec![self.stratum("all", &all)];
        for (index, (name, _)) in STRATA.iter().enumerate() {
            strata.push(self.stratum(name, &self.places(|copy| copy.stratum == index)));
        }
        Figures {
            tiers,
            macro_auc: (!large.is_empty()).then(|| large.iter().sum::<f64>() / large.len() as f64),
            minimum_auc: large.iter().copied().reduce(f64::min),
            left_out,
            verdicts: self.verdicts(),
            strata,
            reliability: reliability(&probabilities, &labels, &weights),
            accuracy_at_60_percent: risk
                .iter()
                .find(|point| point.coverage >= COVERAGE)
                .map(|point| 1.0 - point.risk),
            risk,
        }
    }

    /// Both classes weigh the same, so that a probability of one half is an even bet.
    fn weights(&self, chosen: &[usize]) -> Vec<f64> {
        let mut totals = [0.0; 2];
        let class = |place: usize| usize::from(self.judged[place].label == Label::Generated);
        for place in chosen {
            totals[class(*place)] += self.judged[*place].weight;
        }
        chosen
            .iter()
            .map(|place| self.judged[*place].weight / totals[class(*place)].max(f64::MIN_POSITIVE))
            .collect()
    }

    fn tier(&self, name: &str, inside: impl Fn(&Judged) -> bool) -> TierFigures {
        let against = |label: Label| {
            self.places(|copy| {
                inside(copy) && (copy.label == Label::Generated || copy.label == label)
            })
        };
        let (real, art) = (against(Label::Real), against(Label::Art));
        let probability = |place: usize| self.decided[place].probability;
        let scores: Vec<f64> = real.iter().map(|place| probability(*place)).collect();
        let labels = self.labels(&real);
        TierFigures {
            tier: name.to_owned(),
            auc: self.auc_of(&real, &probability),
            trace_auc: self.auc_of(&real, &|place| self.judged[place].trace),
            semantic_auc: self.semantic_auc(&real),
            art_auc: self.auc_of(&art, &probability),
            found_at_1_percent: found_at(&scores, &labels, 0.01),
            found_at_5_percent: found_at(&scores, &labels, 0.05),
            roc: roc(&scores, &labels, CURVE_POINTS),
        }
    }

    fn semantic_auc(&self, chosen: &[usize]) -> Option<f64> {
        let looked = chosen
            .iter()
            .all(|place| self.judged[*place].semantic.is_some());
        looked
            .then(|| {
                self.auc_of(chosen, &|place| {
                    self.judged[place].semantic.unwrap_or_default()
                })
            })
            .flatten()
    }

    fn generated_sets(&self) -> Vec<LeftOut> {
        let sets = self.table.sets(Label::Generated);
        sets.into_iter()
            .map(|set| {
                let of_set = |copy: &Judged| {
                    copy.label == Label::Generated && self.table.picture(copy.copy).set == set
                };
                let chosen = self.places(|copy| copy.label == Label::Real || of_set(copy));
                let own = self.places(of_set);
                LeftOut {
                    label: Label::Generated,
                    copies: own.len(),
                    auc: self.auc_of(&chosen, &|place| self.decided[place].probability),
                    trace_auc: self.auc_of(&chosen, &|place| self.judged[place].trace),
                    semantic_auc: self.semantic_auc(&chosen),
                    called_generated: self.share(&own, &self.held_out, Verdict::LikelyGenerated),
                    set,
                }
            })
            .collect()
    }

    /// A source of photographs or art against all generated copies.
    fn source(&self, (label, set, copies): &(Label, String, Vec<Judged>)) -> LeftOut {
        let generated: Vec<Judged> = self
            .judged
            .iter()
            .filter(|copy| copy.label == Label::Generated)
            .copied()
            .collect();
        let both: Vec<Judged> = generated.iter().chain(copies).copied().collect();
        let labels: Vec<bool> = both
            .iter()
            .map(|copy| copy.label == Label::Generated)
            .collect();
        let of = |score: &dyn Fn(&Judged) -> f64| {
            auc(&both.iter().map(score).collect::<Vec<f64>>(), &labels)
        };
        let decided = |copy: &Judged| self.decisions.apply(copy);
        let called = copies
            .iter()
            .filter(|copy| decided(copy).verdict == Verdict::LikelyGenerated)
            .count();
        let looked = both.iter().all(|copy| copy.semantic.is_some());
        LeftOut {
            label: *label,
            set: set.clone(),
            copies: copies.len(),
            auc: of(&|copy| decided(copy).probability),
            trace_auc: of(&|copy| copy.trace),
            semantic_auc: looked
                .then(|| of(&|copy| copy.semantic.unwrap_or_default()))
                .flatten(),
            called_generated: Share::new(called, copies.len()),
        }
    }

    fn share(&self, chosen: &[usize], decided: &[Decided], verdict: Verdict) -> Share {
        let count = chosen
            .iter()
            .filter(|place| decided[**place].verdict == verdict)
            .count();
        Share::new(count, chosen.len())
    }

    fn verdicts(&self) -> Vec<Verdicts> {
        let mut out = Vec::new();
        for label in Label::ALL {
            let tiers = std::iter::once(None).chain(Tier::ALL.map(Some));
            for tier in tiers {
                let chosen = self.places(|copy| {
                    copy.label == label && tier.is_none_or(|tier| self.tier_of(copy) == tier)
                });
                if chosen.is_empty() {
                    continue;
                }
                let share = |verdict| self.share(&chosen, &self.held_out, verdict);
                out.push(Verdicts {
                    label,
                    tier: tier.map_or("all", Tier::name).to_owned(),
                    generated: share(Verdict::LikelyGenerated),
                    not_generated: share(Verdict::LikelyNotGenerated),
                    inconclusive: share(Verdict::Inconclusive),
                });
            }
        }
        out
    }

    fn stratum(&self, name: &str, chosen: &[usize]) -> StratumFigures {
        let probabilities: Vec<f64> = chosen
            .iter()
            .map(|place| self.held_out[*place].probability)
            .collect();
        let (labels, weights) = (self.labels(chosen), self.weights(chosen));
        StratumFigures {
            stratum: name.to_owned(),
            copies: chosen.len(),
            calibration_error: calibration_error(&reliability(&probabilities, &labels, &weights)),
            brier: brier(&probabilities, &labels, &weights),
        }
    }
}
