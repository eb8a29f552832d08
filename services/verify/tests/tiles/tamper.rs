//! Random edits of a mirrored log, each found and located.
//!
//! `cargo xtask tamper` runs this with a thousand edits.

use std::fs;

use super::{ENTRIES, Mirror};

const EDITS: u64 = 40;
/// What the folder consists of, and the entries of each bundle.
const FILES: [(&str, std::ops::Range<u64>); 8] = [
    ("mirror/checkpoint", 0..0),
    ("mirror/tile/0/000", 0..0),
    ("mirror/tile/0/001", 0..0),
    ("mirror/tile/0/002.p/88", 0..0),
    ("mirror/tile/1/000.p/2", 0..0),
    ("mirror/tile/entries/000", 0..256),
    ("mirror/tile/entries/001", 256..512),
    ("mirror/tile/entries/002.p/88", 512..ENTRIES),
];

/// SplitMix64 (Steele, Lea, Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn every_random_edit_of_a_mirrored_log_is_found_and_located() {
    let edits = setting("RETRACE_TAMPER_EDITS", EDITS);
    let seed = setting("RETRACE_TAMPER_SEED", 1);
    let mirror = Mirror::new();
    let mut state = seed;
    for edit in 0..edits {
        let file = next(&mut state) % FILES.len() as u64;
        let (name, entries) = &FILES[usize::try_from(file).unwrap()];
        let length = fs::metadata(mirror.path(name)).unwrap().len();
        let place = usize::try_from(next(&mut state) % length).unwrap();
        let bit = next(&mut state) % 8;
        let original = mirror.change(name, |bytes| bytes[place] ^= 1 << bit);
        let (code, report) = mirror.check(&[]);
        let what =
            format!("seed {seed}, edit {edit}: bit {bit} of byte {place} of {name}: {report}");
        assert_eq!(code, 1, "{what}");
        let failed: Vec<&str> = report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|check| check["status"] == "failed")
            .map(|check| check["detail"].as_str().unwrap())
            .collect();
        let tile = name.trim_start_matches("mirror/");
        let is_located = failed.iter().any(|detail| {
            let names_entry = detail
                .strip_prefix("entry ")
                .and_then(|rest| rest.split(':').next()?.parse().ok())
                .is_some_and(|number: u64| entries.contains(&number));
            names_entry || detail.contains(tile)
        });
        // The first check reads the checkpoint alone, and nothing else is looked at when it fails.
        let is_checkpoint =
            *name == "mirror/checkpoint" && report["checks"][1]["name"] == "checkpoint";
        assert!(is_located || is_checkpoint, "{what}");
        mirror.write(name, &original);
    }
    assert_eq!(mirror.check(&[]).0, 0);
    eprintln!("{edits} edits of tiles and checkpoint (seed {seed}): each found and located");
}
