//! API keys: who may do what.

use ledger::Scope;
use provenance::{Bundle, Entry};
use serde_json::json;
use tests::client::{Client, bundle_of};
use tests::service::{photograph, spawn_app};

fn generate(client: &Client) -> tests::client::Answer {
    client.generate(&json!({ "prompt": "a red heart", "num_inference_steps": 2 }))
}

#[test]
fn each_scope_opens_its_own_paths_and_no_others() {
    let service = spawn_app();
    let painter = service.client_with("painter", &[Scope::Generate]);
    let reviewer = service.client_with("reviewer", &[Scope::Score]);
    let auditor = service.client_with("auditor", &[Scope::Audit]);
    let admin = service.client_with("admin", &[Scope::Admin]);
    let photograph = photograph("coffee.png");
    for (client, name) in [
        (&painter, "painter"),
        (&reviewer, "reviewer"),
        (&auditor, "auditor"),
        (&admin, "admin"),
    ] {
        let allowed = |scope: &str| name == "admin" || name == scope;
        for (answer, scope) in [
            (generate(client), "painter"),
            (client.score_png(&photograph), "reviewer"),
            (client.get("/v1/entries"), "auditor"),
        ] {
            if allowed(scope) {
                assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            } else {
                answer.expect_problem(403, "missing-scope");
            }
        }
    }
}

#[test]
fn the_entry_names_the_client_whose_key_it_was() {
    let service = spawn_app();
    let painter = service.client_with("newsroom", &[Scope::Generate]);
    let answer = generate(&painter).expect_ok();
    let bundle = Bundle::parse(&bundle_of(&answer["data"][0])).unwrap();
    let Entry::Generation(entry) = bundle.verify(service.public_keys()).unwrap().entry else {
        panic!("no generation")
    };
    assert_eq!(entry.client, "newsroom");
}

#[test]
fn a_missing_an_unknown_and_a_malformed_key_are_refused_once_a_key_exists() {
    let service = spawn_app();
    assert_eq!(
        generate(&service.client()).status,
        200,
        "without any key this machine may call"
    );
    service.client_with("painter", &[Scope::Generate]);
    generate(&service.client()).expect_problem(401, "unauthorized");
    for key in ["retrace_unknown", "x", ""] {
        let client = Client::new(service.port(), Some(key.to_owned()));
        generate(&client).expect_problem(401, "unauthorized");
        client
            .get("/v1/entries")
            .expect_problem(401, "unauthorized");
    }
    assert_eq!(
        service.client().get("/checkpoint").status,
        200,
        "the head of the log is for everyone"
    );
    assert_eq!(service.client().get("/healthz").status, 200);
}

#[test]
fn a_request_that_came_through_a_proxy_or_from_another_site_has_no_rights_of_this_machine() {
    let service = spawn_app();
    let body = json!({ "prompt": "a red heart", "num_inference_steps": 2 }).to_string();
    let send = |headers: &[(&str, &str)]| {
        service.client().post(
            "/v1/images/generations",
            ("application/json", body.as_bytes()),
            headers,
        )
    };
    send(&[("x-forwarded-for", "203.0.113.7")]).expect_problem(401, "unauthorized");
    send(&[("host", "rebound.example")]).expect_problem(401, "unauthorized");
    send(&[("origin", "https://elsewhere.example")]).expect_problem(403, "cross-site");
    send(&[("sec-fetch-site", "cross-site")]).expect_problem(403, "cross-site");
}

#[test]
fn keys_are_stored_as_hashes_only() {
    let service = spawn_app();
    let key = service.new_key("painter", &[Scope::Generate]);
    let dump = service.dump_database();
    assert!(dump.contains("painter"));
    assert!(
        !dump.contains(key.split_once('_').unwrap().1),
        "the key stands in the database"
    );
}
