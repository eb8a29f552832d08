//! The watermark in the starting noise: against an independent computation in NumPy (vectors and
//! script in `tests/golden/watermark`), and what its documentation promises.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use diffusion::seed::initial_noise;
use diffusion::watermark::{FALSE_POSITIVE_RATE, VALUES_MIN};
use diffusion::{DiffusionError, WatermarkId, WatermarkKey};
use ndarray::Array4;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    noises: Vec<Made>,
    readings: Vec<Read>,
}

#[derive(Deserialize)]
struct Made {
    id: String,
    values: usize,
    first: Vec<f32>,
    last: f32,
    sum: f64,
}

#[derive(Deserialize)]
struct Read {
    id: String,
    values: usize,
    share: f32,
    score: f64,
    false_positive_rate: f64,
    ids: Vec<String>,
}

fn golden() -> Golden {
    let folder: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/watermark");
    serde_json::from_str(&std::fs::read_to_string(folder.join("watermark.json")).unwrap()).unwrap()
}

fn key() -> WatermarkKey {
    WatermarkKey::new(std::array::from_fn(|place| u8::try_from(place).unwrap()))
}

fn other_key() -> WatermarkKey {
    WatermarkKey::new(std::array::from_fn(|place| {
        u8::try_from(32 + place).unwrap()
    }))
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-5 * expected.abs().max(1.0)
}

#[test]
fn marked_noises_are_those_of_the_independent_computation() {
    for made in golden().noises {
        let shape = (1, 1, made.values);
        let noise = key().noise(made.id.parse().unwrap(), shape).unwrap();
        let values: Vec<f64> = noise.iter().map(|&value| f64::from(value)).collect();
        for (found, expected) in values.iter().zip(&made.first) {
            assert!(
                near(*found, f64::from(*expected)),
                "{}: {found} {expected}",
                made.id
            );
        }
        assert!(
            near(*values.last().unwrap(), f64::from(made.last)),
            "{}",
            made.id
        );
        assert!(
            (values.iter().sum::<f64>() - made.sum).abs() < 1e-3,
            "{}",
            made.id
        );
    }
}

#[test]
fn readings_are_those_of_the_independent_computation() {
    let unmarked = WatermarkId::from_bytes([0; 5]);
    for read in golden().readings {
        let shape = (1, 1, read.values);
        let marked = key().noise(read.id.parse().unwrap(), shape).unwrap();
        let mixed = marked * read.share + other_key().noise(unmarked, shape).unwrap();
        let Some(reading) = key().read(mixed.view()) else {
            assert!(read.ids.is_empty() && read.false_positive_rate > FALSE_POSITIVE_RATE);
            continue;
        };
        let ids: Vec<String> = reading.ids.iter().map(ToString::to_string).collect();
        assert_eq!(ids, read.ids, "{}", read.id);
        assert!(
            near(reading.score, read.score),
            "{} {}",
            reading.score,
            read.score
        );
        let ratio = reading.false_positive_rate / read.false_positive_rate;
        assert!((0.999..1.001).contains(&ratio), "{ratio}");
    }
}

#[test]
fn a_mark_is_read_under_its_own_key_alone() {
    let id: WatermarkId = "0123456789".parse().unwrap();
    let noise = key().noise(id, (4, 16, 16)).unwrap();
    assert_eq!(key().read(noise.view()).unwrap().ids[0], id);
    assert_eq!(other_key().read(noise.view()), None);
}

#[test]
fn unmarked_noise_carries_no_mark() {
    for seed in 0..50 {
        let noise = initial_noise(seed, (4, 16, 16));
        assert_eq!(key().read(noise.view()), None, "seed {seed}");
    }
}

#[test]
fn marked_noise_has_the_moments_of_a_standard_normal() {
    let ids = (0..200_u8)
        .map(|byte| WatermarkId::from_bytes([byte, byte.wrapping_mul(37), 3, 200, byte]));
    let noises: Vec<Array4<f32>> = ids
        .map(|id| key().noise(id, (4, 16, 16)).unwrap())
        .collect();
    let count = (noises.len() * VALUES_MIN) as f64;
    let moment = |power: i32| {
        let all = noises.iter().flatten();
        all.map(|&value| f64::from(value).powi(power)).sum::<f64>() / count
    };
    // Four standard errors of each, at 204,800 values.
    assert!(moment(1).abs() < 0.009, "{}", moment(1));
    assert!((moment(2) - 1.0).abs() < 0.0125, "{}", moment(2));
    assert!((moment(4) - 3.0).abs() < 0.087, "{}", moment(4));
    let neighbours: f64 = noises
        .windows(2)
        .map(|pair| f64::from((&pair[0] * &pair[1]).sum()))
        .sum();
    assert!((neighbours / count).abs() < 0.009, "{neighbours}");
}

#[test]
fn samples_without_room_are_refused() {
    let id = WatermarkId::from_bytes([1; 5]);
    let refused = key().noise(id, (1, 1, VALUES_MIN - 1));
    assert_eq!(
        refused,
        Err(DiffusionError::WatermarkRoom {
            values: VALUES_MIN - 1,
            values_min: VALUES_MIN
        })
    );
    let small = initial_noise(0, (1, 1, VALUES_MIN - 1));
    assert_eq!(key().read(small.view()), None);
    let zeros = Array4::zeros((1, 4, 16, 16));
    assert_eq!(key().read(zeros.view()), None);
    let broken = Array4::from_elem((1, 4, 16, 16), f32::NAN);
    assert_eq!(key().read(broken.view()), None);
}

#[test]
fn ids_are_ten_lower_case_hexadecimal_digits() {
    let id: WatermarkId = "00ff10a0b5".parse().unwrap();
    assert_eq!(id.to_string(), "00ff10a0b5");
    assert_eq!(id.to_u64(), 0x0000_ff10_a0b5);
    for wrong in [
        "",
        "00ff10a0b",
        "00ff10a0b5c",
        "00FF10A0B5",
        "00ff10a0g5",
        "+0ff10a0b5",
    ] {
        assert!(wrong.parse::<WatermarkId>().is_err(), "{wrong}");
    }
}

#[test]
fn a_key_does_not_show_itself() {
    assert_eq!(format!("{:?}", key()), "WatermarkKey(secret)");
}
