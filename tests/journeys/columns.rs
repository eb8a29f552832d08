//! An export in columns, read by another implementation.

use std::process::Command;

use serde_json::{Value, json};
use tests::programs::program;
use tests::python::run_client;
use tests::service::{photograph, spawn_app};

/// Runs the auditors' program on an export in a folder; its exit code and the codes of its checks.
fn verify(folder: &std::path::Path, name: &str) -> (Option<i32>, Vec<String>) {
    let output = Command::new(program("retrace-verify").unwrap())
        .current_dir(folder)
        .args(["export", name, "--public-key", "retrace.pub", "--json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap().iter();
    let codes = checks.filter_map(|check| check["code"].as_str().map(str::to_owned));
    (output.status.code(), codes.collect())
}

#[test]
fn duckdb_reads_an_export_in_columns_as_what_its_lines_of_json_say() {
    let service = spawn_app();
    let client = service.client();
    client.generate_one("a red heart", 5);
    client.generate_one("a blue car", u64::MAX);
    client.score_png(&photograph("coffee.png")).expect_ok();
    let desk = tempfile::tempdir().unwrap();
    let path = |name: &str| desk.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("retrace.pub"), service.public_keys().to_string()).unwrap();
    for (name, query) in [
        ("all.parquet", "encoding=parquet"),
        ("all.ndjson", "encoding=ndjson"),
        ("like.parquet", "encoding=parquet&near_entry=0&distance=0"),
    ] {
        let answer = client.get(&format!("/v1/entries/export?{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        std::fs::write(path(name), &answer.body).unwrap();
        assert_eq!(verify(desk.path(), name), (Some(0), vec![]), "{name}");
    }
    let report = run_client(
        "parquet_reader.py",
        &[&path("all.parquet"), &path("all.ndjson")],
    );
    assert_eq!(
        (&report["rows"], &report["joined"]),
        (&json!(3), &json!(2)),
        "{report}"
    );
    assert_eq!(report["keys"], json!(["retrace.manifest"]));
    let types = &report["types"];
    for (column, expected) in [
        ("leaf_index", "BIGINT"),
        ("leaf_hash", "VARCHAR"),
        ("created_at", "TIMESTAMP WITH TIME ZONE"),
        ("seed", "UBIGINT"),
        ("probability", "DOUBLE"),
        ("envelope", "BLOB"),
    ] {
        assert_eq!(types[column], expected, "{column}");
    }
    let whole = std::fs::read(path("all.parquet")).unwrap();
    std::fs::write(path("cut.parquet"), &whole[..whole.len() - 1]).unwrap();
    let (code, codes) = verify(desk.path(), "cut.parquet");
    assert_eq!((code, &codes[0][..]), (Some(1), "manifest-missing"));
    let mut changed = whole.clone();
    changed[whole.len() / 3] ^= 1;
    std::fs::write(path("changed.parquet"), changed).unwrap();
    let (code, codes) = verify(desk.path(), "changed.parquet");
    assert_eq!((code, &codes[0][..]), (Some(1), "export-differs"));
}

/// The addresses of the downloads that the ledger's page offers.
fn downloads(page: &str) -> Vec<String> {
    let parts = page.split("href=\"/ledger/export?").skip(1);
    parts
        .map(|rest| {
            let (query, _) = rest.split_once('"').unwrap();
            let query = query.replace("&amp;", "&").replace("&#38;", "&");
            format!("/ledger/export?{query}")
        })
        .collect()
}

#[test]
fn the_ledger_page_offers_what_it_found_as_files_that_auditors_accept() {
    let service = spawn_app();
    let client = service.client();
    client.generate_one("a red heart", 5);
    client.generate_one("a blue car", 6);
    client.score_png(&photograph("coffee.png")).expect_ok();
    let page = client.get("/ledger?kind=generation&distance=31").text();
    let checkpoint_key = service.public_keys().checkpoint.key_id();
    assert!(page.contains(&checkpoint_key), "{page}");
    assert!(
        page.contains("signs checkpoints from 0 entries on"),
        "{page}"
    );
    let offered = downloads(&page);
    assert_eq!(offered.len(), 3, "{page}");
    // What is recorded later is not in them: they are complete for what the page shows.
    client.generate_one("a green tree", 7);
    let desk = tempfile::tempdir().unwrap();
    let keys = service.public_keys().to_string();
    std::fs::write(desk.path().join("retrace.pub"), keys).unwrap();
    for (address, encoding) in offered.iter().zip(["ndjson", "csv", "parquet"]) {
        let answer = client.get(address);
        assert_eq!(answer.status, 200, "{address}: {}", answer.text());
        let query = format!("/v1/entries/export?kind=generation&tree_size=3&encoding={encoding}");
        let same = client.get(&query);
        assert_eq!(answer.media_type, same.media_type, "{address}");
        assert_eq!(answer.body, same.body, "{address}");
        let name = format!("found.{encoding}");
        std::fs::write(desk.path().join(&name), &answer.body).unwrap();
        assert_eq!(verify(desk.path(), &name).0, Some(0), "{name}");
    }
    let lines = std::fs::read_to_string(desk.path().join("found.ndjson")).unwrap();
    assert_eq!(lines.lines().count(), 3, "two images and the manifest");
    // The picture of a digest is found by its pixels too, and exported so.
    let entry = client.get("/v1/entries/0").expect_ok();
    let image = &entry["statement"]["body"]["image"];
    let pixels = image["pixel_sha256"].as_str().unwrap();
    let page = client.get(&format!("/ledger?digest={pixels}")).text();
    let export = client.get(&downloads(&page)[0]).text();
    assert_eq!(export.lines().count(), 2, "{export}");
    let none = client.get("/ledger?client=nobody").text();
    assert_eq!(downloads(&none), Vec::<String>::new());
    for (wrong, status) in [
        ("encoding=xml", 400),
        ("digest=ab", 400),
        ("tree_size=99", 404),
    ] {
        let refused = client.get(&format!("/ledger/export?{wrong}"));
        assert_eq!(refused.status, status, "{wrong}: {}", refused.text());
    }
    // The same scope as the page, and a sign-in for whoever has no key.
    let maker = service.client_with("maker", &[ledger::Scope::Generate]);
    assert_eq!(maker.get("/ledger/export?encoding=csv").status, 403);
    assert_eq!(client.get("/ledger/export?encoding=csv").status, 303);
}
