//! A text-to-image (or unconditional) pipeline from a model folder.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use diffusion::{SchedulerConfig, SchedulerKind, StepReport, denoise, guidance, seed};
use ndarray::{Array4, ArrayView4, Axis, concatenate};

use crate::error::OnnxError;
use crate::folder::{GenerationDefaults, ModelFolder};
use crate::identity::ModelIdentity;
use crate::inversion::InversionRule;
use crate::pixels;
use crate::request::{
    GUIDANCE_SCALE_MAX, GenerateRequest, GeneratedImage, Generation, IMAGES_MAX, LATENT_SIDE_MAX,
    Picture, Preview, Progress, Task, Timings, TruncatedPrompt,
};
use crate::runtime::Runtime;
use crate::sigmas::SigmaSpread;
use crate::text_encoder::TextEncoder;
use crate::unet::{ConditionedUnet, Conditioning, Unet};
use crate::vae::{VaeDecoder, VaeEncoder};

/// A pipeline, ready to make images. Use it from one thread at a time: sessions need exclusive
/// access.
pub struct Generator {
    pub(crate) model: ModelIdentity,
    pub(crate) defaults: GenerationDefaults,
    pub(crate) scheduler_config: SchedulerConfig,
    pub(crate) text_encoder: Option<TextEncoder>,
    pub(crate) unet: Unet,
    pub(crate) decoder: Option<VaeDecoder>,
    pub(crate) encoder: Option<VaeEncoder>,
    pub(crate) inversion_rule: Option<InversionRule>,
    /// Width and height of the pictures, once known.
    pub(crate) picture_size: Option<(u32, u32)>,
}

impl Generator {
    /// Opens a model folder: digests its files, then loads its parts.
    ///
    /// # Errors
    /// A missing file, part or input is named; see [`OnnxError`].
    pub fn open(runtime: &Runtime, root: &Path) -> Result<Self, OnnxError> {
        let folder = ModelFolder::read(root)?;
        let model = ModelIdentity::of(&folder)?;
        let scheduler_config = folder.scheduler_config()?;
        let defaults = folder
            .optional_file("generation_config.json")?
            .unwrap_or_default();
        let inversion_rule = read_inversion_rule(&folder)?;
        let unet = Unet::open(runtime, &folder)?;
        refuse_contradiction(&folder, &unet)?;
        let text_encoder = if unet.is_conditional() {
            Some(TextEncoder::open(runtime, &folder)?)
        } else {
            None
        };
        let needs_decoder = !folder.is_unconditional() || folder.has("vae_decoder");
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
        Ok(Self {
            model,
            defaults,
            scheduler_config,
            text_encoder,
            unet,
            decoder,
            encoder,
            inversion_rule,
            picture_size: None,
        })
    }

    /// Name and digests of the model.
    pub fn model(&self) -> &ModelIdentity {
        &self.model
    }

    /// Steps and guidance scale of a request that names none.
    pub fn defaults(&self) -> GenerationDefaults {
        self.defaults.clone()
    }

    /// What the model can be asked for.
    pub fn tasks(&self) -> &[Task] {
        if self.takes_prompt() {
            &[Task::TextToImage]
        } else {
            &[Task::Unconditional]
        }
    }

    /// Whether the model takes a prompt.
    pub fn takes_prompt(&self) -> bool {
        self.text_encoder.is_some()
    }

    /// Channels, height and width of the sample that the loop works on.
    pub fn sample_shape(&self) -> seed::SampleShape {
        self.unet.sample_shape()
    }

    /// The scheduler of a request that names none: the model's own, or DDIM when the model was
    /// published with one that this service does not have.
    pub fn default_scheduler(&self) -> SchedulerKind {
        match self.scheduler_config.kind() {
            Some(kind) if SchedulerKind::GENERATIVE.contains(&kind) => kind,
            _ => SchedulerKind::Ddim,
        }
    }

    /// Makes the images of a request, one after another. `on_progress` is called after every step
    /// and may stop the request.
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
        refuse_unserved(request)?;
        let plan = self.plan(request)?;
        self.take_timings();
        let started = Instant::now();
        let (conditioning, truncated_prompt) = self.condition(request)?;
        let mut images = Vec::with_capacity(plan.images);
        let mut latents = Vec::with_capacity(plan.images);
        let mut previews = Vec::new();
        for image_index in 0..plan.images {
            let run = ImageRun {
                plan: &plan,
                request,
                conditioning: &conditioning,
                image_index,
            };
            let last = self.denoise_image(&run, &mut previews, on_progress)?;
            let picture = self.decode_image(last.view(), image_index)?;
            images.push(GeneratedImage {
                width: picture.width,
                height: picture.height,
                rgb: picture.rgb,
                seed: request.seeds.get(image_index).copied(),
            });
            latents.push(last);
        }
        let mut timings = self.take_timings();
        timings.loop_ms = milliseconds(started.elapsed());
        let views: Vec<ArrayView4<'_, f32>> = latents.iter().map(|sample| sample.view()).collect();
        Ok(Generation {
            images,
            latents: concatenate(Axis(0), &views).expect("all samples have one shape"),
            truncated_prompt,
            scheduler: plan.scheduler,
            timings,
            previews,
        })
    }

    /// Checks a request against the model before any work is done.
    fn plan(&self, request: &GenerateRequest) -> Result<Plan, OnnxError> {
        let scheduler = request
            .scheduler
            .unwrap_or_else(|| self.default_scheduler());
        if !SchedulerKind::GENERATIVE.contains(&scheduler) {
            return Err(OnnxError::request(format!(
                "{scheduler} does not lead to an image; choose one of {}",
                SchedulerKind::GENERATIVE
                    .map(SchedulerKind::name)
                    .join(", ")
            )));
        }
        let steps = request.steps as usize;
        // Built once here so that impossible steps are refused before the text encoder runs.
        let config = SigmaSpread::applied(request.sigmas, &self.scheduler_config);
        let planned = config.scheduler(scheduler, steps)?;
        if !request.guidance_scale.is_finite()
            || !(0.0..=GUIDANCE_SCALE_MAX).contains(&request.guidance_scale)
        {
            return Err(OnnxError::request(format!(
                "guidance_scale {} is outside 0..={GUIDANCE_SCALE_MAX}",
                request.guidance_scale
            )));
        }
        if self.text_encoder.is_none()
            && (request.prompt.is_some() || request.negative_prompt.is_some())
        {
            return Err(OnnxError::request("this model takes no prompt"));
        }
        if self.text_encoder.is_some() && request.prompt.is_none() {
            return Err(OnnxError::request("this model needs a prompt"));
        }
        Ok(Plan {
            images: self.plan_images(request)?,
            scheduler,
            steps,
            preview_indices: preview_indices(planned.timesteps().len(), request.preview_steps),
        })
    }

    fn plan_images(&self, request: &GenerateRequest) -> Result<usize, OnnxError> {
        let images = match &request.latents {
            None => request.seeds.len(),
            Some(latents) => {
                self.refuse_latents(latents)?;
                if !request.seeds.is_empty() {
                    return Err(OnnxError::request(
                        "seeds and latents exclude each other: the latents are used as they are",
                    ));
                }
                latents.dim().0
            }
        };
        if (1..=IMAGES_MAX).contains(&images) {
            return Ok(images);
        }
        Err(OnnxError::request(format!(
            "{images} images; between 1 and {IMAGES_MAX} are possible"
        )))
    }

    fn refuse_latents(&self, latents: &Array4<f32>) -> Result<(), OnnxError> {
        let (_, channels, height, width) = latents.dim();
        let expected = self.unet.sample_shape().0;
        let sides = 1..=LATENT_SIDE_MAX;
        if channels != expected || !sides.contains(&height) || !sides.contains(&width) {
            return Err(OnnxError::request(format!(
                "latents of shape {:?}; expected (images, {expected}, height, width) with sides \
                 of 1 to {LATENT_SIDE_MAX}",
                latents.shape()
            )));
        }
        if latents.iter().any(|value| !value.is_finite()) {
            return Err(OnnxError::request(
                "latents hold a value that is not finite",
            ));
        }
        Ok(())
    }

    /// Runs the text encoder on the prompt and, under guidance, on the negative prompt.
    fn condition(
        &mut self,
        request: &GenerateRequest,
    ) -> Result<(Conditioning, Option<TruncatedPrompt>), OnnxError> {
        let Some(text_encoder) = &mut self.text_encoder else {
            return Ok((Conditioning::None, None));
        };
        let prompt = request.prompt.as_deref().unwrap_or_default();
        let (conditional, truncated) = text_encoder.encode(prompt)?;
        if !guidance::is_guided(request.guidance_scale) {
            return Ok((Conditioning::Prompt(conditional), truncated));
        }
        let negative = request.negative_prompt.as_deref().unwrap_or_default();
        let (unconditional, _) = text_encoder.encode(negative)?;
        let scale = request.guidance_scale;
        let conditioning = Conditioning::guided(&unconditional, &conditional, scale)?;
        Ok((conditioning, truncated))
    }

    /// Runs the loop for one image, in a batch of its own.
    fn denoise_image(
        &mut self,
        run: &ImageRun<'_>,
        previews: &mut Vec<Preview>,
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Array4<f32>, OnnxError> {
        let plan = run.plan;
        let config = SigmaSpread::applied(run.request.sigmas, &self.scheduler_config);
        let mut scheduler = config.scheduler(plan.scheduler, plan.steps)?;
        // One stream per image: the starting noise first, then that of random steps. Starting
        // samples that a caller brings have no seed; random steps then draw from the image's place.
        let stream_seed = match run.request.seeds.get(run.image_index) {
            Some(&image_seed) => image_seed,
            None => run.image_index as u64,
        };
        let mut noise = seed::noise_source(run.request.noise, &[stream_seed]);
        let sample = match &run.request.latents {
            Some(latents) => latents
                .view()
                .split_at(Axis(0), run.image_index)
                .1
                .split_at(Axis(0), 1)
                .0
                .to_owned(),
            None => {
                let (channels, height, width) = self.unet.sample_shape();
                let shape = (1, channels, height, width);
                noise.normals(shape) * scheduler.init_noise_sigma() as f32
            }
        };
        let mut predictor = ConditionedUnet {
            unet: &mut self.unet,
            conditioning: run.conditioning,
        };
        let decoder = &mut self.decoder;
        let mut preview_error = None;
        let result = denoise(
            &mut predictor,
            scheduler.as_mut(),
            sample,
            noise.as_mut(),
            &mut |report: StepReport<'_>| {
                let preview = match run.preview(&report, decoder) {
                    Ok(preview) => preview,
                    Err(error) => {
                        preview_error = Some(error);
                        return ControlFlow::Break(());
                    }
                };
                previews.extend(preview.clone());
                on_progress(Progress {
                    image_index: run.image_index,
                    images: plan.images,
                    step_index: report.step_index,
                    steps: report.steps,
                    preview,
                })
            },
        );
        match preview_error {
            Some(error) => Err(error),
            None => result,
        }
    }

    /// Decodes a last sample and refuses what must not be handed out.
    fn decode_image(
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
            .text_encoder
            .as_mut()
            .map_or(Duration::ZERO, TextEncoder::take_session_time);
        let unet = self.unet.take_session_time();
        let decoder = self
            .decoder
            .as_mut()
            .map_or(Duration::ZERO, VaeDecoder::take_session_time);
        Timings {
            loop_ms: 0.0,
            session_ms: milliseconds(text_encoder + unet + decoder),
            text_encoder_ms: milliseconds(text_encoder),
            unet_ms: milliseconds(unet),
            vae_decoder_ms: milliseconds(decoder),
        }
    }
}

/// A checked request.
struct Plan {
    images: usize,
    scheduler: SchedulerKind,
    steps: usize,
    /// Step indices after which a preview is decoded.
    preview_indices: Vec<usize>,
}

/// One image of a checked request.
struct ImageRun<'a> {
    plan: &'a Plan,
    request: &'a GenerateRequest,
    conditioning: &'a Conditioning,
    image_index: usize,
}

impl ImageRun<'_> {
    fn preview(
        &self,
        report: &StepReport<'_>,
        decoder: &mut Option<VaeDecoder>,
    ) -> Result<Option<Preview>, OnnxError> {
        if !self.plan.preview_indices.contains(&report.step_index) {
            return Ok(None);
        }
        let sample = decode(decoder, report.pred_original_sample.view())?;
        Ok(Some(Preview {
            image_index: self.image_index,
            step_index: report.step_index,
            picture: pixels::picture("vae_decoder", sample.view())?,
        }))
    }
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

fn refuse_contradiction(folder: &ModelFolder, unet: &Unet) -> Result<(), OnnxError> {
    if folder.is_unconditional() && unet.is_conditional() {
        return Err(OnnxError::folder(
            &folder.root().join("model_index.json"),
            "an unconditional pipeline whose unet takes encoder_hidden_states",
        ));
    }
    Ok(())
}

/// Settings that no pipeline serves yet.
fn refuse_unserved(request: &GenerateRequest) -> Result<(), OnnxError> {
    let unserved = [
        ("init_image", request.init_image.is_some()),
        ("mask", request.mask.is_some()),
        ("class_label", request.class_label.is_some()),
        ("size", request.size.is_some()),
        ("eta", request.eta != 0.0),
        ("timesteps", request.timesteps.is_some()),
        ("guidance_interval", request.guidance_interval.is_some()),
        ("reuse", !request.reuse.is_empty()),
        ("prompt_weights", request.prompt_weights),
    ];
    match unserved.iter().find(|(_, is_asked)| *is_asked) {
        None => Ok(()),
        Some((name, _)) => Err(OnnxError::request(format!("{name} is not served"))),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
