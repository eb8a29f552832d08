//! Where the entries of a ledger come from: a file of lines or a folder of tiles.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use provenance::TreeSize;
use provenance::envelope::ENVELOPE_BYTES_MAX;
use provenance::tile::{TILE_WIDTH, Tile, entry_bundles};

use crate::input::{self, InputError};
use crate::tile_folder::TileFolder;
use crate::walk::Stop;

/// Entries in the order of the log, as they are stored.
pub type Batch = Vec<Vec<u8>>;

/// Gives the entries of a ledger in order.
pub trait Source {
    /// The next entries, at most a full bundle of them; none at the end.
    ///
    /// # Errors
    /// When they cannot be read, or are not there although they must be.
    fn next_batch(&mut self) -> Result<Batch, Stop>;
}

/// A file with one envelope a line.
pub struct Lines {
    path: PathBuf,
    file: BufReader<File>,
}

impl Lines {
    /// Opens the file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::new(input::open(path)?),
        })
    }
}

impl Source for Lines {
    fn next_batch(&mut self) -> Result<Batch, Stop> {
        // One byte for the newline, one to notice a line that is too long.
        let bytes_max = ENVELOPE_BYTES_MAX as u64 + 2;
        let mut batch = Batch::new();
        while batch.len() < usize::from(TILE_WIDTH) {
            let mut line = Vec::new();
            let mut limited = self.file.by_ref().take(bytes_max);
            let read = limited.read_until(b'\n', &mut line);
            let read = read.map_err(|source| {
                Stop::Reading(InputError::File {
                    path: self.path.clone(),
                    source,
                })
            })?;
            if read == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            batch.push(line);
        }
        Ok(batch)
    }
}

/// The entry bundles of a folder.
pub struct Bundles<'a> {
    folder: &'a TileFolder,
    bundles: Box<dyn Iterator<Item = Tile>>,
}

impl<'a> Bundles<'a> {
    /// All that a tree of this size has.
    pub fn new(folder: &'a TileFolder, tree_size: TreeSize) -> Self {
        Self {
            folder,
            bundles: Box::new(entry_bundles(tree_size)),
        }
    }
}

impl Source for Bundles<'_> {
    fn next_batch(&mut self) -> Result<Batch, Stop> {
        match self.bundles.next() {
            Some(bundle) => self.folder.entries(bundle),
            None => Ok(Batch::new()),
        }
    }
}
