//! Reads and checks pictures: what cannot be trained on is listed with its reason and skipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::config::Limits;
use api::sandbox::Sandbox;
use media::JpegTables;
use provenance::Digest;
use serde::{Deserialize, Serialize};
use training::recipe::{Pool, SIDE_MIN};
use training::report::Skipped;
use training::table::Label;

use super::pictures::Named;
use crate::cli::failure::Failure;
use crate::cli::{picture_file, progress};

/// What is known of a picture before it is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PictureFacts {
    width: u32,
    height: u32,
    /// Whether the file is compressed with loss.
    is_lossy: bool,
    /// Numbers of its compression tables, where it is a colour JPEG.
    tables: Option<Vec<u16>>,
}

/// A picture that was read.
#[derive(Debug, Clone)]
pub struct Read {
    /// As the user named it.
    pub named: Named,
    /// Digest of its file, 64 hexadecimal digits.
    pub digest: String,
    facts: PictureFacts,
}

impl Read {
    /// Whether it has been compressed with loss.
    pub fn is_lossy(&self) -> bool {
        self.facts.is_lossy || self.named.was_lossy
    }
}

/// All pictures that can be used, and those that cannot.
pub struct AllRead {
    /// In the order in which they were named.
    pub pictures: Vec<Read>,
    /// With reasons.
    pub skipped: Vec<Skipped>,
}

impl AllRead {
    /// Lists a picture as skipped.
    pub fn skip(&mut self, path: &Path, reason: &str) {
        eprintln!("skipped {}: {reason}", path.display());
        self.skipped.push(Skipped {
            path: path.display().to_string(),
            reason: reason.to_owned(),
        });
    }
}

/// Reads pictures in child processes, and remembers what it learned about them.
pub struct Reader<'a> {
    sandbox: Sandbox,
    limits: &'a Limits,
    folder: PathBuf,
}

impl<'a> Reader<'a> {
    /// A reader that remembers below the cache.
    ///
    /// # Errors
    /// A cache that cannot be made.
    pub fn new(cache: &Path, limits: &'a Limits) -> Result<Self, Failure> {
        let folder = cache.join("facts");
        super::make_folder(&folder)?;
        Ok(Self {
            sandbox: Sandbox::new(None, limits),
            limits,
            folder,
        })
    }

    /// Reads and checks every picture. The same file twice is used once; with two labels it is refused.
    ///
    /// # Errors
    /// A picture with two labels, and whatever concerns more than one file.
    pub async fn read_all(&mut self, named: Vec<Named>) -> Result<AllRead, Failure> {
        let mut all = AllRead {
            pictures: Vec::with_capacity(named.len()),
            skipped: Vec::new(),
        };
        let mut seen: BTreeMap<String, (Label, PathBuf)> = BTreeMap::new();
        let bar = progress::bar(named.len() as u64, "reading");
        for picture in named {
            bar.inc(1);
            let (digest, facts) = match self.facts(&picture.path).await {
                Ok(found) => found,
                Err(failure) if failure.concerns_one_file() => {
                    bar.suspend(|| all.skip(&picture.path, failure.message()));
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            if let Some((label, other)) = seen.get(&digest) {
                if *label != picture.label {
                    return Err(Failure::does_not_hold(format!(
                        "{} is {} and {} is {}, and both are the same file",
                        other.display(),
                        label.name(),
                        picture.path.display(),
                        picture.label.name()
                    )));
                }
                let reason = format!("the same file as {}", other.display());
                bar.suspend(|| all.skip(&picture.path, &reason));
                continue;
            }
            let shorter = facts.width.min(facts.height);
            if shorter < SIDE_MIN {
                let reason = format!(
                    "{}x{} pixels: its shorter side is below {SIDE_MIN} (side_min)",
                    facts.width, facts.height
                );
                bar.suspend(|| all.skip(&picture.path, &reason));
                continue;
            }
            seen.insert(digest.clone(), (picture.label, picture.path.clone()));
            all.pictures.push(Read {
                named: picture,
                digest,
                facts,
            });
        }
        bar.finish_and_clear();
        Ok(all)
    }

    /// Decodes a picture, which must still be the file that was read before.
    ///
    /// # Errors
    /// A file that is gone, changed or refused.
    pub async fn decode(&self, picture: &Read) -> Result<media::Decoded, Failure> {
        let path = &picture.named.path;
        let bytes = picture_file::read(path, self.limits)?;
        if Digest::of(&bytes).to_string() != picture.digest {
            return Err(Failure::does_not_hold(format!(
                "{} changed while it was read",
                path.display()
            )));
        }
        self.parse(path, &bytes).await
    }

    async fn parse(&self, path: &Path, bytes: &[u8]) -> Result<media::Decoded, Failure> {
        Ok(picture_file::parse_bytes(path, bytes, &self.sandbox)
            .await?
            .decoded)
    }

    async fn facts(&self, path: &Path) -> Result<(String, PictureFacts), Failure> {
        let bytes = picture_file::read(path, self.limits)?;
        let digest = Digest::of(&bytes).to_string();
        let kept = self.folder.join(format!("{digest}.json"));
        // Facts that cannot be read are found out again.
        let known = std::fs::read(&kept)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(facts) = known {
            return Ok((digest, facts));
        }
        let decoded = self.parse(path, &bytes).await?;
        let facts = PictureFacts {
            width: decoded.width,
            height: decoded.height,
            is_lossy: decoded.is_lossy,
            tables: JpegTables::of(&decoded).map(|tables| tables.numbers()),
        };
        let text = serde_json::to_vec(&facts).map_err(Failure::work)?;
        crate::cli::write_file(&kept, &text)?;
        Ok((digest, facts))
    }
}

/// The compressions of the photographs that are fitted on.
pub fn pool(pictures: &[Read]) -> Pool {
    let photographs = pictures
        .iter()
        .filter(|picture| picture.named.label == Label::Real);
    let tables: Vec<Option<JpegTables>> = photographs
        .map(|picture| {
            picture
                .facts
                .tables
                .as_deref()
                .and_then(JpegTables::from_numbers)
        })
        .collect();
    Pool::new(&tables)
}
