//! Another entry key follows, and an earlier one is revoked, in the log itself.

use std::time::Duration;

use ledger::sequencer::Step;
use ledger::{EntryFilter, LedgerError, SignedEntry};
use provenance::{
    Bundle, Entry, EntrySigner, Envelope, KeyRequest, KeyRevocationEntry, KeySuccessionEntry,
    LeafIndex,
};

use crate::support::{
    ORIGIN, TestLog, checkpoint_signer, entry_signer, generation, numbered, public_keys,
};

fn next_signer() -> EntrySigner {
    EntrySigner::from_seed(ORIGIN, [11; 32]).unwrap()
}

fn request(id: &str) -> KeyRequest {
    KeyRequest {
        request_id: id.to_owned(),
        created_at_ms: 1_700_000_900_000,
        client: "operator".to_owned(),
    }
}

fn succession(id: &str, old: &EntrySigner, new: &EntrySigner) -> Envelope {
    let statement = KeySuccessionEntry::new(request(id), &old.verifier(), new).unwrap();
    Envelope::sign(&Entry::KeySuccession(statement), old).unwrap()
}

fn revocation(since: u64) -> Envelope {
    let KeyRequest {
        request_id,
        created_at_ms,
        client,
    } = request("revocation");
    let statement = KeyRevocationEntry {
        request_id,
        created_at_ms,
        client,
        key: entry_signer().verifier().key_id(),
        since: LeafIndex::new(since),
        reason: "its disk was lost".to_owned(),
    };
    Envelope::sign(&Entry::KeyRevocation(statement), &next_signer()).unwrap()
}

/// A generation of this number under the next key.
fn numbered_next(number: usize) -> Envelope {
    let entry = Entry::Generation(generation("alice", &format!("request-{number}")));
    Envelope::sign(&entry, &next_signer()).unwrap()
}

fn entry(envelope: Envelope) -> SignedEntry {
    SignedEntry {
        envelope,
        secret: None,
    }
}

async fn bundle(log: &TestLog, place: u64) -> Bundle {
    log.ledger
        .bundle(LeafIndex::new(place), None)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_next_key_signs_behind_its_statement_and_the_old_one_no_more() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..2).await;
    let place = log
        .ledger
        .append(&numbered(2), None)
        .await
        .unwrap()
        .leaf_index;
    // Both sides of the change in one go.
    let together = [
        entry(numbered(3)),
        entry(succession("1", &entry_signer(), &next_signer())),
        entry(numbered_next(4)),
        entry(numbered_next(5)),
    ];
    let appended = log.ledger.append_all(&together).await.unwrap();
    let places: Vec<u64> = appended.iter().map(|it| it.leaf_index.get()).collect();
    assert_eq!(places, [3, 4, 5, 6]);
    for appended in &appended {
        appended.bundle.verify(&public_keys()).unwrap();
    }
    let refused = log.ledger.append(&numbered(7), None).await;
    assert!(
        matches!(refused, Err(LedgerError::KeyRetired)),
        "{refused:?}"
    );
    let another = succession(
        "2",
        &entry_signer(),
        &EntrySigner::from_seed(ORIGIN, [12; 32]).unwrap(),
    );
    let refused = log.ledger.append(&another, None).await;
    assert!(
        matches!(refused, Err(LedgerError::KeyRetired)),
        "{refused:?}"
    );
    // What the old key has signed before is recorded, and stays so.
    let again = log.ledger.append(&numbered(2), None).await.unwrap();
    assert_eq!(again.leaf_index, place);
    sequencer.stop().await;

    // Another process learns of it from the log.
    let successor = log.sequencer();
    let appended = log.ledger.append(&numbered_next(8), None).await.unwrap();
    assert_eq!(appended.leaf_index, LeafIndex::new(7));
    let history = log.ledger.key_history().await.unwrap();
    assert_eq!(history.current().verifier, next_signer().verifier());
    let report = log.ledger.check().await.unwrap();
    let windows: Vec<_> = report
        .entry_keys
        .iter()
        .map(|key| (key.from.get(), key.until))
        .collect();
    assert_eq!(windows, [(0, Some(LeafIndex::new(4))), (5, None)]);
    for (key, expected) in [
        (entry_signer().verifier().key_id(), vec![4, 3, 2, 1, 0]),
        (next_signer().verifier().key_id(), vec![7, 6, 5]),
    ] {
        let filter = EntryFilter {
            key: Some(key),
            ..EntryFilter::default()
        };
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = log.ledger.search(&filter, after, 2).await.unwrap();
            found.extend(page.entries.iter().map(|entry| entry.leaf_index.get()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, expected);
        let mut walk = log.ledger.walk(filter, None).await.unwrap();
        let walked = walk.next_page().await.unwrap().into_iter();
        let walked: Vec<u64> = walked.rev().map(|entry| entry.leaf_index.get()).collect();
        assert_eq!(walked, expected);
    }
    let nobody = EntryFilter {
        key: Some("nobody".to_owned()),
        ..EntryFilter::default()
    };
    let refused = log.ledger.search(&nobody, None, 1).await;
    assert!(matches!(refused, Err(LedgerError::UnknownKey { .. })));
    successor.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_statement_about_keys_that_breaks_a_rule_is_refused_and_the_log_goes_on() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..2).await;
    let same = succession("1", &entry_signer(), &entry_signer());
    let mut unproven =
        KeySuccessionEntry::new(request("2"), &entry_signer().verifier(), &next_signer()).unwrap();
    unproven.new_key = checkpoint_signer().verifier().to_string();
    let unproven = Envelope::sign(&Entry::KeySuccession(unproven), &entry_signer()).unwrap();
    for refused in [same, unproven] {
        let refused = log.ledger.append(&refused, None).await;
        assert!(
            matches!(refused, Err(LedgerError::KeyStatement { .. })),
            "{refused:?}"
        );
    }
    // The next key before it was named.
    let refused = log.ledger.append(&numbered_next(3), None).await;
    assert!(
        matches!(refused, Err(LedgerError::BadSignature)),
        "{refused:?}"
    );
    let appended = log.ledger.append(&numbered(4), None).await.unwrap();
    assert_eq!(appended.leaf_index, LeafIndex::new(2));
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_revocation_takes_back_what_lies_behind_it_and_every_bundle_says_so() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..3).await;
    let change = succession("1", &entry_signer(), &next_signer());
    log.ledger.append(&change, None).await.unwrap();
    let before = bundle(&log, 2).await;
    before.verify(&public_keys()).unwrap();
    log.ledger.append(&revocation(2), None).await.unwrap();
    let refused = bundle(&log, 2).await.verify(&public_keys()).unwrap_err();
    assert_eq!(refused.code(), "key-revoked");
    for place in [0, 1, 3, 4] {
        bundle(&log, place).await.verify(&public_keys()).unwrap();
    }
    let file = log.ledger.key_file().await.unwrap();
    let history = file.history().unwrap();
    assert_eq!(history, log.ledger.key_history().await.unwrap());
    let refused = before.verify_entry_under(&history).unwrap_err();
    assert_eq!(refused.code(), "key-revoked");
    let report = log.ledger.check().await.unwrap();
    assert_eq!(report.entry_keys[0].revoked_since, Some(LeafIndex::new(2)));
    sequencer.stop().await;
    log.finish().await;
}

/// A sequencer that dies after a step of the batch in which the key changes; the next one goes on with the key
/// that the record names.
#[tokio::test]
async fn a_crash_while_the_key_changes_leaves_the_old_key_or_the_new_one() {
    for step in [
        Step::Write,
        Step::Record,
        Step::Sign,
        Step::Store,
        Step::Publish,
    ] {
        let log = TestLog::start().await;
        let first = log.sequencer();
        log.append_numbered(0..2).await;
        first.stop().await;
        let doomed = log.sequencer_with(|options| {
            options.stop_after = Some(step);
            options.lease_duration = Duration::from_millis(300);
        });
        let ledger = log.ledger.clone();
        let change = succession("1", &entry_signer(), &next_signer());
        let append = tokio::spawn(async move { ledger.append(&change, None).await });
        let died = doomed.failure().await;
        assert!(matches!(died, LedgerError::StoppedOnPurpose), "{died:?}");
        let successor = log.sequencer();
        let appended = append.await.unwrap().unwrap();
        assert_eq!(appended.leaf_index, LeafIndex::new(2));
        let appended = log.ledger.append(&numbered_next(3), None).await.unwrap();
        assert_eq!(appended.leaf_index, LeafIndex::new(3));
        appended.bundle.verify(&public_keys()).unwrap();
        let refused = log.ledger.append(&numbered(4), None).await;
        assert!(
            matches!(refused, Err(LedgerError::KeyRetired)),
            "{refused:?}"
        );
        successor.stop().await;
        log.finish().await;
    }
}

/// Whoever changes the database cannot slip a key in.
#[tokio::test]
async fn a_key_that_the_log_never_named_is_found_and_nothing_is_signed_over_it() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..2).await;
    let change = succession("1", &entry_signer(), &next_signer());
    log.ledger.append(&change, None).await.unwrap();
    log.append_next(3..5).await;
    sequencer.stop().await;
    let forged = succession(
        "1",
        &next_signer(),
        &EntrySigner::from_seed(ORIGIN, [13; 32]).unwrap(),
    );
    let hex: String = forged
        .to_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    log.break_in(&format!(
        "UPDATE entries SET envelope = '\\x{hex}' WHERE leaf_index = 2"
    ))
    .await;
    let report = log.ledger.check().await.unwrap();
    assert!(!report.is_sound());
    let refused = log.ledger.key_history().await.unwrap_err();
    assert!(matches!(refused, LedgerError::Provenance(_)), "{refused:?}");
    let failure = log.sequencer().failure().await;
    assert!(matches!(failure, LedgerError::Provenance(_)), "{failure:?}");
    log.remove().await;
}

impl TestLog {
    /// Records numbered entries under the next key.
    async fn append_next(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            self.ledger
                .append(&numbered_next(number), None)
                .await
                .unwrap();
        }
    }
}
