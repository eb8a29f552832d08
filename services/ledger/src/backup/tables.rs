//! The tables of the database, as its own catalogue lists them.

use std::collections::HashSet;

use sqlx::PgConnection;

use super::statement;
use crate::LedgerError;

/// Not part of a backup: what migrating makes anew, the lease, which no copy may hold, the models of workers that
/// may not be there any more, and the times of blocks, which follow from the entries.
const LEFT_OUT: [&str; 4] = [
    "_sqlx_migrations",
    "sequencer_lease",
    "announced_models",
    "entry_times",
];

/// A table and the columns that rows are made of.
pub(super) struct Table {
    pub name: String,
    pub columns: Vec<String>,
}

impl Table {
    /// The table with its columns, for a statement.
    pub(super) fn quoted(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|name| quote(name)).collect();
        format!("{} ({})", quote(&self.name), columns.join(", "))
    }
}

/// An identifier in a statement.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// All tables, each behind those that its rows refer to.
pub(super) async fn of(connection: &mut PgConnection) -> Result<Vec<Table>, LedgerError> {
    let rows: Vec<(String, Vec<String>)> = sqlx::query_as(
        "SELECT relname::text, array_agg(attname::text ORDER BY attnum)
         FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
         WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
           AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
         GROUP BY relname ORDER BY relname",
    )
    .fetch_all(&mut *connection)
    .await?;
    let references: Vec<(String, String)> = sqlx::query_as(
        "SELECT child.relname::text, parent.relname::text
         FROM pg_constraint
         JOIN pg_class AS child ON child.oid = conrelid
         JOIN pg_class AS parent ON parent.oid = confrelid
         WHERE contype = 'f' AND conrelid <> confrelid",
    )
    .fetch_all(connection)
    .await?;
    let mut waiting: Vec<Table> = rows
        .into_iter()
        .filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()))
        .map(|(name, columns)| Table { name, columns })
        .collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    let mut placed: HashSet<String> = HashSet::new();
    while !waiting.is_empty() {
        let is_ready = |table: &Table| {
            references
                .iter()
                .filter(|(child, _)| *child == table.name)
                .all(|(_, parent)| placed.contains(parent))
        };
        let (ready, rest): (Vec<Table>, Vec<Table>) = waiting.into_iter().partition(is_ready);
        if ready.is_empty() {
            return Err(LedgerError::damaged(
                "tables refer to each other in a circle",
            ));
        }
        placed.extend(ready.iter().map(|table| table.name.clone()));
        ordered.extend(ready);
        waiting = rest;
    }
    Ok(ordered)
}

/// Refuses a table that has rows.
pub(super) async fn require_empty(
    connection: &mut PgConnection,
    table: &Table,
) -> Result<(), LedgerError> {
    let query = format!("SELECT EXISTS (SELECT FROM {})", quote(&table.name));
    let (has_rows,): (bool,) = sqlx::query_as(statement(query))
        .fetch_one(connection)
        .await?;
    if has_rows {
        return Err(LedgerError::NotEmpty {
            table: table.name.clone(),
        });
    }
    Ok(())
}

/// Lets the numbers that the database counts go on behind those that were restored.
pub(super) async fn continue_identities(
    connection: &mut PgConnection,
    table: &Table,
) -> Result<(), LedgerError> {
    let columns: Vec<(String,)> = sqlx::query_as(
        "SELECT attname::text FROM pg_attribute
         WHERE attrelid = $1::regclass AND attidentity <> '' AND NOT attisdropped",
    )
    .bind(quote(&table.name))
    .fetch_all(&mut *connection)
    .await?;
    for (column,) in columns {
        let query = format!(
            "SELECT setval(pg_get_serial_sequence($1, $2), coalesce(max({}), 0) + 1, false) FROM {}",
            quote(&column),
            quote(&table.name)
        );
        sqlx::query(statement(query))
            .bind(quote(&table.name))
            .bind(&column)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
