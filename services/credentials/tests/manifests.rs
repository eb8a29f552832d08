//! Manifests that are written hold when they are read, and hold no longer when a byte changes.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::{SystemTime, UNIX_EPOCH};

use credentials::{
    CredentialSigner, DevChain, Ingredient, ManifestCaps, ManifestReader, ModelStatement, Operator,
    Software, State, Statement, Work,
};
use media::{ExifTexts, Format, Limits};

const FORMATS: [Format; 3] = [Format::Png, Format::Jpeg, Format::Webp];

/// Certificates are checked against the clock by the C2PA library.
fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs() as i64
}

fn own() -> (CredentialSigner, String) {
    let made = DevChain::make("Example Newsroom", now_s()).unwrap();
    let root = made.root_pem.clone();
    (CredentialSigner::new(made.chain, &made.key).unwrap(), root)
}

fn reader(anchors: &str) -> ManifestReader {
    ManifestReader::new(anchors, ManifestCaps::default()).unwrap()
}

fn picture(format: Format) -> Vec<u8> {
    let rgb: Vec<u8> = (0..64 * 48 * 3).map(|at| (at * 31 % 251) as u8).collect();
    let texts = ExifTexts {
        software: "Retrace",
        user_comment: None,
    };
    match format {
        Format::Png => media::encode_png(64, 48, &rgb, &[("Software", "Retrace")]),
        Format::Jpeg => media::encode_jpeg((64, 48), &rgb, 90, &texts),
        Format::Webp => media::encode_webp((64, 48), &rgb, &texts),
    }
    .unwrap()
}

fn statement(format: Format, work: Work<'_>) -> Statement<'_> {
    Statement {
        format,
        software: Software {
            name: "Retrace",
            version: "1.2.3",
        },
        operator: Operator {
            name: "Example Newsroom",
            log: "test.local/log",
        },
        model: ModelStatement {
            name: "small-model",
            digest: "c4afba82",
        },
        work,
        request_id: "req-1",
        image_index: 2,
        created_at_ms: 1_795_421_854_095,
        soft_bindings: &[],
    }
}

fn pixels(file: &[u8]) -> Vec<u8> {
    media::decode(file, &Limits::default()).unwrap().rgb
}

/// The place of a byte of the compressed pixels. A WebP file has its manifest at the end.
fn among_pixels(file: &[u8], format: Format) -> usize {
    match format {
        Format::Webp => 60,
        Format::Png | Format::Jpeg => file.len() - 40,
    }
}

#[test]
fn every_format_is_trusted_under_its_root_and_valid_without() {
    let (signer, root) = own();
    for format in FORMATS {
        let file = picture(format);
        let signed = signer
            .sign(file.clone(), &statement(format, Work::Created))
            .unwrap();
        assert_eq!(pixels(&signed), pixels(&file), "{format}");
        let trusted = reader(&root).read(&signed, format).unwrap();
        assert_eq!(trusted.state, State::Trusted, "{format}: {trusted:?}");
        assert_eq!(trusted.says_generated, Some(true));
        assert_eq!(trusted.generator.as_deref(), Some("Retrace 1.2.3"));
        assert!(trusted.signer.unwrap().contains("Example Newsroom"));
        let valid = reader("").read(&signed, format).unwrap();
        assert_eq!(valid.state, State::Valid, "{format}");
        assert_eq!(valid.codes, ["signingCredential.untrusted"]);
        assert_eq!(reader(&root).read(&file, format), None, "{format}");
    }
}

#[test]
fn the_root_of_another_service_makes_no_manifest_trusted() {
    let (signer, _) = own();
    let (_, other_root) = own();
    let signed = signer
        .sign(picture(Format::Png), &statement(Format::Png, Work::Created))
        .unwrap();
    let reading = reader(&other_root).read(&signed, Format::Png).unwrap();
    assert_eq!(reading.state, State::Valid);
}

#[test]
fn the_manifest_says_what_the_specification_asks_of_a_generator() {
    let (signer, root) = own();
    let signed = signer
        .sign(picture(Format::Png), &statement(Format::Png, Work::Created))
        .unwrap();
    let reading = reader(&root).read(&signed, Format::Png).unwrap();
    assert!(reading.manifest.unwrap().starts_with("urn:c2pa:"));
    let mut labels = reading.assertions;
    labels.sort_unstable();
    assert_eq!(
        labels,
        [
            "c2pa.actions.v2",
            "c2pa.ai-disclosure",
            "retrace.generation"
        ]
    );
}

#[test]
fn a_changed_byte_of_pixels_or_manifest_makes_it_invalid() {
    let (signer, root) = own();
    for format in FORMATS {
        let signed = signer
            .sign(picture(format), &statement(format, Work::Created))
            .unwrap();
        let at = among_pixels(&signed, format);
        let mut changed = signed.clone();
        changed[at] ^= 1;
        let reading = reader(&root).read(&changed, format).unwrap();
        assert_eq!(reading.state, State::Invalid, "{format}");
        assert!(
            reading
                .codes
                .contains(&"assertion.dataHash.mismatch".to_owned()),
            "{format}: {:?}",
            reading.codes
        );
        assert_eq!(
            reading.says_generated, None,
            "what does not hold says nothing"
        );
        let name = signed
            .windows(11)
            .position(|window| window == b"small-model")
            .unwrap();
        let mut changed = signed;
        changed[name] ^= 1;
        let reading = reader(&root).read(&changed, format).unwrap();
        assert_eq!(reading.state, State::Invalid, "{format}");
    }
}

#[test]
fn an_edit_keeps_the_manifests_of_its_source() {
    let (signer, root) = own();
    let source = signer
        .sign(
            picture(Format::Jpeg),
            &statement(Format::Jpeg, Work::Created),
        )
        .unwrap();
    let ingredient = reader(&root).ingredient(&source, Format::Jpeg);
    assert!(ingredient.carries_manifests());
    // As it travels in the order of a job.
    let json = serde_json::to_string(&ingredient).unwrap();
    let ingredient: Ingredient = serde_json::from_str(&json).unwrap();
    for work in [Work::Edited(&ingredient), Work::Composed(&ingredient)] {
        let edited = signer
            .sign(picture(Format::Png), &statement(Format::Png, work))
            .unwrap();
        let reading = reader(&root).read(&edited, Format::Png).unwrap();
        assert_eq!(reading.state, State::Trusted, "{reading:?}");
        assert_eq!(reading.says_generated, Some(true));
        let first = reader(&root).read(&source, Format::Jpeg).unwrap();
        let id = first.manifest.unwrap();
        let kept = edited.windows(id.len()).filter(|it| *it == id.as_bytes());
        assert!(kept.count() > 1, "the source's manifest is in the edit");
    }
}

#[test]
fn a_source_without_a_manifest_that_holds_is_stated_without_one() {
    let (signer, root) = own();
    let bare = picture(Format::Webp);
    let mut broken = signer
        .sign(bare.clone(), &statement(Format::Webp, Work::Created))
        .unwrap();
    let at = among_pixels(&broken, Format::Webp);
    broken[at] ^= 1;
    for source in [bare, broken] {
        let ingredient = reader(&root).ingredient(&source, Format::Webp);
        assert!(!ingredient.carries_manifests());
        let edited = signer
            .sign(
                picture(Format::Png),
                &statement(Format::Png, Work::Edited(&ingredient)),
            )
            .unwrap();
        let reading = reader(&root).read(&edited, Format::Png).unwrap();
        assert_eq!(reading.state, State::Trusted, "{reading:?}");
    }
}

#[test]
fn every_signing_gives_other_bytes_of_the_same_pixels() {
    let (signer, _) = own();
    let sign = || {
        signer
            .sign(picture(Format::Png), &statement(Format::Png, Work::Created))
            .unwrap()
    };
    let (first, second) = (sign(), sign());
    assert_ne!(first, second);
    assert_eq!(pixels(&first), pixels(&second));
}

#[test]
fn bytes_of_another_format_are_not_signed() {
    let (signer, _) = own();
    for format in FORMATS {
        let refused = signer.sign(b"no picture".to_vec(), &statement(format, Work::Created));
        assert!(refused.is_err(), "{format}");
    }
}

#[test]
fn anchors_that_are_no_certificates_are_refused() {
    assert!(ManifestReader::new("no certificates", ManifestCaps::default()).is_err());
}
