//! The check of a whole ledger, from outside.

#![allow(clippy::unwrap_used, reason = "a test states by unwrap what must hold")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use provenance::merkle::Appender;
use provenance::{
    Checkpoint, CheckpointSigner, Digest, Entry, EntrySigner, Envelope, PublicKeys,
    RecordedDetector, RecordedVerdict, ScoreEntry,
};
use serde_json::Value;

const ORIGIN: &str = "retrace.test/log";

/// A folder with an export of a log of five entries and its checkpoints of the sizes 0 to 5.
struct Export {
    folder: tempfile::TempDir,
    lines: Vec<Vec<u8>>,
}

impl Export {
    fn new() -> Self {
        let entries = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
        let checkpoints = CheckpointSigner::from_seed(ORIGIN, [2; 32]).unwrap();
        let keys = PublicKeys::new(entries.verifier(), checkpoints.verifier()).unwrap();
        let mut export = Self {
            folder: tempfile::tempdir().unwrap(),
            lines: Vec::new(),
        };
        export.write("retrace.pub", keys.to_string().as_bytes());
        let mut tree = Appender::empty();
        for number in 0..6 {
            let checkpoint = Checkpoint {
                origin: ORIGIN.to_owned(),
                tree_size: tree.size(),
                root_hash: tree.root(),
            };
            let signed = checkpoint.sign(&checkpoints).unwrap();
            export.write(&format!("{number}.txt"), signed.text().as_bytes());
            let envelope = Envelope::sign(&score(number), &entries).unwrap();
            tree.append(envelope.leaf_hash(), &mut Vec::new()).unwrap();
            export.lines.push(envelope.to_bytes());
        }
        export
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Runs the check over these lines, against the checkpoint of size 5 and the earlier ones named.
    fn verify(&self, lines: &[Vec<u8>], earlier: &[&str]) -> (i32, Value) {
        let mut file = lines.join(&b'\n');
        file.push(b'\n');
        self.write("envelopes.ndjson", &file);
        let mut command = Command::new(env!("CARGO_BIN_EXE_retrace-verify"));
        command.args(["ledger", "--json", "--public-key"]);
        command.arg(self.path("retrace.pub"));
        command.arg("--checkpoint").arg(self.path("5.txt"));
        for name in earlier {
            command.arg("--earlier").arg(self.path(name));
        }
        let output = command.arg(self.path("envelopes.ndjson")).output().unwrap();
        let report = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), report)
    }
}

fn score(number: u64) -> Entry {
    Entry::Score(ScoreEntry {
        request_id: number.to_string(),
        created_at_ms: number,
        client: "review".to_owned(),
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

fn codes(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().unwrap();
    checks
        .iter()
        .filter_map(|check| check["code"].as_str())
        .collect()
}

#[test]
fn a_complete_ledger_holds_with_all_earlier_checkpoints() {
    let export = Export::new();
    let earlier = ["0.txt", "1.txt", "2.txt", "3.txt", "4.txt", "5.txt"];
    let (code, report) = export.verify(&export.lines[..5], &earlier);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["checkpoint"]["tree_size"], 5);
}

#[test]
fn a_ledger_that_was_changed_anywhere_does_not_hold() {
    let export = Export::new();
    let good = &export.lines[..5];
    let mut swapped = good.to_vec();
    swapped.swap(1, 2);
    let mut replaced = good.to_vec();
    replaced[3] = export.lines[5].clone();
    let mut damaged = good.to_vec();
    damaged[4][20] ^= 1;
    let mut repeated = good.to_vec();
    repeated[4] = repeated[3].clone();
    let mut blank = good.to_vec();
    blank.insert(2, Vec::new());
    for (lines, expected) in [
        (good[..4].to_vec(), "entries-missing"),
        (Vec::new(), "malformed"),
        (export.lines.clone(), "entry-not-covered"),
        (swapped, "root-mismatch"),
        (replaced, "root-mismatch"),
        (repeated, "root-mismatch"),
        (blank, "malformed"),
    ] {
        let (code, report) = export.verify(&lines, &[]);
        assert_eq!(code, 1, "{report}");
        assert_eq!(codes(&report)[0], expected, "{report}");
    }
    assert_eq!(export.verify(&damaged, &[]).0, 1);
}

#[test]
fn a_ledger_that_does_not_continue_an_earlier_checkpoint_does_not_hold() {
    let export = Export::new();
    let checkpoints = CheckpointSigner::from_seed(ORIGIN, [2; 32]).unwrap();
    let other_history = Checkpoint {
        origin: ORIGIN.to_owned(),
        tree_size: provenance::TreeSize::new(3),
        root_hash: Digest::of(b"another history"),
    };
    let signed = other_history.sign(&checkpoints).unwrap();
    export.write("other.txt", signed.text().as_bytes());
    let (code, report) = export.verify(&export.lines[..5], &["2.txt", "other.txt"]);
    assert_eq!(code, 1);
    assert_eq!(codes(&report), ["root-mismatch"], "{report}");
}
