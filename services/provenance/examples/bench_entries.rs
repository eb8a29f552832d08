//! Measures what an entry costs: signing, reading and verifying it.
//!
//!     cargo run --release --example bench_entries -- BUNDLE [ROUNDS]
//!
//! BUNDLE is a bundle of entries of any log, `tile/entries/000` for instance; a key of this program signs its
//! entries anew. Prints one JSON document, in microseconds an entry.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use provenance::tile::{TILE_WIDTH, parse_entry_bundle};
use provenance::{EntrySigner, Envelope};

/// How often each entry is met when no number is given.
const ROUNDS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bundle = std::fs::read(arguments.next().ok_or("name a bundle of entries")?)?;
    let rounds = arguments.next().map_or(Ok(ROUNDS), |text| text.parse())?;
    let signer = EntrySigner::from_seed("bench.local/log", [1; 32])?;
    let single = signer.verifier();
    let prepared = single.clone().prepared();
    let mut entries = Vec::new();
    for leaf in parse_entry_bundle(&bundle, TILE_WIDTH)? {
        let entry = Envelope::parse(leaf)?.unverified_entry()?;
        entries.extend(std::iter::repeat_n(entry, rounds));
    }
    let mut envelopes = Vec::new();
    let sign_us = each_us(&entries, |entry| {
        envelopes.push(Envelope::sign(entry, &signer));
    });
    let envelopes = envelopes.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut leaves = Vec::new();
    let write_us = each_us(&envelopes, |envelope| leaves.push(envelope.to_bytes()));
    let hash_us = each_us(&leaves, |leaf| {
        black_box(provenance::merkle::leaf_hash(leaf));
    });
    let read_us = each_us(&leaves, |leaf| {
        black_box(Envelope::parse(leaf)).expect("just written");
    });
    let read_entry_us = each_us(&envelopes, |envelope| {
        black_box(envelope.unverified_entry()).expect("just signed");
    });
    let mut verify_us = [&single, &prepared].map(|verifier| {
        each_us(&envelopes, |envelope| {
            black_box(envelope.verify(verifier)).expect("just signed");
        })
    });
    for us in &mut verify_us {
        *us -= read_entry_us;
    }
    let document = serde_json::json!({
        "entries": entries.len(), "bytes": leaves.first().map(Vec::len),
        "sign_us": sign_us, "write_us": write_us, "leaf_hash_us": hash_us,
        "read_envelope_us": read_us, "read_entry_us": read_entry_us,
        "verify_us": verify_us[0], "verify_with_tables_us": verify_us[1],
    });
    println!("{document}");
    Ok(())
}

/// Microseconds that each takes.
fn each_us<T>(all: &[T], mut each: impl FnMut(&T)) -> f64 {
    let started = Instant::now();
    for one in all {
        each(one);
    }
    started.elapsed().as_secs_f64() * 1e6 / all.len().max(1) as f64
}
