//! DPM-Solver++ multistep, order one or two (Lu et al. 2022, arXiv 2211.01095, algorithm 2, "2M").

use ndarray::{Array4, ArrayView4};

use crate::config::{AlgorithmType, FinalSigmasType, SchedulerConfig, SolverType, TimestepSpacing};
use crate::error::DiffusionError;
use crate::schedule::NoiseSchedule;
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::{
    Conversion, StepCounter, map_pair, map_triple, refuse_flow_prediction, refuse_shapes,
};
use crate::seed::NoiseSource;
use crate::spacing::{
    Steps, interpolate, karras_sigmas, linspace, refuse_steps, sigma_to_timestep,
    trailing_timesteps,
};

/// With fewer steps than this, `lower_order_final` makes the last step one of first order.
const LOWER_ORDER_FINAL_STEPS: usize = 15;

/// The DPM-Solver++ scheduler.
#[derive(Debug, Clone)]
pub struct DpmSolverMultistep {
    timesteps: Vec<f64>,
    /// `sigma / alpha` of each step, one more than timesteps.
    sigmas: Vec<f64>,
    conversions: Vec<Conversion>,
    second_order: bool,
    first_order_at_last: bool,
    solver_type: SolverType,
    previous_original: Option<Array4<f32>>,
    counter: StepCounter,
}

impl DpmSolverMultistep {
    /// Plans `steps` steps; default spacing linspace, order two, midpoint, `lower_order_final`.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        let steps = steps.count_for(SchedulerKind::DpmSolverMultistep)?;
        let second_order = refuse_options(config)?;
        let schedule = config.noise_schedule()?;
        refuse_steps(steps, &schedule)?;
        let train_sigmas = schedule.sigmas();
        let (timesteps, mut sigmas) = if config.karras() {
            karras_plan(config, &train_sigmas, steps)
        } else {
            let timesteps = plain_timesteps(config, &schedule, &train_sigmas, steps)?;
            let sigmas = timesteps
                .iter()
                .map(|&timestep| interpolate(&train_sigmas, timestep))
                .collect();
            (timesteps, sigmas)
        };
        let final_sigmas_type = config.final_sigmas_type();
        sigmas.push(match final_sigmas_type {
            FinalSigmasType::Zero => 0.0,
            FinalSigmasType::SigmaMin => train_sigmas[0],
        });
        let conversions = sigmas
            .iter()
            .map(|&sigma| {
                let signal = signal(sigma);
                Conversion::new(config.prediction_type(), signal, sigma * signal)
            })
            .collect();
        let few_steps = timesteps.len() < LOWER_ORDER_FINAL_STEPS;
        Ok(Self {
            counter: StepCounter::new(timesteps.len()),
            timesteps,
            sigmas,
            conversions,
            second_order,
            first_order_at_last: config.euler_at_final.unwrap_or(false)
                || (config.lower_order_final.unwrap_or(true) && few_steps)
                || final_sigmas_type == FinalSigmasType::Zero,
            solver_type: config.solver_type.unwrap_or(SolverType::Midpoint),
            previous_original: None,
        })
    }

    /// Weights of the sample and of the two last guesses of the noise-free sample in the next
    /// sample. With `e = exp(-h) = sigma_next / sigma` (sigmas as ratios to the signal) no
    /// exponential is needed.
    fn weights(&self, step_index: usize) -> (f32, f32, f32) {
        let (sigma, sigma_next) = (self.sigmas[step_index], self.sigmas[step_index + 1]);
        let (alpha, alpha_next) = (signal(sigma), signal(sigma_next));
        let decay = sigma_next / sigma;
        // sigma_t / sigma_s with noise levels that are not divided by the signal.
        let from_sample = decay * alpha_next / alpha;
        let gain = alpha_next * (1.0 - decay);
        let last = step_index + 1 == self.timesteps.len();
        let first_order = !self.second_order
            || self.previous_original.is_none()
            || (last && self.first_order_at_last);
        if first_order {
            // Equation 9 with k = 1, which is DDIM.
            return (from_sample as f32, gain as f32, 0.0);
        }
        // Algorithm 2: r = h_previous / h, D = x0 + (x0 - x0_previous) / (2 r).
        let h = -libm::log(decay);
        let h_previous = libm::log(self.sigmas[step_index - 1] / sigma);
        let r = h_previous / h;
        let slope = match self.solver_type {
            // Table 1 of the same paper, second-order term integrated exactly.
            SolverType::Heun => alpha_next * ((decay - 1.0) / h + 1.0),
            // Midpoint; the names that other solvers use stand for it, as in the reference.
            _ => 0.5 * gain,
        };
        let correction = slope / r;
        (
            from_sample as f32,
            (gain + correction) as f32,
            -correction as f32,
        )
    }
}

/// Signal level of a variance-preserving sample whose noise-to-signal ratio is `sigma`.
fn signal(sigma: f64) -> f64 {
    1.0 / (sigma * sigma + 1.0).sqrt()
}

/// Returns whether the solver is of second order.
fn refuse_options(config: &SchedulerConfig) -> Result<bool, DiffusionError> {
    refuse_flow_prediction(config)?;
    SchedulerConfig::refuse_switches(&[
        ("thresholding", config.thresholding),
        ("use_exponential_sigmas", config.use_exponential_sigmas),
        ("use_beta_sigmas", config.use_beta_sigmas),
        ("use_lu_lambdas", config.use_lu_lambdas),
        ("use_flow_sigmas", config.use_flow_sigmas),
    ])?;
    let algorithm = config.algorithm_type.map(AlgorithmType::name);
    SchedulerConfig::refuse_other_than("algorithm_type", algorithm, &["dpmsolver++", "deis"])?;
    match config.solver_order.unwrap_or(2) {
        1 => Ok(false),
        2 => Ok(true),
        order => Err(DiffusionError::Unsupported {
            option: "solver_order",
            value: order.to_string(),
            hint: "; choose 1 or 2",
        }),
    }
}

/// Timesteps of the schedule as it was trained.
fn plain_timesteps(
    config: &SchedulerConfig,
    schedule: &NoiseSchedule,
    train_sigmas: &[f64],
    steps: usize,
) -> Result<Vec<f64>, DiffusionError> {
    let total = schedule.num_train_timesteps();
    // lambda = -ln(sigma) falls with the timestep; those below the limit are left out.
    let last = config.lambda_min_clipped.map_or(total, |lambda_min| {
        train_sigmas.partition_point(|&sigma| -libm::log(sigma) >= lambda_min)
    });
    let timesteps: Vec<f64> = match config.spacing_or(TimestepSpacing::Linspace) {
        TimestepSpacing::Linspace => linspace(0.0, last as f64 - 1.0, steps + 1)
            .into_iter()
            .skip(1)
            .rev()
            .map(f64::round_ties_even)
            .collect(),
        TimestepSpacing::Leading => {
            let ratio = last / (steps + 1);
            let offset = config.steps_offset.unwrap_or(0) as f64;
            (1..=steps)
                .rev()
                .map(|index| (index * ratio) as f64 + offset)
                .collect()
        }
        TimestepSpacing::Trailing => trailing_timesteps(last, total, steps),
    };
    match timesteps.first() {
        None => Err(DiffusionError::Steps {
            steps,
            steps_max: last,
        }),
        Some(&first) if first < 0.0 || first >= total as f64 => Err(DiffusionError::Timestep {
            timestep: first as i64,
            num_train_timesteps: total,
        }),
        Some(_) => Ok(timesteps),
    }
}

/// Timesteps and sigmas of the Karras spread over the whole training schedule. The timesteps that
/// the model sees are whole numbers; only the cosine schedule truncates instead of rounding.
fn karras_plan(
    config: &SchedulerConfig,
    train_sigmas: &[f64],
    steps: usize,
) -> (Vec<f64>, Vec<f64>) {
    let sigmas = karras_sigmas(train_sigmas[0], train_sigmas[train_sigmas.len() - 1], steps);
    let cosine = config.beta_schedule == Some(crate::config::BetaSchedule::SquaredcosCapV2);
    let timesteps = sigmas
        .iter()
        .map(|&sigma| {
            let timestep = sigma_to_timestep(sigma, train_sigmas);
            if cosine {
                timestep.trunc()
            } else {
                timestep.round_ties_even()
            }
        })
        .collect();
    (timesteps, sigmas)
}

impl Scheduler for DpmSolverMultistep {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::DpmSolverMultistep
    }

    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        let sigma = self.sigmas[step_index];
        let signal = signal(sigma);
        NoiseLevel {
            signal,
            noise: sigma * signal,
        }
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
        // 1. The data prediction x0 (section 4.1).
        let conversion = self.conversions[step_index];
        let original = map_pair(sample, model_output, |sample, output| {
            conversion.original(sample, output)
        });
        // 2. The update of algorithm 2, line 6 (or line 3 for the first order), as one linear
        // combination.
        let (from_sample, from_original, from_previous) = self.weights(step_index);
        let prev_sample = match self.previous_original.take() {
            Some(previous) => map_triple(
                [sample, original.view(), previous.view()],
                |sample, original, previous| {
                    from_sample * sample + from_original * original + from_previous * previous
                },
            ),
            None => map_pair(sample, original.view(), |sample, original| {
                from_sample * sample + from_original * original
            }),
        };
        // 3. The present guess is the next step's previous one.
        self.previous_original = Some(original.clone());
        Ok(StepOutput {
            prev_sample,
            pred_original_sample: original,
        })
    }
}
