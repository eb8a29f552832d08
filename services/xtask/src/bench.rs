//! `cargo xtask bench`: the figures that the project reports, each measured here and now.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::serving::{self, Part, Serving};
use crate::setup;
use crate::workspace::{Workspace, program};

/// Files of one scoring run; the difference to a run with one file leaves the start of the program out.
const SCORED_FILES: usize = 4;

/// What to measure, and how.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Measure programs of the release profile instead of the development profile.
    pub release: bool,
    /// Also measure the demonstration without native parts and without any build.
    pub cold: bool,
}

/// Measures everything, prints a table on standard error and one JSON document on standard output.
pub fn run(workspace: &Workspace, options: Options) -> Result<()> {
    setup::run(workspace, setup::Options::default())?;
    let bench = Bench { workspace, options };
    let mut document = json!({ "machine": bench.machine()? });
    document["models"] = bench.models()?;
    document["denoising"] = bench.example(
        "bench_loop",
        &[workspace.root().join("models/generator").into()],
    )?;
    document["ledger"] = bench.example("bench_ledger", &[])?;
    document["credentials"] = bench.example("bench_credentials", &[])?;
    document["score_12_megapixels"] = bench.score()?;
    document["demonstration"] = bench.demonstration()?;
    print_table(&document);
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

/// Measures the ledger alone, on a log of this many entries; prints one JSON document.
pub fn ledger(workspace: &Workspace, options: Options, entries: u64) -> Result<()> {
    setup::run(workspace, setup::Options::default())?;
    let bench = Bench { workspace, options };
    let arguments = ["--log".into(), entries.to_string().into()];
    let document = json!({
        "machine": bench.machine()?,
        "ledger": bench.example("bench_ledger", &arguments)?,
        "mirror": bench.mirror(entries)?,
    });
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

/// Measures the service under many clients alone; prints a table and one JSON document.
pub fn serving(workspace: &Workspace, options: Options, part: Part) -> Result<()> {
    setup::run(workspace, setup::Options::default())?;
    let bench = Bench { workspace, options };
    let measured = Serving {
        program: &bench.built("--bin", "retrace")?,
        root: workspace.root(),
        runtime: &workspace.runtime(),
    };
    let document = json!({ "machine": bench.machine()?, "serving": measured.measure(part)? });
    print_rows(serving::rows(&document["serving"]));
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

struct Bench<'a> {
    workspace: &'a Workspace,
    options: Options,
}

impl Bench<'_> {
    /// What the figures were measured on: without it they mean nothing.
    fn machine(&self) -> Result<Value> {
        let first = |path: &str, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text
                .lines()
                .find(|line| line.starts_with(key))
                .map(str::to_owned);
            line.and_then(|line| {
                line.split_once(':')
                    .map(|(_, value)| value.trim().to_owned())
            })
        };
        let commit = Command::new("git")
            .arg("-C")
            .arg(self.workspace.root())
            .args(["rev-parse", "HEAD"])
            .output();
        let commit = commit.ok().filter(|output| output.status.success());
        Ok(json!({
            "cores": std::thread::available_parallelism().context("the number of cores is not known")?.get(),
            "processor": first("/proc/cpuinfo", "model name"),
            "memory": first("/proc/meminfo", "MemTotal"),
            "load_average": fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
            "profile": if self.options.release { "release" } else { "dev" },
            "commit": commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        }))
    }

    /// Size of the committed model files.
    fn models(&self) -> Result<Value> {
        let path = self.workspace.root().join("models/manifest.toml");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let manifest: toml::Table = text.parse().context("the manifest is not TOML")?;
        let mut folders: std::collections::BTreeMap<String, i64> =
            std::collections::BTreeMap::new();
        for file in manifest
            .get("file")
            .and_then(toml::Value::as_array)
            .into_iter()
            .flatten()
        {
            let path = file
                .get("path")
                .and_then(toml::Value::as_str)
                .unwrap_or_default();
            let bytes = file
                .get("bytes")
                .and_then(toml::Value::as_integer)
                .unwrap_or_default();
            *folders
                .entry(path.split('/').next().unwrap_or_default().to_owned())
                .or_default() += bytes;
        }
        let total: i64 = folders.values().sum();
        Ok(json!({ "bytes": total, "folders": folders }))
    }

    /// A program of the workspace or an example of one of its crates, built in the profile that is measured.
    fn built(&self, kind: &str, name: &str) -> Result<PathBuf> {
        let mut arguments = vec![kind, name];
        if self.options.release {
            arguments.push("--release");
        }
        program(&self.workspace.build_with(&[], &arguments)?, name)
    }

    /// Runs a benchmark, which prints one JSON document.
    fn example(&self, name: &str, arguments: &[OsString]) -> Result<Value> {
        eprintln!("measuring with {name}");
        let output = Command::new(self.built("--example", name)?)
            .args(arguments)
            .current_dir(self.workspace.root())
            .env("RETRACE_RUNTIME", self.workspace.runtime())
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("{name} cannot be started"))?;
        if !output.status.success() {
            bail!("{name} failed with {}", output.status);
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{name} printed no JSON document"))
    }

    /// Time to check a mirrored log of this many entries offline.
    fn mirror(&self, entries: u64) -> Result<Value> {
        let folder = tempfile::tempdir().context("no temporary folder can be made")?;
        let made = self.example(
            "make_mirror",
            &[folder.path().into(), entries.to_string().into()],
        )?;
        let started = Instant::now();
        let mut verify = Command::new(self.built("--bin", "retrace-verify")?);
        verify
            .arg("ledger")
            .arg(folder.path())
            .arg("--public-key")
            .arg(folder.path().join("retrace.pub"))
            .stdout(Stdio::null());
        Workspace::must_succeed(verify, "the check of the mirrored log")?;
        Ok(json!({ "made": made, "retrace_verify_ledger_s": started.elapsed().as_secs_f64() }))
    }

    /// Time to score one picture of 12 megapixels with the program, its start left out.
    fn score(&self) -> Result<Value> {
        eprintln!("measuring the score of a picture of 12 megapixels");
        let folder = tempfile::tempdir().context("no temporary folder can be made")?;
        let picture = folder.path().join("picture.png");
        let mut make = Command::new(self.built("--example", "large_photograph")?);
        make.arg(self.workspace.runtime().join("samples/coffee.png"))
            .arg(&picture);
        Workspace::must_succeed(make, "the large photograph")?;
        let retrace = self.built("--bin", "retrace")?;
        let one = self.score_files(&retrace, &picture, 1)?;
        let several = self.score_files(&retrace, &picture, SCORED_FILES)?;
        Ok(json!({
            "seconds_per_picture": (several.0 - one.0) / (SCORED_FILES - 1) as f64,
            "seconds_first_picture_with_start": one.0,
            "bytes": fs::metadata(&picture)?.len(),
            "answer": { "verdict": one.1["verdict"], "timings_ms": one.1["timings_ms"] },
        }))
    }

    /// Wall-clock seconds for a number of copies of one picture, and the first answer.
    fn score_files(&self, retrace: &Path, picture: &Path, count: usize) -> Result<(f64, Value)> {
        let started = Instant::now();
        let output = Command::new(retrace)
            .args(["score", "--offline", "--json"])
            .args(std::iter::repeat_n(picture, count))
            .current_dir(self.workspace.root())
            .env("RETRACE_RUNTIME", self.workspace.runtime())
            .output()
            .with_context(|| format!("{} cannot be started", retrace.display()))?;
        let seconds = started.elapsed().as_secs_f64();
        if !output.status.success() {
            bail!(
                "scoring failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let first = output
            .stdout
            .split(|&byte| byte == b'\n')
            .next()
            .unwrap_or_default();
        Ok((
            seconds,
            serde_json::from_slice(first).context("the answer is not JSON")?,
        ))
    }

    /// The demonstration on a fresh state and again on the same, and from nothing at all where that is asked for.
    fn demonstration(&self) -> Result<Value> {
        let folder = tempfile::Builder::new()
            .prefix("retrace-bench-")
            .tempdir()
            .context("no temporary folder")?;
        let state = folder.path().join("state");
        let mut figures = json!({});
        if self.options.cold {
            let nothing = [
                ("RETRACE_RUNTIME", "runtime"),
                ("CARGO_TARGET_DIR", "target"),
                ("RETRACE_STATE", "cold"),
            ];
            let nothing = nothing.map(|(name, place)| (name, folder.path().join(place)));
            figures["from_nothing"] = self.demonstrate(&nothing)?;
        }
        let fresh = [("RETRACE_STATE", state)];
        figures["fresh_state"] = self.demonstrate(&fresh)?;
        figures["warm"] = self.demonstrate(&fresh)?;
        Ok(figures)
    }

    fn demonstrate(&self, settings: &[(&str, PathBuf)]) -> Result<Value> {
        eprintln!("measuring the demonstration");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|free| free.local_addr())?
            .port();
        let started = Instant::now();
        let mut command = self.workspace.cargo();
        command.args([
            "run",
            "--quiet",
            "--package",
            "xtask",
            "--",
            "demo",
            "--once",
            "--json",
        ]);
        command
            .args(["--port", &port.to_string()])
            .stderr(Stdio::null());
        for (name, value) in settings {
            command.env(name, value);
        }
        let output = command.output().context("cargo cannot be started")?;
        if !output.status.success() {
            bail!("the demonstration failed with {}", output.status);
        }
        let document: Value =
            serde_json::from_slice(&output.stdout).context("the demonstration printed no JSON")?;
        Ok(
            json!({ "seconds": started.elapsed().as_secs_f64(), "timings_ms": document["timings_ms"] }),
        )
    }
}

/// The chief figures, a line each.
fn print_table(document: &Value) {
    let number = |pointer: &str, unit: &str| match document.pointer(pointer).and_then(Value::as_f64)
    {
        Some(value) => format!("{value:.3} {unit}"),
        None => "not measured".to_owned(),
    };
    let mut rows = vec![(
        "size of the model files".to_owned(),
        number("/models/bytes", "bytes"),
    )];
    for scheduler in ["ddim", "euler", "dpm++2m"] {
        let pointer = format!("/denoising/loops/{scheduler}/outside_share");
        rows.push((
            format!("share of the loop outside sessions, {scheduler}"),
            number(&pointer, ""),
        ));
        let pointer = format!("/denoising/scheduler_step_us/{scheduler}");
        rows.push((
            format!("scheduler step at (1,4,64,64), {scheduler}"),
            number(&pointer, "µs"),
        ));
    }
    rows.push((
        "entries with proof".to_owned(),
        number("/ledger/append/entries_per_s", "per second"),
    ));
    for format in ["png", "jpeg", "webp"] {
        let pointer = format!("/credentials/{format}/sign_ms/p95");
        rows.push((
            format!("signing credentials at 1024 squared, p95, {format}"),
            number(&pointer, "ms"),
        ));
    }
    rows.push((
        "score of 12 megapixels".to_owned(),
        number("/score_12_megapixels/seconds_per_picture", "s"),
    ));
    for (name, what) in [
        ("from_nothing", "from nothing"),
        ("fresh_state", "on a fresh state"),
        ("warm", "warm"),
    ] {
        rows.push((
            format!("demonstration, {what}"),
            number(&format!("/demonstration/{name}/seconds"), "s"),
        ));
    }
    print_rows(rows);
}

fn print_rows(rows: Vec<(String, String)>) {
    for (name, figure) in rows {
        eprintln!("{name:<48} {figure}");
    }
}
