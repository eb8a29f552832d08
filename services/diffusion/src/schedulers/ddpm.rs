//! Denoising diffusion probabilistic models (Ho, Jain and Abbeel 2020, arXiv 2006.11239), ancestral
//! sampling over any subset of the training timesteps (Nichol and Dhariwal 2021, arXiv 2102.09672,
//! section 4).

use ndarray::{Array4, ArrayView4, Axis, Zip};

use crate::config::{SchedulerConfig, TimestepSpacing, VarianceType};
use crate::error::DiffusionError;
use crate::schedule::{BetaDefaults, NoiseSchedule};
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::sigma_plan::in_32_bits;
use crate::schedulers::{
    Conversion, Correction, StepCounter, map_pair, map_triple, refuse_flow_prediction,
    refuse_shapes_of,
};
use crate::seed::NoiseSource;
use crate::spacing::{Direction, Steps, falling_timesteps, refuse_steps, refuse_timesteps};

/// Stands for a posterior variance of zero, whose logarithm is needed.
const VARIANCE_FLOOR: f64 = 1e-20;

/// The transition from one timestep to the next lower one.
#[derive(Debug, Clone, Copy)]
struct Transition {
    conversion: Conversion,
    source: NoiseLevel,
    /// Weights of the noise-free sample and of the present sample in the mean, equation 7.
    from_original: f32,
    from_sample: f32,
    /// The posterior variance of equation 7, at least [`VARIANCE_FLOOR`].
    posterior_variance: f64,
    /// The variance of the forward transition.
    beta: f64,
    /// No noise is added after the transition from timestep 0.
    last: bool,
}

impl Transition {
    fn new(config: &SchedulerConfig, timestep: f64, alpha_prod: f64, alpha_prod_prev: f64) -> Self {
        let (beta_prod, beta_prod_prev) = (1.0 - alpha_prod, 1.0 - alpha_prod_prev);
        // In 32 bits as in the reference: the complement of a ratio near one keeps few digits.
        let alpha = in_32_bits(alpha_prod / alpha_prod_prev);
        let beta = 1.0 - alpha;
        let source = NoiseLevel {
            signal: alpha_prod.sqrt(),
            noise: beta_prod.sqrt(),
        };
        Self {
            conversion: Conversion::new(config.prediction_type(), source.signal, source.noise),
            source,
            from_original: (alpha_prod_prev.sqrt() * beta / beta_prod) as f32,
            from_sample: (alpha.sqrt() * beta_prod_prev / beta_prod) as f32,
            posterior_variance: (beta_prod_prev / beta_prod * beta).max(VARIANCE_FLOOR),
            beta,
            last: timestep <= 0.0,
        }
    }
}

/// The DDPM scheduler.
#[derive(Debug, Clone)]
pub struct Ddpm {
    timesteps: Vec<f64>,
    transitions: Vec<Transition>,
    correction: Correction,
    variance_type: VarianceType,
    counter: StepCounter,
}

impl Ddpm {
    /// Plans the steps; default spacing leading, default variance fixed small, and the guess of the
    /// noise-free sample is clipped to -1..1 unless the configuration says otherwise.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        refuse_flow_prediction(config)?;
        let schedule = NoiseSchedule::new(config, BetaDefaults::DDPM)?;
        let total = schedule.num_train_timesteps();
        let timesteps: Vec<f64> = match steps {
            Steps::Count(count) => {
                refuse_steps(count, &schedule)?;
                let spacing = config.spacing_or(TimestepSpacing::Leading);
                let timesteps = falling_timesteps(spacing, config, total, count);
                timesteps.into_iter().map(f64::round_ties_even).collect()
            }
            Steps::At(list) => {
                refuse_timesteps(list, Direction::Falling, total)?;
                list.to_vec()
            }
        };
        let mut transitions = Vec::with_capacity(timesteps.len());
        for (index, &timestep) in timesteps.iter().enumerate() {
            let prev_timestep = timesteps.get(index + 1).map_or(-1, |&next| next as i64);
            let alpha_prod = schedule.alpha_cumprod_or(timestep as i64, 1.0)?;
            let alpha_prod_prev = schedule.alpha_cumprod_or(prev_timestep, 1.0)?;
            transitions.push(Transition::new(
                config,
                timestep,
                alpha_prod,
                alpha_prod_prev,
            ));
        }
        Ok(Self {
            counter: StepCounter::new(timesteps.len()),
            timesteps,
            transitions,
            correction: Correction::thresholding_or_clipping(config, true)?,
            variance_type: config.variance_type.unwrap_or(VarianceType::FixedSmall),
        })
    }

    /// The standard deviation of the fresh noise where the model does not predict it.
    fn fixed_deviation(&self, transition: &Transition) -> f32 {
        let variance = match self.variance_type {
            VarianceType::FixedLarge | VarianceType::FixedLargeLog => transition.beta,
            // The detour through the logarithm changes nothing. (The reference takes the square
            // root of the logarithm of the large variance, which is no number.)
            _ => transition.posterior_variance,
        };
        variance.sqrt() as f32
    }

    /// The predicted standard deviations, from the second half of the model's channels.
    fn learned_deviations(
        &self,
        transition: &Transition,
        predicted: ArrayView4<'_, f32>,
    ) -> Array4<f32> {
        if self.variance_type == VarianceType::Learned {
            return predicted.mapv(f32::sqrt);
        }
        // Nichol and Dhariwal 2021, equation 15: an interpolation of logarithms, whose end points
        // stand at -1 and 1 of the model's output. Half of it is the logarithm of the deviation.
        let low = 0.5 * libm::log(transition.posterior_variance) as f32;
        let high = 0.5 * libm::log(transition.beta) as f32;
        predicted.mapv(|value| {
            let share = 0.5 * (value + 1.0);
            libm::expf(share * high + (1.0 - share) * low)
        })
    }
}

/// Splits a model output with twice the sample's channels.
fn split_channels<'a>(
    model_output: ArrayView4<'a, f32>,
    sample: &ArrayView4<'_, f32>,
) -> Result<(ArrayView4<'a, f32>, ArrayView4<'a, f32>), DiffusionError> {
    let (batch, channels, height, width) = sample.dim();
    if model_output.dim() != (batch, 2 * channels, height, width) {
        return Err(DiffusionError::Shape {
            what: "model output with learned variance",
            found: model_output.shape().to_vec(),
            expected: vec![batch, 2 * channels, height, width],
        });
    }
    Ok(model_output.split_at(Axis(1), channels))
}

impl Scheduler for Ddpm {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::Ddpm
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
        // 1. A model that predicts its variance does so in a second half of its channels.
        let (model_output, predicted_variance) = if self.variance_type.is_learned() {
            let (output, variance) = split_channels(model_output, &sample)?;
            (output, Some(variance))
        } else {
            (model_output, None)
        };
        refuse_shapes_of("model output", &model_output, &sample)?;
        self.counter.advance(step_index)?;
        let transition = self.transitions[step_index];
        // 2. The predicted x0 of equation 15, clipped or thresholded.
        let pred_original_sample =
            transition
                .conversion
                .corrected_original(self.correction, sample, model_output);
        // 3. The mean of equation 7, and 4. the fresh noise of algorithm 2, line 4.
        let original = pred_original_sample.view();
        let (from_original, from_sample) = (transition.from_original, transition.from_sample);
        let mean = |original: f32, sample: f32| from_original * original + from_sample * sample;
        let prev_sample = if transition.last {
            map_pair(original, sample, mean)
        } else {
            let mut fresh = noise.normals(sample.dim());
            let deviation = match predicted_variance {
                None => self.fixed_deviation(&transition),
                Some(predicted) => {
                    let deviations = self.learned_deviations(&transition, predicted);
                    Zip::from(&mut fresh)
                        .and(&deviations)
                        .for_each(|fresh, deviation| *fresh *= deviation);
                    1.0
                }
            };
            map_triple(
                [original, sample, fresh.view()],
                |original, sample, fresh| mean(original, sample) + deviation * fresh,
            )
        };
        Ok(StepOutput {
            prev_sample,
            pred_original_sample,
        })
    }
}
