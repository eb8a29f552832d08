//! Tiles: the log as a finite set of files that never change, by C2SP tlog-tiles.
//!
//! A *hash tile* of level `l` holds up to 256 consecutive hashes of complete subtrees with `256^l`
//! leaves each; an *entry bundle* holds the data of up to 256 consecutive leaves. A tile that is not
//! full is *partial*; its path names its width, so that a tile and its later, wider form are
//! different files. The paths of tile 1234067 are `tile/0/x001/x234/067` and, with five hashes,
//! `tile/0/x001/x234/067.p/5`.
//!
//! This module knows paths, ranges and bytes. Nothing in a tile is signed: what it holds is believed
//! once it leads to the root hash of a checkpoint.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::encoding::{check_length, decimal_u64};
use crate::envelope::ENVELOPE_BYTES_MAX;
use crate::merkle::{Hash, NodeId};
use crate::{Digest, ProvenanceError, TreeSize};

/// The binary logarithm of [`TILE_WIDTH`]: levels of the Merkle tree that one level of tiles spans.
pub const TILE_HEIGHT: u8 = 8;
/// Hashes of a full tile and entries of a full bundle.
pub const TILE_WIDTH: u16 = 1 << TILE_HEIGHT;
/// Highest level that a path may name, by the specification. A tree of 64-bit size ends at level 7.
pub const TILE_LEVEL_MAX: u8 = 63;
/// Longest entry bundle: a length and the longest entry, 256 times.
pub const ENTRY_BUNDLE_BYTES_MAX: usize = TILE_WIDTH as usize * (LENGTH_BYTES + ENVELOPE_BYTES_MAX);

/// Seven path elements hold 64 bits; nothing legal is longer than this.
const PATH_BYTES_MAX: usize = 64;
/// What one path element counts to.
const PATH_BASE: u64 = 1_000;
/// Bytes of a hash in a tile.
const HASH_BYTES: usize = 32;
/// Bytes of the length before each entry in a bundle.
const LENGTH_BYTES: usize = 2;

const PATH: &str = "tile path";
const BUNDLE: &str = "entry bundle";
const HASHES: &str = "hash tile";

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileLevel {
    /// Hashes of complete subtrees with `256^level` leaves; level 0 holds leaf hashes.
    Hashes(u8),
    /// The data of leaves.
    Entries,
}

/// The name of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    level: TileLevel,
    index: u64,
    /// 1 to 256.
    width: u16,
}

impl Tile {
    /// The tile with this zero-based place in its level and this many hashes or entries.
    ///
    /// # Errors
    /// Refuses levels over [`TILE_LEVEL_MAX`] and widths that are not 1 to [`TILE_WIDTH`].
    pub fn new(level: TileLevel, index: u64, width: u16) -> Result<Self, ProvenanceError> {
        let malformed = |detail: &str| Err(ProvenanceError::malformed(PATH, detail));
        if matches!(level, TileLevel::Hashes(level) if level > TILE_LEVEL_MAX) {
            return malformed("a level is a number from 0 to 63");
        }
        if width == 0 || width > TILE_WIDTH {
            return malformed("a tile is 1 to 256 wide");
        }
        Ok(Self {
            level,
            index,
            width,
        })
    }

    /// Parses what stands behind `tile/` in a path: `0/x001/234`, `entries/067.p/5`.
    ///
    /// # Errors
    /// Refuses every spelling but the one that [`Tile`] is written in: superfluous zeroes, a partial
    /// tile of width 0 or 256, elements that are not three digits.
    pub fn parse(path: &str) -> Result<Self, ProvenanceError> {
        let malformed = |detail: &str| ProvenanceError::malformed(PATH, detail);
        check_length(PATH, path.len(), PATH_BYTES_MAX)?;
        let (level, place) = path
            .split_once('/')
            .ok_or_else(|| malformed("a level and an index are needed"))?;
        let level = match level {
            "entries" => TileLevel::Entries,
            digits => decimal_u64(PATH, digits)?
                .try_into()
                .map(TileLevel::Hashes)
                .map_err(|_| malformed("a level is a number from 0 to 63"))?,
        };
        let (index, width) = match place.split_once(".p/") {
            None => (place, TILE_WIDTH),
            Some((index, width)) => {
                let width = decimal_u64(PATH, width)?;
                let partial = u16::try_from(width)
                    .ok()
                    .filter(|width| *width < TILE_WIDTH);
                let refused = || malformed("a partial tile is 1 to 255 wide");
                (index, partial.ok_or_else(refused)?)
            }
        };
        let tile = Self::new(level, parse_index(index)?, width)?;
        // What is left are elements that stand for nothing (x000/001).
        if tile.path() != path {
            return Err(ProvenanceError::NotCanonical { what: PATH });
        }
        Ok(tile)
    }

    /// What it holds.
    pub const fn level(self) -> TileLevel {
        self.level
    }

    /// Its zero-based place among the tiles of its level.
    pub const fn index(self) -> u64 {
        self.index
    }

    /// How many hashes or entries it has, 1 to [`TILE_WIDTH`].
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Whether it can grow no more.
    pub const fn is_full(self) -> bool {
        self.width == TILE_WIDTH
    }

    /// The full tile at the same place.
    pub const fn full(self) -> Self {
        Self {
            width: TILE_WIDTH,
            ..self
        }
    }

    /// Which hashes of its level, or which leaves, it holds. `None` beyond 64 bits.
    pub fn range(self) -> Option<Range<u64>> {
        let begin = self.index.checked_mul(u64::from(TILE_WIDTH))?;
        Some(begin..begin.checked_add(u64::from(self.width))?)
    }

    /// Whether a tree of this size has all that the tile holds.
    pub fn is_within(self, tree_size: TreeSize) -> bool {
        let available = match self.level {
            TileLevel::Entries => tree_size.get(),
            TileLevel::Hashes(level) => hashes_of_level(level, tree_size),
        };
        self.range().is_some_and(|range| range.end <= available)
    }

    /// The subtrees whose hashes the tile holds, in order; none for an entry bundle, and none where a
    /// tree of 64-bit size has no subtrees.
    pub fn nodes(self) -> impl Iterator<Item = NodeId> {
        let level = match self.level {
            TileLevel::Hashes(level) => level.checked_mul(TILE_HEIGHT).filter(|level| *level < 64),
            TileLevel::Entries => None,
        };
        let nodes = level.zip(self.range());
        nodes
            .into_iter()
            .flat_map(|(level, range)| range.map(move |index| NodeId::new(level, index)))
    }

    /// What stands behind `tile/` in its path.
    fn path(self) -> String {
        let mut index = format!("{:03}", self.index % PATH_BASE);
        let mut rest = self.index / PATH_BASE;
        while rest > 0 {
            index = format!("x{:03}/{index}", rest % PATH_BASE);
            rest /= PATH_BASE;
        }
        let level = match self.level {
            TileLevel::Hashes(level) => level.to_string(),
            TileLevel::Entries => "entries".to_owned(),
        };
        match self.is_full() {
            true => format!("{level}/{index}"),
            false => format!("{level}/{index}.p/{}", self.width),
        }
    }
}

impl fmt::Display for Tile {
    /// The whole path, without a slash before it: `tile/0/x001/x234/067`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "tile/{}", self.path())
    }
}

impl FromStr for Tile {
    type Err = ProvenanceError;

    /// Parses a whole path, without a slash before it.
    fn from_str(path: &str) -> Result<Self, ProvenanceError> {
        let refused = || ProvenanceError::malformed(PATH, "it must begin with tile/");
        Self::parse(path.strip_prefix("tile/").ok_or_else(refused)?)
    }
}

/// Three digits an element, an x before all but the last.
fn parse_index(text: &str) -> Result<u64, ProvenanceError> {
    let malformed = |detail: &str| ProvenanceError::malformed(PATH, detail);
    let elements: Vec<&str> = text.split('/').collect();
    let last = elements.len() - 1;
    let mut index: u64 = 0;
    for (place, element) in elements.into_iter().enumerate() {
        let digits = match place == last {
            true => Some(element),
            false => element.strip_prefix('x'),
        };
        let digits = digits
            .filter(|digits| digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse::<u64>().ok())
            .ok_or_else(|| malformed("an index is three digits an element, as in x001/x234/067"))?;
        index = index
            .checked_mul(PATH_BASE)
            .and_then(|index| index.checked_add(digits))
            .ok_or_else(|| malformed("the index needs more than 64 bits"))?;
    }
    Ok(index)
}

/// How many complete subtrees with `256^level` leaves a tree has.
fn hashes_of_level(level: u8, tree_size: TreeSize) -> u64 {
    let shift = u32::from(level) * u32::from(TILE_HEIGHT);
    tree_size.get().checked_shr(shift).unwrap_or(0)
}

/// All files that a tree of this size is made of: its hash tiles from level 0 up, then its entry
/// bundles; each level from left to right, the partial tile last.
pub fn tiles(tree_size: TreeSize) -> impl Iterator<Item = Tile> {
    let hash_levels = (0..=TILE_LEVEL_MAX)
        .map(move |level| (TileLevel::Hashes(level), hashes_of_level(level, tree_size)))
        .take_while(|(_, hashes)| *hashes > 0);
    hash_levels
        .chain([(TileLevel::Entries, tree_size.get())])
        .flat_map(|(level, available)| tiles_of_level(level, available))
}

/// The entry bundles of a tree of this size, from the first entry to the last.
pub fn entry_bundles(tree_size: TreeSize) -> impl Iterator<Item = Tile> {
    tiles_of_level(TileLevel::Entries, tree_size.get())
}

/// The hash tile or entry bundle in which a tree of this size has the hash or entry at this place of
/// its level. `None` when the tree has none there.
pub fn tile_of(level: TileLevel, place: u64, tree_size: TreeSize) -> Option<Tile> {
    let available = match level {
        TileLevel::Entries => tree_size.get(),
        TileLevel::Hashes(level) => hashes_of_level(level, tree_size),
    };
    let index = place / u64::from(TILE_WIDTH);
    let width = (available.checked_sub(index * u64::from(TILE_WIDTH))?).min(u64::from(TILE_WIDTH));
    let width = u16::try_from(width).expect("it is at most 256");
    (place < available).then_some(Tile {
        level,
        index,
        width,
    })
}

fn tiles_of_level(level: TileLevel, available: u64) -> impl Iterator<Item = Tile> {
    let full = available >> TILE_HEIGHT;
    let rest = u16::try_from(available % u64::from(TILE_WIDTH)).expect("the remainder of 256");
    let tile = move |index, width| Tile {
        level,
        index,
        width,
    };
    (0..full)
        .map(move |index| tile(index, TILE_WIDTH))
        .chain((rest > 0).then(|| tile(full, rest)))
}

/// The bytes of a hash tile.
pub fn hash_tile(hashes: &[Hash]) -> Vec<u8> {
    hashes
        .iter()
        .flat_map(|hash| hash.as_bytes().iter().copied())
        .collect()
}

/// The hashes of a tile of this width.
///
/// # Errors
/// Refuses any other number of bytes.
pub fn parse_hash_tile(bytes: &[u8], width: u16) -> Result<Vec<Hash>, ProvenanceError> {
    let expected = usize::from(width) * HASH_BYTES;
    if bytes.len() != expected {
        let detail = format!("{} bytes where {expected} are needed", bytes.len());
        return Err(ProvenanceError::malformed(HASHES, detail));
    }
    let (hashes, _) = bytes.as_chunks::<HASH_BYTES>();
    Ok(hashes
        .iter()
        .map(|hash| Digest::from_bytes(*hash))
        .collect())
}

/// The bytes of an entry bundle: each entry behind its length as a big-endian 16-bit number.
///
/// # Errors
/// Refuses an entry that is longer than its length can say.
pub fn entry_bundle<'a>(
    entries: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, ProvenanceError> {
    let mut bundle = Vec::new();
    for entry in entries {
        check_length(BUNDLE, entry.len(), ENVELOPE_BYTES_MAX)?;
        let length = u16::try_from(entry.len()).expect("the limit is what 16 bits hold");
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// The entries of a bundle of this width.
///
/// # Errors
/// Refuses more or fewer entries, and a bundle that ends inside an entry.
pub fn parse_entry_bundle(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, ProvenanceError> {
    let malformed = |detail: String| ProvenanceError::malformed(BUNDLE, detail);
    let mut entries = Vec::with_capacity(usize::from(width));
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<LENGTH_BYTES>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, after) = after
            .split_at_checked(length)
            .ok_or_else(|| malformed(format!("it ends inside entry {}", entries.len())))?;
        if entries.len() == usize::from(width) {
            return Err(malformed(format!("it has more than {width} entries")));
        }
        entries.push(entry);
        rest = after;
    }
    if !rest.is_empty() || entries.len() < usize::from(width) {
        return Err(malformed(format!(
            "it ends after {} entries where {width} are needed",
            entries.len()
        )));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
