//! Measures the denoising loop and prints one JSON document:
//!
//! ```text
//! cargo run --package onnx --example bench_loop -- models/generator [STEPS] [REPEATS] [THREADS]
//! ```
//!
//! For each scheduler: the time from text encoder to decoded pixels, the part of it spent inside
//! ONNX Runtime sessions and the share outside (medians of the repeats), and the time of one
//! scheduler step on a sample of shape (1, 4, 64, 64), scaling of the model's input included.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use diffusion::{SchedulerConfig, SchedulerKind, seed};
use onnx::{GenerateRequest, Generator, Runtime, RuntimeOptions};
use serde_json::{Value, json};

/// Steps of the scheduler measurement; long enough to leave the first-order steps behind.
const SCHEDULER_STEPS: usize = 50;
/// Runs of the scheduler measurement.
const SCHEDULER_RUNS: usize = 40;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = PathBuf::from(arguments.next().ok_or("which model folder?")?);
    let steps: u32 = arguments.next().map_or(Ok(25), |text| text.parse())?;
    let repeats: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let threads: usize = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let runtime = Runtime::load(&RuntimeOptions {
        threads,
        ..RuntimeOptions::cpu(onnx::locate_library()?)
    })?;
    let opened = Instant::now();
    let mut generator = Generator::open(&runtime, &model)?;
    let open_ms = opened.elapsed().as_secs_f64() * 1000.0;
    let mut loops = serde_json::Map::new();
    // Flow matching needs another kind of model.
    let diffusing = SchedulerKind::GENERATIVE
        .into_iter()
        .filter(|kind| !kind.is_flow());
    for kind in diffusing {
        let measured = bench_loop(&mut generator, kind, steps, repeats)?;
        loops.insert(kind.to_string(), measured);
    }
    let mut schedulers = serde_json::Map::new();
    for kind in SchedulerKind::GENERATIVE {
        schedulers.insert(kind.to_string(), json!(bench_scheduler(kind)?));
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let report = json!({
        "model": generator.model().name,
        "model_digest": generator.model().digest,
        "steps": steps,
        "repeats": repeats,
        "threads": runtime.threads(),
        "debug_assertions": cfg!(debug_assertions),
        "load_average": load.trim(),
        "open_ms": open_ms,
        "loops": loops,
        "scheduler_step_us": schedulers,
    });
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

fn bench_loop(
    generator: &mut Generator,
    kind: SchedulerKind,
    steps: u32,
    repeats: usize,
) -> Result<Value, Box<dyn Error>> {
    let request = GenerateRequest {
        prompt: generator.takes_prompt().then(|| "a red heart".to_owned()),
        seeds: vec![1],
        steps,
        scheduler: Some(kind),
        guidance_scale: generator.defaults().guidance_scale,
        ..GenerateRequest::default()
    };
    let mut generate = || generator.generate(&request, &mut |_| ControlFlow::Continue(()));
    generate()?;
    let (mut totals, mut sessions, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..repeats {
        let timings = generate()?.timings;
        totals.push(timings.loop_ms);
        sessions.push(timings.session_ms);
        shares.push(timings.outside_share());
    }
    Ok(json!({
        "loop_ms": median(totals),
        "session_ms": median(sessions),
        "outside_share": median(shares),
    }))
}

/// Median microseconds of one step.
fn bench_scheduler(kind: SchedulerKind) -> Result<f64, Box<dyn Error>> {
    let config = SchedulerConfig::default();
    let model_output = seed::initial_noise(2, (4, 64, 64));
    let mut times = Vec::with_capacity(SCHEDULER_RUNS * SCHEDULER_STEPS);
    for _ in 0..SCHEDULER_RUNS {
        let mut scheduler = config.scheduler(kind, SCHEDULER_STEPS)?;
        let mut noise = seed::noise_source(seed::NoiseKind::ChaCha20, &[3]);
        let mut sample = seed::initial_noise(1, (4, 64, 64));
        for step_index in 0..scheduler.timesteps().len() {
            let started = Instant::now();
            let scale = scheduler.model_input_scale(step_index) as f32;
            let scales = (scale - 1.0).abs() > f32::EPSILON;
            let scaled = scales.then(|| &sample * scale);
            std::hint::black_box(&scaled);
            let (output, from) = (model_output.view(), sample.view());
            let output = scheduler.step(step_index, output, from, noise.as_mut())?;
            times.push(started.elapsed().as_secs_f64() * 1e6);
            sample = output.prev_sample;
        }
    }
    Ok(median(times))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
