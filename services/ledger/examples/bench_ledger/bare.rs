//! The same rows into a table of the same shape, and nothing else: no queue, no tree, no signature.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};

use crate::Failure;

const BATCH_ROWS: i64 = 512;

/// An entry's row, but for what only scores have.
#[derive(sqlx::FromRow)]
struct Row {
    leaf_index: i64,
    leaf_hash: Vec<u8>,
    envelope: Vec<u8>,
    kind: String,
    request_id: String,
    image_index: i64,
    client: String,
    created_at_ms: i64,
    image_sha256: Option<Vec<u8>>,
    pixel_sha256: Option<Vec<u8>>,
    model_name: Option<String>,
    model_digest: Option<Vec<u8>>,
    prompt_commitment: Option<Vec<u8>>,
}

/// Inserts again what the ledger recorded from this place on; answers rows per second.
pub async fn measure(database_url: &str, from: u64) -> Result<f64, Failure> {
    let mut connection = PgConnection::connect(database_url).await?;
    sqlx::raw_sql("CREATE TABLE bare (LIKE entries INCLUDING ALL)")
        .execute(&mut connection)
        .await?;
    let mut next = i64::try_from(from)?;
    let (mut rows, mut spent) = (0, Duration::ZERO);
    loop {
        let batch = load(&mut connection, next).await?;
        if batch.is_empty() {
            break;
        }
        next += BATCH_ROWS;
        rows += batch.len();
        let started = Instant::now();
        insert(&mut connection, &batch).await?;
        spent += started.elapsed();
    }
    sqlx::raw_sql("DROP TABLE bare")
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(rows as f64 / spent.as_secs_f64())
}

async fn load(connection: &mut PgConnection, from: i64) -> Result<Vec<Row>, Failure> {
    let rows = sqlx::query_as(
        "SELECT leaf_index, leaf_hash, envelope, kind, request_id, image_index, client,
                created_at_ms, image_sha256, pixel_sha256, model_name, model_digest, prompt_commitment
         FROM entries WHERE leaf_index >= $1 AND leaf_index < $1 + $2 ORDER BY leaf_index",
    )
    .bind(from)
    .bind(BATCH_ROWS)
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

async fn insert(connection: &mut PgConnection, rows: &[Row]) -> Result<(), Failure> {
    fn column<'a, T>(rows: &'a [Row], value: impl Fn(&'a Row) -> T) -> Vec<T> {
        rows.iter().map(value).collect()
    }
    sqlx::query(
        "INSERT INTO bare (leaf_index, leaf_hash, envelope, kind, request_id, image_index, client,
                           created_at_ms, image_sha256, pixel_sha256, model_name, model_digest,
                           prompt_commitment)
         SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::text[], $5::text[],
                              $6::bigint[], $7::text[], $8::bigint[], $9::bytea[], $10::bytea[],
                              $11::text[], $12::bytea[], $13::bytea[])",
    )
    .bind(column(rows, |row| row.leaf_index))
    .bind(column(rows, |row| &row.leaf_hash[..]))
    .bind(column(rows, |row| &row.envelope[..]))
    .bind(column(rows, |row| row.kind.as_str()))
    .bind(column(rows, |row| row.request_id.as_str()))
    .bind(column(rows, |row| row.image_index))
    .bind(column(rows, |row| row.client.as_str()))
    .bind(column(rows, |row| row.created_at_ms))
    .bind(column(rows, |row| row.image_sha256.as_deref()))
    .bind(column(rows, |row| row.pixel_sha256.as_deref()))
    .bind(column(rows, |row| row.model_name.as_deref()))
    .bind(column(rows, |row| row.model_digest.as_deref()))
    .bind(column(rows, |row| row.prompt_commitment.as_deref()))
    .execute(connection)
    .await?;
    Ok(())
}
