//! Fits a detector's heads, calibration and thresholds on measured pictures, with the protocol of
//! `models/training/detector`, and without Python.
//!
//! The crate is pure: measurements, settings and a seed come in, the files of a detector and its report come out. The
//! same inputs give the same bytes.
//!
//! 1. [`recipe::copy`] makes copies of pictures in which format and size say nothing about the label.
//! 2. What the experts see in them (outside this crate) is a [`measured::MeasuredCopy`]; all of them are a
//!    [`table::Table`].
//! 3. [`tasks::fit_final`] fits the heads, and [`tasks::run`] those that judge pictures which they did not see, and the
//!    controls. A caller may run the tasks on several threads.
//! 4. [`conclude::conclude`] calibrates, sets thresholds, reports, and writes the files.

pub mod canaries;
mod card;
pub mod conclude;
pub mod decide;
pub mod draws;
pub mod error;
pub mod experts;
pub mod figures;
pub mod logistic;
pub mod measured;
pub mod onnx_file;
mod page;
mod plot;
pub mod recipe;
pub mod report;
pub mod ridge;
pub mod table;
pub mod tasks;
pub mod trees;

pub use draws::Draws;
pub use error::TrainingError;
