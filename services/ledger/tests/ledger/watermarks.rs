//! Watermarks that entries state, looked up by their ids.

use provenance::{GenerationDetails, GenerationEntry};

use crate::near::hashed;
use crate::support::{TestLog, generation, signed};

/// A generation that states this watermark.
fn marked(request_id: &str, watermark: &str) -> GenerationEntry {
    let entry = hashed(request_id, [7; 32], 80);
    let details = entry.details.clone().map(|details| GenerationDetails {
        watermark: watermark.to_owned(),
        ..details
    });
    GenerationEntry { details, ..entry }
}

#[tokio::test]
async fn entries_are_found_by_the_ids_of_their_watermarks() {
    let (log, sequencer) = TestLog::running().await;
    for (request_id, watermark) in [
        ("a", "noise-v1:00000000ff"),
        ("b", "none"),
        ("c", "noise-v1:ffffffffff"),
        // The same request again.
        ("d", "noise-v1:00000000ff"),
        // Marks of other kinds are no ids.
        ("e", "noise-v2:00000000ff"),
        ("f", "noise-v1:00000000FF"),
    ] {
        let entry = signed(marked(request_id, watermark));
        log.ledger.append(&entry, None).await.unwrap();
    }
    let entry = signed(generation("anna", "older"));
    log.ledger.append(&entry, None).await.unwrap();
    for (ids, expected) in [
        (vec![0xff], vec![0, 3]),
        (vec![0xff_ffff_ffff], vec![2]),
        (vec![1, 0xff_ffff_ffff, 0xff], vec![0, 2, 3]),
        (vec![1], vec![]),
        (vec![], vec![]),
    ] {
        let found = log.ledger.find_watermarks(&ids).await.unwrap();
        let found: Vec<u64> = found.iter().map(|found| found.leaf_index.get()).collect();
        assert_eq!(found, expected, "{ids:?}");
    }
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn the_check_finds_watermarks_that_were_changed_taken_away_or_added() {
    let (log, sequencer) = TestLog::running().await;
    for (request_id, watermark) in [
        ("a", "noise-v1:0000000001"),
        ("b", "noise-v1:0000000002"),
        ("c", "none"),
    ] {
        let entry = signed(marked(request_id, watermark));
        log.ledger.append(&entry, None).await.unwrap();
    }
    sequencer.stop().await;
    for change in [
        "UPDATE watermarks SET watermark_id = 9 WHERE leaf_index = 1",
        "DELETE FROM watermarks WHERE leaf_index = 0",
        "INSERT INTO watermarks VALUES (2, 1)",
    ] {
        let before = log.ledger.check().await.unwrap().problems.len();
        log.break_in(change).await;
        let after = log.ledger.check().await.unwrap().problems.len();
        assert_eq!(after, before + 1, "{change}");
    }
    log.remove().await;
}
