//! A mirrored log, from outside: the whole folder, an image among its entries, and pinned keys.

#![allow(clippy::unwrap_used, reason = "a test states by unwrap what must hold")]

mod complete;
mod independent;
mod tamper;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use provenance::merkle::{Appender, NewNode, NodeId};
use provenance::tile::{TileLevel, entry_bundle, hash_tile, tiles};
use provenance::{
    Checkpoint, CheckpointSigner, Decimal, Digest, Entry, EntrySigner, Envelope, GenerationDetails,
    GenerationEntry, PerceptualAlgorithm, PublicKeys, RecordedImage, RecordedModel, RecordedNoise,
    RecordedPerceptualHash, RecordedTask, Tile, TreeSize,
};
use serde_json::Value;

const ORIGIN: &str = "retrace.test/log";
/// Two full bundles and a partial one.
const ENTRIES: u64 = 600;
const SIDE: u32 = 8;

/// The picture that the entry of this number records.
fn picture(number: u64) -> (Vec<u8>, RecordedImage) {
    let rgb: Vec<u8> = (0..SIDE * SIDE * 3)
        .map(|n| n.to_le_bytes()[0].wrapping_mul(3) ^ number.to_le_bytes()[0])
        .collect();
    let text = number.to_string();
    let png = media::encode_png(SIDE, SIDE, &rgb, &[("Number", &text)]).unwrap();
    let recorded = RecordedImage {
        sha256: Digest::of(&png),
        pixel_sha256: Digest::of(&media::pixel_preimage(SIDE, SIDE, &rgb)),
        width: SIDE,
        height: SIDE,
        media_type: "image/png".to_owned(),
    };
    (png, recorded)
}

fn entry(number: u64) -> Entry {
    Entry::Generation(GenerationEntry {
        request_id: number.to_string(),
        image_index: 0,
        created_at_ms: 1_767_225_600_000,
        client: "studio".to_owned(),
        image: picture(number).1,
        model: RecordedModel {
            name: "emoji-64".to_owned(),
            digest: Digest::of(b"model"),
            parts: BTreeMap::from([("unet/model.onnx".to_owned(), Digest::of(b"part"))]),
        },
        scheduler: "ddim".to_owned(),
        steps: 30,
        seed: number,
        details: hashed(number),
        guidance_scale: Decimal::from_f32(7.5).unwrap(),
        prompt_commitment: provenance::commit(&[3; 32], b"a red heart"),
    })
}

/// Some entries state perceptual hashes that differ in as many bits as their numbers lie apart.
fn hashed(number: u64) -> Option<GenerationDetails> {
    let bits = u32::try_from(number.checked_sub(100)?).ok();
    let bits = bits.filter(|bits| *bits < 8)?;
    let mut hash = [7; 32];
    hash[31] ^= u8::try_from((1_u32 << bits) - 1).unwrap();
    Some(GenerationDetails {
        noise_source: RecordedNoise::ChaCha20,
        initial_latents_sha256: None,
        task: RecordedTask::TextToImage,
        strength: None,
        sources: Vec::new(),
        watermark: "none".to_owned(),
        settings: BTreeMap::new(),
        perceptual_hash: Some(RecordedPerceptualHash {
            algorithm: PerceptualAlgorithm::Pdq,
            hash: Digest::from_bytes(hash),
            quality: 90,
        }),
    })
}

/// A folder as `wget` leaves it, and files of an auditor beside it.
struct Mirror {
    folder: tempfile::TempDir,
    /// The data of the leaves, and every complete subtree over them.
    leaves: Vec<Vec<u8>>,
    nodes: Vec<NewNode>,
}

impl Mirror {
    fn new() -> Self {
        let mut mirror = Self {
            folder: tempfile::tempdir().unwrap(),
            leaves: Vec::new(),
            nodes: Vec::new(),
        };
        let signer = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
        let checkpoints = CheckpointSigner::from_seed(ORIGIN, [2; 32]).unwrap();
        let keys = PublicKeys::new(signer.verifier(), checkpoints.verifier()).unwrap();
        mirror.write("retrace.pub", keys.to_string().as_bytes());
        let mut tree = Appender::empty();
        for number in 0..ENTRIES {
            let envelope = Envelope::sign(&entry(number), &signer).unwrap();
            tree.append(envelope.leaf_hash(), &mut mirror.nodes)
                .unwrap();
            mirror.leaves.push(envelope.to_bytes());
            if [1, 256, 599, 600].contains(&tree.size().get()) {
                let checkpoint = Checkpoint {
                    origin: ORIGIN.to_owned(),
                    tree_size: tree.size(),
                    root_hash: tree.root(),
                };
                let signed = checkpoint.sign(&checkpoints).unwrap();
                let name = format!("{}.txt", tree.size());
                mirror.write(&name, signed.text().as_bytes());
                mirror.write("mirror/checkpoint", signed.text().as_bytes());
            }
        }
        for tile in tiles(TreeSize::new(ENTRIES)) {
            let name = format!("mirror/{tile}");
            mirror.write(&name, &mirror.bytes_of(tile));
        }
        mirror
    }

    fn bytes_of(&self, tile: Tile) -> Vec<u8> {
        if tile.level() == TileLevel::Entries {
            let range = tile.range().unwrap();
            let [from, until] =
                [range.start, range.end].map(|place| usize::try_from(place).unwrap());
            let leaves = self.leaves[from..until].iter().map(|leaf| &leaf[..]);
            return entry_bundle(leaves).unwrap();
        }
        hash_tile(&tile.nodes().map(|id| self.hash_of(id)).collect::<Vec<_>>())
    }

    fn hash_of(&self, id: NodeId) -> Digest {
        let found = self.nodes.iter().find(|node| node.id == id);
        found.unwrap().hash
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let before = fs::read(self.path(name)).unwrap();
        let mut bytes = before.clone();
        change(&mut bytes);
        self.write(name, &bytes);
        before
    }

    fn run(&self, arguments: &[&str]) -> (i32, Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_retrace-verify"))
            .current_dir(self.folder.path())
            .args(arguments)
            .arg("--json")
            .output()
            .unwrap();
        let report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&output.stderr).into_owned()));
        (output.status.code().unwrap(), report)
    }

    fn check(&self, more: &[&str]) -> (i32, Value) {
        let arguments = ["ledger", "mirror", "--public-key", "retrace.pub"];
        self.run(&[&arguments[..], more].concat())
    }

    fn look_up(&self, image: &str) -> (i32, Value) {
        let tiles = ["--tiles", "mirror", "--public-key", "retrace.pub"];
        self.run(&[&["image", image][..], &tiles].concat())
    }
}

fn code_of(report: &Value, check: &str) -> String {
    let checks = report["checks"]
        .as_array()
        .unwrap_or_else(|| panic!("{report}"));
    let named = checks.iter().filter(|found| found["name"] == check);
    let codes = named.filter_map(|check| check["code"].as_str());
    codes.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_mirrored_log_holds_with_every_earlier_checkpoint() {
    let mirror = Mirror::new();
    let earlier = [
        "--earlier",
        "1.txt",
        "--earlier",
        "256.txt",
        "--earlier",
        "599.txt",
    ];
    let (code, report) = mirror.check(&earlier);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["checkpoint"]["tree_size"], ENTRIES);
    let text = report.to_string();
    assert!(text.contains("600 entries, each signed"), "{text}");
    assert!(text.contains("4 follow from the entries"), "{text}");
}

#[test]
fn an_older_checkpoint_holds_over_a_newer_mirror() {
    let mirror = Mirror::new();
    // The full bundle has taken the place of the partial one that the older checkpoint covers.
    let partial = mirror.path("mirror/tile/entries/002.p/88");
    let bundle = fs::read(&partial).unwrap();
    fs::remove_file(&partial).unwrap();
    let (code, report) = mirror.check(&["--checkpoint", "256.txt"]);
    assert_eq!(code, 0, "{report}");
    let (code, report) = mirror.check(&[]);
    assert_eq!(
        (code, &code_of(&report, "entries")[..]),
        (1, "tile-missing")
    );
    // A full bundle that is not one is refused, whatever its first entries are.
    mirror.write("mirror/tile/entries/002", &bundle);
    let (code, report) = mirror.check(&[]);
    assert_eq!(
        (code, &code_of(&report, "entries")[..]),
        (1, "tile-malformed")
    );
}

#[test]
fn hash_tiles_are_not_needed_but_must_not_differ() {
    let mirror = Mirror::new();
    let original = mirror.change("mirror/tile/1/000.p/2", |bytes| bytes[40] ^= 1);
    let (code, report) = mirror.check(&[]);
    assert_eq!(
        (code, &code_of(&report, "hash tiles")[..]),
        (1, "tile-differs")
    );
    assert!(report.to_string().contains("tile/1/000.p/2"), "{report}");
    mirror.write("mirror/tile/1/000.p/2", &original[..32]);
    assert_eq!(mirror.check(&[]).0, 1);
    for level in ["0", "1"] {
        fs::remove_dir_all(mirror.path(&format!("mirror/tile/{level}"))).unwrap();
    }
    let (code, report) = mirror.check(&[]);
    assert_eq!(
        (code, &code_of(&report, "hash tiles")[..]),
        (0, "tiles-absent")
    );
}

#[test]
fn a_change_of_any_entry_is_found() {
    let mirror = Mirror::new();
    for bundle in ["000", "001", "002.p/88"] {
        let name = format!("mirror/tile/entries/{bundle}");
        let length = fs::metadata(mirror.path(&name)).unwrap().len();
        for part in 0..5 {
            let place = usize::try_from(length * part / 5).unwrap();
            let original = mirror.change(&name, |bytes| bytes[place] ^= 1);
            let (code, report) = mirror.check(&[]);
            assert_eq!(code, 1, "{name} at {place}: {report}");
            assert!(!code_of(&report, "entries").is_empty(), "{report}");
            mirror.write(&name, &original);
        }
    }
    let second = fs::read(mirror.path("mirror/tile/entries/001")).unwrap();
    let first = mirror.change("mirror/tile/entries/000", |bytes| *bytes = second);
    let (code, report) = mirror.check(&[]);
    assert_eq!((code, &code_of(&report, "tree")[..]), (1, "root-mismatch"));
    mirror.write("mirror/tile/entries/000", &first);
    assert_eq!(mirror.check(&[]).0, 0);
}

#[test]
fn an_image_is_found_among_the_entries_by_its_bytes_alone() {
    let mirror = Mirror::new();
    let (png, _) = picture(321);
    mirror.write("image.png", &png);
    let (code, report) = mirror.look_up("image.png");
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["entry"]["leaf_index"], 321);
    assert_eq!(report["entry"]["statement"]["body"]["seed"], "321");

    let pixels = media::decode(&png, &media::Limits::default()).unwrap();
    let again = media::encode_png(SIDE, SIDE, &pixels.rgb, &[]).unwrap();
    mirror.write("again.png", &again);
    let (code, report) = mirror.look_up("again.png");
    assert_eq!(
        (code, &code_of(&report, "image file")[..]),
        (1, "image-resaved")
    );
    assert!(report["entry"].is_null());

    mirror.write("other.png", b"not recorded anywhere");
    let (code, report) = mirror.look_up("other.png");
    assert_eq!(
        (code, &code_of(&report, "image file")[..]),
        (1, "image-not-recorded")
    );

    mirror.change("mirror/tile/entries/000", |bytes| bytes[100] ^= 1);
    let (code, report) = mirror.look_up("image.png");
    assert_eq!(
        (code, &code_of(&report, "image file")[..]),
        (1, "log-does-not-hold")
    );
    assert!(report["entry"].is_null());
}

#[test]
fn keys_are_pinned_with_a_warning_at_first_use_and_compared_from_then_on() {
    let mirror = Mirror::new();
    let policy = ["--policy", "policy.txt"];
    let check = |key: &str| {
        let arguments = ["checkpoint", "600.txt", "--public-key", key];
        mirror.run(&[&arguments[..], &policy].concat())
    };
    let (code, report) = mirror.run(&[&["checkpoint", "600.txt"][..], &policy].concat());
    assert_eq!(
        (code, &code_of(&report, "policy")[..]),
        (1, "no-key-pinned")
    );
    let (code, report) = check("retrace.pub");
    assert_eq!(
        (code, &code_of(&report, "policy")[..]),
        (0, "key-first-use")
    );
    let (code, report) = check("retrace.pub");
    assert_eq!((code, &code_of(&report, "policy")[..]), (0, ""));
    let (code, report) = mirror.run(&[&["ledger", "mirror"][..], &policy].concat());
    assert_eq!(code, 0, "{report}");

    // The same origin with other keys: somebody else's log under this name.
    let entries = EntrySigner::from_seed(ORIGIN, [8; 32]).unwrap();
    let checkpoints = CheckpointSigner::from_seed(ORIGIN, [9; 32]).unwrap();
    let keys = PublicKeys::new(entries.verifier(), checkpoints.verifier()).unwrap();
    mirror.write("other.pub", keys.to_string().as_bytes());
    let before = fs::read(mirror.path("policy.txt")).unwrap();
    let (code, report) = check("other.pub");
    assert_eq!(
        (code, &code_of(&report, "policy")[..]),
        (1, "key-differs-from-policy")
    );
    assert!(
        report["checkpoint"].is_null(),
        "nothing is proven under such keys"
    );
    assert_eq!(fs::read(mirror.path("policy.txt")).unwrap(), before);

    // A second log stands beside the first.
    let checkpoints = CheckpointSigner::from_seed("other.test/log", [9; 32]).unwrap();
    let entries = EntrySigner::from_seed("other.test/log", [8; 32]).unwrap();
    let keys = PublicKeys::new(entries.verifier(), checkpoints.verifier()).unwrap();
    mirror.write("second.pub", keys.to_string().as_bytes());
    let (code, report) = check("second.pub");
    assert_eq!(
        (code, &code_of(&report, "policy")[..]),
        (1, "key-first-use")
    );
    assert_eq!(code_of(&report, "checkpoint"), "origin-mismatch");
    let (code, report) = mirror.run(&[&["checkpoint", "600.txt"][..], &policy].concat());
    assert_eq!(
        (code, &code_of(&report, "policy")[..]),
        (1, "several-logs-pinned")
    );
    assert_eq!(check("retrace.pub").0, 0);
}

#[test]
fn a_policy_file_that_cannot_be_read_is_named() {
    let mirror = Mirror::new();
    let pinned = fs::read_to_string(mirror.path("retrace.pub")).unwrap();
    let first = pinned.lines().next().unwrap();
    for (text, expected) in [
        ("not a key\n".to_owned(), 1),
        (format!("{first}\n"), 1),
        (format!("{pinned}{pinned}"), 1),
        (format!("# a comment\n\n{pinned}\n# the end"), 0),
    ] {
        mirror.write("policy.txt", text.as_bytes());
        let arguments = ["checkpoint", "600.txt", "--policy", "policy.txt"];
        let (code, report) = mirror.run(&arguments);
        assert_eq!(code, expected, "{text}: {report}");
        if expected == 1 {
            assert_eq!(code_of(&report, "policy"), "policy-malformed");
        }
    }
    let (code, report) = mirror.run(&["checkpoint", "600.txt"]);
    assert_eq!(code, 2, "{report}");
    assert!(!Path::new("policy.txt.new").exists());
}
