//! What the crate refuses, and why.

use std::path::{Path, PathBuf};

use detector::DetectorError;
use diffusion::DiffusionError;

/// Every way in which the runtime, a model folder, a request or a model's output can be refused.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// No ONNX Runtime library was found.
    #[error("no ONNX Runtime library found (looked for {looked_for}); run `cargo xtask setup`")]
    LibraryMissing {
        /// The places that were tried, as one line.
        looked_for: String,
    },
    /// The library is there and does not load.
    #[error("ONNX Runtime library {} does not load: {reason}", path.display())]
    LibraryLoad {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// A process can hold one ONNX Runtime only.
    #[error("this process already runs the ONNX Runtime library {}; {} is refused", loaded.display(), asked.display())]
    LibraryFixed {
        /// The library in use.
        loaded: PathBuf,
        /// The library asked for.
        asked: PathBuf,
    },
    /// A GPU was required and could not be proven to work.
    #[error("a GPU is required and CUDA does not work: {reason}")]
    GpuMissing {
        /// What the execution provider said.
        reason: String,
    },
    /// A model file is not one that ONNX Runtime can load.
    #[error("model {} does not load: {reason}", path.display())]
    Session {
        /// The model file.
        path: PathBuf,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// A model failed while it ran.
    #[error("{part} failed: {reason}")]
    Run {
        /// The part of the pipeline, such as `unet`.
        part: String,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// A file that the model folder needs is not there.
    #[error("model file {} is missing", path.display())]
    FileMissing {
        /// The missing file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("{} cannot be read: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A file of the model folder has contents that cannot be used.
    #[error("{} cannot be used: {reason}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A part has no input or output of the expected name.
    #[error("{part} has no {port} (it has {has})")]
    PortMissing {
        /// The part of the pipeline, such as `unet`.
        part: String,
        /// What was looked for, such as `input "sample"`.
        port: String,
        /// The names that are there.
        has: String,
    },
    /// A part wants an input that this pipeline does not make.
    #[error("{part} needs the input {input:?}, which this pipeline does not make")]
    InputNotMade {
        /// The part of the pipeline.
        part: String,
        /// The input's name.
        input: String,
    },
    /// An input or output has a type or shape that cannot be served.
    #[error("{part}: {port} is {found}, expected {expected}")]
    PortKind {
        /// The part of the pipeline.
        part: String,
        /// The input or output.
        port: String,
        /// What it is.
        found: String,
        /// What would serve.
        expected: String,
    },
    /// A part that answers in 16-bit floats left their range.
    #[error(
        "{part} gave a value that is not finite in 16-bit floats; export {} with 32-bit floats",
        path.display()
    )]
    HalfNotFinite {
        /// The part of the pipeline.
        part: String,
        /// Its model file.
        path: PathBuf,
    },
    /// The prompt could not be turned into tokens.
    #[error("prompt cannot be tokenised: {reason}")]
    Tokenise {
        /// What the tokenizer said.
        reason: String,
    },
    /// The request asks for something impossible.
    #[error("request refused: {reason}")]
    Request {
        /// Which limit it broke.
        reason: String,
    },
    /// A decoded image holds NaN or infinity.
    #[error("image {image_index} is not finite; it is refused")]
    ImageNotFinite {
        /// Place in the request, from 0.
        image_index: usize,
    },
    /// A decoded image has one colour only.
    #[error("image {image_index} is one constant colour; it is refused")]
    ImageConstant {
        /// Place in the request, from 0.
        image_index: usize,
    },
    /// A detector whose controls failed when it was trained.
    #[error("the detector in {} is refused: {reason}", folder.display())]
    DetectorRefused {
        /// Its folder.
        folder: PathBuf,
        /// What its training found.
        reason: String,
    },
    /// The manifest of the models cannot be used.
    #[error("manifest {} cannot be used: {reason}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A schedule, a step or the loop was refused.
    #[error(transparent)]
    Diffusion(#[from] DiffusionError),
    /// A trace, a score or a detector's frozen numbers were refused.
    #[error(transparent)]
    Detector(#[from] DetectorError),
}

impl OnnxError {
    /// Whether the request was stopped by its own progress callback.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Diffusion(DiffusionError::Cancelled { .. }))
    }

    /// A file that could not be opened: missing, or not readable.
    pub(crate) fn from_io(path: &Path, error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::NotFound {
            Self::FileMissing {
                path: path.to_owned(),
            }
        } else {
            Self::Read {
                path: path.to_owned(),
                reason: error.to_string(),
            }
        }
    }

    pub(crate) fn folder(path: &Path, reason: impl Into<String>) -> Self {
        Self::Folder {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn request(reason: impl Into<String>) -> Self {
        Self::Request {
            reason: reason.into(),
        }
    }
}
