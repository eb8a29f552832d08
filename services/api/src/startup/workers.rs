//! The workers of this process: each claims jobs and works them off, one at a time.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::state::AppState;
use crate::work;

/// Running workers. They stop when the service does: jobs under way go back to the queue.
#[derive(Debug, Default)]
pub(super) struct Workers {
    tasks: JoinSet<()>,
}

impl Workers {
    /// Starts as many workers as generations may run at once, and the one that forgets old jobs.
    /// Without a generator there is nothing to start.
    pub(super) fn start(state: &Arc<AppState>, stopping: &watch::Receiver<bool>) -> Self {
        let mut tasks = JoinSet::new();
        if state.engine.generator().is_err() {
            tracing::warn!("no generator is installed: this process works off no jobs");
            return Self { tasks };
        }
        for _ in 0..state.config.limits.generations_running_max {
            tasks.spawn(work::work_off_jobs(Arc::clone(state), stopping.clone()));
        }
        tasks.spawn(work::announce_model(Arc::clone(state), stopping.clone()));
        tasks.spawn(work::forget_old_jobs(Arc::clone(state), stopping.clone()));
        Self { tasks }
    }

    /// Waits until each has handed its job back. They were told to stop before.
    pub(super) async fn ended(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a worker did not end in order; its lease runs out");
            }
        }
    }
}
