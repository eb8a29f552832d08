//! The official OpenAI client, unmodified, against the real service.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::Scope;
use media::Limits;
use provenance::{Bundle, Digest, Entry, GenerationEntry, RecordedNoise, RecordedTask};
use serde_json::{Value, json};
use tests::python::run_client;
use tests::service::{TestService, spawn_app};

/// The entry in a bundle that verifies.
fn entry(service: &TestService, bundle: &Value) -> GenerationEntry {
    let bundle = STANDARD.decode(bundle.as_str().unwrap()).unwrap();
    let verified = Bundle::parse(&bundle)
        .unwrap()
        .verify(service.public_keys())
        .unwrap();
    match verified.entry {
        Entry::Generation(entry) => entry,
        other => panic!("{other:?} is no generation"),
    }
}

#[test]
fn the_official_client_generates_streams_edits_and_reads_refusals() {
    let service = spawn_app();
    let key = service.new_key("studio", &[Scope::Generate]);
    let base_url = format!("http://127.0.0.1:{}/v1", service.port());
    let report = run_client("openai_client.py", &[&base_url, &key]);
    check_generations(&service, &report);
    check_stream(&service, &report["stream"]);
    check_edits(&report["edits"]);
    check_refusals(&report["refusals"]);
}

fn check_generations(service: &TestService, report: &Value) {
    let generate = &report["generate"];
    assert_eq!(generate["formats"], json!(["jpeg", "JPEG", "WEBP"]));
    for (bundle, file) in [0, 1].map(|n| (&generate["bundles"][n], &generate["files"][n])) {
        let file = STANDARD.decode(file.as_str().unwrap()).unwrap();
        let entry = entry(service, bundle);
        assert_eq!(entry.image.sha256, Digest::of(&file));
        let decoded = media::decode(&file, &Limits::default()).unwrap();
        let pixels = media::pixel_preimage(decoded.width, decoded.height, &decoded.rgb);
        assert_eq!(entry.image.pixel_sha256, Digest::of(&pixels));
        assert_eq!(entry.image.media_type, decoded.format.media_type());
        let details = entry.details.unwrap();
        assert_eq!(details.noise_source, RecordedNoise::ChaCha20);
        assert_eq!(details.task, RecordedTask::TextToImage);
    }
    let model = entry(service, &generate["bundles"][0]).model;
    assert_eq!(report["models"]["listed"], json!([model.name]));
    assert_eq!(report["models"]["digest"], model.digest.to_string());
    let parameters = generate["parameters"].as_str().unwrap();
    assert!(
        parameters.starts_with("a red heart\nNegative prompt: blue\nSteps: 4, Sampler: "),
        "{parameters}"
    );
    assert!(parameters.contains("CFG scale: 3.5, Seed: 7, Size: 64x64"));
    assert_eq!(report["silent"], json!(["Retrace-Request", "Software"]));
    assert_eq!(report["url"], json!({ "status": 200, "format": "PNG" }));
}

fn check_stream(service: &TestService, stream: &Value) {
    let partial = "image_generation.partial_image";
    let types = json!([partial, partial, "image_generation.completed"]);
    assert_eq!(stream["types"], types);
    assert_eq!(stream["partial"], json!([0, 1]));
    assert_eq!(stream["sizes"], json!([[64, 64], [64, 64], [64, 64]]));
    assert_eq!(entry(service, &stream["bundle"]).seed, 7);
    // "a red heart" is three words between two marks, the empty prompt two marks; 16 x 16 positions of latents.
    assert_eq!(stream["tokens"], 5 + 2 + 16 * 16);
}

fn check_edits(edits: &Value) {
    let pixels = |of: &Value| STANDARD.decode(of.as_str().unwrap()).unwrap();
    assert_eq!(
        edits["whole"]["task"], "image-to-image",
        "{}",
        edits["whole"]
    );
    assert_eq!(edits["whole"]["strength"], "0.5");
    assert_eq!(edits["whole"]["sources"], 1);
    assert_eq!(edits["masked"]["task"], "inpainting", "{}", edits["masked"]);
    assert_eq!(edits["masked"]["sources"], 2);
    assert_eq!(
        edits["variation"]["task"], "variation",
        "{}",
        edits["variation"]
    );
    // The upper half was transparent in the mask: there the picture is new, below it is not.
    let (before, after) = (
        pixels(&edits["picture"]),
        pixels(&edits["masked"]["pixels"]),
    );
    let (upper, lower) = (0..32 * 64 * 3, 40 * 64 * 3..64 * 64 * 3);
    let difference = |range: std::ops::Range<usize>| {
        let pairs = before[range.clone()].iter().zip(&after[range.clone()]);
        let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        sum as f64 / range.len() as f64
    };
    assert!(
        difference(upper.clone()) > 2.0 * difference(lower.clone()),
        "upper {} lower {}",
        difference(upper),
        difference(lower)
    );
    let refused = |edit: &str| (edits[edit]["status"].clone(), edits[edit]["code"].clone());
    assert_eq!(
        refused("opaque_mask"),
        (json!(400), json!("invalid-request"))
    );
    assert_eq!(
        refused("small_mask"),
        (json!(400), json!("invalid-request"))
    );
    assert_eq!(
        refused("two_images"),
        (json!(400), json!("invalid-request"))
    );
    assert_eq!(
        refused("no_picture"),
        (json!(422), json!("unreadable-file"))
    );
    let streamed = json!(["image_edit.partial_image", "image_edit.completed"]);
    assert_eq!(edits["streamed"], streamed);
}

fn check_refusals(refusals: &Value) {
    for (call, status, code) in [
        ("size", 400, "invalid-request"),
        ("quality", 400, "invalid-request"),
        ("prompt", 400, "invalid-request"),
        ("model", 404, "unknown-model"),
        ("key", 401, "unauthorized"),
    ] {
        let refused = &refusals[call];
        assert_eq!(refused["status"], status, "{call}: {refused}");
        assert_eq!(refused["code"], code, "{call}: {refused}");
        assert!(!refused["message"].as_str().unwrap().is_empty());
    }
    assert_eq!(refusals["param"][0], "n");
    assert_eq!(refusals["param"][1], "invalid_request_error");
    let message = refusals["param"][2].as_str().unwrap();
    assert!(message.contains("images_per_request_max"), "{message}");
    assert_eq!(refusals["unknown_model"], "unknown-model");
}
