//! Exports as columns: what they hold, that they come in pieces, and what their manifest covers.

#![allow(clippy::unwrap_used, reason = "a test states by unwrap what must hold")]

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use columnar::{COLUMNS, Cell, ColumnWriter, GROUP_ROWS_MAX, Rows, find_manifest, row};
use provenance::merkle::Appender;
use provenance::{
    Checkpoint, CheckpointSigner, Decimal, Digest, Entry, EntrySigner, Envelope, ExportEncoding,
    GenerationEntry, LeafIndex, RecordedDetector, RecordedImage, RecordedModel, RecordedVerdict,
    ScoreEntry, SignedCheckpoint, SignedManifest,
};

const ORIGIN: &str = "retrace.test/log";

fn signer() -> EntrySigner {
    EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap()
}

fn checkpoint() -> SignedCheckpoint {
    let tree = Appender::empty();
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        tree_size: tree.size(),
        root_hash: tree.root(),
    };
    let signer = CheckpointSigner::from_seed(ORIGIN, [2; 32]).unwrap();
    checkpoint.sign(&signer).unwrap()
}

/// A client whose name is that of the manifest's key, as bytes of the format spell it.
fn score(number: u64) -> Envelope {
    let entry = Entry::Score(ScoreEntry {
        request_id: number.to_string(),
        created_at_ms: 1_700_000_000_000 + number,
        client: "retrace.manifest".to_owned(),
        upload_commitment: Digest::of(b"upload"),
        detector: RecordedDetector {
            name: "photo-prior".to_owned(),
            version: "1".to_owned(),
            digest: Digest::of(b"detector"),
        },
        calibration_version: "1".to_owned(),
        thresholds_version: "1".to_owned(),
        verdict: RecordedVerdict::Inconclusive,
        probability: Some(Decimal::from_f32(0.3).unwrap()),
    });
    Envelope::sign(&entry, &signer()).unwrap()
}

fn generation() -> Envelope {
    let entry = Entry::Generation(GenerationEntry {
        request_id: "made".to_owned(),
        image_index: 1,
        created_at_ms: 1_700_000_000_000,
        client: "studio".to_owned(),
        image: RecordedImage {
            sha256: Digest::of(b"file"),
            pixel_sha256: Digest::of(b"pixels"),
            width: 64,
            height: 32,
            media_type: "image/png".to_owned(),
        },
        model: RecordedModel {
            name: "emoji-64".to_owned(),
            digest: Digest::of(b"model"),
            parts: BTreeMap::from([("unet/model.onnx".to_owned(), Digest::of(b"part"))]),
        },
        scheduler: "ddim".to_owned(),
        steps: 30,
        seed: u64::MAX,
        details: None,
        guidance_scale: Decimal::from_f32(7.5).unwrap(),
        prompt_commitment: Digest::of(b"prompt"),
    });
    Envelope::sign(&entry, &signer()).unwrap()
}

fn writer() -> ColumnWriter {
    let filter = BTreeMap::from([("kind".to_owned(), "score".to_owned())]);
    ColumnWriter::new(filter, &checkpoint()).unwrap()
}

/// A file on disk, as the reader wants one.
fn file(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn rows_come_back_as_they_were_written_and_state_what_their_envelopes_state() {
    let envelopes = [score(0), generation(), score(2)];
    let mut writer = writer();
    let mut bytes = Vec::new();
    for (place, envelope) in (0..).zip(&envelopes) {
        let place = LeafIndex::new(place * 3);
        writer.row(place, envelope, &mut bytes).unwrap();
    }
    bytes.extend(writer.finish(&signer()).unwrap());
    let mut rows = Rows::open(file(&bytes)).unwrap();
    for (place, envelope) in (0..).zip(&envelopes) {
        let place = LeafIndex::new(place * 3);
        let read = rows.next_row().unwrap().unwrap();
        assert_eq!(read, row(place, envelope).unwrap());
        let (found, stated) = columnar::place_and_envelope(&read).unwrap();
        assert_eq!((found, &stated), (place, envelope));
    }
    assert_eq!(rows.next_row().unwrap(), None);

    let cells = row(LeafIndex::new(3), &generation()).unwrap();
    let cell = |name: &str| {
        let place = COLUMNS.iter().position(|column| column.name == name);
        &cells[place.unwrap()]
    };
    let text = |text: &str| Cell::Bytes(text.as_bytes().to_vec());
    assert_eq!(cell("leaf_index"), &Cell::Number(3));
    assert_eq!(cell("kind"), &text("generation"));
    assert_eq!(cell("image_index"), &Cell::Number(1));
    assert_eq!(cell("width"), &Cell::Number(64));
    assert_eq!(cell("height"), &Cell::Number(32));
    assert_eq!(cell("seed"), &Cell::Number(-1));
    assert_eq!(
        cell("pixel_sha256"),
        &text(&Digest::of(b"pixels").to_string())
    );
    assert_eq!(
        cell("prompt_commitment"),
        &text(&Digest::of(b"prompt").to_string())
    );
    assert_eq!(
        (cell("verdict"), cell("probability")),
        (&Cell::Empty, &Cell::Empty)
    );
    let cells = row(LeafIndex::new(3), &score(1)).unwrap();
    let cell = |name: &str| {
        let place = COLUMNS.iter().position(|column| column.name == name);
        &cells[place.unwrap()]
    };
    assert_eq!(cell("model_name"), &text("photo-prior"));
    assert_eq!(
        cell("upload_commitment"),
        &text(&Digest::of(b"upload").to_string())
    );
    assert_eq!(cell("verdict"), &text("inconclusive"));
    assert_eq!(cell("probability"), &Cell::Fraction(0.3));
    assert_eq!(
        (cell("seed"), cell("image_sha256")),
        (&Cell::Empty, &Cell::Empty)
    );
}

#[test]
fn the_manifest_signs_for_every_byte_around_it() {
    for rows in [0, 1, 5] {
        let mut writer = writer();
        let mut bytes = Vec::new();
        for number in 0..rows {
            let place = LeafIndex::new(number * 2);
            writer.row(place, &score(number), &mut bytes).unwrap();
        }
        bytes.extend(writer.finish(&signer()).unwrap());
        let found = find_manifest(&mut Cursor::new(&bytes)).unwrap().unwrap();
        let signed = SignedManifest::parse(&found.signed).unwrap();
        let manifest = signed.verify(&signer().verifier()).unwrap();
        let start = usize::try_from(found.start).unwrap();
        let until = start + usize::try_from(found.length).unwrap();
        let around = [&bytes[..start], &bytes[until..]].concat();
        assert_eq!(manifest.bytes, around.len() as u64);
        assert_eq!(manifest.sha256, Digest::of(&around));
        assert_eq!(manifest.encoding, ExportEncoding::Parquet);
        assert_eq!(
            (manifest.rows, &manifest.filter["kind"][..]),
            (rows, "score")
        );
        let last = rows.checked_sub(1).map(|last| LeafIndex::new(last * 2));
        assert_eq!(manifest.last_index, last);
    }
}

#[test]
fn a_file_without_its_end_or_with_two_manifests_has_none() {
    let bytes = writer().finish(&signer()).unwrap();
    for length in [0, 3, 4, 8, 100, bytes.len() - 1] {
        let cut = &bytes[..length];
        assert_eq!(
            find_manifest(&mut Cursor::new(cut)).unwrap(),
            None,
            "{length}"
        );
    }
    let found = find_manifest(&mut Cursor::new(&bytes)).unwrap().unwrap();
    let mut twice = bytes.clone();
    // The same key once more, among the spaces that fill the manifest up or in the metadata before it.
    let key = b"\x18\x10retrace.manifest\x18";
    let start = usize::try_from(found.start).unwrap();
    twice[start..start + key.len()].copy_from_slice(key);
    assert_eq!(find_manifest(&mut Cursor::new(&twice)).unwrap(), None);
    let mut long = bytes.clone();
    let tail = long.len() - 8;
    long[tail..tail + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(find_manifest(&mut Cursor::new(&long)).unwrap(), None);
}

#[test]
fn rows_are_handed_out_group_by_group() {
    let envelope = score(1);
    let mut writer = writer();
    let (mut pieces, mut bytes) = (0, Vec::new());
    let rows = 2 * GROUP_ROWS_MAX + 1;
    for place in 0..rows {
        let before = bytes.len();
        let place = LeafIndex::new(place as u64);
        writer.row(place, &envelope, &mut bytes).unwrap();
        pieces += usize::from(bytes.len() > before);
    }
    assert!(pieces >= 2, "{pieces}");
    bytes.extend(writer.finish(&signer()).unwrap());
    let mut read = Rows::open(file(&bytes)).unwrap();
    let mut found = 0;
    while let Some(row) = read.next_row().unwrap() {
        assert_eq!(row[0], Cell::Number(found));
        found += 1;
    }
    assert_eq!(found, rows as i64);
}
