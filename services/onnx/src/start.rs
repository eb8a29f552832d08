//! Where the loop starts: noise, or a picture with noise on it, and what a mask keeps.

use diffusion::scheduler::NoiseLevel;
use diffusion::seed::NoiseSource;
use diffusion::{DiffusionError, Scheduler, SchedulerKind, StepOutput, WatermarkId, WatermarkKey};
use ndarray::{Array4, ArrayView4, Axis, CowArray, Ix4, Zip, concatenate};

use crate::error::OnnxError;
use crate::generator::Generator;
use crate::pixels;
use crate::plan::{Plan, refuse_buffer, refuse_picture};
use crate::request::{GenerateRequest, Mask, MaskFill, Task};

/// The first sample of the loop and what the mask asks for.
pub(crate) struct Start {
    /// Shape (1, channels, height, width).
    pub(crate) sample: Array4<f32>,
    /// What goes into the model beside the sample.
    pub(crate) beside: Option<Array4<f32>>,
    /// What is kept of the picture, for models that do not take the mask themselves.
    pub(crate) kept: Option<Kept>,
}

/// The picture under a mask, as the loop mixes it in.
pub(crate) struct Kept {
    /// 1 where the picture is repainted; shape (1, 1, height, width).
    mask: Array4<f32>,
    /// Latents of the picture.
    original: Array4<f32>,
    /// The noise that goes onto them.
    noise: Array4<f32>,
}

impl Generator {
    /// The start of one image.
    ///
    /// Random numbers are drawn in the order of the reference pipelines: the latents of the
    /// picture, the starting noise, the latents of the masked picture.
    pub(crate) fn start(
        &mut self,
        (request, plan): (&GenerateRequest, &Plan),
        scheduler: &dyn Scheduler,
        draw: &mut Draw<'_>,
    ) -> Result<Start, OnnxError> {
        let Some(picture) = &request.init_image else {
            let sigma = scheduler.init_noise_sigma() as f32;
            let sample = match draw.given {
                Some(given) => given.to_owned(),
                None => draw.marked_noise(plan)? * sigma,
            };
            return Ok(Start {
                sample,
                beside: None,
                kept: None,
            });
        };
        refuse_picture("init_image", picture)?;
        let (width, height) = plan.picture_size;
        let picture = if (picture.width, picture.height) == (width, height) {
            pixels::sample(picture)
        } else {
            pixels::sample(&pixels::resize(picture, width, height))
        };
        let mask = request
            .mask
            .as_ref()
            .map(|mask| fit_mask(mask, plan))
            .transpose()?;
        #[expect(
            clippy::float_cmp,
            reason = "exactly one means pure noise, as in the reference"
        )]
        let from_noise = plan.task == Task::Inpainting && request.strength == 1.0;
        let takes_mask = self.denoiser.is_inpainting();
        let original = if from_noise && takes_mask {
            None
        } else {
            Some(self.latents_of(picture.view(), draw)?)
        };
        let noise = draw.noise(plan);
        let sample = match &original {
            Some(original) if !from_noise => {
                let under = mask.as_ref().map(|(_, latent_mask)| latent_mask);
                let begin = fill(original, &noise, (under, request.mask_fill));
                scheduler.add_noise(begin.view(), noise.view(), scheduler.first_step())?
            }
            _ => &noise * scheduler.init_noise_sigma() as f32,
        };
        let Some((pixel_mask, latent_mask)) = mask else {
            return Ok(Start {
                sample,
                beside: None,
                kept: None,
            });
        };
        if takes_mask {
            let masked = Zip::from(&picture)
                .and_broadcast(&pixel_mask)
                .map_collect(|&value, &mask| if mask > 0.0 { 0.0 } else { value });
            let masked = self.latents_of(masked.view(), draw)?;
            let beside = concatenate(Axis(1), &[latent_mask.view(), masked.view()])
                .expect("the mask was fitted to the latents");
            return Ok(Start {
                sample,
                beside: Some(beside),
                kept: None,
            });
        }
        let kept = original.map(|original| Kept {
            mask: latent_mask,
            original,
            noise,
        });
        Ok(Start {
            sample,
            beside: None,
            kept,
        })
    }

    /// The scaled latents of a picture of shape (1, 3, height, width). They are drawn from the
    /// encoder's distribution where it gives one, and are its means where the caller brought the
    /// noise. Models without an autoencoder work on the picture itself.
    fn latents_of(
        &mut self,
        picture: ArrayView4<'_, f32>,
        draw: &mut Draw<'_>,
    ) -> Result<Array4<f32>, OnnxError> {
        let channels = self.sample_shape().0;
        let Some(encoder) = &mut self.encoder else {
            return Ok(picture.to_owned());
        };
        let posterior = encoder.posterior(picture, channels)?;
        match posterior.deviation {
            Some(deviation) if draw.given.is_none() => {
                let mut latents = draw.source.normals(posterior.mean.dim());
                latents *= &deviation;
                latents += &posterior.mean;
                Ok(encoder.scale(&latents))
            }
            _ => Ok(encoder.scale(&posterior.mean)),
        }
    }
}

/// Where the numbers of an image come from.
pub(crate) struct Draw<'a> {
    /// The image's stream.
    pub(crate) source: &'a mut dyn NoiseSource,
    /// The caller's own starting sample; of a request with a picture, the noise on it.
    pub(crate) given: Option<ArrayView4<'a, f32>>,
    /// The mark in the starting noise of an image that starts from noise alone.
    pub(crate) mark: Option<(&'a WatermarkKey, WatermarkId)>,
}

impl Draw<'_> {
    fn marked_noise(&mut self, plan: &Plan) -> Result<Array4<f32>, OnnxError> {
        match self.mark {
            Some((key, id)) => Ok(key.noise(id, plan.shape)?),
            None => Ok(self.noise(plan)),
        }
    }

    fn noise(&mut self, plan: &Plan) -> Array4<f32> {
        match self.given {
            Some(given) => given.to_owned(),
            None => {
                let (channels, height, width) = plan.shape;
                self.source.normals((1, channels, height, width))
            }
        }
    }
}

/// The latents of a picture, those under the mask replaced as asked. The noise for that is the one that the image
/// starts with: A1111's web interface draws both from one seed.
fn fill<'a>(
    original: &'a Array4<f32>,
    noise: &Array4<f32>,
    (mask, how): (Option<&Array4<f32>>, MaskFill),
) -> CowArray<'a, f32, Ix4> {
    let Some(mask) = mask.filter(|_| how != MaskFill::Picture) else {
        return original.into();
    };
    let mut filled = original.clone();
    Zip::from(&mut filled)
        .and(noise)
        .and_broadcast(mask)
        .for_each(|value, &noise, &mask| {
            let under = if how == MaskFill::Noise { noise } else { 0.0 };
            *value = (1.0 - mask) * *value + mask * under;
        });
    filled.into()
}

/// The mask at the size of the pictures and at that of the latents, each of shape (1, 1, height,
/// width): 1 where the picture is repainted. Both take the nearest pixel to the left and above, as
/// the reference does.
fn fit_mask(mask: &Mask, plan: &Plan) -> Result<(Array4<f32>, Array4<f32>), OnnxError> {
    refuse_buffer("mask", (mask.width, mask.height), mask.luma.len(), 1)?;
    let (width, height) = (mask.width as usize, mask.height as usize);
    let pixel_sides = (plan.picture_size.1 as usize, plan.picture_size.0 as usize);
    let pixel = Array4::from_shape_fn((1, 1, pixel_sides.0, pixel_sides.1), |(_, _, y, x)| {
        let (y, x) = (y * height / pixel_sides.0, x * width / pixel_sides.1);
        f32::from(u8::from(mask.luma[y * width + x] > 127))
    });
    let (_, rows, columns) = plan.shape;
    let latent = Array4::from_shape_fn((1, 1, rows, columns), |(_, _, y, x)| {
        pixel[[0, 0, y * pixel_sides.0 / rows, x * pixel_sides.1 / columns]]
    });
    Ok((pixel, latent))
}

/// A scheduler that puts back what a mask keeps after every step, at the noise level of the step
/// that comes next (Lugmayr et al. 2022, arXiv 2201.09865, equation 8).
pub(crate) struct KeepingScheduler {
    pub(crate) inner: Box<dyn Scheduler>,
    pub(crate) kept: Kept,
}

impl Scheduler for KeepingScheduler {
    fn kind(&self) -> SchedulerKind {
        self.inner.kind()
    }

    fn timesteps(&self) -> &[f64] {
        self.inner.timesteps()
    }

    fn sigmas(&self) -> &[f64] {
        self.inner.sigmas()
    }

    fn init_noise_sigma(&self) -> f64 {
        self.inner.init_noise_sigma()
    }

    fn evaluations_per_step(&self) -> usize {
        self.inner.evaluations_per_step()
    }

    fn model_input_scale(&self, step_index: usize) -> f64 {
        self.inner.model_input_scale(step_index)
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        self.inner.noise_level(step_index)
    }

    fn skip(&mut self, first: usize) -> Result<(), DiffusionError> {
        self.inner.skip(first)
    }

    fn first_step(&self) -> usize {
        self.inner.first_step()
    }

    fn step(
        &mut self,
        step_index: usize,
        model_output: ArrayView4<'_, f32>,
        sample: ArrayView4<'_, f32>,
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput, DiffusionError> {
        let mut output = self.inner.step(step_index, model_output, sample, noise)?;
        let next = step_index + 1;
        let noisy;
        let original = if next < self.inner.timesteps().len() {
            let (original, noise) = (self.kept.original.view(), self.kept.noise.view());
            noisy = self.inner.add_noise(original, noise, next)?;
            &noisy
        } else {
            &self.kept.original
        };
        Zip::from(&mut output.prev_sample)
            .and(original)
            .and_broadcast(&self.kept.mask)
            .for_each(|value, &original, &mask| {
                *value = (1.0 - mask) * original + mask * *value;
            });
        Ok(output)
    }
}
