//! Copies of every picture, and what the experts see in them.

use std::path::{Path, PathBuf};

use api::engine::DetectorSlot;
use detector::PictureView;
use onnx::Detector;
use provenance::Digest;
use training::conclude::Base;
use training::measured::{MeasuredCopy, read_measurements, write_measurements};
use training::recipe::{CopyFile, Original, Pool, RECIPE_VERSION, Tier, copy};
use training::table::PictureRow;

use super::reading::{AllRead, Read, Reader};
use crate::cli::failure::Failure;
use crate::cli::progress;

/// What measuring needs besides the pictures.
pub struct Measuring<'a> {
    /// Reads the files again.
    pub reader: &'a Reader<'a>,
    /// The detector that measures.
    pub slot: &'a DetectorSlot,
    /// Its prior, schema and encoder.
    pub base: &'a Base,
    /// Compressions to draw from.
    pub pool: &'a Pool,
    /// Seed of the copies.
    pub seed: u64,
    /// Where measurements are kept.
    pub cache: &'a Path,
}

/// A picture with its copies.
type Measured = (PictureRow, Vec<MeasuredCopy>);

/// Measures every picture, or takes what an earlier run measured of it. Each picture's measurements are written
/// before the next one is looked at. Pictures that cannot be decoded any more are skipped.
///
/// # Errors
/// Whatever concerns more than one file.
pub async fn measure_all(
    measuring: &Measuring<'_>,
    read: &mut AllRead,
) -> Result<Vec<Measured>, Failure> {
    let folder = measuring.folder()?;
    let bar = progress::bar(read.pictures.len() as u64, "measuring");
    let (mut out, mut used) = (Vec::with_capacity(read.pictures.len()), Vec::new());
    for picture in std::mem::take(&mut read.pictures) {
        match measuring.measure(&folder, &picture).await {
            Ok(copies) => {
                out.push((row(&picture), copies));
                used.push(picture);
            }
            Err(failure) if failure.concerns_one_file() => {
                bar.suspend(|| read.skip(&picture.named.path, failure.message()));
            }
            Err(failure) => return Err(failure),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    read.pictures = used;
    Ok(out)
}

fn row(picture: &Read) -> PictureRow {
    PictureRow {
        digest: picture.digest.clone(),
        label: picture.named.label,
        set: picture.named.set.clone(),
        role: picture.named.role,
    }
}

impl Measuring<'_> {
    /// The folder of measurements that were made in the same way: recipe, seed, prior, configuration, encoder and its graph.
    fn folder(&self) -> Result<PathBuf, Failure> {
        let schema = serde_json::to_string(&self.base.schema).map_err(Failure::work)?;
        let mut semantic = self.base.semantic.clone().unwrap_or_default();
        // Another head sees the same features.
        if let Some(contents) = semantic.as_object_mut() {
            contents.remove("head");
        }
        let graph = self.base.graph.as_ref().map(|(_, bytes)| Digest::of(bytes));
        let way = format!(
            "{RECIPE_VERSION}\n{}\n{}\n{}\n{schema}\n{semantic}\n{}",
            self.seed,
            self.pool.digest(),
            Digest::of(&self.base.prior),
            graph.map(|digest| digest.to_string()).unwrap_or_default()
        );
        let name = Digest::of(way.as_bytes()).to_string();
        let folder = self.cache.join("measured").join(&name[..16]);
        super::make_folder(&folder)?;
        Ok(folder)
    }

    async fn measure(&self, folder: &Path, picture: &Read) -> Result<Vec<MeasuredCopy>, Failure> {
        let history = if picture.is_lossy() {
            "lossy"
        } else {
            "lossless"
        };
        let path = folder.join(format!("{}-{history}.bin", picture.digest));
        // A file that cannot be believed is measured again.
        if let Some(known) = std::fs::read(&path)
            .ok()
            .and_then(|bytes| read_measurements(&bytes).ok())
        {
            return Ok(known);
        }
        let decoded = self.reader.decode(picture).await?;
        let original = Original {
            size: (decoded.width, decoded.height),
            rgb: &decoded.rgb,
            is_lossy: picture.is_lossy(),
        };
        let mut copies = Vec::with_capacity(Tier::ALL.len());
        for tier in Tier::ALL {
            let made = copy(&original, tier, self.pool, (self.seed, &picture.digest))
                .map_err(Failure::work)?;
            copies.push(measured(
                &mut self.slot.lock(),
                made,
                self.base.semantic.is_some(),
            )?);
        }
        crate::cli::write_file(&path, &write_measurements(&copies))?;
        Ok(copies)
    }
}

/// The rows of a copy, as the heads see them in service.
fn measured(
    detector: &mut Detector,
    made: CopyFile,
    has_semantic: bool,
) -> Result<MeasuredCopy, Failure> {
    let picture = PictureView::new(made.size.0, made.size.1, &made.rgb).map_err(Failure::work)?;
    let trace = detector.trace(&picture).map_err(Failure::work)?;
    let views = if has_semantic {
        let embedded = detector.embed(&picture).map_err(Failure::work)?;
        embedded.ok().map(|features| features.rows)
    } else {
        None
    };
    Ok(MeasuredCopy {
        tier: made.tier,
        quality: made.quality,
        container: made.container,
        thumbnail: made.thumbnail,
        patches: detector::features(&trace).rows,
        views,
    })
}
