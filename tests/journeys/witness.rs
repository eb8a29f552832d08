//! A witness process: it cosigns what continues the log, across restarts, and nothing else.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use api::config::{ORIGIN_DEFAULT, WitnessOptions};
use api::keys::{Keys, Vault};
use ledger::Scope;
use provenance::merkle::{Appender, NewNode, consistency_nodes};
use provenance::{
    AddCheckpoint, Checkpoint, CheckpointSigner, Digest, Entry, EntrySigner, Envelope, PublicKeys,
    RecordedDetector, RecordedVerdict, ScoreEntry, TreeSize, WitnessSigner, WitnessVerifier,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::client::{Answer, Client};
use tests::programs::program;
use tests::service::{TestService, reachable_folder, spawn_app_on_with};

const ORIGIN: &str = "retrace.test/log";

/// A running `retrace witness`.
struct Witness {
    child: Child,
    client: Client,
    port: u16,
    key: WitnessVerifier,
}

impl Witness {
    fn start(folder: &Path) -> Self {
        Self::start_on(folder, "0")
    }

    fn start_on(folder: &Path, port: &str) -> Self {
        let mut child = Command::new(program("retrace").unwrap())
            .current_dir(folder)
            .args([
                "witness",
                "--name",
                "witness.test/w1",
                "--log",
                "retrace.pub",
            ])
            .args(["--state", "seen", "--port", port, "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let port = u16::try_from(told["port"].as_u64().unwrap()).unwrap();
        Self {
            child,
            client: Client::new(port, None),
            port,
            key: told["key"].as_str().unwrap().parse().unwrap(),
        }
    }

    /// The policy that believes this witness.
    fn policy(&self, quorum: &str) -> String {
        let Self { key, port, .. } = self;
        format!("witness w1 {key} http://127.0.0.1:{port}\nquorum {quorum}\n")
    }

    fn ask(&self, body: &str) -> Answer {
        self.client
            .post("/add-checkpoint", ("text/plain", body.as_bytes()), &[])
    }

    /// Killed at once, as a machine that loses power does.
    fn kill(self) {
        drop(self);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A log that appends as it is told.
struct Log {
    signer: CheckpointSigner,
    tree: Appender,
    nodes: Vec<NewNode>,
}

impl Log {
    fn new() -> Self {
        Self {
            signer: CheckpointSigner::from_seed(ORIGIN, [2; 32]).unwrap(),
            tree: Appender::empty(),
            nodes: Vec::new(),
        }
    }

    fn grow(&mut self, word: &str, leaves: u64) {
        for number in 0..leaves {
            let leaf = Digest::of(format!("{word} {number}").as_bytes());
            self.tree.append(leaf, &mut self.nodes).unwrap();
        }
    }

    /// The request for its newest checkpoint, with the proof from this size.
    fn request(&self, old: u64) -> AddCheckpoint {
        let old_size = TreeSize::new(old);
        let consistency_proof = match old {
            0 => Vec::new(),
            _ => {
                let plan = consistency_nodes(old_size, self.tree.size()).unwrap();
                let hash = |id| self.nodes.iter().find(|node| node.id == id).unwrap().hash;
                let hashes: Vec<Digest> = plan.ids().iter().map(|id| hash(*id)).collect();
                plan.fold(&hashes).unwrap()
            }
        };
        let checkpoint = Checkpoint {
            origin: ORIGIN.to_owned(),
            tree_size: self.tree.size(),
            root_hash: self.tree.root(),
        };
        AddCheckpoint {
            old_size,
            consistency_proof,
            checkpoint: checkpoint.sign(&self.signer).unwrap(),
        }
    }
}

#[test]
fn a_witness_cosigns_one_history_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let entries = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
    let mut log = Log::new();
    let keys = PublicKeys::new(entries.verifier(), log.signer.verifier()).unwrap();
    std::fs::write(folder.path().join("retrace.pub"), keys.to_string()).unwrap();
    let witness = Witness::start(folder.path());

    log.grow("leaf", 3);
    let mut forked = Log::new();
    forked.grow("another history", 9);
    let request = log.request(0);
    let answer = witness.ask(&request.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = answer.text();
    let cosigned = request.checkpoint.with_line(line.trim_end()).unwrap();
    assert!(witness.key.verify(&cosigned).unwrap() > 1_700_000_000);
    // The same again is cosigned again.
    assert_eq!(witness.ask(&log.request(3).to_string()).status, 200);

    let key = witness.key.clone();
    witness.kill();
    let witness = Witness::start(folder.path());
    assert_eq!(witness.key, key);
    log.grow("more", 5);
    let behind = witness.ask(&log.request(0).to_string());
    assert_eq!((behind.status, &behind.text()[..]), (409, "3\n"));
    assert_eq!(behind.media_type, "text/x.tlog.size");
    assert_eq!(witness.ask(&forked.request(3).to_string()).status, 422);
    assert_eq!(witness.ask(&log.request(3).to_string()).status, 200);
    let mut same_size = Log::new();
    same_size.grow("another history", 8);
    assert_eq!(witness.ask(&same_size.request(8).to_string()).status, 409);

    let mut stranger = log.request(8);
    let signer = CheckpointSigner::from_seed(ORIGIN, [9; 32]).unwrap();
    stranger.checkpoint = stranger
        .checkpoint
        .unverified()
        .clone()
        .sign(&signer)
        .unwrap();
    assert_eq!(witness.ask(&stranger.to_string()).status, 403);
    let signer = CheckpointSigner::from_seed("other.test/log", [9; 32]).unwrap();
    let mut unknown = stranger.checkpoint.unverified().clone();
    unknown.origin = "other.test/log".to_owned();
    stranger.checkpoint = unknown.sign(&signer).unwrap();
    assert_eq!(witness.ask(&stranger.to_string()).status, 404);
    for malformed in ["", "old 8\n", "old eight\n\nx\n\n— x AAAA\n"] {
        assert_eq!(witness.ask(malformed).status, 400, "{malformed:?}");
    }
    assert_eq!(witness.ask(&"x".repeat(1 << 20)).status, 413);
    witness.kill();
}

/// A state folder with the signing keys in it, and beside it a file for the policy.
fn state_with_keys() -> (TempDir, Keys) {
    let state = reachable_folder().unwrap();
    let keys = Keys::open(state.path(), ORIGIN_DEFAULT, &Vault::default()).unwrap();
    (state, keys)
}

/// Cosigns soon, and asks again soon.
fn witnessed_by(policy: &Path) -> WitnessOptions {
    WitnessOptions {
        witness_policy: Some(policy.to_owned()),
        witness_interval_ms: 20,
        witness_backoff_ms_max: 50,
        ..WitnessOptions::default()
    }
}

fn metric(client: &Client, name: &str) -> u64 {
    let text = client.get("/metrics").text();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// Runs the auditors' program in a folder; its exit code and its report.
fn verify(folder: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = Command::new(program("retrace-verify").unwrap())
        .current_dir(folder)
        .arg("--json")
        .args(arguments)
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

/// Runs `retrace ledger check` beside a running service; its exit code and its report.
fn check_ledger(service: &TestService, policy: &Path) -> (Option<i32>, Value) {
    let output = Command::new(program("retrace").unwrap())
        .args(["ledger", "check", "--json", "--witness-policy"])
        .arg(policy)
        .env("RETRACE_STATE", service.state())
        .env("DATABASE_URL", service.database_url())
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

fn check_of<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap()
}

#[test]
fn a_service_answers_with_the_quorum_that_its_auditors_demand() {
    let (state, keys) = state_with_keys();
    let witness = Witness::start(state.path());
    let audit = tempfile::tempdir().unwrap();
    let policy = audit.path().join("witnesses.txt");
    std::fs::write(&policy, witness.policy("w1")).unwrap();
    // The auditors' own, to which the keys of logs are added.
    std::fs::copy(&policy, audit.path().join("policy.txt")).unwrap();
    let service = spawn_app_on_with(state, |config| config.witnesses = witnessed_by(&policy));
    let client = service.client_with("newsroom", &[Scope::Generate, Scope::Audit]);
    let body = json!({ "prompt": "a red heart", "seed": 7, "num_inference_steps": 2 });
    let made = client.post_json("/v1/images/generations", &body);
    made.expect_ok();

    let bundle = client.get("/v1/entries/0/bundle").body;
    std::fs::write(audit.path().join("a.bundle"), &bundle).unwrap();
    std::fs::write(audit.path().join("retrace.pub"), keys.public.to_string()).unwrap();
    let checkpoint = client.get("/checkpoint").text();
    std::fs::write(audit.path().join("checkpoint"), &checkpoint).unwrap();
    let demanding = ["--public-key", "retrace.pub", "--policy", "policy.txt"];
    for task in [
        &["bundle", "a.bundle", "--no-image"][..],
        &["checkpoint", "checkpoint"],
    ] {
        let (code, report) = verify(audit.path(), &[task, &demanding].concat());
        assert_eq!(code, Some(0), "{report}");
        let said = check_of(&report, "witnesses")["detail"].as_str().unwrap();
        assert!(said.contains("cosigned by w1 at 20"), "{said}");
    }
    // Whoever knows no witness is told of the line, and nothing more.
    let alone = [
        "bundle",
        "a.bundle",
        "--no-image",
        "--public-key",
        "retrace.pub",
    ];
    let (code, report) = verify(audit.path(), &alone);
    assert_eq!(
        (code, &check_of(&report, "witnesses")["status"]),
        (Some(0), &json!("warning"))
    );
    // The same checkpoint without the witness's line.
    let lines: Vec<&str> = checkpoint.trim_end().split('\n').collect();
    let bare = format!("{}\n", lines[..lines.len() - 1].join("\n"));
    std::fs::write(audit.path().join("checkpoint"), bare).unwrap();
    let (code, report) = verify(
        audit.path(),
        &[&["checkpoint", "checkpoint"][..], &demanding].concat(),
    );
    let refusal = &check_of(&report, "witnesses")["code"];
    assert_eq!(
        (code, refusal),
        (Some(1), &json!("quorum-missing")),
        "{report}"
    );

    // The operator's own check counts them too.
    let (code, report) = check_ledger(&service, &policy);
    assert_eq!(code, Some(0), "{report}");
    let size = report["witnesses"]["tree_size"].as_u64().unwrap();
    let expected = json!({
        "named": 1, "tree_size": size, "cosigned": 1, "cosigned_by": ["w1"], "quorum": "w1", "quorum_tree_size": size,
    });
    assert_eq!(report["witnesses"], expected);
    let unknown = WitnessSigner::from_seed("witness.test/other", [9; 32]).unwrap();
    let other = format!("witness other {}\nquorum other\n", unknown.verifier());
    std::fs::write(audit.path().join("other.txt"), other).unwrap();
    let (code, report) = check_ledger(&service, &audit.path().join("other.txt"));
    assert_eq!(
        (code, &report["witnesses"]["cosigned"]),
        (Some(1), &json!(0)),
        "{report}"
    );
    assert_eq!(
        (&report["sound"], &report["witnesses"]["quorum_tree_size"]),
        (&json!(true), &Value::Null)
    );

    // The same keys begin a second history: the witness does not cosign it, so nothing is answered.
    let forked = reachable_folder().unwrap();
    let copies = forked.path().join("keys");
    std::fs::create_dir(&copies).unwrap();
    for file in std::fs::read_dir(service.state().join("keys")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copies.join(file.file_name())).unwrap();
    }
    let before = metric(&client, "retrace_cosigning_failures");
    let forked = spawn_app_on_with(forked, |config| config.witnesses = witnessed_by(&policy));
    let entry = Envelope::sign(&score_entry("another history"), &keys.entries).unwrap();
    forked.append(&entry);
    let forked_client = forked.client_with("newsroom", &[Scope::Audit]);
    // The counter is the process's, which both services share.
    while metric(&forked_client, "retrace_cosigning_failures") < before + 3 {
        std::thread::yield_now();
    }
    assert_eq!(forked_client.get("/checkpoint").status, 404);
    witness.kill();
}

#[test]
fn without_a_quorum_a_dead_witness_stops_nobody_and_is_asked_again() {
    let (state, _) = state_with_keys();
    let folder = state.path().to_owned();
    let witness = Witness::start(&folder);
    let audit = tempfile::tempdir().unwrap();
    let policy = audit.path().join("policy.txt");
    std::fs::write(&policy, witness.policy("none")).unwrap();
    let port = witness.port.to_string();
    witness.kill();
    let service = spawn_app_on_with(state, |config| config.witnesses = witnessed_by(&policy));
    let client = service.client_with("newsroom", &[Scope::Generate, Scope::Audit]);
    let body = json!({ "prompt": "a red heart", "seed": 7, "num_inference_steps": 2 });
    client
        .post_json("/v1/images/generations", &body)
        .expect_ok();
    let lines = |text: &str| text.lines().filter(|line| line.starts_with('—')).count();
    assert_eq!(lines(&client.get("/checkpoint").text()), 1);
    let witness = Witness::start_on(&folder, &port);
    while lines(&client.get("/checkpoint").text()) < 2 {
        std::thread::yield_now();
    }
    witness.kill();
}

/// Any entry.
fn score_entry(request_id: &str) -> Entry {
    Entry::Score(ScoreEntry {
        request_id: request_id.to_owned(),
        created_at_ms: 1_700_000_500_000,
        client: "newsroom".to_owned(),
        upload_commitment: Digest::of(b"upload"),
        detector: RecordedDetector {
            name: "photo-prior".to_owned(),
            version: "1".to_owned(),
            digest: Digest::of(b"detector"),
        },
        calibration_version: "1".to_owned(),
        thresholds_version: "1".to_owned(),
        verdict: RecordedVerdict::Inconclusive,
        probability: None,
    })
}
