//! The log as files that never change: hash tiles and entry bundles, by C2SP tlog-tiles.

use std::ops::Range;

use provenance::tile::{TILE_HEIGHT, entry_bundle, hash_tile};
use provenance::{Tile, TileLevel};

use crate::LedgerError;
use crate::connect::Ledger;
use crate::entries::{digest, to_i64};

impl Ledger {
    /// The bytes of a tile, full or partial. None when the newest checkpoint does not cover all of it:
    /// what is recorded but not yet published may still be lost to a crash, and a tile is for ever.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub async fn tile(&self, tile: Tile) -> Result<Option<Vec<u8>>, LedgerError> {
        if !tile.is_within(self.published_size().await?) {
            return Ok(None);
        }
        let range = tile.range().expect("a tile within a tree has a range");
        let bytes = match tile.level() {
            TileLevel::Entries => self.entry_bundle(range).await?,
            TileLevel::Hashes(level) => self.hash_tile(level, range).await?,
        };
        Ok(Some(bytes))
    }

    /// The hashes of these subtrees with `256^level` leaves.
    async fn hash_tile(&self, level: u8, range: Range<u64>) -> Result<Vec<u8>, LedgerError> {
        let tree_level = i16::from(level) * i16::from(TILE_HEIGHT);
        let rows = sqlx::query!(
            "SELECT hash FROM nodes
             WHERE level = $1 AND node_index >= $2 AND node_index < $3 ORDER BY node_index",
            tree_level,
            to_i64(range.start, "node index")?,
            to_i64(range.end, "node index")?
        )
        .fetch_all(&self.pool)
        .await?;
        check_count(rows.len(), &range, "tree nodes")?;
        let hashes = rows
            .iter()
            .map(|row| digest(&row.hash))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(hash_tile(&hashes))
    }

    /// The envelopes at these places.
    async fn entry_bundle(&self, range: Range<u64>) -> Result<Vec<u8>, LedgerError> {
        let rows = sqlx::query!(
            "SELECT envelope FROM entries
             WHERE leaf_index >= $1 AND leaf_index < $2 ORDER BY leaf_index",
            to_i64(range.start, "leaf index")?,
            to_i64(range.end, "leaf index")?
        )
        .fetch_all(&self.pool)
        .await?;
        check_count(rows.len(), &range, "entries")?;
        Ok(entry_bundle(rows.iter().map(|row| &row.envelope[..]))?)
    }
}

/// Places are unique, so as many rows as places means that none is missing.
fn check_count(found: usize, range: &Range<u64>, what: &str) -> Result<(), LedgerError> {
    let expected = range.end - range.start;
    if found as u64 != expected {
        let Range { start, end } = range;
        return Err(LedgerError::damaged(format!(
            "{found} {what} where {expected} from {start} up to {end} were recorded"
        )));
    }
    Ok(())
}
