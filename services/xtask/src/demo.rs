//! `cargo xtask demo`: the three journeys on this machine, from a prompt to a proof that an auditor can check.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::client::Client;
use crate::progress::Step;
use crate::service::{Service, ServiceOptions, ensure_port_is_free};
use crate::setup;
use crate::workspace::{Workspace, program};

/// What the image shows, and the seed that makes it repeatable.
const PROMPT: &str = "a red heart";
const SEED: u64 = 7;
/// Folder of what the demonstration writes, in the root of the checkout.
const OUTPUT: &str = "retrace-out";
/// How to demonstrate.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Stop after the demonstration.
    pub once: bool,
    /// Print one JSON document on standard output.
    pub json: bool,
    /// Port of the service.
    pub port: u16,
}

/// Sets everything up, starts the service, walks through the journeys, and keeps the service running unless told
/// otherwise.
pub fn run(workspace: &Workspace, options: Options) -> Result<ExitCode> {
    let started = Instant::now();
    ensure_port_is_free(options.port)?;
    let mut timings = Timings::default();
    timings.measure("setup", || setup::run(workspace, setup::Options::default()))?;
    let built = timings.measure("build", || {
        eprintln!("building the service and the auditors' program");
        workspace.build(&["retrace", "retrace-verify"])
    })?;
    let (retrace, verify) = (
        program(&built, "retrace")?,
        program(&built, "retrace-verify")?,
    );

    let output = workspace.root().join(OUTPUT);
    fs::create_dir_all(&output).with_context(|| format!("{} cannot be made", output.display()))?;
    let client = Client::new(options.port);
    let mut service = timings.measure("start", || {
        let step = Step::spinner("starting the service with a private Postgres");
        let mut service = Service::start(&ServiceOptions {
            program: &retrace,
            folder: workspace.root(),
            runtime: &workspace.runtime(),
            port: options.port,
            log: &output.join("service.log"),
            settings: &[],
        })?;
        service.wait_until_ready(&client)?;
        step.done(client.base());
        Ok(service)
    })?;

    let mut journeys = Journeys {
        workspace,
        client: &client,
        verify: &verify,
        output: &output,
        timings,
    };
    let report = journeys.walk(&mut service)?;
    timings = journeys.timings;
    timings.set("total", started);
    print_report(&report, &timings, options.json)?;
    if options.once {
        service.stop()?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "\nThe service goes on at {} (pages: /, /studio, /review, /ledger). Ctrl-C stops it.",
        client.base()
    );
    match service.wait_for_interrupt()? {
        None => {
            service.stop()?;
            Ok(ExitCode::SUCCESS)
        }
        Some(status) => bail!("the service ended by itself with {status}"),
    }
}

/// How long each step took, in milliseconds, in the order of the steps.
#[derive(Debug, Default)]
struct Timings(Vec<(String, u64)>);

impl Timings {
    fn measure<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let from = Instant::now();
        let result = work()?;
        self.set(name, from);
        Ok(result)
    }

    fn set(&mut self, name: &str, from: Instant) {
        let milliseconds = u64::try_from(from.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.push((name.to_owned(), milliseconds));
    }
}

/// What the journeys produced.
struct Report {
    image_path: PathBuf,
    image: Value,
    bundle_path: PathBuf,
    public_key_path: PathBuf,
    provenance: Value,
    evidence: Evidence,
    scores: Vec<(PathBuf, Value)>,
    verification: String,
}

struct Journeys<'a> {
    workspace: &'a Workspace,
    client: &'a Client,
    verify: &'a Path,
    output: &'a Path,
    timings: Timings,
}

impl Journeys<'_> {
    /// Generate and sign, score, audit.
    fn walk(&mut self, service: &mut Service) -> Result<Report> {
        let (client, output) = (self.client, self.output);
        let answer = self.timings.measure("generate", || {
            let step = Step::spinner(format!("generating {PROMPT:?} with seed {SEED}"));
            let answer = client.generate(PROMPT, SEED)?;
            step.done("signed, recorded and covered by a checkpoint");
            Ok(answer)
        })?;
        service.check()?;
        let image = answer
            .pointer("/data/0")
            .context("the answer holds an image")?;
        let digests = image
            .get("image")
            .context("the image comes with its digests")?
            .clone();
        let provenance = image
            .get("provenance")
            .context("the image comes with its provenance")?
            .clone();
        let leaf_index = number(&provenance, "/entry/leaf_index")?;
        let image_path = self.output.join(format!("image-{leaf_index}.png"));
        let bundle_path = self.output.join(format!("image-{leaf_index}.bundle"));
        let bytes = BASE64
            .decode(text(image, "/b64_json")?)
            .context("the image is base64")?;
        write(&image_path, &bytes)?;
        let bundle = BASE64
            .decode(text(&provenance, "/bundle")?)
            .context("the bundle is base64")?;
        write(&bundle_path, &bundle)?;
        let public_key_path = output.join("retrace.pub");
        write(&public_key_path, &client.bytes("/v1/public-key")?)?;
        let evidence = Evidence::read(&bundle)?;

        let photograph = self.workspace.runtime().join("samples/chelsea.png");
        let mut scores = Vec::new();
        for path in [image_path.clone(), photograph] {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let answer = self
                .timings
                .measure(&format!("score_{}", scores.len()), || {
                    let step = Step::spinner(format!("scoring {name}"));
                    let answer = client.score(&path)?;
                    step.done(&text(&answer, "/verdict")?);
                    Ok(answer)
                })?;
            service.check()?;
            scores.push((path, answer));
        }

        let verification = self.audit(&bundle_path, &image_path, &public_key_path)?;
        Ok(Report {
            image_path,
            image: digests,
            bundle_path,
            public_key_path,
            provenance,
            evidence,
            scores,
            verification,
        })
    }

    /// Checks the bundle offline, then shows that a changed image is refused.
    fn audit(&mut self, bundle: &Path, image: &Path, public_key: &Path) -> Result<String> {
        let program = self.verify;
        let changed = tempfile::Builder::new()
            .suffix(".png")
            .tempfile()
            .context("no temporary file can be made")?;
        let mut bytes = fs::read(image).context("the image was just written")?;
        let last = bytes.last_mut().context("an image has bytes")?;
        *last ^= 1;
        fs::write(changed.path(), &bytes).context("the changed copy cannot be written")?;
        self.timings.measure("verify", || {
            let step = Step::spinner(
                "verifying the bundle with retrace-verify, the public key alone, no network",
            );
            let (holds, said) = verify_bundle(program, bundle, image, public_key)?;
            ensure!(holds, "retrace-verify refuses the bundle: {said}");
            let (holds_changed, _) = verify_bundle(program, bundle, changed.path(), public_key)?;
            ensure!(
                !holds_changed,
                "retrace-verify accepts an image with a changed byte"
            );
            step.done("it holds, and an image with one changed bit is refused");
            Ok(said)
        })
    }
}

/// Runs the auditors' program: whether the bundle holds, and what it said.
fn verify_bundle(
    program: &Path,
    bundle: &Path,
    image: &Path,
    public_key: &Path,
) -> Result<(bool, String)> {
    let output = Command::new(program)
        .arg("bundle")
        .arg(bundle)
        .arg("--image")
        .arg(image)
        .arg("--public-key")
        .arg(public_key)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&said).trim_end().to_owned(),
    ))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("{} cannot be written", path.display()))
}

fn text(document: &Value, pointer: &str) -> Result<String> {
    let found = document.pointer(pointer).and_then(Value::as_str);
    found
        .map(str::to_owned)
        .with_context(|| format!("the answer has no text at {pointer}"))
}

fn number(document: &Value, pointer: &str) -> Result<u64> {
    let found = document.pointer(pointer).and_then(Value::as_u64);
    found.with_context(|| format!("the answer has no number at {pointer}"))
}

/// What a bundle holds, as text for people.
struct Evidence {
    /// The signed entry, indented.
    entry: String,
    /// The inclusion proof with the signed checkpoint, a C2SP `tlog-proof@v1` text.
    proof: String,
}

impl Evidence {
    fn read(bundle: &[u8]) -> Result<Self> {
        let bundle: Value = serde_json::from_slice(bundle).context("the bundle is not JSON")?;
        let payload = BASE64
            .decode(text(&bundle, "/envelope/payload")?)
            .context("the envelope's payload is base64")?;
        let entry: Value = serde_json::from_slice(&payload).context("the entry is not JSON")?;
        Ok(Self {
            entry: serde_json::to_string_pretty(&entry)?,
            proof: text(&bundle, "/proof")?,
        })
    }
}

fn print_report(report: &Report, timings: &Timings, as_json: bool) -> Result<()> {
    let text = if as_json {
        document(report, timings)?
    } else {
        summary(report, timings)?
    };
    // Whoever reads may close the pipe early; that is no failure of the demonstration.
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("the report cannot be printed")
        }
        _ => Ok(()),
    }
}

/// The report for programs.
fn document(report: &Report, timings: &Timings) -> Result<String> {
    let at = |pointer: &str| {
        report
            .provenance
            .pointer(pointer)
            .cloned()
            .context(pointer.to_owned())
    };
    let score = |(path, answer): &(PathBuf, Value)| json!({ "path": path, "verdict": answer["verdict"], "probability": answer["probability"] });
    let document = json!({
        "image_path": report.image_path,
        "image": { "sha256": report.image["sha256"], "pixel_sha256": report.image["pixel_sha256"] },
        "entry": { "leaf_index": at("/entry/leaf_index")?, "leaf_hash": at("/entry/leaf_hash")? },
        "checkpoint": {
            "tree_size": at("/checkpoint/tree_size")?,
            "root_hash": at("/checkpoint/root_hash")?,
            "note": at("/checkpoint/note")?,
        },
        "bundle_path": report.bundle_path,
        "public_key_path": report.public_key_path,
        "scores": report.scores.iter().map(score).collect::<Vec<_>>(),
        "timings_ms": timings.0.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
    });
    Ok(serde_json::to_string_pretty(&document)?)
}

/// The report for people.
fn summary(report: &Report, timings: &Timings) -> Result<String> {
    let at = |pointer: &str| text(&report.provenance, pointer);
    let mut out = String::from("\n1. Generate and sign\n");
    out += &format!("   prompt        {PROMPT} (seed {SEED})\n");
    out += &format!("   image         {}\n", report.image_path.display());
    out += &format!("   sha256        {}\n", text(&report.image, "/sha256")?);
    out += &format!(
        "   pixel_sha256  {}\n",
        text(&report.image, "/pixel_sha256")?
    );
    out += &format!(
        "   leaf index    {}\n",
        number(&report.provenance, "/entry/leaf_index")?
    );
    out += &format!("   leaf hash     {}\n", at("/entry/leaf_hash")?);
    out += &format!("   signed entry\n{}\n", indented(&report.evidence.entry));
    out += &format!(
        "   inclusion proof and signed checkpoint\n{}\n",
        indented(&report.evidence.proof)
    );
    out += "\n2. Score\n";
    for (path, answer) in &report.scores {
        let probability = match answer["probability"].as_f64() {
            Some(probability) => format!("{probability:.3}"),
            None => "none".to_owned(),
        };
        out += &format!("   {}\n", path.display());
        out += &format!(
            "     verdict     {} ({})\n",
            text(answer, "/verdict")?,
            words(&answer["explanation"])
        );
        out += &format!("     probability {probability}\n");
        for item in answer["evidence"].as_array().into_iter().flatten() {
            out += &format!("     evidence    {}\n", words(item));
        }
    }
    out += "\n3. Audit\n";
    out += &format!("   bundle        {}\n", report.bundle_path.display());
    out += &format!("   public key    {}\n", report.public_key_path.display());
    out += &format!(
        "{}\n\nTimes in milliseconds:",
        indented(&report.verification)
    );
    for (name, milliseconds) in &timings.0 {
        out += &format!(" {name} {milliseconds}");
    }
    Ok(out)
}

/// A piece of an answer as words: texts as they are, everything else as compact JSON.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(members) => match members.get("sentence") {
            Some(Value::String(text)) => text.clone(),
            _ => value.to_string(),
        },
        other => other.to_string(),
    }
}

fn indented(text: &str) -> String {
    text.trim_end()
        .lines()
        .map(|line| format!("     {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let provenance = json!({
            "entry": { "leaf_index": 3, "leaf_hash": "cc" },
            "checkpoint": { "tree_size": 4, "root_hash": "dd", "note": "origin\n4\nroot\n" },
        });
        let score = json!({ "verdict": "Inconclusive", "explanation": "too small", "probability": null, "evidence": [] });
        Report {
            image_path: "out/image-3.png".into(),
            image: json!({ "sha256": "aa", "pixel_sha256": "bb" }),
            bundle_path: "out/image-3.bundle".into(),
            public_key_path: "out/retrace.pub".into(),
            provenance,
            evidence: Evidence {
                entry: "{}".to_owned(),
                proof: "proof".to_owned(),
            },
            scores: vec![("cat.png".into(), score)],
            verification: "holds".to_owned(),
        }
    }

    #[test]
    fn the_document_has_exactly_the_promised_keys() {
        let document: Value =
            serde_json::from_str(&document(&report(), &Timings::default()).unwrap()).unwrap();
        let mut keys: Vec<&str> = document
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut promised = [
            "image_path",
            "image",
            "entry",
            "checkpoint",
            "bundle_path",
            "public_key_path",
            "scores",
            "timings_ms",
        ];
        promised.sort_unstable();
        keys.sort_unstable();
        assert_eq!(keys, promised);
        assert_eq!(document["checkpoint"]["tree_size"], 4);
        assert_eq!(
            document["scores"][0],
            json!({ "path": "cat.png", "verdict": "Inconclusive", "probability": null })
        );
    }

    #[test]
    fn a_missing_probability_is_said_and_not_invented() {
        let summary = summary(&report(), &Timings::default()).unwrap();
        assert!(
            summary.contains("probability none") && summary.contains("too small"),
            "{summary}"
        );
    }

    #[test]
    fn a_bundles_entry_and_proof_are_shown_as_text() {
        let payload = BASE64.encode("{\"kind\":\"generation\"}");
        let bundle =
            json!({ "envelope": { "payload": payload }, "proof": "c2sp.org/tlog-proof@v1\n" })
                .to_string();
        let evidence = Evidence::read(bundle.as_bytes()).unwrap();
        assert!(evidence.entry.contains("\"kind\": \"generation\""));
        assert!(evidence.proof.starts_with("c2sp.org/tlog-proof@v1"));
    }
}
