//! A pipeline from a model folder: from a request to finished images.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use diffusion::{SchedulerConfig, SchedulerKind, seed};
use ndarray::{Array4, ArrayView4, Axis, concatenate};

use crate::conditioning::Conditions;
use crate::denoiser::Denoiser;
use crate::error::OnnxError;
use crate::family::Family;
use crate::folder::{GenerationDefaults, ModelFolder};
use crate::identity::ModelIdentity;
use crate::image_loop::{self, Checked, Outcome, Told};
use crate::inversion::InversionRule;
use crate::pixels;
use crate::plan::Plan;
use crate::prompt_encoder::PromptEncoder;
use crate::request::{
    GenerateRequest, Generation, Picture, Progress, Task, Timings, TruncatedPrompt, Usage,
};
use crate::runtime::Runtime;
use crate::vae::{VaeDecoder, VaeEncoder};

/// A pipeline, ready to make images. Use it from one thread at a time: sessions need exclusive
/// access.
pub struct Generator {
    pub(crate) model: ModelIdentity,
    pub(crate) family: Family,
    pub(crate) defaults: GenerationDefaults,
    pub(crate) scheduler_config: SchedulerConfig,
    pub(crate) prompt_encoder: Option<PromptEncoder>,
    pub(crate) denoiser: Denoiser,
    pub(crate) decoder: Option<VaeDecoder>,
    pub(crate) encoder: Option<VaeEncoder>,
    pub(crate) inversion_rule: Option<InversionRule>,
    tasks: Vec<Task>,
    zeros_for_empty_prompt: bool,
    wants_aesthetic_score: bool,
    /// Pixels per latent along each side, once known.
    per_latent: Option<u32>,
    images_per_batch: usize,
}

impl Generator {
    /// Opens a model folder: digests its files, then loads its parts.
    ///
    /// # Errors
    /// A missing file, part or input is named; see [`OnnxError`].
    pub fn open(runtime: &Runtime, root: &Path) -> Result<Self, OnnxError> {
        let folder = ModelFolder::read(root)?;
        let model = ModelIdentity::of(&folder)?;
        let family = folder.family();
        let scheduler_config = folder.scheduler_config()?;
        let defaults = folder
            .optional_file("generation_config.json")?
            .unwrap_or_default();
        let inversion_rule = read_inversion_rule(&folder)?;
        let needs_decoder = family.takes_prompt() || folder.has("vae_decoder");
        let decoder = if needs_decoder {
            Some(VaeDecoder::open(runtime, &folder)?)
        } else {
            None
        };
        let encoder = if decoder.is_some() && folder.has("vae_encoder") {
            Some(VaeEncoder::open(runtime, &folder)?)
        } else {
            None
        };
        let latent_channels = decoder
            .as_ref()
            .map(|decoder| decoder.config().latent_channels());
        let denoiser = Denoiser::open(runtime, &folder, latent_channels)?;
        refuse_contradiction(&folder, &denoiser)?;
        let prompt_encoder = if family.takes_prompt() {
            let joint_width = denoiser.config().joint_attention_dim;
            Some(PromptEncoder::open(runtime, &folder, joint_width)?)
        } else {
            None
        };
        let has_way_in = decoder.is_none() || encoder.is_some();
        let per_latent = match &decoder {
            Some(decoder) => decoder.config().factor().map(|factor| factor as u32),
            None => Some(1),
        };
        Ok(Self {
            model,
            family,
            defaults,
            scheduler_config,
            prompt_encoder,
            tasks: tasks(&denoiser, family, has_way_in),
            denoiser,
            decoder,
            encoder,
            inversion_rule,
            zeros_for_empty_prompt: folder.zeros_for_empty_prompt(),
            wants_aesthetic_score: folder.wants_aesthetic_score(),
            per_latent,
            images_per_batch: 1,
        })
    }

    /// Name and digests of the model.
    pub fn model(&self) -> &ModelIdentity {
        &self.model
    }

    /// What a request that names no steps, guidance scale and so on gets.
    pub fn defaults(&self) -> GenerationDefaults {
        self.defaults.clone()
    }

    /// What the model can be asked for, the usual first.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Whether the model takes a prompt.
    pub fn takes_prompt(&self) -> bool {
        self.prompt_encoder.is_some()
    }

    /// Whether the model can be led away from a negative prompt: it is guided by two branches, not
    /// by a scale that it takes itself.
    pub fn takes_negative_prompt(&self) -> bool {
        let takes_scale = self.denoiser.config().time_cond_proj_dim.is_some();
        self.takes_prompt() && !takes_scale && self.family != Family::Flux
    }

    /// Number of classes, for class-conditional models.
    pub fn class_count(&self) -> Option<u32> {
        let classes = self.denoiser.config().num_class_embeds;
        classes.filter(|&classes| classes > 0 && self.denoiser.takes("class_labels"))
    }

    /// Channels, height and width of the sample that the loop works on.
    pub fn sample_shape(&self) -> seed::SampleShape {
        self.denoiser.sample_shape()
    }

    /// What width and height of a picture must be multiples of.
    ///
    /// # Errors
    /// As [`Generator::picture_size`].
    pub fn picture_factor(&mut self) -> Result<u32, OnnxError> {
        Ok(self.pixels_per_latent()? * self.denoiser.factor() as u32)
    }

    /// Width and height of the model's own pictures. Found by decoding once where the decoder's
    /// configuration does not tell.
    ///
    /// # Errors
    /// Failures of the decoder.
    pub fn picture_size(&mut self) -> Result<(u32, u32), OnnxError> {
        let per_latent = self.pixels_per_latent()?;
        let (_, height, width) = self.sample_shape();
        Ok((width as u32 * per_latent, height as u32 * per_latent))
    }

    pub(crate) fn pixels_per_latent(&mut self) -> Result<u32, OnnxError> {
        if let Some(per_latent) = self.per_latent {
            return Ok(per_latent);
        }
        let (channels, height, width) = self.sample_shape();
        let blank = Array4::zeros((1, channels, height, width));
        let sample = decode(&mut self.decoder, blank.view())?;
        let per_latent = (sample.dim().2 / height).max(1) as u32;
        self.per_latent = Some(per_latent);
        Ok(per_latent)
    }

    /// The scheduler of a request that names none: that of `generation_config.json`, else that of
    /// `scheduler_config.json`, or DDIM when the model was published with one that this service
    /// does not have.
    pub fn default_scheduler(&self) -> SchedulerKind {
        let fallback = if self.family.is_flow() {
            SchedulerKind::FlowMatchEuler
        } else {
            SchedulerKind::Ddim
        };
        let named = self.defaults.scheduler.or(self.scheduler_config.kind());
        named
            .filter(|kind| kind.is_generative())
            .unwrap_or(fallback)
    }

    /// How many images go through the loop together at most; 1 at first.
    pub fn images_per_batch(&self) -> usize {
        self.images_per_batch
    }

    /// Lets several images go through the loop together, `images` at most. An image has the same bits
    /// whatever it is made with: the first evaluation of every batch of another form runs each row
    /// alone as well, and where one bit differs, the images of such batches are made alone.
    pub fn set_images_per_batch(&mut self, images: usize) {
        self.images_per_batch = images.max(1);
    }

    /// Makes the images of a request. `on_progress` is called for every image after every model
    /// evaluation and may stop the request, see [`GenerateRequest::keep_finished`].
    ///
    /// # Errors
    /// [`OnnxError::Request`] for impossible requests, [`OnnxError::ImageNotFinite`] and
    /// [`OnnxError::ImageConstant`] for outputs that must not be handed out, the cancellation (see
    /// [`OnnxError::is_cancelled`]), and failures of the parts.
    pub fn generate(
        &mut self,
        request: &GenerateRequest,
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Generation, OnnxError> {
        let mut on_progress = |_, progress| on_progress(progress);
        let request = std::slice::from_ref(request);
        let mut answers = self.generate_together(request, &mut on_progress);
        answers.pop().expect("every request has an answer")
    }

    /// Makes the images of several requests, as many at once as [`Generator::images_per_batch`] says
    /// of those that have the same [`GenerateRequest::loop_shape`]. Answer `i` belongs to request `i`
    /// and is what [`Generator::generate`] gives, timings apart: they are those of all together.
    ///
    /// `on_progress` is called with the place of a request for each of its images after every model
    /// evaluation. When it stops a request, or when one fails, the others go on without it.
    pub fn generate_together(
        &mut self,
        requests: &[GenerateRequest],
        on_progress: &mut dyn FnMut(usize, Progress) -> ControlFlow<()>,
    ) -> Vec<Result<Generation, OnnxError>> {
        self.take_timings();
        let started = Instant::now();
        let checked: Vec<Result<Checked<'_>, OnnxError>> =
            requests.iter().map(|request| self.check(request)).collect();
        let mut outcomes: Vec<Outcome> = requests.iter().map(|_| Outcome::default()).collect();
        let mut seats = image_loop::seats(&checked);
        loop {
            let batch = image_loop::next_batch(&mut seats, &outcomes, self.images_per_batch);
            if batch.is_empty() {
                break;
            }
            let mut told = Told {
                outcomes: &mut outcomes,
                on_progress,
            };
            self.run_batch(&batch, &mut told);
        }
        let mut timings = self.take_timings();
        timings.loop_ms = milliseconds(started.elapsed());
        let answers = checked.into_iter().zip(outcomes);
        answers
            .map(|(checked, outcome)| finish(checked?, outcome, timings))
            .collect()
    }

    fn check<'a>(&mut self, request: &'a GenerateRequest) -> Result<Checked<'a>, OnnxError> {
        let plan = self.plan(request)?;
        let (conditions, truncated_prompt) = self.conditions(request, &plan)?;
        let prompts = conditions.prompt.iter().chain(&conditions.negative);
        let image_positions = (plan.shape.1 * plan.shape.2) as u64;
        let usage = Usage {
            prompt_tokens: prompts.map(|prompt| prompt.tokens as u64).sum(),
            source_positions: request.init_image.as_ref().map_or(0, |_| image_positions),
            image_positions,
        };
        Ok(Checked {
            request,
            usage,
            plan,
            conditioning: conditions.conditioning(&self.denoiser),
            truncated_prompt,
        })
    }

    /// Runs the text encoders on the prompt and, under guidance, on the negative prompt.
    fn conditions(
        &mut self,
        request: &GenerateRequest,
        plan: &Plan,
    ) -> Result<(Conditions, Option<TruncatedPrompt>), OnnxError> {
        let mut conditions = Conditions {
            prompt: None,
            negative: None,
            class_label: request.class_label,
            guidance_scale: request.guidance_scale,
            picture_sides: (plan.picture_size.1, plan.picture_size.0),
            sample_sides: (plan.shape.1, plan.shape.2),
            wants_aesthetic_score: self.wants_aesthetic_score,
        };
        let Some(encoder) = &mut self.prompt_encoder else {
            return Ok((conditions, None));
        };
        let prompt = request.prompt.as_deref().unwrap_or_default();
        let (states, truncated) = encoder.encode(prompt, request.prompt_weights)?;
        if plan.is_guided {
            let negative = match &request.negative_prompt {
                None if self.zeros_for_empty_prompt => states.zeros(),
                negative => {
                    let negative = negative.as_deref().unwrap_or_default();
                    encoder.encode(negative, request.prompt_weights)?.0
                }
            };
            conditions.negative = Some(negative);
        }
        conditions.prompt = Some(states);
        Ok((conditions, truncated))
    }

    /// The conditions of an inversion: the empty prompt, no guidance.
    pub(crate) fn empty_conditions(&mut self) -> Result<Conditions, OnnxError> {
        let (width, height) = self.picture_size()?;
        let (_, rows, columns) = self.sample_shape();
        let prompt = match &mut self.prompt_encoder {
            Some(encoder) => Some(encoder.encode("", false)?.0),
            None => None,
        };
        Ok(Conditions {
            prompt,
            negative: None,
            class_label: None,
            guidance_scale: 1.0,
            picture_sides: (height, width),
            sample_sides: (rows, columns),
            wants_aesthetic_score: self.wants_aesthetic_score,
        })
    }

    /// Decodes a last sample and refuses what must not be handed out.
    pub(crate) fn decode_image(
        &mut self,
        latents: ArrayView4<'_, f32>,
        image_index: usize,
    ) -> Result<Picture, OnnxError> {
        let sample = decode(&mut self.decoder, latents)?;
        if sample.iter().any(|value| !value.is_finite()) {
            return Err(OnnxError::ImageNotFinite { image_index });
        }
        let picture = pixels::picture("vae_decoder", sample.view())?;
        if pixels::is_constant(&picture) {
            return Err(OnnxError::ImageConstant { image_index });
        }
        Ok(picture)
    }

    fn take_timings(&mut self) -> Timings {
        let text_encoder = self
            .prompt_encoder
            .as_mut()
            .map_or(Duration::ZERO, PromptEncoder::take_session_time);
        let encoder = self
            .encoder
            .as_mut()
            .map_or(Duration::ZERO, VaeEncoder::take_session_time);
        let unet = self.denoiser.take_session_time();
        let decoder = self
            .decoder
            .as_mut()
            .map_or(Duration::ZERO, VaeDecoder::take_session_time);
        Timings {
            loop_ms: 0.0,
            session_ms: milliseconds(text_encoder + encoder + unet + decoder),
            text_encoder_ms: milliseconds(text_encoder),
            unet_ms: milliseconds(unet),
            vae_encoder_ms: milliseconds(encoder),
            vae_decoder_ms: milliseconds(decoder),
        }
    }
}

/// The answer to a request whose images are made, or why they are not.
fn finish(
    checked: Checked<'_>,
    mut outcome: Outcome,
    timings: Timings,
) -> Result<Generation, OnnxError> {
    if let Some(error) = outcome.error {
        let has_some = checked.request.keep_finished && !outcome.images.is_empty();
        if !(has_some && error.is_cancelled()) {
            return Err(error);
        }
        let finished = outcome.images.len();
        outcome
            .previews
            .retain(|preview| preview.image_index < finished);
    }
    let latents: Vec<ArrayView4<'_, f32>> =
        outcome.latents.iter().map(|sample| sample.view()).collect();
    outcome.previews.sort_by_key(|preview| preview.image_index);
    Ok(Generation {
        task: checked.plan.task,
        latents: concatenate(Axis(0), &latents).expect("all samples have one shape"),
        images: outcome.images,
        truncated_prompt: checked.truncated_prompt,
        usage: checked.usage,
        scheduler: checked.plan.schedule.kind,
        timings,
        previews: outcome.previews,
    })
}

/// Latents to a sample in -1..1; models without an autoencoder work on such samples directly.
pub(crate) fn decode(
    decoder: &mut Option<VaeDecoder>,
    latents: ArrayView4<'_, f32>,
) -> Result<Array4<f32>, OnnxError> {
    match decoder {
        Some(decoder) => decoder.decode(latents),
        None => Ok(latents.to_owned()),
    }
}

/// `wanted` step indices, evenly spread and ending with the last step.
pub(crate) fn preview_indices(steps: usize, wanted: usize) -> Vec<usize> {
    let wanted = wanted.min(steps);
    (1..=wanted).map(|part| part * steps / wanted - 1).collect()
}

fn read_inversion_rule(folder: &ModelFolder) -> Result<Option<InversionRule>, OnnxError> {
    let name = "inversion.json";
    let rule: Option<InversionRule> = folder.optional_file(name)?;
    if let Some(rule) = &rule {
        rule.refuse_unknown()
            .map_err(|reason| OnnxError::folder(&folder.root().join(name), reason))?;
    }
    Ok(rule)
}

/// What a model can be asked for. `has_way_in` says whether pictures can be made latents.
fn tasks(denoiser: &Denoiser, family: Family, has_way_in: bool) -> Vec<Task> {
    if denoiser.is_inpainting() {
        return vec![Task::Inpainting];
    }
    let mut tasks = match (family.takes_prompt(), denoiser.config().num_class_embeds) {
        (true, _) => vec![Task::TextToImage],
        (false, Some(_)) => vec![Task::ClassConditional],
        (false, None) => vec![Task::Unconditional],
    };
    if has_way_in {
        if family.takes_prompt() {
            tasks.push(Task::ImageToImage);
        }
        tasks.extend([Task::Inpainting, Task::Variation]);
    }
    tasks
}

fn refuse_contradiction(folder: &ModelFolder, denoiser: &Denoiser) -> Result<(), OnnxError> {
    let states = "encoder_hidden_states";
    let index = folder.root().join("model_index.json");
    let config = denoiser.config();
    match (folder.family().takes_prompt(), denoiser.takes(states)) {
        (false, true) => Err(OnnxError::folder(
            &index,
            "an unconditional pipeline whose unet takes encoder_hidden_states",
        )),
        (true, false) => Err(OnnxError::folder(
            &index,
            "a pipeline with prompts whose denoising model takes no encoder_hidden_states",
        )),
        _ if denoiser.takes("class_labels") != config.num_class_embeds.is_some() => {
            let path = folder.root().join(folder.family().denoiser_part());
            Err(OnnxError::folder(
                &path.join("config.json"),
                "num_class_embeds must be there exactly when the model takes class_labels",
            ))
        }
        _ if denoiser.takes("timestep_cond") != config.time_cond_proj_dim.is_some() => {
            let path = folder.root().join(folder.family().denoiser_part());
            Err(OnnxError::folder(
                &path.join("config.json"),
                "time_cond_proj_dim must be there exactly when the model takes timestep_cond",
            ))
        }
        _ => Ok(()),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
