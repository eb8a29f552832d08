//! Searching the ledger, over the interface and on the page.

use serde_json::Value;
use tests::client::Client;
use tests::service::spawn_app;

/// The places that a search finds, newest first.
fn found(client: &Client, query: &str) -> Vec<u64> {
    let page = client.get(&format!("/v1/entries?{query}")).expect_ok();
    assert!(page["checkpoint"]["note"].is_string(), "{page}");
    let places = page["entries"].as_array().unwrap().iter();
    places
        .map(|entry| entry["leaf_index"].as_u64().unwrap())
        .collect()
}

/// The entries that the page links to.
fn listed(text: &str) -> Vec<u64> {
    let links = text.split("<td class=\"num\"><a href=\"/ledger/").skip(1);
    links
        .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
        .collect()
}

fn body(item: &Value) -> &Value {
    &item["provenance"]["entry"]["statement"]["body"]
}

#[test]
fn interface_and_page_find_the_same_entries_by_prompt_commitment_likeness_and_key() {
    let service = spawn_app();
    let client = service.client();
    let first = client.generate_one("a red heart", 5);
    let again = client.generate_one("a red heart", 5);
    client.generate_one("a blue car", 9);
    let commitment = body(&first)["prompt_commitment"].as_str().unwrap();
    let hash = body(&again)["perceptual_hash"]["hash"].as_str().unwrap();
    let key = service.public_keys().entries.key_id().replace('+', "%2B");
    for (query, page, expected) in [
        (
            format!("prompt_commitment={commitment}"),
            format!("prompt={}", commitment.to_uppercase()),
            vec![0],
        ),
        (
            "near_entry=1&distance=0".into(),
            "like=1&distance=0".into(),
            vec![1, 0],
        ),
        (
            format!("perceptual_hash={hash}"),
            format!("like={hash}&distance="),
            vec![1, 0],
        ),
        (format!("key={key}"), format!("key={key}"), vec![2, 1, 0]),
    ] {
        assert_eq!(found(&client, &query), expected, "{query}");
        let answer = client.get(&format!("/ledger?{page}"));
        assert_eq!(answer.status, 200, "{page}: {}", answer.text());
        let text = answer.text();
        assert_eq!(listed(&text), expected, "{page}");
        assert!(
            text.contains("complete for the checkpoint of 3 entries"),
            "{page}"
        );
    }
}

#[test]
fn the_page_says_beside_a_field_why_it_was_refused_and_searches_nothing() {
    let service = spawn_app();
    let client = service.client();
    client.generate_one("a red heart", 5);
    for (query, field, why) in [
        ("prompt=abc", "prompt", "64 hexadecimal digits"),
        ("like=heart", "like", "PDQ hash"),
        ("like=7", "like", "entry 7 states"),
        ("like=0&distance=90", "distance", "0 to 31"),
        ("key=nobody", "key", "nobody"),
        ("verdict=certain", "verdict", "must be one of"),
        ("digest=12", "digest", "64 hexadecimal digits"),
        ("from=yesterday", "from", "2026-11-23T03:12"),
    ] {
        let answer = client.get(&format!("/ledger?{query}"));
        assert_eq!(answer.status / 100, 4, "{query}: {}", answer.status);
        let text = answer.text();
        let mark = format!("aria-invalid=\"true\" aria-describedby=\"refused-{field}\"");
        assert_eq!(text.matches(&mark).count(), 1, "{query}: {text}");
        let mark = format!("id=\"refused-{field}\" role=\"alert\">");
        let reason = text.split(&mark).last().unwrap();
        let reason = reason.split("</span>").next().unwrap();
        assert!(reason.contains(why), "{query}: {reason}");
        assert_eq!(listed(&text), [0; 0], "{query}");
    }
    for query in ["near_entry=7", "key=nobody", "prompt_commitment=1"] {
        let answer = client.get(&format!("/v1/entries?{query}"));
        answer.expect_problem(400, "invalid-request");
    }
}
