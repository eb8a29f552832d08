//! No input makes a parser panic, and whatever one accepts is written again as it was read.
//!
//! Inputs are golden files, cut, spliced, repeated and rewritten at random places, and random bytes. The choices
//! repeat with the seed. `cargo xtask fuzz` runs many more rounds than an ordinary test run.

#![allow(clippy::unwrap_used, reason = "a test states by unwrap what must hold")]

use std::collections::BTreeMap;
use std::fs;

use provenance::export::manifest_in;
use provenance::merkle::{TreeHead, verify_consistency, verify_inclusion};
use provenance::note::SignedNote;
use provenance::tile::{entry_bundle, hash_tile, parse_entry_bundle, parse_hash_tile};
use provenance::{
    Bundle, Decimal, Digest, Entry, EntrySigner, Envelope, ExportWriter, LeafIndex, LineEncoding,
    PublicKeys, SecretSeed, SignedCheckpoint, SignedManifest, Tile, TlogProof, TreeSize,
};

/// Rounds of an ordinary run, for each kind of input.
const ROUNDS: u64 = 6_000;

fn accepted(name: &str) -> Vec<u8> {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/provenance/accepted"
    );
    fs::read(format!("{folder}/{name}")).unwrap()
}

fn keys() -> PublicKeys {
    PublicKeys::parse(str::from_utf8(&accepted("retrace.pub")).unwrap()).unwrap()
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// SplitMix64 (Steele, Lea, Flood 2014): a few lines of reproducible noise.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// One to four changes: bits, bytes that parsers trip over, cuts, repetitions, parts of other files.
fn mutate(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], noise: &mut Noise) {
    const HAZARDS: &[u8] = b"\0\n\r\t \"\\{}[],:+-=/09aAZ\x7f\x80\xc0\xff";
    for _ in 0..=noise.below(4) {
        let place = noise.below(bytes.len());
        match noise.below(8) {
            0 => bytes.truncate(place),
            1 => bytes.insert(place, noise.byte()),
            2 if !bytes.is_empty() => bytes[place] ^= 1 << noise.below(8),
            3 if !bytes.is_empty() => bytes[place] = HAZARDS[noise.below(HAZARDS.len())],
            4 => bytes.insert(place, HAZARDS[noise.below(HAZARDS.len())]),
            5 => {
                let end = place + noise.below(bytes.len() - place + 1);
                let part = bytes[place..end].to_vec();
                bytes.splice(place..place, part);
            }
            6 => {
                let end = place + noise.below(bytes.len() - place + 1);
                bytes.drain(place..end);
            }
            _ => {
                let other = &corpus[noise.below(corpus.len())];
                let from = noise.below(other.len());
                let to = from + noise.below(other.len() - from + 1);
                bytes.splice(place..place, other[from..to].iter().copied());
            }
        }
    }
}

fn run(seed: u64, corpus: &[Vec<u8>], look: impl Fn(&[u8])) {
    let mut noise = Noise(seed.wrapping_add(setting("RETRACE_FUZZ_SEED", 0)));
    for round in 0..setting("RETRACE_FUZZ_ROUNDS", ROUNDS) {
        let bytes = match round % 16 {
            15 => (0..noise.below(300)).map(|_| noise.byte()).collect(),
            _ => {
                let mut bytes = corpus[noise.below(corpus.len())].clone();
                mutate(&mut bytes, corpus, &mut noise);
                bytes
            }
        };
        look(&bytes);
    }
}

fn texts(lines: &[&str]) -> Vec<Vec<u8>> {
    lines.iter().map(|line| line.as_bytes().to_vec()).collect()
}

#[test]
fn notes_and_checkpoints_survive_mutation() {
    let keys = keys();
    let corpus = [
        "checkpoint.txt",
        "cosigned.checkpoint.txt",
        "empty.checkpoint.txt",
    ]
    .map(accepted);
    run(1, &corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(note) = SignedNote::parse(&text) {
            assert_eq!(note.to_string(), text);
        }
        if let Ok(checkpoint) = SignedCheckpoint::parse(&text) {
            assert_eq!(checkpoint.text(), text);
            let _ = checkpoint.verify(&keys.checkpoint);
        }
    });
}

#[test]
fn tile_paths_survive_mutation() {
    let corpus = texts(&[
        "0/000",
        "1/x001/x234/067.p/255",
        "entries/x999/999",
        "7/x281/x474/x976/x710/655",
        "entries/000.p/1",
    ]);
    run(2, &corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(tile) = Tile::parse(&text) {
            assert_eq!(tile.to_string(), format!("tile/{text}"));
            let _ = tile.range();
            let _ = tile.is_within(TreeSize::new(u64::MAX));
            assert!(tile.nodes().count() <= 256);
        }
    });
}

#[test]
fn tiles_survive_mutation() {
    let envelope = accepted("generation.envelope.json");
    let score = accepted("score.envelope.json");
    let hashes: Vec<Digest> = (0..4_u8).map(|number| Digest::of(&[number])).collect();
    let corpus = [
        entry_bundle([&envelope[..], &score[..], &b"x"[..]]).unwrap(),
        hash_tile(&hashes),
    ];
    run(3, &corpus, |bytes| {
        for width in [1, 3, 4, 255, 256] {
            if let Ok(entries) = parse_entry_bundle(bytes, width) {
                assert_eq!(entry_bundle(entries).unwrap(), bytes);
            }
            if let Ok(hashes) = parse_hash_tile(bytes, width) {
                assert_eq!(hash_tile(&hashes), bytes);
            }
        }
    });
}

#[test]
fn proofs_survive_mutation() {
    let keys = keys();
    let corpus = ["generation.tlog-proof", "extra.tlog-proof"].map(accepted);
    let leaf = Digest::of(b"leaf");
    run(4, &corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(proof) = TlogProof::parse(&text) else {
            return;
        };
        assert_eq!(proof.to_string(), text);
        let head = proof.checkpoint.unverified().tree_head();
        let hashes = &proof.inclusion_proof;
        assert!(verify_inclusion(&leaf, proof.leaf_index, &head, hashes).is_err());
        let older = TreeHead {
            size: TreeSize::new(proof.leaf_index.get()),
            root_hash: leaf,
        };
        assert!(verify_consistency(&older, &head, hashes).is_err());
        let _ = proof.checkpoint.verify(&keys.checkpoint);
    });
}

#[test]
fn bundles_envelopes_and_entries_survive_mutation() {
    let keys = keys();
    let corpus = [
        "generation.bundle.json",
        "score.bundle.json",
        "inpainting.bundle.json",
        "generation.envelope.json",
        "score.entry.json",
        "generation2.entry.json",
    ]
    .map(accepted);
    let originals: Vec<Vec<u8>> = corpus.to_vec();
    run(5, &corpus, |bytes| {
        if let Ok(bundle) = Bundle::parse(bytes) {
            assert_eq!(bundle.to_bytes(), bytes);
            let holds = bundle.verify(&keys).is_ok();
            assert!(!holds || originals.iter().any(|original| original == bytes));
        }
        if let Ok(envelope) = Envelope::parse(bytes) {
            assert_eq!(envelope.to_bytes(), bytes);
            let _ = envelope.verify(&keys.entries);
        }
        if let Ok(entry) = Entry::parse(bytes) {
            assert_eq!(entry.to_bytes(), bytes);
        }
    });
}

#[test]
fn export_manifests_survive_mutation() {
    let seed = SecretSeed::parse_hex(str::from_utf8(&accepted("entries.seed")).unwrap()).unwrap();
    let signer = EntrySigner::from_seed("retrace.test/log", seed).unwrap();
    let checkpoint =
        SignedCheckpoint::parse(str::from_utf8(&accepted("checkpoint.txt")).unwrap()).unwrap();
    let envelope = Envelope::parse(&accepted("generation.envelope.json")).unwrap();
    let corpus = [LineEncoding::Ndjson, LineEncoding::Csv].map(|encoding| {
        let filter = BTreeMap::from([("client".to_owned(), "studio".to_owned())]);
        let mut writer = ExportWriter::new(encoding, filter, &checkpoint);
        let mut bytes = writer.begin();
        writer
            .row(LeafIndex::new(1), &envelope, &mut bytes)
            .unwrap();
        writer.finish(&signer).unwrap()
    });
    run(6, &corpus, |bytes| {
        let Some(manifest) = manifest_in(bytes) else {
            return;
        };
        if let Ok(signed) = SignedManifest::parse(manifest) {
            assert_eq!(signed.to_bytes(), manifest);
            let _ = signed.verify(&signer.verifier());
        }
    });
}

#[test]
fn keys_seeds_digests_and_decimals_survive_mutation() {
    let corpus = [
        accepted("retrace.pub"),
        accepted("entries.seed"),
        b"-7.5".to_vec(),
        b"3.4028235e38".to_vec(),
    ];
    run(7, &corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(keys) = PublicKeys::parse(&text) {
            assert_eq!(keys.to_string(), text);
        }
        if let Ok(digest) = text.parse::<Digest>() {
            assert_eq!(digest.to_string(), text);
        }
        if let Ok(decimal) = text.parse::<Decimal>() {
            assert_eq!(decimal.as_str(), text);
        }
        let _ = SecretSeed::parse_hex(&text);
    });
}
