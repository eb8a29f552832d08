//! The pages, and the interface's own description.

use serde_json::json;
use tests::service::spawn_app;

#[test]
fn every_page_answers_and_says_what_it_is_for() {
    let service = spawn_app();
    let client = service.client();
    client.generate_one("a red heart", 21);
    for (path, words) in [
        ("/", &["Retrace", "/studio", "/review", "/ledger"][..]),
        ("/studio", &["<form", "name=\"prompt\""]),
        (
            "/review",
            &["<form", "type=\"file\"", "face swap", "open_case"],
        ),
        ("/cases", &["kept", "/review"]),
        ("/ledger", &["/ledger/0", "checkpoint"]),
        ("/ledger/0", &["retrace-verify bundle", "leaf"]),
        ("/docs/", &["<html"]),
    ] {
        let answer = client.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(
            answer.media_type.starts_with("text/html"),
            "{path}: {}",
            answer.media_type
        );
        let text = answer.text().to_lowercase();
        for word in words {
            assert!(
                text.contains(&word.to_lowercase()),
                "{path} does not say {word}"
            );
        }
    }
}

#[test]
fn pages_load_nothing_from_elsewhere() {
    let service = spawn_app();
    let client = service.client();
    for path in ["/", "/studio", "/review", "/cases", "/ledger"] {
        let text = client.get(path).text();
        for attribute in ["src=\"", "action=\"", "<link href=\""] {
            for (place, _) in text.match_indices(attribute) {
                let rest = &text[place + attribute.len()..];
                assert!(
                    rest.starts_with('/') && !rest.starts_with("//"),
                    "{path}: {attribute}{}",
                    &rest[..rest.len().min(60)]
                );
            }
        }
    }
}

#[test]
fn a_prompt_is_shown_as_text_and_never_as_markup() {
    let service = spawn_app();
    let form = b"prompt=%3Cscript%3Ealert(1)%3C%2Fscript%3E&steps=2";
    let answer = service
        .client()
        .post("/studio", ("application/x-www-form-urlencoded", form), &[]);
    assert!(
        !answer.text().contains("<script>alert"),
        "{}",
        answer.text()
    );
}

#[test]
fn the_description_of_the_interface_names_every_path_of_the_three_journeys() {
    let service = spawn_app();
    let document = service.client().get("/openapi.json").expect_ok();
    assert!(
        document["openapi"].as_str().unwrap().starts_with("3."),
        "{}",
        document["openapi"]
    );
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/v1/images/generations",
        "/v1/scores",
        "/v1/cases",
        "/v1/cases/{id}",
        "/v1/cases/{id}/image",
        "/v1/cases/{id}/upload",
        "/v1/cases/{id}/notes",
        "/v1/cases/{id}/close",
        "/v1/entries",
        "/v1/entries/{index}",
        "/v1/entries/{index}/proof",
        "/v1/entries/{index}/bundle",
        "/v1/consistency",
        "/checkpoint",
        "/healthz",
        "/readyz",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
}

#[test]
fn the_state_of_the_service_names_its_models_and_fences() {
    let service = spawn_app();
    let health = service.client().get("/healthz").expect_ok();
    assert_eq!(health["provider"], json!({ "asked": "cpu", "used": "cpu" }));
    assert_eq!(health["gpu_missing"], false);
    assert_eq!(health["sequencer"], "running");
    for model in ["generator", "detector"] {
        assert_eq!(
            health[model]["digest"].as_str().map(str::len),
            Some(64),
            "{health}"
        );
    }
}

#[test]
fn the_review_shows_every_step_out_and_back_and_the_curve_against_photographs() {
    let service = spawn_app();
    let (media_type, body) = tests::client::form(&tests::client::UploadedFile {
        name: "coffee.png",
        media_type: "image/png",
        bytes: &tests::service::photograph("coffee.png"),
    });
    let page = service.client().post("/review", (&media_type, &body), &[]);
    let text = page.text();
    assert_eq!(page.status, 200, "{text}");
    for words in [
        "What this means",
        "What it does not mean",
        "The trace against photographs",
        "the photo prior",
        "class=\"curve-band\"",
        "data-print",
    ] {
        assert!(text.contains(words), "{words}");
    }
    // Six levels of the prior in three rows; the generator's start, and its 20 steps both ways.
    let tiles = text.matches("<li><img src=\"data:image/png;base64,");
    assert_eq!(tiles.count(), 3 * 6 + 1 + 2 * 20);
    let style = service.client().get("/assets/retrace.css").text();
    assert!(style.contains("@media print") && style.contains("@page"));
}
