//! ONNX Runtime: sessions, the parts of a diffusion pipeline from a model folder, detector heads,
//! and the check of model files against their manifest.
//!
//! [`Runtime::load`] loads the library, [`Generator::open`] a pipeline in the diffusers ONNX
//! layout. A generator makes every image of a request in a batch of its own (with its
//! unconditional branch beside it), so that the same seed gives the same pixels whatever else the
//! request holds.

mod clip_vocabulary;
mod conditioning;
mod denoiser;
pub mod detector_folder;
pub mod error;
mod family;
pub mod folder;
pub mod generator;
pub mod heads;
pub mod identity;
mod image_loop;
pub mod inversion;
pub mod library;
pub mod manifest;
mod packing;
mod part;
mod part_config;
mod pixels;
mod plan;
pub mod prior;
mod prompt_encoder;
pub mod prompt_weights;
pub mod request;
pub mod runtime;
pub mod sigmas;
mod start;
mod text_encoder;
pub mod tokenizer;
mod vae;

pub use detector_folder::{Detector, DetectorIdentity};
pub use error::OnnxError;
pub use folder::GenerationDefaults;
pub use generator::Generator;
pub use heads::Heads;
pub use identity::{ModelIdentity, digest_file};
pub use inversion::{Inversion, InversionVerdict, InvertRequest};
pub use library::locate_library;
pub use manifest::{Manifest, Mismatch};
pub use prior::PhotoPrior;
pub use request::{
    GenerateRequest, GeneratedImage, Generation, Mask, Picture, Preview, Progress, Task, Timings,
    TruncatedPrompt,
};
pub use runtime::{Provider, ProviderStatus, Runtime, RuntimeOptions};
pub use sigmas::SigmaSpread;
