//! The options that say where things are: state, models, native parts, database.

use std::path::PathBuf;

use clap::Args;

/// Options that every command with a model or a ledger takes.
#[derive(Debug, Args, Clone)]
#[command(next_help_heading = "Environment")]
pub struct EnvironmentArgs {
    /// State folder: keys, images, private database
    #[arg(long, env = "RETRACE_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,

    /// Model folder with manifest.toml [default: models/ upwards from the working folder]
    #[arg(long, env = "RETRACE_MODELS", value_name = "DIR")]
    pub models: Option<PathBuf>,

    /// Native parts [default: .runtime/ upwards from the working folder]
    #[arg(long, env = "RETRACE_RUNTIME", value_name = "DIR")]
    pub runtime: Option<PathBuf>,

    /// Postgres to use instead of the private cluster
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Execution provider of the models: cpu or cuda
    #[arg(long, env = "RETRACE_PROVIDER", value_name = "NAME", default_value = "cpu")]
    pub provider: String,

    /// Fail when the asked provider is missing, instead of falling back to the CPU
    #[arg(long)]
    pub require_gpu: bool,

    /// Threads of the models [default: one per core]
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<usize>,
}
