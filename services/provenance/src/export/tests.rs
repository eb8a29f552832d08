//! Exports: what the last line says, and that nothing before it can change.

use super::*;
use crate::merkle::Appender;
use crate::{Checkpoint, CheckpointSigner, Entry, RecordedDetector, RecordedVerdict, ScoreEntry};

const ORIGIN: &str = "retrace.test/log";

fn entry(number: u64) -> Entry {
    Entry::Score(ScoreEntry {
        request_id: number.to_string(),
        created_at_ms: number,
        client: "review, =1".to_owned(),
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

fn export(encoding: LineEncoding, rows: u64) -> (Vec<u8>, Vec<u8>, EntrySigner) {
    let signer = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
    let checkpoints = CheckpointSigner::from_seed(ORIGIN, [2; 32]).unwrap();
    let tree = Appender::empty();
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        tree_size: tree.size(),
        root_hash: tree.root(),
    };
    let checkpoint = checkpoint.sign(&checkpoints).unwrap();
    let filter = BTreeMap::from([("kind".to_owned(), "score".to_owned())]);
    let mut writer = ExportWriter::new(encoding, filter, &checkpoint);
    let mut bytes = writer.begin();
    for number in 0..rows {
        let envelope = Envelope::sign(&entry(number), &signer).unwrap();
        writer
            .row(LeafIndex::new(number * 2), &envelope, &mut bytes)
            .unwrap();
    }
    let last = writer.finish(&signer).unwrap();
    (bytes, last, signer)
}

#[test]
fn the_last_line_signs_for_all_rows() {
    for encoding in [LineEncoding::Ndjson, LineEncoding::Csv] {
        for rows in [0, 1, 5] {
            let (bytes, last, signer) = export(encoding, rows);
            let signed = SignedManifest::parse(manifest_in(&last).unwrap()).unwrap();
            let manifest = signed.verify(&signer.verifier()).unwrap();
            assert_eq!(manifest.encoding, encoding.into());
            assert_eq!(manifest.rows, rows);
            assert_eq!(manifest.bytes, bytes.len() as u64);
            assert_eq!(manifest.sha256, Digest::of(&bytes));
            let last_index = (rows > 0).then(|| LeafIndex::new(rows.saturating_sub(1) * 2));
            assert_eq!(manifest.last_index, last_index);
            assert_eq!(manifest.filter["kind"], "score");
            assert!(SignedCheckpoint::parse(&manifest.checkpoint).is_ok());
            let lines = bytes.split(|byte| *byte == b'\n').count() - 1;
            assert_eq!(
                lines as u64,
                rows + u64::from(encoding == LineEncoding::Csv)
            );
        }
    }
}

#[test]
fn a_row_states_what_its_envelope_states() {
    let (bytes, _, _) = export(LineEncoding::Ndjson, 1);
    let row: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(row["leaf_index"], 0);
    assert_eq!(row["statement"]["body"]["client"], "review, =1");
    let envelope = serde_json::to_vec(&row["envelope"]).unwrap();
    assert_eq!(
        Envelope::parse(&envelope).unwrap().payload(),
        entry(0).to_bytes()
    );
    let (bytes, _, _) = export(LineEncoding::Csv, 1);
    let text = String::from_utf8(bytes).unwrap();
    let columns = CSV_HEADER.trim_end().split(',').count();
    let row = text
        .lines()
        .nth(1)
        .unwrap()
        .replace("\"review, =1\"", "review");
    assert_eq!(row.split(',').count(), columns, "{row}");
    assert!(row.ends_with(",inconclusive,"), "{row}");
}

#[test]
fn a_signature_over_an_entry_is_none_over_a_manifest_and_no_byte_can_change() {
    let (_, last, signer) = export(LineEncoding::Ndjson, 2);
    let verifier = signer.verifier();
    let signed = manifest_in(&last).unwrap();
    for place in 0..signed.len() {
        let mut changed = signed.to_vec();
        changed[place] ^= 1;
        let verified = SignedManifest::parse(&changed).and_then(|signed| signed.verify(&verifier));
        assert!(verified.is_err(), "byte {place}");
    }
    let envelope = Envelope::sign(&entry(1), &signer).unwrap().to_bytes();
    let refused = SignedManifest::parse(&envelope).unwrap_err();
    assert_eq!(refused.code(), "unknown-payload-type");
    let text = String::from_utf8(envelope).unwrap();
    let relabelled = text.replace(crate::envelope::PAYLOAD_TYPE, MANIFEST_PAYLOAD_TYPE);
    let refused = SignedManifest::parse(relabelled.as_bytes())
        .unwrap()
        .verify(&verifier);
    assert_eq!(refused.unwrap_err().code(), "signature-invalid");
    assert_eq!(manifest_in(b"leaf_index,leaf_hash\r\n"), None);
}
