//! DDIM run towards noise (Song, Meng and Ermon 2021, arXiv 2010.02502, section 4.3).

use ndarray::ArrayView4;

use crate::config::{PredictionType, SchedulerConfig, TimestepSpacing};
use crate::error::DiffusionError;
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::ddim::{Transition, beyond_first};
use crate::schedulers::{StepCounter, refuse_shapes};
use crate::seed::NoiseSource;
use crate::spacing::{falling_timesteps, refuse_steps};

/// The inverse DDIM scheduler: timesteps rise, and the model is asked at the timestep that the
/// step leads to.
#[derive(Debug, Clone)]
pub struct DdimInverse {
    timesteps: Vec<f64>,
    transitions: Vec<Transition>,
    counter: StepCounter,
}

impl DdimInverse {
    /// Plans `steps` steps; default spacing leading.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler`]; linspace spacing is refused, as in the reference, and so
    /// is a model that predicts the sample when the first step starts without any noise, because
    /// the noise cannot be told from such a prediction.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, DiffusionError> {
        let spacing = config.spacing_or(TimestepSpacing::Leading);
        if spacing == TimestepSpacing::Linspace {
            return Err(DiffusionError::Unsupported {
                option: "timestep_spacing",
                value: "linspace".to_owned(),
                hint: " in inversion; choose leading or trailing",
            });
        }
        let schedule = config.noise_schedule()?;
        refuse_steps(steps, &schedule)?;
        let total = schedule.num_train_timesteps();
        let mut timesteps = falling_timesteps(spacing, config, total, steps);
        timesteps.reverse();
        let ratio = (total / steps) as i64;
        let beyond = beyond_first(config, &schedule);
        let mut transitions = Vec::with_capacity(timesteps.len());
        for &timestep in &timesteps {
            let target = timestep as i64;
            let source = (target - ratio).min(total as i64 - 1);
            let alpha_prod_t = schedule.alpha_cumprod_or(source, beyond)?;
            let alpha_prod_next = schedule.alpha_cumprod_or(target, beyond)?;
            refuse_noiseless_sample_prediction(config, alpha_prod_t)?;
            transitions.push(Transition::new(config, alpha_prod_t, alpha_prod_next));
        }
        Ok(Self {
            counter: StepCounter::new(timesteps.len()),
            timesteps,
            transitions,
        })
    }
}

fn refuse_noiseless_sample_prediction(
    config: &SchedulerConfig,
    alpha_prod_t: f64,
) -> Result<(), DiffusionError> {
    if config.prediction_type() == PredictionType::Sample && alpha_prod_t >= 1.0 {
        return Err(DiffusionError::Unsupported {
            option: "prediction_type",
            value: "sample".to_owned(),
            hint: " in inversion that starts without noise; set set_alpha_to_one to false",
        });
    }
    Ok(())
}

impl Scheduler for DdimInverse {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::DdimInverse
    }

    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        self.transitions[step_index].source
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
        _noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput, DiffusionError> {
        refuse_shapes(&model_output, &sample)?;
        self.counter.advance(step_index)?;
        Ok(self.transitions[step_index].apply(model_output, sample))
    }
}
