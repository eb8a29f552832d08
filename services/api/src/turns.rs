//! Turns: how many dear pieces of work run at once, and how many may wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Histogram;

/// No turn came: too many wait already, or the wait was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoTurn {
    /// Every waiting place is taken.
    #[error("{waiting_max} requests wait already")]
    QueueFull {
        /// The limit.
        waiting_max: usize,
    },
    /// This client has its share of work under way already.
    #[error("this client has generations_per_client_max ({in_flight_max}) requests under way")]
    ClientFull {
        /// The limit.
        in_flight_max: usize,
    },
    /// The turn did not come in time.
    #[error("no turn came within {wait_ms} ms")]
    TimedOut {
        /// The limit.
        wait_ms: u64,
    },
}

const OPEN: &str = "the semaphores of turns are never closed";

/// A turn; dropping it lets the next one begin.
#[derive(Debug)]
pub struct Turn {
    _running: OwnedSemaphorePermit,
    since: Instant,
    durations: Option<&'static Histogram>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(durations) = self.durations {
            durations.observe(self.since.elapsed());
        }
    }
}

/// A limited number of running places and a limited number of waiting places.
#[derive(Debug, Clone)]
pub struct Turns {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    waiting_max: usize,
    wait_max: Duration,
    durations: Option<&'static Histogram>,
}

impl Turns {
    /// Turns for `running_max` at once with `waiting_max` in the queue.
    #[must_use]
    pub fn new(running_max: usize, waiting_max: usize, wait_max: Duration) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running_max)),
            waiting: Arc::new(Semaphore::new(waiting_max)),
            waiting_max,
            wait_max,
            durations: None,
        }
    }

    /// The same turns, and how long each is held is counted here.
    #[must_use]
    pub fn counted_in(self, durations: &'static Histogram) -> Self {
        Self {
            durations: Some(durations),
            ..self
        }
    }

    /// How many wait for their turn now, those apart that wait patiently.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting_max
            .saturating_sub(self.waiting.available_permits())
    }

    fn turn(&self, running: OwnedSemaphorePermit) -> Turn {
        Turn {
            _running: running,
            since: Instant::now(),
            durations: self.durations,
        }
    }

    /// Waits for a turn as long as it takes, in the same line as everybody else: for work that
    /// waits elsewhere already, as jobs do.
    pub async fn take_patiently(&self) -> Turn {
        let running = Arc::clone(&self.running).acquire_owned().await;
        self.turn(running.expect(OPEN))
    }

    /// Waits for a turn, first come first served. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// When the queue is full or the wait is too long.
    pub async fn take(&self) -> Result<Turn, NoTurn> {
        if let Ok(running) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(self.turn(running));
        }
        let full = NoTurn::QueueFull {
            waiting_max: self.waiting_max,
        };
        let _place = Arc::clone(&self.waiting)
            .try_acquire_owned()
            .map_err(|_| full)?;
        let turn = Arc::clone(&self.running).acquire_owned();
        match tokio::time::timeout(self.wait_max, turn).await {
            Ok(running) => Ok(self.turn(running.expect(OPEN))),
            Err(_) => {
                let wait_ms = u64::try_from(self.wait_max.as_millis()).unwrap_or(u64::MAX);
                Err(NoTurn::TimedOut { wait_ms })
            }
        }
    }
}

/// How many requests of each client are under way, so that none takes all the room. Clients without
/// a request take no memory.
#[derive(Debug, Clone)]
pub struct InFlight {
    in_flight_max: usize,
    clients: Arc<Mutex<HashMap<String, usize>>>,
}

/// One request under way; dropping it makes room for the client's next.
#[derive(Debug)]
pub struct Place {
    client: String,
    in_flight: InFlight,
}

impl InFlight {
    /// Up to this many requests of each client.
    #[must_use]
    pub fn new(in_flight_max: usize) -> Self {
        Self {
            in_flight_max,
            clients: Arc::default(),
        }
    }

    /// Lets a request of this client in.
    ///
    /// # Errors
    /// When the client has its share under way.
    pub fn enter(&self, client: &str) -> Result<Place, NoTurn> {
        let mut clients = self.lock();
        let count = clients.entry(client.to_owned()).or_default();
        if *count >= self.in_flight_max {
            let in_flight_max = self.in_flight_max;
            return Err(NoTurn::ClientFull { in_flight_max });
        }
        *count += 1;
        Ok(Place {
            client: client.to_owned(),
            in_flight: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // Counts have no half-changed state.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.in_flight.lock();
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_is_refused_when_the_queue_is_full_and_given_when_one_ends() {
        let turns = Turns::new(1, 1, Duration::from_secs(60));
        let first = turns.take().await.unwrap();
        let second = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take().await }
        });
        while turns.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            turns.take().await.unwrap_err(),
            NoTurn::QueueFull { waiting_max: 1 }
        );
        drop(first);
        assert!(second.await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_in_time_is_refused() {
        let turns = Turns::new(1, 1, Duration::from_millis(50));
        let _first = turns.take().await.unwrap();
        assert_eq!(
            turns.take().await.unwrap_err(),
            NoTurn::TimedOut { wait_ms: 50 }
        );
    }

    #[test]
    fn a_client_with_its_share_under_way_is_refused_and_others_are_not() {
        let in_flight = InFlight::new(1);
        let place = in_flight.enter("alice").unwrap();
        let refused = in_flight.enter("alice").unwrap_err();
        assert_eq!(refused, NoTurn::ClientFull { in_flight_max: 1 });
        assert!(in_flight.enter("bob").is_ok());
        drop(place);
        assert!(in_flight.enter("alice").is_ok());
        assert!(in_flight.lock().is_empty(), "who is gone takes no memory");
    }

    #[tokio::test]
    async fn who_waits_patiently_is_served_in_the_same_line() {
        let turns = Turns::new(1, 1, Duration::from_secs(60));
        let first = turns.take().await.unwrap();
        let patient = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take_patiently().await }
        });
        drop(first);
        assert!(patient.await.is_ok());
    }
}
