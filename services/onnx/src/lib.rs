//! ONNX Runtime: sessions, the parts of a diffusion pipeline from a model folder, detector heads,
//! and the check of model files against their manifest.
//!
//! [`Runtime::load`] loads the library, [`Generator::open`] a pipeline in the diffusers ONNX
//! layout. At first a generator makes every image alone (with its unconditional branch beside it).
//! With [`Generator::set_images_per_batch`], images of one request and of several
//! ([`Generator::generate_together`]) share the evaluations of the model. The same seed gives the same
//! pixels whatever an image is made with: where a model gives a row other bits in a batch than alone,
//! which is measured, its images are made alone.
//!
//! Which pipelines are served, by the class in `model_index.json` (with the prefixes `ORT` and
//! `Onnx`, and with `Img2Img` and `Inpaint` before `Pipeline`):
//!
//! | class | parts beside scheduler and autoencoder | what the model is told |
//! |---|---|---|
//! | `StableDiffusionPipeline` | `unet`, `text_encoder`, `tokenizer` | last states of the tokens |
//! | `LatentConsistencyModelPipeline` | the same | and the guidance scale, as `timestep_cond` |
//! | `StableDiffusionXLPipeline` | and `text_encoder_2`, `tokenizer_2` | states before the last layer, `text_embeds`, `time_ids` |
//! | `StableDiffusion3Pipeline` | `transformer`, three encoders (T5 may be absent) | joint states, `pooled_projections` |
//! | `FluxPipeline` | `transformer`, two encoders | T5 states, `pooled_projections`, places, `guidance` |
//! | `DDPMPipeline`, `DDIMPipeline` | `unet` alone, autoencoder optional | `class_labels` where the model takes them |
//!
//! A U-Net with nine input channels takes mask and masked picture itself; with every other model
//! inpainting puts back what the mask keeps after each step. Input names, ranks and number types
//! are those that each model file declares.

mod clip_vocabulary;
mod conditioning;
mod denoiser;
pub mod detector_folder;
pub mod error;
mod evaluation;
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
pub mod semantic;
pub mod sigmas;
mod start;
mod text_encoder;
pub mod tokenizer;
mod vae;

pub use detector_folder::{Detector, DetectorIdentity, Measurements};
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
    GenerateRequest, GeneratedImage, Generation, LoopShape, Mask, MaskFill, Picture, Preview,
    Progress, Task, Timings, TruncatedPrompt, Usage, Watermark,
};
pub use runtime::{Provider, ProviderStatus, Runtime, RuntimeOptions};
pub use semantic::{SemanticContents, SemanticExpert, SemanticFeatures};
pub use sigmas::SigmaSpread;
