//! A witness process: it cosigns what continues the log, across restarts, and nothing else.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use provenance::merkle::{Appender, NewNode, consistency_nodes};
use provenance::{
    AddCheckpoint, Checkpoint, CheckpointSigner, Digest, EntrySigner, PublicKeys, TreeSize,
    WitnessVerifier,
};
use serde_json::Value;
use tests::client::{Answer, Client};
use tests::programs::program;

const ORIGIN: &str = "retrace.test/log";

/// A running `retrace witness`.
struct Witness {
    child: Child,
    client: Client,
    key: WitnessVerifier,
}

impl Witness {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(program("retrace").unwrap())
            .current_dir(folder)
            .args([
                "witness",
                "--name",
                "witness.test/w1",
                "--log",
                "retrace.pub",
            ])
            .args(["--state", "seen", "--port", "0", "--json"])
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
            key: told["key"].as_str().unwrap().parse().unwrap(),
        }
    }

    fn ask(&self, body: &str) -> Answer {
        self.client
            .post("/add-checkpoint", ("text/plain", body.as_bytes()), &[])
    }

    /// Killed at once, as a machine that loses power does.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
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
