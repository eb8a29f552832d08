//! A large log: writing it, searching it, exporting it, verifying it anew.

use std::io::Write as _;
use std::time::Instant;

use ledger::{EntryFilter, Ledger, Order};
use provenance::export::ndjson_row;
use provenance::merkle::{Appender, NewNode, leaf_hash};
use provenance::{Checkpoint, CheckpointSigner, EntrySigner, Envelope, LeafIndex};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::{Failure, ORIGIN, quantile_ms, statement};

const BATCH_ENTRIES: u64 = 4_096;
const SEARCHES: u64 = 400;
const PAGE_ENTRIES: u32 = 100;

/// Writes signed entries, their tree and one checkpoint straight into the tables. Answers how long it
/// took, in seconds.
pub async fn write(
    database_url: &str,
    entries: u64,
    signer: &EntrySigner,
    checkpoints: &CheckpointSigner,
) -> Result<f64, Failure> {
    let started = Instant::now();
    if entries == 0 {
        return Ok(0.0);
    }
    let mut connection = PgConnection::connect(database_url).await?;
    let mut tree = Appender::empty();
    let mut first = 0;
    while first < entries {
        let numbers = first..entries.min(first + BATCH_ENTRIES);
        first = numbers.end;
        write_batch(&mut connection, numbers, signer, &mut tree).await?;
    }
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        tree_size: tree.size(),
        root_hash: tree.root(),
    };
    sqlx::query("INSERT INTO checkpoints (tree_size, root_hash, note) VALUES ($1, $2, $3)")
        .bind(i64::try_from(entries)?)
        .bind(&tree.root().as_bytes()[..])
        .bind(checkpoint.sign(checkpoints)?.text())
        .execute(&mut connection)
        .await?;
    sqlx::raw_sql("ANALYZE entries; ANALYZE nodes; ANALYZE perceptual_hashes; ANALYZE watermarks")
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(started.elapsed().as_secs_f64())
}

async fn write_batch(
    connection: &mut PgConnection,
    numbers: std::ops::Range<u64>,
    signer: &EntrySigner,
    tree: &mut Appender,
) -> Result<(), Failure> {
    let mut nodes: Vec<NewNode> = Vec::new();
    let (mut envelopes, mut hashes, mut indexes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut clients, mut requests, mut times) = (Vec::new(), Vec::new(), Vec::new());
    let (mut images, mut pixels, mut commitments) = (Vec::new(), Vec::new(), Vec::new());
    let (mut likenesses, mut marks, mut model) = (Vec::new(), Vec::new(), Vec::new());
    for number in numbers {
        let (entry, _) = statement::numbered(number)?;
        let envelope = Envelope::sign(&entry, signer)?.to_bytes();
        let hash = leaf_hash(&envelope);
        tree.append(hash, &mut nodes)?;
        let provenance::Entry::Generation(entry) = entry else {
            return Err("the entries of the benchmark are generations".into());
        };
        let hash_of_image = entry.details.as_ref().and_then(|it| it.perceptual_hash);
        likenesses.push(
            hash_of_image
                .ok_or("an entry has a hash")?
                .hash
                .as_bytes()
                .to_vec(),
        );
        marks.push(i64::try_from(number)?);
        indexes.push(i64::try_from(number)?);
        hashes.push(hash.as_bytes().to_vec());
        envelopes.push(envelope);
        clients.push(entry.client);
        requests.push(entry.request_id);
        times.push(i64::try_from(entry.created_at_ms)?);
        images.push(entry.image.sha256.as_bytes().to_vec());
        pixels.push(entry.image.pixel_sha256.as_bytes().to_vec());
        commitments.push(entry.prompt_commitment.as_bytes().to_vec());
        model = entry.model.digest.as_bytes().to_vec();
    }
    let mut transaction = connection.begin().await?;
    sqlx::query(
        "INSERT INTO entries (leaf_index, leaf_hash, envelope, kind, request_id, image_index, client,
                              created_at_ms, image_sha256, pixel_sha256, model_name, model_digest,
                              prompt_commitment)
         SELECT leaf_index, leaf_hash, envelope, 'generation', request_id, 0, client, time, image, pixel,
                'emoji', $10, commitment
         FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::text[], $5::text[], $6::bigint[],
                     $7::bytea[], $8::bytea[], $9::bytea[])
              AS batch (leaf_index, leaf_hash, envelope, request_id, client, time, image, pixel, commitment)",
    )
    .bind(&indexes)
    .bind(hashes)
    .bind(envelopes)
    .bind(requests)
    .bind(clients)
    .bind(times)
    .bind(images)
    .bind(pixels)
    .bind(commitments)
    .bind(model)
    .execute(&mut *transaction)
    .await?;
    insert_nodes(&mut transaction, &nodes).await?;
    insert_marks(&mut transaction, &indexes, &likenesses, &marks).await?;
    transaction.commit().await?;
    Ok(())
}

async fn insert_nodes(connection: &mut PgConnection, nodes: &[NewNode]) -> Result<(), Failure> {
    let levels: Vec<i16> = nodes.iter().map(|node| i16::from(node.id.level)).collect();
    let places = nodes
        .iter()
        .map(|node| i64::try_from(node.id.index))
        .collect::<Result<Vec<_>, _>>()?;
    let hashes: Vec<Vec<u8>> = nodes
        .iter()
        .map(|node| node.hash.as_bytes().to_vec())
        .collect();
    sqlx::query(
        "INSERT INTO nodes (level, node_index, hash)
         SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])",
    )
    .bind(levels)
    .bind(places)
    .bind(hashes)
    .execute(connection)
    .await?;
    Ok(())
}

/// What copies of the entries' images are found by.
async fn insert_marks(
    connection: &mut PgConnection,
    indexes: &[i64],
    hashes: &[Vec<u8>],
    marks: &[i64],
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO perceptual_hashes (leaf_index, hash, quality)
         SELECT leaf_index, hash, 100 FROM unnest($1::bigint[], $2::bytea[]) AS batch (leaf_index, hash)",
    )
    .bind(indexes)
    .bind(hashes)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO watermarks (leaf_index, watermark_id) SELECT * FROM unnest($1::bigint[], $2::bigint[])",
    )
    .bind(indexes)
    .bind(marks)
    .execute(connection)
    .await?;
    Ok(())
}

/// The searches by their names, in a log of this size.
fn filters(tree_size: u64) -> [(&'static str, EntryFilter); 5] {
    [
        (
            "client",
            EntryFilter {
                client: Some("bench".to_owned()),
                ..EntryFilter::default()
            },
        ),
        (
            "seldom_client",
            EntryFilter {
                client: Some("seldom".to_owned()),
                ..EntryFilter::default()
            },
        ),
        (
            "kind",
            EntryFilter {
                kind: Some("generation".to_owned()),
                ..EntryFilter::default()
            },
        ),
        (
            "model",
            EntryFilter {
                model_name: Some("emoji".to_owned()),
                ..EntryFilter::default()
            },
        ),
        (
            "time",
            EntryFilter {
                created_from_ms: Some(1_700_000_000_000 + tree_size / 3),
                created_until_ms: Some(1_700_000_000_000 + tree_size / 2),
                ..EntryFilter::default()
            },
        ),
    ]
}

/// Pages of 100 from places all over the log: by client, by kind, by model, by time, and of a client
/// with few entries.
pub async fn pages(ledger: &Ledger) -> Result<Value, Failure> {
    let tree_size = ledger
        .latest_checkpoint()
        .await?
        .map_or(0, |checkpoint| checkpoint.unverified().tree_size.get());
    let mut report = json!({ "entries": tree_size });
    let mut all = Vec::new();
    for (name, filter) in filters(tree_size) {
        let mut latencies = Vec::new();
        for search in 0..SEARCHES {
            // A stride that is coprime to the size visits places in no order.
            let after = (search * 7_368_787) % tree_size.max(1);
            let filter = EntryFilter {
                order: if search % 2 == 0 {
                    Order::Descending
                } else {
                    Order::Ascending
                },
                ..filter.clone()
            };
            let started = Instant::now();
            ledger
                .search(&filter, Some(LeafIndex::new(after)), PAGE_ENTRIES)
                .await?;
            latencies.push(started.elapsed());
        }
        latencies.sort_unstable();
        report[name] = json!({
            "p50_ms": quantile_ms(&latencies, 0.5),
            "p99_ms": quantile_ms(&latencies, 0.99),
        });
        all.extend(latencies);
    }
    all.sort_unstable();
    report["p99_ms"] = json!(quantile_ms(&all, 0.99));
    Ok(report)
}

/// Writes every entry as NDJSON to nowhere; says how much memory that took at most.
pub async fn export(ledger: &Ledger) -> Result<Value, Failure> {
    let started = Instant::now();
    let mut sink = std::fs::File::create("/dev/null")?;
    let mut walk = ledger.walk(EntryFilter::default(), None).await?;
    let (mut rows, mut bytes) = (0_u64, 0_u64);
    let before = resident_kib();
    let mut most = before;
    loop {
        let page = walk.next_page().await?;
        if page.is_empty() {
            break;
        }
        for entry in page {
            let line = ndjson_row(entry.leaf_index, &entry.envelope);
            sink.write_all(&line)?;
            bytes += line.len() as u64;
            rows += 1;
        }
        most = most.max(resident_kib());
    }
    Ok(json!({
        "rows": rows,
        "bytes": bytes,
        "seconds": started.elapsed().as_secs_f64(),
        "memory_grew_kib": most - before,
    }))
}

/// Bytes that tables and indexes of the record take for each entry.
pub async fn bytes_on_disk_per_entry(database_url: &str) -> Result<i64, Failure> {
    let mut connection = PgConnection::connect(database_url).await?;
    let bytes = sqlx::query_scalar(
        "SELECT pg_total_relation_size('entries') / greatest(count(*), 1) FROM entries",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    Ok(bytes)
}

/// Kibibytes of memory of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_default()
}

/// The whole log verified anew from the database.
pub async fn check(ledger: &Ledger) -> Result<Value, Failure> {
    let started = Instant::now();
    let report = ledger.check().await?;
    Ok(json!({
        "entries": report.entries.get(),
        "seconds": started.elapsed().as_secs_f64(),
        "is_sound": report.is_sound(),
    }))
}
