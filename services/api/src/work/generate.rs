//! Generate and sign.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ledger::PromptSecret;
use onnx::{
    GenerateRequest, GeneratedImage, Generation, Picture, Progress, Timings, TruncatedPrompt,
};
use provenance::{
    Bundle, Digest, Entry, Envelope, GenerationEntry, LeafIndex, RecordedImage, RecordedModel,
    commit,
};

use super::file::PictureFile;
use super::idempotency::Claim;
use super::{GenerateOrder, IdempotencyKey, Plan, WorkError, draw_salt, now_ms};
use crate::access::Caller;
use crate::engine::Engine;
use crate::request_id;
use crate::state::AppState;

/// Told after each step of each image.
pub type OnProgress = Box<dyn FnMut(Progress) + Send>;

/// One image that is signed and recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedPicture {
    /// The image's file, of the media type that the entry states.
    pub file: Vec<u8>,
    /// What the ledger says about it.
    pub entry: GenerationEntry,
    /// Its place in the log.
    pub leaf_index: LeafIndex,
    /// The hash of its leaf.
    pub leaf_hash: Digest,
    /// Entry, inclusion proof and checkpoint, for checking offline.
    pub bundle: Bundle,
    /// Pictures of the way, where they were asked for.
    pub previews: Vec<Picture>,
}

/// The answer to an order.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateAnswer {
    /// The request's id, as entries state it.
    pub request_id: String,
    /// When the images were recorded, in milliseconds since 1970 UTC.
    pub created_at_ms: u64,
    /// The images, in order.
    pub images: Vec<RecordedPicture>,
    /// Set when the model did not see the end of the prompt.
    pub truncated_prompt: Option<TruncatedPrompt>,
    /// Where the time went; none when the answer was given before.
    pub timings: Option<Timings>,
}

/// Generates images, signs and records them, and answers when a checkpoint covers every one.
///
/// # Errors
/// See [`WorkError`]. After an error no image has been handed out; entries of images that were
/// recorded before the error stay in the log.
pub async fn generate(
    state: &Arc<AppState>,
    caller: &Caller,
    order: GenerateOrder,
    on_progress: Option<OnProgress>,
) -> Result<GenerateAnswer, WorkError> {
    let job = Job::new(state, caller, &order)?;
    let work = async move {
        job.carry_out(request_id::current_or_new(), on_progress)
            .await
    };
    state.run(work).await
}

/// As [`generate`], but the same order of the same client under the same key is carried out
/// once: repeated calls get the same images and entries.
///
/// # Errors
/// As [`generate`], and [`WorkError::IdempotencyConflict`] when the key belongs to another order.
pub async fn generate_once(
    state: &Arc<AppState>,
    caller: &Caller,
    order: GenerateOrder,
    key: IdempotencyKey,
) -> Result<GenerateAnswer, WorkError> {
    let job = Job::new(state, caller, &order)?;
    state
        .run(async move { job.carry_out_once(&order, &key).await })
        .await
}

/// Runs a generator without a ledger: nothing is signed or recorded.
///
/// # Errors
/// What the generator says, or that the work was interrupted. Dropping the future stops the work
/// after its present step.
pub async fn render(
    engine: Arc<Engine>,
    request: GenerateRequest,
    on_progress: Option<OnProgress>,
) -> Result<Generation, WorkError> {
    render_in_turn(engine, request, on_progress, ()).await
}

/// Runs a generator and holds the turn until the blocking thread has really stopped.
async fn render_in_turn(
    engine: Arc<Engine>,
    request: GenerateRequest,
    mut on_progress: Option<OnProgress>,
    turn: impl Send + 'static,
) -> Result<Generation, WorkError> {
    let left = Arc::new(AtomicBool::new(false));
    let _guard = StopOnDrop(Arc::clone(&left));
    let work = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let slot = engine.generator()?;
        let generation = slot.lock().generate(&request, &mut |progress| {
            if left.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            if let Some(on_progress) = &mut on_progress {
                on_progress(progress);
            }
            ControlFlow::Continue(())
        })?;
        Ok(generation)
    });
    work.await.unwrap_or(Err(WorkError::Interrupted))
}

/// Tells the blocking thread that nobody waits any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A checked order of a client.
struct Job {
    state: Arc<AppState>,
    client: String,
    plan: Plan,
}

impl Job {
    fn new(
        state: &Arc<AppState>,
        caller: &Caller,
        order: &GenerateOrder,
    ) -> Result<Self, WorkError> {
        Ok(Self {
            plan: order.plan(state.engine.generator()?, &state.config.limits)?,
            state: Arc::clone(state),
            client: caller.client.clone(),
        })
    }

    /// Carries out the order unless it was carried out before.
    async fn carry_out_once(
        &self,
        order: &GenerateOrder,
        key: &IdempotencyKey,
    ) -> Result<GenerateAnswer, WorkError> {
        let claim = Claim::new(&self.client, key, order);
        let mut place = self.state.idempotency.claim(&claim).await?;
        if let Some(answer) = place.answer() {
            return Ok(answer);
        }
        let request_id = claim.request_id();
        let recorded = super::audit::recorded_generation(&self.state, &self.client, request_id);
        let answer = match recorded.await? {
            None => self.carry_out(request_id.to_owned(), None).await?,
            Some(answer) if answer.images.len() == self.plan.images as usize => answer,
            Some(answer) => {
                let detail = format!(
                    "an earlier attempt with this key ended after {} of {} images; use a new key",
                    answer.images.len(),
                    self.plan.images
                );
                return Err(WorkError::IdempotencyConflict { detail });
            }
        };
        place.remember(&answer);
        Ok(answer)
    }

    /// Waits for a turn, generates, stores, signs, appends.
    async fn carry_out(
        &self,
        request_id: String,
        on_progress: Option<OnProgress>,
    ) -> Result<GenerateAnswer, WorkError> {
        let turn = self.state.generations.take().await?;
        let engine = Arc::clone(&self.state.engine);
        let generation = render_in_turn(engine, self.plan.request(), on_progress, turn).await?;
        let created_at_ms = now_ms();
        let stamp = Stamp {
            request_id: &request_id,
            created_at_ms,
        };
        let mut previews = previews_by_image(&generation);
        let mut stored = Vec::with_capacity(generation.images.len());
        for (index, image) in generation.images.iter().enumerate() {
            stored.push(self.store(&stamp, index, image).await?);
        }
        // A crash here leaves images that no entry names: waste, not damage. None was answered.
        let appends = stored.into_iter().map(|stored| self.append(stored));
        let mut images = futures_util::future::try_join_all(appends).await?;
        for (image, previews) in images.iter_mut().zip(&mut previews) {
            image.previews = std::mem::take(previews);
        }
        Ok(GenerateAnswer {
            request_id,
            created_at_ms,
            images,
            truncated_prompt: generation.truncated_prompt,
            timings: Some(generation.timings),
        })
    }

    /// Encodes an image, stores it durably and states it in an entry.
    async fn store(
        &self,
        stamp: &Stamp<'_>,
        index: usize,
        image: &GeneratedImage,
    ) -> Result<Stored, WorkError> {
        let (width, height) = (image.width, image.height);
        let slot = self.state.engine.generator()?;
        let parameters = self
            .plan
            .file
            .parameters
            .then(|| self.plan.infotext(slot, (index, (width, height))));
        let PictureFile {
            bytes,
            media_type,
            pixel_sha256,
        } = super::file::encode(
            image,
            self.plan.file,
            stamp.request_id,
            parameters.as_deref(),
        )?;
        let images = self.state.images.clone();
        let (file, sha256) = tokio::task::spawn_blocking(move || {
            let digest = images.put(&bytes)?;
            Ok((bytes, digest))
        })
        .await
        .map_err(|_| WorkError::Interrupted)?
        .map_err(WorkError::Images)?;
        let image_facts = RecordedImage {
            sha256,
            pixel_sha256,
            width,
            height,
            media_type: media_type.to_owned(),
        };
        let salt = draw_salt();
        let prompt = self.plan.committed_prompt();
        let entry = GenerationEntry {
            request_id: stamp.request_id.to_owned(),
            image_index: u32::try_from(index).expect("limits keep images countable"),
            created_at_ms: stamp.created_at_ms,
            client: self.client.clone(),
            image: image_facts,
            model: self.model()?,
            scheduler: self.plan.scheduler.to_string(),
            steps: self.plan.steps,
            seed: self.plan.seed_of(index),
            details: Some(self.plan.details(index, &salt)?),
            guidance_scale: self.plan.guidance_decimal()?,
            prompt_commitment: commit(&salt, prompt.as_bytes()),
        };
        Ok(Stored {
            file,
            entry,
            secret: PromptSecret { salt, prompt },
        })
    }

    fn model(&self) -> Result<RecordedModel, WorkError> {
        let model = &self.state.engine.generator()?.model;
        Ok(RecordedModel {
            name: model.name.clone(),
            digest: model.digest,
            parts: model.parts.clone(),
        })
    }

    /// Signs the entry and appends it; the answer comes when a checkpoint covers it.
    async fn append(&self, stored: Stored) -> Result<RecordedPicture, WorkError> {
        let Stored {
            file,
            entry,
            secret,
        } = stored;
        let envelope = Envelope::sign(&Entry::Generation(entry.clone()), &self.state.signer)?;
        let appended = self.state.ledger.append(&envelope, Some(secret)).await?;
        Ok(RecordedPicture {
            file,
            entry,
            leaf_index: appended.leaf_index,
            leaf_hash: appended.leaf_hash,
            bundle: appended.bundle,
            previews: Vec::new(),
        })
    }
}

/// What all entries of a request share.
struct Stamp<'a> {
    request_id: &'a str,
    created_at_ms: u64,
}

/// An image on disk and the entry that will state it.
struct Stored {
    file: Vec<u8>,
    entry: GenerationEntry,
    secret: PromptSecret,
}

fn previews_by_image(generation: &Generation) -> Vec<Vec<Picture>> {
    let mut previews = vec![Vec::new(); generation.images.len()];
    for preview in &generation.previews {
        previews[preview.image_index].push(preview.picture.clone());
    }
    previews
}
