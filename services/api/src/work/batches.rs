//! Generations that wait at the same time and have one shape are made together when that pays.
//!
//! Turns come in the order of arrival, so the request that waited longest leads every batch and no
//! shape starves. Others of its shape come along, and what waits between them is delayed by no
//! more than [`BatchTerms::delay_max`] for each batch before it.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use onnx::{GenerateRequest, Generation, LoopShape, OnnxError};
use tokio::sync::{mpsc, oneshot};

use super::WorkError;
use super::generate::OnProgress;
use super::pace::{BatchTerms, Pace};
use crate::engine::Engine;
use crate::metrics;
use crate::turns::{NoTurn, Turn, Turns};

/// The generations of this process that wait for a turn.
#[derive(Debug)]
pub struct Batches {
    terms: BatchTerms,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    last_id: u64,
    pace: Pace,
}

/// A generation that waits.
struct Waiting {
    id: u64,
    shape: LoopShape,
    images: usize,
    work: Work,
}

/// What a generation needs, and where its answer goes.
struct Work {
    request: GenerateRequest,
    on_progress: Option<OnProgress>,
    /// Set when nobody waits for the answer any more.
    left: Arc<AtomicBool>,
    answer: oneshot::Sender<Result<Generation, OnnxError>>,
}

/// How a generation comes to its turn.
pub enum Admission {
    /// It waits in line, as long as requests do.
    Wait(Turns),
    /// It waits in line as long as it takes. The other half is told when it stands there.
    WaitPatiently(Turns, Arrival),
    /// It has one, and begins when those stand in line that may come along.
    Held(Turn, Arrivals),
}

/// Dropped when a generation stands in line, or will not.
pub type Arrival = mpsc::Sender<()>;
/// The end that notices.
pub type Arrivals = mpsc::Receiver<()>;

/// Generations to be made together.
struct Batch {
    shape: LoopShape,
    /// Images that go through the loop at once.
    together: usize,
    works: Vec<Work>,
}

impl Admission {
    async fn turn(self) -> Result<Turn, NoTurn> {
        match self {
            Self::Wait(turns) => turns.take().await,
            Self::WaitPatiently(turns, arrival) => {
                drop(arrival);
                Ok(turns.take_patiently().await)
            }
            Self::Held(turn, mut arrivals) => {
                // Nothing is ever sent: it ends when every sender is gone.
                while arrivals.recv().await.is_some() {}
                Ok(turn)
            }
        }
    }
}

impl Batches {
    /// Nobody waits yet.
    #[must_use]
    pub fn new(terms: BatchTerms) -> Self {
        Self {
            terms,
            line: Mutex::default(),
        }
    }

    /// Generates in a turn, alone or with others. Dropping the future takes the request out of its
    /// batch after its present step.
    ///
    /// # Errors
    /// No turn, or what the generator says of this request.
    pub async fn generate(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        (request, on_progress): (GenerateRequest, Option<OnProgress>),
        admission: Admission,
    ) -> Result<Generation, WorkError> {
        let (seat, mut answer) = self.enter(request, on_progress);
        let turn = tokio::select! {
            biased;
            answer = &mut answer => return received(answer),
            turn = admission.turn() => match turn {
                Ok(turn) => turn,
                Err(refused) if seat.withdraw() => return Err(refused.into()),
                // Somebody took it along in the last moment.
                Err(_) => return received(answer.await),
            },
        };
        if let Some(batch) = self.lead(seat.id) {
            let (batches, engine) = (Arc::clone(self), Arc::clone(engine));
            // It belongs to all of its members: it goes on when this one leaves.
            tokio::task::spawn_blocking(move || batches.run(&engine, batch, turn));
        }
        received(answer.await)
    }

    /// How many images of a shape to look for, when as many wait as may be made together.
    #[must_use]
    pub fn images_wanted(&self, shape: &LoopShape) -> usize {
        let images_max = self.terms.images_max;
        let mut line = self.lock();
        line.pace.images_together(shape, images_max, self.terms)
    }

    fn enter(
        self: &Arc<Self>,
        request: GenerateRequest,
        on_progress: Option<OnProgress>,
    ) -> (Seat, oneshot::Receiver<Result<Generation, OnnxError>>) {
        let (answer, answered) = oneshot::channel();
        let left = Arc::new(AtomicBool::new(false));
        let mut line = self.lock();
        line.last_id += 1;
        let seat = Seat {
            batches: Arc::clone(self),
            id: line.last_id,
            left: Arc::clone(&left),
        };
        let waiting = Waiting {
            id: seat.id,
            shape: request.loop_shape(),
            images: request.images(),
            work: Work {
                request,
                on_progress,
                left,
                answer,
            },
        };
        line.waiting.push_back(waiting);
        drop(line);
        (seat, answered)
    }

    /// Takes a waiting generation and those that are to come along, if it has not come along with
    /// another one itself.
    fn lead(&self, id: u64) -> Option<Batch> {
        let mut line = self.lock();
        let place = line.waiting.iter().position(|waiting| waiting.id == id)?;
        let leader = line.waiting.remove(place)?;
        let alike = line
            .waiting
            .iter()
            .filter(|waiting| waiting.shape == leader.shape);
        let waiting = leader.images + alike.map(|waiting| waiting.images).sum::<usize>();
        let together = line
            .pace
            .images_together(&leader.shape, waiting, self.terms);
        let mut batch = Batch {
            shape: leader.shape,
            together,
            works: vec![leader.work],
        };
        let mut room = together.saturating_sub(leader.images);
        for waiting in std::mem::take(&mut line.waiting) {
            if waiting.shape == batch.shape && waiting.images <= room {
                room -= waiting.images;
                batch.works.push(waiting.work);
            } else {
                line.waiting.push_back(waiting);
            }
        }
        Some(batch)
    }

    /// Makes the images of a batch on this thread, and answers each of its members.
    fn run(&self, engine: &Engine, batch: Batch, turn: Turn) {
        let _turn = turn;
        let Batch {
            shape,
            together,
            works,
        } = batch;
        // Whoever waits is told that the work was interrupted when its sender is dropped.
        let Ok(slot) = engine.generator() else { return };
        let mut generator = slot.lock();
        let started = Instant::now();
        let (requests, mut members): (Vec<_>, Vec<_>) = works.into_iter().map(Work::split).unzip();
        let images: usize = requests.iter().map(GenerateRequest::images).sum();
        metrics::BATCH_IMAGES.observe_size(images.min(together));
        generator.set_images_per_batch(together);
        let answers = generator.generate_together(&requests, &mut |place, progress| {
            let member = &mut members[place];
            if member.left.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            match &mut member.on_progress {
                Some(on_progress) => on_progress(progress),
                None => ControlFlow::Continue(()),
            }
        });
        drop(generator);
        let took = started.elapsed();
        // One that was stopped teaches nothing about the pace.
        let made = |answer: &Result<Generation, _>| {
            let generation = answer.as_ref();
            generation.map_or(0, |generation| generation.images.len())
        };
        if answers.iter().map(made).sum::<usize>() == images {
            self.lock().pace.observe(&shape, together, (images, took));
        }
        for (place, (member, answer)) in members.into_iter().zip(answers).enumerate() {
            if place > 0 {
                // The leader's time is that of the turn.
                metrics::GENERATIONS.observe(took);
            }
            // Nobody may wait for it any more.
            let _ = member.answer.send(answer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        // Every change to the line is one push or one removal.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn received(
    answer: Result<Result<Generation, OnnxError>, oneshot::error::RecvError>,
) -> Result<Generation, WorkError> {
    match answer {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(WorkError::Interrupted),
    }
}

/// Who is told about a generation.
struct Member {
    on_progress: Option<OnProgress>,
    left: Arc<AtomicBool>,
    answer: oneshot::Sender<Result<Generation, OnnxError>>,
}

impl Work {
    fn split(self) -> (GenerateRequest, Member) {
        let member = Member {
            on_progress: self.on_progress,
            left: self.left,
            answer: self.answer,
        };
        (self.request, member)
    }
}

/// A place in line, left when it is dropped. A batch that has it by then is told to go on without it.
struct Seat {
    batches: Arc<Batches>,
    id: u64,
    left: Arc<AtomicBool>,
}

impl Seat {
    /// Leaves the line; whether nobody had taken the request along.
    fn withdraw(&self) -> bool {
        let mut line = self.batches.lock();
        let before = line.waiting.len();
        line.waiting.retain(|waiting| waiting.id != self.id);
        line.waiting.len() < before
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Relaxed);
        self.withdraw();
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Prompts are not for logs.
        f.debug_struct("Waiting")
            .field("id", &self.id)
            .field("images", &self.images)
            .finish_non_exhaustive()
    }
}
