//! Kinds of pictures beyond plain RGB: handled as a viewer would, and what was done is said.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use media::{Decoded, Limits, MediaError, decode, encode_png};

const WIDTH: u32 = 16;
const HEIGHT: u32 = 8;

fn decoded(bytes: &[u8]) -> Decoded {
    decode(bytes, &Limits::default()).unwrap()
}

/// A PNG of one colour in any of the format's own kinds.
fn png(colour: png::ColorType, depth: png::BitDepth, pixel: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, WIDTH, HEIGHT);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == png::ColorType::Indexed {
        encoder.set_palette(vec![10, 20, 30, 200, 100, 50]);
        encoder.set_trns(vec![255, 0]);
    }
    let mut writer = encoder.write_header().unwrap();
    let data = pixel.repeat((WIDTH * HEIGHT) as usize);
    writer.write_image_data(&data).unwrap();
    writer.finish().unwrap();
    bytes
}

fn jpeg() -> Vec<u8> {
    let rgb: Vec<u8> = (0..WIDTH * HEIGHT)
        .flat_map(|at| [(at % WIDTH * 12) as u8, 90, 60])
        .collect();
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 95)
        .write_image(&rgb, WIDTH, HEIGHT, ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

/// A segment behind the start of image.
fn with_segment(jpeg: &[u8], marker: u8, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, data, &jpeg[2..]].concat()
}

/// A TIFF block with the one tag Orientation.
fn orientation_block(number: u8, big_endian: bool) -> Vec<u8> {
    let mut block = b"Exif\0\0".to_vec();
    if big_endian {
        block.extend_from_slice(b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0");
        block.extend_from_slice(&[number, 0, 0]);
    } else {
        block.extend_from_slice(b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0");
        block.extend_from_slice(&[number, 0, 0, 0]);
    }
    block.extend_from_slice(&[0; 4]);
    block
}

/// The same inks as luma, colour differences and black.
fn ycck_jpeg(inks: [u8; 4]) -> Vec<u8> {
    let [c, m, y] = [inks[0], inks[1], inks[2]].map(|ink| 255.0 - f64::from(ink));
    let luma = 0.299 * c + 0.587 * m + 0.114 * y;
    let parts = [luma, 128.0 + (y - luma) / 1.772, 128.0 + (c - luma) / 1.402];
    let [luma, blue, red] = parts.map(|part| part.round() as u8);
    let mut file = cmyk_jpeg([luma, blue, red, inks[3]]);
    // The transform of the Adobe marker: the last byte of its segment, behind the start of image.
    file[2 + 2 + 13] = 2;
    file
}

/// A JPEG of four components, each of one value: blocks with nothing but their mean (T.81,
/// sequential Huffman coding). The Adobe marker says that 255 is no ink.
fn cmyk_jpeg(inks: [u8; 4]) -> Vec<u8> {
    let mut file = vec![0xff, 0xd8];
    let mut segment = |marker: u8, data: &[u8]| {
        file.extend_from_slice(&[0xff, marker]);
        file.extend_from_slice(&(data.len() as u16 + 2).to_be_bytes());
        file.extend_from_slice(data);
    };
    segment(0xee, b"Adobe\0\x64\0\0\0\0\0");
    // All quantisers are 8: the mean's coefficient, 8 times the value, becomes the value.
    segment(0xdb, &[&[0][..], &[8; 64]].concat());
    let components: Vec<u8> = (1..=4).flat_map(|number| [number, 0x11, 0]).collect();
    segment(0xc0, &[&[8, 0, 8, 0, 8, 4][..], &components].concat());
    // Sizes 0 to 11 of a mean, four bits each; and "end of block" as the one code of one bit.
    let sizes: Vec<u8> = (0..12).collect();
    segment(0xc4, &[&[0, 0, 0, 0, 12][..], &[0; 12], &sizes].concat());
    segment(0xc4, &[&[0x10, 1][..], &[0; 15], &[0]].concat());
    let scan: Vec<u8> = (1..=4).flat_map(|number| [number, 0]).collect();
    segment(0xda, &[&[4][..], &scan, &[0, 63, 0]].concat());
    let mut bits = String::new();
    for ink in inks {
        let value = i32::from(ink) - 128;
        let size = 32 - value.unsigned_abs().leading_zeros();
        bits += &format!("{size:04b}");
        if size > 0 {
            // Negative values are written as one below, without the sign.
            let written = if value < 0 {
                value + (1 << size) - 1
            } else {
                value
            };
            bits += &format!("{written:0width$b}", width = size as usize);
        }
        bits.push('0');
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    for byte in bits.as_bytes().chunks(8) {
        let byte = u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap();
        file.push(byte);
        if byte == 0xff {
            file.push(0);
        }
    }
    file.extend_from_slice(&[0xff, 0xd9]);
    file
}

#[test]
fn sixteen_bits_are_reduced_to_eight_and_said() {
    let file = png(
        png::ColorType::Rgb,
        png::BitDepth::Sixteen,
        &[0x80, 0x10, 0x00, 0x00, 0xff, 0xff],
    );
    let picture = decoded(&file);
    assert_eq!(
        (picture.bits_per_channel, &picture.rgb[..3]),
        (16, &[128, 0, 255][..])
    );
    assert!(
        picture.notes()[0].contains("16 bits"),
        "{:?}",
        picture.notes()
    );
}

#[test]
fn grey_and_palette_pictures_become_rgb() {
    let grey = decoded(&png(png::ColorType::Grayscale, png::BitDepth::Eight, &[77]));
    assert_eq!((&grey.rgb[..3], grey.notes().len()), (&[77, 77, 77][..], 0));
    let palette = decoded(&png(png::ColorType::Indexed, png::BitDepth::Eight, &[0]));
    assert_eq!(palette.rgb[..3], [10, 20, 30]);
    let hidden = decoded(&png(png::ColorType::Indexed, png::BitDepth::Eight, &[1]));
    assert_eq!(
        (hidden.has_alpha, &hidden.rgb[..3]),
        (true, &[255, 255, 255][..])
    );
}

#[test]
fn transparency_lies_on_white_and_is_said() {
    let half = decoded(&png(
        png::ColorType::Rgba,
        png::BitDepth::Eight,
        &[0, 0, 0, 128],
    ));
    assert_eq!(half.rgb[..3], [127, 127, 127]);
    let deep = decoded(&png(png::ColorType::Rgba, png::BitDepth::Sixteen, &[0; 8]));
    assert_eq!(deep.rgb[..3], [255, 255, 255]);
    let notes = deep.notes().join("; ");
    assert!(
        notes.contains("white") && notes.contains("16 bits"),
        "{notes}"
    );
}

#[test]
fn inks_become_colours() {
    for (inks, colour) in [
        ([255, 255, 255, 255], [255, 255, 255]),
        ([255, 255, 0, 255], [255, 255, 0]),
        ([0, 255, 255, 255], [0, 255, 255]),
        ([255, 255, 255, 0], [0, 0, 0]),
    ] {
        let picture = decoded(&cmyk_jpeg(inks));
        assert!(picture.is_cmyk && picture.notes()[0].contains("CMYK"));
        for (found, expected) in picture.rgb[..3].iter().zip(colour) {
            assert!(
                found.abs_diff(expected) <= 3,
                "{inks:?}: {:?}",
                &picture.rgb[..3]
            );
        }
    }
}

#[test]
fn a_camera_that_was_held_upright_is_noticed_and_the_pixels_stay_as_stored() {
    let plain = decoded(&jpeg());
    for big_endian in [true, false] {
        let block = orientation_block(6, big_endian);
        let turned = decoded(&with_segment(&jpeg(), 0xe1, &block));
        assert_eq!(turned.orientation.exif(), 6);
        assert_eq!(
            (turned.width, turned.height, &turned.rgb),
            (WIDTH, HEIGHT, &plain.rgb)
        );
        assert!(
            turned.notes()[0].contains("orientation 6"),
            "{:?}",
            turned.notes()
        );
        let upright = media::Picture::new(turned.width, turned.height, turned.rgb).unwrap();
        let upright = upright.upright(turned.orientation);
        assert_eq!((upright.width(), upright.height()), (HEIGHT, WIDTH));
        // The stored left edge is dark and becomes the upper edge.
        let rows = upright.rgb();
        assert!(rows[0] < 40 && rows[rows.len() - 3] > 140);
    }
    let nonsense = decoded(&with_segment(&jpeg(), 0xe1, &orientation_block(99, true)));
    assert!(nonsense.orientation.is_upright());
}

#[test]
fn inks_become_colours_by_their_profile_however_they_are_stored() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/media/colour"
    );
    let profile = std::fs::read(format!("{folder}/press.icc")).unwrap();
    let segment = [b"ICC_PROFILE\0\x01\x01", &profile[..]].concat();
    // No ink is the paper, and all of yellow lets red and green through.
    for (inks, [red, green, blue]) in [
        ([255; 4], [250..=255, 250..=255, 250..=255]),
        ([255, 255, 0, 255], [235..=255, 215..=235, 30..=75]),
        ([255, 255, 255, 0], [40..=60, 40..=60, 40..=60]),
    ] {
        let picture = decoded(&with_segment(&cmyk_jpeg(inks), 0xe2, &segment));
        let notes = picture.notes();
        assert!(
            notes.len() == 1 && notes[0].contains("by the file's colour profile"),
            "{notes:?}"
        );
        let [r, g, b] = picture.rgb[..3].try_into().unwrap();
        assert!(
            red.contains(&r) && green.contains(&g) && blue.contains(&b),
            "{inks:?}: {r} {g} {b}"
        );
        // Luma and colour differences of the same inks.
        let ycck = ycck_jpeg(inks);
        assert_eq!(decoded(&ycck).rgb.len(), picture.rgb.len());
        let same = decoded(&with_segment(&ycck, 0xe2, &segment));
        let distance = same
            .rgb
            .iter()
            .zip(&picture.rgb)
            .map(|(a, b)| a.abs_diff(*b));
        assert!(
            distance.max().unwrap() <= 4,
            "{:?} {:?}",
            &same.rgb[..3],
            &picture.rgb[..3]
        );
    }
}

#[test]
fn a_panorama_decodes_up_to_the_longest_side_and_not_beyond() {
    let limits = Limits::default();
    let wide = encode_png(
        limits.side_max,
        2,
        &vec![9; limits.side_max as usize * 6],
        &[],
    )
    .unwrap();
    assert_eq!(decode(&wide, &limits).unwrap().width, limits.side_max);
    let narrower = Limits {
        side_max: limits.side_max - 1,
        ..limits
    };
    assert!(matches!(
        decode(&wide, &narrower),
        Err(MediaError::Side { .. })
    ));
}

#[test]
fn a_file_that_is_two_things_at_once_is_the_picture_and_its_tail_is_counted() {
    let tail = b"PK\x03\x04<script>alert(1)</script>";
    for picture in [
        png(png::ColorType::Rgb, png::BitDepth::Eight, &[1, 2, 3]),
        jpeg(),
    ] {
        let both = [&picture[..], tail].concat();
        let found = decoded(&both);
        assert_eq!(found.trailing_bytes, tail.len() as u64);
        let notes = found.notes().join("; ");
        assert!(
            notes.contains("behind the picture's end") && !notes.contains("script"),
            "{notes}"
        );
    }
    let page_first = [tail, &jpeg()[..]].concat();
    assert_eq!(
        decode(&page_first, &Limits::default()),
        Err(MediaError::UnknownFormat)
    );
}

#[test]
fn an_animated_webp_is_refused_with_its_number_of_frames() {
    let mut body =
        b"WEBPVP8X\x0a\0\0\0\x02\0\0\0\x0f\0\0\x0f\0\0ANIM\x06\0\0\0\xff\xff\xff\xff\0\0".to_vec();
    for _ in 0..3 {
        body.extend_from_slice(b"ANMF\x10\0\0\0");
        body.extend_from_slice(&[0; 16]);
    }
    let file = [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat();
    assert_eq!(
        decode(&file, &Limits::default()),
        Err(MediaError::TooManyFrames {
            frames: 3,
            frames_max: 1
        })
    );
}

#[test]
fn a_picture_of_one_pixel_is_decoded_and_carries_neither_mark_nor_fingerprint() {
    let picture = decoded(&encode_png(1, 1, &[9, 8, 7], &[]).unwrap());
    assert_eq!(picture.rgb, [9, 8, 7]);
    assert_eq!(media::perceptual_hash(1, 1, &picture.rgb).quality, 0);
    assert_eq!(media::invisible_watermark(1, 1, &picture.rgb), None);
    assert_eq!(media::generator_marks(&picture), []);
}
