//! Time of one scheduler step at (1, 4, 64, 64), the latents of a picture of 512 by 512, for every
//! scheduler: `cargo run -p diffusion --example step_times`. Each figure is the best of ROUNDS runs
//! of a whole loop, divided by its evaluations; scaling of the model's input is counted, the model
//! itself and the drawing of noise are not.
#![allow(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use std::time::{Duration, Instant};

use diffusion::{NoiseSource, Scheduler, SchedulerConfig, SchedulerKind, seed};
use ndarray::Array4;

const ROUNDS: usize = 200;
const STEPS: usize = 20;
const SHAPE: (usize, usize, usize) = (4, 64, 64);

/// Noise that is there already.
struct Ready(Array4<f32>);

impl NoiseSource for Ready {
    fn normals(&mut self, _shape: (usize, usize, usize, usize)) -> Array4<f32> {
        self.0.clone()
    }
}

fn main() {
    let plain = SchedulerConfig::default();
    let with = |text: &str| SchedulerConfig::parse(text).unwrap();
    for kind in SchedulerKind::GENERATIVE {
        report(kind.name(), kind, &plain);
    }
    let unipc = SchedulerKind::UniPc;
    report("unipc, order 3", unipc, &with(r#"{"solver_order": 3}"#));
    let thresholding = with(r#"{"thresholding": true, "sample_max_value": 2.0}"#);
    report("ddim, thresholding", SchedulerKind::Ddim, &thresholding);
}

fn report(name: &str, kind: SchedulerKind, config: &SchedulerConfig) {
    let noise = seed::initial_noise(1, SHAPE);
    let prediction = seed::initial_noise(2, SHAPE);
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let mut scheduler = config.scheduler(kind, STEPS).unwrap();
        let mut source = Ready(noise.clone());
        let start = noise.clone() * scheduler.init_noise_sigma() as f32;
        best = best.min(time(scheduler.as_mut(), start, &prediction, &mut source));
    }
    println!("{name:24} {:6.1} us", best.as_secs_f64() * 1e6);
}

fn time(
    scheduler: &mut dyn Scheduler,
    mut sample: Array4<f32>,
    prediction: &Array4<f32>,
    source: &mut dyn NoiseSource,
) -> Duration {
    let evaluations = scheduler.timesteps().len();
    let started = Instant::now();
    for step_index in 0..evaluations {
        let scale = scheduler.model_input_scale(step_index) as f32;
        if scale < 1.0 {
            std::hint::black_box(&sample * scale);
        }
        let output = scheduler.step(step_index, prediction.view(), sample.view(), source);
        sample = std::hint::black_box(output.unwrap()).prev_sample;
    }
    started.elapsed() / evaluations as u32
}
