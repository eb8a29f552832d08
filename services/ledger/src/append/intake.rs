//! The way into the queue: what arrives while one statement is under way goes into the next, so that a
//! thousand callers at once cost a few commits and not a thousand.

use provenance::{Digest, Entry};
use sqlx::{PgConnection, PgPool};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::{PromptSecret, Queued, SignedEntry, check_secret};
use crate::connect::LedgerOptions;
use crate::hints::PENDING;
use crate::{LedgerError, entries};

/// What a row of the queue is made of.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    leaf_hash: Digest,
    envelope: Vec<u8>,
    kind: &'static str,
    request_id: String,
    image_index: i64,
    client: String,
    secret: Option<PromptSecret>,
}

impl Row {
    /// Reads the columns out of an entry.
    ///
    /// # Errors
    /// Refuses an unreadable entry, and a secret that does not open its commitment.
    pub(crate) fn of(signed: &SignedEntry) -> Result<Self, LedgerError> {
        let entry: Entry = signed.envelope.unverified_entry()?;
        check_secret(&entry, signed.secret.as_ref())?;
        let (request_id, image_index) = entries::request_of(&entry);
        let envelope = signed.envelope.to_bytes();
        Ok(Self {
            leaf_hash: provenance::merkle::leaf_hash(&envelope),
            envelope,
            kind: entry.kind(),
            request_id: request_id.to_owned(),
            image_index: i64::from(image_index),
            client: entry.client().to_owned(),
            secret: signed.secret.clone(),
        })
    }

    /// The hash of the leaf that the entry becomes.
    pub(crate) fn leaf_hash(&self) -> Digest {
        self.leaf_hash
    }
}

/// A row that somebody waits for.
#[derive(Debug)]
struct Arrival {
    row: Row,
    answer: oneshot::Sender<Result<Queued, LedgerError>>,
}

/// The task that queues rows for one ledger handle.
#[derive(Debug)]
pub(crate) struct Intake {
    sender: mpsc::Sender<Arrival>,
    task: AbortHandle,
}

impl Intake {
    /// Starts the task.
    pub(crate) fn start(pool: PgPool, options: &LedgerOptions) -> Self {
        let limits = Limits {
            intake_entries_max: options.intake_entries_max.max(1) as usize,
            pending_max: options.pending_max,
        };
        let (sender, receiver) = mpsc::channel(limits.intake_entries_max);
        let task = tokio::spawn(queue_for_ever(pool, limits, receiver)).abort_handle();
        Self { sender, task }
    }

    /// Queues a row together with those that arrive at the same time.
    ///
    /// # Errors
    /// As [`enqueue`], of this row alone.
    pub(crate) async fn queue(&self, row: Row) -> Result<Queued, LedgerError> {
        let (answer, answered) = oneshot::channel();
        // The task ends with the ledger's connections, and with it both channels.
        let closed = || LedgerError::from(sqlx::Error::PoolClosed);
        let arrival = Arrival { row, answer };
        self.sender.send(arrival).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Ends the task.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Clone, Copy)]
struct Limits {
    intake_entries_max: usize,
    pending_max: u32,
}

async fn queue_for_ever(pool: PgPool, limits: Limits, mut receiver: mpsc::Receiver<Arrival>) {
    let mut arrivals = Vec::new();
    while receiver
        .recv_many(&mut arrivals, limits.intake_entries_max)
        .await
        > 0
    {
        let (rows, answers): (Vec<Row>, Vec<_>) = arrivals
            .drain(..)
            .map(|arrival| (arrival.row, arrival.answer))
            .unzip();
        for (answer, outcome) in answers.into_iter().zip(queue(&pool, limits, &rows).await) {
            // Who no longer listens has left; the row is queued all the same.
            let _ = answer.send(outcome);
        }
    }
}

/// Queues rows in one statement; where that fails, each alone, so that none spoils the others.
async fn queue(pool: &PgPool, limits: Limits, rows: &[Row]) -> Vec<Result<Queued, LedgerError>> {
    match queue_together(pool, limits, rows).await {
        Ok(queued) => queued,
        Err(error) if rows.len() == 1 => vec![Err(error)],
        Err(LedgerError::DatabaseDown { source }) => {
            let detail = source.to_string();
            let down = |_: &Row| {
                let source = sqlx::Error::Io(std::io::Error::other(detail.clone()));
                Err(LedgerError::DatabaseDown { source })
            };
            rows.iter().map(down).collect()
        }
        Err(_) => {
            let mut outcomes = Vec::with_capacity(rows.len());
            for row in rows {
                let queued = queue_together(pool, limits, std::slice::from_ref(row)).await;
                outcomes.push(queued.and_then(|mut queued| {
                    queued
                        .pop()
                        .unwrap_or_else(|| Err(LedgerError::damaged("a row without an answer")))
                }));
            }
            outcomes
        }
    }
}

async fn queue_together(
    pool: &PgPool,
    limits: Limits,
    rows: &[Row],
) -> Result<Vec<Result<Queued, LedgerError>>, LedgerError> {
    enqueue(&mut *pool.acquire().await?, limits.pending_max, rows).await
}

/// Queues rows and keeps their secrets.
///
/// # Errors
/// When the database fails; then nothing is queued. The inner errors, one for each row, are a full
/// queue and a request that another entry answers already.
pub(crate) async fn enqueue(
    connection: &mut PgConnection,
    pending_max: u32,
    rows: &[Row],
) -> Result<Vec<Result<Queued, LedgerError>>, LedgerError> {
    let mut outcomes = insert(connection, pending_max, rows).await?;
    for (outcome, row) in outcomes.iter_mut().zip(rows) {
        // The statement did not see what another one queued at the same moment: the same envelope is
        // no conflict.
        if matches!(outcome, Err(LedgerError::RequestConflict))
            && is_known(connection, &row.leaf_hash).await?
        {
            *outcome = Ok(Queued::Known);
        }
    }
    Ok(outcomes)
}

async fn is_known(connection: &mut PgConnection, leaf_hash: &Digest) -> Result<bool, LedgerError> {
    let row = sqlx::query!(
        r#"SELECT EXISTS (SELECT FROM pending WHERE leaf_hash = $1)
               OR EXISTS (SELECT FROM entries WHERE leaf_hash = $1) AS "is_known!""#,
        leaf_hash.as_bytes()
    )
    .fetch_one(connection)
    .await?;
    Ok(row.is_known)
}

/// Rows as the statement takes them: column by column.
struct Columns<'a> {
    hashes: Vec<&'a [u8]>,
    envelopes: Vec<&'a [u8]>,
    kinds: Vec<&'a str>,
    requests: Vec<&'a str>,
    images: Vec<i64>,
    clients: Vec<&'a str>,
    salts: Vec<Option<&'a [u8]>>,
    prompts: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    fn of(rows: &'a [Row]) -> Self {
        let secrets = || rows.iter().map(|row| row.secret.as_ref());
        Self {
            hashes: rows
                .iter()
                .map(|row| &row.leaf_hash.as_bytes()[..])
                .collect(),
            envelopes: rows.iter().map(|row| &row.envelope[..]).collect(),
            kinds: rows.iter().map(|row| row.kind).collect(),
            requests: rows.iter().map(|row| row.request_id.as_str()).collect(),
            images: rows.iter().map(|row| row.image_index).collect(),
            clients: rows.iter().map(|row| row.client.as_str()).collect(),
            salts: secrets()
                .map(|secret| secret.map(|secret| &secret.salt[..]))
                .collect(),
            prompts: secrets()
                .map(|secret| secret.map(|secret| secret.prompt.as_str()))
                .collect(),
        }
    }
}

/// Puts rows into the queue with their secrets, in one statement: each row with its secret or neither.
/// Answers for each row, in their order. Refuses more work than the sequencer can be expected to catch
/// up with: the distance between first and last arrival is at least the number of waiting rows less
/// one, and costs two index look-ups.
async fn insert(
    connection: &mut PgConnection,
    pending_max: u32,
    rows: &[Row],
) -> Result<Vec<Result<Queued, LedgerError>>, LedgerError> {
    let columns = Columns::of(rows);
    let outcomes = sqlx::query!(
        r#"WITH given AS (
               SELECT * FROM unnest(
                   $1::bytea[], $2::bytea[], $3::text[], $4::text[], $5::bigint[], $6::text[],
                   $7::bytea[], $8::text[]
               ) WITH ORDINALITY AS given (
                   leaf_hash, envelope, kind, request_id, image_index, client, salt, prompt, place
               )
           ), known AS (
               SELECT leaf_hash FROM entries WHERE leaf_hash = ANY($1)
               UNION SELECT leaf_hash FROM pending WHERE leaf_hash = ANY($1)
           ), queue AS (
               SELECT coalesce(max(arrival) - min(arrival), 0) AS waiting
               FROM pending WHERE refusal IS NULL
           ), queued AS (
               INSERT INTO pending (leaf_hash, envelope, kind, request_id, image_index, client)
               SELECT leaf_hash, envelope, kind, request_id, image_index, client
               FROM given, queue
               WHERE waiting + place <= $10 AND leaf_hash NOT IN (SELECT leaf_hash FROM known)
               ORDER BY place
               ON CONFLICT DO NOTHING
               RETURNING leaf_hash
           ), kept AS (
               INSERT INTO prompts (leaf_hash, salt, prompt)
               SELECT leaf_hash, salt, prompt FROM given JOIN queued USING (leaf_hash)
               WHERE salt IS NOT NULL
               ON CONFLICT (leaf_hash) DO NOTHING
           )
           SELECT leaf_hash IN (SELECT leaf_hash FROM queued) AS "is_new!",
                  leaf_hash IN (SELECT leaf_hash FROM known) AS "is_known!",
                  waiting + place > $10 AS "is_over!",
                  CASE WHEN place = 1 AND EXISTS (SELECT FROM queued)
                            AND NOT EXISTS (SELECT FROM pending WHERE refusal IS NULL)
                  THEN pg_notify($9, '') IS NULL END AS told
           FROM given, queue ORDER BY place"#,
        &columns.hashes as &[&[u8]],
        &columns.envelopes as &[&[u8]],
        &columns.kinds as &[&str],
        &columns.requests as &[&str],
        &columns.images,
        &columns.clients as &[&str],
        &columns.salts as &[Option<&[u8]>],
        &columns.prompts as &[Option<&str>],
        PENDING,
        i64::from(pending_max)
    )
    .fetch_all(connection)
    .await?;
    let outcomes = outcomes.into_iter().map(|row| {
        if row.is_new {
            Ok(Queued::New)
        } else if row.is_known {
            Ok(Queued::Known)
        } else if row.is_over {
            Err(LedgerError::QueueFull { pending_max })
        } else {
            // Another row of this statement or of another one at the same moment has the same request.
            Err(LedgerError::RequestConflict)
        }
    });
    Ok(outcomes.collect())
}
