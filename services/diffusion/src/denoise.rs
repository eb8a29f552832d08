//! The loop of the reverse process.

use std::ops::ControlFlow;

use ndarray::{Array4, ArrayView4, CowArray, Ix4};

use crate::error::DiffusionError;
use crate::scheduler::Scheduler;
use crate::seed::NoiseSource;

/// A model that predicts noise (or whatever the schedule's `prediction_type` says) from a noisy
/// sample. Classifier-free guidance happens inside.
pub trait NoisePredictor {
    /// What goes wrong inside the model.
    type Error;

    /// Predicts for a sample of shape (batch, channels, height, width), already scaled by the
    /// scheduler, at `timestep` on the training scale. The answer has the sample's shape.
    ///
    /// # Errors
    /// Whatever the model says.
    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timestep: f64,
    ) -> Result<Array4<f32>, Self::Error>;
}

/// What the callback of a loop sees after each step.
#[derive(Debug)]
pub struct StepReport<'a> {
    /// Loop counter of the model evaluation just done, from 0; evaluations that were left out by
    /// [`Scheduler::skip`] do not count.
    pub step_index: usize,
    /// Number of model evaluations of the whole loop.
    pub steps: usize,
    /// Timestep on the training scale at which the model was asked.
    pub timestep: f64,
    /// The model's output, guidance included.
    pub noise_pred: &'a Array4<f32>,
    /// The sample after the step.
    pub sample: &'a Array4<f32>,
    /// The model's guess of the noise-free sample.
    pub pred_original_sample: &'a Array4<f32>,
}

/// A reverse process that goes on one model evaluation at a time, so that several can share the
/// evaluations of one model.
///
/// `sample` is taken as it is: scale noise by [`Scheduler::init_noise_sigma`] first, or make a noisy
/// sample by [`Scheduler::add_noise`]. Random steps draw from `noise`.
pub struct ReverseProcess<'a> {
    scheduler: &'a mut dyn Scheduler,
    noise: &'a mut dyn NoiseSource,
    sample: Array4<f32>,
    timesteps: Vec<f64>,
    first: usize,
    /// Loop counter of the evaluation that comes next.
    next: usize,
}

impl<'a> ReverseProcess<'a> {
    /// The process before its first evaluation, at [`Scheduler::first_step`].
    pub fn new(
        scheduler: &'a mut dyn Scheduler,
        noise: &'a mut dyn NoiseSource,
        sample: Array4<f32>,
    ) -> Self {
        let timesteps = scheduler.timesteps().to_vec();
        let first = scheduler.first_step().min(timesteps.len());
        Self {
            scheduler,
            noise,
            sample,
            timesteps,
            first,
            next: first,
        }
    }

    /// What the model is asked next: the sample, scaled for it, and the timestep on the training
    /// scale. `None` after the last evaluation.
    pub fn model_input(&self) -> Option<(CowArray<'_, f32, Ix4>, f64)> {
        let timestep = *self.timesteps.get(self.next)?;
        let scale = self.scheduler.model_input_scale(self.next);
        #[expect(
            clippy::float_cmp,
            reason = "exactly one means that no scaling is wanted"
        )]
        let input = if scale == 1.0 {
            self.sample.view().into()
        } else {
            (&self.sample * scale as f32).into()
        };
        Some((input, timestep))
    }

    /// Takes the model's answer to [`ReverseProcess::model_input`] and goes a step on. `on_step` may
    /// stop the process.
    ///
    /// # Errors
    /// A value that is not finite, an answer of another shape, the cancellation by `on_step`, and an
    /// answer after the last evaluation.
    pub fn advance(
        &mut self,
        noise_pred: &Array4<f32>,
        on_step: &mut dyn FnMut(StepReport<'_>) -> ControlFlow<()>,
    ) -> Result<(), DiffusionError> {
        let step_index = self.next;
        let steps = self.timesteps.len();
        let timestep = *self
            .timesteps
            .get(step_index)
            .ok_or(DiffusionError::StepIndex {
                step_index,
                steps,
                next: steps,
            })?;
        refuse_not_finite("model output", noise_pred, step_index, timestep)?;
        let (output, sample) = (noise_pred.view(), self.sample.view());
        let output = self
            .scheduler
            .step(step_index, output, sample, self.noise)?;
        self.sample = output.prev_sample;
        refuse_not_finite("sample", &self.sample, step_index, timestep)?;
        self.next += 1;
        let step_index = step_index - self.first;
        let report = StepReport {
            step_index,
            steps: steps - self.first,
            timestep,
            noise_pred,
            sample: &self.sample,
            pred_original_sample: &output.pred_original_sample,
        };
        if on_step(report).is_break() {
            return Err(DiffusionError::Cancelled { step_index });
        }
        Ok(())
    }

    /// The sample as it is now.
    pub fn into_sample(self) -> Array4<f32> {
        self.sample
    }
}

/// Runs `scheduler` from `sample` to its last timestep, see [`ReverseProcess`]. `on_step` is called
/// after every model evaluation and may stop the loop.
///
/// # Errors
/// The predictor's own errors, and through `From<DiffusionError>`: a value that is not finite, a
/// cancelled loop, a model output of another shape.
#[expect(
    clippy::too_many_arguments,
    reason = "model, scheduler, start, randomness and progress are five subjects, not one"
)]
pub fn denoise<P>(
    predictor: &mut P,
    scheduler: &mut dyn Scheduler,
    sample: Array4<f32>,
    noise: &mut dyn NoiseSource,
    on_step: &mut dyn FnMut(StepReport<'_>) -> ControlFlow<()>,
) -> Result<Array4<f32>, P::Error>
where
    P: NoisePredictor + ?Sized,
    P::Error: From<DiffusionError>,
{
    let mut process = ReverseProcess::new(scheduler, noise, sample);
    while let Some((input, timestep)) = process.model_input() {
        let noise_pred = predictor.predict(input.view(), timestep)?;
        process.advance(&noise_pred, on_step)?;
    }
    Ok(process.into_sample())
}

fn refuse_not_finite(
    what: &'static str,
    array: &Array4<f32>,
    step_index: usize,
    timestep: f64,
) -> Result<(), DiffusionError> {
    // Without its sign, the bit pattern of a float grows with its magnitude; infinity comes first
    // above every finite number, and NaN above it. A maximum of integers is quick.
    let largest = array
        .iter()
        .fold(0, |largest: u32, value| largest.max(value.abs().to_bits()));
    if largest >= f32::INFINITY.to_bits() {
        return Err(DiffusionError::NotFinite {
            what,
            step_index,
            timestep,
        });
    }
    Ok(())
}
