//! Strategic stochastic sampling of trajectory consistency models (Zheng et al. 2024, arXiv
//! 2402.19159, algorithm 4): a deterministic step below the next noise level, then fresh noise up
//! to it. The share of noise is `eta`, the paper's gamma.

use ndarray::ArrayView4;

use crate::config::SchedulerConfig;
use crate::error::DiffusionError;
use crate::schedule::{BetaDefaults, NoiseSchedule};
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::lcm::distilled_timesteps;
use crate::schedulers::{
    Conversion, StepCounter, map_pair, map_triple, refuse_flow_prediction, refuse_shapes,
};
use crate::seed::NoiseSource;
use crate::spacing::Steps;

/// Share of fresh noise when nothing else is asked for, the reference's.
const ETA: f64 = 0.3;

/// One transition.
#[derive(Debug, Clone, Copy)]
struct Transition {
    conversion: Conversion,
    source: NoiseLevel,
    /// Weights of x0 and of the predicted noise at the lower level s.
    signal_below: f32,
    noise_below: f32,
    /// Weights of the sample at level s and of fresh noise at the next level.
    from_below: f32,
    fresh_noise: f32,
}

/// The TCD scheduler.
#[derive(Debug, Clone)]
pub struct Tcd {
    timesteps: Vec<f64>,
    transitions: Vec<Transition>,
    counter: StepCounter,
}

impl Tcd {
    /// Plans the steps, at most as many as the model was distilled from (default 50); default betas
    /// scaled linear from 0.00085 to 0.012, default eta 0.3.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`], and for an eta outside 0..=1.
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        refuse_flow_prediction(config)?;
        let eta = config.eta.unwrap_or(ETA);
        if !(0.0..=1.0).contains(&eta) {
            return Err(DiffusionError::Unsupported {
                option: "eta",
                value: eta.to_string(),
                hint: "; between 0 (no fresh noise) and 1 are possible",
            });
        }
        let schedule = NoiseSchedule::new(config, BetaDefaults::LATENT)?;
        let timesteps = distilled_timesteps(config, &schedule, steps)?;
        let alpha_prod_at = |timestep: f64| schedule.alphas_cumprod()[timestep as usize];
        let transition = |(index, &timestep): (usize, &f64)| {
            let last = index + 1 == timesteps.len();
            let prev_timestep = timesteps.get(index + 1).copied().unwrap_or(0.0);
            // The level s of section 4.2, in 32 bits as in the reference.
            let timestep_below = ((1.0 - eta) as f32 * prev_timestep as f32).floor();
            let alpha_prod = alpha_prod_at(timestep);
            let alpha_prod_below = alpha_prod_at(f64::from(timestep_below));
            // Neither the last transition nor one without randomness goes up again.
            let kept = if last || eta <= 0.0 {
                1.0
            } else {
                alpha_prod_at(prev_timestep) / alpha_prod_below
            };
            let source = NoiseLevel {
                signal: alpha_prod.sqrt(),
                noise: (1.0 - alpha_prod).sqrt(),
            };
            let prediction_type = config.prediction_type();
            Transition {
                conversion: Conversion::new(prediction_type, source.signal, source.noise),
                source,
                signal_below: alpha_prod_below.sqrt() as f32,
                noise_below: (1.0 - alpha_prod_below).sqrt() as f32,
                from_below: kept.sqrt() as f32,
                fresh_noise: (1.0 - kept).max(0.0).sqrt() as f32,
            }
        };
        let transitions = timesteps.iter().enumerate().map(transition).collect();
        Ok(Self {
            counter: StepCounter::new(timesteps.len()),
            timesteps,
            transitions,
        })
    }
}

impl Scheduler for Tcd {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::Tcd
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
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput, DiffusionError> {
        refuse_shapes(&model_output, &sample)?;
        self.counter.advance(step_index)?;
        let transition = self.transitions[step_index];
        let conversion = transition.conversion;
        // 1. The predicted x0.
        let pred_original_sample = map_pair(sample, model_output, |sample, output| {
            conversion.original(sample, output)
        });
        // 2. Equation 23: the sample at the lower level s, from x0 and the predicted noise, scaled
        // for the way up.
        let of_original = transition.from_below * transition.signal_below;
        let of_noise_pred = transition.from_below * transition.noise_below;
        let mut prev_sample = map_triple(
            [pred_original_sample.view(), sample, model_output],
            |original, sample, output| {
                of_original * original + of_noise_pred * conversion.epsilon(sample, output)
            },
        );
        // 3. Fresh noise up to the next level; none is drawn where none is added.
        if transition.fresh_noise > 0.0 {
            let fresh = noise.normals(sample.dim());
            prev_sample.zip_mut_with(&fresh, |value, fresh| {
                *value += transition.fresh_noise * fresh;
            });
        }
        Ok(StepOutput {
            prev_sample,
            pred_original_sample,
        })
    }
}
