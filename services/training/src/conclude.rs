//! The end of a training: the files of the detector, with its card and report.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use detector::features::FeatureSchema;
use detector::{StratumRange, Thresholds, TraceRange};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::canaries::{self, CanaryResult, tolerance};
use crate::decide::{Decisions, Judged, STRATA, decide, fit_quality, strata_of};
use crate::error::TrainingError;
use crate::experts::{Heads, RawScores};
use crate::onnx_file::{linear_file, trees_file};
use crate::report::{Evidence, Facts, Report, SetCount};
use crate::table::{Label, Role, Table};
use crate::tasks::{Held, Outcome, Task, fitted_on};
use crate::{card, page};

/// How far above chance a detector must be, however many pictures there are.
const USEFUL_MARGIN: f64 = 0.05;
/// The range of the trace's curve holds the middle nine tenths of the photographs.
const RANGE_SHARES: [f64; 3] = [0.05, 0.50, 0.95];
/// Files that describe the detector and that no manifest lists.
const CARD: &str = "README.md";
const MANIFEST: &str = "manifest.toml";

/// What a new detector takes over from the one that measured.
#[derive(Clone, Debug)]
pub struct Base {
    /// `features.json`.
    pub schema: FeatureSchema,
    /// The photo prior's file.
    pub prior: Vec<u8>,
    /// `semantic.json`, where the semantic expert looked.
    pub semantic: Option<Value>,
    /// Path and contents of the encoder's graph, where `semantic.json` names one.
    pub graph: Option<(String, Vec<u8>)>,
}

/// Everything that was fitted.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The final heads.
    pub heads: Heads,
    /// The outcome of each of [`crate::tasks::tasks`], in their order.
    pub outcomes: Vec<(Task, Outcome)>,
}

/// A new detector.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Contents of every file of its folder by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What `report.json` says.
    pub report: Report,
}

/// Calibrates, sets thresholds, tells how good the detector is, and writes its files.
///
/// # Errors
/// Whatever a regression refuses, for example [`TrainingError::OneClass`].
pub fn conclude(
    table: &Table,
    fitted: &Fitted,
    base: &Base,
    facts: &Facts,
) -> Result<Trained, TrainingError> {
    let quality = fit_quality(table, &fitted_on(table))?;
    let strata = strata_of(table, &quality);
    let finals = fitted.heads.scores(table);
    let place = Placed {
        table,
        strata: &strata,
        outcomes: &fitted.outcomes,
    };
    let judged = place.judged(&finals);
    let decisions = decide(&judged, &facts.version)?;
    let evidence = Evidence::new(table, &judged, &decisions, place.sources())?;
    let canaries = all_canaries(table, &fitted.outcomes, evidence.overall_auc());
    let report = Report {
        facts: facts.clone(),
        sets: counts(table),
        copies: table.copies.len(),
        copies_left_out: table.left_out,
        refused: refusals(&canaries),
        canaries,
        figures: evidence.figures(),
    };
    let mut files = BTreeMap::new();
    let mut put = |path: &str, bytes: Vec<u8>| drop(files.insert(path.to_owned(), bytes));
    put("prior.onnx", base.prior.clone());
    put("heads/trees.onnx", trees_file(&fitted.heads.trace));
    put("features.json", text("feature schema", &base.schema)?);
    put(
        "calibration.json",
        text(
            "calibration",
            &decisions.calibration(&quality, &facts.version),
        )?,
    );
    let thresholds = Thresholds {
        version: facts.version.clone(),
        strata: decisions.thresholds.clone(),
    };
    put("thresholds.json", text("thresholds", &thresholds)?);
    put(
        "trace_range.json",
        text(
            "trace range",
            &range(table, &judged, &base.schema, &facts.version),
        )?,
    );
    if let (Some(head), Some(semantic), Some(fusion)) =
        (&fitted.heads.semantic, &base.semantic, &decisions.fusion)
    {
        let mut semantic = semantic.clone();
        semantic["head"] = json!("heads/semantic.onnx");
        put("semantic.json", text("semantic expert", &semantic)?);
        if let Some((path, graph)) = &base.graph {
            put(path, graph.clone());
        }
        put("heads/semantic.onnx", linear_file(head));
        put("fusion.json", text("fusion", fusion)?);
    }
    put("detector.json", text("detector", &contents(&report))?);
    put("report.json", text("report", &report)?);
    put("report.html", page::html(&report).into_bytes());
    put(CARD, card::markdown(&report, &decisions).into_bytes());
    let manifest = manifest(&files, &report);
    files.insert(MANIFEST.to_owned(), manifest.into_bytes());
    Ok(Trained { files, report })
}

/// `detector.json`.
fn contents(report: &Report) -> Value {
    let mut contents = json!({
        "name": report.facts.name,
        "version": report.facts.version,
        "prior": "prior.onnx",
        "heads": ["heads/trees.onnx"],
    });
    if !report.refused.is_empty() {
        contents["refused"] = json!(report.refused);
    }
    contents
}

fn text<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, TrainingError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|source| TrainingError::Json { what, source })?;
    Ok((text + "\n").into_bytes())
}

/// Digest and size of every file that the service may load.
fn manifest(files: &BTreeMap<String, Vec<u8>>, report: &Report) -> String {
    let mut out = String::from(
        "# The files of this detector, known by their digests: a file that differs is refused. Written by `retrace train`.\n",
    );
    for (path, bytes) in files.iter().filter(|(path, _)| *path != CARD) {
        let digest: String = Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let (source, licence) = if path == "prior.onnx" {
            (
                format!("the photo prior of the detector {}", report.facts.base),
                "as that detector's",
            )
        } else {
            (
                format!("made by `retrace train` on {}", report.facts.date),
                "whatever the trained pictures allow",
            )
        };
        // The base's name comes from a file: quoted as TOML quotes.
        let source = Value::String(source).to_string();
        let _ = write!(
            out,
            "\n[[file]]\npath = \"{path}\"\nsha256 = \"{digest}\"\nbytes = {}\nsource = {source}\nlicence = \"{licence}\"\n",
            bytes.len()
        );
    }
    out
}

fn counts(table: &Table) -> Vec<SetCount> {
    let mut out = Vec::new();
    for label in Label::ALL {
        for set in table.sets(label) {
            let inside = table
                .pictures
                .iter()
                .filter(|row| row.label == label && row.set == set);
            out.push(SetCount {
                label,
                pictures: inside.count(),
                set,
            });
        }
    }
    out
}

fn all_canaries(table: &Table, outcomes: &[(Task, Outcome)], overall: f64) -> Vec<CanaryResult> {
    let (mut single, mut shuffled) = ([0.5; 3], Vec::new());
    for (task, outcome) in outcomes {
        match (task, outcome) {
            (Task::Canary(canary), Outcome::Auc(auc)) => {
                let place = canaries::Canary::ALL
                    .iter()
                    .position(|known| known == canary);
                single[place.expect("all canaries are listed")] = *auc;
            }
            (_, Outcome::ShuffledAuc(trace, semantic)) => shuffled.push((*trace, *semantic)),
            _ => {}
        }
    }
    let mut out = canaries::results(table, &single, &shuffled);
    out.push(CanaryResult {
        name: "the detector itself, on pictures that its heads did not see".to_owned(),
        auc: overall,
        auc_max: None,
        auc_min: Some(0.5 + tolerance(table, USEFUL_MARGIN)),
        meaning: "on these pictures the detector is not shown to be better than chance".to_owned(),
    });
    out
}

/// One sentence for each control that does not hold.
fn refusals(canaries: &[CanaryResult]) -> Vec<String> {
    let failed = canaries.iter().filter(|canary| !canary.holds());
    failed
        .map(|canary| {
            let bound = match (canary.auc_max, canary.auc_min) {
                (Some(most), _) if canary.auc > most => format!("over {most:.3}"),
                (_, least) => format!("below {:.3}", least.unwrap_or_default()),
            };
            format!(
                "{}: AUC {:.3}, {bound}: {}",
                canary.name, canary.auc, canary.meaning
            )
        })
        .collect()
}

/// Where each copy is judged.
struct Placed<'a> {
    table: &'a Table,
    strata: &'a [usize],
    outcomes: &'a [(Task, Outcome)],
}

impl Placed<'_> {
    fn scores(&self, held: &Held) -> Option<&RawScores> {
        self.outcomes
            .iter()
            .find_map(|(task, outcome)| match (task, outcome) {
                (Task::Without(other), Outcome::Scores(scores)) if other == held => Some(scores),
                _ => None,
            })
    }

    fn row(&self, copy: usize, scores: &RawScores, weights: &[f64]) -> Judged {
        Judged {
            copy,
            trace: scores.trace[copy],
            semantic: scores.semantic.as_ref().map(|scores| scores[copy]),
            stratum: self.strata[copy],
            label: self.table.picture(copy).label,
            weight: weights[copy],
        }
    }

    /// Each copy by the heads that saw nothing of its picture, or of its whole set.
    fn judged(&self, finals: &RawScores) -> Vec<Judged> {
        let table = self.table;
        let judges: Vec<Option<&RawScores>> = (0..table.copies.len())
            .map(|copy| {
                let picture = table.picture(copy);
                let fold = Held::Fold(table.folds[table.copies[copy].picture]);
                match (picture.label, picture.role) {
                    (Label::Generated, _) => self
                        .scores(&Held::Set(Label::Generated, picture.set.clone()))
                        .or_else(|| self.scores(&fold)),
                    (_, Role::Train) => None,
                    (_, Role::Validation) => Some(finals),
                    (_, Role::Both) => self.scores(&fold),
                }
            })
            .collect();
        let wanted: Vec<bool> = judges.iter().map(Option::is_some).collect();
        let weights = table.weights(&wanted, &table.generated());
        let rows = judges.iter().enumerate();
        rows.filter_map(|(copy, scores)| scores.map(|scores| self.row(copy, scores, &weights)))
            .collect()
    }

    /// The copies of each source of photographs and art that was left out whole.
    fn sources(&self) -> Vec<(Label, String, Vec<Judged>)> {
        let weights = vec![1.0; self.table.copies.len()];
        let mut out = Vec::new();
        for (task, outcome) in self.outcomes {
            let (Task::Without(Held::Set(label, set)), Outcome::Scores(scores)) = (task, outcome)
            else {
                continue;
            };
            if *label == Label::Generated {
                continue;
            }
            let inside = (0..self.table.copies.len()).filter(|copy| {
                let picture = self.table.picture(*copy);
                picture.label == *label && picture.set == *set
            });
            let copies = inside
                .map(|copy| self.row(copy, scores, &weights))
                .collect();
            out.push((*label, set.clone(), copies));
        }
        out
    }
}

/// The range of the trace's curve over judged photographs, for each stratum that has any.
fn range(table: &Table, judged: &[Judged], schema: &FeatureSchema, version: &str) -> TraceRange {
    let means = table.mean_patches();
    let levels = schema.config.noise_levels.len();
    let columns: Vec<usize> = (0..levels)
        .filter_map(|level| {
            schema
                .names
                .iter()
                .position(|name| *name == format!("level{level}.log_rms"))
        })
        .collect();
    let mut strata = Vec::new();
    for (index, (name, _)) in STRATA.iter().enumerate() {
        let inside: Vec<usize> = judged
            .iter()
            .filter(|copy| copy.label == Label::Real && copy.stratum == index)
            .map(|copy| copy.copy)
            .collect();
        if inside.is_empty() {
            continue;
        }
        let share = |share: f64| -> Vec<f64> {
            columns
                .iter()
                .map(|column| {
                    quantile(
                        inside.iter().map(|copy| means[[*copy, *column]]).collect(),
                        share,
                    )
                })
                .collect()
        };
        let [lower, median, upper] = RANGE_SHARES.map(share);
        strata.push(StratumRange {
            name: (*name).to_owned(),
            copies: inside.len() as u32,
            lower,
            median,
            upper,
        });
    }
    TraceRange {
        version: version.to_owned(),
        noise_levels: schema.config.noise_levels.clone(),
        strata,
    }
}

/// The value below which a share of the values lie, with a straight line between neighbours.
fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = share * (values.len() - 1) as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    values[below] + (values[above] - values[below]) * (at - at.floor())
}

/// What the card says about thresholds.
pub(crate) fn gives_verdicts(decisions: &Decisions) -> bool {
    let limits = decisions
        .fusion
        .as_ref()
        .map_or(&decisions.thresholds, |fusion| &fusion.thresholds.strata);
    limits
        .iter()
        .any(|limit| limit.generated_min.is_some() || limit.not_generated_max.is_some())
}
