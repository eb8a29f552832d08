//! Multistep sampling of latent consistency models (Luo et al. 2023, arXiv 2310.04378, algorithm 3;
//! Song et al. 2023, arXiv 2303.01469, algorithm 1): each evaluation guesses the noise-free sample,
//! which fresh noise brings to the next noise level.

use ndarray::ArrayView4;

use crate::config::SchedulerConfig;
use crate::error::DiffusionError;
use crate::schedule::{BetaDefaults, NoiseSchedule};
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::{
    Conversion, Correction, StepCounter, map_pair, refuse_flow_prediction, refuse_shapes,
};
use crate::seed::NoiseSource;
use crate::spacing::{Direction, Steps, refuse_steps, refuse_timesteps};

/// Steps of the schedule that a published consistency model was distilled from.
const ORIGINAL_INFERENCE_STEPS: usize = 50;
/// Factor on the timesteps in the boundary conditions.
const TIMESTEP_SCALING: f64 = 10.0;
/// Standard deviation of the data in the boundary conditions (Karras et al. 2022, table 1).
const SIGMA_DATA: f64 = 0.5;

/// The timesteps of a distilled model: `steps` of those that it was trained on, evenly spread, from
/// the noisiest one down.
///
/// # Errors
/// [`DiffusionError::Steps`] for more steps than it was distilled from,
/// [`DiffusionError::Unsupported`] for an impossible number of these, and the errors of explicit
/// timesteps.
pub(crate) fn distilled_timesteps(
    config: &SchedulerConfig,
    schedule: &NoiseSchedule,
    steps: Steps<'_>,
) -> Result<Vec<f64>, DiffusionError> {
    let total = schedule.num_train_timesteps();
    let count = match steps {
        Steps::Count(count) => count,
        Steps::At(list) => {
            refuse_timesteps(list, Direction::Falling, total)?;
            return Ok(list.to_vec());
        }
    };
    refuse_steps(count, schedule)?;
    let original = config
        .original_inference_steps
        .unwrap_or(ORIGINAL_INFERENCE_STEPS);
    if !(1..=total).contains(&original) {
        return Err(DiffusionError::Unsupported {
            option: "original_inference_steps",
            value: original.to_string(),
            hint: "; between 1 and num_train_timesteps are possible",
        });
    }
    if count > original {
        return Err(DiffusionError::Steps {
            steps: count,
            steps_max: original,
        });
    }
    // Section 4.3: timesteps k, 2k, .. less one, of which evenly spread ones are taken.
    let skipping = total / original;
    let timesteps = (0..count).map(|index| {
        let place = index * original / count;
        ((original - place) * skipping - 1) as f64
    });
    Ok(timesteps.collect())
}

/// The LCM scheduler.
#[derive(Debug, Clone)]
pub struct Lcm {
    timesteps: Vec<f64>,
    levels: Vec<NoiseLevel>,
    conversions: Vec<Conversion>,
    correction: Correction,
    timestep_scaling: f64,
    counter: StepCounter,
}

impl Lcm {
    /// Plans the steps, at most as many as the model was distilled from (default 50); default betas
    /// scaled linear from 0.00085 to 0.012.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        refuse_flow_prediction(config)?;
        let schedule = NoiseSchedule::new(config, BetaDefaults::LATENT)?;
        let timesteps = distilled_timesteps(config, &schedule, steps)?;
        let alphas_cumprod = schedule.alphas_cumprod();
        let level = |&timestep: &f64| {
            let alpha_prod = alphas_cumprod[timestep as usize];
            NoiseLevel {
                signal: alpha_prod.sqrt(),
                noise: (1.0 - alpha_prod).sqrt(),
            }
        };
        let levels: Vec<NoiseLevel> = timesteps.iter().map(level).collect();
        let prediction_type = config.prediction_type();
        let conversion =
            |level: &NoiseLevel| Conversion::new(prediction_type, level.signal, level.noise);
        Ok(Self {
            counter: StepCounter::new(timesteps.len()),
            conversions: levels.iter().map(conversion).collect(),
            timesteps,
            levels,
            correction: Correction::thresholding_or_clipping(config, false)?,
            timestep_scaling: config.timestep_scaling.unwrap_or(TIMESTEP_SCALING),
        })
    }
}

impl Scheduler for Lcm {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::Lcm
    }

    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        self.levels[step_index]
    }

    fn skip(&mut self, first: usize) -> Result<(), DiffusionError> {
        self.counter.skip(first)
    }

    fn first_step(&self) -> usize {
        self.counter.next()
    }

    fn step(
        &mut self,
        step_index: usize,
        model_output: ArrayView4<'_, f32>,
        sample: ArrayView4<'_, f32>,
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput, DiffusionError> {
        refuse_shapes(&model_output, &sample)?;
        self.counter.advance(step_index)?;
        // 1. The predicted x0, clipped or thresholded.
        let conversion = self.conversions[step_index];
        let original = conversion.corrected_original(self.correction, sample, model_output);
        // 2. The boundary conditions of section 4.1, which make it the sample itself at timestep 0.
        let scaled = self.timesteps[step_index] * self.timestep_scaling;
        let variance = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
        let from_sample = (SIGMA_DATA * SIGMA_DATA / variance) as f32;
        let from_original = (scaled / variance.sqrt()) as f32;
        let denoised = map_pair(original.view(), sample, |original, sample| {
            from_original * original + from_sample * sample
        });
        // 3. Algorithm 3: fresh noise at the next level, none after the last evaluation.
        let prev_sample = match self.levels.get(step_index + 1) {
            None => denoised.clone(),
            Some(next) => {
                let fresh = noise.normals(sample.dim());
                let (signal, level) = (next.signal as f32, next.noise as f32);
                map_pair(denoised.view(), fresh.view(), |denoised, fresh| {
                    signal * denoised + level * fresh
                })
            }
        };
        Ok(StepOutput {
            prev_sample,
            pred_original_sample: denoised,
        })
    }
}
