//! The options that say where things are: models, native parts, state, database.

use std::path::PathBuf;

use api::config::{
    Config, CredentialOptions, EngineOptions, ORIGIN_DEFAULT, SignerOptions, SigningOptions,
    TimeStampOptions,
};
use clap::{Args, ValueEnum};
use onnx::library::locate_library_from;
use onnx::{Provider, RuntimeOptions};

use super::failure::Failure;

/// Longest organisation name in a certificate (X.520).
const OPERATOR_CHARS_MAX: usize = 64;
/// Where the service keeps its state when nobody says.
const STATE_DEFAULT: &str = "./retrace-state/";

/// Options of every command that runs a model.
#[derive(Debug, Args, Clone)]
#[command(next_help_heading = "Models")]
pub struct EngineArgs {
    /// Model folder with manifest.toml [default: models/ upwards from the working folder]
    #[arg(
        long,
        env = "RETRACE_MODELS",
        value_name = "DIR",
        hide_env_values = true
    )]
    models: Option<PathBuf>,

    /// Native parts [default: .runtime/ upwards from the working folder]
    #[arg(
        long,
        env = "RETRACE_RUNTIME",
        value_name = "DIR",
        hide_env_values = true
    )]
    runtime: Option<PathBuf>,

    /// Folder of a detector that `retrace train` made [default: detector/ of the models]
    #[arg(long, env = "RETRACE_DETECTOR", value_name = "DIR")]
    detector: Option<PathBuf>,

    /// Where models run: the processor or an NVIDIA GPU
    #[arg(
        long,
        env = "RETRACE_PROVIDER",
        value_name = "NAME",
        default_value = "cpu"
    )]
    provider: ProviderName,

    /// Fail when the asked provider does not work, instead of falling back to the processor
    #[arg(long, env = "RETRACE_REQUIRE_GPU")]
    require_gpu: bool,

    /// Threads inside one operator; 0 means one per core
    #[arg(
        long,
        env = "RETRACE_THREADS",
        value_name = "COUNT",
        default_value_t = 0
    )]
    threads: usize,
}

/// Options of every command that reaches the ledger.
#[derive(Debug, Args, Clone)]
#[command(next_help_heading = "State")]
pub struct StateArgs {
    /// State folder: keys, images, checkpoints, private database
    #[arg(long, env = "RETRACE_STATE", value_name = "DIR", default_value = STATE_DEFAULT)]
    state: PathBuf,

    /// Postgres to use instead of the private cluster in the state folder
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,

    /// Name of the log in checkpoints and keys; changing it starts another log
    #[arg(long, env = "RETRACE_ORIGIN", value_name = "NAME", default_value = ORIGIN_DEFAULT)]
    origin: String,

    #[command(flatten)]
    signing: SigningOptions,

    #[command(flatten)]
    signer: SignerOptions,
}

/// Options of every command that signs files.
#[derive(Debug, Args, Clone)]
#[command(next_help_heading = "Content Credentials")]
pub struct CredentialArgs {
    /// Who runs this service, as the files that it makes say [default: the log's name]
    #[arg(long, env = "RETRACE_OPERATOR", value_name = "NAME", value_parser = operator)]
    operator: Option<String>,

    /// Own certificate chain, PEM, the signing certificate first [default: made in keys/ of the
    /// state folder, under a root of its own that nobody else trusts]
    #[arg(
        long,
        env = "RETRACE_CREDENTIAL_CHAIN",
        value_name = "FILE",
        requires = "credential_key"
    )]
    credential_chain: Option<PathBuf>,

    /// Private key of that chain, PKCS#8 PEM, mode 600
    #[arg(
        long,
        env = "RETRACE_CREDENTIAL_KEY",
        value_name = "FILE",
        requires = "credential_chain"
    )]
    credential_key: Option<PathBuf>,

    /// Certificates under which the signers of uploads are trusted, PEM, beside the service's own root
    #[arg(long, env = "RETRACE_TRUST_ANCHORS", value_name = "FILE")]
    trust_anchors: Option<PathBuf>,

    /// Leave the service's watermark out of the starting noise of images; entries say so
    #[arg(long, env = "RETRACE_NO_WATERMARK")]
    no_watermark: bool,

    #[command(flatten)]
    time_stamps: TimeStampOptions,
}

impl CredentialArgs {
    /// The service's configuration with these options in it.
    pub fn add_to(&self, mut config: Config) -> Config {
        config.credentials = CredentialOptions {
            operator: self.operator.clone().unwrap_or(config.origin.clone()),
            chain: self.credential_chain.clone(),
            key: self.credential_key.clone(),
            anchors: self.trust_anchors.clone(),
        };
        config.watermark = !self.no_watermark;
        config.time_stamps = self.time_stamps.clone();
        config
    }
}

/// A name that certificates and manifests can carry.
fn operator(name: &str) -> Result<String, String> {
    let printable = name.chars().all(|character| !character.is_control());
    if name.trim().is_empty() || name.chars().count() > OPERATOR_CHARS_MAX || !printable {
        return Err(format!(
            "a name has 1 to {OPERATOR_CHARS_MAX} printable characters"
        ));
    }
    Ok(name.to_owned())
}

/// The execution providers, as the command line spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProviderName {
    Cpu,
    Cuda,
}

impl EngineArgs {
    /// The library's options, with a generator from another folder where one is named.
    pub fn options(&self, generator: Option<PathBuf>) -> EngineOptions {
        EngineOptions {
            models: self.models.clone(),
            runtime: self.runtime.clone(),
            generator,
            detector: self.detector.clone(),
            provider: match self.provider {
                ProviderName::Cpu => Provider::Cpu,
                ProviderName::Cuda => Provider::Cuda,
            },
            require_gpu: self.require_gpu,
            threads: self.threads,
        }
    }
}

impl EngineArgs {
    /// Threads for work outside the models.
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// How to load ONNX Runtime for a model file that is named on the command line.
    pub fn runtime_options(&self) -> Result<RuntimeOptions, Failure> {
        let options = self.options(None);
        let folder = api::native::runtime_folder(&options).map_err(Failure::environment)?;
        let library = locate_library_from(Some(&folder), &folder).map_err(Failure::environment)?;
        Ok(RuntimeOptions {
            library,
            provider: options.provider,
            require_gpu: options.require_gpu,
            threads: options.threads,
        })
    }
}

impl StateArgs {
    /// The service's configuration on this state.
    pub fn config(&self, engine: EngineOptions) -> Config {
        Config {
            credentials: CredentialOptions::of(&self.origin),
            database_url: self.database_url.clone(),
            origin: self.origin.clone(),
            signing: self.signing.clone(),
            signer: self.signer.clone(),
            engine,
            ..Config::new(self.state.clone())
        }
    }
}
