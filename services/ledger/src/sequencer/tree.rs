//! The recorded tree, as the sequencer reads it.

use provenance::TreeSize;
use sqlx::PgConnection;

use crate::LedgerError;
use crate::entries::tree_size_of;

/// The number of recorded entries.
pub(super) async fn recorded_size(connection: &mut PgConnection) -> Result<TreeSize, LedgerError> {
    let row = sqlx::query!(r#"SELECT coalesce(max(leaf_index) + 1, 0) AS "size!" FROM entries"#)
        .fetch_one(connection)
        .await?;
    tree_size_of(row.size)
}
