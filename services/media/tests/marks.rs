//! What counts as a mark of a generator, and what only looks like one.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use media::{ExifTexts, Limits, Mark, MarkKind, decode, encode_jpeg, encode_png, generator_marks};

const INFOTEXT: &str = "a red cat\nSteps: 20, Sampler: DDIM, CFG scale: 7, Seed: 1, Model: dream";

fn marks(file: &[u8]) -> Vec<Mark> {
    generator_marks(&decode(file, &Limits::default()).unwrap())
}

fn found(file: &[u8]) -> Vec<(MarkKind, Option<String>)> {
    let marks = marks(file).into_iter();
    marks.map(|mark| (mark.kind, mark.generator)).collect()
}

fn png(texts: &[(&str, &str)]) -> Vec<u8> {
    encode_png(4, 4, &[90; 48], texts).unwrap()
}

fn jpeg() -> Vec<u8> {
    let texts = ExifTexts {
        software: "",
        user_comment: None,
    };
    encode_jpeg((4, 4), &[90; 48], 90, &texts).unwrap()
}

fn with_segment(jpeg: &[u8], marker: u8, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, data, &jpeg[2..]].concat()
}

/// A TIFF block with one text in the first directory.
fn with_exif(tag: u16, text: &str) -> Vec<u8> {
    let mut block = b"Exif\0\0MM\0*\0\0\0\x08\0\x01".to_vec();
    block.extend(tag.to_be_bytes());
    block.extend(2_u16.to_be_bytes());
    block.extend((text.len() as u32 + 1).to_be_bytes());
    block.extend(26_u32.to_be_bytes());
    block.extend([0; 4]);
    block.extend(text.as_bytes());
    block.push(0);
    with_segment(&jpeg(), 0xe1, &block)
}

fn with_xmp(body: &str) -> Vec<u8> {
    let packet = format!(
        "http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:RDF><rdf:Description {body}/></rdf:RDF></x:xmpmeta>"
    );
    with_segment(&jpeg(), 0xe1, packet.as_bytes())
}

/// IPTC datasets in an image resource block, as JPEG carries them.
fn with_iptc(datasets: &[(u8, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (dataset, text) in datasets {
        body.extend([0x1c, 2, *dataset]);
        body.extend((text.len() as u16).to_be_bytes());
        body.extend(text.as_bytes());
    }
    let mut data = b"Photoshop 3.0\0".to_vec();
    // Another resource with a name of odd length comes first.
    data.extend(b"8BIM\x04\x0c\x04path\0\0\0\0\x03abc\0");
    data.extend(b"8BIM\x04\x04\0\0");
    data.extend((body.len() as u32).to_be_bytes());
    data.extend(&body);
    if body.len() % 2 == 1 {
        data.push(0);
    }
    with_segment(&jpeg(), 0xed, &data)
}

#[test]
fn parameters_that_are_only_bytes_of_the_file_are_no_mark() {
    let text = format!("parameters\0{INFOTEXT}");
    let segment_of_nobody = with_segment(&jpeg(), 0xe9, text.as_bytes());
    let mut in_a_table = jpeg();
    in_a_table.extend_from_slice(text.as_bytes());
    let mut behind_a_png = png(&[]);
    behind_a_png.extend_from_slice(&png(&[("parameters", INFOTEXT)]));
    for file in [segment_of_nobody, in_a_table, behind_a_png] {
        assert_eq!(found(&file), []);
    }
}

#[test]
fn words_of_people_about_generators_are_no_mark() {
    let caption = "The stable diffusion of OpenAI's Midjourney booth at a fair, made with ComfyUI";
    assert_eq!(found(&with_exif(0x010e, caption)), []);
    assert_eq!(found(&with_exif(0x013b, "Dall-E Smith")), []);
    assert_eq!(
        found(&png(&[("Title", caption), ("Description", caption)])),
        []
    );
    assert_eq!(found(&with_segment(&jpeg(), 0xfe, caption.as_bytes())), []);
    assert_eq!(
        found(&with_iptc(&[(80, "Midjourney Jones"), (120, caption)])),
        []
    );
    assert_eq!(found(&png(&[("prompt", "a plain sentence")])), []);
    assert_eq!(found(&png(&[("parameters", "Steps: many, Seed: x")])), []);
}

#[test]
fn each_tool_is_known_by_the_place_that_it_writes_to() {
    let parameters = |name: &str| (MarkKind::GenerationParameters, Some(name.to_owned()));
    let graph = r#"{"3":{"class_type":"KSampler","inputs":{"seed":1}}}"#;
    let editable = r#"{"nodes":[],"links":[]}"#;
    let workflow = (MarkKind::Workflow, Some("ComfyUI".to_owned()));
    let novel = r#"{"prompt":"a cat","steps":28,"seed":4,"sampler":"k_euler"}"#;
    let job = "a cat --v 6 Job ID: 6f1c9f0e-3f4d-4d3c-8a53-0a8f0a6b5c11";
    for (file, expected) in [
        (png(&[("parameters", INFOTEXT)]), parameters("dream")),
        (png(&[("prompt", graph)]), workflow.clone()),
        (png(&[("workflow", editable)]), workflow.clone()),
        (
            with_exif(0x010f, &format!("workflow:{editable}")),
            workflow.clone(),
        ),
        (with_exif(0x0110, &format!("prompt:{graph}")), workflow),
        (
            png(&[("invokeai_metadata", r#"{"seed":1}"#)]),
            parameters("InvokeAI"),
        ),
        (png(&[("fooocus_scheme", "fooocus")]), parameters("Fooocus")),
        (
            png(&[("use_stable_diffusion_model", "sd-v1-5")]),
            parameters("Easy Diffusion"),
        ),
        (png(&[("Description", job)]), parameters("Midjourney")),
        (
            png(&[("Comment", novel)]),
            (MarkKind::GenerationParameters, None),
        ),
        (
            with_exif(0x0131, "InvokeAI 5.0"),
            (MarkKind::SoftwareName, Some("InvokeAI".into())),
        ),
    ] {
        assert_eq!(found(&file), [expected]);
    }
}

#[test]
fn iptc_and_xmp_name_systems_and_sources() {
    let named = |kind, name: &str| vec![(kind, Some(name.to_owned()))];
    let google = with_iptc(&[(80, "somebody"), (110, "Made with Google AI")]);
    assert_eq!(found(&google), named(MarkKind::SoftwareName, "Google AI"));
    let system = with_xmp(r#"Iptc4xmpExt:AISystemUsed="Any Name""#);
    assert_eq!(found(&system), named(MarkKind::SoftwareName, "Any Name"));
    let source = "http://cv.iptc.org/newscodes/digitalsourcetype/";
    let algorithm = with_xmp(&format!(
        r#"Iptc4xmpExt:DigitalSourceType="{source}compositeWithTrainedAlgorithmicMedia""#
    ));
    let expected = "compositeWithTrainedAlgorithmicMedia";
    assert_eq!(
        found(&algorithm),
        named(MarkKind::DigitalSourceType, expected)
    );
    let camera = with_xmp(&format!(
        r#"Iptc4xmpExt:DigitalSourceType="{source}digitalCapture""#
    ));
    assert_eq!(found(&camera), []);
}

#[test]
fn the_chinese_label_is_read_from_each_of_its_places() {
    let label = r#"{"Label":"1","ContentProducer":"some service","ProduceID":"7"}"#;
    let expected = [(MarkKind::AigcLabel, Some("some service".to_owned()))];
    let inside = format!(r#"{{"AIGC":{label}}}"#);
    assert_eq!(found(&png(&[("AIGC", label)])), expected);
    assert_eq!(found(&with_exif(0x010e, &inside)), expected);
    let element = format!("TC260:AIGC='{label}'");
    assert_eq!(found(&with_xmp(&element)), expected);
    assert_eq!(found(&png(&[("AIGC", r#"{"Label":"0"}"#)])), []);
    assert_eq!(found(&png(&[("AIGC", "yes")])), []);
}

#[test]
fn resource_blocks_that_are_cut_or_lie_about_their_size_give_nothing() {
    let whole = with_iptc(&[(110, "Made with Google AI")]);
    let start = whole
        .windows(9)
        .position(|bytes| bytes == b"Photoshop")
        .unwrap();
    let segment = u16::from_be_bytes([whole[start - 2], whole[start - 1]]) as usize - 2;
    for length in 14..segment {
        let cut = with_segment(&jpeg(), 0xed, &whole[start..start + length]);
        assert_eq!(found(&cut), [], "cut at {length}");
    }
    for at in start..start + segment {
        for value in [0, 0x1c, 0x7f, 0xff] {
            let mut changed = whole.clone();
            changed[at] = value;
            drop(marks(&changed));
        }
    }
}

#[test]
fn words_of_a_file_are_shortened_and_cannot_hide_or_turn_what_is_printed() {
    let long = format!("{INFOTEXT}{}", "x".repeat(5_000));
    let mark = marks(&png(&[("parameters", &long)])).remove(0);
    assert!(mark.generator.unwrap().chars().count() <= 81);
    assert!(mark.statement.chars().count() <= 201);
    let turned = format!("{INFOTEXT}, Note: \u{202e}laer\u{2066}\u{200b}\u{7}\r\n<script>");
    for mark in marks(&png(&[("para\u{ad}meters", "x"), ("parameters", &turned)])) {
        let printed = [mark.place, mark.statement].concat();
        let hidden = |c: char| c.is_control() || ('\u{200b}'..='\u{206f}').contains(&c);
        assert!(!printed.contains(hidden), "{printed:?}");
    }
}
