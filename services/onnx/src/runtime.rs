//! The ONNX Runtime of this process: library, execution provider, threads.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::TensorRef;
use serde::{Deserialize, Serialize};

use crate::error::OnnxError;

/// `y = x + x` on two 32-bit floats: the smallest model that proves a provider by running on it.
const PROBE_MODEL: &[u8] = include_bytes!("probe.onnx");

/// Where models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// How to load ONNX Runtime. Whoever controls `library` controls every image and score that this
/// process signs.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// The shared library, see [`crate::locate_library`].
    pub library: PathBuf,
    /// The provider to use.
    pub provider: Provider,
    /// Refuse to start when the provider is CUDA and does not work, instead of falling back to the
    /// processor.
    pub require_gpu: bool,
    /// Threads inside one operator; 0 means one per core.
    pub threads: usize,
}

impl RuntimeOptions {
    /// The processor, with one thread per core.
    pub fn cpu(library: PathBuf) -> Self {
        Self {
            library,
            provider: Provider::Cpu,
            require_gpu: false,
            threads: 0,
        }
    }
}

/// Which provider was asked for and which one was proven to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderStatus {
    /// Asked for.
    pub asked: Provider,
    /// In use.
    pub used: Provider,
    /// Why the two differ; `None` when they do not.
    pub warning: Option<String>,
}

/// A loaded ONNX Runtime. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    environment: Environment,
    status: ProviderStatus,
    require_gpu: bool,
    threads: usize,
}

/// Where ONNX Runtime finds the external weights of a model that it gets as bytes.
const EXTERNAL_WEIGHTS_FOLDER: &str = "session.model_external_initializers_file_folder_path";
/// With what accuracy ONNX Runtime multiplies by weights of 8 bits; left alone it rounds the other
/// factor to 8 bits too.
const PRODUCT_ACCURACY: &str = "session.qdq_matmulnbits_accuracy_level";
/// 32 bits.
const PRODUCT_ACCURACY_REAL: &str = "1";

/// The library and environment of this process. They are never unloaded: ONNX Runtime allows one
/// environment per process, and its CUDA provider may abort when it is taken down at exit.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

impl Runtime {
    /// Loads the library (once per process), proves the provider by running a small model on it.
    ///
    /// # Errors
    /// [`OnnxError::LibraryLoad`], [`OnnxError::LibraryFixed`] when another library is in use, and
    /// [`OnnxError::GpuMissing`] when a GPU is required and does not work.
    pub fn load(options: &RuntimeOptions) -> Result<Self, OnnxError> {
        let environment = load_environment(&options.library)?;
        let status = match options.provider {
            Provider::Cpu => ProviderStatus {
                asked: Provider::Cpu,
                used: Provider::Cpu,
                warning: None,
            },
            Provider::Cuda => prove_cuda_status(&environment, options.require_gpu)?,
        };
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        Ok(Self {
            environment,
            status,
            require_gpu: options.require_gpu,
            threads,
        })
    }

    /// The provider asked for and the one in use.
    pub fn provider_status(&self) -> &ProviderStatus {
        &self.status
    }

    /// Threads inside one operator.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Opens a model file; external weights are found beside it.
    pub(crate) fn open_session(&self, path: &Path) -> Result<Session, OnnxError> {
        if !path.is_file() {
            return Err(OnnxError::FileMissing {
                path: path.to_owned(),
            });
        }
        self.session_of(path, |builder| builder.commit_from_file(path))
    }

    /// Opens a model from its bytes; `path` says in errors where it comes from, and external weights
    /// are found in the folder `weights`.
    pub(crate) fn open_session_from(
        &self,
        path: &Path,
        model: &[u8],
        weights: Option<&Path>,
    ) -> Result<Session, OnnxError> {
        self.session_of(path, |builder| match weights {
            None => builder.commit_from_memory(model),
            Some(folder) => builder
                .clone()
                .with_config_entry(EXTERNAL_WEIGHTS_FOLDER, folder.to_string_lossy())?
                .with_config_entry(PRODUCT_ACCURACY, PRODUCT_ACCURACY_REAL)?
                .commit_from_memory(model),
        })
    }

    fn session_of(
        &self,
        path: &Path,
        commit: impl FnOnce(&mut SessionBuilder) -> ort::Result<Session>,
    ) -> Result<Session, OnnxError> {
        let refuse = |reason: String| OnnxError::Session {
            path: path.to_owned(),
            reason,
        };
        let builder = self
            .session_builder()
            .map_err(|error| refuse(error.to_string()))?;
        let mut builder = match self.status.used {
            Provider::Cpu => builder,
            Provider::Cuda => self.with_cuda(builder)?,
        };
        commit(&mut builder).map_err(|error| refuse(error.to_string()))
    }

    /// Own threads for each session, which sleep while they wait: threads that spin made a run two
    /// to three times slower on cores shared with other work. Operators run one after another and
    /// in their deterministic form, so that equal inputs give equal bits.
    fn session_builder(&self) -> ort::Result<SessionBuilder> {
        Ok(Session::builder(&self.environment)?
            .with_intra_threads(self.threads)?
            .with_inter_threads(1)?
            .with_parallel_execution(false)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_deterministic_compute(true)?)
    }

    /// The provider worked at the start; a session that it refuses now falls back all the same,
    /// with a warning, unless a GPU is required.
    fn with_cuda(&self, builder: SessionBuilder) -> Result<SessionBuilder, OnnxError> {
        match builder.with_execution_providers([cuda()]) {
            Ok(builder) => Ok(builder),
            Err(error) if self.require_gpu => Err(OnnxError::GpuMissing {
                reason: error.to_string(),
            }),
            Err(error) => {
                tracing::warn!(%error, "CUDA refused a session; it runs on the processor");
                Ok(error.recover())
            }
        }
    }
}

fn cuda() -> ep::ExecutionProviderDispatch {
    ep::CUDA::default().build().error_on_failure()
}

fn load_environment(library: &Path) -> Result<Environment, OnnxError> {
    let path = library
        .canonicalize()
        .map_err(|error| OnnxError::LibraryLoad {
            path: library.to_owned(),
            reason: error.to_string(),
        })?;
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((loaded, environment)) = loaded.as_ref() {
        if *loaded == path {
            return Ok(environment.clone());
        }
        return Err(OnnxError::LibraryFixed {
            loaded: loaded.clone(),
            asked: path,
        });
    }
    let refuse = |reason: String| OnnxError::LibraryLoad {
        path: path.clone(),
        reason,
    };
    let environment = ort::init_from(&path)
        .map_err(|error| refuse(error.to_string()))?
        .with_name("retrace")
        .with_telemetry(false)
        .build()
        .map_err(|error| refuse(error.to_string()))?;
    *loaded = Some((path, environment.clone()));
    Ok(environment)
}

fn prove_cuda_status(
    environment: &Environment,
    require_gpu: bool,
) -> Result<ProviderStatus, OnnxError> {
    let Err(reason) = prove_cuda(environment) else {
        return Ok(ProviderStatus {
            asked: Provider::Cuda,
            used: Provider::Cuda,
            warning: None,
        });
    };
    if require_gpu {
        return Err(OnnxError::GpuMissing { reason });
    }
    let warning =
        format!("CUDA was asked for and does not work; models run on the processor: {reason}");
    tracing::warn!("{warning}");
    Ok(ProviderStatus {
        asked: Provider::Cuda,
        used: Provider::Cpu,
        warning: Some(warning),
    })
}

/// Runs the probe on CUDA with the fall-back to the processor switched off: a library that was
/// merely compiled with CUDA fails here.
fn prove_cuda(environment: &Environment) -> Result<(), String> {
    let sum = run_probe(environment).map_err(|error| error.to_string())?;
    if sum == [2.0, 4.0] {
        Ok(())
    } else {
        Err(format!("the probe answered {sum:?} instead of [2.0, 4.0]"))
    }
}

fn run_probe(environment: &Environment) -> ort::Result<Vec<f32>> {
    let mut session = Session::builder(environment)?
        .with_disable_cpu_fallback()?
        .with_execution_providers([cuda()])?
        .commit_from_memory(PROBE_MODEL)?;
    let input = TensorRef::from_array_view(([2_usize], &[1.0_f32, 2.0][..]))?;
    let outputs = session.run(ort::inputs!["x" => input])?;
    let (_, values) = outputs["y"].try_extract_tensor::<f32>()?;
    Ok(values.to_vec())
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Runtime")
            .field("status", &self.status)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}
