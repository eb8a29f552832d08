//! Appending, from the caller's side.

use std::collections::BTreeSet;
use std::time::Duration;

use ledger::{LedgerError, PromptSecret};
use provenance::{Bundle, EntrySigner, Envelope, LeafIndex};

use crate::support::{ORIGIN, TestLog, generation, numbered, public_keys, score, secret, signed};

#[tokio::test]
async fn an_appended_entry_comes_back_with_a_bundle_that_verifies_offline() {
    let (log, sequencer) = TestLog::running().await;
    let envelope = signed(generation("alice", "request"));
    let appended = log.ledger.append(&envelope, Some(secret())).await.unwrap();
    let bytes = appended.bundle.to_bytes();
    let verified = Bundle::parse(&bytes)
        .unwrap()
        .verify(&public_keys())
        .unwrap();
    assert_eq!(verified.leaf_index, appended.leaf_index);
    assert_eq!(verified.leaf_hash, envelope.leaf_hash());
    assert_eq!(verified.entry, envelope.unverified_entry().unwrap());
    let recorded = log.ledger.entry(appended.leaf_index).await.unwrap();
    assert_eq!(recorded.envelope, envelope);
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn concurrent_appends_get_leaf_indexes_without_gaps() {
    let (log, sequencer) = TestLog::running().await;
    let appends: Vec<_> = (0..60)
        .map(|number| {
            let ledger = log.ledger.clone();
            tokio::spawn(async move { ledger.append(&numbered(number), None).await })
        })
        .collect();
    let mut places = BTreeSet::new();
    for append in appends {
        let appended = append.await.unwrap().unwrap();
        appended.bundle.verify(&public_keys()).unwrap();
        places.insert(appended.leaf_index.get());
    }
    assert_eq!(places, (0..60).collect());
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn appending_the_same_envelope_again_answers_with_the_same_place() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..3).await;
    let first = log.ledger.append(&numbered(5), None).await.unwrap();
    log.append_numbered(6..9).await;
    let again = log.ledger.append(&numbered(5), None).await.unwrap();
    assert_eq!(again.leaf_index, first.leaf_index);
    assert_eq!(again.leaf_hash, first.leaf_hash);
    again.bundle.verify(&public_keys()).unwrap();
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn concurrent_appends_of_one_envelope_record_it_once() {
    let (log, sequencer) = TestLog::running().await;
    let appends: Vec<_> = (0..16)
        .map(|_| {
            let ledger = log.ledger.clone();
            tokio::spawn(async move { ledger.append(&numbered(1), None).await })
        })
        .collect();
    for append in appends {
        assert_eq!(append.await.unwrap().unwrap().leaf_index, LeafIndex::new(0));
    }
    let report = log.ledger.check().await.unwrap();
    assert_eq!(report.entries.get(), 1);
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn another_entry_for_a_recorded_request_is_refused() {
    let (log, sequencer) = TestLog::running().await;
    let mut entry = generation("alice", "request");
    log.ledger
        .append(&signed(entry.clone()), None)
        .await
        .unwrap();
    entry.created_at_ms += 1;
    let refused = log.ledger.append(&signed(entry.clone()), None).await;
    assert!(
        matches!(refused, Err(LedgerError::RequestConflict)),
        "{refused:?}"
    );
    entry.image_index = 1;
    log.ledger
        .append(&signed(entry.clone()), None)
        .await
        .unwrap();
    entry.client = "bob".to_owned();
    log.ledger.append(&signed(entry), None).await.unwrap();
    // A score of the same request is another kind of statement.
    log.ledger
        .append(&signed(score("alice", "request")), None)
        .await
        .unwrap();
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn two_waiting_entries_for_one_request_conflict_in_the_queue() {
    let log = TestLog::with(|options| options.append_timeout = Duration::ZERO).await;
    let mut entry = generation("alice", "request");
    let queued = log.ledger.append(&signed(entry.clone()), None).await;
    assert!(
        matches!(queued, Err(LedgerError::NotYetPublished { .. })),
        "{queued:?}"
    );
    entry.created_at_ms += 1;
    let refused = log.ledger.append(&signed(entry), None).await;
    assert!(
        matches!(refused, Err(LedgerError::RequestConflict)),
        "{refused:?}"
    );
    log.finish().await;
}

#[tokio::test]
async fn an_entry_signed_by_another_key_is_refused_and_its_prompt_forgotten() {
    let (log, sequencer) = TestLog::running().await;
    let stranger = EntrySigner::from_seed(ORIGIN, [9; 32]).unwrap();
    let entry = provenance::Entry::Generation(generation("alice", "request"));
    let forged = Envelope::sign(&entry, &stranger).unwrap();
    for _ in 0..2 {
        let refused = log.ledger.append(&forged, Some(secret())).await;
        assert!(
            matches!(refused, Err(LedgerError::BadSignature)),
            "{refused:?}"
        );
    }
    let (prompts,): (i64,) = sqlx::query_as("SELECT count(*) FROM prompts")
        .fetch_one(&mut log.superuser().await)
        .await
        .unwrap();
    assert_eq!(prompts, 0);
    // The request itself can still be answered.
    let appended = log
        .ledger
        .append(&signed(generation("alice", "request")), None)
        .await;
    assert_eq!(appended.unwrap().leaf_index, LeafIndex::new(0));
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_prompt_that_does_not_open_the_commitment_is_refused() {
    let log = TestLog::start().await;
    let mut wrong = secret();
    wrong.prompt.push('!');
    let envelope = signed(generation("alice", "request"));
    let refused = log.ledger.append(&envelope, Some(wrong)).await;
    assert!(
        matches!(refused, Err(LedgerError::SecretMismatch)),
        "{refused:?}"
    );
    let refused = log
        .ledger
        .append(&signed(score("alice", "r")), Some(secret()))
        .await;
    assert!(
        matches!(refused, Err(LedgerError::SecretMismatch)),
        "{refused:?}"
    );
    log.finish().await;
}

#[tokio::test]
async fn an_erased_prompt_leaves_the_log_valid() {
    let (log, sequencer) = TestLog::running().await;
    let envelope = signed(generation("alice", "request"));
    let place = log
        .ledger
        .append(&envelope, Some(secret()))
        .await
        .unwrap()
        .leaf_index;
    let kept: Option<PromptSecret> = log.ledger.prompt(place).await.unwrap();
    assert_eq!(kept, Some(secret()));
    assert!(log.ledger.erase_prompt(place).await.unwrap());
    assert!(!log.ledger.erase_prompt(place).await.unwrap());
    assert_eq!(log.ledger.prompt(place).await.unwrap(), None);
    // Trying the append again must not bring back what was to be forgotten.
    log.ledger.append(&envelope, Some(secret())).await.unwrap();
    assert_eq!(log.ledger.prompt(place).await.unwrap(), None);
    let bundle = log.ledger.bundle(place, None).await.unwrap();
    bundle.verify(&public_keys()).unwrap();
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn an_entry_without_a_sequencer_stays_queued_until_there_is_one() {
    let log = TestLog::with(|options| options.append_timeout = Duration::from_millis(1)).await;
    let not_yet = log.ledger.append(&numbered(1), None).await;
    assert!(
        matches!(not_yet, Err(LedgerError::NotYetPublished { .. })),
        "{not_yet:?}"
    );
    let sequencer = log.sequencer();
    loop {
        match log.ledger.append(&numbered(1), None).await {
            Ok(appended) => break assert_eq!(appended.leaf_index, LeafIndex::new(0)),
            Err(error) => assert!(matches!(error, LedgerError::NotYetPublished { .. })),
        }
    }
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_full_queue_refuses_more() {
    let log = TestLog::with(|options| {
        options.append_timeout = Duration::ZERO;
        options.pending_max = 2;
    })
    .await;
    for number in 0..3 {
        let queued = log.ledger.append(&numbered(number), None).await;
        assert!(
            matches!(queued, Err(LedgerError::NotYetPublished { .. })),
            "{queued:?}"
        );
    }
    let refused = log.ledger.append(&numbered(3), None).await;
    assert!(
        matches!(refused, Err(LedgerError::QueueFull { pending_max: 2 })),
        "{refused:?}"
    );
    log.finish().await;
}
