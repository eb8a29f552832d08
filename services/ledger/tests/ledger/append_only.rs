//! Append-only by role and by trigger, and a schema that explains itself.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::support::TestLog;

const TABLES: [&str; 7] = [
    "entries",
    "nodes",
    "checkpoints",
    "perceptual_hashes",
    "watermarks",
    "cosignatures",
    "checkpoint_time_stamps",
];

/// Every way to change or remove rows of a table.
fn changes(table: &str) -> [String; 3] {
    let column = if table == "checkpoints" {
        "root_hash"
    } else if table == "nodes" || table == "perceptual_hashes" {
        "hash"
    } else if table == "watermarks" {
        "watermark_id"
    } else if table == "cosignatures" {
        "line"
    } else if table == "checkpoint_time_stamps" {
        "reply"
    } else {
        "envelope"
    };
    [
        format!("UPDATE {table} SET {column} = {column}"),
        format!("DELETE FROM {table}"),
        // Without the last word, a reference from another table would be refused before the trigger.
        format!("TRUNCATE {table} CASCADE"),
    ]
}

async fn refusal(connection: &mut PgConnection, statement: &str) -> (String, Option<String>) {
    let error = connection
        .execute(AssertSqlSafe(statement.to_owned()))
        .await
        .expect_err(statement);
    let error = error.into_database_error().expect(statement);
    let code = error.code().expect(statement).into_owned();
    (code, error.constraint().map(str::to_owned))
}

#[tokio::test]
async fn the_role_of_the_service_may_not_change_what_is_recorded() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..3).await;
    let url = log.cluster.database_url(&log.database);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection.execute("SET ROLE retrace_app").await.unwrap();
    for statement in TABLES.iter().flat_map(|table| changes(table)) {
        let (code, _) = refusal(&mut connection, &statement).await;
        assert_eq!(
            code, "42501",
            "{statement} is refused for lack of privilege"
        );
    }
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn triggers_refuse_changes_by_the_owner_and_the_superuser() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..3).await;
    let owner = log.cluster.database_url(&log.database);
    let superuser = log.cluster.superuser_url(&log.database);
    for (url, replica) in [(&owner, false), (&superuser, false), (&superuser, true)] {
        let mut connection = PgConnection::connect(url).await.unwrap();
        if replica {
            connection
                .execute("SET session_replication_role = replica")
                .await
                .unwrap();
        }
        for table in TABLES {
            for statement in changes(table) {
                let (code, constraint) = refusal(&mut connection, &statement).await;
                assert_eq!(code, "23001", "{statement} is refused by a trigger");
                assert_eq!(
                    constraint,
                    Some(format!("{table}_append_only")),
                    "{statement}"
                );
            }
        }
    }
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn every_table_and_column_has_a_comment() {
    let log = TestLog::start().await;
    let silent: Vec<(String, Option<String>)> = sqlx::query_as(
        "SELECT relname::text, attname::text FROM pg_class
         LEFT JOIN LATERAL (
             SELECT attname, attnum FROM pg_attribute
             WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
             UNION ALL SELECT NULL, 0
         ) AS attribute ON true
         WHERE relkind IN ('r', 'p', 'v', 'm') AND relnamespace = 'public'::regnamespace
           AND relname <> '_sqlx_migrations'
           AND coalesce(col_description(pg_class.oid, attnum), '') = ''
           AND (attnum > 0 OR coalesce(obj_description(pg_class.oid, 'pg_class'), '') = '')",
    )
    .fetch_all(&mut log.superuser().await)
    .await
    .unwrap();
    assert_eq!(silent, []);
    log.finish().await;
}

#[tokio::test]
async fn every_constraint_is_named_after_its_table() {
    let log = TestLog::start().await;
    let unnamed: Vec<(String,)> = sqlx::query_as(
        "SELECT conname::text FROM pg_constraint
         JOIN pg_class ON pg_class.oid = conrelid
         WHERE pg_constraint.connamespace = 'public'::regnamespace AND contype <> 'n'
           AND relname <> '_sqlx_migrations'
           AND (NOT starts_with(conname, relname) OR conname ~ '(_pkey|_check[0-9]*|_fkey)$')",
    )
    .fetch_all(&mut log.superuser().await)
    .await
    .unwrap();
    assert_eq!(unnamed, []);
    log.finish().await;
}
