//! Who may sequence, and what is never signed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ledger::sequencer::{Sequencer, SequencerOptions};
use ledger::{Ledger, LedgerError, LedgerOptions};
use provenance::keys::Signable;
use provenance::{CheckpointSigner, KeyHolder, SigningFailure, TreeSize};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::sync::watch;

use crate::support::{
    ORIGIN, Running, TestLog, checkpoint_signer, generation, public_keys, signed, until,
};

#[tokio::test]
async fn a_second_sequencer_stands_by_and_takes_over() {
    let (log, first) = TestLog::running().await;
    log.append_numbered(0..3).await;
    let second = log.sequencer();
    log.append_numbered(3..6).await;
    assert!(log.ledger.sequencer_holder().await.unwrap().is_some());
    first.stop().await;
    log.append_numbered(6..9).await;
    second.stop().await;
    assert_eq!(log.ledger.sequencer_holder().await.unwrap(), None);
    log.finish().await;
}

#[tokio::test]
async fn two_sequencers_at_once_never_give_one_index_twice() {
    let (log, first) = TestLog::running().await;
    let second = log.sequencer();
    log.append_numbered(0..2).await;
    // The lease is torn from its holder again and again, as if its clock had stopped.
    for round in 0..6 {
        let mut connection = log.superuser().await;
        connection
            .execute("UPDATE sequencer_lease SET expires_at = '-infinity'")
            .await
            .unwrap();
        log.append_numbered(10 * (round + 1)..10 * (round + 1) + 8)
            .await;
    }
    let report = log.ledger.check().await.unwrap();
    assert_eq!(report.entries, TreeSize::new(50));
    first.stop().await;
    second.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn an_empty_log_gets_a_checkpoint_of_size_zero() {
    let (log, sequencer) = TestLog::running().await;
    until(async || log.ledger.latest_checkpoint().await.unwrap().is_some()).await;
    let checkpoint = log.ledger.latest_checkpoint().await.unwrap().unwrap();
    assert_eq!(checkpoint.unverified().tree_size, TreeSize::new(0));
    sequencer.stop().await;
    log.finish().await;
}

/// Holds the checkpoint key, and answers only while it is switched on.
#[derive(Debug)]
struct Switch {
    key: CheckpointSigner,
    on: watch::Receiver<bool>,
    asked: AtomicUsize,
}

impl KeyHolder for Switch {
    fn sign(&self, messages: &[Vec<u8>]) -> Result<Vec<[u8; 64]>, SigningFailure> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if !*self.on.borrow() {
            return Err(SigningFailure::Unavailable("it is off".to_owned()));
        }
        let read = messages.iter().cloned().map(Signable::parse);
        let read: Vec<_> = read.collect::<Result<_, _>>().unwrap();
        Ok(self.key.sign_read(&read).unwrap())
    }
}

#[tokio::test]
async fn a_signer_that_does_not_answer_is_waited_for_and_nothing_is_lost() {
    let log = TestLog::start().await;
    let (switch, on) = watch::channel(true);
    let key = checkpoint_signer();
    let holder = Arc::new(Switch {
        key: key.clone(),
        on,
        asked: AtomicUsize::new(0),
    });
    let signer = CheckpointSigner::held_by(holder.clone(), key.verifier());
    let options = SequencerOptions {
        retry_interval: Duration::from_millis(5),
        ..SequencerOptions::default()
    };
    let store = log.store.path().join("store");
    let sequencer = Sequencer::with_options(log.ledger.clone(), signer, store, options);
    let sequencer = Running::start(sequencer);
    log.append_numbered(0..2).await;
    switch.send_replace(false);
    let before = holder.asked.load(Ordering::SeqCst);
    let appending = {
        let (ledger, envelope) = (log.ledger.clone(), signed(generation("alice", "waits")));
        tokio::spawn(async move { ledger.append(&envelope, None).await })
    };
    until(async || holder.asked.load(Ordering::SeqCst) > before + 2).await;
    // It is recorded, and neither signed nor answered.
    let published = log.ledger.published_checkpoint().await.unwrap().unwrap();
    assert_eq!(published.unverified().tree_size, TreeSize::new(2));
    assert!(!appending.is_finished());
    switch.send_replace(true);
    let appended = appending.await.unwrap().unwrap();
    appended.bundle.verify(&public_keys()).unwrap();
    log.append_numbered(3..5).await;
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_sequencer_with_another_key_is_refused() {
    let log = TestLog::start().await;
    let stranger = CheckpointSigner::from_seed(ORIGIN, [9; 32]).unwrap();
    let store = log.store.path().join("store");
    let sequencer = Sequencer::new(log.ledger.clone(), stranger, store);
    let refused = sequencer.run(std::future::pending()).await;
    assert!(
        matches!(refused, Err(LedgerError::WrongKey { .. })),
        "{refused:?}"
    );
    log.finish().await;
}

#[tokio::test]
async fn a_restored_backup_is_noticed_and_nothing_is_signed_over_it() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..4).await;
    sequencer.stop().await;
    let backup = format!("{}_backup", log.database);
    copy_database(&log, &backup).await;
    let ledger = connect(&log, &log.database).await;
    let sequencer = Running::start(sequencer_on(&log, &ledger));
    ledger
        .append(&signed(generation("alice", "later")), None)
        .await
        .unwrap();
    sequencer.stop().await;
    ledger.close().await;

    let restored = connect(&log, &backup).await;
    let before = restored.latest_checkpoint().await.unwrap();
    let refused = Running::start(sequencer_on(&log, &restored))
        .failure()
        .await;
    let (recorded, signed) = (TreeSize::new(4), TreeSize::new(5));
    assert!(
        matches!(refused, LedgerError::RolledBack { recorded: r, signed: s } if r == recorded && s == signed),
        "{refused:?}"
    );
    assert_eq!(restored.latest_checkpoint().await.unwrap(), before);
    let kept = log.checkpoint_store().read().await.unwrap().unwrap();
    let report = restored.check_against(&[kept]).await.unwrap();
    assert!(!report.is_sound());
    restored.close().await;
    log.cluster.drop_database(&backup).await.unwrap();
    log.cluster.drop_database(&log.database).await.unwrap();
}

#[tokio::test]
async fn a_restored_backup_that_grew_another_way_is_noticed() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..4).await;
    sequencer.stop().await;
    // Another log of the same keys with other entries, brought in the place of this one.
    let other = TestLog::start().await;
    let sequencer = other.sequencer();
    other.append_numbered(4..9).await;
    sequencer.stop().await;
    let refused = Running::start(sequencer_on(&log, &other.ledger))
        .failure()
        .await;
    assert!(
        matches!(refused, LedgerError::Inconsistent { .. }),
        "{refused:?}"
    );
    other.finish().await;
    log.finish().await;
}

#[tokio::test]
async fn a_lost_checkpoint_store_is_noticed_and_can_be_adopted() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..4).await;
    sequencer.stop().await;
    std::fs::remove_dir_all(log.store.path().join("store")).unwrap();
    let refused = log.sequencer().failure().await;
    assert!(
        matches!(refused, LedgerError::CheckpointStoreMissing { .. }),
        "{refused:?}"
    );
    let adopted = sequencer_on(&log, &log.ledger)
        .adopt_published_checkpoint()
        .await
        .unwrap();
    assert_eq!(adopted.unverified().tree_size, TreeSize::new(4));
    let again = sequencer_on(&log, &log.ledger)
        .adopt_published_checkpoint()
        .await;
    assert!(
        matches!(again, Err(LedgerError::CheckpointStoreChanged)),
        "{again:?}"
    );
    let sequencer = log.sequencer();
    log.append_numbered(4..6).await;
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_damaged_checkpoint_store_is_refused() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..1).await;
    sequencer.stop().await;
    let file = log.store.path().join("store/checkpoint");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\n1\n", "\n2\n", 1)).unwrap();
    let refused = log.sequencer().failure().await;
    assert!(
        matches!(refused, LedgerError::CheckpointStoreDamaged { .. }),
        "{refused:?}"
    );
    std::fs::write(&file, text).unwrap();
    log.finish().await;
}

#[tokio::test]
async fn a_database_that_would_lose_what_it_confirmed_is_refused() {
    let log = TestLog::start().await;
    let statement = format!(
        "ALTER DATABASE {} SET synchronous_commit = off",
        log.database
    );
    let mut connection = log.superuser().await;
    connection.execute(AssertSqlSafe(statement)).await.unwrap();
    let options = LedgerOptions::new(log.cluster.database_url(&log.database), public_keys());
    let refused = Ledger::connect(&options).await.err().unwrap();
    assert!(
        matches!(&refused, LedgerError::NotDurable { setting, .. } if setting == "synchronous_commit"),
        "{refused:?}"
    );
    log.finish().await;
}

fn sequencer_on(log: &TestLog, ledger: &Ledger) -> Sequencer {
    Sequencer::with_options(
        ledger.clone(),
        checkpoint_signer(),
        log.store.path().join("store"),
        SequencerOptions::default(),
    )
}

async fn connect(log: &TestLog, database: &str) -> Ledger {
    let options = LedgerOptions::new(log.cluster.database_url(database), public_keys());
    Ledger::connect(&options).await.unwrap()
}

/// Closes the log's connections, as copying a database needs it for itself.
async fn copy_database(log: &TestLog, name: &str) {
    log.ledger.close().await;
    let mut connection = PgConnection::connect(&log.cluster.superuser_url("postgres"))
        .await
        .unwrap();
    let statement = format!(
        "CREATE DATABASE {name} TEMPLATE {} OWNER retrace_owner",
        log.database
    );
    connection.execute(AssertSqlSafe(statement)).await.unwrap();
}
