//! The fits of one training, each on its own, so that a caller may run several at once.
//!
//! Every picture is judged by heads that did not see it. A generated picture is judged by heads fitted without its
//! whole set, as a new generator would be; where there is one set alone, without its part of the pictures. Photographs
//! and art are judged by heads fitted without their part. To say what a new source of photographs would meet, each
//! source is also left out whole.

use crate::canaries::{Canary, container_auc, thumbnail_auc};
use crate::draws::Draws;
use crate::error::TrainingError;
use crate::experts::{FitOn, Heads, RawScores};
use crate::logistic::Linear;
use crate::table::{FOLDS, Label, Role, Table};

/// Fits on labels that were shuffled between pictures.
pub const SHUFFLES: usize = 8;

/// What a fit does not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// A part of the pictures.
    Fold(usize),
    /// A set with this label.
    Set(Label, String),
}

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Heads fitted without something.
    Without(Held),
    /// A classifier that must not find the label, or only for a reason that the report names.
    Canary(Canary),
    /// Heads fitted on half of the pictures with labels shuffled between them, judged on the other half.
    Shuffled(usize),
}

/// What came of a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Raw scores of all copies.
    Scores(RawScores),
    /// Area under the ROC curve of a canary.
    Auc(f64),
    /// The same of heads on shuffled labels: the trace's and the semantic expert's.
    ShuffledAuc(f64, Option<f64>),
}

/// Whether each copy is fitted on by the final heads.
#[must_use]
pub fn fitted_on(table: &Table) -> Vec<bool> {
    (0..table.copies.len())
        .map(|copy| {
            let picture = table.picture(copy);
            picture.label == Label::Generated || picture.role != Role::Validation
        })
        .collect()
}

/// Fits the final heads, which see everything but pictures for validation.
///
/// # Errors
/// [`TrainingError::OneClass`] and [`TrainingError::NotFinite`].
pub fn fit_final(table: &Table, seed: u64) -> Result<Heads, TrainingError> {
    let (copies, generated) = (fitted_on(table), table.generated());
    let on = FitOn {
        copies: &copies,
        generated: &generated,
    };
    Heads::fit(table, &on, None, &mut Draws::new(seed, &["final"]))
}

/// All tasks besides the final fit, in the order in which [`crate::conclude`] wants their outcomes.
#[must_use]
pub fn tasks(table: &Table) -> Vec<Task> {
    let generated = table.sets(Label::Generated);
    let mut held: Vec<Held> = (0..FOLDS).map(Held::Fold).collect();
    if generated.len() > 1 {
        held.extend(
            generated
                .into_iter()
                .map(|set| Held::Set(Label::Generated, set)),
        );
    }
    for label in [Label::Real, Label::Art] {
        let sets = table.sets(label);
        // A source that is all there is of the other class cannot be left out.
        if sets.len() > 1 {
            held.extend(sets.into_iter().map(|set| Held::Set(label, set)));
        }
    }
    let canaries = Canary::ALL.into_iter().map(Task::Canary);
    held.into_iter()
        .map(Task::Without)
        .chain(canaries)
        .chain((0..SHUFFLES).map(Task::Shuffled))
        .collect()
}

/// Whether a task's fit leaves a copy out. `generated_sets` is the number of sets of generated pictures: several are held
/// out whole, one alone in parts.
pub(crate) fn holds(held: &Held, table: &Table, copy: usize, generated_sets: usize) -> bool {
    let picture = table.picture(copy);
    match held {
        Held::Set(label, set) => picture.label == *label && picture.set == *set,
        Held::Fold(fold) => {
            let in_parts = picture.label != Label::Generated || generated_sets < 2;
            in_parts
                && picture.role == Role::Both
                && table.folds[table.copies[copy].picture] == *fold
        }
    }
}

/// Does one task. `start` is the final semantic head.
///
/// # Errors
/// [`TrainingError::OneClass`] and [`TrainingError::NotFinite`].
pub fn run(
    table: &Table,
    task: &Task,
    start: Option<&Linear>,
    seed: u64,
) -> Result<Outcome, TrainingError> {
    match task {
        Task::Canary(canary) => Ok(Outcome::Auc(match canary {
            Canary::Container => container_auc(table, false, seed)?,
            Canary::BytesPerPixel => container_auc(table, true, seed)?,
            Canary::Thumbnail => thumbnail_auc(table, seed)?,
        })),
        Task::Shuffled(draw) => {
            let (trace, semantic) = crate::canaries::shuffled_auc(table, *draw, seed)?;
            Ok(Outcome::ShuffledAuc(trace, semantic))
        }
        Task::Without(held) => {
            let sets = table.sets(Label::Generated).len();
            let copies: Vec<bool> = fitted_on(table)
                .into_iter()
                .enumerate()
                .map(|(copy, fitted)| fitted && !holds(held, table, copy, sets))
                .collect();
            let generated = table.generated();
            let name = match held {
                Held::Fold(fold) => format!("fold {fold}"),
                Held::Set(label, set) => format!("{} {set}", label.name()),
            };
            let on = FitOn {
                copies: &copies,
                generated: &generated,
            };
            let heads = Heads::fit(
                table,
                &on,
                start,
                &mut Draws::new(seed, &["without", &name]),
            )?;
            Ok(Outcome::Scores(heads.scores(table)))
        }
    }
}
