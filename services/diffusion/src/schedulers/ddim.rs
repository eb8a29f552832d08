//! Denoising diffusion implicit models (Song, Meng and Ermon 2021, arXiv 2010.02502).

use ndarray::ArrayView4;

use crate::config::{SchedulerConfig, TimestepSpacing};
use crate::error::DiffusionError;
use crate::schedule::NoiseSchedule;
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::{
    Conversion, Correction, StepCounter, refuse_flow_prediction, refuse_shapes, weighted_sum,
};
use crate::seed::NoiseSource;
use crate::spacing::{Direction, Steps, falling_timesteps, refuse_steps, refuse_timesteps};

/// One transition of DDIM between two noise levels. The inverse scheduler makes the same transition
/// towards noise.
#[derive(Debug, Clone, Copy)]
struct Transition {
    conversion: Conversion,
    /// The noise level that the transition starts from.
    source: NoiseLevel,
    /// Weight of the noise-free sample in the next sample.
    next_signal: f64,
    /// Weight of the predicted noise in the next sample.
    next_noise: f64,
    /// Weight of fresh noise in the next sample: sigma_t of equation 16.
    fresh_noise: f64,
}

impl Transition {
    /// From one cumulative product to another, with a share `eta` of fresh noise.
    fn new(config: &SchedulerConfig, eta: f64, alpha_prod_t: f64, alpha_prod_next: f64) -> Self {
        let (beta_prod_t, beta_prod_next) = (1.0 - alpha_prod_t, 1.0 - alpha_prod_next);
        let source = NoiseLevel {
            signal: alpha_prod_t.sqrt(),
            noise: beta_prod_t.sqrt(),
        };
        // Equation 16: sigma_t(eta).
        let variance = if eta > 0.0 {
            (beta_prod_next / beta_prod_t) * (1.0 - alpha_prod_t / alpha_prod_next)
        } else {
            0.0
        };
        let fresh_noise = eta * variance.max(0.0).sqrt();
        Self {
            conversion: Conversion::new(config.prediction_type(), source.signal, source.noise),
            source,
            next_signal: alpha_prod_next.sqrt(),
            next_noise: (beta_prod_next - fresh_noise * fresh_noise).max(0.0).sqrt(),
            fresh_noise,
        }
    }
}

/// A chain of DDIM transitions, towards the image or towards noise.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) timesteps: Vec<f64>,
    pub(crate) counter: StepCounter,
    transitions: Vec<Transition>,
    correction: Correction,
    eta: f64,
}

impl Chain {
    /// Reads the configuration and plans the transitions. A falling chain asks the model at the
    /// timestep that a transition starts from, a rising one at the timestep that it leads to.
    pub(crate) fn new(
        config: &SchedulerConfig,
        steps: Steps<'_>,
        direction: Direction,
    ) -> Result<Self, DiffusionError> {
        refuse_flow_prediction(config)?;
        let schedule = config.noise_schedule()?;
        let timesteps = timesteps(config, &schedule, steps, direction)?;
        let (correction, eta, to_one) = match direction {
            Direction::Falling => (
                Correction::thresholding_or_clipping(config, true)?,
                refuse_eta(config.eta.unwrap_or(0.0))?,
                config.set_alpha_to_one,
            ),
            // The inverse has no thresholding and no randomness, as in the reference.
            Direction::Rising => (
                Correction::clipping(config, true)?,
                0.0,
                config.set_alpha_to_zero.or(config.set_alpha_to_one),
            ),
        };
        // The cumulative product that stands beyond the first timestep.
        let beyond = if to_one.unwrap_or(true) {
            1.0
        } else {
            schedule.alphas_cumprod()[0]
        };
        let last = schedule.num_train_timesteps() as i64 - 1;
        let mut transitions = Vec::with_capacity(timesteps.len());
        for (index, &timestep) in timesteps.iter().enumerate() {
            let timestep = timestep as i64;
            // The timestep of the other end of the transition, on the side of the image.
            let nearer = match (steps, direction) {
                (Steps::Count(steps), _) => {
                    timestep - (schedule.num_train_timesteps() / steps) as i64
                }
                (Steps::At(list), Direction::Falling) => list.get(index + 1).map_or(-1, to_index),
                (Steps::At(list), Direction::Rising) => index
                    .checked_sub(1)
                    .map_or(-1, |index| to_index(&list[index])),
            };
            let at_timestep = schedule.alpha_cumprod_or(timestep, beyond)?;
            let at_nearer = schedule.alpha_cumprod_or(nearer.min(last), beyond)?;
            transitions.push(match direction {
                Direction::Falling => Transition::new(config, eta, at_timestep, at_nearer),
                Direction::Rising => Transition::new(config, eta, at_nearer, at_timestep),
            });
        }
        Ok(Self {
            counter: StepCounter::new(timesteps.len()),
            timesteps,
            transitions,
            correction,
            eta,
        })
    }

    /// The noise level that a transition starts from.
    pub(crate) fn source(&self, step_index: usize) -> NoiseLevel {
        self.transitions[step_index].source
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "those of a scheduler's step, which it implements"
    )]
    pub(crate) fn step(
        &mut self,
        step_index: usize,
        model_output: ArrayView4<'_, f32>,
        sample: ArrayView4<'_, f32>,
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput, DiffusionError> {
        refuse_shapes(&model_output, &sample)?;
        self.counter.advance(step_index)?;
        let transition = self.transitions[step_index];
        let conversion = transition.conversion;
        // 1. The predicted x0 of equation 12, corrected where the configuration says so.
        let pred_original_sample =
            conversion.corrected_original(self.correction, sample, model_output);
        // 2. Fresh noise. It is drawn in every step, also where its weight is zero, so that the
        // stream of the reference is followed.
        let fresh = (self.eta > 0.0).then(|| noise.normals(sample.dim()));
        // 3. Equation 12: x0 and the direction pointing to x_t, each at its level, and the noise.
        let (from_sample, from_output) = conversion.epsilon_weights();
        let mut terms = vec![
            (transition.next_signal, pred_original_sample.view()),
            (transition.next_noise * from_sample, sample),
            (transition.next_noise * from_output, model_output),
        ];
        if let Some(fresh) = &fresh {
            terms.push((transition.fresh_noise, fresh.view()));
        }
        let prev_sample = weighted_sum(&terms);
        Ok(StepOutput {
            prev_sample,
            pred_original_sample,
        })
    }
}

fn to_index(timestep: &f64) -> i64 {
    *timestep as i64
}

fn refuse_eta(eta: f64) -> Result<f64, DiffusionError> {
    if (0.0..=1.0).contains(&eta) {
        return Ok(eta);
    }
    Err(DiffusionError::Unsupported {
        option: "eta",
        value: eta.to_string(),
        hint: "; between 0 (no fresh noise) and 1 are possible",
    })
}

fn timesteps(
    config: &SchedulerConfig,
    schedule: &NoiseSchedule,
    steps: Steps<'_>,
    direction: Direction,
) -> Result<Vec<f64>, DiffusionError> {
    let total = schedule.num_train_timesteps();
    let steps = match steps {
        Steps::Count(steps) => steps,
        Steps::At(list) => {
            refuse_timesteps(list, direction, total)?;
            return Ok(list.to_vec());
        }
    };
    refuse_steps(steps, schedule)?;
    let spacing = config.spacing_or(TimestepSpacing::Leading);
    if spacing == TimestepSpacing::Linspace && direction == Direction::Rising {
        return Err(DiffusionError::Unsupported {
            option: "timestep_spacing",
            value: "linspace".to_owned(),
            hint: " in inversion; choose leading or trailing",
        });
    }
    let mut timesteps: Vec<f64> = falling_timesteps(spacing, config, total, steps)
        .into_iter()
        .map(f64::round_ties_even)
        .collect();
    if direction == Direction::Rising {
        timesteps.reverse();
    }
    Ok(timesteps)
}

/// The DDIM scheduler. With `eta` of 0 it is deterministic, with 1 it has the variance of DDPM.
#[derive(Debug, Clone)]
pub struct Ddim(Chain);

impl Ddim {
    /// Plans the steps; default spacing leading. With explicit timesteps, each transition leads to
    /// the next one of the list and the last one beyond the first training timestep.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        Chain::new(config, steps, Direction::Falling).map(Self)
    }
}

impl Scheduler for Ddim {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::Ddim
    }

    fn timesteps(&self) -> &[f64] {
        &self.0.timesteps
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        self.0.source(step_index)
    }

    fn skip(&mut self, first: usize) -> Result<(), DiffusionError> {
        self.0.counter.skip(first)
    }

    fn first_step(&self) -> usize {
        self.0.counter.next()
    }

    fn step(
        &mut self,
        step_index: usize,
        model_output: ArrayView4<'_, f32>,
        sample: ArrayView4<'_, f32>,
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput, DiffusionError> {
        self.0.step(step_index, model_output, sample, noise)
    }
}
