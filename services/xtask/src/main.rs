//! Developers' commands: native parts, demonstration, tests, benchmarks, fixtures.

mod all_tests;
mod bench;
mod client;
mod client_packages;
mod demo;
mod drills;
mod model_manifest;
mod native_parts;
mod progress;
mod queries;
mod service;
mod serving;
mod setup;
mod temporary_cluster;
mod tree;
mod wheel;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Developers' commands of Retrace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Brings the native parts (ONNX Runtime, Postgres, two sample photographs) and the client
    /// packages of the tests into `.runtime/`.
    Setup {
        /// Takes ONNX Runtime with the CUDA execution provider.
        #[arg(long)]
        gpu: bool,
    },
    /// Generates, signs, scores and verifies on this machine, and leaves the service running.
    Demo {
        /// Stops after the demonstration.
        #[arg(long)]
        once: bool,
        /// Prints one JSON document on standard output.
        #[arg(long)]
        json: bool,
        /// Port of the service.
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Measures the figures that the project reports; prints a table and one JSON document.
    Bench {
        /// Measures programs of the release profile.
        #[arg(long)]
        release: bool,
        /// Also measures the demonstration from nothing: no native parts, no builds.
        #[arg(long)]
        cold: bool,
        /// Measures the ledger alone: appends beside bare inserts, searches, exports and whole checks of a
        /// log of this many entries.
        #[arg(long, value_name = "ENTRIES", num_args = 0..=1, default_missing_value = "1000000")]
        ledger: Option<u64>,
        /// Measures the service under many clients alone: throughput, refusals under tenfold overload, memory.
        #[arg(long, value_name = "PART", num_args = 0..=1, default_missing_value = "all",
              conflicts_with_all = ["cold", "ledger"])]
        serving: Option<serving::Part>,
    },
    /// Kills the service and Postgres at random points under load, injects errors at each durable step of
    /// the ledger, and checks what was promised against what is recorded.
    Faults {
        /// How many kills.
        #[arg(long, default_value_t = 200)]
        kills: u64,
        /// Repeats the choices of a run.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Edits entries, tree nodes, checkpoints and tiles at random places, and has each edit found and
    /// located.
    Tamper {
        /// How many edits of the database, and as many of a mirrored log.
        #[arg(long, default_value_t = 1_000)]
        edits: u64,
        /// Repeats the choices of a run.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Feeds mutated notes, checkpoints, tile paths, tiles, proofs, bundles, manifests and keys to their parsers.
    Fuzz {
        /// How many inputs for each kind.
        #[arg(long, default_value_t = 1_000_000)]
        rounds: u64,
        /// Makes other choices than other seeds.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Runs every test; needs nothing that somebody started by hand.
    #[command(trailing_var_arg = true)]
    Test {
        /// Arguments for `cargo test`, for example `--package provenance` or `-- --nocapture`.
        #[arg(allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Describes the ledger's queries in `.sqlx/`, against a freshly migrated database.
    Sqlx {
        /// Only compares; fails when the committed descriptions are stale.
        #[arg(long)]
        check: bool,
    },
    /// Writes `models/manifest.toml`, or compares it with the files.
    Models {
        /// Writes the manifest.
        #[arg(long, required_unless_present = "check", conflicts_with = "check")]
        write: bool,
        /// Only compares; fails when the manifest is stale.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match &arguments.command {
        Command::Setup { gpu } => {
            setup::run(&workspace, setup::Options { gpu: *gpu })?;
            client_packages::bring(&workspace)?;
            eprintln!("the native parts are in {}", workspace.runtime().display());
        }
        Command::Demo { once, json, port } => {
            return demo::run(
                &workspace,
                demo::Options {
                    once: *once,
                    json: *json,
                    port: *port,
                },
            );
        }
        Command::Bench {
            release,
            cold,
            ledger,
            serving,
        } => {
            let options = bench::Options {
                release: *release,
                cold: *cold,
            };
            match (ledger, serving) {
                (Some(entries), _) => bench::ledger(&workspace, options, *entries)?,
                (None, Some(part)) => bench::serving(&workspace, options, *part)?,
                (None, None) => bench::run(&workspace, options)?,
            }
        }
        Command::Faults { kills, seed } => return drills::faults(&workspace, *kills, *seed),
        Command::Fuzz { rounds, seed } => return drills::fuzz(&workspace, *rounds, *seed),
        Command::Tamper { edits, seed } => return drills::tamper(&workspace, *edits, *seed),
        Command::Test { arguments } => return all_tests::run(&workspace, arguments),
        Command::Sqlx { check } => queries::run(&workspace, *check)?,
        Command::Models { write: _, check } => model_manifest::run(&workspace, *check)?,
    }
    Ok(ExitCode::SUCCESS)
}
