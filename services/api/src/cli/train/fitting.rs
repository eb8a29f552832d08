//! The fits, several at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use training::conclude::{Base, Fitted, Trained, conclude};
use training::error::TrainingError;
use training::report::Facts;
use training::table::Table;
use training::tasks::{Outcome, fit_final, run, tasks};

use crate::cli::failure::Failure;
use crate::cli::progress;

/// Fits everything on `threads` threads. The result does not depend on their number: every fit has draws of its own.
///
/// # Errors
/// Whatever a fit refuses.
pub fn fit(table: &Table, base: &Base, facts: &Facts, threads: usize) -> Result<Trained, Failure> {
    let tasks = tasks(table);
    let bar = progress::bar(tasks.len() as u64 + 1, "fitting");
    let heads = fit_final(table, facts.seed).map_err(refused)?;
    bar.inc(1);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, tasks.len()) {
            scope.spawn(|| {
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run(table, task, heads.semantic.as_ref(), facts.seed);
                    let failed = outcome.is_err();
                    done.lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push((task.clone(), outcome));
                    bar.inc(1);
                    if failed {
                        // The others need not be started.
                        next.store(tasks.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let done = done
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut outcomes: Vec<(_, Outcome)> = Vec::with_capacity(done.len());
    for (task, outcome) in done {
        outcomes.push((task, outcome.map_err(refused)?));
    }
    // In the order of the tasks, whichever ended first.
    outcomes.sort_by_key(|(task, _)| tasks.iter().position(|known| known == task));
    conclude(table, &Fitted { heads, outcomes }, base, facts).map_err(refused)
}

fn refused(error: TrainingError) -> Failure {
    match error {
        TrainingError::OneClass { .. } => Failure::does_not_hold(format!(
            "{error}; give more pictures, or more than one set of each class"
        )),
        other => Failure::work(other),
    }
}
