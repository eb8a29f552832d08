//! Watermarks and hashes against the packages that define them; `tests/golden/media` holds the script,
//! its versions and the marked pictures.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use std::path::PathBuf;

use media::{Limits, PerceptualHash, WatermarkPlane, invisible_watermark};
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/media")
}

fn vectors() -> Value {
    let text = std::fs::read_to_string(folder().join("vectors.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn number(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap()
}

/// The script's pictures, by the same whole-number arithmetic.
fn picture(case: &Value) -> (u32, u32, Vec<u8>) {
    let (width, height) = (number(case, "width"), number(case, "height"));
    let pixel = |x: i64, y: i64| match number(case, "kind") {
        0 => [
            x * 255 / (width - 1).max(1) + y * 3,
            x * x / 97 + y * y / 53,
            x * y / 31 + 40,
        ],
        1 => {
            let (dx, dy) = (x - width / 2, y - height / 3);
            let checks = (x / 24 + y / 16) % 2 == 0;
            [
                255 - (dx * dx + dy * dy).min(25_500) / 100,
                if checks { 200 } else { 60 },
                y * 200 / (height - 1).max(1),
            ]
        }
        _ => {
            let noise = (x * 7_919 + y * 104_729 + x * y * 31) % 251;
            [noise, noise * 3 + x, noise * 5 + y]
        }
    };
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y)));
    let rgb = pixels.map(|value| (value % 256) as u8).collect();
    (width as u32, height as u32, rgb)
}

#[test]
fn every_block_is_read_as_the_reference_reads_it() {
    for case in vectors()["block_bits"].as_array().unwrap() {
        let plane = match case["plane"].as_str().unwrap() {
            "bytes" => WatermarkPlane::Bytes,
            "floats" => WatermarkPlane::Floats,
            _ => WatermarkPlane::FloatsExchanged,
        };
        let (width, height, rgb) = picture(case);
        let found: String = media::watermark_block_bits(width, height, &rgb, plane)
            .into_iter()
            .map(|bit| if bit { '1' } else { '0' })
            .collect();
        let expected = case["bits"].as_str().unwrap();
        assert_eq!(found.len(), expected.len());
        let differ = found.bytes().zip(expected.bytes()).filter(|(a, b)| a != b);
        // A coefficient on the very edge of half a step falls to either side: the reference's filters
        // are not exact in floating point.
        assert!(differ.count() <= 2, "{case}: {found}");
    }
}

#[test]
fn what_the_reference_marked_is_found_and_named() {
    for case in vectors()["marked"].as_array().unwrap() {
        let file = std::fs::read(folder().join(case["file"].as_str().unwrap())).unwrap();
        let decoded = media::decode(&file, &Limits::default()).unwrap();
        let found = invisible_watermark(decoded.width, decoded.height, &decoded.rgb).unwrap();
        assert_eq!(
            found.generator,
            case["generator"].as_str().unwrap(),
            "{case}"
        );
        assert_eq!(i64::from(found.bits), number(case, "bits"));
        assert!(found.false_positive_rate <= media::WATERMARK_FALSE_POSITIVE_RATE_MAX);

        // Three pixels further to the right no block is a whole one of the method's.
        let cut: Vec<u8> = decoded
            .rgb
            .chunks_exact(decoded.width as usize * 3)
            .flat_map(|row| row[3 * 3..].to_vec())
            .collect();
        assert_eq!(
            invisible_watermark(decoded.width - 3, decoded.height, &cut),
            None
        );
    }
}

#[test]
fn hashes_and_qualities_are_those_of_the_published_package() {
    for case in vectors()["hashes"].as_array().unwrap() {
        let (width, height, rgb) = picture(case);
        let found = media::perceptual_hash(width, height, &rgb);
        let expected: PerceptualHash = case["hash"].as_str().unwrap().parse().unwrap();
        assert_eq!(i64::from(found.quality), number(case, "quality"), "{case}");
        let distance = found.hash.distance(&expected);
        assert!(distance <= 2, "{width}x{height}: {distance} bits differ");

        let (eight, quality) = media::dihedral_hashes(width, height, &rgb);
        assert_eq!((eight[0], quality), (found.hash, found.quality));
        for (n, expected) in case["dihedral"].as_array().unwrap().iter().enumerate() {
            let expected: PerceptualHash = expected.as_str().unwrap().parse().unwrap();
            let distance = eight[n].distance(&expected);
            assert!(distance <= 2, "{width}x{height}, variant {n}: {distance}");
        }
    }
}

#[test]
fn a_large_picture_that_is_reduced_first_keeps_its_hash() {
    // Soft hills at two sizes of the same view.
    let view = |side: i64| -> Vec<u8> {
        let at = |x: i64, y: i64| {
            let (x, y) = (x * 1_000 / side, y * 1_000 / side);
            let hill = |cx: i64, cy: i64, r: i64| {
                (255 - 255 * ((x - cx).pow(2) + (y - cy).pow(2)) / (r * r)).max(0)
            };
            hill(200, 300, 250)
                .max(hill(700, 200, 180))
                .max(hill(600, 750, 320) / 2) as u8
        };
        let pixels = (0..side).flat_map(|y| (0..side).map(move |x| at(x, y)));
        pixels.flat_map(|value| [value; 3]).collect()
    };
    let hash = media::perceptual_hash(1_024, 1_024, &view(1_024)).hash;
    let reduced = media::perceptual_hash(3_072, 3_072, &view(3_072)).hash;
    assert!(hash.distance(&reduced) <= 4, "{}", hash.distance(&reduced));
}
