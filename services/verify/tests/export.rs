//! The check of an export, from outside.

#![allow(clippy::unwrap_used, reason = "a test states by unwrap what must hold")]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use provenance::merkle::Appender;
use provenance::{
    Checkpoint, CheckpointSigner, Digest, Entry, EntrySigner, Envelope, ExportEncoding,
    ExportWriter, LeafIndex, PublicKeys, RecordedDetector, RecordedVerdict, ScoreEntry,
};
use serde_json::Value;

const ORIGIN: &str = "retrace.test/log";

fn envelope(number: u64) -> Envelope {
    let entry = Entry::Score(ScoreEntry {
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
    });
    Envelope::sign(&entry, &EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap()).unwrap()
}

/// An export of five of ten entries.
fn export(encoding: ExportEncoding) -> Vec<u8> {
    let checkpoints = CheckpointSigner::from_seed(ORIGIN, [2; 32]).unwrap();
    let mut tree = Appender::empty();
    for number in 0..10 {
        let leaf = envelope(number).leaf_hash();
        tree.append(leaf, &mut Vec::new()).unwrap();
    }
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        tree_size: tree.size(),
        root_hash: tree.root(),
    };
    let signed = checkpoint.sign(&checkpoints).unwrap();
    let filter = BTreeMap::from([("kind".to_owned(), "score".to_owned())]);
    let mut writer = ExportWriter::new(encoding, filter, &signed);
    let mut bytes = writer.begin();
    for number in (0..10).step_by(2) {
        let index = LeafIndex::new(number);
        writer.row(index, &envelope(number), &mut bytes).unwrap();
    }
    let signer = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
    bytes.extend(writer.finish(&signer).unwrap());
    bytes
}

/// Exit code and reason codes.
fn verify(bytes: &[u8]) -> (i32, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let entries = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
    let checkpoints = CheckpointSigner::from_seed(ORIGIN, [2; 32]).unwrap();
    let keys = PublicKeys::new(entries.verifier(), checkpoints.verifier()).unwrap();
    fs::write(folder.path().join("retrace.pub"), keys.to_string()).unwrap();
    fs::write(folder.path().join("export"), bytes).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_retrace-verify"))
        .current_dir(folder.path())
        .args(["export", "export", "--public-key", "retrace.pub", "--json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let codes = checks.iter().filter_map(|check| check["code"].as_str());
    (
        output.status.code().unwrap(),
        codes.map(str::to_owned).collect(),
    )
}

#[test]
fn a_whole_export_holds() {
    assert_eq!(verify(&export(ExportEncoding::Ndjson)), (0, vec![]));
    let (code, codes) = verify(&export(ExportEncoding::Csv));
    assert_eq!((code, &codes[..]), (0, &["rows-unsigned".to_owned()][..]));
}

#[test]
fn an_export_that_was_changed_or_broke_off_does_not_hold() {
    for encoding in [ExportEncoding::Ndjson, ExportEncoding::Csv] {
        let whole = export(encoding);
        let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        let without = |left_out: usize| -> Vec<u8> {
            let kept = lines
                .iter()
                .enumerate()
                .filter(|(place, _)| *place != left_out);
            kept.flat_map(|(_, line)| line.to_vec()).collect()
        };
        let (code, codes) = verify(&without(lines.len() - 1));
        assert_eq!((code, &codes[0][..]), (1, "manifest-missing"));
        let (code, codes) = verify(&without(1));
        assert_eq!((code, &codes[0][..]), (1, "export-differs"));
        for part in 0..20 {
            let mut changed = whole.clone();
            let place = changed.len() * part / 20;
            changed[place] ^= 1;
            assert_eq!(verify(&changed).0, 1, "{encoding:?} at {place}");
        }
        let mut swapped = lines.clone();
        swapped.swap(1, 2);
        assert_eq!(verify(&swapped.concat()).0, 1);
        assert_eq!(verify(&[]).0, 1);
    }
}
