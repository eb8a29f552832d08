//! What the log hands out once witnesses have cosigned, and what it does not.

use std::time::Duration;

use ledger::{LedgerError, Problem};
use provenance::{TreeSize, WitnessPolicy, WitnessSigner};

use crate::support::{TestLog, numbered};

const TIME_S: u64 = 1_700_000_000;

fn witness(number: u8) -> WitnessSigner {
    WitnessSigner::from_seed(&format!("witness.test/w{number}"), [number; 32]).unwrap()
}

/// Witnesses 11 and 12, with this quorum.
fn policy(quorum: &str) -> WitnessPolicy {
    let (first, second) = (
        witness(11).verifier().clone(),
        witness(12).verifier().clone(),
    );
    let text =
        format!("witness a {first}\nwitness b {second}\ngroup both all a b\nquorum {quorum}\n");
    WitnessPolicy::parse(&text).unwrap()
}

/// Cosigns the newest published checkpoint, as a witness that was asked would have.
async fn cosign(log: &TestLog, number: u8) -> TreeSize {
    let checkpoint = log.ledger.published_checkpoint().await.unwrap().unwrap();
    let signer = witness(number);
    let line = signer.cosign(&checkpoint, TIME_S);
    let added = log
        .ledger
        .add_cosignature(&checkpoint, signer.verifier(), &line);
    added.await.unwrap();
    checkpoint.unverified().tree_size
}

#[tokio::test]
async fn without_a_quorum_nobody_waits_and_lines_are_handed_out_as_they_come() {
    let log = TestLog::with(|options| options.witnesses = policy("none")).await;
    let sequencer = log.sequencer();
    log.append_numbered(0..3).await;
    let latest = log.ledger.latest_checkpoint().await.unwrap().unwrap();
    assert_eq!(latest.signature_count(), 1);
    let size = cosign(&log, 11).await;
    // A stranger's line is kept and not handed out; a second one of the same witness changes nothing.
    cosign(&log, 13).await;
    cosign(&log, 11).await;
    let latest = log.ledger.latest_checkpoint().await.unwrap().unwrap();
    assert_eq!(latest.signature_count(), 2);
    assert_eq!(log.ledger.checkpoint(size).await.unwrap(), latest);
    assert_eq!(
        log.ledger.witnessed_checkpoint().await.unwrap(),
        Some(latest)
    );
    let key = witness(11).verifier().clone();
    assert_eq!(log.ledger.size_cosigned_by(&key).await.unwrap(), size);
    let other = witness(12).verifier().clone();
    assert_eq!(
        log.ledger.size_cosigned_by(&other).await.unwrap(),
        TreeSize::new(0)
    );
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn an_append_waits_for_the_quorum_that_is_demanded() {
    let log = TestLog::with(|options| {
        options.witnesses = policy("both");
        options.append_timeout = Duration::from_secs(60);
    })
    .await;
    let sequencer = log.sequencer();
    let ledger = log.ledger.clone();
    let append = tokio::spawn(async move { ledger.append(&numbered(0), None).await });
    crate::support::until(async || {
        let published = log.ledger.published_checkpoint().await.unwrap();
        published.is_some_and(|signed| signed.unverified().tree_size == TreeSize::new(1))
    })
    .await;
    cosign(&log, 11).await;
    // One of two: there is nothing to answer with.
    assert_eq!(log.ledger.witnessed_checkpoint().await.unwrap(), None);
    assert!(!append.is_finished());
    cosign(&log, 12).await;
    let appended = append.await.unwrap().unwrap();
    let checkpoint = appended.bundle.checkpoint();
    let keys = log.ledger.public_keys().clone();
    let found = policy("both")
        .verify(checkpoint, &keys.checkpoint.clone().into())
        .unwrap();
    assert_eq!((found.known.len(), found.unknown_lines), (2, 0));
    // A newer checkpoint that lacks the quorum does not take the place of the one that has it.
    let queued = log.ledger.clone();
    let waiting = tokio::spawn(async move { queued.append(&numbered(1), None).await });
    crate::support::until(async || {
        let published = log.ledger.published_checkpoint().await.unwrap();
        published.is_some_and(|signed| signed.unverified().tree_size == TreeSize::new(2))
    })
    .await;
    cosign(&log, 11).await;
    let witnessed = log.ledger.witnessed_checkpoint().await.unwrap().unwrap();
    assert_eq!(witnessed.unverified().tree_size, TreeSize::new(1));
    let bundle = log.ledger.bundle(appended.leaf_index, None).await.unwrap();
    assert_eq!(bundle.checkpoint(), checkpoint);
    cosign(&log, 12).await;
    waiting.await.unwrap().unwrap();
    let witnessed = log.ledger.witnessed_checkpoint().await.unwrap().unwrap();
    assert_eq!(witnessed.unverified().tree_size, TreeSize::new(2));
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_line_that_the_witness_has_not_signed_is_not_recorded_and_a_changed_one_is_found() {
    let log = TestLog::with(|options| options.witnesses = policy("none")).await;
    let sequencer = log.sequencer();
    log.append_numbered(0..2).await;
    let checkpoint = log.ledger.published_checkpoint().await.unwrap().unwrap();
    let (a, b) = (witness(11), witness(12));
    let line = b.cosign(&checkpoint, TIME_S);
    let refusal = log
        .ledger
        .add_cosignature(&checkpoint, a.verifier(), &line)
        .await;
    assert!(
        matches!(refusal, Err(LedgerError::Provenance(_))),
        "{refusal:?}"
    );
    let size = cosign(&log, 11).await;
    let earlier = a.cosign(&checkpoint, TIME_S - 1);
    let (_, tail) = earlier.rsplit_once(' ').unwrap();
    let mut changed = a.cosign(&checkpoint, TIME_S);
    let head = changed.len() - tail.len();
    // The time of one signature with the rest of another.
    changed.replace_range(head..head + 16, &tail[..16]);
    let statement = format!(
        "ALTER TABLE cosignatures DISABLE TRIGGER USER;
         UPDATE cosignatures SET line = '{changed}';
         ALTER TABLE cosignatures ENABLE ALWAYS TRIGGER cosignatures_append_only"
    );
    log.break_in(&statement).await;
    let latest = log.ledger.latest_checkpoint().await.unwrap().unwrap();
    assert_eq!(latest.signature_count(), 1, "it is not handed out");
    let report = log.ledger.check().await.unwrap();
    let located = |problem: &Problem| {
        matches!(problem, Problem::Cosignature { tree_size, witness, .. }
            if *tree_size == size && *witness == a.verifier().key_id())
    };
    assert!(
        report.problems.len() == 1 && located(&report.problems[0]),
        "{:?}",
        report.problems
    );
    sequencer.stop().await;
    log.remove().await;
}
