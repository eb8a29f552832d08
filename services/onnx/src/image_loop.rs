//! The denoising loop of one batch of images, with progress and previews.

use std::ops::ControlFlow;

use diffusion::{StepReport, denoise, seed};
use ndarray::{Array4, ArrayView4, Axis, Slice};

use crate::conditioning::Conditioning;
use crate::denoiser::ConditionedDenoiser;
use crate::error::OnnxError;
use crate::generator::{Generator, decode};
use crate::pixels;
use crate::plan::Plan;
use crate::request::{GenerateRequest, Preview, Progress};
use crate::start::{Draw, KeepingScheduler};
use crate::vae::VaeDecoder;

/// Some images of a checked request.
pub(crate) struct Batch<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) request: &'a GenerateRequest,
    pub(crate) conditioning: &'a Conditioning,
    /// Place of the first image in the request.
    pub(crate) first: usize,
    /// Images of the batch.
    pub(crate) rows: usize,
}

impl Batch<'_> {
    /// One stream per image: the starting noise first, then that of random steps. Starting samples
    /// that a caller brings have no seed; random steps then draw from the image's place.
    fn stream_seeds(&self) -> Vec<u64> {
        (self.first..self.first + self.rows)
            .map(|index| {
                let own = self.request.seeds.get(index);
                own.copied().unwrap_or(index as u64)
            })
            .collect()
    }

    fn given(&self) -> Option<ArrayView4<'_, f32>> {
        let rows = Slice::from(self.first..self.first + self.rows);
        let latents = self.request.latents.as_ref();
        latents.map(|latents| latents.slice_axis(Axis(0), rows))
    }

    /// Tells the caller about each image of the batch, with its preview where one is due.
    fn tell(
        &self,
        report: &StepReport<'_>,
        decoder: &mut Option<VaeDecoder>,
        told: &mut Told<'_>,
    ) -> Result<ControlFlow<()>, OnnxError> {
        let is_previewed = self.plan.preview_indices.contains(&report.step_index);
        for row in 0..self.rows {
            let preview = if is_previewed {
                let guess = row_of(report.pred_original_sample, row);
                let sample = decode(decoder, guess)?;
                Some(Preview {
                    image_index: self.first + row,
                    step_index: report.step_index,
                    picture: pixels::picture("vae_decoder", sample.view())?,
                })
            } else {
                None
            };
            told.previews.extend(preview.clone());
            let flow = (told.on_progress)(Progress {
                image_index: self.first + row,
                images: self.plan.images,
                step_index: report.step_index,
                steps: report.steps,
                preview,
            });
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Where the news of a loop goes.
pub(crate) struct Told<'a> {
    pub(crate) previews: &'a mut Vec<Preview>,
    pub(crate) on_progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Generator {
    /// Runs the loop for the images of a batch: their last samples.
    pub(crate) fn denoise_batch(
        &mut self,
        batch: &Batch<'_>,
        told: &mut Told<'_>,
    ) -> Result<Array4<f32>, OnnxError> {
        let mut scheduler = batch.plan.schedule.scheduler()?;
        let mut noise = seed::noise_source(batch.request.noise, &batch.stream_seeds());
        let mut draw = Draw {
            rows: batch.rows,
            source: noise.as_mut(),
            given: batch.given(),
        };
        let asked = (batch.request, batch.plan);
        let start = self.start(asked, scheduler.as_ref(), &mut draw)?;
        let mut predictor = ConditionedDenoiser::new(&mut self.denoiser, batch.conditioning)
            .with_plan(batch.plan.evaluations.clone())
            .with_beside(start.beside);
        let decoder = &mut self.decoder;
        let mut tell_error = None;
        let mut on_step = |report: StepReport<'_>| match batch.tell(&report, decoder, told) {
            Ok(flow) => flow,
            Err(error) => {
                tell_error = Some(error);
                ControlFlow::Break(())
            }
        };
        let sample = start.sample;
        let result = match &start.kept {
            Some(kept) => {
                let inner = scheduler.as_mut();
                let mut keeping = KeepingScheduler { inner, kept };
                denoise(
                    &mut predictor,
                    &mut keeping,
                    sample,
                    noise.as_mut(),
                    &mut on_step,
                )
            }
            None => denoise(
                &mut predictor,
                scheduler.as_mut(),
                sample,
                noise.as_mut(),
                &mut on_step,
            ),
        };
        match tell_error {
            Some(error) => Err(error),
            None => result,
        }
    }
}

/// One image of a batch, shape (1, channels, height, width).
pub(crate) fn row_of(samples: &Array4<f32>, row: usize) -> ArrayView4<'_, f32> {
    samples.slice_axis(Axis(0), Slice::from(row..=row))
}
