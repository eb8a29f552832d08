//! Review cases: what is kept, for whom, and that nothing is kept without one.

use base64::Engine as _;
use ledger::Scope;
use media::Limits;
use serde_json::{Value, json};
use tests::client::{Answer, Client, UploadedFile};
use tests::service::{TestService, photograph, spawn_app, spawn_app_with};

/// A small photograph, so that tests are quick: a cut of a sample, as PNG.
fn suspect() -> Vec<u8> {
    let decoded = media::decode(&photograph("coffee.png"), &Limits::default()).unwrap();
    let rows = decoded
        .rgb
        .chunks_exact(decoded.width as usize * 3)
        .take(160);
    let rgb: Vec<u8> = rows.flat_map(|row| row[..160 * 3].to_vec()).collect();
    media::encode_png(160, 160, &rgb, &[("Comment", "bytes of the suspect alone")]).unwrap()
}

/// A form of text fields and the file.
fn form(bytes: &[u8], fields: &[(&str, &str)]) -> (String, Vec<u8>) {
    let boundary = "form-of-a-case";
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
        body.extend_from_slice(part.as_bytes());
    }
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"<b>suspect</b>.png\"\r\nContent-Type: image/png\r\n\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

fn post_form(client: &Client, path: &str, bytes: &[u8], fields: &[(&str, &str)]) -> Answer {
    let (media_type, body) = form(bytes, fields);
    client.post(path, (&media_type, &body), &[])
}

fn open(client: &Client, bytes: &[u8], fields: &[(&str, &str)]) -> Value {
    let answer = post_form(client, "/v1/cases", bytes, fields);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

/// Whether the bytes lie anywhere in the service's folder or database.
fn is_kept(service: &TestService, bytes: &[u8]) -> bool {
    let files = tests::house::files_with_bytes(service.state(), &bytes[..64]).unwrap();
    let dump = service.dump_database();
    let start: String = bytes[..32]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let encoded = base64::engine::general_purpose::STANDARD.encode(&bytes[..48]);
    !files.is_empty() || dump.contains(&start) || dump.contains(&encoded)
}

#[test]
fn without_a_case_nothing_of_an_upload_is_kept_and_with_one_until_it_is_erased() {
    let service = spawn_app();
    let client = service.client();
    let bytes = suspect();
    client.score_png(&bytes).expect_ok();
    post_form(&client, "/review", &bytes, &[]);
    assert!(!is_kept(&service, &bytes));
    let opened = open(&client, &bytes, &[("note", "seen on a forum")]);
    assert!(is_kept(&service, &bytes));
    let id = opened["case"]["id"].as_i64().unwrap();
    let kept = client.get(&format!("/v1/cases/{id}/upload"));
    assert_eq!((kept.status, kept.body == bytes), (200, true));
    let erased = client.delete(&format!("/v1/cases/{id}/image")).expect_ok();
    assert!(!is_kept(&service, &bytes));
    let upload = &erased["upload"];
    assert_eq!(
        (&upload["kept"], &upload["salt"], &upload["file_name"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
    assert_eq!(upload["sha256"], opened["score"]["image"]["sha256"]);
    assert_eq!(
        erased["report"]["assessment"]["verdict"],
        opened["score"]["verdict"]
    );
    for what in ["image", "upload"] {
        let gone = client.get(&format!("/v1/cases/{id}/{what}"));
        let detail = gone.expect_problem(404, "not-found");
        assert!(detail.contains("erased"), "{detail}");
    }
    client.delete(&format!("/v1/cases/{id}/image")).expect_ok();
}

#[test]
fn a_case_holds_the_score_the_notes_and_the_decision() {
    let service = spawn_app();
    let client = service.client();
    let opened = open(&client, &suspect(), &[("note", "seen on a forum")]);
    let (case, score) = (&opened["case"], &opened["score"]);
    assert_eq!(case["state"], "open");
    assert_eq!(
        case["leaf_index"],
        score["provenance"]["entry"]["leaf_index"]
    );
    assert_eq!(case["upload"]["salt"], score["upload_salt"]);
    assert_eq!(case["notes"][0]["note"], "seen on a forum");
    assert_eq!(
        case["report"]["assessment"]["probability"],
        score["probability"]
    );
    assert!(
        case["report"]["curve"]["range"]["copies"].as_u64().unwrap() > 100,
        "{case}"
    );
    let id = case["id"].as_i64().unwrap();
    let path = |what: &str| format!("/v1/cases/{id}{what}");
    client
        .post_json(&path("/notes"), &json!({ "note": "the shadows differ" }))
        .expect_ok();
    let close = json!({ "decision": "generated", "note": "two light sources" });
    let closed = client.post_json(&path("/close"), &close).expect_ok();
    assert_eq!(
        (&closed["state"], &closed["closing"]["decision"]),
        (&json!("closed"), &json!("generated"))
    );
    let notes: Vec<_> = closed["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|note| note["note"].as_str().unwrap())
        .collect();
    assert_eq!(
        notes,
        ["seen on a forum", "the shadows differ", "two light sources"]
    );
    client
        .post_json(&path("/close"), &close)
        .expect_problem(409, "case-closed");
    let listed = client.get("/v1/cases?state=closed").expect_ok();
    assert_eq!(listed["cases"][0]["id"], id);
    let none = client.get("/v1/cases?state=open").expect_ok();
    assert_eq!(none["cases"].as_array().unwrap().len(), 0);
    let service = service.restart();
    assert_eq!(
        service.client().get(&path("")).expect_ok()["closing"],
        closed["closing"]
    );
}

#[test]
fn the_kept_picture_is_served_as_new_pixels_and_the_file_only_as_a_download() {
    let service = spawn_app();
    let client = service.client();
    let bytes = [&suspect()[..], b"<script>alert(1)</script>"].concat();
    let opened = open(&client, &bytes, &[]);
    let id = opened["case"]["id"].as_i64().unwrap();
    let image = client.get(&format!("/v1/cases/{id}/image"));
    assert_eq!(
        (image.status, image.media_type.as_str()),
        (200, "image/png")
    );
    let shown = media::decode(&image.body, &Limits::default()).unwrap();
    assert_eq!(
        shown.rgb,
        media::decode(&bytes, &Limits::default()).unwrap().rgb
    );
    assert_eq!((shown.trailing_bytes, shown.metadata.len()), (0, 0));
    let upload = client.get(&format!("/v1/cases/{id}/upload"));
    assert_eq!(upload.media_type, "application/octet-stream");
    assert!(
        upload
            .header("content-disposition")
            .starts_with("attachment")
    );
    for answer in [&image, &upload] {
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(answer.header("content-security-policy").contains("sandbox"));
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    assert_eq!(upload.body, bytes);
}

#[test]
fn a_client_sees_its_own_cases_auditors_read_all_and_only_owners_and_admins_change_them() {
    let service = spawn_app();
    let desk = service.client_with("desk", &[Scope::Score]);
    let press = service.client_with("press", &[Scope::Score]);
    let auditor = service.client_with("auditor", &[Scope::Audit]);
    let admin = service.client_with("admin", &[Scope::Admin]);
    let maker = service.client_with("maker", &[Scope::Generate]);
    let id = open(&desk, &suspect(), &[])["case"]["id"].as_i64().unwrap();
    let (case, image) = (format!("/v1/cases/{id}"), format!("/v1/cases/{id}/image"));
    let cases = |client: &Client| {
        client.get("/v1/cases").expect_ok()["cases"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        (cases(&desk), cases(&press), cases(&auditor), cases(&admin)),
        (1, 0, 1, 1)
    );
    for path in [&case, &image] {
        press.get(path).expect_problem(404, "not-found");
        maker.get(path).expect_problem(403, "missing-scope");
        assert_eq!(auditor.get(path).status, 200);
    }
    let note = json!({ "note": "mine" });
    let notes = format!("{case}/notes");
    press
        .post_json(&notes, &note)
        .expect_problem(404, "not-found");
    auditor
        .post_json(&notes, &note)
        .expect_problem(403, "missing-scope");
    auditor.delete(&image).expect_problem(403, "missing-scope");
    admin.post_json(&notes, &note).expect_ok();
    assert_eq!(post_form(&press, "/v1/cases", &suspect(), &[]).status, 201);
    assert_eq!((cases(&desk), cases(&press), cases(&auditor)), (1, 1, 2));
    admin.delete(&image).expect_ok();
}

#[test]
fn kept_uploads_have_a_limit_and_what_is_no_case_is_refused_before_it_is_scored() {
    let bytes = suspect();
    let room = bytes.len() as u64 + 10;
    let service = spawn_app_with(|config| config.limits.case_bytes_max = room);
    let client = service.client();
    let id = open(&client, &bytes, &[])["case"]["id"].as_i64().unwrap();
    let full = post_form(&client, "/v1/cases", &bytes, &[]);
    let detail = full.expect_problem(507, "cases-full");
    assert!(detail.contains("case_bytes_max"), "{detail}");
    client.delete(&format!("/v1/cases/{id}/image")).expect_ok();
    open(&client, &bytes, &[]);
    let entries = || {
        client.get("/v1/entries").expect_ok()["entries"]
            .as_array()
            .unwrap()
            .len()
    };
    let recorded = entries();
    let long = "x".repeat(10_001);
    post_form(&client, "/v1/cases", &bytes, &[("note", &long)])
        .expect_problem(400, "invalid-request");
    post_form(&client, "/v1/cases", &bytes, &[("other", "1")])
        .expect_problem(400, "invalid-request");
    post_form(&client, "/v1/scores", &bytes, &[("note", "1")])
        .expect_problem(400, "invalid-request");
    assert_eq!(entries(), recorded);
    client.get("/v1/cases/99").expect_problem(404, "not-found");
    client
        .get("/v1/cases?limit=0")
        .expect_problem(400, "invalid-request");
    client
        .get("/v1/cases?state=lost")
        .expect_problem(400, "invalid-request");
    let decision = json!({ "decision": "certain" });
    client
        .post_json(&format!("/v1/cases/{id}/close"), &decision)
        .expect_problem(400, "invalid-request");
}

#[test]
fn the_pages_open_show_decide_and_erase_a_case() {
    let service = spawn_app();
    let client = service.client();
    let bytes = suspect();
    let hostile = "<script>alert(1)</script>";
    let page = post_form(
        &client,
        "/review",
        &bytes,
        &[("open_case", "yes"), ("note", hostile)],
    );
    assert_eq!(page.status, 200, "{}", page.text());
    let text = page.text();
    assert!(text.contains("href=\"/cases/1\""), "{text}");
    assert!(
        text.contains("What it does not mean") && text.contains("curve-line"),
        "{text}"
    );
    let case = || client.get("/cases/1").text();
    assert!(case().contains("&#60;script&#62;") && !case().contains(hostile));
    assert!(!case().contains("<b>suspect</b>"));
    assert!(client.get("/cases").text().contains("/cases/1"));
    assert!(
        client
            .get("/cases/1?process=show")
            .text()
            .contains("came back")
    );
    let send = |path: &str, body: &[u8]| {
        let answer = client.post(path, ("application/x-www-form-urlencoded", body), &[]);
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, "/cases/1"),
            "{}",
            answer.text()
        );
    };
    send("/cases/1/notes", b"note=the+shadows+differ");
    send("/cases/1/close", b"decision=undecided&note=");
    assert!(case().contains("Decided: Undecided") && case().contains("the shadows differ"));
    send("/cases/1/erase", b"sure=yes");
    assert!(case().contains("it was erased") && !is_kept(&service, &bytes));
    let again = client.post(
        "/cases/1/close",
        ("application/x-www-form-urlencoded", b"decision=generated"),
        &[],
    );
    assert_eq!(again.status, 409);
    assert_eq!(client.get("/cases/99").status, 404);
    let lone = post_form(&client, "/review", &bytes, &[("note", "without a case")]);
    assert_eq!(lone.status, 400);
    assert!(lone.text().contains("without a case</textarea>"));
    let upload = UploadedFile {
        name: "a.png",
        media_type: "image/png",
        bytes: &bytes,
    };
    client.score(&upload).expect_ok();
}
