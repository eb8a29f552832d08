//! The generations that a client follows without naming them, as A1111's interface does: the newest
//! one's progress is told, and all of a client's can be stopped.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use onnx::{Picture, Progress};
use tokio::sync::Notify;

/// All runs of this process, by client.
#[derive(Debug, Default)]
pub struct Runs {
    by_client: Mutex<BTreeMap<String, Vec<Arc<Run>>>>,
}

/// One generation under way.
#[derive(Debug)]
pub struct Run {
    started: Instant,
    started_at_ms: u64,
    interrupted: Notify,
    state: Mutex<RunState>,
}

/// How far a run is.
#[derive(Debug, Clone, Default)]
pub struct RunState {
    /// Images of the request.
    pub images: usize,
    /// Steps done of all images.
    pub done: usize,
    /// Steps of an image.
    pub steps: usize,
    /// The newest picture of the way.
    pub preview: Option<Picture>,
    /// Whether the client has stopped it.
    pub interrupted: bool,
}

impl RunState {
    /// The part that is done, 0 to 1.
    #[must_use]
    pub fn progress(&self) -> f64 {
        let all = self.images * self.steps;
        if all == 0 {
            0.0
        } else {
            self.done as f64 / all as f64
        }
    }

    /// The image that is being made, from 0, and the steps done of it, as if one image were made after
    /// another.
    #[must_use]
    pub fn image_and_step(&self) -> (usize, usize) {
        let last = self.done.saturating_sub(1);
        let image = last.checked_div(self.steps).unwrap_or_default();
        (image, self.done - image * self.steps)
    }
}

impl Runs {
    /// Registers a run until its guard is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>, client: &str, images: usize) -> RunGuard {
        let run = Arc::new(Run {
            started: Instant::now(),
            started_at_ms: crate::work::now_ms(),
            interrupted: Notify::new(),
            state: Mutex::new(RunState {
                images,
                ..RunState::default()
            }),
        });
        let mut by_client = self.lock();
        let runs = by_client.entry(client.to_owned()).or_default();
        runs.push(Arc::clone(&run));
        RunGuard {
            runs: Arc::clone(self),
            client: client.to_owned(),
            run,
        }
    }

    /// The client's newest run, and how many it has.
    #[must_use]
    pub fn newest(&self, client: &str) -> Option<(Arc<Run>, usize)> {
        let by_client = self.lock();
        let runs = by_client.get(client)?;
        Some((Arc::clone(runs.last()?), runs.len()))
    }

    /// Stops every run of a client after its present step.
    pub fn interrupt(&self, client: &str) {
        for run in self.lock().get(client).into_iter().flatten() {
            run.state().interrupted = true;
            run.interrupted.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Arc<Run>>>> {
        // A list of runs has no half-changed state.
        self.by_client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    /// How far it is.
    #[must_use]
    pub fn snapshot(&self) -> RunState {
        self.state().clone()
    }

    /// Notes a step; says whether to go on.
    pub fn advance(&self, progress: Progress) -> ControlFlow<()> {
        let mut state = self.state();
        state.images = progress.images;
        state.done = progress.evaluations_done;
        state.steps = progress.steps;
        if let Some(preview) = progress.preview {
            state.preview = Some(preview.picture);
        }
        if state.interrupted {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// How long it has run.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// When it began, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn started_at_ms(&self) -> u64 {
        self.started_at_ms
    }

    /// Completes when the client stops the run.
    pub async fn interrupted(&self) {
        self.interrupted.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, RunState> {
        // Every field is written whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a run registered.
#[derive(Debug)]
pub struct RunGuard {
    runs: Arc<Runs>,
    client: String,
    run: Arc<Run>,
}

impl RunGuard {
    /// The run.
    #[must_use]
    pub fn run(&self) -> &Arc<Run> {
        &self.run
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        let mut by_client = self.runs.lock();
        if let Some(runs) = by_client.get_mut(&self.client) {
            runs.retain(|run| !Arc::ptr_eq(run, &self.run));
            if runs.is_empty() {
                by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_sees_and_stops_its_own_runs_alone() {
        let runs = Arc::new(Runs::default());
        let mine = runs.begin("mine", 2);
        let other = runs.begin("other", 1);
        let progress = || Progress {
            image_index: 1,
            images: 2,
            step_index: 4,
            steps: 10,
            evaluations_done: 15,
            preview: None,
        };
        assert!(mine.run().advance(progress()).is_continue());
        let (newest, count) = runs.newest("mine").unwrap();
        let snapshot = newest.snapshot();
        assert_eq!((snapshot.progress(), count), (0.75, 1));
        assert_eq!(snapshot.image_and_step(), (1, 5));
        runs.interrupt("mine");
        assert!(mine.run().advance(progress()).is_break());
        assert!(other.run().advance(progress()).is_continue());
        mine.run().interrupted().await;
        assert!(!other.run().snapshot().interrupted);
        drop(mine);
        assert!(runs.newest("mine").is_none());
        assert!(runs.newest("other").is_some());
    }
}
