//! The models, opened and ready: what generates, what scores.
//!
//! Everything here blocks: callers run it on blocking threads.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use diffusion::SchedulerKind;
use onnx::{
    Detector, DetectorIdentity, GenerationDefaults, Generator, Manifest, Mismatch, ModelIdentity,
    OnnxError, ProviderStatus, Runtime, RuntimeOptions, locate_library,
};

use crate::config::EngineOptions;
use crate::native::{self, NotFound};

/// Why the models cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Native parts or models are missing.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// ONNX Runtime or a model was refused.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// Model files differ from the manifest.
    #[error("model files differ from the manifest ({count} in all): {first}")]
    Mismatch {
        /// How many.
        count: usize,
        /// The first of them.
        first: Mismatch,
    },
    /// The folder of the models has no generator.
    #[error("no generator is installed ({} is missing)", path.display())]
    NoGenerator {
        /// Where it would be.
        path: PathBuf,
    },
    /// The folder of the models has no detector.
    #[error("no detector is installed ({} is missing)", path.display())]
    NoDetector {
        /// Where it would be.
        path: PathBuf,
    },
}

/// A generator and what is known about it.
pub struct GeneratorSlot {
    /// Name and digests.
    pub model: ModelIdentity,
    /// Steps and guidance scale of a request that names none.
    pub defaults: GenerationDefaults,
    /// Scheduler of a request that names none.
    pub scheduler: SchedulerKind,
    /// Whether it takes a prompt.
    pub takes_prompt: bool,
    /// Width and height of its pictures.
    pub picture_size: (u32, u32),
    /// Whether it can invert pictures.
    pub can_invert: bool,
    /// Whether the starting noise of its images can carry a watermark.
    pub carries_watermark: bool,
    generator: Mutex<Generator>,
}

impl GeneratorSlot {
    /// Opens a generator's folder.
    fn open(runtime: &Runtime, folder: &Path) -> Result<Self, OnnxError> {
        let mut generator = Generator::open(runtime, folder)?;
        Ok(Self {
            model: generator.model().clone(),
            defaults: generator.defaults(),
            scheduler: generator.default_scheduler(),
            takes_prompt: generator.takes_prompt(),
            picture_size: generator.picture_size()?,
            can_invert: generator.can_invert(),
            carries_watermark: generator.carries_watermark(),
            generator: Mutex::new(generator),
        })
    }

    /// The generator, for one user at a time.
    pub fn lock(&self) -> MutexGuard<'_, Generator> {
        // A generator holds no state between requests that a panic could leave half-changed.
        self.generator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A detector and what is known about it.
pub struct DetectorSlot {
    /// Name, version and digests.
    pub identity: DetectorIdentity,
    /// Whether the image encoder of its second expert is installed; `None` where it has no such expert.
    pub semantic_installed: Option<bool>,
    detector: Mutex<Detector>,
}

impl DetectorSlot {
    fn open(runtime: &Runtime, folder: &Path, native: &Path) -> Result<Self, OnnxError> {
        let detector = Detector::open(runtime, folder, native)?;
        if detector.semantic_installed() == Some(false) {
            tracing::warn!(
                "the detector's image encoder is not installed: scores rest on the trace alone; run `cargo xtask setup`"
            );
        }
        Ok(Self {
            identity: detector.identity().clone(),
            semantic_installed: detector.semantic_installed(),
            detector: Mutex::new(detector),
        })
    }

    /// The detector, for one user at a time.
    pub fn lock(&self) -> MutexGuard<'_, Detector> {
        // As with the generator: nothing is kept between requests.
        self.detector.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file without which a folder is no detector.
const DETECTOR_FILE: &str = "detector.json";

/// Which models to open.
#[derive(Clone, Copy)]
struct Parts {
    generator: bool,
    detector: bool,
}

impl Parts {
    const ALL: Self = Self {
        generator: true,
        detector: true,
    };
}

/// The models of this process.
pub struct Engine {
    status: ProviderStatus,
    generator: Option<GeneratorSlot>,
    detector: Option<DetectorSlot>,
    generator_folder: PathBuf,
    detector_folder: PathBuf,
}

impl Engine {
    /// Loads ONNX Runtime, checks the manifest and opens what is installed.
    ///
    /// # Errors
    /// Missing native parts, a GPU that is required and missing, files that differ from the
    /// manifest, and models that do not load. A generator or detector that is not installed is
    /// no error here but when it is asked for.
    pub fn open(options: &EngineOptions) -> Result<Self, EngineError> {
        Self::open_parts(options, Parts::ALL)
    }

    /// As [`open`](Self::open), without a generator: for a process that hands generations to workers.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_detector(options: &EngineOptions) -> Result<Self, EngineError> {
        let parts = Parts {
            generator: false,
            ..Parts::ALL
        };
        Self::open_parts(options, parts)
    }

    /// As [`open`](Self::open), without a detector: for a process that generates only.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_generator(options: &EngineOptions) -> Result<Self, EngineError> {
        let parts = Parts {
            detector: false,
            ..Parts::ALL
        };
        Self::open_parts(options, parts)
    }

    fn open_parts(options: &EngineOptions, parts: Parts) -> Result<Self, EngineError> {
        let library = match &options.runtime {
            Some(folder) => onnx::library::locate_library_from(Some(folder), Path::new("."))?,
            None => locate_library()?,
        };
        let native = onnx::library::native_folder(&library);
        let runtime = Runtime::load(&RuntimeOptions {
            library,
            provider: options.provider,
            require_gpu: options.require_gpu,
            threads: options.threads,
        })?;
        let models = installed_models(options)?;
        let folder = models.clone().unwrap_or_else(|| PathBuf::from("models"));
        let generator_folder = options
            .generator
            .clone()
            .unwrap_or_else(|| folder.join("generator"));
        let detector_folder = match &options.detector {
            Some(named) if parts.detector => {
                check_named_detector(named, &folder)?;
                named.clone()
            }
            _ => folder.join("detector"),
        };
        let generator =
            installed(&generator_folder, "model_index.json") || options.generator.is_some();
        let generator = (parts.generator && generator)
            .then(|| GeneratorSlot::open(&runtime, &generator_folder))
            .transpose()?;
        let may_open = models.is_some() || options.detector.is_some();
        let detector = may_open && installed(&detector_folder, DETECTOR_FILE);
        let detector = (parts.detector && detector)
            .then(|| DetectorSlot::open(&runtime, &detector_folder, &native))
            .transpose()?;
        Ok(Self {
            status: runtime.provider_status().clone(),
            generator,
            detector,
            generator_folder,
            detector_folder,
        })
    }

    /// The execution provider asked for and the one in use.
    #[must_use]
    pub fn provider_status(&self) -> &ProviderStatus {
        &self.status
    }

    /// The generator.
    ///
    /// # Errors
    /// When none is installed.
    pub fn generator(&self) -> Result<&GeneratorSlot, EngineError> {
        let missing = || EngineError::NoGenerator {
            path: self.generator_folder.clone(),
        };
        self.generator.as_ref().ok_or_else(missing)
    }

    /// The folder of the detector, whether or not one is installed there.
    #[must_use]
    pub fn detector_folder(&self) -> &Path {
        &self.detector_folder
    }

    /// The detector.
    ///
    /// # Errors
    /// When none is installed.
    pub fn detector(&self) -> Result<&DetectorSlot, EngineError> {
        let missing = || EngineError::NoDetector {
            path: self.detector_folder.clone(),
        };
        self.detector.as_ref().ok_or_else(missing)
    }
}

/// A detector outside the models' manifest brings its own, by which its files are checked.
fn check_named_detector(named: &Path, models: &Path) -> Result<(), EngineError> {
    if !installed(named, DETECTOR_FILE) {
        return Err(EngineError::NoDetector {
            path: named.to_owned(),
        });
    }
    let same = |path: &Path| path.canonicalize().ok();
    let is_the_models_own = same(named) == same(&models.join("detector"));
    if is_the_models_own && !installed(named, onnx::manifest::MANIFEST_FILE) {
        // It was checked with the models.
        return Ok(());
    }
    check_manifest(named)
}

/// Whether a folder holds the file without which it is no model at all.
fn installed(folder: &Path, file: &str) -> bool {
    folder.join(file).is_file()
}

/// The folder of models, checked against its manifest. A generator from elsewhere needs none, and
/// without a manifest nothing else is opened.
fn installed_models(options: &EngineOptions) -> Result<Option<PathBuf>, EngineError> {
    match native::models_folder(options) {
        Ok(models) => {
            check_manifest(&models)?;
            Ok(Some(models))
        }
        Err(_) if options.generator.is_some() && options.models.is_none() => Ok(None),
        Err(missing) => Err(missing.into()),
    }
}

fn check_manifest(models: &Path) -> Result<(), EngineError> {
    Manifest::load(models)?.check().map_err(|mismatches| {
        let count = mismatches.len();
        let first = mismatches
            .into_iter()
            .next()
            .expect("a failed check names a mismatch");
        EngineError::Mismatch { count, first }
    })
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("status", &self.status)
            .field(
                "generator",
                &self.generator.as_ref().map(|slot| &slot.model.name),
            )
            .field(
                "detector",
                &self.detector.as_ref().map(|slot| &slot.identity.name),
            )
            .finish_non_exhaustive()
    }
}
