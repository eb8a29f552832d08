//! Colour profiles: applied as Little CMS applies them, or ignored with a note, whatever is in them.
//! `tests/golden/media/colour` holds the script, its versions, profiles and pictures.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use std::path::PathBuf;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use media::{
    ColourProfile, Decoded, Limits, ProfileColours, ProfileTreatment, decode, decode_stored,
};
use miniz_oxide::deflate::compress_to_vec_zlib;
use serde_json::Value;

/// How far a colour may be from what Little CMS makes of it, of 255. Tables are resampled by the library that
/// converts, so that a few colours at the edge of what sRGB holds stray further.
const DISTANCE_MAX: u8 = 2;
const TABLE_DISTANCE_MAX: u8 = 14;
const TABLE_SHARE_WITHIN: f64 = 0.96;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/media/colour")
}

fn profile(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(format!("{name}.icc"))).unwrap()
}

fn vectors(part: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join("vectors.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    all[part].as_array().unwrap().clone()
}

fn bytes(case: &Value, name: &str) -> Vec<u8> {
    let text = case[name].as_str().unwrap();
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn shown(file: &[u8]) -> Decoded {
    decode(file, &Limits::default()).unwrap()
}

fn treatment(decoded: &Decoded) -> ProfileTreatment {
    decoded.colour_profile.as_ref().unwrap().treatment
}

/// The CRC-32 of PNG chunks (PNG, annex D).
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

/// The same PNG with a chunk behind its header.
fn with_chunk(png: &[u8], kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&kind[..], data].concat();
    let (length, crc) = ((data.len() as u32).to_be_bytes(), crc(&body).to_be_bytes());
    // Signature and header: 8 bytes, and 13 within 12.
    [&png[..33], &length, &body, &crc, &png[33..]].concat()
}

fn iccp(profile: &[u8]) -> Vec<u8> {
    [&b"any name\0\0"[..], &compress_to_vec_zlib(profile, 6)].concat()
}

/// A PNG of one row.
fn png(colour: png::ColorType, depth: png::BitDepth, row: &[u8]) -> Vec<u8> {
    let depth_bytes = if depth == png::BitDepth::Sixteen {
        2
    } else {
        1
    };
    let width = row.len() / colour.samples() / depth_bytes;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width as u32, 1);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(row).unwrap();
    writer.finish().unwrap();
    file
}

fn rgb_png(row: &[u8]) -> Vec<u8> {
    png(png::ColorType::Rgb, png::BitDepth::Eight, row)
}

fn tagged_png(row: &[u8], profile: &[u8]) -> Vec<u8> {
    with_chunk(&rgb_png(row), b"iCCP", &iccp(profile))
}

fn jpeg() -> Vec<u8> {
    let mut file = Vec::new();
    let rgb: Vec<u8> = (0..16 * 16)
        .flat_map(|at| [(at % 16 * 12) as u8, 200, 40])
        .collect();
    JpegEncoder::new_with_quality(&mut file, 95)
        .write_image(&rgb, 16, 16, ExtendedColorType::Rgb8)
        .unwrap();
    file
}

/// The JPEG with a profile in parts of these sizes, given with their numbers and in this order.
fn with_parts(jpeg: &[u8], parts: &[(u8, u8, &[u8])]) -> Vec<u8> {
    let mut file = jpeg[..2].to_vec();
    for (number, of, data) in parts {
        let body = [&b"ICC_PROFILE\0"[..], &[*number, *of], data].concat();
        file.extend_from_slice(&[0xff, 0xe2]);
        file.extend_from_slice(&(body.len() as u16 + 2).to_be_bytes());
        file.extend(body);
    }
    [&file, &jpeg[2..]].concat()
}

/// Largest distance of two buffers, and the share of bytes that are within `DISTANCE_MAX`.
fn distances(found: &[u8], expected: &[u8]) -> (u8, f64) {
    assert_eq!(found.len(), expected.len());
    let distances = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b));
    let near = distances
        .clone()
        .filter(|distance| *distance <= DISTANCE_MAX);
    let share = near.count() as f64 / found.len() as f64;
    (distances.max().unwrap(), share)
}

#[test]
fn colours_are_those_of_little_cms() {
    for case in vectors("profiles") {
        let name = case["profile"].as_str().unwrap();
        let (samples, expected) = (bytes(&case, "samples"), bytes(&case, "rgb"));
        let plain = match case["space"].as_str().unwrap() {
            "RGB" => rgb_png(&samples),
            "L" => png(png::ColorType::Grayscale, png::BitDepth::Eight, &samples),
            // Inks come in JPEG alone, see the pictures.
            _ => continue,
        };
        let file = with_chunk(&plain, b"iCCP", &iccp(&profile(name)));
        let found = shown(&file);
        let (distance, share) = distances(&found.rgb, &expected);
        println!("{name}: {distance} at most, {share:.4} within {DISTANCE_MAX}");
        if name == "scanner" {
            assert!(
                distance <= TABLE_DISTANCE_MAX && share >= TABLE_SHARE_WITHIN,
                "{name}"
            );
        } else {
            assert!(distance <= DISTANCE_MAX, "{name}: {distance}");
        }
        let is_srgb = name.starts_with("srgb");
        let expected_treatment = match is_srgb {
            true => ProfileTreatment::AlreadySrgb,
            false => ProfileTreatment::Converted,
        };
        assert_eq!(treatment(&found), expected_treatment, "{name}");
        assert_eq!(found.rgb == shown(&plain).rgb, is_srgb, "{name}");
    }
}

#[test]
fn files_of_another_encoder_show_the_colours_of_little_cms() {
    for case in vectors("pictures") {
        let name = case["file"].as_str().unwrap();
        let file = std::fs::read(folder().join(name)).unwrap();
        let found = shown(&file);
        let size = (u64::from(found.width), u64::from(found.height));
        assert_eq!(Some(size.0), case["width"].as_u64());
        assert_eq!(Some(size.1), case["height"].as_u64());
        assert_eq!(treatment(&found), ProfileTreatment::Converted, "{name}");
        let (distance, share) = distances(&found.rgb, &bytes(&case, "rgb"));
        println!("{name}: {distance} at most, {share:.4} within {DISTANCE_MAX}");
        // JPEG is decoded by two decoders whose samples differ by a few.
        let within = match (name.ends_with(".jpg"), name.starts_with("press")) {
            (_, true) => distance <= TABLE_DISTANCE_MAX && share >= TABLE_SHARE_WITHIN,
            (true, false) => distance <= TABLE_DISTANCE_MAX && share >= 0.99,
            (false, false) => distance <= DISTANCE_MAX,
        };
        assert!(within, "{name}: {distance}, {share}");
    }
}

#[test]
fn a_profile_of_srgb_changes_no_pixel() {
    let everything: Vec<u8> = (0..=255)
        .flat_map(|n: u8| [n, n.wrapping_mul(91), 255 - n])
        .collect();
    for name in ["srgb_by_formula", "srgb_by_table"] {
        let found = shown(&tagged_png(&everything, &profile(name)));
        assert_eq!(found.rgb, everything, "{name}");
        assert_eq!(treatment(&found), ProfileTreatment::AlreadySrgb);
        let note = &found.notes()[0];
        assert!(
            note.contains("\"sRGB by ") && note.contains("as stored"),
            "{note}"
        );
    }
}

#[test]
fn the_pixel_digest_is_of_the_samples_as_stored() {
    let row = [250, 20, 10, 30, 200, 60];
    let plain = rgb_png(&row);
    for profile in [profile("display_p3"), b"no profile".to_vec()] {
        let file = with_chunk(&plain, b"iCCP", &iccp(&profile));
        let stored = decode_stored(&file, &Limits::default()).unwrap();
        assert_eq!(stored.pixel_preimage(), media::pixel_preimage(2, 1, &row));
    }
    assert_ne!(shown(&tagged_png(&row, &profile("display_p3"))).rgb, row);
}

#[test]
fn samples_of_sixteen_bits_are_converted_before_they_are_reduced() {
    // In linear light the darkest of 255 steps is 13 in sRGB: between it and black lie 13 shades.
    let fine: Vec<u16> = (0..64).flat_map(|n| [n * 20; 3]).collect();
    let row: Vec<u8> = fine.iter().flat_map(|value| value.to_be_bytes()).collect();
    let plain = png(png::ColorType::Rgb, png::BitDepth::Sixteen, &row);
    let found = shown(&with_chunk(&plain, b"iCCP", &iccp(&profile("linear"))));
    let linear = |value: u16| f64::from(value) / 65535.0;
    let gamma = |light: f64| match light <= 0.003_130_8 {
        true => light * 12.92,
        false => 1.055 * light.powf(1.0 / 2.4) - 0.055,
    };
    for (found, value) in found.rgb.iter().zip(&fine) {
        let expected = (gamma(linear(*value)) * 255.0).round() as u8;
        assert!(
            found.abs_diff(expected) <= DISTANCE_MAX,
            "{value}: {found}, {expected}"
        );
    }
    let deep_grey = png(
        png::ColorType::GrayscaleAlpha,
        png::BitDepth::Sixteen,
        &[0x80, 0x80, 0xff, 0xff, 0x80, 0x80, 0, 0],
    );
    let deep_grey = shown(&with_chunk(
        &deep_grey,
        b"iCCP",
        &iccp(&profile("grey_gamma_1_8")),
    ));
    // 128 of gamma 1.8 is 148 of sRGB; the other pixel is transparent.
    assert!(
        deep_grey.rgb[0].abs_diff(148) <= DISTANCE_MAX,
        "{:?}",
        deep_grey.rgb
    );
    assert_eq!(deep_grey.rgb[3..], [255; 3]);
}

#[test]
fn colours_are_converted_before_they_are_put_on_white() {
    let row = [200, 60, 30, 255, 200, 60, 30, 0, 200, 60, 30, 128];
    let plain = png(png::ColorType::Rgba, png::BitDepth::Eight, &row);
    let found = shown(&with_chunk(&plain, b"iCCP", &iccp(&profile("display_p3"))));
    let whole = shown(&tagged_png(&[200, 60, 30], &profile("display_p3"))).rgb;
    assert_eq!(found.rgb[..3], whole);
    assert_eq!(found.rgb[3..6], [255; 3]);
    let half = whole
        .iter()
        .map(|value| (u32::from(*value) * 128 + 255 * 127 + 127) / 255);
    assert!(
        found.rgb[6..]
            .iter()
            .map(|value| u32::from(*value))
            .eq(half)
    );
    assert_eq!(found.alpha, Some(vec![255, 0, 128]));
}

#[test]
fn every_container_brings_its_profile() {
    let p3 = profile("display_p3");
    let named = |found: &Decoded| {
        let found = found.colour_profile.clone().unwrap();
        (found.name, found.colours, found.treatment)
    };
    let expected = (
        Some("Display P3".to_owned()),
        Some(ProfileColours::Rgb),
        ProfileTreatment::Converted,
    );
    assert_eq!(named(&shown(&tagged_png(&[1, 2, 3], &p3))), expected);
    let mut webp = Vec::new();
    let mut encoder = WebPEncoder::new_lossless(&mut webp);
    encoder.set_icc_profile(p3.clone()).unwrap();
    encoder
        .write_image(&[9; 12], 2, 2, ExtendedColorType::Rgb8)
        .unwrap();
    assert_eq!(named(&shown(&webp)), expected);

    let plain = shown(&jpeg()).rgb;
    let (first, rest) = p3.split_at(100);
    let (second, third) = rest.split_at(200);
    let whole = shown(&with_parts(&jpeg(), &[(1, 1, &p3)]));
    assert_eq!(named(&whole), expected);
    assert_ne!(whole.rgb, plain);
    for order in [
        [(1, 3, first), (2, 3, second), (3, 3, third)],
        [(3, 3, third), (1, 3, first), (2, 3, second)],
    ] {
        let found = shown(&with_parts(&jpeg(), &order));
        assert_eq!((named(&found), &found.rgb), (expected.clone(), &whole.rgb));
    }
    let broken: [&[(u8, u8, &[u8])]; 6] = [
        &[(1, 3, first), (2, 3, second)],
        &[(1, 2, first), (1, 2, second)],
        &[(0, 1, &p3)],
        &[(1, 2, &p3)],
        &[(2, 1, &p3)],
        &[(1, 1, b"")],
    ];
    for parts in broken {
        let found = shown(&with_parts(&jpeg(), parts));
        assert_eq!(
            (treatment(&found), &found.rgb),
            (ProfileTreatment::Broken, &plain)
        );
    }
    let many: Vec<(u8, u8, &[u8])> = vec![(1, 255, b"x"); 300];
    assert_eq!(
        treatment(&shown(&with_parts(&jpeg(), &many))),
        ProfileTreatment::Broken
    );
}

#[test]
fn a_profile_for_other_colours_than_the_picture_has_is_ignored_and_said() {
    let grey = png(png::ColorType::Grayscale, png::BitDepth::Eight, &[7, 99]);
    for (plain, name) in [
        (grey, "display_p3"),
        (rgb_png(&[1, 2, 3, 200, 100, 0]), "grey_gamma_1_8"),
        (rgb_png(&[1, 2, 3, 200, 100, 0]), "press"),
    ] {
        let found = shown(&with_chunk(&plain, b"iCCP", &iccp(&profile(name))));
        assert_eq!(treatment(&found), ProfileTreatment::OtherColours, "{name}");
        assert_eq!(found.rgb, shown(&plain).rgb);
        assert!(
            found.notes()[0].contains("does not have"),
            "{:?}",
            found.notes()
        );
    }
}

/// The profile with other bytes at a place.
fn with_bytes(profile: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut changed = profile.to_vec();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    changed
}

/// Where the profile's table states the tag.
fn entry(profile: &[u8], tag: &[u8; 4]) -> usize {
    (132..)
        .step_by(12)
        .find(|at| &profile[*at..at + 4] == tag)
        .unwrap()
}

/// Where the tag's data lie.
fn place(profile: &[u8], tag: &[u8; 4]) -> usize {
    let at = entry(profile, tag) + 4;
    u32::from_be_bytes(profile[at..at + 4].try_into().unwrap()) as usize
}

#[test]
fn a_hostile_profile_is_ignored_and_the_picture_is_shown_as_stored() {
    let p3 = profile("display_p3");
    let (broken, unsupported) = (ProfileTreatment::Broken, ProfileTreatment::Unsupported);
    let curve = place(&p3, b"rTRC");
    let flat = [b"rXYZ", b"gXYZ", b"bXYZ"]
        .iter()
        .fold(p3.clone(), |p3, tag| {
            with_bytes(&p3, place(&p3, tag) + 8, &[0; 12])
        });
    let cases: Vec<(&str, Vec<u8>, ProfileTreatment)> = vec![
        ("nothing", Vec::new(), broken),
        ("no header", p3[..100].to_vec(), broken),
        ("cut", p3[..p3.len() - 40].to_vec(), broken),
        ("no signature", with_bytes(&p3, 36, b"acsq"), broken),
        (
            "shorter than it is",
            with_bytes(&p3, 0, &[0, 0, 0, 9]),
            broken,
        ),
        ("longer than it is", with_bytes(&p3, 0, &[0x7f; 4]), broken),
        (
            "four thousand million tags",
            with_bytes(&p3, 128, &[0xff; 4]),
            broken,
        ),
        ("no tags", with_bytes(&p3, 128, &[0; 4]), broken),
        (
            "a tag outside",
            with_bytes(&p3, entry(&p3, b"gTRC") + 4, &[0xff; 4]),
            broken,
        ),
        (
            "an endless tag",
            with_bytes(&p3, entry(&p3, b"gTRC") + 8, &[0xff; 4]),
            broken,
        ),
        (
            "a tag that is the table",
            with_bytes(&p3, entry(&p3, b"gTRC") + 4, &[0, 0, 0, 128]),
            broken,
        ),
        (
            "a missing colour",
            with_bytes(&p3, entry(&p3, b"bXYZ"), b"xxxx"),
            broken,
        ),
        ("no light", flat, broken),
        (
            "a curve of all ones",
            with_bytes(&p3, curve + 12, &[0xff; 20]),
            broken,
        ),
        (
            "a curve that divides by nothing",
            with_bytes(&p3, curve + 16, &[0; 16]),
            broken,
        ),
        ("a link", with_bytes(&p3, 12, b"link"), unsupported),
        ("names", with_bytes(&p3, 12, b"nmcl"), unsupported),
        ("of version 5", with_bytes(&p3, 8, &[5]), unsupported),
        ("of twelve inks", with_bytes(&p3, 16, b"CCLR"), unsupported),
        (
            "onto nothing known",
            with_bytes(&p3, 20, b"Luv "),
            unsupported,
        ),
    ];
    let row = [250, 20, 10, 30, 200, 60];
    for (what, profile, expected) in cases {
        let found = shown(&tagged_png(&row, &profile));
        // A curve may also be odd and still one; then it is applied, and nothing else happens.
        let odd = what.contains("curve") && treatment(&found) == ProfileTreatment::Converted;
        assert!(odd || treatment(&found) == expected, "{what}: {found:?}");
        assert!(odd || found.rgb == row, "{what}");
        assert!(odd || found.notes()[0].contains("was ignored"), "{what}");
    }
}

#[test]
fn a_profile_that_grows_without_bounds_is_stopped_at_its_limit() {
    let limits = Limits::default();
    let bomb = vec![0; 200 << 20];
    let bomb = iccp(&bomb);
    assert!(bomb.len() < 1 << 20);
    let row = [250, 20, 10];
    let file = with_chunk(&rgb_png(&row), b"iCCP", &bomb);
    // The picture decoder inflates no profile either: its limit is far below the bomb.
    let tight = Limits {
        decoder_alloc_bytes_max: 1 << 20,
        ..limits
    };
    for limits in [limits, tight] {
        let found = decode(&file, &limits).unwrap();
        assert_eq!(
            (treatment(&found), &found.rgb[..]),
            (ProfileTreatment::TooLarge, &row[..])
        );
        assert!(found.notes()[0].contains("colour_profile_bytes_max"));
    }
    for garbage in [
        &b""[..],
        b"\0",
        b"name\0",
        b"name\0\x07\x78\x9c",
        b"name\0\0garbage",
        &[b'x'; 200],
    ] {
        let file = with_chunk(&rgb_png(&row), b"iCCP", garbage);
        assert_eq!(
            treatment(&shown(&file)),
            ProfileTreatment::Broken,
            "{garbage:?}"
        );
    }
    let part = vec![1; 60_000];
    let parts: Vec<(u8, u8, &[u8])> = (1..=100).map(|n| (n, 100, &part[..])).collect();
    assert_eq!(
        treatment(&shown(&with_parts(&jpeg(), &parts))),
        ProfileTreatment::TooLarge
    );
}

#[test]
fn the_name_of_a_profile_is_one_short_printable_line() {
    let name = |icc: &[u8]| {
        let found = shown(&tagged_png(&[1, 2, 3], icc));
        (
            found.colour_profile.clone().unwrap().name,
            found.notes()[0].clone(),
        )
    };
    let adobe = profile("adobe_rgb");
    let text = place(&adobe, b"desc") + 12;
    let (hostile, note) = name(&with_bytes(&adobe, text, b"<b>\"; DROP\n\x1b[31m\xff"));
    let hostile = hostile.unwrap();
    assert!(hostile.starts_with("<b>'; DROP  [31m"), "{hostile}");
    assert!(
        !note.contains(['\n', '\x1b']) && note.matches('"').count() == 2,
        "{note}"
    );

    // A description that claims the whole profile, and texts that lie outside it.
    let long = [&adobe[..], &vec![b'A'; 100_000]].concat();
    let long = with_bytes(&long, 0, &(long.len() as u32).to_be_bytes());
    let long = with_bytes(
        &long,
        entry(&long, b"desc") + 4,
        &(adobe.len() as u32 - 12).to_be_bytes(),
    );
    let long = with_bytes(&long, entry(&long, b"desc") + 8, &100_012_u32.to_be_bytes());
    let long = with_bytes(&long, adobe.len() - 12, b"desc\0\0\0\0\0\x01\x86\xa0");
    assert_eq!(name(&long).0.unwrap().chars().count(), 61);
    for length in [0xffff_ffff_u32, 0x7fff_ffff, 5_000] {
        assert_eq!(
            name(&with_bytes(&adobe, text - 4, &length.to_be_bytes())).0,
            None
        );
    }
    let p3 = profile("display_p3");
    let turned = with_bytes(&p3, place(&p3, b"desc") + 28, &[0x20, 0x2e, 0xd8, 0]);
    let turned = name(&turned).0.unwrap();
    assert!(
        !turned.contains('\u{202e}') && turned.contains('\u{fffd}'),
        "{turned:?}"
    );
}

#[test]
fn a_tag_that_is_stated_a_hundred_times_is_read_once() {
    // Each tag the whole profile, many times over: a reader that follows them all reads terabytes.
    let body = profile("scanner");
    let table = place(&body, b"A2B0");
    let tags: u32 = 100;
    let size = 132 + 12 * tags as usize + body.len() - table;
    let mut hostile = body[..128].to_vec();
    hostile[..4].copy_from_slice(&(size as u32).to_be_bytes());
    hostile.extend_from_slice(&tags.to_be_bytes());
    for _ in 0..tags {
        hostile.extend_from_slice(b"A2B0");
        hostile.extend_from_slice(&(132 + 12 * tags).to_be_bytes());
        hostile.extend_from_slice(&((body.len() - table) as u32).to_be_bytes());
    }
    hostile.extend_from_slice(&body[table..]);
    let found = shown(&tagged_png(&[10, 200, 30], &hostile));
    assert_eq!(treatment(&found), ProfileTreatment::Converted);
    let more = with_bytes(&hostile, 128, &101_u32.to_be_bytes());
    assert_eq!(
        treatment(&shown(&tagged_png(&[10, 200, 30], &more))),
        ProfileTreatment::Broken
    );
}

/// A xorshift generator (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn mutated_profiles_never_cost_the_picture() {
    let inks = std::fs::read(folder().join("press.jpg")).unwrap();
    let seeds = [
        "display_p3",
        "adobe_rgb",
        "srgb_by_table",
        "grey_gamma_1_8",
        "scanner",
        "press",
    ];
    let mut random = Random(0x0005_eed5);
    let grey = png(png::ColorType::Grayscale, png::BitDepth::Eight, &[7, 99]);
    for round in 0..600 {
        let name = seeds[round % seeds.len()];
        let mut changed = profile(name);
        for _ in 0..=random.below(8) {
            // Mostly where the structure is.
            let within = if random.below(3) > 0 {
                300.min(changed.len())
            } else {
                changed.len()
            };
            let at = random.below(within);
            changed[at] = match random.below(4) {
                0 => 0xff,
                1 => 0,
                2 => random.below(256) as u8,
                _ => changed[at] ^ (1 << random.below(8)),
            };
        }
        if random.below(8) == 0 {
            changed.truncate(random.below(changed.len()));
        }
        let file = match name {
            // In place of its own profile, which comes in one segment.
            "press" => {
                let start = inks
                    .windows(12)
                    .position(|part| part == b"ICC_PROFILE\0")
                    .unwrap()
                    - 4;
                let length = u16::from_be_bytes([inks[start + 2], inks[start + 3]]);
                let plain = [&inks[..start], &inks[start + 2 + usize::from(length)..]].concat();
                with_parts(&plain, &[(1, 1, &changed)])
            }
            "grey_gamma_1_8" => with_chunk(&grey, b"iCCP", &iccp(&changed)),
            _ => tagged_png(&[250, 20, 10, 0, 255, 128], &changed),
        };
        let found = shown(&file);
        assert_eq!(found.rgb.len(), (found.width * found.height * 3) as usize);
        let ColourProfile { name, .. } = found.colour_profile.unwrap();
        assert!(name.is_none_or(|name| name.chars().count() <= 61));
    }
}
