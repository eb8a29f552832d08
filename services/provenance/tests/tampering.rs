//! Any change to a file is noticed, and no input makes a parser panic.

#![allow(clippy::unwrap_used, reason = "a test states by unwrap what must hold")]

use std::fs;

use provenance::{
    Bundle, Digest, Entry, Envelope, PublicKeys, SecretSeed, SignedCheckpoint, TlogProof,
};

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

/// Each single bit, and the bytes that lenient parsers like to skip, fold or reinterpret.
fn changes(byte: u8) -> impl Iterator<Item = u8> {
    let bits = (0..8).map(move |bit| byte ^ (1 << bit));
    let hazards = *b" \n\t\r\0\"\\=A0a/+-_";
    bits.chain(hazards).filter(move |changed| *changed != byte)
}

/// Every file that differs from `original` in one byte: changed, missing, doubled or added.
fn assert_every_byte_counts(name: &str, accepts: impl Fn(&[u8]) -> bool) {
    let original = accepted(name);
    assert!(accepts(&original), "{name} itself");
    for place in 0..original.len() {
        let mut changed = original.clone();
        for byte in changes(original[place]) {
            changed[place] = byte;
            assert!(!accepts(&changed), "{name}: byte {place} made {byte:#04x}");
        }
        let mut shorter = original.clone();
        shorter.remove(place);
        assert!(!accepts(&shorter), "{name}: byte {place} removed");
    }
    for place in 0..=original.len() {
        for byte in *b" \n0A=\0" {
            let mut longer = original.clone();
            longer.insert(place, byte);
            assert!(!accepts(&longer), "{name}: {byte:#04x} added at {place}");
        }
    }
}

#[test]
fn a_bundle_with_any_one_byte_changed_is_refused() {
    let keys = keys();
    let accepts =
        |bytes: &[u8]| Bundle::parse(bytes).is_ok_and(|bundle| bundle.verify(&keys).is_ok());
    assert_every_byte_counts("generation.bundle.json", accepts);
    // Another kind of entry and a proof without hashes, with each single bit changed.
    for name in [
        "score.bundle.json",
        "lone.bundle.json",
        "inpainting.bundle.json",
    ] {
        let mut changed = accepted(name);
        for place in 0..changed.len() {
            for bit in 0..8 {
                changed[place] ^= 1 << bit;
                assert!(!accepts(&changed), "{name}: bit {bit} of byte {place}");
                changed[place] ^= 1 << bit;
            }
        }
        assert!(accepts(&changed), "{name} itself");
    }
}

#[test]
fn a_bundle_is_refused_under_public_keys_with_any_one_byte_changed() {
    let bundle = Bundle::parse(&accepted("generation.bundle.json")).unwrap();
    assert_every_byte_counts("retrace.pub", |bytes| {
        str::from_utf8(bytes)
            .ok()
            .and_then(|text| PublicKeys::parse(text).ok())
            .is_some_and(|keys| bundle.verify(&keys).is_ok())
    });
}

#[test]
fn an_envelope_with_any_one_byte_changed_is_refused() {
    let keys = keys();
    assert_every_byte_counts("generation.envelope.json", |bytes| {
        Envelope::parse(bytes).is_ok_and(|envelope| envelope.verify(&keys.entries).is_ok())
    });
}

#[test]
fn a_checkpoint_with_any_one_byte_changed_is_refused() {
    let keys = keys();
    assert_every_byte_counts("checkpoint.txt", |bytes| {
        str::from_utf8(bytes)
            .ok()
            .and_then(|text| SignedCheckpoint::parse(text).ok())
            .is_some_and(|checkpoint| checkpoint.verify_sole(&keys.checkpoint).is_ok())
    });
}

#[test]
fn a_bundle_with_two_neighbouring_bytes_swapped_is_refused() {
    let original = accepted("generation.bundle.json");
    let keys = keys();
    for place in 1..original.len() {
        if original[place - 1] == original[place] {
            continue;
        }
        let mut swapped = original.clone();
        swapped.swap(place - 1, place);
        let accepted = Bundle::parse(&swapped).is_ok_and(|bundle| bundle.verify(&keys).is_ok());
        assert!(!accepted, "bytes {} and {place} swapped", place - 1);
    }
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
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Feeds the bytes to every parser; whatever one accepts must come out as it went in.
fn parse_everything(bytes: &[u8], keys: &PublicKeys) {
    if let Ok(bundle) = Bundle::parse(bytes) {
        assert_eq!(bundle.to_bytes(), bytes);
        let _ = bundle.verify(keys);
    }
    if let Ok(envelope) = Envelope::parse(bytes) {
        assert_eq!(envelope.to_bytes(), bytes);
        let _ = envelope.verify(&keys.entries);
    }
    if let Ok(entry) = Entry::parse(bytes) {
        assert_eq!(entry.to_bytes(), bytes);
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(checkpoint) = SignedCheckpoint::parse(&text) {
        assert_eq!(checkpoint.text(), text);
        let _ = checkpoint.verify(&keys.checkpoint);
    }
    if let Ok(proof) = TlogProof::parse(&text) {
        assert_eq!(proof.to_string(), text);
    }
    if let Ok(keys) = PublicKeys::parse(&text) {
        assert_eq!(keys.to_string(), text);
    }
    let _ = text.parse::<Digest>();
    let _ = SecretSeed::parse_hex(&text);
}

#[test]
fn random_bytes_never_make_a_parser_panic() {
    let keys = keys();
    let mut noise = Noise(1);
    for _ in 0..4_000 {
        let length = noise.below(200);
        let bytes: Vec<u8> = (0..length).map(|_| noise.byte()).collect();
        parse_everything(&bytes, &keys);
    }
}

#[test]
fn mutilated_files_never_make_a_parser_panic_and_are_never_rewritten() {
    let keys = keys();
    let files = [
        "generation.bundle.json",
        "generation.envelope.json",
        "score.entry.json",
        "cosigned.checkpoint.txt",
        "extra.tlog-proof",
        "retrace.pub",
    ]
    .map(accepted);
    let mut noise = Noise(2);
    for round in 0..6_000 {
        let mut bytes = files[round % files.len()].clone();
        for _ in 0..=noise.below(3) {
            let place = noise.below(bytes.len().max(1));
            match noise.below(4) {
                0 => bytes.truncate(place),
                1 => bytes.insert(place.min(bytes.len()), noise.byte()),
                2 if place < bytes.len() => bytes[place] = noise.byte(),
                _ => {
                    let other = &files[noise.below(files.len())];
                    let from = noise.below(other.len());
                    let to = from + noise.below(other.len() - from);
                    bytes.splice(place..place, other[from..to].iter().copied());
                }
            }
        }
        parse_everything(&bytes, &keys);
    }
}
