//! The pinned native parts, as `native-parts.toml` lists them.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The whole list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NativeParts {
    part: Vec<Part>,
}

/// One part: a package, its wheels and what is taken out of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Name of the package in the Python package index.
    pub name: String,
    /// Exact version of the package.
    pub version: String,
    /// Folder below the runtime folder that the part fills.
    pub directory: String,
    /// SPDX expression of what is taken.
    pub licence: String,
    /// Whether this is the part for machines with an NVIDIA GPU, in place of another one of the same folder.
    #[serde(default)]
    pub gpu: bool,
    /// One wheel for each processor architecture.
    pub wheel: Vec<Wheel>,
    /// Files and folders to take.
    pub take: Vec<Take>,
}

/// The wheel of one processor architecture.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wheel {
    /// Architecture as `std::env::consts::ARCH` spells it.
    pub architecture: String,
    /// Platform tag that selects the wheel.
    pub platform: String,
    /// SHA-256 of the wheel, 64 lower-case hex digits.
    pub sha256: String,
    /// Size of the wheel in bytes.
    pub bytes: u64,
    /// Digest over the unpacked files; see [`crate::tree`].
    pub unpacked_sha256: String,
}

/// A file, or a folder when `from` ends in a slash, and where it goes in the part's folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Take {
    /// Path inside the wheel.
    pub from: String,
    /// Path inside the part's folder.
    pub to: String,
    /// Endings, or folders when they end in a slash, that are left behind.
    #[serde(default)]
    pub leave: Vec<String>,
}

impl NativeParts {
    /// Reads the list that is compiled into this program.
    pub fn load() -> Result<Self> {
        let parts: Self = toml::from_str(include_str!("../native-parts.toml"))
            .context("native-parts.toml is malformed")?;
        for part in &parts.part {
            ensure!(
                !part.directory.contains('/'),
                "native part {}: `directory` is one folder",
                part.name
            );
            ensure!(
                !part.wheel.is_empty(),
                "native part {} has no wheel",
                part.name
            );
        }
        Ok(parts)
    }

    /// The parts that may fill each folder, best first: with `gpu`, the one for GPUs alone where there is one;
    /// without, the plain one, and after it the one for GPUs, which serves as well when it is there already.
    pub fn alternatives(&self, gpu: bool) -> Vec<Vec<&Part>> {
        let mut folders: Vec<&str> = Vec::new();
        for part in &self.part {
            if !folders.contains(&part.directory.as_str()) {
                folders.push(&part.directory);
            }
        }
        folders
            .into_iter()
            .map(|folder| {
                let all = self.part.iter().filter(|part| part.directory == folder);
                let (for_gpu, plain): (Vec<_>, Vec<_>) = all.partition(|part| part.gpu);
                match (gpu, for_gpu.is_empty()) {
                    (true, false) => for_gpu,
                    _ => plain.into_iter().chain(for_gpu).collect(),
                }
            })
            .collect()
    }
}

impl Part {
    /// The wheel for this machine's architecture.
    pub fn wheel_here(&self) -> Result<&Wheel> {
        let here = std::env::consts::ARCH;
        self.wheel
            .iter()
            .find(|wheel| wheel.architecture == here)
            .with_context(|| {
                format!(
                    "no wheel of {} {} is pinned for the processor architecture {here}",
                    self.name, self.version
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_list_names_one_wheel_per_architecture_with_full_digests() {
        for part in NativeParts::load().unwrap().part {
            for wheel in &part.wheel {
                for digest in [&wheel.sha256, &wheel.unpacked_sha256] {
                    assert_eq!(
                        hex::decode(digest).unwrap().len(),
                        32,
                        "{} {}",
                        part.name,
                        wheel.architecture
                    );
                    assert!(
                        digest.chars().any(|digit| digit != '0'),
                        "{} has no digest yet",
                        part.name
                    );
                }
                let same = part
                    .wheel
                    .iter()
                    .filter(|other| other.architecture == wheel.architecture)
                    .count();
                assert_eq!(same, 1, "{} {}", part.name, wheel.architecture);
            }
        }
    }

    #[test]
    fn a_gpu_part_replaces_the_plain_one_only_when_it_is_asked_for() {
        let parts = NativeParts::load().unwrap();
        let first_of = |gpu: bool| {
            let all = parts.alternatives(gpu);
            let onnxruntime = all
                .iter()
                .find(|part| part[0].directory == "onnxruntime")
                .unwrap();
            (onnxruntime[0].name.clone(), onnxruntime.len(), all.len())
        };
        assert_eq!(first_of(false), ("onnxruntime".to_owned(), 2, 4));
        assert_eq!(first_of(true), ("onnxruntime-gpu".to_owned(), 1, 4));
    }
}
