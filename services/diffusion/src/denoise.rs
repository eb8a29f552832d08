//! The loop of the reverse process.

use std::ops::ControlFlow;

use ndarray::{Array4, ArrayView4};

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

/// Runs `scheduler` from `sample` to its last timestep, beginning at [`Scheduler::first_step`].
/// `sample` is taken as it is: scale noise by [`Scheduler::init_noise_sigma`] first, or make a noisy
/// sample by [`Scheduler::add_noise`]. Random steps draw from `noise`. `on_step` is called after
/// every model evaluation and may stop the loop.
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
    let timesteps = scheduler.timesteps().to_vec();
    let first = scheduler.first_step().min(timesteps.len());
    let mut sample = sample;
    for (step_index, &timestep) in timesteps.iter().enumerate().skip(first) {
        let scale = scheduler.model_input_scale(step_index);
        #[expect(
            clippy::float_cmp,
            reason = "exactly one means that no scaling is wanted"
        )]
        let noise_pred = if scale == 1.0 {
            predictor.predict(sample.view(), timestep)?
        } else {
            predictor.predict((&sample * scale as f32).view(), timestep)?
        };
        refuse_not_finite("model output", &noise_pred, step_index, timestep)?;
        let output = scheduler.step(step_index, noise_pred.view(), sample.view(), noise)?;
        sample = output.prev_sample;
        refuse_not_finite("sample", &sample, step_index, timestep)?;
        let report = StepReport {
            step_index: step_index - first,
            steps: timesteps.len() - first,
            timestep,
            noise_pred: &noise_pred,
            sample: &sample,
            pred_original_sample: &output.pred_original_sample,
        };
        if on_step(report).is_break() {
            return Err(DiffusionError::Cancelled {
                step_index: step_index - first,
            }
            .into());
        }
    }
    Ok(sample)
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
