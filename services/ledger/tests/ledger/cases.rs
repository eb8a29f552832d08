//! Review cases.

use ledger::{CaseFilter, CaseId, Decision, LedgerError, NewCase, NewCaseNote, PAGE_CASES_MAX};
use provenance::{Digest, LeafIndex};

use crate::support::{Running, TestLog, score, signed};

const BYTES_MAX: u64 = 1_000;
const SALT: [u8; 32] = [9; 32];

/// A log that holds this many scores of a client.
async fn with_scores(count: usize) -> (TestLog, Running) {
    let (log, sequencer) = TestLog::running().await;
    for number in 0..count {
        let entry = score("desk", &format!("score-{number}"));
        log.ledger.append(&signed(entry), None).await.unwrap();
    }
    (log, sequencer)
}

fn case(leaf_index: u64) -> NewCase<'static> {
    NewCase {
        client: "desk",
        leaf_index: LeafIndex::new(leaf_index),
        upload_sha256: Digest::of(b"upload"),
        upload_bytes: 400,
        upload_salt: SALT,
        file_name: Some("holiday\u{0}.jpg"),
        report: "{}",
        note: Some("  seen on a forum\u{0} \n"),
    }
}

#[tokio::test]
async fn a_case_keeps_its_entry_its_notes_and_the_decision_that_closed_it() {
    let (log, sequencer) = with_scores(1).await;
    let ledger = &log.ledger;
    let id = ledger.open_case(&case(0), BYTES_MAX).await.unwrap();
    let opened = ledger.case(id).await.unwrap().unwrap();
    assert_eq!(opened.leaf_index, LeafIndex::new(0));
    assert_eq!(opened.file_name.as_deref(), Some("holiday.jpg"));
    assert_eq!(opened.upload_salt, Some(SALT));
    assert!(opened.closing.is_none() && !opened.has_upload());
    ledger.case_upload_kept(id).await.unwrap();
    assert!(ledger.case(id).await.unwrap().unwrap().has_upload());
    ledger
        .add_case_note(
            id,
            NewCaseNote {
                author: "second",
                note: "the shadows differ",
            },
            3,
        )
        .await
        .unwrap();
    let notes = ledger.case_notes(id).await.unwrap();
    let texts: Vec<_> = notes
        .iter()
        .map(|note| (note.author.as_str(), note.note.as_str()))
        .collect();
    assert_eq!(
        texts,
        [
            ("desk", "seen on a forum"),
            ("second", "the shadows differ")
        ]
    );
    ledger
        .close_case(id, "second", Decision::NotGenerated)
        .await
        .unwrap();
    let closing = ledger.case(id).await.unwrap().unwrap().closing.unwrap();
    assert_eq!(
        (closing.by.as_str(), closing.decision),
        ("second", Decision::NotGenerated)
    );
    let again = ledger.close_case(id, "desk", Decision::Generated).await;
    assert!(matches!(again, Err(LedgerError::CaseClosed)), "{again:?}");
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn kept_uploads_stay_within_their_bytes_and_erasing_one_makes_room() {
    let (log, sequencer) = with_scores(3).await;
    let ledger = &log.ledger;
    let first = ledger.open_case(&case(0), BYTES_MAX).await.unwrap();
    ledger.open_case(&case(1), BYTES_MAX).await.unwrap();
    let full = ledger.open_case(&case(2), BYTES_MAX).await;
    assert!(
        matches!(
            full,
            Err(LedgerError::CasesFull {
                held: 800,
                bytes_max: 1_000
            })
        ),
        "{full:?}"
    );
    assert!(full.unwrap_err().to_string().contains("case_bytes_max"));
    assert!(ledger.check_case_room(201, BYTES_MAX).await.is_err());
    ledger.case_upload_kept(first).await.unwrap();
    ledger.case_upload_erased(first).await.unwrap();
    let erased = ledger.case(first).await.unwrap().unwrap();
    assert!(!erased.has_upload() && erased.erased_at_ms.is_some());
    assert_eq!((erased.upload_salt, erased.file_name), (None, None));
    assert_eq!(erased.upload_sha256, Digest::of(b"upload"));
    ledger.check_case_room(600, BYTES_MAX).await.unwrap();
    ledger.open_case(&case(2), BYTES_MAX).await.unwrap();
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_case_needs_a_recorded_entry_and_an_entry_has_one_case() {
    let (log, sequencer) = with_scores(1).await;
    let ledger = &log.ledger;
    let unknown = ledger.open_case(&case(7), BYTES_MAX).await.unwrap_err();
    assert_eq!(unknown.constraint(), Some("cases_leaf_index_recorded"));
    ledger.open_case(&case(0), BYTES_MAX).await.unwrap();
    let second = ledger.open_case(&case(0), BYTES_MAX).await.unwrap_err();
    assert_eq!(second.constraint(), Some("cases_leaf_index_unique"));
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn notes_are_bounded_in_number_and_length() {
    let (log, sequencer) = with_scores(1).await;
    let ledger = &log.ledger;
    let id = ledger.open_case(&case(0), BYTES_MAX).await.unwrap();
    for refused in [" \u{0} ", &"x".repeat(10_001)] {
        let answer = ledger
            .add_case_note(
                id,
                NewCaseNote {
                    author: "desk",
                    note: refused,
                },
                3,
            )
            .await;
        assert!(
            matches!(answer, Err(LedgerError::NoteLength { .. })),
            "{answer:?}"
        );
    }
    ledger
        .add_case_note(
            id,
            NewCaseNote {
                author: "desk",
                note: "second",
            },
            2,
        )
        .await
        .unwrap();
    let third = ledger
        .add_case_note(
            id,
            NewCaseNote {
                author: "desk",
                note: "third",
            },
            2,
        )
        .await;
    assert!(
        matches!(third, Err(LedgerError::CaseNotesFull { notes_max: 2 })),
        "{third:?}"
    );
    let nowhere = ledger
        .add_case_note(
            CaseId::new(99),
            NewCaseNote {
                author: "desk",
                note: "note",
            },
            2,
        )
        .await;
    assert!(
        matches!(nowhere, Err(LedgerError::NoSuchCase)),
        "{nowhere:?}"
    );
    let nowhere = ledger
        .close_case(CaseId::new(99), "desk", Decision::Undecided)
        .await;
    assert!(
        matches!(nowhere, Err(LedgerError::NoSuchCase)),
        "{nowhere:?}"
    );
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn cases_are_listed_newest_first_by_client_and_state() {
    let (log, sequencer) = with_scores(3).await;
    let ledger = &log.ledger;
    let mut ids = Vec::new();
    for (leaf_index, client) in [(0, "desk"), (1, "press"), (2, "desk")] {
        let case = NewCase {
            client,
            note: None,
            ..case(leaf_index)
        };
        ids.push(ledger.open_case(&case, 10_000).await.unwrap());
    }
    ledger
        .close_case(ids[0], "desk", Decision::Generated)
        .await
        .unwrap();
    let list = async |client, open, before, limit| {
        let page = ledger
            .list_cases(&CaseFilter { client, open }, before, limit)
            .await
            .unwrap();
        (
            page.cases.iter().map(|case| case.id).collect::<Vec<_>>(),
            page.next,
        )
    };
    assert_eq!(
        list(None, None, None, 2).await,
        (vec![ids[2], ids[1]], Some(ids[1]))
    );
    assert_eq!(
        list(None, None, Some(ids[1]), 2).await,
        (vec![ids[0]], None)
    );
    assert_eq!(list(Some("desk"), None, None, 9).await.0, [ids[2], ids[0]]);
    assert_eq!(list(Some("desk"), Some(true), None, 9).await.0, [ids[2]]);
    assert_eq!(list(None, Some(false), None, 9).await.0, [ids[0]]);
    assert_eq!(list(Some("\0"), None, None, 9).await.0, []);
    for limit in [0, PAGE_CASES_MAX + 1] {
        let page = ledger.list_cases(&CaseFilter::default(), None, limit).await;
        assert!(
            matches!(page, Err(LedgerError::CasePageSize { .. })),
            "{page:?}"
        );
    }
    sequencer.stop().await;
    log.finish().await;
}
