//! Pseudo numerical methods for diffusion models (Liu et al. 2022, arXiv 2202.09778): F-PNDM, three
//! pseudo Runge-Kutta steps (12 evaluations) and then pseudo linear multistep steps, or only the
//! latter (`skip_prk_steps`, the setting of Stable Diffusion), whose first step is evaluated twice.

use ndarray::{Array4, ArrayView4};

use crate::config::{PredictionType, SchedulerConfig, TimestepSpacing};
use crate::error::DiffusionError;
use crate::schedule::{BetaDefaults, NoiseSchedule};
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::{
    Conversion, StepCounter, map_pair, refuse_flow_prediction, refuse_shapes, weighted_sum,
};
use crate::seed::NoiseSource;
use crate::spacing::{Steps, falling_timesteps, refuse_steps};

/// Order of the multistep formula, and the number of timesteps that the Runge-Kutta steps need.
const ORDER: usize = 4;
/// Model evaluations of one Runge-Kutta step.
const PRK_EVALUATIONS: usize = 4;

/// The PNDM scheduler.
#[derive(Debug, Clone)]
pub struct Pndm {
    timesteps: Vec<f64>,
    /// How many of the evaluations belong to Runge-Kutta steps.
    prk_evaluations: usize,
    schedule: NoiseSchedule,
    /// The cumulative product beyond the first training timestep.
    final_alpha_cumprod: f64,
    /// Training timesteps between two steps.
    ratio: i64,
    prediction_type: PredictionType,
    /// The last model outputs that count for the multistep formula, the newest last.
    outputs: Vec<Array4<f32>>,
    /// Of a Runge-Kutta step: the weighted sum of its outputs so far.
    output_sum: Option<Array4<f32>>,
    /// The sample that a step of several evaluations started from.
    start: Option<Array4<f32>>,
    /// The step index that the run began at.
    first: usize,
    counter: StepCounter,
}

impl Pndm {
    /// Plans the steps; default spacing leading, with Runge-Kutta steps.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler`]; fewer than four steps are refused unless the Runge-Kutta
    /// steps are skipped, and so are models that predict the sample, as in the reference.
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        refuse_options(config)?;
        let schedule = NoiseSchedule::without_rescaling(config, BetaDefaults::DDPM)?;
        let count = steps.count_for(SchedulerKind::Pndm)?;
        refuse_steps(count, &schedule)?;
        let total = schedule.num_train_timesteps();
        let spacing = config.spacing_or(TimestepSpacing::Leading);
        let falling: Vec<f64> = falling_timesteps(spacing, config, total, count)
            .into_iter()
            .map(f64::round_ties_even)
            .collect();
        let ratio = total / count;
        let (timesteps, prk_evaluations) = if config.skip_prk_steps.unwrap_or(false) {
            (multistep_timesteps(&falling), 0)
        } else {
            runge_kutta_timesteps(&falling, (ratio / 2) as f64)?
        };
        // Fails here and not in a step when an offset leads out of the schedule.
        for &timestep in &timesteps {
            schedule.alpha_cumprod_or(timestep as i64, 1.0)?;
        }
        let final_alpha_cumprod = if config.set_alpha_to_one.unwrap_or(false) {
            1.0
        } else {
            schedule.alphas_cumprod()[0]
        };
        Ok(Self {
            counter: StepCounter::new(timesteps.len()),
            timesteps,
            prk_evaluations,
            schedule,
            final_alpha_cumprod,
            ratio: ratio as i64,
            prediction_type: config.prediction_type(),
            outputs: Vec::new(),
            output_sum: None,
            start: None,
            first: 0,
        })
    }

    /// Equation 9: the transition between two timesteps with a weighted sum of model outputs, in
    /// one pass over all arrays.
    fn transfer(
        &self,
        (from, to): (i64, i64),
        sample: ArrayView4<'_, f32>,
        outputs: &[(f64, ArrayView4<'_, f32>)],
    ) -> Result<Array4<f32>, DiffusionError> {
        let beyond = self.final_alpha_cumprod;
        let alpha_prod = self.schedule.alpha_cumprod_or(from, beyond)?;
        let alpha_prod_prev = self.schedule.alpha_cumprod_or(to, beyond)?;
        let (beta_prod, beta_prod_prev) = (1.0 - alpha_prod, 1.0 - alpha_prod_prev);
        let denominator =
            alpha_prod * beta_prod_prev.sqrt() + (alpha_prod * beta_prod * alpha_prod_prev).sqrt();
        // From one noise level to itself nothing changes, also where both are zero.
        let from_noise = if from == to {
            0.0
        } else {
            (alpha_prod_prev - alpha_prod) / denominator
        };
        // The noise as a combination of sample and model output.
        let (noise_of_sample, noise_of_output) = match self.prediction_type {
            PredictionType::VPrediction => (beta_prod.sqrt(), alpha_prod.sqrt()),
            _ => (0.0, 1.0),
        };
        let from_sample = (alpha_prod_prev / alpha_prod).sqrt() - from_noise * noise_of_sample;
        let mut terms = vec![(from_sample, sample)];
        for &(weight, output) in outputs {
            terms.push((-from_noise * noise_of_output * weight, output));
        }
        Ok(weighted_sum(&terms))
    }

    /// One evaluation of a pseudo Runge-Kutta step, equation 13.
    fn runge_kutta(
        &mut self,
        step_index: usize,
        output: ArrayView4<'_, f32>,
        sample: ArrayView4<'_, f32>,
    ) -> Result<Array4<f32>, DiffusionError> {
        // 1. The evaluations lie at the start, twice in the middle and at the end of the step; from
        // the first and the third on, half a step remains to be done.
        let half = if step_index.is_multiple_of(2) {
            self.ratio / 2
        } else {
            0
        };
        let to = self.timesteps[step_index] as i64 - half;
        let group = step_index / PRK_EVALUATIONS * PRK_EVALUATIONS;
        let from = self.timesteps[group] as i64;
        // 2. The weights 1/6, 1/3, 1/3, 1/6 of the classical method.
        let sum = self.output_sum.take();
        let weighted = |weight: f64, sum: Option<Array4<f32>>| match sum {
            Some(sum) => weighted_sum(&[(1.0, sum.view()), (weight, output)]),
            None => weighted_sum(&[(weight, output)]),
        };
        let chosen = match step_index % PRK_EVALUATIONS {
            0 => {
                self.outputs.push(output.to_owned());
                self.start = Some(sample.to_owned());
                self.output_sum = Some(weighted(1.0 / 6.0, None));
                None
            }
            3 => Some(weighted(1.0 / 6.0, sum)),
            _ => {
                self.output_sum = Some(weighted(1.0 / 3.0, sum));
                None
            }
        };
        // 3. The transition from the start of the step, with the newest output or the whole sum.
        let start = self.start.as_ref().map_or(sample, |start| start.view());
        let output = chosen.as_ref().map_or(output, |chosen| chosen.view());
        self.transfer((from, to), start, &[(1.0, output)])
    }

    /// One pseudo linear multistep step, equation 12.
    fn multistep(
        &mut self,
        step_index: usize,
        output: ArrayView4<'_, f32>,
        sample: ArrayView4<'_, f32>,
    ) -> Result<Array4<f32>, DiffusionError> {
        let timestep = self.timesteps[step_index] as i64;
        let count = step_index - self.first;
        // 1. The second evaluation repeats the first step; its output does not enter the history.
        if count == 1 {
            let start = self.start.take();
            let start = start.as_ref().map_or(sample, |start| start.view());
            let average = [(0.5, output), (0.5, self.output(0))];
            return self.transfer((timestep + self.ratio, timestep), start, &average);
        }
        if count == 0 {
            self.start = Some(sample.to_owned());
        }
        // 2. Up to four outputs are kept.
        if self.outputs.len() == ORDER {
            self.outputs.remove(0);
        }
        self.outputs.push(output.to_owned());
        // 3. The Adams-Bashforth formulas of rising order.
        let weights: &[f64] = match self.outputs.len() {
            1 => &[1.0],
            2 => &[1.5, -0.5],
            3 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
            _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
        };
        let terms = weights.iter().enumerate();
        let terms: Vec<_> = terms
            .map(|(age, &weight)| (weight, self.output(age)))
            .collect();
        self.transfer((timestep, timestep - self.ratio), sample, &terms)
    }

    /// The output of `age` steps ago; there is always one, because the first step keeps its own.
    fn output(&self, age: usize) -> ArrayView4<'_, f32> {
        self.outputs[self.outputs.len() - 1 - age].view()
    }
}

fn refuse_options(config: &SchedulerConfig) -> Result<(), DiffusionError> {
    refuse_flow_prediction(config)?;
    if config.prediction_type() == PredictionType::Sample {
        return Err(DiffusionError::Unsupported {
            option: "prediction_type",
            value: "sample".to_owned(),
            hint: " by pndm; choose epsilon or v_prediction",
        });
    }
    Ok(())
}

/// The falling timesteps with the second one twice.
fn multistep_timesteps(falling: &[f64]) -> Vec<f64> {
    let again = falling.get(1).copied();
    let (first, rest) = falling.split_at(falling.len().min(2));
    let timesteps = first.iter().copied().chain(again);
    timesteps.chain(rest.iter().copied()).collect()
}

/// Twelve timesteps of three Runge-Kutta steps, then those of the multistep steps from the fourth.
fn runge_kutta_timesteps(falling: &[f64], half: f64) -> Result<(Vec<f64>, usize), DiffusionError> {
    if falling.len() < ORDER {
        return Err(DiffusionError::Unsupported {
            option: "num_inference_steps",
            value: falling.len().to_string(),
            hint: " by pndm with Runge-Kutta steps; choose 4 or more, or skip_prk_steps",
        });
    }
    let mut timesteps = Vec::new();
    for pair in falling[..ORDER].windows(2) {
        let (start, end) = (pair[0], pair[1]);
        timesteps.extend([start, end + half, end + half, end]);
    }
    let prk_evaluations = timesteps.len();
    timesteps.extend(&falling[ORDER - 1..]);
    Ok((timesteps, prk_evaluations))
}

impl Scheduler for Pndm {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::Pndm
    }

    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        let alpha_prod = self.schedule.alphas_cumprod()[self.timesteps[step_index] as usize];
        NoiseLevel {
            signal: alpha_prod.sqrt(),
            noise: (1.0 - alpha_prod).sqrt(),
        }
    }

    /// With Runge-Kutta steps nothing can be left out, because the multistep steps need them.
    /// Without them the run begins as the reference's does: its second evaluation counts as the
    /// repeated one, wherever it lies.
    fn skip(&mut self, first: usize) -> Result<(), DiffusionError> {
        if first > 0 && self.prk_evaluations > 0 {
            return Err(DiffusionError::Unsupported {
                option: "skip_prk_steps",
                value: "false".to_owned(),
                hint: " when the loop starts later than at pure noise",
            });
        }
        self.first = first;
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
        let level = self.noise_level(step_index);
        let conversion = Conversion::new(self.prediction_type, level.signal, level.noise);
        let pred_original_sample = map_pair(sample, model_output, |sample, output| {
            conversion.original(sample, output)
        });
        let prev_sample = if step_index < self.prk_evaluations {
            self.runge_kutta(step_index, model_output, sample)?
        } else {
            self.multistep(step_index, model_output, sample)?
        };
        Ok(StepOutput {
            prev_sample,
            pred_original_sample,
        })
    }
}
