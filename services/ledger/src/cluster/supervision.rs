//! Starts a server that died anew, while somebody uses it.
//!
//! Every user supervises; the door decides which of them starts it. Connections of before are broken,
//! and whoever has a pool simply connects again.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::locks::Locks;
use super::place::Place;
use super::postmaster;
use crate::LedgerError;

/// How often the server is looked at: a look reads four small files below `/proc`.
const SUPERVISION_INTERVAL: Duration = Duration::from_millis(500);
/// The pause after a start that failed, for a reason such as a full disk.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// A thread that looks after the server until it is stopped.
#[derive(Debug)]
pub(super) struct Supervision {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Supervision {
    pub(super) fn start(place: Place) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || supervise(&place, &stopped));
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Stops looking. To be called before the server is stopped on purpose, and without the door:
    /// the thread may be waiting for it.
    pub(super) fn stop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the supervision of the private cluster panicked");
        }
    }
}

fn supervise(place: &Place, stopped: &Receiver<()>) {
    let locks = Locks::in_folder(&place.home);
    let mut interval = SUPERVISION_INTERVAL;
    // Nothing is ever sent: the sender only goes away.
    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        interval = SUPERVISION_INTERVAL;
        if postmaster::is_running(place) {
            continue;
        }
        if let Err(error) = start_again(place, &locks) {
            tracing::error!(%error, "the private postgres died and does not start again");
            interval = RETRY_INTERVAL;
        }
    }
}

fn start_again(place: &Place, locks: &Locks) -> Result<(), LedgerError> {
    let _door = locks.enter()?;
    if postmaster::is_running(place) {
        // Another user was faster.
        return Ok(());
    }
    tracing::warn!("the private postgres died; it is started again");
    let watched = postmaster::start(place)?;
    let deadline = Instant::now() + postmaster::START_TIMEOUT;
    while !postmaster::is_running(place) {
        if watched.exit_status().is_some() || Instant::now() > deadline {
            return Err(postmaster::start_failure(place));
        }
        std::thread::sleep(postmaster::LOOK_INTERVAL);
    }
    Ok(())
}
