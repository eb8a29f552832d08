//! The walk over all entries of a ledger: each signature, and the tree that they make.

use std::num::NonZero;
use std::thread;

use indicatif::ProgressBar;
use provenance::merkle::{Appender, Hash, TreeHead};
use provenance::{
    Checkpoint, Entry, KeyHistory, LeafIndex, ProvenanceError, PublicKeys, VerifiedAhead,
};

use crate::input::InputError;
use crate::report::{Check, Reason};
use crate::source::{Batch, Source};
use crate::tile_folder::HashTiles;

/// Batches that each thread gets at a time: enough that starting a thread is nothing beside the work.
const BATCHES_OF_A_THREAD: usize = 4;

/// Why the walk ended before the last entry.
#[derive(Debug)]
pub enum Stop {
    /// Something cannot be read.
    Reading(InputError),
    /// An entry does not hold, or is missing.
    Entry(Reason),
}

/// An entry whose signature holds. Its place holds once the tree does.
#[derive(Debug)]
pub struct Met {
    /// Its place in the log.
    pub leaf_index: LeafIndex,
    /// The hash of its leaf.
    pub leaf_hash: Hash,
    /// What it states.
    pub entry: Entry,
}

/// The walk over all entries in the order of the log.
pub struct Walk<'a> {
    /// The keys that signed the entries so far.
    keys: KeyHistory,
    appender: Appender,
    /// The checkpoints in the order of their sizes, and how many of them were reached.
    heads: &'a [Checkpoint],
    roots_found: Vec<TreeHead>,
    hash_tiles: Option<HashTiles<'a>>,
}

impl<'a> Walk<'a> {
    /// A walk from the first entry on, past these checkpoints, smallest first.
    pub fn new(
        keys: &PublicKeys,
        heads: &'a [Checkpoint],
        hash_tiles: Option<HashTiles<'a>>,
    ) -> Self {
        let mut walk = Self {
            // A walk verifies every entry of the log.
            keys: KeyHistory::new(keys).prepared(),
            appender: Appender::empty(),
            heads,
            roots_found: Vec::new(),
            hash_tiles,
        };
        walk.meet_heads();
        walk
    }

    /// The keys that signed the entries, as the log itself says.
    pub fn keys(&self) -> &KeyHistory {
        &self.keys
    }

    /// How many entries were met.
    pub fn size(&self) -> u64 {
        self.appender.size().get()
    }

    /// Notes the present root for every checkpoint of the present size.
    fn meet_heads(&mut self) {
        while self
            .heads
            .get(self.roots_found.len())
            .is_some_and(|head| head.tree_size == self.appender.size())
        {
            self.roots_found.push(TreeHead {
                size: self.appender.size(),
                root_hash: self.appender.root(),
            });
        }
    }

    /// Walks to the end, and shows each entry whose signature holds to `visit`.
    ///
    /// # Errors
    /// The first entry that does not hold.
    pub fn run(
        &mut self,
        source: &mut dyn Source,
        progress: &ProgressBar,
        visit: &mut dyn FnMut(&Met),
    ) -> Result<(), Stop> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        loop {
            // What was read before a stop is looked at first: it may hold an earlier reason.
            let mut batches = Vec::new();
            let mut stop = None;
            while batches.len() < threads * BATCHES_OF_A_THREAD && stop.is_none() {
                match source.next_batch() {
                    Ok(batch) if batch.is_empty() => break,
                    Ok(batch) => batches.push(batch),
                    Err(stopped) => stop = Some(stopped),
                }
            }
            let ended = batches.is_empty() && stop.is_none();
            for verified in verify(&batches, threads, &self.keys) {
                let entries = verified.len();
                self.append(verified, visit)?;
                progress.inc(entries as u64);
            }
            match stop {
                Some(stop) => return Err(stop),
                None if ended => return Ok(()),
                None => {}
            }
        }
    }

    fn append(
        &mut self,
        entries: Vec<Result<VerifiedAhead, ProvenanceError>>,
        visit: &mut dyn FnMut(&Met),
    ) -> Result<(), Stop> {
        let size_max = self.heads.last().map_or(0, |head| head.tree_size.get());
        let mut new_nodes = Vec::new();
        for entry in entries {
            let place = self.size();
            let refused = |refusal: ProvenanceError| {
                let detail = format!("entry {place}: {refusal}");
                Stop::Entry(Reason::new(refusal.code(), detail))
            };
            if place >= size_max {
                let detail = format!("entry {place} is not covered by the checkpoint");
                return Err(Stop::Entry(Reason::new("entry-not-covered", detail)));
            }
            let entry = entry.map_err(refused)?;
            let leaf_hash = entry.leaf_hash();
            let entry = self
                .keys
                .meet_ahead(LeafIndex::new(place), entry)
                .map_err(refused)?;
            new_nodes.clear();
            let leaf_index = self
                .appender
                .append(leaf_hash, &mut new_nodes)
                .map_err(refused)?;
            self.meet_heads();
            if let Some(hash_tiles) = &mut self.hash_tiles {
                for node in &new_nodes {
                    hash_tiles.add(node)?;
                }
            }
            visit(&Met {
                leaf_index,
                leaf_hash,
                entry,
            });
        }
        Ok(())
    }

    /// What came of the comparison of hash tiles, where there was one. Called after the last entry.
    ///
    /// # Errors
    /// When a tile cannot be read.
    pub fn hash_tile_check(&mut self) -> Result<Option<Check>, Stop> {
        self.hash_tiles.take().map(HashTiles::finish).transpose()
    }

    /// One check for every checkpoint: whether the entries make its tree.
    pub fn tree_checks(&self) -> Vec<Check> {
        const CHECK: &str = "tree";
        let check = |(place, head): (usize, &Checkpoint)| {
            let size = head.tree_size;
            match self.roots_found.get(place) {
                None => {
                    let detail =
                        format!("{} entries where the checkpoint covers {size}", self.size());
                    Check::failed(CHECK, Reason::new("entries-missing", detail))
                }
                Some(found) if found.root_hash == head.root_hash => Check::ok(
                    CHECK,
                    format!("the first {size} entries have the signed root hash"),
                ),
                Some(found) => {
                    let detail = format!(
                        "the first {size} entries have the root hash {}, signed was {}",
                        found.root_hash, head.root_hash
                    );
                    Check::failed(CHECK, Reason::new("root-mismatch", detail))
                }
            }
        };
        self.heads.iter().enumerate().map(check).collect()
    }
}

type Answers = Vec<Result<VerifiedAhead, ProvenanceError>>;

/// Verifies batches side by side; the answers come in their order.
fn verify(batches: &[Batch], threads: usize, keys: &KeyHistory) -> Vec<Answers> {
    let share = batches.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let workers: Vec<_> = batches
            .chunks(share)
            .map(|chunk| {
                let verify_chunk = move || -> Vec<Answers> {
                    let entry = |bytes: &Vec<u8>| keys.verify_ahead(bytes);
                    chunk
                        .iter()
                        .map(|batch| batch.iter().map(entry).collect())
                        .collect()
                };
                scope.spawn(verify_chunk)
            })
            .collect();
        let joined = workers.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .flat_map(|answers| answers.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
