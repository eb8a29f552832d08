//! The program from outside: exit codes, lines and JSON.

#![allow(clippy::unwrap_used, reason = "a test states by unwrap what must hold")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use credentials::{
    CredentialSigner, DevChain, ModelStatement, Operator, Software, Statement, Work,
};
use provenance::{
    Bundle, Checkpoint, CheckpointSigner, Decimal, Digest, Entry, EntrySigner, Envelope,
    GenerationEntry, LeafIndex, PublicKeys, RecordedImage, RecordedModel, TreeSize,
};
use serde_json::Value;

const ORIGIN: &str = "retrace.test/log";

/// What one run of the program gave.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// The reason code of a check that is not `ok`, from JSON.
    fn code_of(&self, check: &str) -> Option<String> {
        let report = self.json();
        let checks = report["checks"].as_array().unwrap();
        let found = checks.iter().find(|found| found["name"] == check)?;
        found["code"].as_str().map(str::to_owned)
    }
}

fn run(arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_retrace-verify"))
        .args(arguments)
        .output()
        .unwrap();
    Run {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn golden(path: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/provenance");
    format!("{folder}/{path}")
}

/// A folder with an image, its bundle and the public keys, as a client receives them.
struct Delivery {
    folder: tempfile::TempDir,
    rgb: Vec<u8>,
}

const SIDE: u32 = 8;

impl Delivery {
    fn new() -> Self {
        Self::of(|image| image)
    }

    /// With the image's file as it is after this.
    fn of(finish: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Self {
        let rgb: Vec<u8> = (0..SIDE * SIDE * 3).map(|n| n.to_le_bytes()[0]).collect();
        let image = media::encode_png(SIDE, SIDE, &rgb, &[("Software", "retrace")]).unwrap();
        let image = finish(image);
        let preimage = media::pixel_preimage(SIDE, SIDE, &rgb);
        let recorded = RecordedImage {
            sha256: Digest::of(&image),
            pixel_sha256: Digest::of(&preimage),
            width: SIDE,
            height: SIDE,
            media_type: "image/png".to_owned(),
        };
        let entries = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
        let checkpoints = CheckpointSigner::from_seed(ORIGIN, [2; 32]).unwrap();
        let envelope = Envelope::sign(&generation(recorded), &entries).unwrap();
        let checkpoint = Checkpoint {
            origin: ORIGIN.to_owned(),
            tree_size: TreeSize::new(1),
            root_hash: envelope.leaf_hash(),
        };
        let signed = checkpoint.sign(&checkpoints).unwrap();
        let bundle = Bundle::new(envelope, LeafIndex::new(0), Vec::new(), signed);
        let keys = PublicKeys::new(entries.verifier(), checkpoints.verifier()).unwrap();
        let delivery = Self {
            folder: tempfile::tempdir().unwrap(),
            rgb,
        };
        delivery.write("image.png", &image);
        delivery.write("bundle.json", &bundle.to_bytes());
        delivery.write("retrace.pub", keys.to_string().as_bytes());
        delivery
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn verify(&self, options: &[&str]) -> Run {
        let (bundle, keys) = (self.path("bundle.json"), self.path("retrace.pub"));
        let mut arguments = vec!["bundle", text(&bundle), "--public-key", text(&keys)];
        arguments.extend(options);
        run(&arguments)
    }

    fn verify_with_image(&self, image: &str) -> Run {
        self.verify(&["--image", text(&self.path(image)), "--json"])
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn generation(image: RecordedImage) -> Entry {
    let digest = Digest::of(b"model");
    Entry::Generation(GenerationEntry {
        request_id: "1".to_owned(),
        image_index: 0,
        created_at_ms: 1_767_225_600_000,
        client: "studio".to_owned(),
        image,
        model: RecordedModel {
            name: "emoji-64".to_owned(),
            digest,
            parts: BTreeMap::from([("unet/model.onnx".to_owned(), digest)]),
        },
        scheduler: "ddim".to_owned(),
        steps: 30,
        seed: 7,
        details: None,
        guidance_scale: Decimal::from_f32(7.5).unwrap(),
        prompt_commitment: provenance::commit(&[3; 32], b"a red heart"),
    })
}

/// A signed image with its bundle, and the root of its signer in `root.pem`.
fn signed_delivery() -> Delivery {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let made = DevChain::make("Newsroom", now.as_secs() as i64).unwrap();
    let signer = CredentialSigner::new(made.chain, &made.key).unwrap();
    let statement = Statement {
        format: media::Format::Png,
        software: Software {
            name: "Retrace",
            version: "1",
        },
        operator: Operator {
            name: "Newsroom",
            log: ORIGIN,
        },
        model: ModelStatement {
            name: "emoji-64",
            digest: "00",
        },
        work: Work::Created,
        request_id: "1",
        image_index: 0,
        created_at_ms: 1_767_225_600_000,
        soft_bindings: &[],
    };
    let delivery = Delivery::of(|image| signer.sign(image, &statement).unwrap());
    delivery.write("root.pem", made.root_pem.as_bytes());
    delivery
}

#[test]
fn the_credentials_of_an_image_are_checked_beside_its_entry() {
    let check = |delivery: &Delivery, options: &[&str]| {
        let [image, bundle, keys] =
            ["image.png", "bundle.json", "retrace.pub"].map(|name| delivery.path(name));
        let mut arguments = vec!["image", text(&image), "--bundle", text(&bundle)];
        arguments.extend(["--public-key", text(&keys), "--json"]);
        arguments.extend(options);
        run(&arguments)
    };
    let code_of = |run: &Run| run.code_of("credentials");
    let signed = signed_delivery();
    let untrusted = check(&signed, &[]);
    assert_eq!(untrusted.code, 0, "{}", untrusted.stdout);
    assert_eq!(
        code_of(&untrusted).as_deref(),
        Some("credentials-untrusted")
    );
    let root = signed.path("root.pem");
    let trusted = check(&signed, &["--trust-anchors", text(&root)]);
    assert_eq!(
        (trusted.code, code_of(&trusted)),
        (0, None),
        "{}",
        trusted.stdout
    );
    let keys = signed.path("retrace.pub");
    let no_anchors = check(&signed, &["--trust-anchors", text(&keys)]);
    assert_eq!(no_anchors.code, 1, "{}", no_anchors.stdout);
    assert_eq!(code_of(&no_anchors).as_deref(), Some("trust-anchors"));
    let mut changed = fs::read(signed.path("image.png")).unwrap();
    let at = changed.len() - 20;
    changed[at] ^= 1;
    signed.write("image.png", &changed);
    let invalid = check(&signed, &["--trust-anchors", text(&root)]);
    assert_eq!(invalid.code, 1, "{}", invalid.stdout);
    assert_eq!(code_of(&invalid).as_deref(), Some("credentials-invalid"));
    let bare = check(&Delivery::new(), &[]);
    assert_eq!(
        (bare.code, code_of(&bare).as_deref()),
        (0, Some("no-credentials"))
    );
}

#[test]
fn a_bundle_with_its_image_holds() {
    let delivery = Delivery::new();
    let image = delivery.path("image.png");
    let run = delivery.verify(&["--image", text(&image)]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let checks = [
        "public key",
        "bundle",
        "checkpoint",
        "inclusion",
        "entry",
        "image file",
    ];
    for check in checks.into_iter().chain(["image pixels"]) {
        let begins = |line: &str| line.starts_with("ok ") && line.contains(check);
        assert!(run.stdout.lines().any(begins), "{check}: {}", run.stdout);
    }
    assert!(run.stdout.ends_with("\nholds\n"));
}

#[test]
fn the_json_report_says_what_was_proven() {
    let delivery = Delivery::new();
    let run = delivery.verify_with_image("image.png");
    let report = run.json();
    assert_eq!(report["holds"], true);
    assert_eq!(report["checkpoint"]["tree_size"], 1);
    assert_eq!(report["checkpoint"]["origin"], ORIGIN);
    assert_eq!(report["entry"]["leaf_index"], 0);
    assert_eq!(
        report["entry"]["leaf_hash"],
        report["checkpoint"]["root_hash"]
    );
    assert_eq!(report["entry"]["statement"]["body"]["seed"], "7");
}

#[test]
fn an_image_that_was_not_checked_is_said_and_fails_unless_waived() {
    let delivery = Delivery::new();
    let run = delivery.verify(&["--json"]);
    assert_eq!(run.code, 1);
    assert_eq!(run.code_of("image file").unwrap(), "image-not-given");
    let run = delivery.verify(&["--no-image", "--json"]);
    assert_eq!(run.code, 0);
    assert_eq!(run.code_of("image file").unwrap(), "image-waived");
    let image = delivery.path("image.png");
    let run = delivery.verify(&["--no-image", "--image", text(&image)]);
    assert_eq!(run.code, 2);
}

#[test]
fn an_image_saved_again_is_told_from_another_image() {
    let delivery = Delivery::new();
    let resaved = media::encode_png(SIDE, SIDE, &delivery.rgb, &[]).unwrap();
    delivery.write("resaved.png", &resaved);
    let run = delivery.verify_with_image("resaved.png");
    assert_eq!(run.code, 1);
    assert_eq!(run.code_of("image file").unwrap(), "image-resaved");
    assert_eq!(run.code_of("image pixels"), None);

    let mut rgb = delivery.rgb.clone();
    rgb[0] ^= 1;
    delivery.write(
        "other.png",
        &media::encode_png(SIDE, SIDE, &rgb, &[]).unwrap(),
    );
    let run = delivery.verify_with_image("other.png");
    assert_eq!(run.code, 1);
    assert_eq!(run.code_of("image file").unwrap(), "image-differs");
    assert_eq!(run.code_of("image pixels").unwrap(), "pixels-differ");
    // The bundle itself holds, and the report still says so.
    assert_eq!(run.code_of("entry"), None);
}

#[test]
fn an_image_with_any_byte_changed_does_not_hold() {
    let delivery = Delivery::new();
    let mut image = fs::read(delivery.path("image.png")).unwrap();
    for place in (0..image.len()).step_by(5) {
        image[place] ^= 4;
        delivery.write("changed.png", &image);
        let run = delivery.verify_with_image("changed.png");
        assert_eq!(run.code, 1, "byte {place}: {}", run.stdout);
        image[place] ^= 4;
    }
    for (name, bytes) in [
        ("empty.png", b"".as_slice()),
        ("noise.png", b"not an image"),
    ] {
        delivery.write(name, bytes);
        let run = delivery.verify_with_image(name);
        assert_eq!(run.code, 1);
        assert_eq!(run.code_of("image pixels").unwrap(), "image-undecodable");
    }
}

#[test]
fn a_bundle_with_any_byte_changed_does_not_hold() {
    let delivery = Delivery::new();
    let mut bundle = fs::read(delivery.path("bundle.json")).unwrap();
    // The library's tests change every byte; here the program's own reading is at stake.
    for place in (0..bundle.len()).step_by(11) {
        bundle[place] ^= 1;
        delivery.write("bundle.json", &bundle);
        let run = delivery.verify_with_image("image.png");
        assert_eq!(run.code, 1, "byte {place}: {}", run.stdout);
        assert_eq!(run.json()["holds"], false);
        bundle[place] ^= 1;
    }
    for extended in [
        &bundle[..bundle.len() - 1],
        &[&bundle[..], b"\n"].concat(),
        b"",
    ] {
        delivery.write("bundle.json", extended);
        assert_eq!(delivery.verify_with_image("image.png").code, 1);
    }
}

#[test]
fn each_part_that_does_not_hold_is_named() {
    let keys = golden("accepted/retrace.pub");
    for (file, check, code) in [
        (
            "signature-invalid--checkpoint-resized",
            "checkpoint",
            "signature-invalid",
        ),
        ("root-mismatch--another-index", "inclusion", "root-mismatch"),
        (
            "index-out-of-range--index-5",
            "inclusion",
            "index-out-of-range",
        ),
        ("unknown-key--entry-by-a-stranger", "entry", "unknown-key"),
        ("not-canonical--pretty", "bundle", "not-canonical"),
    ] {
        let bundle = golden(&format!("refused/bundle/{file}"));
        let run = run(&[
            "bundle",
            &bundle,
            "--no-image",
            "--public-key",
            &keys,
            "--json",
        ]);
        assert_eq!(run.code, 1, "{file}");
        assert_eq!(run.code_of(check).unwrap(), code, "{file}");
        let report = run.json();
        assert_eq!(report["entry"], Value::Null, "{file} proves no entry");
    }
}

#[test]
fn every_refused_bundle_and_checkpoint_is_refused() {
    let keys = golden("accepted/retrace.pub");
    for (folder, task) in [("bundle", "bundle"), ("checkpoint", "checkpoint")] {
        for file in fs::read_dir(golden(&format!("refused/{folder}"))).unwrap() {
            let path = file.unwrap().path();
            let mut arguments = vec![task, text(&path), "--public-key", &keys];
            if task == "bundle" {
                arguments.push("--no-image");
            }
            let run = run(&arguments);
            let name = path.file_name().unwrap().to_str().unwrap();
            let (code, _) = name.split_once("--").unwrap();
            // The library refuses lines that it cannot verify; the program says that they are there, since
            // not everybody knows every witness.
            if code == "unverified-signature" {
                let warned = run
                    .stdout
                    .contains("WARNING      witnesses     unknown-signature-lines");
                assert!(run.code == 0 && warned, "{name}: {}", run.stdout);
                continue;
            }
            assert_eq!(run.code, 1, "{}: {}", path.display(), run.stdout);
            assert!(
                run.stdout.contains(&format!("{code}: ")),
                "{name}: {}",
                run.stdout
            );
        }
    }
}

#[test]
fn a_score_bundle_holds_without_an_image_and_fails_with_one() {
    let (bundle, keys) = (
        golden("accepted/score.bundle.json"),
        golden("accepted/retrace.pub"),
    );
    let arguments = ["bundle", &bundle, "--public-key", &keys, "--json"];
    assert_eq!(run(&arguments).code, 0);
    let with_image = [&arguments[..], &["--image", &bundle]].concat();
    let run = run(&with_image);
    assert_eq!(run.code, 1);
    assert_eq!(run.code_of("image file").unwrap(), "entry-has-no-image");
}

#[test]
fn a_bundle_of_another_log_does_not_hold() {
    let delivery = Delivery::new();
    let keys = golden("accepted/retrace.pub");
    let bundle = delivery.path("bundle.json");
    let run = run(&[
        "bundle",
        text(&bundle),
        "--no-image",
        "--public-key",
        &keys,
        "--json",
    ]);
    assert_eq!(run.code, 1);
    assert_eq!(run.code_of("checkpoint").unwrap(), "checkpoint-key-unseen");
    assert_eq!(run.code_of("inclusion").unwrap(), "checkpoint-not-verified");
    assert_eq!(run.code_of("entry").unwrap(), "unknown-key");
    assert_eq!(run.code_of("image file").unwrap(), "entry-not-verified");
}

#[test]
fn a_refused_public_key_file_is_named() {
    let bundle = golden("accepted/generation.bundle.json");
    let keys = golden("refused/public-keys/invalid-public-key--small-order");
    let run = run(&[
        "bundle",
        &bundle,
        "--no-image",
        "--public-key",
        &keys,
        "--json",
    ]);
    assert_eq!(run.code, 1);
    assert_eq!(run.code_of("public key").unwrap(), "invalid-public-key");
}

#[test]
fn a_missing_file_or_argument_is_no_verdict() {
    let keys = golden("accepted/retrace.pub");
    let missing = run(&[
        "bundle",
        "missing.json",
        "--no-image",
        "--public-key",
        &keys,
    ]);
    assert_eq!(missing.code, 2);
    assert!(
        missing.stderr.contains("cannot read missing.json"),
        "{}",
        missing.stderr
    );
    assert_eq!(missing.stdout, "");
    assert_eq!(run(&["bundle", "missing.json"]).code, 2);
    assert_eq!(run(&[]).code, 2);
    let help = run(&["bundle", "--help"]);
    assert_eq!(help.code, 0);
    assert!(help.stdout.contains("Examples:"));
}

#[test]
fn checkpoints_hold_with_and_without_cosignatures() {
    let keys = golden("accepted/retrace.pub");
    for name in [
        "checkpoint.txt",
        "cosigned.checkpoint.txt",
        "empty.checkpoint.txt",
    ] {
        let file = golden(&format!("accepted/{name}"));
        let run = run(&["checkpoint", &file, "--public-key", &keys]);
        assert_eq!(run.code, 0, "{name}: {}", run.stdout);
        let noted = run.stdout.contains("unknown-signature-lines");
        assert_eq!(noted, name == "cosigned.checkpoint.txt");
    }
}

/// The fields of a golden proof as arguments: `leaf_hash` becomes `--leaf-hash`.
fn proof_arguments(task: &str, proof: &Value) -> Vec<String> {
    let mut arguments = vec![task.to_owned()];
    for (field, value) in proof.as_object().unwrap() {
        let value = match value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => {
                let hashes = value.as_array().unwrap().iter();
                let hashes: Vec<&str> = hashes.map(|hash| hash.as_str().unwrap()).collect();
                hashes.join(",")
            }
        };
        if !matches!(field.as_str(), "why" | "code") {
            arguments.extend([format!("--{}", field.replace('_', "-")), value]);
        }
    }
    arguments.push("--json".to_owned());
    arguments
}

fn run_proof(task: &str, proof: &Value) -> Run {
    let arguments = proof_arguments(task, proof);
    run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn golden_proofs_hold_and_refused_ones_do_not() {
    let read =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(golden(name)).unwrap()).unwrap() };
    let (accepted, refused) = (read("merkle.json"), read("proofs_refused.json"));
    for task in ["inclusion", "consistency"] {
        for proof in accepted[task].as_array().unwrap() {
            let run = run_proof(task, proof);
            assert_eq!(run.code, 0, "{proof}: {}{}", run.stdout, run.stderr);
        }
        for proof in refused[task].as_array().unwrap() {
            let run = run_proof(task, proof);
            assert_eq!(run.code, 1, "{proof}: {}{}", run.stdout, run.stderr);
            assert_eq!(run.code_of(task).unwrap(), proof["code"].as_str().unwrap());
        }
    }
}

#[test]
fn hashes_of_another_length_do_not_hold_and_other_texts_are_wrong_arguments() {
    let hash = Digest::of(b"").to_string();
    let inclusion = |leaf: &str, index: &str, proof: &[&str]| {
        let tree = ["--tree-size", "1", "--root-hash", &hash, "--json"];
        let leaf = ["inclusion", "--leaf-hash", leaf, "--leaf-index", index];
        run(&[&leaf[..], &tree, proof].concat())
    };
    assert_eq!(inclusion(&hash, "0", &["--proof", ""]).code, 0);
    assert_eq!(inclusion(&hash, "0", &["--proof="]).code, 0);
    assert_eq!(inclusion(&hash, "0", &["--proof"]).code, 0);
    assert_eq!(inclusion(&hash.to_uppercase(), "0", &["--proof="]).code, 0);
    for short in ["", "00", &hash[2..], &format!("{hash}00")] {
        let run = inclusion(short, "0", &["--proof="]);
        assert_eq!(run.code, 1, "{short}");
        assert_eq!(run.code_of("inclusion").unwrap(), "hash-length");
    }
    assert_eq!(inclusion(&hash, "0", &["--proof", ","]).code, 1);
    for wrong in ["xyz", "0", "é"] {
        assert_eq!(inclusion(wrong, "0", &["--proof="]).code, 2, "{wrong}");
    }
    for index in ["-1", "18446744073709551616", "one"] {
        assert_eq!(inclusion(&hash, index, &["--proof="]).code, 2, "{index}");
    }
    assert_eq!(
        inclusion(&hash, "18446744073709551615", &["--proof="]).code,
        1
    );
    assert_eq!(inclusion(&hash, "0", &[]).code, 2);
}

#[test]
fn text_from_an_unbelieved_file_cannot_steer_the_terminal() {
    let delivery = Delivery::new();
    let bundle = fs::read_to_string(delivery.path("bundle.json")).unwrap();
    let keyid = bundle.find("\"keyid\":\"").unwrap() + 9;
    let steering = format!("{}\\u001b[2J{}", &bundle[..keyid], &bundle[keyid..]);
    delivery.write("bundle.json", steering.as_bytes());
    let run = delivery.verify(&["--no-image"]);
    assert_eq!(run.code, 1);
    assert!(!run.stdout.contains('\u{1b}'), "{:?}", run.stdout);
    assert!(run.stdout.contains("\\u{1b}[2J"), "{}", run.stdout);
}
