//! Fits a detector's heads, calibration and thresholds on measured pictures, with the protocol of
//! `models/training/detector`, and without Python.
//!
//! The crate is pure: measurements, settings and a seed come in, the files of a detector and its report come out. The
//! same inputs give the same bytes.

pub mod draws;
pub mod error;
pub mod figures;
pub mod logistic;
pub mod onnx_file;
pub mod ridge;
pub mod trees;

pub use draws::Draws;
pub use error::TrainingError;
