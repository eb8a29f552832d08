//! The reverse process: noise schedules, schedulers, the denoising loop, inversion and traces.
//!
//! The crate is pure: it reads no file, no clock and no environment, and starts no thread. Models
//! come in through [`NoisePredictor`], randomness through a seed, progress goes out through a
//! callback. Every transcendental function goes through the `libm` crate, so that the same seed
//! and the same configuration give the same bits on every platform.
//!
//! Words and names follow `scheduler_config.json` as published with diffusion models: `betas`,
//! `alphas_cumprod`, `timesteps`, `prev_sample`, `pred_original_sample`.

pub mod config;
pub mod denoise;
pub mod error;
pub mod guidance;
pub mod inversion;
pub mod schedule;
pub mod scheduler;
pub mod schedulers;
pub mod score;
pub mod seed;
pub mod spacing;

pub use config::SchedulerConfig;
pub use denoise::{NoisePredictor, StepReport, denoise};
pub use error::DiffusionError;
pub use inversion::{Trace, TraceStep, invert, reconstruct};
pub use scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput, skipped_evaluations};
pub use seed::{NoiseKind, NoiseSource};
