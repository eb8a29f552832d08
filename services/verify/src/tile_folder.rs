//! A mirrored log: a folder with what `/checkpoint` and `/tile/…` answer, under the same paths.

use std::io;
use std::path::{Path, PathBuf};

use provenance::Tile;
use provenance::merkle::{Hash, NewNode};
use provenance::tile::{
    ENTRY_BUNDLE_BYTES_MAX, TILE_HEIGHT, TILE_WIDTH, TileLevel, parse_entry_bundle, parse_hash_tile,
};

use crate::input::{self, InputError};
use crate::report::{Check, Reason};
use crate::walk::Stop;

/// The folder.
#[derive(Debug)]
pub struct TileFolder {
    root: PathBuf,
}

impl TileFolder {
    /// The folder at this path.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Where its checkpoint lies.
    pub fn checkpoint(&self) -> PathBuf {
        self.root.join("checkpoint")
    }

    /// The entries of a bundle.
    pub fn entries(&self, bundle: Tile) -> Result<Vec<Vec<u8>>, Stop> {
        let Some((found, bytes)) = self.read(bundle)? else {
            let detail = format!("{bundle} is not in the folder");
            return Err(Stop::Entry(Reason::new("tile-missing", detail)));
        };
        let entries = parse_entry_bundle(&bytes, found.width()).map_err(|refusal| {
            Stop::Entry(Reason::new("tile-malformed", format!("{found}: {refusal}")))
        })?;
        let wanted = entries.into_iter().take(bundle.width().into());
        Ok(wanted.map(<[u8]>::to_vec).collect())
    }

    /// The hashes of a tile; none when the folder does not have it.
    fn hashes(&self, tile: Tile) -> Result<Option<Vec<Hash>>, Stop> {
        let Some((found, bytes)) = self.read(tile)? else {
            return Ok(None);
        };
        // Bytes of another length are a tile that differs.
        let mut hashes = parse_hash_tile(&bytes, found.width()).unwrap_or_default();
        hashes.truncate(tile.width().into());
        Ok(Some(hashes))
    }

    /// A tile's bytes, or those of the full tile that has taken its place.
    fn read(&self, tile: Tile) -> Result<Option<(Tile, Vec<u8>)>, Stop> {
        for candidate in [tile, tile.full()] {
            let path = self.root.join(candidate.to_string());
            match input::read(&path, ENTRY_BUNDLE_BYTES_MAX as u64) {
                Ok(bytes) => return Ok(Some((candidate, bytes))),
                Err(InputError::File { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Stop::Reading(error)),
            }
        }
        Ok(None)
    }
}

/// Compares the hash tiles of a folder with the hashes computed from the entries.
#[derive(Debug)]
pub struct HashTiles<'a> {
    folder: &'a TileFolder,
    /// For each level of tiles the hashes of the tile under way.
    rows: Vec<Row>,
    compared: u64,
    absent: u64,
    different: Vec<Tile>,
}

#[derive(Debug, Default)]
struct Row {
    index: u64,
    hashes: Vec<Hash>,
}

/// Tiles that are named in the report.
const DIFFERENT_MAX: usize = 10;

impl<'a> HashTiles<'a> {
    /// Nothing compared yet.
    pub fn new(folder: &'a TileFolder) -> Self {
        Self {
            folder,
            rows: Vec::new(),
            compared: 0,
            absent: 0,
            different: Vec::new(),
        }
    }

    /// Takes a subtree that an entry has completed.
    pub fn add(&mut self, node: &NewNode) -> Result<(), Stop> {
        if !node.id.level.is_multiple_of(TILE_HEIGHT) {
            return Ok(());
        }
        let level = usize::from(node.id.level / TILE_HEIGHT);
        if self.rows.len() <= level {
            self.rows.resize_with(level + 1, Row::default);
        }
        let row = &mut self.rows[level];
        row.hashes.push(node.hash);
        if row.hashes.len() == usize::from(TILE_WIDTH) {
            self.compare(level)?;
            let row = &mut self.rows[level];
            row.index += 1;
            row.hashes.clear();
        }
        Ok(())
    }

    /// Compares what is left and answers the check.
    pub fn finish(mut self) -> Result<Check, Stop> {
        const CHECK: &str = "hash tiles";
        for level in 0..self.rows.len() {
            if !self.rows[level].hashes.is_empty() {
                self.compare(level)?;
            }
        }
        let Self {
            compared, absent, ..
        } = self;
        if !self.different.is_empty() {
            let named: Vec<String> = self.different.iter().map(Tile::to_string).collect();
            let detail = format!("not what the entries give: {}", named.join(", "));
            return Ok(Check::failed(CHECK, Reason::new("tile-differs", detail)));
        }
        if compared == 0 {
            let detail = "the folder has none, and the entries need none";
            return Ok(Check::skipped(CHECK, Reason::new("tiles-absent", detail)));
        }
        let absent = match absent {
            0 => String::new(),
            absent => format!(", {absent} are not in the folder and not needed"),
        };
        Ok(Check::ok(
            CHECK,
            format!("{compared} follow from the entries{absent}"),
        ))
    }

    fn compare(&mut self, level: usize) -> Result<(), Stop> {
        let row = &self.rows[level];
        let width = u16::try_from(row.hashes.len()).expect("a row is at most a full tile");
        let tile_level = u8::try_from(level).expect("a tree of 64-bit size has few levels");
        let tile = Tile::new(TileLevel::Hashes(tile_level), row.index, width)
            .expect("a row under way has hashes");
        match self.folder.hashes(tile)? {
            None => self.absent += 1,
            Some(hashes) if hashes == row.hashes => self.compared += 1,
            Some(_) if self.different.len() < DIFFERENT_MAX => self.different.push(tile),
            Some(_) => {}
        }
        Ok(())
    }
}
