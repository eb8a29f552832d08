//! Whether a page or an export left anything out: the search is done again over a folder of tiles.

use std::path::Path;

use provenance::tile::{TILE_WIDTH, TileLevel};
use provenance::{
    Checkpoint, Digest, Envelope, ExportManifest, LeafIndex, SignedCheckpoint, Tile, TreeSize,
};
use serde::Deserialize;
use serde_json::Value;

use crate::arguments::PageTask;
use crate::checkpoint;
use crate::input::{self, InputError};
use crate::keys::{self, Trusted};
use crate::ledger::Ledger;
use crate::report::{Check, Reason, Report};
use crate::search::Search;
use crate::tile_folder::TileFolder;
use crate::walk::Stop;

const CHECK: &str = "completeness";
/// A page has at most 500 entries of a few kilobytes, each beside its statement.
const PAGE_BYTES_MAX: u64 = 64 << 20;
/// Places that are named in the report.
const NAMED_MAX: usize = 10;

/// A page of `GET /v1/entries`. What it says besides is of no interest here.
#[derive(Deserialize)]
struct Page {
    entries: Vec<Row>,
    checkpoint: Option<PageCheckpoint>,
    next: Option<LeafIndex>,
}

#[derive(Deserialize)]
struct Row {
    leaf_index: LeafIndex,
    leaf_hash: Digest,
    statement: Value,
}

#[derive(Deserialize)]
struct PageCheckpoint {
    note: String,
}

/// Checks that a page holds exactly what its search finds in the log.
pub fn check_page(task: &PageTask, show_progress: bool) -> Result<Report, InputError> {
    let bytes = input::read(&task.file, PAGE_BYTES_MAX)?;
    let query: Vec<(String, String)> = serde_urlencoded::from_str(&task.query).unwrap_or_default();
    let (trusted, mut report) = match keys::load(&task.keys)? {
        Ok(loaded) => loaded,
        Err(report) => return Ok(*report),
    };
    let parameters = query.iter().map(|(name, value)| (&name[..], &value[..]));
    let search = match Search::parse(parameters) {
        Ok(search) => search,
        Err(reason) => {
            report.add(Check::failed("query", reason));
            return Ok(report);
        }
    };
    let page: Page = match serde_json::from_slice(&bytes) {
        Ok(page) => page,
        Err(error) => {
            report.add(Check::failed(
                "page",
                Reason::new("malformed", error.to_string()),
            ));
            return Ok(report);
        }
    };
    let Some(checkpoint) = page_checkpoint(&mut report, &page, &trusted) else {
        return Ok(report);
    };
    let log = Log {
        trusted: &trusted,
        tiles: &task.tiles,
        show_progress,
    };
    let Some(met) = log.search(&mut report, &search, &checkpoint)? else {
        return Ok(report);
    };
    report.add(compare_page(&search, &page, &met));
    Ok(report)
}

fn page_checkpoint(report: &mut Report, page: &Page, trusted: &Trusted) -> Option<Checkpoint> {
    const CHECK: &str = "checkpoint";
    let Some(named) = &page.checkpoint else {
        let detail = "the page names no checkpoint that it would be complete for";
        report.add(Check::failed(CHECK, Reason::new("no-checkpoint", detail)));
        return None;
    };
    let signed = SignedCheckpoint::parse(&named.note);
    let log = trusted.history.checkpoints();
    match signed.and_then(|signed| log.verify(&signed).cloned()) {
        Ok(checkpoint) => {
            let detail = format!(
                "the page is about the first {} entries",
                checkpoint.tree_size
            );
            report.add(Check::ok(CHECK, detail));
            Some(checkpoint)
        }
        Err(refusal) => {
            report.add(Check::failed(CHECK, refusal));
            None
        }
    }
}

fn compare_page(search: &Search, page: &Page, met: &[Found]) -> Check {
    let places: Vec<LeafIndex> = met.iter().map(|found| found.leaf_index).collect();
    let (expected, next) = search.page(&places);
    let found: Vec<LeafIndex> = page.entries.iter().map(|row| row.leaf_index).collect();
    if let Err(reason) = compare(&found, &expected) {
        return Check::failed(CHECK, reason);
    }
    if page.next != next {
        let name = |place: Option<LeafIndex>| match place {
            Some(place) => format!("the next page begins behind {place}"),
            None => "nothing follows".to_owned(),
        };
        let detail = format!("the page says that {}, but {}", name(page.next), name(next));
        return Check::failed(CHECK, Reason::new("page-end-differs", detail));
    }
    let differs = page.entries.iter().find(|row| {
        let recorded = met.iter().find(|found| found.leaf_index == row.leaf_index);
        recorded.is_none_or(|found| {
            found.leaf_hash != row.leaf_hash || found.statement().as_ref() != Some(&row.statement)
        })
    });
    if let Some(row) = differs {
        let detail = format!("entry {} is not what the log has there", row.leaf_index);
        return Check::failed(CHECK, Reason::new("page-entry-differs", detail));
    }
    Check::ok(
        CHECK,
        format!("all {} entries of this page, and no others", expected.len()),
    )
}

/// An export that holds for itself.
pub struct Exported<'a> {
    /// What its signer states.
    pub manifest: &'a ExportManifest,
    /// The checkpoint that it is said to be complete for.
    pub checkpoint: &'a Checkpoint,
    /// Where its rows stand in the log.
    pub places: &'a [LeafIndex],
}

/// Checks that an export holds exactly what its search finds in the log under its checkpoint.
///
/// # Errors
/// When the tiles cannot be read.
pub fn check_export(
    report: &mut Report,
    log: &Log<'_>,
    exported: &Exported<'_>,
) -> Result<(), InputError> {
    let conditions = exported.manifest.filter.iter();
    let conditions = conditions.map(|(name, value)| (&name[..], &value[..]));
    let search = match Search::parse(conditions) {
        Ok(search) => search,
        Err(reason) => {
            report.add(Check::failed(CHECK, reason));
            return Ok(());
        }
    };
    let Some(met) = log.search(report, &search, exported.checkpoint)? else {
        return Ok(());
    };
    let expected: Vec<LeafIndex> = met.iter().map(|found| found.leaf_index).collect();
    report.add(match compare(exported.places, &expected) {
        Ok(()) => Check::ok(
            CHECK,
            format!(
                "all {} entries that the log has for this search",
                expected.len()
            ),
        ),
        Err(reason) => Check::failed(CHECK, reason),
    });
    Ok(())
}

/// Compares places in the order asked for.
fn compare(found: &[LeafIndex], expected: &[LeafIndex]) -> Result<(), Reason> {
    if found == expected {
        return Ok(());
    }
    let named = |places: Vec<&LeafIndex>| {
        let mut texts: Vec<String> = places.iter().map(ToString::to_string).collect();
        let more = texts.len().saturating_sub(NAMED_MAX);
        texts.truncate(NAMED_MAX);
        match more {
            0 => texts.join(", "),
            more => format!("{} and {more} more", texts.join(", ")),
        }
    };
    let without = |of: &'_ [LeafIndex], others: &[LeafIndex]| -> Vec<LeafIndex> {
        let others: std::collections::HashSet<&LeafIndex> = others.iter().collect();
        of.iter()
            .filter(|place| !others.contains(place))
            .copied()
            .collect()
    };
    let missing = without(expected, found);
    if !missing.is_empty() {
        let detail = format!("left out: entry {}", named(missing.iter().collect()));
        return Err(Reason::new("entries-left-out", detail));
    }
    let surplus = without(found, expected);
    if !surplus.is_empty() {
        let detail = format!(
            "does not belong there: entry {}",
            named(surplus.iter().collect())
        );
        return Err(Reason::new("entries-surplus", detail));
    }
    let detail = "the entries stand in another order, or one stands there twice";
    Err(Reason::new("entries-order", detail))
}

/// An entry that meets a search.
struct Found {
    leaf_index: LeafIndex,
    leaf_hash: Digest,
    payload: Vec<u8>,
}

impl Found {
    fn statement(&self) -> Option<Value> {
        serde_json::from_slice(&self.payload).ok()
    }
}

/// A mirrored log to search.
pub struct Log<'a> {
    /// Whose signatures are believed.
    pub trusted: &'a Trusted,
    /// The folder of tiles.
    pub tiles: &'a Path,
    /// Whether a progress bar is shown.
    pub show_progress: bool,
}

impl Log<'_> {
    /// All entries under the checkpoint that meet the search, oldest first. The whole folder is
    /// verified on the way, and that the checkpoint is one of its history; none when that fails.
    fn search(
        &self,
        report: &mut Report,
        search: &Search,
        checkpoint: &Checkpoint,
    ) -> Result<Option<Vec<Found>>, InputError> {
        let folder = TileFolder::new(self.tiles);
        let latest = checkpoint::check_witnessed(report, &folder.checkpoint(), self.trusted)?;
        let Some(signed) = latest else {
            return Ok(None);
        };
        let latest = signed.unverified().clone();
        if latest.tree_size < checkpoint.tree_size {
            let detail = format!(
                "the tiles end at {} entries, the checkpoint covers {}: fetch the rest",
                latest.tree_size, checkpoint.tree_size
            );
            let reason = Reason::new("tiles-too-old", detail);
            report.add(Check::not_checked(CHECK, reason));
            return Ok(None);
        }
        report.prove_checkpoint(&latest);
        let size = checkpoint.tree_size;
        let heads = [checkpoint.clone(), latest];
        let ledger = Ledger {
            trusted: self.trusted,
            heads: &heads,
            newest: &signed,
            show_progress: self.show_progress,
        };
        let search = match with_hash(search, &folder, size)? {
            Ok(search) => search,
            Err(reason) => {
                report.add(Check::failed(CHECK, reason));
                return Ok(None);
            }
        };
        let mut met_search = Vec::new();
        let keys = ledger.check_folder(&folder, report, &mut |met| {
            if size.contains(met.leaf_index) && search.is_met_by(&met.entry) {
                met_search.push(Found {
                    leaf_index: met.leaf_index,
                    leaf_hash: met.leaf_hash,
                    payload: met.entry.to_bytes(),
                });
            }
        })?;
        if !report.holds() {
            let reason = Reason::new("log-does-not-hold", "its entries cannot be believed");
            report.add(Check::not_checked(CHECK, reason));
            return Ok(None);
        }
        let mut signed = Vec::with_capacity(met_search.len());
        for found in met_search {
            match search.is_signed_as_asked(&keys, found.leaf_index) {
                Ok(true) => signed.push(found),
                Ok(false) => {}
                Err(reason) => {
                    report.add(Check::failed(CHECK, reason));
                    return Ok(None);
                }
            }
        }
        Ok(Some(signed))
    }
}

/// The search with the perceptual hash of the entry that it names, where it names one. The entry is verified
/// with all others later on.
fn with_hash(
    search: &Search,
    folder: &TileFolder,
    size: TreeSize,
) -> Result<Result<Search, Reason>, InputError> {
    let Some(place) = search.like_entry() else {
        return Ok(Ok(search.clone()));
    };
    let none = || {
        let detail = format!("entry {place} has no image that others could be like");
        Reason::new("unknown-condition", detail)
    };
    if !size.contains(place) {
        return Ok(Err(none()));
    }
    let width = u64::from(TILE_WIDTH);
    let (index, offset) = (place.get() / width, place.get() % width);
    let entries = (size.get() - index * width).min(width);
    let entries = u16::try_from(entries).expect("a tile's width is small");
    let bundle = Tile::new(TileLevel::Entries, index, entries).expect("a tile that holds an entry");
    let leaves = match folder.entries(bundle) {
        Ok(leaves) => leaves,
        Err(Stop::Entry(reason)) => return Ok(Err(reason)),
        Err(Stop::Reading(error)) => return Err(error),
    };
    let leaf = usize::try_from(offset)
        .ok()
        .and_then(|offset| leaves.get(offset));
    let entry = leaf.and_then(|leaf| Envelope::parse(leaf).ok()?.unverified_entry().ok());
    Ok(entry
        .and_then(|entry| search.clone().like(&entry))
        .ok_or_else(none))
}
