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
