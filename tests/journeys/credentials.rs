//! Content Credentials: on everything that is made, read by other people's software, and read from uploads.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::client::{UploadedFile, form, png_of};
use tests::python::{Server, run_client};
use tests::service::{TestService, reachable_folder, spawn_app, spawn_app_with};

const PROMPT: &str = "a red heart";

fn generate(service: &TestService, format: &str) -> Value {
    let request = json!({
        "prompt": PROMPT, "seed": 7, "num_inference_steps": 4, "output_format": format,
    });
    service.client().generate(&request).expect_ok()["data"][0].clone()
}

/// What c2pa-python says of files, each with its name.
fn read(service: &TestService, files: &[(&str, &[u8])]) -> Vec<Value> {
    read_under(&service.state().join("retrace-root.pem"), files)
}

/// The same under these trust anchors.
fn read_under(root: &Path, files: &[(&str, &[u8])]) -> Vec<Value> {
    let folder = reachable_folder().unwrap();
    let paths: Vec<String> = files
        .iter()
        .map(|(name, bytes)| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        })
        .collect();
    let mut arguments = vec![root.to_str().unwrap()];
    arguments.extend(paths.iter().map(String::as_str));
    let report = run_client("c2pa_reader.py", &arguments);
    report.as_array().unwrap().clone()
}

fn contains(file: &[u8], text: &str) -> bool {
    file.windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// A JPEG file with one bit of its pixels changed, near the end, so that it still decodes.
fn changed(jpeg: &[u8]) -> Vec<u8> {
    let mut changed = jpeg.to_vec();
    let harmless = |at: &usize| jpeg[at - 1] != 0xff && jpeg[*at] < 0xfe;
    let at = (0..jpeg.len() - 40).rev().find(harmless).unwrap();
    changed[at] ^= 1;
    changed
}

/// The finding about Content Credentials in the answer to a score.
fn finding(answer: &Value) -> &Value {
    let evidence = answer["evidence"].as_array().unwrap();
    let mut found = evidence
        .iter()
        .filter(|item| item["kind"] == "content_credentials");
    let first = found.next().unwrap_or_else(|| panic!("none in {answer}"));
    assert!(found.next().is_none(), "{answer}");
    first
}

#[test]
fn other_peoples_reader_accepts_the_credentials_of_every_format() {
    let service = spawn_app();
    let items = ["png", "jpeg", "webp"].map(|format| (format, generate(&service, format)));
    let file = |(format, item): &(&str, Value)| (format!("picture.{format}"), png_of(item));
    let files = items.each_ref().map(file);
    let named: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    for (read, (format, item)) in read(&service, &named).iter().zip(&items) {
        assert_eq!(read["trusted"], "Trusted", "{format}: {read}");
        assert!(
            read["successes"]
                .as_array()
                .unwrap()
                .contains(&json!("assertion.dataHash.match"))
        );
        assert_eq!(read["plain"], "Valid", "{format}: {read}");
        assert_eq!(
            read["plain_failures"],
            json!(["signingCredential.untrusted"])
        );
        assert_eq!(read["claim_version"], 2);
        check_marking(read, item);
    }
}

/// Who, with what, when and which: what the marking duties ask of a file's metadata.
fn check_marking(read: &Value, item: &Value) {
    let body = &item["provenance"]["entry"]["statement"]["body"];
    let generator = &read["generator"][0];
    assert_eq!(generator["name"], "Retrace");
    assert_eq!(generator["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(generator["specVersion"], "2.4");
    let actions = &read["assertions"]["c2pa.actions.v2"];
    assert_eq!(actions["allActionsIncluded"], true);
    let created = &actions["actions"][0];
    assert_eq!(created["action"], "c2pa.created");
    let source_type = created["digitalSourceType"].as_str().unwrap();
    assert!(
        source_type.ends_with("/trainedAlgorithmicMedia"),
        "{source_type}"
    );
    let disclosure = &read["assertions"]["c2pa.ai-disclosure"];
    assert_eq!(disclosure["modelName"], body["model"]["name"]);
    let digest = body["model"]["digest"].as_str().unwrap();
    assert_eq!(disclosure["modelIdentifier"], format!("sha256:{digest}"));
    let own = &read["assertions"]["retrace.generation"];
    assert_eq!(
        own["operator"], "retrace.local/log",
        "the log's name where no operator is set"
    );
    assert_eq!(own["system"], "Retrace");
    assert_eq!(own["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(own["created_at"], created["when"]);
    assert!(own["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(own["request_id"], body["request_id"]);
    assert_eq!(own["image_index"], body["image_index"]);
    assert!(read["label"].as_str().unwrap().starts_with("urn:c2pa:"));
}

#[test]
fn a_prompt_that_is_to_stay_out_of_the_file_is_not_in_its_credentials() {
    let service = spawn_app();
    for format in ["png", "jpeg", "webp"] {
        let request = json!({
            "prompt": PROMPT, "seed": 7, "num_inference_steps": 4, "output_format": format,
            "embed_parameters": false,
        });
        let answer = service.client().generate(&request).expect_ok();
        let file = png_of(&answer["data"][0]);
        assert!(contains(&file, "c2pa.ai-disclosure"), "{format}");
        assert!(!contains(&file, PROMPT), "{format}");
    }
}

#[test]
fn an_edit_keeps_the_credentials_of_the_picture_it_was_made_from() {
    let service = spawn_app();
    let first = png_of(&generate(&service, "jpeg"));
    let broken = changed(&first);
    let edit = |source: &[u8]| {
        let request = json!({
            "prompt": "a blue heart", "seed": 8, "steps": 4, "width": 64, "height": 64,
            "denoising_strength": 0.5, "init_images": [STANDARD.encode(source)],
        });
        let answer = service
            .client()
            .post_json("/sdapi/v1/img2img", &request)
            .expect_ok();
        STANDARD
            .decode(answer["images"][0].as_str().unwrap())
            .unwrap()
    };
    let (edited, of_broken) = (edit(&first), edit(&broken));
    let read = read(
        &service,
        &[
            ("first.jpg", &first),
            ("edited.png", &edited),
            ("of-broken.png", &of_broken),
        ],
    );
    let (first, edited, of_broken) = (&read[0], &read[1], &read[2]);
    assert_eq!(edited["trusted"], "Trusted", "{edited}");
    assert_eq!(
        edited["ingredients"],
        json!([{ "relationship": "parentOf", "manifest": first["label"] }])
    );
    let actions = edited["assertions"]["c2pa.actions.v2"]["actions"]
        .as_array()
        .unwrap();
    let names: Vec<&Value> = actions.iter().map(|action| &action["action"]).collect();
    assert_eq!(names, ["c2pa.opened", "c2pa.edited"]);
    assert_eq!(of_broken["trusted"], "Trusted", "{of_broken}");
    assert_eq!(
        of_broken["ingredients"],
        json!([{ "relationship": "parentOf", "manifest": null }])
    );
}

#[test]
fn the_credentials_of_an_upload_are_trusted_valid_or_invalid() {
    let service = spawn_app();
    let file = png_of(&generate(&service, "jpeg"));
    let score = |bytes: &[u8]| {
        let file = UploadedFile {
            name: "picture.jpg",
            media_type: "image/jpeg",
            bytes,
        };
        service.client().score(&file).expect_ok()
    };
    let own = score(&file);
    let found = finding(&own);
    assert_eq!(
        (&found["valid"], &found["trusted"]),
        (&json!(true), &json!(true)),
        "{found}"
    );
    assert_eq!(found["says_generated"], true);
    let elsewhere = spawn_app();
    let upload = UploadedFile {
        name: "picture.jpg",
        media_type: "image/jpeg",
        bytes: &file,
    };
    let foreign = elsewhere.client().score(&upload).expect_ok();
    let found = finding(&foreign);
    assert_eq!(
        (&found["valid"], &found["trusted"]),
        (&json!(true), &json!(false)),
        "{found}"
    );
    assert_eq!(found["codes"], json!(["signingCredential.untrusted"]));
    let changed = changed(&file);
    let invalid = score(&changed);
    let found = finding(&invalid);
    assert_eq!(found["valid"], false, "{found}");
    assert!(
        found["codes"]
            .as_array()
            .unwrap()
            .contains(&json!("assertion.dataHash.mismatch"))
    );
    let (media_type, body) = form(&UploadedFile {
        name: "picture.jpg",
        media_type: "image/jpeg",
        bytes: &changed,
    });
    let page = service.client().post("/review", (&media_type, &body), &[]);
    assert!(
        page.text()
            .contains("Content credentials are present but do not hold"),
        "{}",
        page.text()
    );
}

#[test]
fn the_service_says_that_its_root_is_its_own() {
    let service = spawn_app();
    let health = service.client().get("/healthz").expect_ok();
    let credentials = &health["content_credentials"];
    assert_eq!(credentials["own_root"], true, "{health}");
    assert!(
        credentials["signer"]
            .as_str()
            .unwrap()
            .contains("retrace.local/log")
    );
    assert_eq!(health["status"], "ok", "{health}");
}

#[test]
fn a_time_stamp_of_an_authority_is_in_the_manifest() {
    let folder = reachable_folder().unwrap();
    let root = folder.path().join("time.pem");
    let authority = Server::start("time_stamp_authority.py", &[root.to_str().unwrap()]);
    let service = spawn_app_with(|config| {
        config.time_stamps.time_stamp_authority = Some(format!("{}good", authority.address));
        config.time_stamps.require_time_stamps = true;
    });
    let items = ["png", "jpeg", "webp"].map(|format| png_of(&generate(&service, format)));
    let named = [
        ("a.png", &items[0]),
        ("b.jpeg", &items[1]),
        ("c.webp", &items[2]),
    ];
    let named = named.map(|(name, bytes)| (name, bytes.as_slice()));
    // The reader of other people trusts who stamps by the same list as who signs.
    let own = fs::read_to_string(service.state().join("retrace-root.pem")).unwrap();
    let both = folder.path().join("both.pem");
    fs::write(&both, own + &fs::read_to_string(&root).unwrap()).unwrap();
    for read in read_under(&both, &named) {
        assert_eq!(read["trusted"], "Trusted", "{read}");
        let successes = read["successes"].as_array().unwrap();
        for code in ["timeStamp.validated", "timeStamp.trusted"] {
            assert!(successes.contains(&json!(code)), "{read}");
        }
    }
    // Without a time of its own the authority's root says nothing, and the files hold as before.
    for read in read(&service, &named) {
        assert_eq!(read["trusted"], "Trusted", "{read}");
    }
}

#[test]
fn an_authority_that_gives_no_stamp_stops_the_making_only_where_stamps_are_required() {
    let folder = reachable_folder().unwrap();
    let root = folder.path().join("time.pem");
    let authority = Server::start("time_stamp_authority.py", &[root.to_str().unwrap()]);
    let request = json!({ "prompt": PROMPT, "seed": 7, "num_inference_steps": 4 });
    for (mode, required) in [
        ("other", true),
        ("garbage", true),
        ("refuse", true),
        ("fail", false),
    ] {
        let service = spawn_app_with(|config| {
            config.time_stamps.time_stamp_authority = Some(format!("{}{mode}", authority.address));
            config.time_stamps.require_time_stamps = required;
        });
        let client = service.client();
        let answer = client.generate(&request);
        if required {
            let said = answer.expect_problem(503, "no-time-stamp");
            assert!(!said.contains("127.0.0.1"), "{mode}: {said}");
            let entries = client.get("/v1/entries").expect_ok();
            assert_eq!(entries["entries"], json!([]), "{mode}");
            continue;
        }
        let file = png_of(&answer.expect_ok()["data"][0]);
        let read = read(&service, &[("a.png", &file)]);
        assert_eq!(read[0]["trusted"], "Trusted", "{mode}");
        assert!(!read[0].to_string().contains("timeStamp"), "{mode}");
        let metrics = client.get("/metrics").text();
        assert!(metrics.contains("retrace_time_stamp_failures"), "{metrics}");
    }
}
