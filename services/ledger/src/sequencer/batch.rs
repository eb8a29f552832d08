//! Step 1 of the sequencer: a batch moves from the queue into the record.

use std::collections::HashSet;

use provenance::merkle::{Appender, NewNode, leaf_hash, root_nodes};
use provenance::{Digest, Envelope, KeyHistory, LeafIndex, ProvenanceError};
use sqlx::PgConnection;

use super::lease::Lease;
use super::signers::Signing;
use super::{Head, Refusal, Sequencer, Step, tree};
use crate::entries::{Projection, digest, to_i64};
use crate::{LedgerError, proofs};

/// What became of a batch.
pub(super) struct Recorded {
    /// How many rows were taken from the queue.
    pub taken: usize,
    /// How many of them became entries.
    pub entries: usize,
}

/// A queued row.
struct Waiting {
    arrival: i64,
    leaf_hash: Vec<u8>,
    envelope: Vec<u8>,
}

/// A row that may be recorded.
struct Accepted {
    arrival: i64,
    leaf_hash: Digest,
    envelope: Vec<u8>,
    projection: Projection,
    /// What it says about keys, where it does. Such an entry ends its batch.
    key_statement: Option<Envelope>,
}

/// A batch after verification.
#[derive(Default)]
struct Sorted {
    accepted: Vec<Accepted>,
    refused: Vec<(i64, Refusal)>,
    /// Rows of keys that no longer sign, with the hashes of their leaves.
    retired: Vec<(i64, Digest)>,
}

impl Sorted {
    fn taken(&self) -> usize {
        self.accepted.len() + self.refused.len() + self.retired.len()
    }
}

impl Sequencer {
    /// Records the oldest waiting entries, at most one batch of them, and refreshes the lease.
    pub(super) async fn record_batch(
        &self,
        lease: &Lease,
        head: &mut Head,
    ) -> Result<Recorded, LedgerError> {
        let mut transaction = self.ledger.pool.begin().await?;
        lease.hold(&mut transaction).await?;
        let waiting = take_waiting(&mut transaction, self.options.batch_entries_max).await?;
        if waiting.is_empty() {
            self.prune_refusals(&mut transaction).await?;
            transaction.commit().await?;
            return Ok(Recorded {
                taken: 0,
                entries: 0,
            });
        }
        let mut appender = load_appender(&mut transaction, head).await?;
        let keys = head.keys.clone();
        // An entry takes some ten microseconds, and a batch has up to thousands.
        let mut sorted = tokio::task::spawn_blocking(move || sort(waiting, &keys))
            .await
            .expect("verification does not panic")?;
        let taken = sorted.taken();
        set_known_aside(&mut transaction, &mut sorted).await?;
        let first_index = appender.size();
        let keys = take_key_statement(&mut sorted, first_index.get(), &head.keys);
        let (keys, signing) = self.with_signers(keys, head, &mut sorted).await?;
        let mut nodes = Vec::new();
        for accepted in &sorted.accepted {
            appender.append(accepted.leaf_hash, &mut nodes)?;
        }
        insert_entries(&mut transaction, first_index.get(), &sorted.accepted).await?;
        insert_perceptual_hashes(&mut transaction, first_index.get(), &sorted.accepted).await?;
        insert_watermarks(&mut transaction, first_index.get(), &sorted.accepted).await?;
        insert_nodes(&mut transaction, &nodes).await?;
        refuse(&mut transaction, &sorted.refused).await?;
        self.stop_on_purpose(Step::Write)?;
        // A crash before the commit leaves everything in the queue, as if nothing had happened.
        transaction.commit().await?;
        self.stop_on_purpose(Step::Record)?;
        head.tree_size = appender.size();
        head.root_hash = appender.root();
        if let Some(keys) = keys {
            head.keys = keys;
            head.signing = signing;
        }
        Ok(Recorded {
            taken,
            entries: sorted.accepted.len(),
        })
    }

    /// Who signs under the keys that a statement leaves. One that names a checkpoint key which is not here is
    /// refused: nobody could sign for it.
    async fn with_signers(
        &self,
        keys: Option<KeyHistory>,
        head: &Head,
        sorted: &mut Sorted,
    ) -> Result<(Option<KeyHistory>, Signing), LedgerError> {
        let Some(next) = keys else {
            return Ok((None, head.signing.clone()));
        };
        if next.checkpoints() == head.keys.checkpoints() {
            return Ok((Some(next), head.signing.clone()));
        }
        match self.signers.of(next.checkpoints()).await {
            Ok(signing) => Ok((Some(next), signing)),
            Err(refusal @ LedgerError::WrongKey { .. }) => {
                tracing::warn!(%refusal, "a statement about keys is refused");
                let row = sorted.accepted.pop();
                let refused = row.map(|row| (row.arrival, Refusal::KeyStatement));
                sorted.refused.extend(refused);
                Ok((None, head.signing.clone()))
            }
            Err(error) => Err(error),
        }
    }

    async fn prune_refusals(&self, connection: &mut PgConnection) -> Result<(), LedgerError> {
        sqlx::query!(
            "DELETE FROM pending WHERE refusal IS NOT NULL
               AND refused_at < now() - make_interval(secs => $1)",
            self.options.refusal_kept.as_secs_f64()
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

async fn take_waiting(
    connection: &mut PgConnection,
    entries_max: u32,
) -> Result<Vec<Waiting>, LedgerError> {
    let rows = sqlx::query_as!(
        Waiting,
        "SELECT arrival, leaf_hash, envelope FROM pending
         WHERE refusal IS NULL ORDER BY arrival LIMIT $1",
        i64::from(entries_max)
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Continues the recorded tree. It must be the tree that this sequencer left: a database that was
/// swapped under a running service shows here, before anything is written.
async fn load_appender(
    connection: &mut PgConnection,
    head: &Head,
) -> Result<Appender, LedgerError> {
    let tree_size = tree::recorded_size(connection).await?;
    if tree_size < head.tree_size {
        return Err(LedgerError::RolledBack {
            recorded: tree_size,
            signed: head.tree_size,
        });
    }
    if tree_size > head.tree_size {
        // Only a holder of the lease records, so somebody took it meanwhile.
        return Err(LedgerError::LeaseLost);
    }
    let edge = proofs::fetch_nodes(connection, &root_nodes(tree_size)).await?;
    let appender = Appender::new(tree_size, edge)?;
    if appender.root() != head.root_hash {
        return Err(LedgerError::Inconsistent {
            tree_size,
            computed: appender.root(),
            signed: head.root_hash,
        });
    }
    Ok(appender)
}

/// Verifies each envelope under the key that signs now. The columns beside it are what the appender claimed;
/// they are read out of the envelope anew. A statement about keys is the last row: what waits behind it may
/// be of the next key.
fn sort(waiting: Vec<Waiting>, keys: &KeyHistory) -> Result<Sorted, LedgerError> {
    let mut sorted = Sorted::default();
    let current = &keys.current().verifier;
    for row in waiting {
        let Ok(envelope) = Envelope::parse(&row.envelope) else {
            sorted.refused.push((row.arrival, Refusal::Unreadable));
            continue;
        };
        // The parser accepts canonical bytes alone, so these are the leaf.
        let leaf_hash = leaf_hash(&row.envelope);
        let entry = match envelope.verify(current) {
            Ok(entry) => entry,
            Err(ProvenanceError::UnknownKey { .. }) if keys.key(envelope.key_id()).is_some() => {
                sorted.retired.push((row.arrival, leaf_hash));
                continue;
            }
            Err(_) => {
                sorted.refused.push((row.arrival, Refusal::BadSignature));
                continue;
            }
        };
        if leaf_hash.as_bytes()[..] != row.leaf_hash {
            sorted.refused.push((row.arrival, Refusal::Unreadable));
            continue;
        }
        sorted.accepted.push(Accepted {
            arrival: row.arrival,
            leaf_hash,
            envelope: row.envelope,
            projection: Projection::of(&entry)?,
            key_statement: entry.is_key_statement().then_some(envelope),
        });
        if entry.is_key_statement() {
            break;
        }
    }
    Ok(sorted)
}

/// Whether the last row says something about keys that holds at its place; the keys from there on. One that
/// does not hold is refused.
fn take_key_statement(
    sorted: &mut Sorted,
    first_index: u64,
    keys: &KeyHistory,
) -> Option<KeyHistory> {
    let statement = sorted.accepted.last()?.key_statement.as_ref()?;
    let place = first_index + sorted.accepted.len() as u64 - 1;
    let mut keys = keys.clone();
    match keys.take(statement, LeafIndex::new(place)) {
        Ok(()) => Some(keys),
        Err(refusal) => {
            tracing::warn!(%refusal, "a statement about keys is refused");
            let row = sorted.accepted.pop()?;
            sorted.refused.push((row.arrival, Refusal::KeyStatement));
            None
        }
    }
}

/// Takes out what is recorded already. An append that raced with the batch before may queue a
/// recorded envelope once more: it only leaves the queue. Another entry for a recorded request is
/// refused. Nobody else writes entries while the lease's row is locked, so the answer holds.
async fn set_known_aside(
    connection: &mut PgConnection,
    sorted: &mut Sorted,
) -> Result<(), LedgerError> {
    set_retired_aside(connection, sorted).await?;
    let leaf_hashes: Vec<Vec<u8>> = column(sorted, |row| row.leaf_hash.as_bytes().to_vec());
    let clients: Vec<String> = column(sorted, |row| row.projection.client.clone());
    let kinds: Vec<String> = column(sorted, |row| row.projection.kind.to_owned());
    let requests: Vec<String> = column(sorted, |row| row.projection.request_id.clone());
    let images: Vec<i64> = column(sorted, |row| row.projection.image_index);
    let known = sqlx::query!(
        r#"SELECT leaf_hash AS "leaf_hash!", true AS "is_same!" FROM entries
           WHERE leaf_hash = ANY($1)
           UNION ALL
           SELECT claimed.leaf_hash, false
           FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::bigint[])
                AS claimed (leaf_hash, client, kind, request_id, image_index)
           JOIN entries USING (client, kind, request_id, image_index)
           WHERE entries.leaf_hash <> claimed.leaf_hash"#,
        &leaf_hashes,
        &clients,
        &kinds,
        &requests,
        &images
    )
    .fetch_all(&mut *connection)
    .await?;
    if known.is_empty() {
        return Ok(());
    }
    let (mut same, mut conflicting) = (HashSet::new(), HashSet::new());
    for row in known {
        let set = if row.is_same {
            &mut same
        } else {
            &mut conflicting
        };
        set.insert(digest(&row.leaf_hash)?);
    }
    let mut recorded = Vec::new();
    let mut accepted = Vec::new();
    for row in std::mem::take(&mut sorted.accepted) {
        if same.contains(&row.leaf_hash) {
            recorded.push(row.arrival);
        } else if conflicting.contains(&row.leaf_hash) {
            sorted.refused.push((row.arrival, Refusal::RequestConflict));
        } else {
            accepted.push(row);
        }
    }
    sorted.accepted = accepted;
    sqlx::query!("DELETE FROM pending WHERE arrival = ANY($1)", &recorded)
        .execute(connection)
        .await?;
    Ok(())
}

/// Refuses the rows of keys that no longer sign, but for those that are recorded since before.
async fn set_retired_aside(
    connection: &mut PgConnection,
    sorted: &mut Sorted,
) -> Result<(), LedgerError> {
    if sorted.retired.is_empty() {
        return Ok(());
    }
    let retired = std::mem::take(&mut sorted.retired);
    let hashes: Vec<Vec<u8>> = retired
        .iter()
        .map(|(_, leaf_hash)| leaf_hash.as_bytes().to_vec())
        .collect();
    let known = sqlx::query!(
        "DELETE FROM pending USING entries
         WHERE pending.leaf_hash = ANY($1) AND entries.leaf_hash = pending.leaf_hash
         RETURNING pending.arrival",
        &hashes
    )
    .fetch_all(connection)
    .await?;
    let known: HashSet<i64> = known.into_iter().map(|row| row.arrival).collect();
    let unknown = retired
        .iter()
        .filter(|(arrival, _)| !known.contains(arrival));
    let refused = unknown.map(|(arrival, _)| (*arrival, Refusal::KeyRetired));
    sorted.refused.extend(refused);
    Ok(())
}

fn column<T>(sorted: &Sorted, value: impl Fn(&Accepted) -> T) -> Vec<T> {
    sorted.accepted.iter().map(value).collect()
}

/// Writes the entries and takes them out of the queue.
async fn insert_entries(
    connection: &mut PgConnection,
    first_index: u64,
    accepted: &[Accepted],
) -> Result<(), LedgerError> {
    let first_index = to_i64(first_index, "leaf index")?;
    let arrivals: Vec<i64> = accepted.iter().map(|row| row.arrival).collect();
    let hashes: Vec<&[u8]> = accepted
        .iter()
        .map(|row| &row.leaf_hash.as_bytes()[..])
        .collect();
    let envelopes: Vec<&[u8]> = accepted.iter().map(|row| &row.envelope[..]).collect();
    let of = |value: fn(&Projection) -> &str| -> Vec<&str> {
        accepted.iter().map(|row| value(&row.projection)).collect()
    };
    let number = |value: fn(&Projection) -> i64| -> Vec<i64> {
        accepted.iter().map(|row| value(&row.projection)).collect()
    };
    let text = |value: fn(&Projection) -> Option<&str>| -> Vec<Option<&str>> {
        accepted.iter().map(|row| value(&row.projection)).collect()
    };
    let bytes = |value: fn(&Projection) -> Option<&[u8]>| -> Vec<Option<&[u8]>> {
        accepted.iter().map(|row| value(&row.projection)).collect()
    };
    sqlx::query!(
        "WITH batch AS (
             SELECT * FROM unnest(
                 $2::bigint[], $3::bytea[], $4::bytea[], $5::text[], $6::text[], $7::bigint[],
                 $8::text[], $9::bigint[], $10::bytea[], $11::bytea[], $12::text[], $13::bytea[],
                 $14::text[], $15::bytea[]
             ) WITH ORDINALITY AS batch (
                 arrival, leaf_hash, envelope, kind, request_id, image_index, client,
                 created_at_ms, image_sha256, pixel_sha256, model_name, model_digest, verdict,
                 prompt_commitment, place
             )
         ), taken AS (
             DELETE FROM pending USING batch WHERE pending.arrival = batch.arrival
         )
         INSERT INTO entries (
             leaf_index, leaf_hash, envelope, kind, request_id, image_index, client,
             created_at_ms, image_sha256, pixel_sha256, model_name, model_digest, verdict,
             prompt_commitment
         )
         SELECT $1 + place - 1, leaf_hash, envelope, kind, request_id, image_index, client,
             created_at_ms, image_sha256, pixel_sha256, model_name, model_digest, verdict,
             prompt_commitment
         FROM batch",
        first_index,
        &arrivals,
        &hashes as &[&[u8]],
        &envelopes as &[&[u8]],
        &of(|entry| entry.kind) as &[&str],
        &of(|entry| &entry.request_id) as &[&str],
        &number(|entry| entry.image_index),
        &of(|entry| &entry.client) as &[&str],
        &number(|entry| entry.created_at_ms),
        &bytes(|entry| entry.image_sha256.as_deref()) as &[Option<&[u8]>],
        &bytes(|entry| entry.pixel_sha256.as_deref()) as &[Option<&[u8]>],
        &text(|entry| entry.model_name.as_deref()) as &[Option<&str>],
        &bytes(|entry| entry.model_digest.as_deref()) as &[Option<&[u8]>],
        &text(|entry| entry.verdict.as_deref()) as &[Option<&str>],
        &bytes(|entry| entry.prompt_commitment.as_deref()) as &[Option<&[u8]>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes the perceptual hashes that the new entries state.
async fn insert_perceptual_hashes(
    connection: &mut PgConnection,
    first_index: u64,
    accepted: &[Accepted],
) -> Result<(), LedgerError> {
    let (mut places, mut hashes, mut qualities) = (Vec::new(), Vec::new(), Vec::new());
    for (leaf_index, row) in (first_index..).zip(accepted) {
        if let Some((hash, quality)) = &row.projection.perceptual_hash {
            places.push(to_i64(leaf_index, "leaf index")?);
            hashes.push(&hash[..]);
            qualities.push(*quality);
        }
    }
    if places.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO perceptual_hashes (leaf_index, hash, quality)
         SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::smallint[])",
        &places,
        &hashes as &[&[u8]],
        &qualities
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes the watermarks that the new entries state.
async fn insert_watermarks(
    connection: &mut PgConnection,
    first_index: u64,
    accepted: &[Accepted],
) -> Result<(), LedgerError> {
    let (mut places, mut ids) = (Vec::new(), Vec::new());
    for (leaf_index, row) in (first_index..).zip(accepted) {
        if let Some(id) = row.projection.watermark_id {
            places.push(to_i64(leaf_index, "leaf index")?);
            ids.push(id);
        }
    }
    if places.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO watermarks (leaf_index, watermark_id)
         SELECT * FROM unnest($1::bigint[], $2::bigint[])",
        &places,
        &ids
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_nodes(connection: &mut PgConnection, nodes: &[NewNode]) -> Result<(), LedgerError> {
    let levels: Vec<i16> = nodes.iter().map(|node| i16::from(node.id.level)).collect();
    let indexes = nodes
        .iter()
        .map(|node| to_i64(node.id.index, "node index"))
        .collect::<Result<Vec<_>, _>>()?;
    let hashes: Vec<&[u8]> = nodes.iter().map(|node| &node.hash.as_bytes()[..]).collect();
    sqlx::query!(
        "INSERT INTO nodes (level, node_index, hash)
         SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])",
        &levels,
        &indexes,
        &hashes as &[&[u8]]
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Marks rows as refused and forgets the secrets that came with them.
async fn refuse(
    connection: &mut PgConnection,
    refused: &[(i64, Refusal)],
) -> Result<(), LedgerError> {
    if refused.is_empty() {
        return Ok(());
    }
    let arrivals: Vec<i64> = refused.iter().map(|(arrival, _)| *arrival).collect();
    let words: Vec<String> = refused
        .iter()
        .map(|(_, refusal)| refusal.word().to_owned())
        .collect();
    sqlx::query!(
        "WITH refused AS (
             UPDATE pending SET refusal = word, refused_at = now()
             FROM unnest($1::bigint[], $2::text[]) AS refused (arrival, word)
             WHERE pending.arrival = refused.arrival
             RETURNING pending.leaf_hash
         )
         DELETE FROM prompts USING refused WHERE prompts.leaf_hash = refused.leaf_hash",
        &arrivals,
        &words
    )
    .execute(connection)
    .await?;
    Ok(())
}
