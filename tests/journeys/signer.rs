//! A signer in a process of its own: the service has neither seed, and lives through the signer's death.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use provenance::PublicKeys;
use serde_json::json;
use tests::client::bundle_of;
use tests::house::root;
use tests::programs::program;
use tests::service::{TestProcess, reachable_folder, runtime_folder};

struct Signer(Child);

impl Signer {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(program("retrace").unwrap())
            .args(["signer", "--json", "--state", "signer-state"])
            .args(["--socket", "signer.sock"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert!(line.contains("signer.sock"), "{line}");
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every file below a folder whose bytes hold one of these.
fn files_with(folder: &Path, wanted: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, wanted));
        } else if let Ok(bytes) = std::fs::read(&path) {
            let text = String::from_utf8_lossy(&bytes);
            if wanted.iter().any(|seed| text.contains(seed)) {
                found.push(path);
            }
        }
    }
    found
}

fn retrace(state: &Path, arguments: &[&str]) -> Output {
    Command::new(program("retrace").unwrap())
        .args(arguments)
        .env_remove("DATABASE_URL")
        .env("RETRACE_STATE", state)
        .env("RETRACE_MODELS", root().join("models"))
        .env("RETRACE_RUNTIME", runtime_folder())
        .output()
        .unwrap()
}

#[test]
fn a_service_with_its_keys_in_a_signer_loses_nothing_when_the_signer_is_killed() {
    let folder = reachable_folder().unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let address = format!("unix:{}", folder.path().join("signer.sock").display());
    let signer = Signer::start(folder.path());
    let settings = ["--signer", &address, "--signer-wait-ms-max", "300"];
    let service = TestProcess::start(&state, None, &settings);
    let client = service.client();
    let order = |seed: u64| json!({ "prompt": "a red heart", "seed": seed, "n": 2, "num_inference_steps": 2 });
    let made = client.generate(&order(1)).expect_ok();
    let answers = json!({ "answers": true, "fault": null });
    let health = client.get("/healthz").expect_ok();
    assert_eq!(
        (&health["status"], &health["signer"]),
        (&json!("ok"), &answers)
    );

    signer.kill();
    // What was seen of it a moment ago is told again for a moment.
    let killed = std::time::Instant::now();
    while client.get("/healthz").expect_ok()["status"] == "ok" {
        assert!(killed.elapsed().as_secs() < 30, "nobody misses the signer");
        std::thread::yield_now();
    }
    let refused = client.generate(&order(2));
    let said = refused.expect_problem(503, "signer-unavailable");
    assert!(said.contains("nothing was signed"), "{said}");
    assert_eq!(refused.header("retry-after"), "2");
    let picture = tests::client::png_of(&made["data"][0]);
    let scored = client.score_png(&picture);
    scored.expect_problem(503, "signer-unavailable");
    let health = client.get("/healthz").expect_ok();
    assert_eq!(health["status"], "degraded", "{health}");
    assert_eq!(
        health["signer"],
        json!({ "answers": false, "fault": "the signer does not answer" })
    );
    let page = client.get("/").text();
    assert!(page.contains("the signer does not answer"), "{page}");
    // What is signed is still read and proven.
    let text = client.get("/checkpoint").text();
    assert!(text.lines().nth(1) == Some("2"), "{text}");

    let signer = Signer::start(folder.path());
    let again = client.generate(&order(2)).expect_ok();
    client.score_png(&picture).expect_ok();
    let started = std::time::Instant::now();
    while client.get("/healthz").expect_ok()["signer"] != answers {
        assert!(started.elapsed().as_secs() < 30, "nobody sees the signer");
        std::thread::yield_now();
    }
    let keys = std::fs::read_to_string(state.join("retrace.pub")).unwrap();
    let keys = PublicKeys::parse(&keys).unwrap();
    for (document, first) in [(&made, 0), (&again, 2)] {
        for (image, place) in document["data"].as_array().unwrap().iter().zip(first..) {
            let bundle = provenance::Bundle::parse(&bundle_of(image)).unwrap();
            let verified = bundle.verify(&keys).unwrap();
            assert_eq!(verified.leaf_index.get(), place);
        }
    }
    service.stop();

    let seeds = ["entries.seed", "checkpoint.seed"].map(|name| {
        let path = folder.path().join("signer-state/keys").join(name);
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    });
    assert_eq!(files_with(&state, &seeds), Vec::<PathBuf>::new());
    let checked = retrace(&state, &["ledger", "check", "--signer", &address]);
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    let exported = retrace(&state, &["ledger", "export", "--signer", &address]);
    assert!(exported.status.success());
    assert!(
        String::from_utf8_lossy(&exported.stdout).contains("{\"manifest\":"),
        "the export has a signed last line"
    );
    let rotated = retrace(&state, &["key", "rotate", "--signer", &address]);
    assert_eq!(rotated.status.code(), Some(3));
    // Without the signer no other keys are made in their place.
    let alone = retrace(&state, &["ledger", "check"]);
    assert_eq!(alone.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&alone.stderr).contains("--signer"));
    signer.kill();
}
