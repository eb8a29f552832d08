//! The formats against vectors that an independent implementation wrote, see
//! `tests/golden/provenance/README.md`.

#![allow(clippy::unwrap_used, reason = "a test states by unwrap what must hold")]

use std::fs;
use std::path::PathBuf;

use provenance::{
    Bundle, Checkpoint, CheckpointSigner, Decimal, Digest, Entry, EntrySigner, Envelope,
    GenerationEntry, LeafIndex, PerceptualAlgorithm, ProvenanceError, PublicKeys, RecordedNoise,
    RecordedPerceptualHash, RecordedTask, SecretSeed, SignedCheckpoint, TlogProof, TreeSize,
    merkle,
};
use serde::Deserialize;

const ORIGIN: &str = "retrace.test/log";

fn golden(path: &str) -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/provenance"
    ))
    .join(path)
}

fn bytes(path: &str) -> Vec<u8> {
    fs::read(golden(path)).unwrap()
}

fn text(path: &str) -> String {
    fs::read_to_string(golden(path)).unwrap()
}

fn keys() -> PublicKeys {
    PublicKeys::parse(&text("accepted/retrace.pub")).unwrap()
}

fn seed(name: &str) -> SecretSeed {
    SecretSeed::parse_hex(&text(&format!("accepted/{name}.seed"))).unwrap()
}

fn entry_signer() -> EntrySigner {
    EntrySigner::from_seed(ORIGIN, seed("entries")).unwrap()
}

fn checkpoint_signer() -> CheckpointSigner {
    CheckpointSigner::from_seed(ORIGIN, seed("checkpoint")).unwrap()
}

fn head(size: TreeSize, root_hash: Digest) -> merkle::TreeHead {
    merkle::TreeHead { size, root_hash }
}

#[derive(Deserialize)]
struct Inclusion {
    #[serde(default)]
    why: String,
    #[serde(default)]
    code: String,
    leaf_hash: Digest,
    leaf_index: LeafIndex,
    tree_size: TreeSize,
    root_hash: Digest,
    proof: Vec<Digest>,
}

impl Inclusion {
    fn verify(&self) -> Result<(), ProvenanceError> {
        let head = head(self.tree_size, self.root_hash);
        merkle::verify_inclusion(&self.leaf_hash, self.leaf_index, &head, &self.proof)
    }
}

#[derive(Deserialize)]
struct Consistency {
    #[serde(default)]
    why: String,
    #[serde(default)]
    code: String,
    old_size: TreeSize,
    old_root: Digest,
    new_size: TreeSize,
    new_root: Digest,
    proof: Vec<Digest>,
}

impl Consistency {
    fn verify(&self) -> Result<(), ProvenanceError> {
        let old = head(self.old_size, self.old_root);
        let new = head(self.new_size, self.new_root);
        merkle::verify_consistency(&old, &new, &self.proof)
    }
}

#[derive(Deserialize)]
struct Merkle {
    ct_leaves: Vec<String>,
    ct_roots: Vec<Digest>,
    own_leaf_count: usize,
    own_roots: Vec<Digest>,
    inclusion: Vec<Inclusion>,
    consistency: Vec<Consistency>,
}

#[derive(Deserialize)]
struct RefusedProofs {
    inclusion: Vec<Inclusion>,
    consistency: Vec<Consistency>,
}

fn assert_roots(leaves: &[Vec<u8>], roots: &[Digest]) {
    let mut appender = merkle::Appender::empty();
    assert_eq!(appender.root(), roots[0]);
    for (leaf, root) in leaves.iter().zip(&roots[1..]) {
        appender
            .append(merkle::leaf_hash(leaf), &mut Vec::new())
            .unwrap();
        assert_eq!(appender.root(), *root);
    }
    assert_eq!(roots.len(), leaves.len() + 1);
}

#[test]
fn the_tree_has_the_golden_roots_and_accepts_the_golden_proofs() {
    let vectors: Merkle = serde_json::from_slice(&bytes("merkle.json")).unwrap();
    // Published wherever Certificate Transparency is implemented, and so fixed here as well.
    let known = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328";
    assert_eq!(vectors.ct_roots[8].to_string(), known);
    let ct_leaves: Vec<_> = vectors
        .ct_leaves
        .iter()
        .map(|leaf| hex::decode(leaf).unwrap())
        .collect();
    assert_roots(&ct_leaves, &vectors.ct_roots);
    let own_leaves: Vec<_> = (0..vectors.own_leaf_count)
        .map(|i| format!("leaf {i}").into_bytes())
        .collect();
    assert_roots(&own_leaves, &vectors.own_roots);
    for proof in &vectors.inclusion {
        let place = (proof.leaf_index, proof.tree_size);
        assert_eq!(proof.verify(), Ok(()), "inclusion {place:?}");
    }
    for proof in &vectors.consistency {
        let sizes = (proof.old_size, proof.new_size);
        assert_eq!(proof.verify(), Ok(()), "consistency {sizes:?}");
    }
}

#[test]
fn refused_proofs_are_refused_for_the_right_reason() {
    let proofs: RefusedProofs = serde_json::from_slice(&bytes("proofs_refused.json")).unwrap();
    assert!(proofs.inclusion.len() > 50 && proofs.consistency.len() > 50);
    for proof in &proofs.inclusion {
        let refusal = proof.verify().unwrap_err();
        let place = (proof.leaf_index, proof.tree_size);
        assert_eq!(refusal.code(), proof.code, "{}: {place:?}", proof.why);
    }
    for proof in &proofs.consistency {
        let refusal = proof.verify().unwrap_err();
        let sizes = (proof.old_size, proof.new_size);
        assert_eq!(refusal.code(), proof.code, "{}: {sizes:?}", proof.why);
    }
}

#[test]
fn keys_are_written_as_they_were_read_and_belong_to_their_seeds() {
    let public = keys();
    assert_eq!(public.to_string(), text("accepted/retrace.pub"));
    assert_eq!(public.origin(), ORIGIN);
    assert_eq!(entry_signer().verifier(), public.entries);
    assert_eq!(checkpoint_signer().verifier(), public.checkpoint);
}

#[test]
fn entries_are_written_as_they_were_read() {
    for (name, kind, version) in [
        ("generation", "generation", 1),
        ("generation2", "generation", 2),
        ("inpainting", "generation", 2),
        ("score", "score", 1),
    ] {
        let golden = bytes(&format!("accepted/{name}.entry.json"));
        let entry = Entry::parse(&golden).unwrap();
        assert_eq!((entry.kind(), entry.version()), (kind, version));
        assert_eq!(entry.to_bytes(), golden);
    }
    let Ok(Entry::Generation(entry)) = Entry::parse(&bytes("accepted/generation.entry.json"))
    else {
        panic!("the kind was asserted above");
    };
    assert_eq!(entry.seed, u64::MAX);
    assert_eq!(entry.guidance_scale, Decimal::from_f32(7.5).unwrap());
    assert_eq!(entry.details, None);
}

fn generation_of(name: &str) -> GenerationEntry {
    match Entry::parse(&bytes(name)) {
        Ok(Entry::Generation(entry)) => entry,
        other => panic!("{other:?} is no generation"),
    }
}

#[test]
fn version_3_adds_the_perceptual_hash_to_version_2() {
    let second = generation_of("accepted/generation2.entry.json");
    let mut third = second.clone();
    let hash = Digest::of(b"perceptual");
    third.details.as_mut().unwrap().perceptual_hash = Some(RecordedPerceptualHash {
        algorithm: PerceptualAlgorithm::Pdq,
        hash,
        quality: 100,
    });
    let text = |entry: &GenerationEntry| {
        String::from_utf8(Entry::Generation(entry.clone()).to_bytes()).unwrap()
    };
    let stated = format!(
        r#""perceptual_hash":{{"algorithm":"pdq","hash":"{hash}","quality":100}},"settings":"#
    );
    let expected = text(&second)
        .replacen(r#""version":2"#, r#""version":3"#, 1)
        .replacen(r#""settings":"#, &stated, 1);
    assert_eq!(text(&third), expected);
    assert_eq!(
        Entry::parse(expected.as_bytes()),
        Ok(Entry::Generation(third))
    );
    for refused in [
        expected.replacen(r#""version":3"#, r#""version":2"#, 1),
        text(&second).replacen(r#""version":2"#, r#""version":3"#, 1),
        expected.replacen(r#""quality":100"#, r#""quality":101"#, 1),
        expected.replacen("pdq", "md5", 1),
    ] {
        assert!(Entry::parse(refused.as_bytes()).is_err(), "{refused}");
    }
}

#[test]
fn version_2_adds_the_details_to_version_1() {
    let entry = generation_of("accepted/generation2.entry.json");
    let details = entry.details.clone().unwrap();
    assert_eq!(details.noise_source, RecordedNoise::TorchCpu);
    assert_eq!(details.task, RecordedTask::TextToImage);
    assert_eq!(details.settings["timesteps"], "999,749.5,500,250");
    let of_version_1 = GenerationEntry {
        details: None,
        ..entry
    };
    assert_eq!(
        of_version_1,
        generation_of("accepted/generation.entry.json")
    );
    let details = generation_of("accepted/inpainting.entry.json")
        .details
        .unwrap();
    assert_eq!(details.sources.len(), details.task.sources());
    assert_eq!(details.strength, Some("0.75".parse().unwrap()));
    assert!(details.initial_latents_sha256.is_some());
}

#[test]
fn envelopes_are_signed_byte_for_byte_as_the_golden_ones() {
    for name in ["generation", "generation2", "inpainting", "score"] {
        let golden = bytes(&format!("accepted/{name}.envelope.json"));
        let entry = Entry::parse(&bytes(&format!("accepted/{name}.entry.json"))).unwrap();
        let envelope = Envelope::parse(&golden).unwrap();
        assert_eq!(envelope.verify(&keys().entries).unwrap(), entry);
        assert_eq!(Envelope::sign(&entry, &entry_signer()).unwrap(), envelope);
        assert_eq!(envelope.to_bytes(), golden);
        assert_eq!(envelope.leaf_hash(), merkle::leaf_hash(&golden));
    }
}

#[test]
fn checkpoints_are_signed_byte_for_byte_as_the_golden_ones() {
    for name in ["checkpoint.txt", "empty.checkpoint.txt"] {
        let golden = text(&format!("accepted/{name}"));
        let signed = SignedCheckpoint::parse(&golden).unwrap();
        assert_eq!(signed.text(), golden);
        let checkpoint = signed.verify_sole(&keys().checkpoint).unwrap().clone();
        assert_eq!(checkpoint.sign(&checkpoint_signer()).unwrap(), signed);
    }
}

#[test]
fn a_cosigned_checkpoint_verifies_but_not_as_solely_the_logs() {
    let golden = text("accepted/cosigned.checkpoint.txt");
    let signed = SignedCheckpoint::parse(&golden).unwrap();
    assert_eq!(signed.text(), golden);
    signed.verify(&keys().checkpoint).unwrap();
    let refusal = signed.verify_sole(&keys().checkpoint).unwrap_err();
    assert_eq!(refusal, ProvenanceError::UnverifiedSignature { found: 2 });
}

#[test]
fn tlog_proofs_are_written_as_they_were_read() {
    let golden = text("accepted/generation.tlog-proof");
    assert_eq!(TlogProof::parse(&golden).unwrap().to_string(), golden);
    let golden = text("accepted/extra.tlog-proof");
    let proof = TlogProof::parse(&golden).unwrap();
    assert_eq!(proof.extra.as_deref(), Some(b"extra".as_slice()));
    assert_eq!(proof.to_string(), golden);
}

#[test]
fn bundles_verify_and_are_written_as_they_were_read() {
    for (name, index) in [
        ("generation", 3),
        ("score", 2),
        ("last", 4),
        ("lone", 0),
        ("generation2", 0),
        ("inpainting", 0),
    ] {
        let golden = bytes(&format!("accepted/{name}.bundle.json"));
        let bundle = Bundle::parse(&golden).unwrap();
        assert_eq!(bundle.to_bytes(), golden);
        let verified = bundle.verify(&keys()).unwrap();
        assert_eq!(verified.leaf_index, LeafIndex::new(index));
        assert_eq!(verified.leaf_hash, bundle.envelope().leaf_hash());
        assert_eq!(
            verified.entry,
            bundle.envelope().unverified_entry().unwrap()
        );
        assert_eq!(
            bundle.tlog_proof().inclusion_proof,
            bundle.inclusion_proof()
        );
    }
}

#[test]
fn a_bundle_put_together_from_its_parts_equals_the_golden_one() {
    let golden = Bundle::parse(&bytes("accepted/generation.bundle.json")).unwrap();
    let entry = Entry::parse(&bytes("accepted/generation.entry.json")).unwrap();
    let head = golden.checkpoint().unverified();
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        tree_size: head.tree_size,
        root_hash: head.root_hash,
    };
    let bundle = Bundle::new(
        Envelope::sign(&entry, &entry_signer()).unwrap(),
        LeafIndex::new(3),
        golden.inclusion_proof().to_vec(),
        checkpoint.sign(&checkpoint_signer()).unwrap(),
    );
    assert_eq!(bundle.to_bytes(), bytes("accepted/generation.bundle.json"));
}

/// Runs a parser and verifier over a folder of inputs that it must refuse, each for the reason with
/// which its file name begins.
fn assert_all_refused(
    folder: &str,
    files_min: usize,
    accept: impl Fn(&[u8]) -> Result<(), ProvenanceError>,
) {
    let mut files = 0;
    for file in fs::read_dir(golden(&format!("refused/{folder}"))).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (code, _) = name.split_once("--").unwrap();
        let refusal = accept(&fs::read(&path).unwrap()).expect_err(name);
        assert_eq!(refusal.code(), code, "{folder}/{name}: {refusal}");
        files += 1;
    }
    assert!(files >= files_min, "{folder} has {files} files");
}

/// Text formats arrive as bytes; what is not UTF-8 is malformed.
fn utf8(bytes: &[u8]) -> Result<&str, ProvenanceError> {
    std::str::from_utf8(bytes).map_err(|_| ProvenanceError::Malformed {
        what: "text",
        detail: "not utf-8".to_owned(),
    })
}

#[test]
fn refused_entries_are_refused() {
    assert_all_refused("entry", 70, |bytes| Entry::parse(bytes).map(drop));
}

#[test]
fn refused_envelopes_are_refused() {
    let keys = keys();
    assert_all_refused("envelope", 30, |bytes| {
        Envelope::parse(bytes)?.verify(&keys.entries).map(drop)
    });
}

#[test]
fn refused_checkpoints_are_refused() {
    let keys = keys();
    assert_all_refused("checkpoint", 40, |bytes| {
        SignedCheckpoint::parse(utf8(bytes)?)?
            .verify(&keys.checkpoint)
            .map(drop)
    });
}

#[test]
fn refused_tlog_proofs_are_refused() {
    assert_all_refused("tlog-proof", 15, |bytes| {
        TlogProof::parse(utf8(bytes)?).map(drop)
    });
}

#[test]
fn refused_bundles_are_refused() {
    let keys = keys();
    assert_all_refused("bundle", 20, |bytes| {
        Bundle::parse(bytes)?.verify(&keys).map(drop)
    });
}

#[test]
fn refused_public_keys_are_refused() {
    assert_all_refused("public-keys", 15, |bytes| {
        PublicKeys::parse(utf8(bytes)?).map(drop)
    });
}
