//! Makes a mirrored log of any size, for measuring `retrace-verify ledger`.
//!
//! ```text
//! cargo run --release -p verify --example make_mirror -- FOLDER [ENTRIES]
//! cargo run --release -p verify --bin retrace-verify -- ledger FOLDER --public-key FOLDER/retrace.pub
//! ```
//!
//! The entries are those of a generator with twelve files, each signed. Prints one JSON object.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use provenance::merkle::{Appender, Hash};
use provenance::tile::{TILE_WIDTH, TileLevel, entry_bundle, hash_tile};
use provenance::{
    Checkpoint, CheckpointSigner, Decimal, Digest, Entry, EntrySigner, Envelope, GenerationEntry,
    PublicKeys, RecordedImage, RecordedModel, Tile, commit,
};

const ORIGIN: &str = "bench.local/log";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("a folder is needed")?);
    let entries: u64 = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let started = Instant::now();
    let signer = EntrySigner::from_seed(ORIGIN, [1; 32])?;
    let checkpoints = CheckpointSigner::from_seed(ORIGIN, [2; 32])?;
    let keys = PublicKeys::new(signer.verifier(), checkpoints.verifier())?;
    let mut mirror = Mirror::new(&folder);
    let mut tree = Appender::empty();
    let mut bytes = 0;
    let mut nodes = Vec::new();
    for number in 0..entries {
        let leaf = Envelope::sign(&entry(number)?, &signer)?.to_bytes();
        bytes += leaf.len();
        nodes.clear();
        tree.append(provenance::merkle::leaf_hash(&leaf), &mut nodes)?;
        mirror.add_entry(leaf)?;
        for node in nodes.iter().filter(|node| node.id.level.is_multiple_of(8)) {
            mirror.add_hash(node.id.level / 8, node.hash)?;
        }
    }
    mirror.finish()?;
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        tree_size: tree.size(),
        root_hash: tree.root(),
    };
    fs::write(
        folder.join("checkpoint"),
        checkpoint.sign(&checkpoints)?.text(),
    )?;
    fs::write(folder.join("retrace.pub"), keys.to_string())?;
    let report = serde_json::json!({
        "entries": entries,
        "entry_bytes": bytes,
        "seconds": started.elapsed().as_secs_f64(),
    });
    println!("{report}");
    Ok(())
}

/// Tiles under way: the entries, and the hashes of each level.
struct Mirror<'a> {
    folder: &'a Path,
    entries: Vec<Vec<u8>>,
    bundles: u64,
    levels: Vec<(u64, Vec<Hash>)>,
}

impl<'a> Mirror<'a> {
    fn new(folder: &'a Path) -> Self {
        Self {
            folder,
            entries: Vec::new(),
            bundles: 0,
            levels: Vec::new(),
        }
    }

    fn add_entry(&mut self, leaf: Vec<u8>) -> Result<(), Box<dyn Error>> {
        self.entries.push(leaf);
        if self.entries.len() == usize::from(TILE_WIDTH) {
            self.write_bundle()?;
        }
        Ok(())
    }

    fn add_hash(&mut self, level: u8, hash: Hash) -> Result<(), Box<dyn Error>> {
        let place = usize::from(level);
        if self.levels.len() <= place {
            self.levels.resize_with(place + 1, Default::default);
        }
        self.levels[place].1.push(hash);
        if self.levels[place].1.len() == usize::from(TILE_WIDTH) {
            self.write_tile(level)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Box<dyn Error>> {
        if !self.entries.is_empty() {
            self.write_bundle()?;
        }
        for level in 0..u8::try_from(self.levels.len())? {
            if !self.levels[usize::from(level)].1.is_empty() {
                self.write_tile(level)?;
            }
        }
        Ok(())
    }

    fn write_bundle(&mut self) -> Result<(), Box<dyn Error>> {
        let width = u16::try_from(self.entries.len())?;
        let tile = Tile::new(TileLevel::Entries, self.bundles, width)?;
        let bundle = entry_bundle(self.entries.iter().map(|entry| &entry[..]))?;
        self.bundles += 1;
        self.entries.clear();
        self.write(tile, &bundle)
    }

    fn write_tile(&mut self, level: u8) -> Result<(), Box<dyn Error>> {
        let (index, hashes) = &mut self.levels[usize::from(level)];
        let tile = Tile::new(
            TileLevel::Hashes(level),
            *index,
            u16::try_from(hashes.len())?,
        )?;
        let bytes = hash_tile(hashes);
        *index += 1;
        hashes.clear();
        self.write(tile, &bytes)
    }

    fn write(&self, tile: Tile, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
        let path = self.folder.join(tile.to_string());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(fs::write(path, bytes)?)
    }
}

fn entry(number: u64) -> Result<Entry, Box<dyn Error>> {
    let request_id = format!("request-{number}");
    let part = |number| {
        let name = format!("part/{number}.onnx");
        let digest = Digest::of(name.as_bytes());
        (name, digest)
    };
    Ok(Entry::Generation(GenerationEntry {
        image_index: 0,
        created_at_ms: 1_700_000_000_000,
        client: "bench".to_owned(),
        image: RecordedImage {
            sha256: Digest::of(request_id.as_bytes()),
            pixel_sha256: Digest::of(&number.to_be_bytes()),
            width: 64,
            height: 64,
            media_type: "image/png".to_owned(),
        },
        model: RecordedModel {
            name: "emoji".to_owned(),
            digest: Digest::of(b"model"),
            parts: (0..12).map(part).collect(),
        },
        scheduler: "ddim".to_owned(),
        steps: 20,
        seed: number,
        details: None,
        guidance_scale: Decimal::from_f32(3.5)?,
        prompt_commitment: commit(&[7; 32], b"a red heart"),
        request_id,
    }))
}
