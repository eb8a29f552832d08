//! Any change to a file is noticed.

#![allow(clippy::unwrap_used, reason = "a test states by unwrap what must hold")]

use std::fs;

use provenance::{Bundle, Envelope, PublicKeys, SignedCheckpoint};

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
