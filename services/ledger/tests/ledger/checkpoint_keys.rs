//! Another checkpoint key follows in the log itself, and the one before signs beside it for a time.

use std::time::Duration;

use ledger::LedgerError;
use ledger::sequencer::{CheckpointSigners, Sequencer, SequencerOptions, Step};
use provenance::{
    CheckpointKeySuccessionEntry, CheckpointKeys, CheckpointSigner, Entry, Envelope, KeyRequest,
    KeyRevocationEntry, LeafIndex, SignedCheckpoint, TreeSize,
};

use crate::support::{
    ORIGIN, Running, TestLog, checkpoint_signer, entry_signer, numbered, public_keys,
};

/// Longer than any test.
const FAR_MS: u64 = 1 << 52;

fn next_signer() -> CheckpointSigner {
    CheckpointSigner::from_seed(ORIGIN, [21; 32]).unwrap()
}

fn request(id: &str) -> KeyRequest {
    KeyRequest {
        request_id: id.to_owned(),
        created_at_ms: 1_700_000_900_000,
        client: "operator".to_owned(),
    }
}

fn succession(old: &CheckpointSigner, new: &CheckpointSigner, until_ms: u64) -> Envelope {
    let id = new.verifier().key_id();
    let statement = CheckpointKeySuccessionEntry::new(request(&id), old, new, until_ms).unwrap();
    Envelope::sign(&Entry::CheckpointKeySuccession(statement), &entry_signer()).unwrap()
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
        key: checkpoint_signer().verifier().key_id(),
        since: LeafIndex::new(since),
        reason: "its disk was lost".to_owned(),
    };
    Envelope::sign(&Entry::KeyRevocation(statement), &entry_signer()).unwrap()
}

/// Starts a sequencer with the first key, which finds the next one when it is asked for it.
fn finding(log: &TestLog, change: impl FnOnce(&mut SequencerOptions)) -> Running {
    let signers = CheckpointSigners::from(checkpoint_signer())
        .or_find(|key| Some(next_signer()).filter(|next| next.verifier() == *key));
    with_signers(log, signers, change)
}

fn with_signers(
    log: &TestLog,
    signers: impl Into<CheckpointSigners>,
    change: impl FnOnce(&mut SequencerOptions),
) -> Running {
    let mut options = SequencerOptions {
        poll_interval: Duration::from_millis(20),
        retry_interval: Duration::from_millis(20),
        ..SequencerOptions::default()
    };
    change(&mut options);
    let store = log.store.path().join("store");
    Running::start(Sequencer::with_options(
        log.ledger.clone(),
        signers,
        store,
        options,
    ))
}

/// Who has signed the newest checkpoint: the first key, the next one.
async fn signers(log: &TestLog) -> (bool, bool) {
    let newest = newest(log).await;
    let by = |key: &CheckpointSigner| newest.verify(&key.verifier()).is_ok();
    (by(&checkpoint_signer()), by(&next_signer()))
}

async fn newest(log: &TestLog) -> SignedCheckpoint {
    log.ledger.published_checkpoint().await.unwrap().unwrap()
}

#[tokio::test]
async fn both_keys_sign_during_the_transition_and_the_new_one_alone_after_it() {
    let log = TestLog::start().await;
    let sequencer = finding(&log, |_| {});
    log.append_numbered(0..3).await;
    assert_eq!(signers(&log).await, (true, false));
    // Under load.
    let change = succession(&checkpoint_signer(), &next_signer(), FAR_MS);
    let (changed, ()) = tokio::join!(log.ledger.append(&change, None), log.append_numbered(3..40));
    let place = changed.unwrap().leaf_index;
    log.append_numbered(40..42).await;
    assert_eq!(signers(&log).await, (true, true));
    for number in [0, 20, 41] {
        let again = log.ledger.append(&numbered(number), None).await.unwrap();
        let proven = again.bundle.verify(&public_keys()).unwrap();
        assert!(proven.checkpoint.tree_size.contains(place));
    }
    let file = log.ledger.key_file().await.unwrap();
    let known = file.history().unwrap();
    assert!(known.checkpoints().verify(&newest(&log).await).is_ok());

    // A revocation ends the transition.
    let revoked = log.ledger.append(&revocation(place.get()), None).await;
    revoked.unwrap().bundle.verify(&public_keys()).unwrap();
    assert_eq!(signers(&log).await, (false, true));
    sequencer.stop().await;
    let pinned = CheckpointKeys::from(public_keys().checkpoint);
    let refusal = pinned.verify(&newest(&log).await).unwrap_err();
    assert_eq!(refusal.code(), "checkpoint-key-unseen");
    assert!(known.checkpoints().verify(&newest(&log).await).is_ok());

    // The new key alone goes on, and the old one alone does not.
    let stale = log.sequencer().failure().await;
    assert!(matches!(stale, LedgerError::WrongKey { .. }), "{stale:?}");
    let successor = with_signers(&log, next_signer(), |_| {});
    log.append_numbered(50..52).await;
    successor.stop().await;
    let report = log.ledger.check().await.unwrap();
    let windows: Vec<_> = report
        .checkpoint_keys
        .iter()
        .map(|key| (key.from.get(), key.until.map(TreeSize::get)))
        .collect();
    let until = place.get();
    assert_eq!(windows, [(0, Some(until)), (until + 1, None)]);
    log.finish().await;
}

#[tokio::test]
async fn a_transition_ends_with_its_time() {
    let log = TestLog::start().await;
    let sequencer = finding(&log, |_| {});
    log.append_numbered(0..2).await;
    let change = succession(&checkpoint_signer(), &next_signer(), 1);
    log.ledger.append(&change, None).await.unwrap();
    assert_eq!(signers(&log).await, (false, true));
    // Another handle, which has seen nothing yet, learns of it from the log.
    let bundle = log.ledger.bundle(LeafIndex::new(0), None).await.unwrap();
    bundle.verify(&public_keys()).unwrap();
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_key_that_nobody_here_holds_is_not_recorded() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..2).await;
    let change = succession(&checkpoint_signer(), &next_signer(), FAR_MS);
    let refused = log.ledger.append(&change, None).await;
    assert!(
        matches!(refused, Err(LedgerError::KeyStatement { .. })),
        "{refused:?}"
    );
    let unproven = succession(&next_signer(), &next_signer(), FAR_MS);
    let refused = log.ledger.append(&unproven, None).await;
    assert!(
        matches!(refused, Err(LedgerError::KeyStatement { .. })),
        "{refused:?}"
    );
    log.append_numbered(2..4).await;
    assert_eq!(signers(&log).await, (true, false));
    sequencer.stop().await;
    log.finish().await;
}

/// A sequencer that dies after a step of the batch in which the key changes; the next one goes on with the keys
/// that the record names.
#[tokio::test]
async fn a_crash_while_the_key_changes_leaves_a_log_that_goes_on() {
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
        let doomed = finding(&log, |options| {
            options.stop_after = Some(step);
            options.lease_duration = Duration::from_millis(300);
        });
        let ledger = log.ledger.clone();
        let change = succession(&checkpoint_signer(), &next_signer(), FAR_MS);
        let append = tokio::spawn(async move { ledger.append(&change, None).await });
        let died = doomed.failure().await;
        assert!(matches!(died, LedgerError::StoppedOnPurpose), "{died:?}");
        let held = vec![next_signer(), checkpoint_signer()];
        let successor = with_signers(&log, CheckpointSigners::new(held), |_| {});
        let appended = append.await.unwrap().unwrap();
        assert_eq!(appended.leaf_index, LeafIndex::new(2));
        assert_eq!(signers(&log).await, (true, true), "{step:?}");
        let appended = log.ledger.append(&numbered(3), None).await.unwrap();
        appended.bundle.verify(&public_keys()).unwrap();
        successor.stop().await;
        log.finish().await;
    }
}

/// A log that was set back to before the change does not know the key that has signed since.
#[tokio::test]
async fn a_log_set_back_behind_the_change_is_noticed() {
    let log = TestLog::start().await;
    let sequencer = finding(&log, |_| {});
    log.append_numbered(0..2).await;
    let change = succession(&checkpoint_signer(), &next_signer(), 1);
    log.ledger.append(&change, None).await.unwrap();
    sequencer.stop().await;
    log.break_in(
        "DELETE FROM checkpoints WHERE tree_size > 2; DELETE FROM nodes WHERE level = 0 AND node_index > 1;
         DELETE FROM entry_times; DELETE FROM entries WHERE leaf_index > 1",
    )
    .await;
    let refused = finding(&log, |_| {}).failure().await;
    assert!(
        matches!(refused, LedgerError::RolledBack { .. }),
        "{refused:?}"
    );
    log.remove().await;
}
