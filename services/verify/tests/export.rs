//! The check of an export, from outside.

#![allow(clippy::unwrap_used, reason = "a test states by unwrap what must hold")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::process::Command;

use columnar::ColumnWriter;
use provenance::merkle::Appender;
use provenance::{
    Checkpoint, CheckpointSigner, Digest, Entry, EntrySigner, Envelope, ExportManifest,
    ExportWriter, LeafIndex, LineEncoding, PublicKeys, RecordedDetector, RecordedVerdict,
    ScoreEntry, SignedCheckpoint, SignedManifest,
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

/// The checkpoint over ten entries.
fn checkpoint() -> SignedCheckpoint {
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
    checkpoint.sign(&checkpoints).unwrap()
}

fn filter() -> BTreeMap<String, String> {
    BTreeMap::from([("kind".to_owned(), "score".to_owned())])
}

/// An export of five of ten entries.
fn export(encoding: LineEncoding) -> Vec<u8> {
    let mut writer = ExportWriter::new(encoding, filter(), &checkpoint());
    let mut bytes = writer.begin();
    for number in (0..10).step_by(2) {
        let index = LeafIndex::new(number);
        writer.row(index, &envelope(number), &mut bytes).unwrap();
    }
    let signer = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
    bytes.extend(writer.finish(&signer).unwrap());
    bytes
}

/// The same as columns, of these entries at these places.
fn columns(entries: &[(u64, Envelope)]) -> Vec<u8> {
    let mut writer = ColumnWriter::new(filter(), &checkpoint()).unwrap();
    let mut bytes = Vec::new();
    for (place, envelope) in entries {
        let place = LeafIndex::new(*place);
        writer.row(place, envelope, &mut bytes).unwrap();
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
    assert_eq!(verify(&export(LineEncoding::Ndjson)), (0, vec![]));
    let (code, codes) = verify(&export(LineEncoding::Csv));
    assert_eq!((code, &codes[..]), (0, &["rows-unsigned".to_owned()][..]));
}

#[test]
fn an_export_that_was_changed_or_broke_off_does_not_hold() {
    for encoding in [LineEncoding::Ndjson, LineEncoding::Csv] {
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

#[test]
fn an_export_of_columns_holds_as_it_was_signed_and_no_other_way() {
    let entries: Vec<(u64, Envelope)> = (0..10).step_by(2).map(|n| (n, envelope(n))).collect();
    let whole = columns(&entries);
    assert_eq!(verify(&whole), (0, vec![]));
    assert_eq!(verify(&columns(&[])), (0, vec![]));
    // Cut off, or with a byte changed: nothing of it is parsed.
    for length in [4, 5, whole.len() / 2, whole.len() - 1] {
        let (code, codes) = verify(&whole[..length]);
        assert_eq!((code, &codes[0][..]), (1, "manifest-missing"));
    }
    for part in 1..40 {
        let mut changed = whole.clone();
        let place = changed.len() * part / 40;
        changed[place] ^= 1;
        let (code, codes) = verify(&changed);
        assert_eq!(code, 1, "{place}: {codes:?}");
    }
    let mut changed = whole.clone();
    changed[20] ^= 1;
    assert_eq!(verify(&changed).1[0], "export-differs");
    // What its own signer did wrong.
    let other = EntrySigner::from_seed(ORIGIN, [7; 32]).unwrap();
    let entry = envelope(2).unverified_entry().unwrap();
    let foreign = Envelope::sign(&entry, &other).unwrap();
    for (entries, expected) in [
        (vec![(0, envelope(0)), (2, foreign)], "unknown-key"),
        (vec![(2, envelope(2)), (0, envelope(0))], "row-order"),
        (vec![(0, envelope(0)), (0, envelope(0))], "row-order"),
    ] {
        let (code, codes) = verify(&columns(&entries));
        assert_eq!((code, &codes[0][..]), (1, expected), "{codes:?}");
    }
}

/// A file of columns in which each of these texts is another one, of the same length.
fn forged(whole: &[u8], text: &str, other: &str) -> Vec<u8> {
    assert_eq!(text.len(), other.len());
    let mut forged = whole.to_vec();
    let places: Vec<usize> = whole
        .windows(text.len())
        .enumerate()
        .filter(|(_, window)| *window == text.as_bytes())
        .map(|(place, _)| place)
        .collect();
    assert!(!places.is_empty(), "no cell has {text:?} as it is");
    for place in places {
        forged[place..place + other.len()].copy_from_slice(other.as_bytes());
    }
    forged
}

/// The same file with a manifest that the log's own key has signed anew, after it was changed.
fn signed_anew(file: &[u8], change: impl FnOnce(&mut ExportManifest)) -> Vec<u8> {
    let signer = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
    let mut manifest = manifest_of(file);
    let (start, length) = manifest_place(file);
    let around = [&file[..start], &file[start + length..]].concat();
    manifest.sha256 = Digest::of(&around);
    change(&mut manifest);
    let signed = SignedManifest::sign(&manifest, &signer).unwrap().to_bytes();
    with_manifest(file, &signed)
}

fn manifest_place(file: &[u8]) -> (usize, usize) {
    let found = columnar::find_manifest(&mut Cursor::new(file))
        .unwrap()
        .unwrap();
    let number = |it: u64| usize::try_from(it).unwrap();
    (number(found.start), number(found.length))
}

/// What the manifest says; its signature is verified.
fn manifest_of(file: &[u8]) -> ExportManifest {
    let signer = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
    let found = columnar::find_manifest(&mut Cursor::new(file))
        .unwrap()
        .unwrap();
    let signed = SignedManifest::parse(&found.signed).unwrap();
    signed.verify(&signer.verifier()).unwrap()
}

/// The file with another text in the place of its manifest, filled up with spaces.
fn with_manifest(file: &[u8], signed: &[u8]) -> Vec<u8> {
    let (start, length) = manifest_place(file);
    assert!(signed.len() <= length, "there is room for it");
    let mut changed = file.to_vec();
    changed[start..start + length].fill(b' ');
    changed[start..start + signed.len()].copy_from_slice(signed);
    changed
}

/// How many rows a reader of Parquet finds in a file.
fn rows_of(file: &[u8]) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.parquet");
    fs::write(&path, file).unwrap();
    let mut rows = columnar::Rows::open(fs::File::open(path).unwrap()).unwrap();
    std::iter::from_fn(|| rows.next_row().unwrap()).count()
}

#[test]
fn a_forged_cell_is_refused_under_the_signed_manifest_and_under_one_that_was_signed_for_it() {
    let entries: Vec<(u64, Envelope)> = (0..10).step_by(2).map(|n| (n, envelope(n))).collect();
    let whole = columns(&entries);
    for (text, other) in [
        ("review", "nobody"),
        ("inconclusive", "inconclusivE"),
        ("photo-prior", "photo-later"),
    ] {
        let cell = forged(&whole, text, other);
        assert_eq!(rows_of(&cell), 5, "{other} stands in a whole file");
        // The manifest is the log's own, and its signature holds; what it signs is another file.
        assert_eq!(manifest_of(&cell), manifest_of(&whole));
        let (code, codes) = verify(&cell);
        assert_eq!(code, 1, "{other}");
        assert_eq!(codes, ["export-differs", "export-differs"], "{other}");
        // Whoever has the log's key can sign for the forged file, and not change what the entries say.
        let (code, codes) = verify(&signed_anew(&cell, |_| {}));
        assert_eq!((code, &codes[..]), (1, &["row-differs".to_owned()][..]));
    }
    // Signed anew without any change, it holds: the cell is what was refused.
    assert_eq!(verify(&signed_anew(&whole, |_| {})), (0, vec![]));
}

#[test]
fn a_changed_manifest_of_columns_is_refused() {
    let entries: Vec<(u64, Envelope)> = (0..10).step_by(2).map(|n| (n, envelope(n))).collect();
    let whole = columns(&entries);
    let (start, length) = manifest_place(&whole);
    let text = String::from_utf8(whole[start..start + length].to_vec()).unwrap();
    let found = columnar::find_manifest(&mut Cursor::new(&whole[..]))
        .unwrap()
        .unwrap();
    let signed = SignedManifest::parse(&found.signed).unwrap();
    // Each byte of the text: nothing of a signed manifest is free.
    for (place, byte) in text.trim_end().bytes().enumerate().step_by(7) {
        let mut changed = text.trim_end().as_bytes().to_vec();
        changed[place] = if byte == b'A' { b'B' } else { b'A' };
        let (code, codes) = verify(&with_manifest(&whole, &changed));
        assert_eq!(code, 1, "{place}: {codes:?}");
    }
    // One of another key, and one of another export by the log's own key.
    let stranger = EntrySigner::from_seed(ORIGIN, [7; 32]).unwrap();
    let foreign = SignedManifest::sign(&manifest_of(&whole), &stranger).unwrap();
    assert_eq!(foreign.to_bytes().len(), signed.to_bytes().len());
    let (code, codes) = verify(&with_manifest(&whole, &foreign.to_bytes()));
    assert_eq!((code, &codes[0][..]), (1, "unknown-key"), "{codes:?}");
    let shorter = columns(&entries[..4]);
    let other = SignedManifest::sign(
        &manifest_of(&shorter),
        &EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap(),
    );
    let (code, codes) = verify(&with_manifest(&whole, &other.unwrap().to_bytes()));
    assert_eq!((code, &codes[0][..]), (1, "export-differs"), "{codes:?}");
    // The right digest with a wrong number of rows.
    let miscounted = signed_anew(&whole, |manifest| manifest.rows += 1);
    let (code, codes) = verify(&miscounted);
    assert_eq!((code, &codes[0][..]), (1, "row-count"), "{codes:?}");
}
