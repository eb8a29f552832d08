//! Bad input: each gets a clear problem, nothing is recorded, and the service goes on.

use media::Limits;
use serde_json::{Value, json};
use tests::client::{Client, UploadedFile, bundle_of};
use tests::service::{TestService, photograph, spawn_app, spawn_app_with};

/// How many entries the log holds.
fn entries(client: &Client) -> usize {
    client.get("/v1/entries").expect_ok()["entries"]
        .as_array()
        .unwrap()
        .len()
}

/// After refusals: nothing was recorded, and the next good request is answered.
fn goes_on(service: &TestService) {
    let client = service.client();
    assert_eq!(entries(&client), 0);
    client.score_png(&photograph("coffee.png")).expect_ok();
    assert_eq!(entries(&client), 1);
}

/// A PNG file from chunks: name and data each.
fn png(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, data) in chunks {
        file.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
        let checked = [*name as &[u8], data].concat();
        file.extend_from_slice(&checked);
        file.extend_from_slice(&crc32(&checked).to_be_bytes());
    }
    file
}

/// The header of an RGB8 picture.
fn header(width: u32, height: u32) -> Vec<u8> {
    [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &[8, 2, 0, 0, 0],
    ]
    .concat()
}

/// The checksum of PNG chunks (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 * (crc & 1));
        }
    }
    !crc
}

#[test]
fn uploads_that_are_no_pictures_are_refused_by_what_they_are() {
    let service = spawn_app();
    let client = service.client();
    let good = photograph("coffee.png");
    let score = |name: &str, media_type: &str, bytes: &[u8]| {
        client.score(&UploadedFile {
            name,
            media_type,
            bytes,
        })
    };
    score("a.png", "image/png", b"").expect_problem(422, "unreadable-file");
    score("a.png", "image/png", b"this is no picture at all")
        .expect_problem(415, "unsupported-media");
    score("a.gif", "image/gif", b"GIF89a\x01\0\x01\0\0\0\0;")
        .expect_problem(415, "unsupported-media");
    score("a.png", "image/png", &good[..good.len() / 2]).expect_problem(422, "unreadable-file");
    score("a.png", "image/png", &good[..20]).expect_problem(422, "unreadable-file");
    score("cat.jpg", "image/jpeg", &good).expect_problem(415, "unsupported-media");
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0);
    score("a.png", "image/png", &damaged).expect_problem(422, "unreadable-file");
    goes_on(&service);
}

#[test]
fn pixel_bombs_are_refused_before_they_are_decoded() {
    let service = spawn_app();
    let client = service.client();
    let limits = Limits::default();
    let wide = png(&[
        (b"IHDR", &header(limits.side_max + 1, 1)),
        (b"IDAT", b""),
        (b"IEND", b""),
    ]);
    let detail = client
        .score_png(&wide)
        .expect_problem(422, "unreadable-file");
    assert!(detail.contains("side"), "{detail}");
    let side = (limits.pixels_max as f64).sqrt() as u32 + 1;
    let many = png(&[
        (b"IHDR", &header(side, side)),
        (b"IDAT", b""),
        (b"IEND", b""),
    ]);
    let detail = client
        .score_png(&many)
        .expect_problem(422, "unreadable-file");
    assert!(detail.contains("pixels"), "{detail}");
    goes_on(&service);
}

#[test]
fn an_upload_over_the_limit_of_bytes_is_refused_and_the_limit_named() {
    let service = spawn_app_with(|config| config.limits.upload_bytes_max = 600 << 10);
    let client = service.client();
    let large = vec![0x89; 700 << 10];
    let detail = client.score_png(&large).expect_problem(413, "too-large");
    assert!(detail.contains("upload_bytes_max"), "{detail}");
    goes_on(&service);
}

#[test]
fn a_body_that_is_no_form_and_a_form_without_a_file_are_refused() {
    let service = spawn_app();
    let client = service.client();
    client
        .post("/v1/scores", ("image/png", &photograph("coffee.png")), &[])
        .expect_problem(415, "unsupported-media");
    let form = b"--b\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nx\r\n--b--\r\n";
    client
        .post("/v1/scores", ("multipart/form-data; boundary=b", form), &[])
        .expect_problem(400, "invalid-request");
    client
        .post("/v1/scores", ("multipart/form-data", form), &[])
        .expect_problem(400, "invalid-request");
    client
        .post_json("/v1/scores", &json!({ "image_base64": "***" }))
        .expect_problem(400, "invalid-request");
    client
        .post_json("/v1/scores", &json!({ "url": "http://127.0.0.1/" }))
        .expect_problem(400, "invalid-request");
    goes_on(&service);
}

#[test]
fn generation_requests_that_make_no_sense_are_refused_by_their_parameter() {
    let service = spawn_app();
    let client = service.client();
    let refuse = |request: Value, parameter: &str| {
        let answer = client.generate(&request);
        answer.expect_problem(400, "invalid-request");
        assert_eq!(answer.json()["parameter"], parameter, "{request}");
    };
    refuse(json!({}), "prompt");
    refuse(json!({ "prompt": "  " }), "prompt");
    refuse(json!({ "prompt": "x".repeat(3_000) }), "prompt");
    refuse(json!({ "prompt": "a\u{0}b" }), "prompt");
    refuse(json!({ "prompt": "a", "n": 0 }), "n");
    refuse(json!({ "prompt": "a", "n": 9 }), "n");
    refuse(
        json!({ "prompt": "a", "num_inference_steps": 0 }),
        "num_inference_steps",
    );
    refuse(
        json!({ "prompt": "a", "num_inference_steps": 100_000 }),
        "num_inference_steps",
    );
    refuse(
        json!({ "prompt": "a", "guidance_scale": -1 }),
        "guidance_scale",
    );
    refuse(
        json!({ "prompt": "a", "guidance_scale": 1e9 }),
        "guidance_scale",
    );
    refuse(json!({ "prompt": "a", "scheduler": "magic" }), "scheduler");
    refuse(json!({ "prompt": "a", "size": "huge" }), "size");
    refuse(json!({ "prompt": "a", "size": "4096x4096" }), "size");
    refuse(
        json!({ "prompt": "a", "response_format": "file" }),
        "response_format",
    );
    for seed in [json!(-1), json!(1.5), json!("seven"), json!(1e30)] {
        client
            .generate(&json!({ "prompt": "a", "seed": seed }))
            .expect_problem(400, "invalid-request");
    }
    client
        .generate(&json!({ "prompt": "a", "sead": 1 }))
        .expect_problem(400, "invalid-request");
    client
        .generate(&json!({ "prompt": "a", "model": "no-such-model" }))
        .expect_problem(404, "unknown-model");
    goes_on(&service);
}

#[test]
fn bodies_that_are_no_json_are_refused() {
    let service = spawn_app();
    let client = service.client();
    let path = "/v1/images/generations";
    client
        .post(path, ("application/json", b"{\"prompt\":"), &[])
        .expect_problem(400, "invalid-request");
    client
        .post(path, ("text/plain", b"a red heart"), &[])
        .expect_problem(415, "unsupported-media");
    let endless = json!({ "prompt": "x".repeat(70 << 10) });
    client
        .post_json(path, &endless)
        .expect_problem(413, "too-large");
    goes_on(&service);
}

#[test]
fn a_prompt_longer_than_the_model_reads_is_said_so_and_still_signed() {
    let service = spawn_app();
    let prompt = "a very big bright red heart ".repeat(12);
    let request = json!({ "prompt": prompt, "num_inference_steps": 4 });
    let answer = service.client().generate(&request).expect_ok();
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.contains("tokens"), "{warning}");
    assert!(provenance::Bundle::parse(&bundle_of(&answer["data"][0])).is_ok());
}

#[test]
fn a_port_in_use_and_missing_native_parts_end_the_start_with_one_clear_error() {
    use tests::programs::program;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let service = spawn_app();
    let empty = tempfile::tempdir().unwrap();
    let start = |runtime: &std::path::Path, database_url: &str| {
        std::process::Command::new(program("retrace").unwrap())
            .args(["serve", "--port", &port, "--state"])
            .arg(empty.path().join("state"))
            .arg("--models")
            .arg(tests::house::root().join("models"))
            .arg("--runtime")
            .arg(runtime)
            .args(["--database-url", database_url])
            .output()
            .unwrap()
    };
    let own = service.new_database();
    let in_use = start(&tests::service::runtime_folder(), &own);
    let message = String::from_utf8(in_use.stderr).unwrap();
    assert_eq!(in_use.status.code(), Some(3), "{message}");
    assert!(
        message.contains(&port) && message.contains("in use"),
        "{message}"
    );
    let missing = start(empty.path(), &own);
    let message = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(3), "{message}");
    assert!(
        message.contains("setup"),
        "the message names the remedy: {message}"
    );
}
