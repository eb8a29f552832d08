//! Score.

use media::Limits;
use provenance::{Bundle, Entry};
use serde_json::Value;
use tests::client::{UploadedFile, bundle_of, png_of};
use tests::service::{photograph, spawn_app};

/// The findings of one kind.
fn evidence<'a>(answer: &'a Value, kind: &str) -> Vec<&'a Value> {
    answer["evidence"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["kind"] == kind)
        .collect()
}

#[test]
fn an_image_of_ours_is_recognised_by_its_bytes() {
    let service = spawn_app();
    let client = service.client();
    let item = client.generate_one("a red heart", 1);
    let answer = client.score_png(&png_of(&item)).expect_ok();
    let found = evidence(&answer, "own_entry");
    assert_eq!(found.len(), 1, "{answer}");
    assert_eq!(found[0]["exact_file"], true);
    assert_eq!(
        found[0]["leaf_index"],
        item["provenance"]["entry"]["leaf_index"]
    );
}

#[test]
fn an_image_of_ours_that_was_saved_again_is_recognised_by_its_pixels() {
    let service = spawn_app();
    let client = service.client();
    let item = client.generate_one("a red heart", 2);
    let decoded = media::decode(&png_of(&item), &Limits::default()).unwrap();
    let saved_again = media::encode_png(decoded.width, decoded.height, &decoded.rgb, &[]).unwrap();
    assert_ne!(saved_again, png_of(&item));
    let answer = client.score_png(&saved_again).expect_ok();
    let found = evidence(&answer, "own_entry");
    assert_eq!(found.len(), 1, "{answer}");
    assert_eq!(found[0]["exact_file"], false);
    assert_eq!(
        answer["image"]["pixel_sha256"],
        item["image"]["pixel_sha256"]
    );
}

#[test]
fn a_photograph_gets_a_verdict_a_probability_and_a_signed_entry() {
    let service = spawn_app();
    let answer = service
        .client()
        .score_png(&photograph("chelsea.png"))
        .expect_ok();
    let verdict = answer["verdict"].as_str().unwrap();
    assert!(
        ["LikelyGenerated", "LikelyNotGenerated", "Inconclusive"].contains(&verdict),
        "{verdict}"
    );
    let probability = answer["probability"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&probability), "{probability}");
    assert!(evidence(&answer, "own_entry").is_empty());
    for version in [
        "detector_version",
        "calibration_version",
        "thresholds_version",
    ] {
        assert!(!answer[version].as_str().unwrap().is_empty(), "{version}");
    }
    let verified = Bundle::parse(&bundle_of(&answer))
        .unwrap()
        .verify(service.public_keys())
        .unwrap();
    let Entry::Score(entry) = verified.entry else {
        panic!("{:?}", verified.entry)
    };
    let recorded = serde_json::to_value(entry.verdict).unwrap();
    assert_eq!(
        recorded.as_str().unwrap().replace('_', ""),
        verdict.to_lowercase()
    );
    let published = String::from_utf8(bundle_of(&answer)).unwrap();
    let digest = answer["image"]["sha256"].as_str().unwrap();
    assert!(
        !published.contains(digest),
        "the upload's own digest is not published"
    );
}

#[test]
fn the_same_photograph_gets_the_same_score_every_time() {
    let service = spawn_app();
    let client = service.client();
    let first = client.score_png(&photograph("coffee.png")).expect_ok();
    let second = client.score_png(&photograph("coffee.png")).expect_ok();
    for member in ["verdict", "reason", "probability", "raw_score"] {
        assert_eq!(first[member], second[member], "{member}");
    }
    assert_ne!(first["upload_salt"], second["upload_salt"]);
}

#[test]
fn a_picture_smaller_than_a_patch_is_inconclusive_and_says_so() {
    let service = spawn_app();
    let grey: Vec<u8> = (0..20 * 20 * 3)
        .map(|place| 100 + (place % 7) as u8)
        .collect();
    let small = media::encode_png(20, 20, &grey, &[]).unwrap();
    let answer = service.client().score_png(&small).expect_ok();
    assert_eq!(answer["verdict"], "Inconclusive");
    assert_eq!(answer["reason"], "too_small");
    assert_eq!(answer["probability"], Value::Null);
    assert!(
        answer["explanation"]
            .as_str()
            .unwrap()
            .contains("too small"),
        "{answer}"
    );
}

#[test]
fn a_mark_of_another_generator_is_evidence_and_leaves_the_probability_alone() {
    let service = spawn_app();
    let client = service.client();
    let decoded = media::decode(&photograph("coffee.png"), &Limits::default()).unwrap();
    let (width, height) = (decoded.width, decoded.height);
    let plain = media::encode_png(width, height, &decoded.rgb, &[]).unwrap();
    let parameters = (
        "parameters",
        "a cup of coffee\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1",
    );
    let marked = media::encode_png(width, height, &decoded.rgb, &[parameters]).unwrap();
    let plain = client.score_png(&plain).expect_ok();
    let marked = client.score_png(&marked).expect_ok();
    assert!(evidence(&plain, "generator_mark").is_empty());
    assert!(!evidence(&marked, "generator_mark").is_empty(), "{marked}");
    assert_eq!(plain["probability"], marked["probability"]);
    assert_eq!(plain["verdict"], marked["verdict"]);
}

#[test]
fn an_upload_is_not_kept() {
    let service = spawn_app();
    let bytes = photograph("chelsea.png");
    service.client().score_png(&bytes).expect_ok();
    let kept = tests::house::files_with_bytes(service.state(), &bytes[..64]).unwrap();
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn an_upload_as_json_scores_like_one_as_a_form() {
    use base64::Engine as _;
    let service = spawn_app();
    let client = service.client();
    let bytes = photograph("coffee.png");
    let encoded = base64::engine::general_purpose::STANDARD.encode(&bytes);
    // Over the limit of ordinary JSON bodies, and still an upload.
    let as_json = client
        .post_json(
            "/v1/scores",
            &serde_json::json!({ "image_base64": encoded }),
        )
        .expect_ok();
    let as_form = client
        .score(&UploadedFile {
            name: "a.png",
            media_type: "image/png",
            bytes: &bytes,
        })
        .expect_ok();
    assert_eq!(as_json["raw_score"], as_form["raw_score"]);
}
