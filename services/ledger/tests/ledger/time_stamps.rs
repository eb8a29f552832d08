//! Time stamps of checkpoints: kept once, handed out newest first, and looked at in a check.

use ledger::{LedgerError, Problem};
use provenance::{SignedCheckpoint, TreeSize};

use crate::support::TestLog;

/// What stands here for the answer of an authority.
fn stamp(note: &str) -> Vec<u8> {
    format!("stamped: {note}").into_bytes()
}

fn verify(note: &[u8], reply: &[u8]) -> Result<(), String> {
    match reply.strip_prefix(b"stamped: ") == Some(note) {
        true => Ok(()),
        false => Err("it stamps something else".to_owned()),
    }
}

async fn newest(log: &TestLog) -> SignedCheckpoint {
    log.ledger.published_checkpoint().await.unwrap().unwrap()
}

#[tokio::test]
async fn time_stamps_are_of_published_checkpoints_and_changed_ones_are_found() {
    let log = TestLog::with(|options| options.time_stamps = Some(verify)).await;
    let sequencer = log.sequencer();
    let mut sizes = Vec::new();
    assert_eq!(log.ledger.newest_time_stamp().await.unwrap(), None);
    for round in 0..3 {
        log.append_numbered(round * 2..round * 2 + 2).await;
        let checkpoint = newest(&log).await;
        let reply = stamp(&checkpoint.text());
        log.ledger
            .add_time_stamp(&checkpoint, reply.clone())
            .await
            .unwrap();
        // A second one changes nothing.
        log.ledger.add_time_stamp(&checkpoint, reply).await.unwrap();
        sizes.insert(0, checkpoint.unverified().tree_size);
    }
    let last = newest(&log).await;
    let foreign = stamp("another note");
    let refused = log.ledger.add_time_stamp(&last, foreign).await;
    assert!(
        matches!(refused, Err(LedgerError::TimeStampRefused { .. })),
        "{refused:?}"
    );
    let (size, age) = log.ledger.newest_time_stamp().await.unwrap().unwrap();
    assert_eq!(size, sizes[0]);
    assert!(age.as_secs() < 3_600, "{age:?}");
    let listed = log.ledger.time_stamps(None, 100).await.unwrap();
    let found: Vec<TreeSize> = listed.iter().map(|kept| kept.tree_size).collect();
    assert_eq!(found, sizes);
    assert_eq!(listed[0].note, last.text());
    let older = log.ledger.time_stamps(Some(sizes[0]), 1).await.unwrap();
    assert_eq!(older[0].tree_size, sizes[1]);
    for limit in [0, 101] {
        let refused = log.ledger.time_stamps(None, limit).await;
        assert!(matches!(
            refused,
            Err(LedgerError::TimeStampPageSize { .. })
        ));
    }
    let none = log.ledger.time_stamp(TreeSize::new(1_000)).await;
    assert!(matches!(none, Err(LedgerError::NoTimeStamp { .. })));
    let report = log.ledger.check().await.unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(report.time_stamps, 3);

    // A superuser puts the stamp of one checkpoint in the place of another's.
    let (from, to) = (sizes[0], sizes[2]);
    let statement = format!(
        "ALTER TABLE checkpoint_time_stamps DISABLE TRIGGER USER;
         UPDATE checkpoint_time_stamps SET reply =
             (SELECT reply FROM checkpoint_time_stamps WHERE tree_size = {from}) WHERE tree_size = {to};
         ALTER TABLE checkpoint_time_stamps ENABLE ALWAYS TRIGGER checkpoint_time_stamps_append_only"
    );
    log.break_in(&statement).await;
    let report = log.ledger.check().await.unwrap();
    let expected = Problem::TimeStamp {
        tree_size: to,
        detail: "it stamps something else".to_owned(),
    };
    assert_eq!(report.problems, [expected]);
    sequencer.stop().await;
    log.remove().await;
}
