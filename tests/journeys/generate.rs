//! Generate and sign.

use media::Limits;
use provenance::{Bundle, Digest, Entry};
use serde_json::json;
use tests::client::{bundle_of, png_of};
use tests::service::spawn_app;

#[test]
fn an_image_comes_signed_recorded_and_covered_by_a_checkpoint() {
    let service = spawn_app();
    let request = json!({ "prompt": "a red heart", "seed": 7, "num_inference_steps": 6, "guidance_scale": 3.5 });
    let answer = service.client().generate(&request).expect_ok();
    let item = &answer["data"][0];
    let png = png_of(item);
    let decoded = media::decode(&png, &Limits::default()).unwrap();
    let pixels = Digest::of(&media::pixel_preimage(
        decoded.width,
        decoded.height,
        &decoded.rgb,
    ));
    assert_eq!(item["image"]["sha256"], Digest::of(&png).to_string());
    assert_eq!(item["image"]["pixel_sha256"], pixels.to_string());

    let bundle = Bundle::parse(&bundle_of(item)).unwrap();
    let verified = bundle.verify(service.public_keys()).unwrap();
    let Entry::Generation(entry) = &verified.entry else {
        panic!("{:?}", verified.entry)
    };
    assert_eq!(entry.image.sha256, Digest::of(&png));
    assert_eq!(entry.image.pixel_sha256, pixels);
    assert_eq!(
        (entry.image.width, entry.image.height),
        (decoded.width, decoded.height)
    );
    assert_eq!((entry.seed, entry.steps), (7, 6));
    assert_eq!(entry.guidance_scale.to_string(), "3.5");
    assert!(!entry.model.parts.is_empty());
    let provenance = &item["provenance"];
    assert_eq!(
        provenance["entry"]["leaf_hash"],
        bundle.envelope().leaf_hash().to_string()
    );
    assert!(
        provenance["checkpoint"]["tree_size"].as_u64() > provenance["entry"]["leaf_index"].as_u64()
    );
    assert!(
        !String::from_utf8_lossy(&bundle_of(item)).contains("red heart"),
        "the prompt itself is not published"
    );
}

#[test]
fn the_same_request_gives_the_same_pixels_alone_in_a_batch_and_after_a_restart() {
    let service = spawn_app();
    let client = service.client();
    let alone = client.generate_one("a blue car", 41);
    let again = client.generate_one("a blue car", 41);
    let batch = json!({ "prompt": "a blue car", "seed": 40, "n": 3, "num_inference_steps": 4 });
    let batch = client.generate(&batch).expect_ok();
    let service = service.restart();
    let restarted = service.client().generate_one("a blue car", 41);
    let expected = &alone["image"]["pixel_sha256"];
    for other in [&again, &batch["data"][1], &restarted] {
        assert_eq!(&other["image"]["pixel_sha256"], expected);
        assert_eq!(other["seed"], 41);
    }
    assert_ne!(&batch["data"][0]["image"]["pixel_sha256"], expected);
    let entries: std::collections::BTreeSet<u64> = [&alone, &again, &batch["data"][1], &restarted]
        .iter()
        .map(|item| item["provenance"]["entry"]["leaf_index"].as_u64().unwrap())
        .collect();
    assert_eq!(entries.len(), 4, "every image has an entry of its own");
}

#[test]
fn an_idempotency_key_gives_the_same_image_and_entry_again() {
    let service = spawn_app();
    let client = service.client();
    let send = |prompt: &str| {
        let body = json!({ "prompt": prompt, "num_inference_steps": 4 }).to_string();
        let headers = [("idempotency-key", "order-17")];
        client.post(
            "/v1/images/generations",
            ("application/json", body.as_bytes()),
            &headers,
        )
    };
    let first = send("a green leaf").expect_ok();
    let second = send("a green leaf").expect_ok();
    assert_eq!(first["data"], second["data"]);
    send("a red leaf").expect_problem(409, "idempotency-conflict");
}

#[test]
fn the_recorded_image_can_be_fetched_again_byte_for_byte() {
    let service = spawn_app();
    let item = service.client().generate_one("a yellow face", 3);
    let url = item["provenance"]["entry"]["image_url"]
        .as_str()
        .unwrap()
        .to_owned();
    let answer = service.client().get(&url);
    assert_eq!(
        (answer.status, answer.media_type.as_str()),
        (200, "image/png")
    );
    assert_eq!(answer.body, png_of(&item));
}
