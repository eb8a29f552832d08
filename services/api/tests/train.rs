//! `retrace train` on small folders of drawn pictures, with a detector of two noise levels as the base.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use detector::TraceConfig;
use detector::features::FeatureSchema;
use provenance::Digest;
use serde_json::{Value, json};
use training::draws::Draws;
use training::onnx_file::trees_file;
use training::trees::{Node, Tree, Trees};

/// Pictures of each set; two sets for each class.
const SET_PICTURES: usize = 13;
const SIDE: usize = 288;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Runs a program in a folder, with the models and native parts of the checkout.
fn run_in(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    let native = std::env::var_os("RETRACE_RUNTIME").map(PathBuf::from);
    Command::new(program)
        .args(arguments)
        .env_clear()
        .env(
            "RETRACE_RUNTIME",
            native.unwrap_or_else(|| root().join(".runtime")),
        )
        .env("RETRACE_MODELS", root().join("models"))
        .current_dir(folder)
        .output()
        .unwrap()
}

fn retrace(folder: &Path, arguments: &[&str]) -> Output {
    run_in(folder, env!("CARGO_BIN_EXE_retrace"), arguments)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn ends_with(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map_or(Value::Null, |line| {
        serde_json::from_str(line).unwrap_or(Value::Null)
    })
}

/// How a picture is drawn.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Noise that was blurred a little, as a lens does.
    Blurred,
    /// Noise of half the size, enlarged by repeating pixels, as a simple decoder does.
    Repeated,
    /// Next to no detail.
    Flat,
}

fn draw(path: &Path, kind: Kind, name: &str) {
    let mut draws = Draws::new(11, &[name]);
    let strength = if kind == Kind::Flat {
        2.0
    } else {
        10.0 * 8.0_f64.powf(draws.unit())
    };
    let tint = [
        draws.between(80.0, 170.0),
        draws.between(80.0, 170.0),
        draws.between(80.0, 170.0),
    ];
    let noise: Vec<f64> = (0..SIDE * SIDE).map(|_| draws.between(-1.0, 1.0)).collect();
    let at = |x: usize, y: usize| noise[y.min(SIDE - 1) * SIDE + x.min(SIDE - 1)];
    let mut rgb = Vec::with_capacity(SIDE * SIDE * 3);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let value = match kind {
                Kind::Repeated => at(x / 2 * 2, y / 2 * 2) * 0.75,
                _ => (at(x, y) * 2.0 + at(x + 1, y) + at(x, y + 1)) / 2.5,
            };
            let slope = (x + y) as f64 / (2 * SIDE) as f64 * 40.0;
            rgb.extend(tint.map(|tint| (tint + slope + value * strength).clamp(0.0, 255.0) as u8));
        }
    }
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let png = media::encode_png(SIDE as u32, SIDE as u32, &rgb, &[]).unwrap();
    std::fs::write(path, png).unwrap();
}

/// Two sets of pictures of one kind below a folder.
fn draw_class(folder: &Path, kind: Kind, name: &str) {
    for set in ["one", "two"] {
        for number in 0..SET_PICTURES {
            draw(
                &folder.join(set).join(format!("{number}.png")),
                kind,
                &format!("{name} {set} {number}"),
            );
        }
    }
}

/// A detector that measures two noise levels on two patches, so that a picture costs a ninth of the usual, and has no
/// semantic expert, so that it is the same where the image encoder is installed.
fn small_base(folder: &Path) -> String {
    let config = TraceConfig {
        noise_levels: vec![0.02, 0.1],
        richest: 1,
        flattest: 1,
        spread: 0,
        ..TraceConfig::default()
    };
    let schema = FeatureSchema::of(&config);
    let columns = schema.names.len();
    let trees = Trees {
        columns,
        trees: vec![Tree {
            nodes: vec![Node::Leaf { value: 0.0 }],
        }],
    };
    let stratum = json!({ "name": "low", "quality_min": 0.0, "slope": 1.0, "intercept": 0.0 });
    let files = [
        ("detector.json", json!({ "name": "small", "version": "1", "prior": "prior.onnx", "heads": ["trees.onnx"] }).to_string().into_bytes()),
        ("features.json", serde_json::to_vec(&schema).unwrap()),
        ("calibration.json", json!({ "version": "1", "quality": { "weights": vec![0.0; columns], "intercept": 0.0 }, "strata": [stratum] }).to_string().into_bytes()),
        ("thresholds.json", json!({ "version": "1", "strata": [{ "name": "low", "generated_min": null, "not_generated_max": null }] }).to_string().into_bytes()),
        ("trees.onnx", trees_file(&trees)),
        ("prior.onnx", std::fs::read(root().join("models/detector/prior.onnx")).unwrap()),
    ];
    let base = folder.join("base");
    std::fs::create_dir_all(&base).unwrap();
    let mut manifest = String::new();
    for (name, bytes) in files {
        std::fs::write(base.join(name), &bytes).unwrap();
        manifest += &format!(
            "[[file]]\npath = \"{name}\"\nsha256 = \"{}\"\nbytes = {}\nsource = \"test\"\nlicence = \"none\"\n",
            Digest::of(&bytes),
            bytes.len()
        );
    }
    std::fs::write(base.join("manifest.toml"), manifest).unwrap();
    base.display().to_string()
}

/// A folder with drawn photographs and generated pictures and a base.
fn workshop() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    draw_class(&folder.path().join("real"), Kind::Blurred, "real");
    draw_class(
        &folder.path().join("generated"),
        Kind::Repeated,
        "generated",
    );
    let base = small_base(folder.path());
    (folder, base)
}

fn train<'a>(base: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [
        &[
            "train",
            "--json",
            "--threads",
            "2",
            "--class-pictures-min",
            "20",
            "--detector",
            base,
        ],
        arguments,
    ]
    .concat()
}

fn files_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
        .sum()
}

#[test]
fn a_trained_detector_tells_its_classes_apart_and_scores_a_picture() {
    let (folder, base) = workshop();
    let here = folder.path();
    std::fs::write(here.join("real/one/broken.jpg"), b"\xff\xd8\xff no picture").unwrap();
    std::fs::copy(here.join("real/one/0.png"), here.join("real/two/again.png")).unwrap();
    let small = media::encode_png(40, 40, &[9; 4800], &[]).unwrap();
    std::fs::write(here.join("generated/one/small.png"), small).unwrap();
    let arguments = train(
        &base,
        &[
            "--real",
            "real",
            "--generated",
            "generated",
            "--output",
            "new/mine",
        ],
    );
    let output = retrace(here, &arguments);
    let told = ends_with(&output, 0);
    let messages = stderr(&output);
    assert!(told["auc"].as_f64().unwrap() > 0.9, "{told}");
    assert_eq!(
        (&told["pictures"], &told["skipped"]),
        (&(4 * SET_PICTURES).into(), &3.into())
    );
    for words in [
        "broken.jpg",
        "the same file as",
        "40x40 pixels",
        "trace alone",
    ] {
        assert!(messages.contains(words), "{words} is not in {messages}");
    }
    let report: Value =
        serde_json::from_slice(&std::fs::read(here.join("new/mine/report.json")).unwrap()).unwrap();
    assert_eq!(report["refused"], json!([]));
    assert_eq!(report["figures"]["left_out"].as_array().unwrap().len(), 4);
    let page = std::fs::read_to_string(here.join("new/mine/report.html")).unwrap();
    assert!(
        page.contains("<svg") && !page.contains("http"),
        "the page needs nothing else"
    );
    let card = std::fs::read_to_string(here.join("new/mine/README.md")).unwrap();
    assert!(card.contains("| one | real | 13 |"), "{card}");

    let score = [
        "score",
        "--offline",
        "--json",
        "--detector",
        "new/mine",
        "generated/one/0.png",
        "real/one/0.png",
    ];
    let scored = retrace(here, &score);
    assert_eq!(scored.status.code(), Some(0), "{}", stderr(&scored));
    let probabilities: Vec<f64> = String::from_utf8(scored.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["probability"]
                .as_f64()
                .unwrap()
        })
        .collect();
    assert!(probabilities[0] > probabilities[1], "{probabilities:?}");

    // Nothing is overwritten, and a file that was changed is found.
    let again = retrace(here, &arguments);
    ends_with(&again, 2);
    assert!(stderr(&again).contains("never overwritten"));
    let check = ["models", "check", "--json", "--detector", "new/mine"];
    ends_with(&retrace(here, &check), 0);
    std::fs::write(here.join("new/mine/thresholds.json"), b"{}").unwrap();
    ends_with(&retrace(here, &check), 1);
    let changed = retrace(here, &score);
    ends_with(&changed, 3);
    assert!(
        stderr(&changed).contains("differ from the manifest"),
        "{}",
        stderr(&changed)
    );
}

#[test]
fn a_run_that_was_killed_goes_on_and_ends_with_the_same_weights() {
    let (folder, base) = workshop();
    let here = folder.path();
    let from = |cache, output| {
        train(
            &base,
            &[
                "--real",
                "real",
                "--generated",
                "generated",
                "--seed",
                "5",
                "--name",
                "same",
                "--cache",
                cache,
                "--output",
                output,
            ],
        )
    };
    ends_with(&retrace(here, &from("whole", "undisturbed")), 0);
    // Killed with no chance to tidy up, wherever it is by then.
    for seconds in ["1", "2", "3"] {
        let killed = [
            &["-s", "KILL", seconds, env!("CARGO_BIN_EXE_retrace")],
            from("torn", seconds).as_slice(),
        ]
        .concat();
        let output = run_in(here, "/usr/bin/timeout", &killed);
        let is_whole = here.join(seconds).join("manifest.toml").is_file();
        assert_eq!(
            here.join(seconds).exists(),
            is_whole,
            "a folder is there whole or not at all"
        );
        assert_eq!(output.status.success(), is_whole);
    }
    // What a crash of the machine could leave of a file is measured again.
    let torn = std::fs::read_dir(here.join("torn/measured"))
        .into_iter()
        .flatten()
        .next();
    let torn = torn
        .map(|entry| entry.unwrap().path())
        .and_then(|path| std::fs::read_dir(path).unwrap().next());
    if let Some(entry) = torn {
        std::fs::write(entry.unwrap().path(), b"retrace/measurements/v1\n half").unwrap();
    }
    ends_with(&retrace(here, &from("torn", "resumed")), 0);
    for name in [
        "heads/trees.onnx",
        "calibration.json",
        "thresholds.json",
        "report.json",
        "manifest.toml",
    ] {
        let read = |run: &str| std::fs::read(here.join(run).join(name)).unwrap();
        assert!(read("undisturbed") == read("resumed"), "{name} differs");
    }
    assert_eq!(
        files_below(&here.join("torn/measured")),
        files_below(&here.join("whole/measured"))
    );
}

#[test]
fn a_detector_that_learned_from_labels_by_chance_is_refused_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    // One kind of picture under both labels.
    draw_class(&here.join("real"), Kind::Blurred, "first");
    draw_class(&here.join("generated"), Kind::Blurred, "second");
    let base = small_base(here);
    let output = retrace(
        here,
        &train(
            &base,
            &[
                "--real",
                "real",
                "--generated",
                "generated",
                "--output",
                "chance",
            ],
        ),
    );
    let told = ends_with(&output, 1);
    assert!(
        told["refused"][0].as_str().unwrap().contains("chance"),
        "{told}"
    );
    assert!(stderr(&output).contains("is refused"));
    let card = std::fs::read_to_string(here.join("chance/README.md")).unwrap();
    assert!(card.contains("must not be used"));
    let score = retrace(
        here,
        &[
            "score",
            "--offline",
            "--detector",
            "chance",
            "real/one/0.png",
        ],
    );
    ends_with(&score, 3);
    assert!(
        stderr(&score).contains("the detector in chance is refused"),
        "{}",
        stderr(&score)
    );
    let check = retrace(here, &["models", "check", "--detector", "chance"]);
    ends_with(&check, 1);
    assert!(stderr(&check).contains("refused"));
    let serve = retrace(here, &["serve", "--port", "0", "--detector", "chance"]);
    ends_with(&serve, 3);
    assert!(stderr(&serve).contains("refused"), "{}", stderr(&serve));
}

#[test]
fn classes_that_differ_in_detail_alone_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    draw_class(&here.join("real"), Kind::Blurred, "noisy");
    draw_class(&here.join("generated"), Kind::Flat, "flat");
    let base = small_base(here);
    let output = retrace(
        here,
        &train(
            &base,
            &[
                "--real",
                "real",
                "--generated",
                "generated",
                "--output",
                "detail",
            ],
        ),
    );
    let told = ends_with(&output, 1);
    assert!(
        told["refused"].to_string().contains("bytes for each pixel"),
        "{told}"
    );
}

#[test]
fn what_cannot_be_trained_on_is_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    draw(&here.join("real/a.png"), Kind::Blurred, "a");
    draw(&here.join("generated/b.png"), Kind::Repeated, "b");
    let base = small_base(here);
    let few = retrace(
        here,
        &train(
            &base,
            &[
                "--real",
                "real",
                "--generated",
                "generated",
                "--output",
                "x",
            ],
        ),
    );
    ends_with(&few, 1);
    assert!(
        stderr(&few).contains("20 are needed (class_pictures_min)"),
        "{}",
        stderr(&few)
    );
    let twice = retrace(
        here,
        &train(
            &base,
            &["--real", "real", "--generated", "real", "--output", "x"],
        ),
    );
    ends_with(&twice, 1);
    assert!(
        stderr(&twice).contains("both are the same file"),
        "{}",
        stderr(&twice)
    );
    for arguments in [
        &["train", "--real", "real", "--output", "x"][..],
        &[
            "train",
            "--real",
            "real",
            "--generated",
            "generated",
            "--output",
            "real",
        ],
        &[
            "train",
            "--real",
            "nowhere",
            "--generated",
            "generated",
            "--output",
            "x",
        ],
        &["train", "--manifest", "none.csv", "--output", "x"],
        &[
            "train",
            "--real",
            "real",
            "--generated",
            "generated",
            "--class-pictures-min",
            "3",
            "--output",
            "x",
        ],
        &[
            "train",
            "--real",
            "real",
            "--generated",
            "generated",
            "--pictures-max",
            "1",
            "--output",
            "x",
        ],
    ] {
        ends_with(&retrace(here, arguments), 2);
    }
    let nowhere = retrace(
        here,
        &["score", "--offline", "--detector", "nowhere", "real/a.png"],
    );
    ends_with(&nowhere, 3);
    assert!(!here.join("x").exists());
}
