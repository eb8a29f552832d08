//! `retrace-verify image`

use std::path::Path;

use provenance::{Digest, Entry, KeyHistory, LeafIndex};

use crate::arguments::{BundleTask, ImageTask};
use crate::input::InputError;
use crate::ledger::{self, Ledger};
use crate::report::{Check, Reason, Report};
use crate::tile_folder::TileFolder;
use crate::walk::Met;
use crate::{bundle, image, keys, manifest};

/// Further entries with the same image that are named in the report.
const FURTHER_MAX: usize = 10;

/// Looks an image file up in a bundle or in a folder of tiles.
pub fn check(task: &ImageTask, show_progress: bool) -> Result<Report, InputError> {
    let mut report = match (&task.bundle, &task.tiles) {
        (Some(bundle), _) => bundle::check(&BundleTask {
            file: bundle.clone(),
            image: Some(task.file.clone()),
            no_image: false,
            keys: task.keys.clone(),
        }),
        (None, Some(tiles)) => check_tiles(task, tiles, show_progress),
        (None, None) => Err(InputError::Arguments {
            detail: "say where to look: --bundle FILE or --tiles DIR",
        }),
    }?;
    let file = image::read(&task.file)?;
    report.add(manifest::check(&file, task.trust_anchors.as_deref())?);
    Ok(report)
}

fn check_tiles(task: &ImageTask, tiles: &Path, show_progress: bool) -> Result<Report, InputError> {
    let bytes = image::read(&task.file)?;
    let (trusted, mut report) = match keys::load(&task.keys)? {
        Ok(loaded) => loaded,
        Err(report) => return Ok(*report),
    };
    let folder = TileFolder::new(tiles);
    let Some(heads) = ledger::heads(&mut report, &folder.checkpoint(), &[], &trusted)? else {
        return Ok(report);
    };
    let mut found = Found::new(&bytes);
    let ledger = Ledger {
        trusted: &trusted,
        heads: &heads.checkpoints,
        newest: &heads.newest,
        show_progress,
    };
    let keys = ledger.check_folder(&folder, &mut report, &mut |met| found.look_at(met))?;
    // An entry of a log that does not hold proves nothing.
    let log_holds = report.holds();
    report.add(match log_holds {
        true => found.check(&keys),
        false => Check::not_checked(
            image::FILE_CHECK,
            Reason::new("log-does-not-hold", "its entries cannot be believed"),
        ),
    });
    let believed = found
        .same_file
        .iter()
        .find(|met| !keys.has_taken_back(met.leaf_index));
    if let (true, Some(first)) = (log_holds, believed) {
        report.prove_entry(first.leaf_index, first.leaf_hash, &first.entry);
    }
    Ok(report)
}

/// The entries that speak about an image.
struct Found {
    sha256: Digest,
    pixel_sha256: Option<Digest>,
    same_file: Vec<Met>,
    same_pixels: Vec<LeafIndex>,
}

impl Found {
    fn new(bytes: &[u8]) -> Self {
        Self {
            sha256: Digest::of(bytes),
            pixel_sha256: image::pixel_digest(bytes).ok(),
            same_file: Vec::new(),
            same_pixels: Vec::new(),
        }
    }

    fn look_at(&mut self, met: &Met) {
        let Entry::Generation(generation) = &met.entry else {
            return;
        };
        if generation.image.sha256 == self.sha256 {
            if self.same_file.len() < FURTHER_MAX {
                self.same_file.push(Met {
                    entry: met.entry.clone(),
                    ..*met
                });
            }
        } else if Some(generation.image.pixel_sha256) == self.pixel_sha256
            && self.same_pixels.len() < FURTHER_MAX
        {
            self.same_pixels.push(met.leaf_index);
        }
    }

    fn check(&self, keys: &KeyHistory) -> Check {
        let list = |places: &mut dyn Iterator<Item = LeafIndex>| {
            let places: Vec<String> = places.map(|place| place.to_string()).collect();
            places.join(", ")
        };
        let sha256 = self.sha256;
        let (taken_back, believed): (Vec<LeafIndex>, Vec<LeafIndex>) = self
            .same_file
            .iter()
            .map(|met| met.leaf_index)
            .partition(|place| keys.has_taken_back(*place));
        if !believed.is_empty() {
            let places = list(&mut believed.into_iter());
            return Check::ok(
                image::FILE_CHECK,
                format!("sha256 {sha256}, entry {places}"),
            );
        }
        if !taken_back.is_empty() {
            let places = list(&mut taken_back.into_iter());
            let detail = format!(
                "entry {places} records this file (sha256 {sha256}), and was signed by a key that was revoked from \
                 there on"
            );
            return Check::failed(image::FILE_CHECK, Reason::new("key-revoked", detail));
        }
        let reason = match self.same_pixels.is_empty() {
            true => {
                let detail = format!("no entry records this file (sha256 {sha256}) or its pixels");
                Reason::new("image-not-recorded", detail)
            }
            false => {
                let places = list(&mut self.same_pixels.iter().copied());
                let detail = format!(
                    "the pixels are those of entry {places}, but the file is not (sha256 {sha256}): it was \
                     saved again"
                );
                Reason::new("image-resaved", detail)
            }
        };
        Check::failed(image::FILE_CHECK, reason)
    }
}
