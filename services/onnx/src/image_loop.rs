//! The denoising loop of a batch of images, of one request or of several, with progress and
//! previews.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use diffusion::seed::NoiseSource;
use diffusion::{ReverseProcess, Scheduler, StepReport, seed};
use ndarray::{Array4, ArrayView4, Axis, Slice};

use crate::conditioning::Conditioning;
use crate::error::OnnxError;
use crate::evaluation::{Evaluations, Row};
use crate::generator::{Generator, decode};
use crate::pixels;
use crate::plan::Plan;
use crate::request::{GenerateRequest, GeneratedImage, Preview, Progress, TruncatedPrompt, Usage};
use crate::start::{Draw, KeepingScheduler};
use crate::vae::VaeDecoder;

/// A request that the model can serve, with its prompt encoded.
pub(crate) struct Checked<'a> {
    pub(crate) request: &'a GenerateRequest,
    pub(crate) plan: Plan,
    /// Of each of its images.
    pub(crate) conditioning: Conditioning,
    pub(crate) truncated_prompt: Option<TruncatedPrompt>,
    pub(crate) usage: Usage,
}

impl Checked<'_> {
    /// Whether the images of both go through one loop.
    fn fits(&self, other: &Self) -> bool {
        self.request.loop_shape() == other.request.loop_shape()
            && self.plan.is_like(&other.plan)
            && self.conditioning.fits(&other.conditioning)
    }
}

/// What has come of a request so far.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) images: Vec<GeneratedImage>,
    pub(crate) latents: Vec<Array4<f32>>,
    pub(crate) previews: Vec<Preview>,
    /// Why nothing more will come.
    pub(crate) error: Option<OnnxError>,
    evaluations_done: usize,
}

/// The image of a request that is to be made.
#[derive(Clone, Copy)]
pub(crate) struct Seat<'a> {
    checked: &'a Checked<'a>,
    /// Place of the request among those that came together.
    request_index: usize,
    image_index: usize,
}

/// The images of all requests, in order.
pub(crate) fn seats<'a>(checked: &'a [Result<Checked<'a>, OnnxError>]) -> VecDeque<Seat<'a>> {
    let good = checked.iter().enumerate();
    let good = good.filter_map(|(place, checked)| Some((place, checked.as_ref().ok()?)));
    let seats = good.flat_map(|(request_index, checked)| {
        (0..checked.plan.images).map(move |image_index| Seat {
            checked,
            request_index,
            image_index,
        })
    });
    seats.collect()
}

/// Takes the first image and what fits it, `images_max` at most.
pub(crate) fn next_batch<'a>(
    seats: &mut VecDeque<Seat<'a>>,
    outcomes: &[Outcome],
    images_max: usize,
) -> Vec<Seat<'a>> {
    seats.retain(|seat| outcomes[seat.request_index].error.is_none());
    let Some(leader) = seats.pop_front() else {
        return Vec::new();
    };
    let mut batch = vec![leader];
    seats.retain(|seat| {
        let is_taken = batch.len() < images_max && seat.checked.fits(leader.checked);
        if is_taken {
            batch.push(*seat);
        }
        !is_taken
    });
    batch
}

/// Where the news of a loop goes.
pub(crate) struct Told<'a> {
    pub(crate) outcomes: &'a mut [Outcome],
    /// Called with the place of the request.
    pub(crate) on_progress: &'a mut dyn FnMut(usize, Progress) -> ControlFlow<()>,
}

impl Told<'_> {
    fn has_failed(&self, seat: Seat<'_>) -> bool {
        self.outcomes[seat.request_index].error.is_some()
    }

    /// Gives up the request of an image; the first reason counts.
    fn fail(&mut self, seat: Seat<'_>, error: OnnxError) {
        self.outcomes[seat.request_index].error.get_or_insert(error);
    }

    /// Tells the caller about a step of an image, with its preview where one is due.
    fn step(
        &mut self,
        seat: Seat<'_>,
        report: &StepReport<'_>,
        decoder: &mut Option<VaeDecoder>,
    ) -> Result<ControlFlow<()>, OnnxError> {
        let plan = &seat.checked.plan;
        let preview = if plan.preview_indices.contains(&report.step_index) {
            let sample = decode(decoder, report.pred_original_sample.view())?;
            Some(Preview {
                image_index: seat.image_index,
                step_index: report.step_index,
                picture: pixels::picture("vae_decoder", sample.view())?,
            })
        } else {
            None
        };
        let outcome = &mut self.outcomes[seat.request_index];
        outcome.previews.extend(preview.clone());
        outcome.evaluations_done += 1;
        let progress = Progress {
            image_index: seat.image_index,
            images: plan.images,
            step_index: report.step_index,
            steps: report.steps,
            evaluations_done: outcome.evaluations_done,
            preview,
        };
        Ok((self.on_progress)(seat.request_index, progress))
    }
}

/// What an image starts with.
struct Started {
    scheduler: Box<dyn Scheduler>,
    noise: Box<dyn NoiseSource>,
    sample: Array4<f32>,
    beside: Option<Array4<f32>>,
}

/// An image in the loop.
struct Running<'a> {
    seat: Seat<'a>,
    process: ReverseProcess<'a>,
}

impl Generator {
    /// Makes the images of a batch. What fails or is stopped takes its own request out of the batch;
    /// the others go on.
    pub(crate) fn run_batch(&mut self, batch: &[Seat<'_>], told: &mut Told<'_>) {
        let mut started = Vec::with_capacity(batch.len());
        for &seat in batch {
            match self.start_image(seat) {
                Ok(start) => started.push((seat, start)),
                Err(error) => told.fail(seat, error),
            }
        }
        started.retain(|(seat, _)| !told.has_failed(*seat));
        let mut rows = Vec::with_capacity(started.len());
        let mut running = Vec::with_capacity(started.len());
        for (seat, start) in &mut started {
            let sample = std::mem::take(&mut start.sample);
            let (scheduler, noise) = (start.scheduler.as_mut(), start.noise.as_mut());
            let process = ReverseProcess::new(scheduler, noise, sample);
            rows.push(Row::new(&seat.checked.conditioning, start.beside.take()));
            running.push(Running {
                seat: *seat,
                process,
            });
        }
        self.denoise_batch(rows, &mut running, told);
        for Running { seat, process } in running {
            let last = process.into_sample();
            match self.decode_image(last.view(), seat.image_index) {
                Ok(picture) => {
                    let outcome = &mut told.outcomes[seat.request_index];
                    outcome.images.push(GeneratedImage {
                        width: picture.width,
                        height: picture.height,
                        rgb: picture.rgb,
                        seed: seat.checked.request.seeds.get(seat.image_index).copied(),
                    });
                    outcome.latents.push(last);
                }
                Err(error) => told.fail(seat, error),
            }
        }
    }

    /// Runs the loop of all images in step; those that fail leave it.
    fn denoise_batch(
        &mut self,
        rows: Vec<Row<'_>>,
        running: &mut Vec<Running<'_>>,
        told: &mut Told<'_>,
    ) {
        let Some(leader) = running.first() else {
            return;
        };
        let plan = &leader.seat.checked.plan.evaluations;
        let mut evaluations = Evaluations::new(&mut self.denoiser, plan, rows);
        let decoder = &mut self.decoder;
        while !running.is_empty() {
            let inputs: Option<Vec<_>> = running
                .iter()
                .map(|image| image.process.model_input())
                .collect();
            // Images of one batch have one schedule: all of them are at its end at once.
            let Some(inputs) = inputs else { return };
            let timestep = inputs[0].1;
            let samples: Vec<ArrayView4<'_, f32>> =
                inputs.iter().map(|(sample, _)| sample.view()).collect();
            let answers = evaluations.next(&samples, timestep);
            drop(samples);
            drop(inputs);
            for (image, answer) in running.iter_mut().zip(answers) {
                if !told.has_failed(image.seat) {
                    let advanced = answer.and_then(|answer| image.advance(&answer, decoder, told));
                    if let Err(error) = advanced {
                        told.fail(image.seat, error);
                    }
                }
            }
            let kept: Vec<bool> = running
                .iter()
                .map(|image| !told.has_failed(image.seat))
                .collect();
            if kept.contains(&false) {
                evaluations.retain(&kept);
                running.retain(|image| !told.has_failed(image.seat));
            }
        }
    }

    /// Scheduler, stream and first sample of an image. A stream gives the starting noise first, where
    /// no mark stands in its place, then that of random steps. Starting samples that a caller brings have no seed; random steps then
    /// draw from the image's place.
    fn start_image(&mut self, seat: Seat<'_>) -> Result<Started, OnnxError> {
        let Seat {
            checked: Checked { request, plan, .. },
            image_index,
            ..
        } = seat;
        let scheduler = plan.schedule.scheduler()?;
        let own_seed = request.seeds.get(image_index).copied();
        let seed = own_seed.unwrap_or(image_index as u64);
        let mut noise = seed::noise_source(request.noise, &[seed]);
        let latents = request.latents.as_ref();
        let mut draw = Draw {
            source: noise.as_mut(),
            given: latents
                .map(|latents| latents.slice_axis(Axis(0), Slice::from(image_index..=image_index))),
            mark: request
                .watermark
                .as_ref()
                .map(|watermark| (&watermark.key, watermark.ids[image_index])),
        };
        let start = self.start((request, plan), scheduler.as_ref(), &mut draw)?;
        let scheduler = match start.kept {
            Some(kept) => Box::new(KeepingScheduler {
                inner: scheduler,
                kept,
            }),
            None => scheduler,
        };
        Ok(Started {
            scheduler,
            noise,
            sample: start.sample,
            beside: start.beside,
        })
    }
}

impl Running<'_> {
    /// Goes a step on with the model's answer, and tells of it.
    fn advance(
        &mut self,
        answer: &Array4<f32>,
        decoder: &mut Option<VaeDecoder>,
        told: &mut Told<'_>,
    ) -> Result<(), OnnxError> {
        let seat = self.seat;
        let mut tell_error = None;
        let advanced = self.process.advance(answer, &mut |report| match told
            .step(seat, &report, decoder)
        {
            Ok(flow) => flow,
            Err(error) => {
                tell_error = Some(error);
                ControlFlow::Break(())
            }
        });
        match tell_error {
            Some(error) => Err(error),
            None => Ok(advanced?),
        }
    }
}
