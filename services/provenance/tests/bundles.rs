//! Bundles that must be refused, each for its reason, and odd ones that must be accepted.
//!
//! Whatever an envelope, a proof or a checkpoint is refused for when it stands alone, a bundle that
//! holds it is refused for too, even when everything else in the bundle is right.

#![allow(clippy::unwrap_used, reason = "a test states by unwrap what must hold")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use provenance::merkle::{
    Appender, Hash, fold_root, inclusion_nodes, leaf_hash, node_hash, root_nodes,
};
use provenance::{
    Bundle, Checkpoint, CheckpointSigner, Decimal, Digest, Entry, EntrySigner, Envelope,
    GenerationEntry, LeafIndex, PublicKeys, RecordedVerdict, ScoreEntry, SecretSeed,
    SignedCheckpoint, TreeSize,
};
use serde_json::json;

const ORIGIN: &str = "retrace.test/log";

fn golden(path: &str) -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/provenance"
    ))
    .join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(golden(path)).unwrap()
}

fn seed(name: &str) -> SecretSeed {
    SecretSeed::parse_hex(&text(&format!("accepted/{name}.seed"))).unwrap()
}

fn keys() -> PublicKeys {
    PublicKeys::parse(&text("accepted/retrace.pub")).unwrap()
}

fn checkpoint(tree_size: u64, root_hash: Hash) -> SignedCheckpoint {
    let signer = CheckpointSigner::from_seed(ORIGIN, seed("checkpoint")).unwrap();
    let tree_size = TreeSize::new(tree_size);
    let origin = ORIGIN.to_owned();
    Checkpoint {
        origin,
        tree_size,
        root_hash,
    }
    .sign(&signer)
    .unwrap()
}

/// The files of a folder of refused inputs that are UTF-8, with the code that each must be refused for.
fn refused(folder: &str) -> Vec<(String, String, String)> {
    let files = fs::read_dir(golden(&format!("refused/{folder}"))).unwrap();
    let mut inputs = Vec::new();
    for file in files {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let (code, _) = name.split_once("--").unwrap();
        // A bundle is JSON, so bytes that are no text cannot even stand in it.
        if let Ok(text) = String::from_utf8(fs::read(&path).unwrap()) {
            inputs.push((name.clone(), code.to_owned(), text));
        }
    }
    inputs.sort();
    inputs
}

fn refusal(bytes: &[u8]) -> Option<&'static str> {
    let verified = Bundle::parse(bytes).and_then(|bundle| bundle.verify(&keys()));
    verified.err().map(|refusal| refusal.code())
}

/// A bundle file from the text of its envelope, which stands in it as it is, and that of its proof.
fn bundle_file(envelope: &str, proof: &str) -> Vec<u8> {
    let proof = json!(proof);
    format!(r#"{{"format":"retrace-bundle@v1","envelope":{envelope},"proof":{proof}}}"#)
        .into_bytes()
}

fn proof_file(leaf_index: u64, hashes: &[String], checkpoint: &str) -> String {
    let hashes: String = hashes.iter().map(|hash| format!("{hash}\n")).collect();
    format!("c2sp.org/tlog-proof@v1\nindex {leaf_index}\n{hashes}\n{checkpoint}")
}

#[test]
fn a_bundle_is_refused_for_what_its_envelope_is_refused_for() {
    let mut kinds = 0;
    for (name, code, envelope) in refused("envelope") {
        // The payload type is a part of the bundle's own shape.
        let code = match &code[..] {
            "unknown-payload-type" => "malformed",
            code => code,
        };
        // A log of this leaf alone: proof and checkpoint hold.
        let signed = checkpoint(1, leaf_hash(envelope.as_bytes()));
        let bytes = bundle_file(&envelope, &proof_file(0, &[], &signed.text()));
        assert_eq!(refusal(&bytes), Some(code), "{name}");
        kinds += 1;
    }
    assert!(kinds >= 30, "{kinds}");
}

#[test]
fn a_bundle_is_refused_for_what_its_checkpoint_is_refused_for() {
    let envelope = text("accepted/generation.envelope.json");
    let mut kinds = 0;
    for (name, code, checkpoint) in refused("checkpoint") {
        let bytes = bundle_file(&envelope, &proof_file(0, &[], &checkpoint));
        assert_eq!(refusal(&bytes), Some(&code[..]), "{name}");
        kinds += 1;
    }
    assert!(kinds >= 40, "{kinds}");
}

#[test]
fn a_bundle_is_refused_for_what_its_proof_is_refused_for() {
    let envelope = text("accepted/generation.envelope.json");
    let mut kinds = 0;
    for (name, code, proof) in refused("tlog-proof") {
        assert_eq!(
            refusal(&bundle_file(&envelope, &proof)),
            Some(&code[..]),
            "{name}"
        );
        kinds += 1;
    }
    assert!(kinds >= 15, "{kinds}");
}

/// Further changes of a bundle that holds, each of which keeps everything else.
#[test]
fn a_bundle_that_was_put_together_wrongly_is_refused() {
    let envelope = text("accepted/generation.envelope.json");
    let signed = checkpoint(1, leaf_hash(envelope.as_bytes())).text();
    let proof = proof_file(0, &[], &signed);
    let whole = String::from_utf8(bundle_file(&envelope, &proof)).unwrap();
    assert_eq!(refusal(whole.as_bytes()), None);
    let hash = ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()];
    let other = text("accepted/score.envelope.json");
    let two = checkpoint(2, leaf_hash(envelope.as_bytes())).text();
    let huge = checkpoint(u64::MAX, leaf_hash(envelope.as_bytes())).text();
    let changed = |from: &str, to: &str| whole.replacen(from, to, 1).into_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "proof-length",
            bundle_file(&envelope, &proof_file(0, &hash, &signed)),
        ),
        (
            "proof-length",
            bundle_file(&envelope, &proof_file(0, &[], &two)),
        ),
        (
            "proof-length",
            bundle_file(&envelope, &proof_file(0, &vec![hash[0].clone(); 63], &huge)),
        ),
        (
            "root-mismatch",
            bundle_file(&envelope, &proof_file(0, &hash, &two)),
        ),
        (
            "root-mismatch",
            bundle_file(&envelope, &proof_file(1, &hash, &two)),
        ),
        ("root-mismatch", bundle_file(&other, &proof)),
        (
            "index-out-of-range",
            bundle_file(&envelope, &proof_file(1, &[], &signed)),
        ),
        (
            "index-out-of-range",
            bundle_file(&envelope, &proof_file(u64::MAX, &[], &signed)),
        ),
        ("malformed", bundle_file("null", &proof)),
        ("malformed", bundle_file("[]", &proof)),
        ("malformed", bundle_file(&format!("[{envelope}]"), &proof)),
        (
            "malformed",
            changed("retrace-bundle@v1", "retrace-bundle@v2"),
        ),
        ("malformed", changed("\"proof\":", "\"proofs\":")),
        ("malformed", [whole.as_bytes(), b"{}"].concat()),
        ("malformed", whole.as_bytes()[..whole.len() - 1].to_vec()),
        ("malformed", [b"\xef\xbb\xbf", whole.as_bytes()].concat()),
        ("not-canonical", [b" ", whole.as_bytes()].concat()),
        ("not-canonical", [whole.as_bytes(), b"\n"].concat()),
        ("not-canonical", changed("retrace", "retr\\u0061ce")),
        ("too-long", vec![b' '; 1 << 20]),
        ("malformed", "[".repeat(100_000).into_bytes()),
    ];
    let mut codes = BTreeSet::new();
    for (place, (code, bytes)) in cases.iter().enumerate() {
        assert_eq!(refusal(bytes), Some(*code), "case {place}");
        codes.insert(*code);
    }
    assert_eq!(codes.len(), 6);
}

/// A bundle of the entry at this place of a log of this size whose leaves are all the same.
fn in_a_log_of_equals(entry: &Entry, leaf_index: u64, tree_size: u64) -> Bundle {
    let signer = EntrySigner::from_seed(ORIGIN, seed("entries")).unwrap();
    let envelope = Envelope::sign(entry, &signer).unwrap();
    let mut levels = vec![envelope.leaf_hash()];
    for level in 0..63 {
        levels.push(node_hash(&levels[level], &levels[level]));
    }
    let hash = |level: u8| levels[usize::from(level)];
    let size = TreeSize::new(tree_size);
    let edge: Vec<Hash> = root_nodes(size)
        .iter()
        .map(|node| hash(node.level))
        .collect();
    let plan = inclusion_nodes(LeafIndex::new(leaf_index), size).unwrap();
    let nodes: Vec<Hash> = plan.ids().iter().map(|node| hash(node.level)).collect();
    let proof = plan.fold(&nodes).unwrap();
    let signed = checkpoint(tree_size, fold_root(&edge));
    Bundle::new(envelope, LeafIndex::new(leaf_index), proof, signed)
}

fn generation(change: impl FnOnce(&mut GenerationEntry)) -> Entry {
    let bytes = fs::read(golden("accepted/generation.entry.json")).unwrap();
    let Entry::Generation(mut entry) = Entry::parse(&bytes).unwrap() else {
        panic!("the golden entry is a generation");
    };
    change(&mut entry);
    Entry::Generation(entry)
}

fn score(change: impl FnOnce(&mut ScoreEntry)) -> Entry {
    let bytes = fs::read(golden("accepted/score.entry.json")).unwrap();
    let Entry::Score(mut entry) = Entry::parse(&bytes).unwrap() else {
        panic!("the golden entry is a score");
    };
    change(&mut entry);
    Entry::Score(entry)
}

type Named = (&'static str, Bundle);

/// At the borders of small and large logs.
fn at_odd_places() -> Vec<Named> {
    let plain = || generation(|_| ());
    vec![
        ("a log of one", in_a_log_of_equals(&plain(), 0, 1)),
        ("the last of three", in_a_log_of_equals(&plain(), 2, 3)),
        (
            "the last of a full tile and one",
            in_a_log_of_equals(&plain(), 256, 257),
        ),
        (
            "the last of 2^32 and one",
            in_a_log_of_equals(&plain(), 1 << 32, (1 << 32) + 1),
        ),
        (
            "the last of the largest log",
            in_a_log_of_equals(&plain(), u64::MAX - 1, u64::MAX),
        ),
        (
            "the first of the largest log",
            in_a_log_of_equals(&plain(), 0, u64::MAX),
        ),
        (
            "a leaf that stands there twice",
            in_a_log_of_equals(&plain(), 1, 2),
        ),
    ]
}

/// With odd contents.
fn of_odd_entries() -> Vec<Named> {
    let parts = |count: usize| {
        (0..count)
            .map(|number| (format!("part {number}"), Digest::of(&number.to_be_bytes())))
            .collect()
    };
    let decimal = |text: &str| text.parse::<Decimal>().unwrap();
    vec![
        (
            "the earliest time",
            in_a_log_of_equals(&generation(|entry| entry.created_at_ms = 0), 0, 1),
        ),
        (
            "the latest time",
            in_a_log_of_equals(
                &generation(|entry| entry.created_at_ms = (1 << 53) - 1),
                0,
                1,
            ),
        ),
        (
            "seed zero",
            in_a_log_of_equals(&generation(|entry| entry.seed = 0), 0, 1),
        ),
        (
            "the last image of a request",
            in_a_log_of_equals(&generation(|entry| entry.image_index = u32::MAX), 0, 1),
        ),
        (
            "names in other scripts and directions",
            in_a_log_of_equals(
                &generation(|entry| entry.client = "日本 עברית 🖼 é".to_owned()),
                0,
                1,
            ),
        ),
        (
            "characters that JSON escapes",
            in_a_log_of_equals(
                &generation(|entry| entry.client = r#"a"b\c/d<e>"#.to_owned()),
                0,
                1,
            ),
        ),
        (
            "line separators that are no control characters",
            in_a_log_of_equals(
                &generation(|entry| entry.client = "a\u{2028}b\u{feff}".to_owned()),
                0,
                1,
            ),
        ),
        (
            "the longest name",
            in_a_log_of_equals(&generation(|entry| entry.client = "x".repeat(200)), 0, 1),
        ),
        ("as many files as a model may have", {
            in_a_log_of_equals(&generation(|entry| entry.model.parts = parts(128)), 0, 1)
        }),
        (
            "guidance below zero",
            in_a_log_of_equals(
                &generation(|entry| entry.guidance_scale = decimal("-7.5")),
                0,
                1,
            ),
        ),
        ("a score without a probability", {
            in_a_log_of_equals(&score(|entry| entry.probability = None), 0, 1)
        }),
        ("a score of nothing", {
            in_a_log_of_equals(&score(|entry| entry.probability = Some(decimal("0"))), 0, 1)
        }),
        ("a certain score", {
            let certain = score(|entry| {
                entry.probability = Some(decimal("1"));
                entry.verdict = RecordedVerdict::LikelyNotGenerated;
            });
            in_a_log_of_equals(&certain, 4, 5)
        }),
    ]
}

#[test]
fn odd_bundles_that_are_valid_are_accepted() {
    let mut bundles = at_odd_places();
    bundles.extend(of_odd_entries());
    assert!(bundles.len() >= 15);
    for (what, bundle) in &bundles {
        let bytes = bundle.to_bytes();
        assert_eq!(refusal(&bytes), None, "{what}");
        assert_eq!(Bundle::parse(&bytes).unwrap().to_bytes(), bytes, "{what}");
    }
    // The tree of equal leaves is the tree that appending makes.
    let mut tree = Appender::empty();
    let leaf = bundles[0].1.envelope().leaf_hash();
    for _ in 0..257 {
        tree.append(leaf, &mut Vec::new()).unwrap();
    }
    let signed = bundles[2].1.checkpoint().unverified();
    assert_eq!(
        (tree.size(), tree.root()),
        (signed.tree_size, signed.root_hash)
    );
}
