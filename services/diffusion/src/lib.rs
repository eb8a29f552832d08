#![doc = include_str!("../README.md")]

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
pub mod watermark;

pub use config::SchedulerConfig;
pub use denoise::{NoisePredictor, ReverseProcess, StepReport, denoise};
pub use error::DiffusionError;
pub use inversion::{Trace, TraceStep, invert, reconstruct};
pub use scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput, skipped_evaluations};
pub use seed::{NoiseKind, NoiseSource};
pub use watermark::{WatermarkId, WatermarkKey, WatermarkReading};
