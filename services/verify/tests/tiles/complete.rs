//! Pages and exports beside the mirrored log that they were taken from.

use std::collections::BTreeMap;

use provenance::{EntrySigner, ExportWriter, LeafIndex, LineEncoding, SignedCheckpoint};
use serde_json::{Value, json};

use super::{Mirror, ORIGIN, code_of, entry};

const CHECK: &str = "completeness";

/// A page as the service answers it, of these entries.
fn page(mirror: &Mirror, places: &[u64], checkpoint: &str, next: Option<u64>) -> Value {
    let note = std::fs::read_to_string(mirror.path(checkpoint)).unwrap();
    let entries: Vec<Value> = places
        .iter()
        .map(|place| {
            let leaf = &mirror.leaves[usize::try_from(*place).unwrap()];
            let statement: Value = serde_json::from_slice(&entry(*place).to_bytes()).unwrap();
            json!({
                "leaf_index": place,
                "leaf_hash": provenance::merkle::leaf_hash(leaf),
                "kind": "generation",
                "statement": statement,
            })
        })
        .collect();
    json!({ "entries": entries, "checkpoint": { "note": note }, "next": next })
}

fn check_page(mirror: &Mirror, page: &Value, query: &str) -> (i32, String, Value) {
    mirror.write("page.json", page.to_string().as_bytes());
    let arguments = ["page", "page.json", "--query", query, "--tiles", "mirror"];
    let (code, report) = mirror.run(&[&arguments[..], &["--public-key", "retrace.pub"]].concat());
    let reason = match report["checks"].is_array() {
        true => code_of(&report, CHECK),
        false => String::new(),
    };
    (code, reason, report)
}

#[test]
fn a_page_that_leaves_nothing_out_holds_and_any_other_says_what_is_wrong() {
    let mirror = Mirror::new();
    let newest = page(&mirror, &[599, 598, 597], "600.txt", Some(597));
    let query = "client=studio&limit=3";
    let (code, _, report) = check_page(&mirror, &newest, query);
    assert_eq!(code, 0, "{report}");
    // Under an older checkpoint, though the mirror has more.
    let older = page(&mirror, &[255, 254, 253], "256.txt", Some(253));
    let (code, _, report) = check_page(&mirror, &older, query);
    assert_eq!(code, 0, "{report}");
    let upwards = page(&mirror, &[598, 599], "600.txt", None);
    let (code, _, report) = check_page(&mirror, &upwards, "order=asc&after=597&kind=generation");
    assert_eq!(code, 0, "{report}");
    let none = page(&mirror, &[], "600.txt", None);
    assert_eq!(check_page(&mirror, &none, "client=nobody").0, 0);

    let cases = [
        (
            page(&mirror, &[599, 597, 596], "600.txt", Some(596)),
            "entries-left-out",
        ),
        (
            page(&mirror, &[599, 598], "600.txt", None),
            "entries-left-out",
        ),
        (
            page(&mirror, &[598, 599, 597], "600.txt", Some(597)),
            "entries-order",
        ),
        (
            page(&mirror, &[599, 598, 597], "600.txt", None),
            "page-end-differs",
        ),
        (
            page(&mirror, &[599, 598, 597, 12], "600.txt", Some(12)),
            "entries-surplus",
        ),
    ];
    for (page, expected) in cases {
        let (code, reason, report) = check_page(&mirror, &page, query);
        assert_eq!((code, &reason[..]), (1, expected), "{report}");
    }
    let (code, reason, _) = check_page(&mirror, &newest, "client=nobody&limit=3");
    assert_eq!((code, &reason[..]), (1, "entries-surplus"));
    let mut changed = newest.clone();
    changed["entries"][1]["statement"]["body"]["seed"] = json!("1");
    let (code, reason, _) = check_page(&mirror, &changed, query);
    assert_eq!((code, &reason[..]), (1, "page-entry-differs"));
    let mut unnamed = newest.clone();
    unnamed["checkpoint"] = Value::Null;
    let (code, _, report) = check_page(&mirror, &unnamed, query);
    assert_eq!(
        (code, &code_of(&report, "checkpoint")[..]),
        (1, "no-checkpoint")
    );
    let (code, _, report) = check_page(&mirror, &newest, "colour=red");
    assert_eq!(
        (code, &code_of(&report, "query")[..]),
        (1, "unknown-condition")
    );
}

#[test]
fn a_page_by_likeness_key_or_prompt_commitment_is_searched_again() {
    let mirror = Mirror::new();
    let signer = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
    let key = signer.verifier().key_id().replace('+', "%2B");
    let commitment = provenance::commit(&[3; 32], b"a red heart");
    let hash = format!("{}{}", "07".repeat(31), "00");
    let cases = [
        ("near_entry=103&distance=1".to_owned(), vec![104, 103, 102]),
        ("near_entry=100&distance=0".to_owned(), vec![100]),
        (format!("perceptual_hash={hash}&distance=0"), vec![103]),
        (
            format!("near_entry=106&distance=31&key={key}&after=102"),
            vec![101, 100],
        ),
        (
            format!("prompt_commitment={commitment}&after=2"),
            vec![1, 0],
        ),
        (format!("prompt_commitment={hash}"), vec![]),
    ];
    for (query, expected) in cases {
        let holds = page(&mirror, &expected, "600.txt", None);
        let (code, _, report) = check_page(&mirror, &holds, &query);
        assert_eq!(code, 0, "{query}: {report}");
        let more = [&[598], &expected[..]].concat();
        let surplus = page(&mirror, &more, "600.txt", None);
        let (code, reason, report) = check_page(&mirror, &surplus, &query);
        assert_eq!(
            (code, &reason[..]),
            (1, "entries-surplus"),
            "{query}: {report}"
        );
    }
    let none = page(&mirror, &[], "600.txt", None);
    for query in ["near_entry=5", "near_entry=600", "key=nobody"] {
        let (code, reason, report) = check_page(&mirror, &none, query);
        assert_eq!(
            (code, &reason[..]),
            (1, "unknown-condition"),
            "{query}: {report}"
        );
    }
}

#[test]
fn a_page_of_a_newer_log_than_the_mirror_is_not_judged() {
    let mirror = Mirror::new();
    let newest = page(&mirror, &[599, 598, 597], "600.txt", Some(597));
    let older = std::fs::read(mirror.path("256.txt")).unwrap();
    mirror.write("mirror/checkpoint", &older);
    let (code, reason, report) = check_page(&mirror, &newest, "limit=3");
    assert_eq!((code, &reason[..]), (1, "tiles-too-old"), "{report}");
}

fn export(mirror: &Mirror, encoding: LineEncoding, places: &[u64]) -> Vec<u8> {
    let signer = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
    let note = std::fs::read_to_string(mirror.path("600.txt")).unwrap();
    let checkpoint = SignedCheckpoint::parse(&note).unwrap();
    let filter = BTreeMap::from([("request_id".to_owned(), "77".to_owned())]);
    let mut writer = ExportWriter::new(encoding, filter, &checkpoint);
    let mut bytes = writer.begin();
    for place in places {
        let envelope = provenance::Envelope::sign(&entry(*place), &signer).unwrap();
        writer
            .row(LeafIndex::new(*place), &envelope, &mut bytes)
            .unwrap();
    }
    bytes.extend(writer.finish(&signer).unwrap());
    bytes
}

#[test]
fn an_export_that_its_own_signer_cut_short_is_found_beside_the_tiles() {
    let mirror = Mirror::new();
    for encoding in [LineEncoding::Ndjson, LineEncoding::Csv] {
        for (places, expected) in [
            (&[77][..], ""),
            (&[], "entries-left-out"),
            (&[77, 78], "entries-surplus"),
        ] {
            mirror.write("export", &export(&mirror, encoding, places));
            let arguments = ["export", "export", "--tiles", "mirror"];
            let (code, report) =
                mirror.run(&[&arguments[..], &["--public-key", "retrace.pub"]].concat());
            assert_eq!(code, i32::from(!expected.is_empty()), "{report}");
            assert_eq!(code_of(&report, CHECK), expected, "{report}");
        }
    }
}
