//! Untrusted bytes: what is accepted, what is refused, and that nothing panics.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use media::{Format, Limits, MarkKind, MediaError, Place, decode, encode_png, probe, sniff};

/// A deterministic generator (xorshift64*), so that a failing mutation can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

fn pattern(width: u32, height: u32) -> Vec<u8> {
    (0..width * height)
        .flat_map(|i| [(i * 7) as u8, (i / width * 5) as u8, 90])
        .collect()
}

fn png_file() -> Vec<u8> {
    encode_png(
        40,
        30,
        &pattern(40, 30),
        &[("Comment", "plain"), ("Title", "größe")],
    )
    .unwrap()
}

fn jpeg_file(quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .write_image(&pattern(40, 30), 40, 30, ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

fn webp_file() -> Vec<u8> {
    let mut bytes = Vec::new();
    WebPEncoder::new_lossless(&mut bytes)
        .write_image(&pattern(40, 30), 40, 30, ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

/// Inserts a chunk behind the image header.
fn with_png_chunk(png: &[u8], kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut bytes = png[..33].to_vec();
    bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
    bytes.extend_from_slice(kind);
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(&crc32(&[kind, data].concat()).to_be_bytes());
    bytes.extend_from_slice(&png[33..]);
    bytes
}

/// The checksum of PNG, annex D, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

fn with_jpeg_segment(jpeg: &[u8], marker: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = jpeg[..2].to_vec();
    bytes.extend_from_slice(&[0xff, marker]);
    bytes.extend_from_slice(&(data.len() as u16 + 2).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(&jpeg[2..]);
    bytes
}

fn marks(bytes: &[u8]) -> Vec<(MarkKind, Option<String>)> {
    let decoded = decode(bytes, &Limits::default()).unwrap();
    media::generator_marks(&decoded)
        .into_iter()
        .map(|mark| (mark.kind, mark.generator))
        .collect()
}

#[test]
fn all_three_formats_decode_and_lossless_ones_give_the_same_pixels() {
    for (bytes, format) in [
        (png_file(), Format::Png),
        (jpeg_file(90), Format::Jpeg),
        (webp_file(), Format::Webp),
    ] {
        let decoded = decode(&bytes, &Limits::default()).unwrap();
        assert_eq!(
            (decoded.width, decoded.height, decoded.format),
            (40, 30, format)
        );
        assert_eq!((decoded.frames, decoded.trailing_bytes), (1, 0));
        if format != Format::Jpeg {
            assert_eq!(decoded.rgb, pattern(40, 30), "{format}");
        }
    }
}

#[test]
fn the_encoder_is_deterministic_and_its_texts_come_back() {
    assert_eq!(png_file(), png_file());
    let decoded = decode(&png_file(), &Limits::default()).unwrap();
    let texts: Vec<_> = decoded
        .metadata
        .iter()
        .map(|i| (i.place.clone(), i.value.as_str()))
        .collect();
    assert_eq!(
        texts,
        [
            (Place::PngText("Comment".into()), "plain"),
            (Place::PngText("Title".into()), "größe")
        ]
    );
    assert!(matches!(
        encode_png(2, 2, &[0; 11], &[]),
        Err(MediaError::PixelCount { .. })
    ));
    assert!(matches!(
        encode_png(1, 1, &[0; 3], &[("", "x")]),
        Err(MediaError::Encode { .. })
    ));
}

#[test]
fn every_cap_is_checked_and_named() {
    let limits = Limits::default();
    let png = png_file();
    let cases = [
        (
            Limits {
                bytes_max: 10,
                ..limits
            },
            "bytes_max",
        ),
        (
            Limits {
                side_max: 39,
                ..limits
            },
            "side_max",
        ),
        (
            Limits {
                pixels_max: 1199,
                ..limits
            },
            "pixels_max",
        ),
    ];
    for (limits, name) in cases {
        let error = probe(&png, &limits).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(decode(&png, &limits).unwrap_err(), error);
    }
    let tight = Limits {
        decoder_alloc_bytes_max: 100,
        ..limits
    };
    assert!(matches!(
        decode(&png, &tight),
        Err(MediaError::DecoderMemory { .. })
    ));
}

#[test]
fn a_pixel_bomb_is_refused_from_its_header() {
    let mut png = png_file();
    png[16..20].copy_from_slice(&16_000_u32.to_be_bytes());
    png[20..24].copy_from_slice(&16_000_u32.to_be_bytes());
    assert!(matches!(
        probe(&png, &Limits::default()),
        Err(MediaError::TooManyPixels {
            pixels: 256_000_000,
            ..
        })
    ));
}

#[test]
fn every_truncation_is_an_error_in_every_format() {
    for bytes in [png_file(), jpeg_file(80), webp_file()] {
        for length in 0..bytes.len() {
            assert!(
                decode(&bytes[..length], &Limits::default()).is_err(),
                "cut at {length}"
            );
        }
    }
}

#[test]
fn random_mutations_never_panic_and_never_give_a_wrong_buffer() {
    let seeds = [png_file(), jpeg_file(60), webp_file()];
    let limits = Limits {
        side_max: 512,
        pixels_max: 1 << 16,
        ..Limits::default()
    };
    let mut random = Random(0x5eed_0001);
    for round in 0..6_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=random.below(6) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes[at] ^= 1 << random.below(8),
                2 => drop(bytes.drain(at..(at + random.below(9)).min(bytes.len()))),
                _ => bytes.insert(at, random.next() as u8),
            }
            if bytes.is_empty() {
                break;
            }
        }
        if let Ok(decoded) = decode(&bytes, &limits) {
            assert_eq!(
                decoded.rgb.len(),
                decoded.width as usize * decoded.height as usize * 3
            );
            drop(media::generator_marks(&decoded));
        }
    }
}

#[test]
fn animations_are_refused_with_their_number_of_frames() {
    let animated = with_png_chunk(&png_file(), b"acTL", &[0, 0, 0, 5, 0, 0, 0, 0]);
    assert_eq!(
        probe(&animated, &Limits::default()),
        Err(MediaError::TooManyFrames {
            frames: 5,
            frames_max: 1
        })
    );
}

#[test]
fn trailing_bytes_are_counted_and_alpha_is_flagged() {
    let mut jpeg = jpeg_file(75);
    jpeg.extend_from_slice(b"PK\x03\x04 hidden");
    assert_eq!(
        decode(&jpeg, &Limits::default()).unwrap().trailing_bytes,
        11
    );

    let mut webp = Vec::new();
    WebPEncoder::new_lossless(&mut webp)
        .write_image(
            &[10, 20, 30, 0, 10, 20, 30, 255],
            2,
            1,
            ExtendedColorType::Rgba8,
        )
        .unwrap();
    let decoded = decode(&webp, &Limits::default()).unwrap();
    assert!(decoded.has_alpha);
    assert_eq!(decoded.rgb, [255, 255, 255, 10, 20, 30]);
}

#[test]
fn the_quality_setting_of_a_jpeg_is_read_from_its_tables() {
    let decoded = decode(&jpeg_file(80), &Limits::default()).unwrap();
    assert_eq!(decoded.quality.jpeg_quality, Some(80));
    assert!(!decoded.quality.quantisation_tables.is_empty());
    assert_eq!(
        decode(&png_file(), &Limits::default())
            .unwrap()
            .quality
            .jpeg_quality,
        None
    );
}

#[test]
fn generation_parameters_and_graphs_in_png_text_are_marks() {
    let infotext = "a red cat\nNegative prompt: blurry\nSteps: 20, Sampler: DDIM, CFG scale: 7, Seed: 1, Model: dream";
    let png = encode_png(4, 4, &pattern(4, 4), &[("parameters", infotext)]).unwrap();
    assert_eq!(
        marks(&png),
        [(MarkKind::GenerationParameters, Some("dream".into()))]
    );

    let graph = r#"{"3":{"class_type":"KSampler","inputs":{"seed":1}}}"#;
    let png = encode_png(4, 4, &pattern(4, 4), &[("prompt", graph)]).unwrap();
    assert_eq!(marks(&png), [(MarkKind::Workflow, Some("ComfyUI".into()))]);

    let png = encode_png(
        4,
        4,
        &pattern(4, 4),
        &[("parameters", "Steps: many, Seed: x")],
    )
    .unwrap();
    assert_eq!(marks(&png), []);
}

#[test]
fn software_in_exif_and_source_type_in_xmp_are_marks() {
    // Little-endian TIFF, one entry: Software, ASCII, 11 bytes at offset 26.
    let mut exif =
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x31\x01\x02\0\x0b\0\0\0\x1a\0\0\0\0\0\0\0".to_vec();
    exif.extend_from_slice(b"Midjourney\0");
    let jpeg = with_jpeg_segment(&jpeg_file(80), 0xe1, &exif);
    assert_eq!(
        marks(&jpeg),
        [(MarkKind::SoftwareName, Some("Midjourney".into()))]
    );

    let uri = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia";
    let body = [
        format!(r#"<rdf:Description Iptc4xmpExt:DigitalSourceType="{uri}"/>"#),
        format!(
            "<rdf:Description><e:DigitalSourceType>{uri}</e:DigitalSourceType></rdf:Description>"
        ),
        format!(
            r#"<rdf:Description><e:DigitalSourceType rdf:resource="{uri}"/></rdf:Description>"#
        ),
    ];
    for description in body {
        let packet = format!("<x:xmpmeta><rdf:RDF>{description}</rdf:RDF></x:xmpmeta>");
        let segment = [
            b"http://ns.adobe.com/xap/1.0/\0".as_slice(),
            packet.as_bytes(),
        ]
        .concat();
        let jpeg = with_jpeg_segment(&jpeg_file(80), 0xe1, &segment);
        let expected = (
            MarkKind::DigitalSourceType,
            Some("trainedAlgorithmicMedia".into()),
        );
        assert_eq!(marks(&jpeg), [expected]);
    }
}

#[test]
fn content_credentials_are_noticed_and_are_no_mark() {
    let png = with_png_chunk(&png_file(), b"caBX", b"\0\0\0\x20jumb c2pa");
    let jumbf = b"JP\0\x01\0\0\0\x01\0\0\0\x30jumb\0\0\0\x20jumdc2pa\0\x11\0\x10\x80\0\0\xaa\0\x38\x9b\x71\x03c2pa\0";
    let jpeg = with_jpeg_segment(&jpeg_file(80), 0xeb, jumbf);
    for file in [png, jpeg] {
        let decoded = decode(&file, &Limits::default()).unwrap();
        assert!(decoded.has_content_credentials);
        assert!(media::generator_marks(&decoded).is_empty());
    }
    let decoded = decode(&png_file(), &Limits::default()).unwrap();
    assert!(!decoded.has_content_credentials);
}

#[test]
fn a_text_that_inflates_over_the_limit_is_left_out_and_counted() {
    let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![b'a'; 4 << 20], 9);
    let chunk = [b"parameters\0\0".as_slice(), &bomb].concat();
    let png = with_png_chunk(&png_file(), b"zTXt", &chunk);
    let decoded = decode(&png, &Limits::default()).unwrap();
    assert_eq!(decoded.metadata_skipped, 1);
    assert!(
        decoded
            .metadata
            .iter()
            .all(|item| item.place != Place::PngText("parameters".into()))
    );
}

#[test]
fn a_file_of_another_kind_is_refused_by_its_first_bytes() {
    assert_eq!(sniff(b"%PDF-1.7"), Err(MediaError::UnknownFormat));
    assert_eq!(probe(b"", &Limits::default()), Err(MediaError::Empty));
    let renamed = [b"\x89PNG\r\n\x1a\n".as_slice(), &jpeg_file(80)].concat();
    assert!(matches!(
        decode(&renamed, &Limits::default()),
        Err(MediaError::Truncated { .. } | MediaError::Malformed { .. })
    ));
}

#[test]
fn heatmaps_and_strips_have_the_sizes_that_were_asked_for() {
    let picture = media::Picture::new(40, 30, pattern(40, 30)).unwrap();
    let squares = [
        media::HeatSquare {
            x: 0,
            y: 0,
            side: 20,
            value: 1.0,
        },
        media::HeatSquare {
            x: 30,
            y: 20,
            side: 50,
            value: f32::NAN,
        },
        media::HeatSquare {
            x: 90,
            y: 90,
            side: 5,
            value: 0.5,
        },
    ];
    let hot = media::overlay_heatmap(&picture, &squares);
    assert_ne!(hot.rgb()[..3], picture.rgb()[..3]);
    assert_eq!(hot.rgb()[39 * 3..40 * 3], picture.rgb()[39 * 3..40 * 3]);

    let small = picture.fit(20);
    assert_eq!((small.width(), small.height()), (20, 15));
    let strip = media::strip(&[picture, small], 4).unwrap();
    assert_eq!((strip.width(), strip.height()), (64, 30));
    let decoded = decode(&strip.to_png().unwrap(), &Limits::default()).unwrap();
    assert_eq!(decoded.rgb, strip.rgb());
    assert!(media::strip(&[], 4).is_err());
}
