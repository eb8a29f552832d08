//! Measures the search for near matches among ten million hashes.
//!
//!     cargo run --example bench_near -- HASHES [COUNT]
//!
//! HASHES is a file of perceptual hashes of real pictures, one a line in hexadecimal, as the example
//! `perceptual_hashes` of `media` prints. The others are perturbed copies: of each a real hash with a
//! number of bits flipped that is drawn from 0 to 128. Every look-up asks for distance 31 with a real hash
//! that has up to 40 bits flipped. Prints one JSON document.

use std::error::Error;
use std::time::Instant;

use provenance::{NEAR_DISTANCE_MAX, NearIndex};

/// Hashes when no number is given.
const COUNT: usize = 10_000_000;
/// Bits that a perturbed copy has flipped at most; a look-up has fewer.
const FLIPS_MAX: u64 = 128;
const QUERY_FLIPS_MAX: u64 = 40;
/// Look-ups that are timed one by one, and look-ups of each thread together.
const TIMED: usize = 2_000;
const THREADS: u64 = 2;
/// Look-ups that are compared with a scan of everything.
const CHECKED: usize = 20;

/// A deterministic generator (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn perturbed(&mut self, hash: &[u8; 32], flips_max: u64) -> [u8; 32] {
        let mut hash = *hash;
        for _ in 0..(self.next() >> 16) % (flips_max + 1) {
            let bit = (self.next() >> 16) as usize % 256;
            hash[bit / 8] ^= 1 << (bit % 8);
        }
        hash
    }

    fn query(&mut self, real: &[[u8; 32]]) -> [u8; 32] {
        let hash = real[(self.next() >> 16) as usize % real.len()];
        self.perturbed(&hash, QUERY_FLIPS_MAX)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("name a file of hashes")?;
    let count = arguments.next().map_or(Ok(COUNT), |count| count.parse())?;
    let real = std::fs::read_to_string(file)?
        .lines()
        .map(parse)
        .collect::<Result<Vec<_>, _>>()?;
    let mut random = Random(7);
    let mut index = NearIndex::default();
    for place in 0..count {
        let hash = real[place % real.len()];
        index.push(&random.perturbed(&hash, FLIPS_MAX), place as u64, 100);
    }
    let started = Instant::now();
    let index = index.with_tables();
    let build_s = started.elapsed().as_secs_f64();
    let queries: Vec<[u8; 32]> = (0..TIMED).map(|_| random.query(&real)).collect();
    for query in &queries[..CHECKED] {
        let scanned = index.scan(query, NEAR_DISTANCE_MAX);
        assert_eq!(
            index.within(query, NEAR_DISTANCE_MAX),
            scanned,
            "the search is not exact"
        );
    }
    let mut found = 0;
    let mut times_ms: Vec<f64> = queries
        .iter()
        .map(|query| {
            let started = Instant::now();
            found += index.within(query, NEAR_DISTANCE_MAX).len();
            started.elapsed().as_secs_f64() * 1_000.0
        })
        .collect();
    times_ms.sort_by(f64::total_cmp);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for query in &queries {
                    std::hint::black_box(index.within(query, NEAR_DISTANCE_MAX));
                }
            });
        }
    });
    let per_second = (THREADS as usize * TIMED) as f64 / started.elapsed().as_secs_f64();
    let at = |share: f64| times_ms[(share * (TIMED - 1) as f64) as usize];
    let document = serde_json::json!({
        "hashes": count, "real_hashes": real.len(), "seed": 7, "distance": NEAR_DISTANCE_MAX,
        "build_s": build_s, "memory_mib": index.bytes() >> 20,
        "found_mean": found as f64 / TIMED as f64,
        "p50_ms": at(0.5), "p95_ms": at(0.95), "p99_ms": at(0.99), "slowest_ms": at(1.0),
        "threads": THREADS, "lookups_per_s": per_second,
    });
    println!("{document}");
    Ok(())
}

fn parse(line: &str) -> Result<[u8; 32], Box<dyn Error>> {
    let digits = line.split_whitespace().next().ok_or("an empty line")?;
    Ok(hex::decode(digits)?
        .try_into()
        .map_err(|_| "a hash has 64 digits")?)
}
