//! Backups, and databases that are made of them.

use std::fs;
use std::path::{Path, PathBuf};

use ledger::{EntryFilter, Ledger, LedgerError, LedgerOptions, Problem, Scope, restore};
use provenance::SignedCheckpoint;

use crate::support::{TestLog, numbered, public_keys, score, secret, signed};

/// A log with entries, prompts, clients and something in the queue; and its backup.
async fn backed_up() -> (TestLog, PathBuf) {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..20).await;
    log.ledger
        .append(&numbered(20), Some(secret()))
        .await
        .unwrap();
    log.ledger
        .append(&signed(score("bob", "21")), None)
        .await
        .unwrap();
    log.ledger
        .create_client("newsroom", &[Scope::Generate])
        .await
        .unwrap();
    sequencer.stop().await;
    let folder = log.store.path().join("backup");
    let backup = log.ledger.backup(&folder).await.unwrap();
    assert_eq!(backup.entries.get(), 22);
    (log, folder)
}

/// Options for an empty database on the same cluster.
async fn empty_database(log: &TestLog, name: &str) -> LedgerOptions {
    let name = format!("{}_{name}", log.database);
    log.cluster.drop_database(&name).await.unwrap();
    log.cluster.create_database(&name).await.unwrap();
    LedgerOptions::new(log.cluster.database_url(&name), public_keys())
}

async fn drop_database(log: &TestLog, name: &str) {
    let name = format!("{}_{name}", log.database);
    log.cluster.drop_database(&name).await.unwrap();
}

async fn stored(log: &TestLog) -> Vec<SignedCheckpoint> {
    log.checkpoint_store()
        .read()
        .await
        .unwrap()
        .into_iter()
        .collect()
}

#[tokio::test]
async fn a_restored_backup_is_the_same_ledger_and_goes_on() {
    let (log, folder) = backed_up().await;
    let options = empty_database(&log, "restored").await;
    let (_, report) = restore(&options, &folder, &stored(&log).await)
        .await
        .unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(report.entries.get(), 22);

    let ledger = Ledger::connect(&options).await.unwrap();
    let all = EntryFilter::default();
    let before = log.ledger.search(&all, None, 100).await.unwrap();
    let after = ledger.search(&all, None, 100).await.unwrap();
    assert_eq!(after, before);
    let prompt = ledger.prompt(provenance::LeafIndex::new(20)).await.unwrap();
    assert_eq!(prompt, Some(secret()));
    let clients = ledger.list_clients().await.unwrap();
    assert_eq!(clients, log.ledger.list_clients().await.unwrap());
    // What the database counts goes on behind what was restored.
    let (next, _) = ledger.create_client("desk", &[Scope::Score]).await.unwrap();
    assert!(clients.iter().all(|client| client.client.id != next));
    let sequencer = crate::support::Running::start(ledger::sequencer::Sequencer::new(
        ledger.clone(),
        crate::support::checkpoint_signer(),
        log.store.path().join("store"),
    ));
    let appended = ledger.append(&numbered(22), None).await.unwrap();
    assert_eq!(appended.leaf_index.get(), 22);
    sequencer.stop().await;
    assert!(ledger.check().await.unwrap().is_sound());
    ledger.close().await;
    drop_database(&log, "restored").await;
    log.remove().await;
}

/// As versions before the column of prompt commitments made it.
#[tokio::test]
async fn a_backup_without_a_column_that_came_later_is_restored_whole() {
    let (log, _) = backed_up().await;
    let mut connection = log.superuser().await;
    sqlx::raw_sql("ALTER TABLE entries DROP COLUMN prompt_commitment")
        .execute(&mut connection)
        .await
        .unwrap();
    let folder = log.store.path().join("older");
    log.ledger.backup(&folder).await.unwrap();
    let options = empty_database(&log, "newer").await;
    let (_, report) = restore(&options, &folder, &stored(&log).await)
        .await
        .unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    let ledger = Ledger::connect(&options).await.unwrap();
    let filter = EntryFilter {
        prompt_commitment: Some(provenance::commit(
            &secret().salt,
            secret().prompt.as_bytes(),
        )),
        ..EntryFilter::default()
    };
    let found = ledger.search(&filter, None, 100).await.unwrap();
    assert!(!found.entries.is_empty());
    ledger.close().await;
    drop_database(&log, "newer").await;
    log.remove().await;
}

#[tokio::test]
async fn a_backup_that_the_log_went_on_from_is_said_to_be_old() {
    let (log, folder) = backed_up().await;
    let sequencer = log.sequencer();
    log.append_numbered(30..33).await;
    sequencer.stop().await;
    let options = empty_database(&log, "old").await;
    let (_, report) = restore(&options, &folder, &stored(&log).await)
        .await
        .unwrap();
    let is_beyond = |problem: &Problem| matches!(problem, Problem::Beyond { .. });
    assert!(
        report.problems.iter().any(is_beyond),
        "{:?}",
        report.problems
    );
    drop_database(&log, "old").await;
    log.finish().await;
}

#[tokio::test]
async fn a_database_that_holds_anything_is_not_restored_over() {
    let (log, folder) = backed_up().await;
    let options = LedgerOptions::new(log.cluster.database_url(&log.database), public_keys());
    let refused = restore(&options, &folder, &[]).await.unwrap_err();
    assert!(
        matches!(refused, LedgerError::NotEmpty { .. }),
        "{refused:?}"
    );
    log.finish().await;
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let before = fs::read(path).unwrap();
    let mut bytes = before.clone();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
    before
}

#[tokio::test]
async fn a_backup_that_is_not_whole_is_refused_before_anything_is_written() {
    let (log, folder) = backed_up().await;
    let options = empty_database(&log, "refused").await;
    let again = log.ledger.backup(&folder).await.unwrap_err();
    assert!(matches!(again, LedgerError::Io { .. }), "{again:?}");
    for file in ["entries.copy", "nodes.copy", "prompts.copy", "backup.json"] {
        let path = folder.join(file);
        let original = change(&path, |bytes| {
            let last = bytes.len() / 2;
            bytes[last] ^= 1;
        });
        let refused = restore(&options, &folder, &[]).await;
        assert!(refused.is_err(), "{file} changed");
        change(&path, |bytes| bytes.truncate(original.len() - 1));
        assert!(restore(&options, &folder, &[]).await.is_err(), "{file} cut");
        fs::remove_file(&path).unwrap();
        let refused = restore(&options, &folder, &[]).await.unwrap_err();
        assert!(
            matches!(refused, LedgerError::Io { .. }),
            "{file}: {refused:?}"
        );
        fs::write(&path, original).unwrap();
    }
    let mut foreign = options.clone();
    let entries = provenance::EntrySigner::from_seed("other.test/log", [1; 32]).unwrap();
    let checkpoints = provenance::CheckpointSigner::from_seed("other.test/log", [2; 32]).unwrap();
    foreign.public_keys =
        provenance::PublicKeys::new(entries.verifier(), checkpoints.verifier()).unwrap();
    let refused = restore(&foreign, &folder, &[]).await.unwrap_err();
    assert!(
        matches!(refused, LedgerError::BackupRefused { .. }),
        "{refused:?}"
    );
    // After all these refusals the database is still empty.
    let (_, report) = restore(&options, &folder, &[]).await.unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    drop_database(&log, "refused").await;
    log.finish().await;
}
