//! Generate and sign.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use diffusion::WatermarkId;
use ledger::{ClaimedJob, PromptSecret, SignedEntry};
use onnx::{
    GenerateRequest, GeneratedImage, Generation, Picture, Progress, Timings, TruncatedPrompt,
    Usage, Watermark,
};
use provenance::{
    Bundle, Digest, Entry, GenerationDetails, GenerationEntry, LeafIndex, PerceptualAlgorithm,
    RecordedImage, RecordedModel, RecordedPerceptualHash, commit,
};

use super::batches::Admission;
use super::file::{ManifestText, PictureFile};
use super::idempotency::Claim;
use super::jobs::{self, JobOutcome, Truncated};
use super::{
    GenerateOrder, IdempotencyKey, Plan, WorkError, draw_salt, now_ms, painting, sign_entries,
};
use crate::access::Caller;
use crate::config::Role;
use crate::engine::Engine;
use crate::request_id;
use crate::state::AppState;

/// Told after each step of each image; says whether to go on. A worker's steps are told late, and go on whatever
/// it says.
pub type OnProgress = Box<dyn FnMut(Progress) -> ControlFlow<()> + Send>;

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
    /// How much was read and made; none when the answer was given before.
    pub usage: Option<Usage>,
    /// Where the time went; none when the answer was given before.
    pub timings: Option<Timings>,
}

/// Generates images, signs and records them, and answers when a checkpoint covers every one. Where
/// this process generates nothing itself, a worker does.
///
/// # Errors
/// See [`WorkError`]. After an error no image has been handed out, and either all entries of the
/// request are recorded or none.
pub async fn generate(
    state: &Arc<AppState>,
    caller: &Caller,
    order: GenerateOrder,
    on_progress: Option<OnProgress>,
) -> Result<GenerateAnswer, WorkError> {
    let _place = state.in_flight.enter(&caller.client)?;
    if state.config.role == Role::Api {
        return jobs::generate_by_worker(state, caller, (order, None), on_progress).await;
    }
    let commission = Commission::new(state, &caller.client, &order)?;
    let work = async move {
        let request_id = request_id::current_or_new();
        commission
            .carry_out(&request_id, Vec::new(), on_progress)
            .await
    };
    state.run(work).await
}

/// As [`generate`], but the same order of the same client under the same key is carried out
/// once: repeated calls get the same images and entries. What an earlier attempt recorded before it
/// broke off is kept, and only the rest is made.
///
/// # Errors
/// As [`generate`], and [`WorkError::IdempotencyConflict`] when the key belongs to another order.
pub async fn generate_once(
    state: &Arc<AppState>,
    caller: &Caller,
    order: GenerateOrder,
    key: IdempotencyKey,
) -> Result<GenerateAnswer, WorkError> {
    let claim = Claim::new(&caller.client, &key, &order);
    let _place = state.in_flight.enter(&caller.client)?;
    if state.config.role == Role::Api {
        return jobs::generate_by_worker(state, caller, (order, Some(claim)), None).await;
    }
    let commission = Commission::new(state, &caller.client, &order)?;
    state
        .run(async move { commission.carry_out_once(order, &claim).await })
        .await
}

/// What a job ends with.
pub(super) struct MadeForJob {
    /// Its signed entries; none when all were recorded before.
    pub(super) entries: Vec<SignedEntry>,
    /// [`JobOutcome`] as JSON.
    pub(super) outcome: String,
}

/// Makes and signs what a job asks for, in a turn that its worker took or beside another job. Nothing
/// is recorded yet: its end does that.
///
/// # Errors
/// See [`WorkError`]. Dropping the future stops the work after its present step.
pub(super) async fn make_for_job(
    state: &Arc<AppState>,
    claimed: &ClaimedJob,
    order: GenerateOrder,
    means: (Admission, OnProgress),
) -> Result<MadeForJob, WorkError> {
    let recorded =
        super::audit::recorded_generation(state, &claimed.client, &claimed.request_id).await?;
    let recorded = recorded.map_or_else(Vec::new, |answer| answer.images);
    let commission = Commission::new(state, &claimed.client, &resumed(order, &recorded))?;
    let mut outcome = JobOutcome::default();
    let mut entries = Vec::new();
    if recorded.len() < commission.plan.images as usize {
        let (admission, on_progress) = means;
        let means = (admission, Some(on_progress));
        let made = commission
            .make(&claimed.request_id, &recorded, means)
            .await?;
        outcome.truncated_prompt = made.truncated_prompt.map(|cut| Truncated {
            tokens: cut.tokens,
            tokens_max: cut.tokens_max,
        });
        outcome.usage = Some(made.usage);
        outcome.timings_ms = serde_json::to_value(made.timings).ok();
        entries = commission.sign(&made.stored).await?;
    }
    let outcome = serde_json::to_string(&outcome).expect("numbers serialise");
    Ok(MadeForJob { entries, outcome })
}

/// The order with the seed of what was recorded for it: a seed that was drawn is drawn once.
fn resumed(order: GenerateOrder, recorded: &[RecordedPicture]) -> GenerateOrder {
    let first = recorded.first().map(|picture| &picture.entry);
    let drawn = first.map(|entry| entry.seed.wrapping_sub(u64::from(entry.image_index)));
    // Own latents have no seed to go on from.
    let drawn = drawn.filter(|_| order.latents.is_none());
    GenerateOrder {
        seed: order.seed.or(drawn),
        ..order
    }
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
    let mut on_progress = on_progress;
    let left = Arc::new(AtomicBool::new(false));
    let _guard = StopOnDrop(Arc::clone(&left));
    let work = tokio::task::spawn_blocking(move || {
        let slot = engine.generator()?;
        let generation = slot.lock().generate(&request, &mut |progress| {
            if left.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            match &mut on_progress {
                Some(on_progress) => on_progress(progress),
                None => ControlFlow::Continue(()),
            }
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
struct Commission {
    state: Arc<AppState>,
    client: String,
    plan: Plan,
    /// The marks of its images; none where they carry none.
    watermark: Option<Watermark>,
}

impl Commission {
    fn new(state: &Arc<AppState>, client: &str, order: &GenerateOrder) -> Result<Self, WorkError> {
        let slot = state.engine.generator()?;
        let plan = order.plan(slot, &state.config.limits)?;
        let watermarker = state.watermarker.as_ref();
        let watermark = match watermarker.filter(|_| plan.can_be_marked(slot)) {
            None => None,
            Some(watermarker) => {
                let images = 0..plan.images as usize;
                let ids = images.map(|index| Ok(watermarker.id(&plan.makes_pixels(index, slot)?)));
                Some(watermarker.marks(ids.collect::<Result<_, WorkError>>()?))
            }
        };
        Ok(Self {
            plan,
            watermark,
            state: Arc::clone(state),
            client: client.to_owned(),
        })
    }

    /// The mark of one image.
    fn mark_of(&self, image_index: usize) -> Option<WatermarkId> {
        self.watermark
            .as_ref()
            .map(|watermark| watermark.ids[image_index])
    }

    /// Carries out the order unless it was carried out before.
    async fn carry_out_once(
        &self,
        order: GenerateOrder,
        claim: &Claim,
    ) -> Result<GenerateAnswer, WorkError> {
        let mut place = self.state.idempotency.claim(claim).await?;
        if let Some(answer) = place.answer() {
            return Ok(answer);
        }
        let answer = match jobs::job_of(&self.state, &self.client, claim).await? {
            // An asynchronous request came first under this key.
            Some(job) => jobs::answer(&self.state, &job.id, None).await?,
            None => self.go_on(order, claim.request_id()).await?,
        };
        place.remember(&answer);
        Ok(answer)
    }

    /// Carries out what is left of an order after an attempt that may have broken off.
    async fn go_on(
        &self,
        order: GenerateOrder,
        request_id: &str,
    ) -> Result<GenerateAnswer, WorkError> {
        let recorded = super::audit::recorded_generation(&self.state, &self.client, request_id);
        let recorded = match recorded.await? {
            Some(answer) if answer.images.len() >= self.plan.images as usize => return Ok(answer),
            Some(answer) => answer.images,
            None => Vec::new(),
        };
        let commission = Self::new(&self.state, &self.client, &resumed(order, &recorded))?;
        commission.carry_out(request_id, recorded, None).await
    }

    /// Makes what is not recorded yet when its turn comes and appends it, all or nothing.
    async fn carry_out(
        &self,
        request_id: &str,
        recorded: Vec<RecordedPicture>,
        on_progress: Option<OnProgress>,
    ) -> Result<GenerateAnswer, WorkError> {
        let means = (Admission::Wait(self.state.generations.clone()), on_progress);
        let made = self.make(request_id, &recorded, means).await?;
        // A crash here leaves images that no entry names: waste, not damage. None was answered.
        let entries = self.sign(&made.stored).await?;
        let appended = self.state.ledger.append_all(&entries).await?;
        let new = made.stored.into_iter().zip(appended);
        let new = new.map(|(stored, appended)| RecordedPicture {
            file: stored.file,
            entry: stored.entry,
            leaf_index: appended.leaf_index,
            leaf_hash: appended.leaf_hash,
            bundle: appended.bundle,
            previews: stored.previews,
        });
        let mut images: Vec<RecordedPicture> = recorded.into_iter().chain(new).collect();
        images.sort_by_key(|image| image.entry.image_index);
        Ok(GenerateAnswer {
            request_id: request_id.to_owned(),
            created_at_ms: made.created_at_ms,
            images,
            truncated_prompt: made.truncated_prompt,
            usage: Some(made.usage),
            timings: Some(made.timings),
        })
    }

    /// Generates, alone or with others, and stores the images that are not recorded yet. All are generated: the
    /// pixels of each are the same alone and beside others, and an attempt seldom breaks off.
    async fn make(
        &self,
        request_id: &str,
        recorded: &[RecordedPicture],
        means: (Admission, Option<OnProgress>),
    ) -> Result<Made, WorkError> {
        let (admission, on_progress) = means;
        let (mut request, painting) = self.prepared().await?;
        request.watermark = self.watermark.clone();
        let work = (request, on_progress);
        let batches = &self.state.batches;
        let generation = batches
            .generate(&self.state.engine, work, admission)
            .await?;
        self.plan.leave_latents(&generation);
        let created_at_ms = now_ms();
        let stamp = Stamp {
            request_id,
            created_at_ms,
        };
        let mut previews = previews_by_image(&generation);
        let mut stored = Vec::with_capacity(generation.images.len());
        for (index, image) in generation.images.iter().enumerate() {
            let known = |picture: &RecordedPicture| picture.entry.image_index as usize == index;
            if recorded.iter().any(known) {
                continue;
            }
            let image = painted(painting.as_ref(), image).await?;
            let mut image = self.store(&stamp, index, &image).await?;
            image.previews = std::mem::take(&mut previews[index]);
            stored.push(image);
        }
        Ok(Made {
            stored,
            created_at_ms,
            truncated_prompt: generation.truncated_prompt,
            usage: generation.usage,
            timings: generation.timings,
        })
    }

    /// The request for the generator, and what its images go back into where a part of a picture is painted.
    async fn prepared(&self) -> Result<(GenerateRequest, Option<Arc<media::Painting>>), WorkError> {
        if self.plan.painting.is_none() {
            return Ok((self.plan.request(), None));
        }
        let plan = self.plan.clone();
        let prepared = tokio::task::spawn_blocking(move || plan.prepared());
        let (request, painting) = prepared.await.unwrap_or(Err(WorkError::Interrupted))?;
        Ok((request, painting.map(Arc::new)))
    }

    /// Encodes an image, signs and stores its file durably, and states it in an entry. The digest is
    /// that of the file with its manifest, so the manifest cannot hold the ledger's proof.
    async fn store(
        &self,
        stamp: &Stamp<'_>,
        index: usize,
        image: &GeneratedImage,
    ) -> Result<Stored, WorkError> {
        let (width, height) = (image.width, image.height);
        let image_index = u32::try_from(index).expect("limits keep images countable");
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
            perceptual,
        } = super::file::encode(
            image,
            self.plan.file,
            stamp.request_id,
            parameters.as_deref(),
        )?;
        let images = self.state.images.clone();
        let signer = Arc::clone(&self.state.credentials.signer);
        let authority = self.state.time_stamps.clone();
        let watermark = self.mark_of(index);
        let marks = (*perceptual.hash.as_bytes(), watermark);
        let manifest = self.manifest(stamp, image_index, marks)?;
        let stored = tokio::task::spawn_blocking(move || {
            let file = manifest.sign(&signer, authority.as_deref(), bytes)?;
            let digest = images.put(&file).map_err(WorkError::Images)?;
            Ok::<_, WorkError>((file, digest))
        });
        let (file, sha256) = stored.await.unwrap_or(Err(WorkError::Interrupted))?;
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
            image_index,
            created_at_ms: stamp.created_at_ms,
            client: self.client.clone(),
            image: image_facts,
            model: self.model()?,
            scheduler: self.plan.scheduler.to_string(),
            steps: self.plan.steps,
            seed: self.plan.seed_of(index),
            details: Some(GenerationDetails {
                perceptual_hash: Some(recorded_hash(perceptual)),
                ..self.plan.details(index, (&salt, watermark))?
            }),
            guidance_scale: self.plan.guidance_decimal()?,
            prompt_commitment: commit(&salt, prompt.as_bytes()),
        };
        Ok(Stored {
            file,
            entry,
            secret: PromptSecret { salt, prompt },
            previews: Vec::new(),
        })
    }

    /// What the manifest of an image says. The prompt is not in it: where it is wanted, it stands in
    /// the file as other tools write it, under the manifest's hash.
    fn manifest(
        &self,
        stamp: &Stamp<'_>,
        image_index: u32,
        (fingerprint, watermark): ([u8; 32], Option<WatermarkId>),
    ) -> Result<ManifestText, WorkError> {
        let config = &self.state.config;
        Ok(ManifestText {
            format: self.plan.file.format,
            operator: config.credentials.operator.clone(),
            log: config.origin.clone(),
            model: self.model()?,
            task: self.plan.task,
            ingredient: self.plan.ingredient.clone(),
            request_id: stamp.request_id.to_owned(),
            image_index,
            created_at_ms: stamp.created_at_ms,
            fingerprint,
            watermark,
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

    /// Signs the entries of stored images, all or none.
    async fn sign(&self, stored: &[Stored]) -> Result<Vec<SignedEntry>, WorkError> {
        let entries = stored.iter().map(|stored| stored.entry.clone());
        let envelopes = sign_entries(&self.state, entries.map(Entry::Generation).collect()).await?;
        let signed = stored.iter().zip(envelopes);
        let signed = signed.map(|(stored, envelope)| SignedEntry {
            envelope,
            secret: Some(stored.secret.clone()),
        });
        Ok(signed.collect())
    }
}

/// The image inside the picture that a part of was painted.
async fn painted(
    painting: Option<&Arc<media::Painting>>,
    image: &GeneratedImage,
) -> Result<GeneratedImage, WorkError> {
    let image = image.clone();
    let Some(painting) = painting.map(Arc::clone) else {
        return Ok(image);
    };
    let finished = tokio::task::spawn_blocking(move || painting::finish(&painting, &image));
    finished.await.unwrap_or(Err(WorkError::Interrupted))
}

fn recorded_hash(perceptual: media::HashAndQuality) -> RecordedPerceptualHash {
    RecordedPerceptualHash {
        algorithm: PerceptualAlgorithm::Pdq,
        hash: Digest::from_bytes(*perceptual.hash.as_bytes()),
        quality: perceptual.quality,
    }
}

/// Images that are made and stored, and not recorded yet.
struct Made {
    stored: Vec<Stored>,
    created_at_ms: u64,
    truncated_prompt: Option<TruncatedPrompt>,
    usage: Usage,
    timings: Timings,
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
    previews: Vec<Picture>,
}

fn previews_by_image(generation: &Generation) -> Vec<Vec<Picture>> {
    let mut previews = vec![Vec::new(); generation.images.len()];
    for preview in &generation.previews {
        previews[preview.image_index].push(preview.picture.clone());
    }
    previews
}
