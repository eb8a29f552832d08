//! Trace features, calibration, evidence and verdict.
//!
//! The crate is pure: pixels, a noise predictor and the detector's frozen numbers come in; a
//! trace, a probability and a verdict come out. The same inputs give the same score.
//!
//! 1. [`extract`] runs the DDIM inversion of a few native-resolution patches with a pixel-space
//!    photo prior over rising noise levels and keeps statistics of each step: the [`ImageTrace`].
//! 2. [`features()`] flattens a trace into one row of named numbers for each patch. Training reads
//!    exactly these rows from the files that [`trace_file::TraceLine`] describes.
//! 3. A head (outside this crate) turns each row into a raw score.
//! 4. [`views::views`] cuts the views for a semantic expert (outside this crate), which gives each a
//!    raw score of its own.
//! 5. [`assess`] pools the raw scores, calibrates them for the measured quality and decides under
//!    frozen thresholds. Evidence of other kinds stands beside the probability, never inside it.

pub mod assessment;
pub mod calibration;
pub mod config;
pub mod error;
pub mod evidence;
pub mod features;
pub mod fusion;
pub mod heatmap;
pub mod inversion;
pub mod patch_path;
pub mod patches;
pub mod picture;
pub mod range;
pub mod semantic;
pub mod spectrum;
pub mod statistics;
pub mod trace;
pub mod trace_file;
pub mod views;

pub use assessment::{Assessment, DetectorProfile, Reason, Scores, Verdict, assess};
pub use calibration::{Calibration, Thresholds};
pub use config::TraceConfig;
pub use error::DetectorError;
pub use evidence::{Evidence, WatermarkStanding};
pub use features::{Features, features};
pub use fusion::Fusion;
pub use heatmap::Heatmap;
pub use patch_path::PatchPath;
pub use picture::PictureView;
pub use range::{StratumRange, TraceRange};
pub use semantic::{SemanticAnswer, SemanticScores, Silence};
pub use trace::{ImageTrace, extract};
pub use trace_file::TraceLine;

/// What this detector does not look for. Shown by the page, the card and every answer.
pub const SCOPE: &str = "Judges a whole still picture by the trace that an image generator leaves in \
its noise and by what it shows. Out of scope: face swaps, local edits, video, and whether what the picture shows is true.";
