//! Random edits by a superuser, each found and located by the check of the whole ledger.
//!
//! `cargo xtask tamper` runs this with a thousand edits.

use ledger::Problem;
use provenance::{LeafIndex, TreeSize};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::random::{Random, from_environment};
use crate::support::{TestLog, score, signed};

const EDITS: u64 = 30;
/// A full hash tile and a partial one.
const ENTRIES: usize = 300;

/// Columns of entries that are not their place: by the type of their values.
const BYTES: [&str; 5] = [
    "leaf_hash",
    "envelope",
    "image_sha256",
    "pixel_sha256",
    "model_digest",
];
const TEXTS: [&str; 5] = ["kind", "request_id", "client", "model_name", "verdict"];
const NUMBERS: [&str; 2] = ["image_index", "created_at_ms"];

/// An edit of one row, what takes it back, and where it must be found.
struct Edit {
    change: String,
    inverse: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Entry(u64),
    Node(i16, i64),
    Checkpoint(u64),
}

impl Place {
    /// Whether the problem names this place.
    fn is_in(&self, problem: &Problem) -> bool {
        match (self, problem) {
            (
                Self::Entry(place),
                Problem::LeafHash { leaf_index }
                | Problem::Envelope { leaf_index, .. }
                | Problem::Column { leaf_index }
                | Problem::MissingEntry { leaf_index },
            ) => *leaf_index == LeafIndex::new(*place),
            (
                Self::Node(level, index),
                Problem::Node {
                    level: l,
                    node_index,
                },
            ) => (*level, *index) == (i16::from(*l), i64::try_from(*node_index).unwrap()),
            (
                Self::Checkpoint(size),
                Problem::Checkpoint { tree_size, .. }
                | Problem::Root { tree_size, .. }
                | Problem::Beyond { tree_size, .. },
            ) => *tree_size == TreeSize::new(*size),
            _ => false,
        }
    }
}

/// Flips a bit of a byte of a column of bytes.
fn flip(row: (&str, &str, &str), byte: u64, bit: u64) -> (String, String) {
    let (table, column, key) = row;
    let mask = 1 << bit;
    let statement = format!(
        "UPDATE {table} SET {column} = set_byte({column}, {byte}, get_byte({column}, {byte}) # {mask}) \
         WHERE {key}"
    );
    (statement.clone(), statement)
}

async fn length(connection: &mut PgConnection, table: &str, column: &str, key: &str) -> u64 {
    let query =
        format!("SELECT coalesce(octet_length({column}), 0)::bigint FROM {table} WHERE {key}");
    let (length,): (i64,) = sqlx::query_as(AssertSqlSafe(query))
        .fetch_one(connection)
        .await
        .unwrap();
    u64::try_from(length).unwrap()
}

/// Puts another character in the place of one, and the old text back.
async fn other_text(
    connection: &mut PgConnection,
    row: (&str, &str, &str),
    random: &mut Random,
) -> Option<(String, String)> {
    let (table, column, key) = row;
    let query = format!("SELECT {column} FROM {table} WHERE {key}");
    let (text,): (Option<String>,) = sqlx::query_as(AssertSqlSafe(query))
        .fetch_one(connection)
        .await
        .unwrap();
    let text = text?;
    let mut characters: Vec<char> = text.chars().collect();
    let place = usize::try_from(random.below(characters.len() as u64)).unwrap();
    characters[place] = if characters[place] == 'x' { 'y' } else { 'x' };
    let changed: String = characters.into_iter().collect();
    let set =
        |text: &str| format!("UPDATE {table} SET {column} = $retrace${text}$retrace$ WHERE {key}");
    Some((set(&changed), set(&text)))
}

async fn edit_entry(connection: &mut PgConnection, random: &mut Random) -> Option<Edit> {
    let place = random.below(ENTRIES as u64);
    let key = format!("leaf_index = {place}");
    let (change, inverse) = match random.below(4) {
        0 | 1 => {
            let column = random.one_of(&BYTES);
            let length = length(connection, "entries", column, &key).await;
            if length == 0 {
                return None;
            }
            flip(
                ("entries", column, &key),
                random.below(length),
                random.below(8),
            )
        }
        2 => {
            let column = random.one_of(&TEXTS);
            other_text(connection, ("entries", column, &key), random).await?
        }
        _ => match random.below(3) {
            0 => (
                format!("UPDATE entries SET leaf_index = 999999 WHERE {key}"),
                format!("UPDATE entries SET leaf_index = {place} WHERE leaf_index = 999999"),
            ),
            _ => {
                let column = random.one_of(&NUMBERS);
                (
                    format!("UPDATE entries SET {column} = {column} + 1 WHERE {key}"),
                    format!("UPDATE entries SET {column} = {column} - 1 WHERE {key}"),
                )
            }
        },
    };
    let last_place = ENTRIES as u64 - 1;
    // The last entry leaves no gap behind: it is the checkpoint that misses it.
    let place = match change.contains("999999") && place == last_place {
        true => Place::Checkpoint(ENTRIES as u64),
        false => Place::Entry(place),
    };
    Some(Edit {
        change,
        inverse,
        place,
    })
}

async fn edit_node(connection: &mut PgConnection, random: &mut Random) -> Option<Edit> {
    let query = "SELECT level, node_index FROM nodes ORDER BY level, node_index OFFSET $1 LIMIT 1";
    let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM nodes")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    let offset = random.below(u64::try_from(count).unwrap());
    let (level, index): (i16, i64) = sqlx::query_as(query)
        .bind(i64::try_from(offset).unwrap())
        .fetch_one(connection)
        .await
        .unwrap();
    let key = format!("level = {level} AND node_index = {index}");
    let place = Place::Node(level, index);
    let (change, inverse) = match random.below(4) {
        0 => (
            format!("UPDATE nodes SET node_index = 999999 WHERE {key}"),
            format!(
                "UPDATE nodes SET node_index = {index} WHERE level = {level} AND node_index = 999999"
            ),
        ),
        _ => flip(("nodes", "hash", &key), random.below(32), random.below(8)),
    };
    Some(Edit {
        change,
        inverse,
        place,
    })
}

async fn edit_checkpoint(connection: &mut PgConnection, random: &mut Random) -> Option<Edit> {
    let (sizes,): (Vec<i64>,) = sqlx::query_as("SELECT array_agg(tree_size) FROM checkpoints")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    let size = *random.one_of(&sizes);
    let key = format!("tree_size = {size}");
    let mut found_at = u64::try_from(size).unwrap();
    let (change, inverse) = match random.below(3) {
        0 => flip(
            ("checkpoints", "root_hash", &key),
            random.below(32),
            random.below(8),
        ),
        1 => other_text(connection, ("checkpoints", "note", &key), random).await?,
        _ => {
            found_at = 888_888;
            (
                format!("UPDATE checkpoints SET tree_size = {found_at} WHERE {key}"),
                format!("UPDATE checkpoints SET tree_size = {size} WHERE tree_size = {found_at}"),
            )
        }
    };
    let place = Place::Checkpoint(found_at);
    Some(Edit {
        change,
        inverse,
        place,
    })
}

async fn run(connection: &mut PgConnection, statement: &str) {
    connection
        .execute(AssertSqlSafe(statement.to_owned()))
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
}

#[tokio::test]
async fn every_random_edit_of_a_superuser_is_found_and_located() {
    let edits = from_environment("RETRACE_TAMPER_EDITS", EDITS);
    let seed = from_environment("RETRACE_TAMPER_SEED", 1);
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..ENTRIES / 3).await;
    for number in ENTRIES / 3..ENTRIES / 3 + 5 {
        let envelope = signed(score("bob", &number.to_string()));
        log.ledger.append(&envelope, None).await.unwrap();
    }
    log.append_numbered(ENTRIES / 3 + 5..ENTRIES).await;
    sequencer.stop().await;
    let mut connection = log.superuser().await;
    for table in ["entries", "nodes", "checkpoints"] {
        run(
            &mut connection,
            &format!("ALTER TABLE {table} DISABLE TRIGGER USER"),
        )
        .await;
    }
    let mut random = Random::new(seed);
    let mut made = 0;
    while made < edits {
        let edit = match random.below(4) {
            0 => edit_node(&mut connection, &mut random).await,
            1 => edit_checkpoint(&mut connection, &mut random).await,
            _ => edit_entry(&mut connection, &mut random).await,
        };
        let Some(Edit {
            change,
            inverse,
            place,
        }) = edit
        else {
            continue;
        };
        made += 1;
        run(&mut connection, &change).await;
        let report = log.ledger.check().await.unwrap();
        let located = report.problems.iter().any(|problem| place.is_in(problem));
        assert!(
            located,
            "seed {seed}, edit {made}: {change}: {:?}",
            report.problems
        );
        run(&mut connection, &inverse).await;
    }
    connection.close().await.unwrap();
    eprintln!(
        "{made} edits of entries, nodes and checkpoints (seed {seed}): each found and located"
    );
    log.finish().await;
}
