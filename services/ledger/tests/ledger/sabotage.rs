//! Breaking the database under a working service.

use std::sync::Arc;

use ledger::cluster::{ClusterOptions, PrivateCluster};
use ledger::{Ledger, LedgerError, LedgerOptions};
use provenance::LeafIndex;
use sqlx::{Connection as _, Executor as _};

use crate::cluster::{kill_server, temporary_folder};
use crate::support::{TestLog, binaries, numbered, public_keys, until};

#[tokio::test]
async fn a_dropped_column_stops_the_sequencer_and_loses_nothing() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..3).await;
    log.break_in("ALTER TABLE entries DROP COLUMN verdict")
        .await;
    let ledger = log.ledger.clone();
    let append = tokio::spawn(async move { ledger.append(&numbered(3), None).await });
    let stopped = sequencer.failure().await;
    assert!(
        matches!(stopped, LedgerError::SchemaMismatch { .. }),
        "{stopped:?}"
    );
    log.break_in(
        "ALTER TABLE entries ADD COLUMN verdict text;
         UPDATE sequencer_lease SET expires_at = '-infinity'",
    )
    .await;
    let sequencer = log.sequencer();
    assert_eq!(append.await.unwrap().unwrap().leaf_index, LeafIndex::new(3));
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_killed_database_comes_back_and_nothing_is_lost() {
    let folder = temporary_folder();
    let options = ClusterOptions::new(binaries(), folder.path().join("postgres"));
    let cluster = PrivateCluster::start_or_attach(&options).await.unwrap();
    let log = TestLog::on(Arc::new(cluster), |_| {}).await;
    let sequencer = log.sequencer();
    log.append_numbered(0..5).await;

    let appends: Vec<_> = (5..45)
        .map(|number| {
            let ledger = log.ledger.clone();
            tokio::spawn(async move {
                loop {
                    match ledger.append(&numbered(number), None).await {
                        Ok(appended) => return appended,
                        Err(error) => {
                            assert!(error.is_transient(), "{error:?}");
                            tokio::task::yield_now().await;
                        }
                    }
                }
            })
        })
        .collect();
    kill_server(log.cluster.home());
    let again = PrivateCluster::start_or_attach(&options).await.unwrap();
    for append in appends {
        append.await.unwrap().bundle.verify(&public_keys()).unwrap();
    }
    sequencer.stop().await;
    let report = log.ledger.check().await.unwrap();
    assert_eq!(report.entries.get(), 45);
    log.finish().await;
    again.stop().await.unwrap();
}

/// Statements after which a table takes no more rows, as if the disk were full.
fn fill_up(table: &str) -> String {
    format!(
        "CREATE FUNCTION fill_up() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
         CREATE TRIGGER fill_up BEFORE INSERT ON {table} EXECUTE FUNCTION fill_up()"
    )
}

#[tokio::test]
async fn a_full_database_is_said_to_be_full_and_works_again_when_it_is_not() {
    let (log, sequencer) = TestLog::running().await;
    log.break_in(&fill_up("pending")).await;
    let refused = log.ledger.append(&numbered(0), None).await;
    assert!(
        matches!(refused, Err(LedgerError::DatabaseFull { .. })),
        "{refused:?}"
    );
    log.break_in("DROP FUNCTION fill_up CASCADE").await;
    log.append_numbered(0..2).await;
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_sequencer_on_a_full_database_goes_on_when_there_is_room() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..2).await;
    log.break_in(&fill_up("entries")).await;
    let ledger = log.ledger.clone();
    let append = tokio::spawn(async move { ledger.append(&numbered(2), None).await });
    let mut connection = log.superuser().await;
    // After the failure it takes its lease anew, with a new token.
    until(async || {
        let token = "SELECT fencing_token FROM sequencer_lease";
        let (token,): (i64,) = sqlx::query_as(token)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        token > 1
    })
    .await;
    log.break_in("DROP FUNCTION fill_up CASCADE").await;
    assert_eq!(append.await.unwrap().unwrap().leaf_index, LeafIndex::new(2));
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_database_that_is_down_is_said_to_be_down() {
    let folder = temporary_folder();
    let options = ClusterOptions::new(binaries(), folder.path().join("postgres"));
    let cluster = PrivateCluster::start_or_attach(&options).await.unwrap();
    let url = cluster.database_url(PrivateCluster::DATABASE);
    cluster.stop().await.unwrap();
    let refused = Ledger::connect(&LedgerOptions::new(url, public_keys()))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(refused, LedgerError::DatabaseDown { .. }),
        "{refused:?}"
    );
    let refused = Ledger::connect(&LedgerOptions::new("mysql://localhost", public_keys())).await;
    assert!(matches!(refused.err(), Some(LedgerError::DatabaseUrl)));
}

#[tokio::test]
async fn a_login_that_may_not_take_the_role_is_told_so() {
    let log = TestLog::start().await;
    let login = format!("{}_login", log.database);
    let mut connection = log.superuser().await;
    let make = format!("CREATE ROLE {login} LOGIN");
    connection.execute(sqlx::AssertSqlSafe(make)).await.unwrap();
    let owner_url = log.cluster.database_url(&log.database);
    let mut options = LedgerOptions::new(owner_url.replace("retrace_owner", &login), public_keys());
    options.migration_url = Some(owner_url);
    let refused = Ledger::connect(&options).await.err().unwrap();
    assert!(
        matches!(refused, LedgerError::RoleDenied { .. }),
        "{refused:?}"
    );
    let grant = format!("GRANT retrace_app TO {login}");
    connection
        .execute(sqlx::AssertSqlSafe(grant))
        .await
        .unwrap();
    Ledger::connect(&options).await.unwrap().close().await;
    // Once the database is migrated, the service needs no login that owns anything.
    options.migration_url = None;
    Ledger::connect(&options).await.unwrap().close().await;
    let drop = format!("DROP ROLE {login}");
    connection.execute(sqlx::AssertSqlSafe(drop)).await.unwrap();
    connection.close().await.unwrap();
    log.finish().await;
}
