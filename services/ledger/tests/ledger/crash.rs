//! A sequencer that dies after each of its durable steps, and the one that comes after it.

use std::time::Duration;

use ledger::LedgerError;
use ledger::sequencer::Step;
use provenance::LeafIndex;

use crate::support::{TestLog, numbered, public_keys};

/// Five entries are recorded; then a sequencer dies after `step` of the batch with the sixth, whose
/// append keeps waiting; then another takes over.
async fn dies_after(step: Step) {
    let log = TestLog::start().await;
    let first = log.sequencer();
    log.append_numbered(0..5).await;
    first.stop().await;

    let doomed = log.sequencer_with(|options| {
        options.stop_after = Some(step);
        // Nobody gives the lease back, so the successor waits for its end.
        options.lease_duration = Duration::from_millis(300);
    });
    let ledger = log.ledger.clone();
    let append = tokio::spawn(async move { ledger.append(&numbered(5), None).await });
    let died = doomed.failure().await;
    assert!(matches!(died, LedgerError::StoppedOnPurpose), "{died:?}");

    let successor = log.sequencer();
    let appended = append.await.unwrap().unwrap();
    assert_eq!(appended.leaf_index, LeafIndex::new(5));
    appended.bundle.verify(&public_keys()).unwrap();
    log.append_numbered(6..9).await;
    successor.stop().await;
    let stored = log.checkpoint_store().read().await.unwrap();
    assert_eq!(stored, log.ledger.latest_checkpoint().await.unwrap());
    log.finish().await;
}

#[tokio::test]
async fn a_crash_before_the_commit_leaves_the_entry_in_the_queue() {
    dies_after(Step::Write).await;
}

#[tokio::test]
async fn a_crash_after_recording_is_repaired_by_the_next_sequencer() {
    dies_after(Step::Record).await;
}

#[tokio::test]
async fn a_crash_after_signing_is_repaired_by_the_next_sequencer() {
    dies_after(Step::Sign).await;
}

#[tokio::test]
async fn a_crash_after_storing_the_checkpoint_is_repaired_by_the_next_sequencer() {
    dies_after(Step::Store).await;
}

#[tokio::test]
async fn a_crash_after_publishing_loses_nothing() {
    dies_after(Step::Publish).await;
}

#[tokio::test]
async fn a_crash_in_the_very_first_checkpoint_is_repaired() {
    for step in [Step::Sign, Step::Store, Step::Publish] {
        let log = TestLog::start().await;
        let doomed = log.sequencer_with(|options| {
            options.stop_after = Some(step);
            options.lease_duration = Duration::from_millis(300);
        });
        let died = doomed.failure().await;
        assert!(matches!(died, LedgerError::StoppedOnPurpose), "{died:?}");
        let successor = log.sequencer();
        log.append_numbered(0..3).await;
        successor.stop().await;
        log.finish().await;
    }
}
