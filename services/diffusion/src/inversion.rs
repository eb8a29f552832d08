//! Inversion and reconstruction: image to noise, and noise back to the image.
//!
//! Inversion integrates the probability-flow ODE of DDIM towards noise (Song, Meng and Ermon 2021,
//! arXiv 2010.02502, section 4.3); the record that it leaves is the trace.

use std::ops::ControlFlow;

use ndarray::Array4;

use crate::denoise::{NoisePredictor, StepReport, denoise};
use crate::error::DiffusionError;
use crate::scheduler::{Scheduler, SchedulerKind};
use crate::seed::NoNoise;

/// One step of a trace. The arrays have the sample's shape (batch, channels, height, width).
#[derive(Debug, Clone)]
pub struct TraceStep {
    /// Loop counter, from 0.
    pub step_index: usize,
    /// Timestep on the training scale at which the model was asked.
    pub timestep: f64,
    /// The model's output (noise, sample or v, as its `prediction_type` says).
    pub noise_pred: Array4<f32>,
    /// The model's guess of the noise-free sample.
    pub pred_original_sample: Array4<f32>,
    /// The sample after the step.
    pub sample: Array4<f32>,
}

/// The ordered per-timestep record of one inversion.
#[derive(Debug, Clone)]
pub struct Trace {
    /// What was inverted.
    pub original: Array4<f32>,
    /// One record per step, in the order of rising timesteps.
    pub steps: Vec<TraceStep>,
}

impl Trace {
    /// The noise that the inversion ended in (the original when there was no step).
    pub fn noise(&self) -> &Array4<f32> {
        self.steps
            .last()
            .map_or(&self.original, |step| &step.sample)
    }
}

/// Runs `scheduler`, which must be a [`SchedulerKind::DdimInverse`], from a noise-free sample to
/// noise and records every step. `on_step` may stop the loop.
///
/// # Errors
/// As [`denoise`], and [`DiffusionError::Unsupported`] for another scheduler.
pub fn invert<P>(
    predictor: &mut P,
    scheduler: &mut dyn Scheduler,
    original: Array4<f32>,
    on_step: &mut dyn FnMut(&TraceStep) -> ControlFlow<()>,
) -> Result<Trace, P::Error>
where
    P: NoisePredictor + ?Sized,
    P::Error: From<DiffusionError>,
{
    require(scheduler, SchedulerKind::DdimInverse)?;
    let mut steps = Vec::with_capacity(scheduler.timesteps().len());
    let start = original.clone();
    let mut record = |report: StepReport<'_>| {
        let step = TraceStep {
            step_index: report.step_index,
            timestep: report.timestep,
            noise_pred: report.noise_pred.clone(),
            pred_original_sample: report.pred_original_sample.clone(),
            sample: report.sample.clone(),
        };
        let flow = on_step(&step);
        steps.push(step);
        flow
    };
    denoise(predictor, scheduler, start, &mut NoNoise, &mut record)?;
    Ok(Trace { original, steps })
}

/// Runs `scheduler`, which must be a [`SchedulerKind::Ddim`] with as many steps as the inversion
/// had, from the noise of a trace back to a sample. `on_step` may stop the loop.
///
/// # Errors
/// As [`denoise`], and [`DiffusionError::Unsupported`] for another scheduler.
pub fn reconstruct<P>(
    predictor: &mut P,
    scheduler: &mut dyn Scheduler,
    trace: &Trace,
    on_step: &mut dyn FnMut(StepReport<'_>) -> ControlFlow<()>,
) -> Result<Array4<f32>, P::Error>
where
    P: NoisePredictor + ?Sized,
    P::Error: From<DiffusionError>,
{
    require(scheduler, SchedulerKind::Ddim)?;
    let noise = trace.noise().clone();
    denoise(predictor, scheduler, noise, &mut NoNoise, on_step)
}

fn require(scheduler: &dyn Scheduler, kind: SchedulerKind) -> Result<(), DiffusionError> {
    if scheduler.kind() == kind {
        return Ok(());
    }
    Err(DiffusionError::Unsupported {
        option: "scheduler",
        value: scheduler.kind().to_string(),
        hint: "; inversion takes ddim-inverse, reconstruction takes ddim",
    })
}
