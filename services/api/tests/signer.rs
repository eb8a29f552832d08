//! `retrace signer` as a process: who may ask it, what it survives, and what its clients survive of it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::config::SignerOptions;
use api::keys::{KeyError, Keys};
use api::signer::{FRAME_BYTES_MAX, SignerAddress, SignerClient};
use provenance::{Digest, Entry, Envelope, RecordedDetector, RecordedVerdict, ScoreEntry};
use serde_json::{Value, json};
use tempfile::TempDir;

const ORIGIN: &str = "signer.test/log";

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("signer.sock")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retrace"));
        command
            .env_clear()
            .args(["signer", "--json", "--origin", ORIGIN])
            .arg("--state")
            .arg(self.0.path().join("signer-state"))
            .arg("--socket")
            .arg(self.socket())
            .args(more)
            .stdin(Stdio::null());
        command
    }

    fn start(&self, more: &[&str]) -> Signer {
        let mut command = self.command(more);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let told = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        Signer { child, told }
    }

    fn refusal(&self) -> String {
        let output: Output = self.command(&[]).output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        String::from_utf8(output.stderr).unwrap()
    }

    fn client(&self, wait_ms: u64) -> Arc<SignerClient> {
        let options = SignerOptions {
            signer: Some(SignerAddress::unix(&self.socket())),
            signer_wait_ms_max: wait_ms,
        };
        SignerClient::of(&options).unwrap()
    }

    fn keys(&self, wait_ms: u64) -> Result<Keys, KeyError> {
        let state = self.0.path().join("service-state");
        fs::create_dir_all(&state).unwrap();
        Keys::held_by(&state, ORIGIN, &self.client(wait_ms))
    }
}

struct Signer {
    child: Child,
    told: Value,
}

impl Signer {
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn stop(mut self) {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(asked.success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        // Most have ended by then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn entry(id: usize) -> Entry {
    let digest = Digest::of(b"");
    Entry::Score(ScoreEntry {
        request_id: id.to_string(),
        created_at_ms: 1,
        client: "tester".to_owned(),
        upload_commitment: digest,
        detector: RecordedDetector {
            name: "detector".to_owned(),
            version: "1".to_owned(),
            digest,
        },
        calibration_version: "1".to_owned(),
        thresholds_version: "1".to_owned(),
        verdict: RecordedVerdict::Inconclusive,
        probability: None,
    })
}

fn sign(keys: &Keys, entries: usize) -> Result<(), String> {
    let entries: Vec<Entry> = (0..entries).map(entry).collect();
    let signed = Envelope::sign_all(&entries, &keys.entries).map_err(|error| error.to_string())?;
    for (envelope, entry) in signed.iter().zip(&entries) {
        assert_eq!(&envelope.verify(&keys.entries.verifier()).unwrap(), entry);
    }
    Ok(())
}

#[test]
fn a_signer_signs_for_its_owner_over_a_socket_and_no_seed_leaves_its_folder() {
    let place = Place::new();
    let signer = place.start(&[]);
    let mode = fs::metadata(place.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let keys = place.keys(5_000).unwrap();
    assert_eq!(signer.told["entries"], keys.entries.verifier().to_string());
    assert_eq!(signer.told["purposes"], json!(["entries", "checkpoints"]));
    // More than one request may carry, and none at all.
    for entries in [0, 1, 600] {
        sign(&keys, entries).unwrap();
    }
    let service = place.0.path().join("service-state");
    let made = fs::read_dir(service.join("keys")).unwrap().count();
    assert_eq!(made, 0);
    let public = fs::read_to_string(service.join("retrace.pub")).unwrap();
    assert_eq!(signer.told["public_keys"], public);
    // Its keys are read by nobody else, and nothing is made in their place.
    let without = Keys::open(&service, ORIGIN, &api::keys::Vault::default()).unwrap_err();
    assert!(without.to_string().contains("--signer"), "{without}");
    signer.stop();
    assert!(!place.socket().exists());
}

#[test]
fn a_killed_signer_is_missed_and_one_that_comes_back_goes_on() {
    let place = Place::new();
    let signer = place.start(&[]);
    let (patient, hasty) = (place.keys(60_000).unwrap(), place.keys(200).unwrap());
    sign(&patient, 1).unwrap();
    sign(&hasty, 1).unwrap();
    signer.kill();
    assert!(place.socket().exists(), "nobody removed it");
    let missed = sign(&hasty, 1).unwrap_err();
    assert!(
        missed.contains("does not answer") && missed.contains("signer_wait_ms_max"),
        "{missed}"
    );
    let unknown = place.keys(200).unwrap_err().to_string();
    assert!(unknown.contains("signer.sock"), "{unknown}");
    let waiting = std::thread::spawn(move || sign(&patient, 3));
    let signer = place.start(&[]);
    waiting.join().unwrap().unwrap();
    sign(&hasty, 2).unwrap();
    // One is enough, and what is no socket is nobody's.
    assert!(place.refusal().contains("another signer answers"));
    sign(&hasty, 1).unwrap();
    signer.stop();
    fs::write(place.socket(), "a file of somebody's").unwrap();
    assert!(place.refusal().contains("is no socket"));
    assert_eq!(
        fs::read_to_string(place.socket()).unwrap(),
        "a file of somebody's"
    );
    fs::remove_file(place.socket()).unwrap();
    let long = "x".repeat(120);
    // No client could name it.
    let mut command = Command::new(env!("CARGO_BIN_EXE_retrace"));
    command
        .current_dir(place.0.path())
        .args(["signer", "--state", "s", "--socket", &long]);
    let ended = command.output().unwrap();
    assert_eq!(ended.status.code(), Some(3));
    assert!(!place.0.path().join(&long).exists());
    fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(place.refusal().contains("others may write"));
}

/// Sends bytes and reads whatever comes until the other side ends the connection.
fn sent(place: &Place, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(place.socket()).unwrap();
    // It may be gone before all was written.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn frame(json: &str) -> Vec<u8> {
    let length = u32::try_from(json.len()).unwrap();
    [&length.to_be_bytes()[..], json.as_bytes()].concat()
}

#[test]
fn garbage_is_answered_or_dropped_and_stops_nobody_else() {
    let place = Place::new();
    let _signer = place.start(&[]);
    let keys = place.keys(5_000).unwrap();
    let over = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_be_bytes();
    let deep = "[".repeat(1_000_000);
    let key = keys.entries.verifier().key_id();
    let asks = |purpose: &str, key: &str, message: &str| {
        let ask = json!({ "ask": "sign", "purpose": purpose, "key": key, "messages": [message] });
        frame(&ask.to_string())
    };
    for (bytes, code) in [
        (&over[..], "malformed"),
        (&[0xff; 64], "malformed"),
        (&frame("{}"), "malformed"),
        (&frame(&deep), "malformed"),
        (&asks("files", &key, ""), "malformed"),
        (&asks("entries", &key, "!"), "malformed"),
        (&asks("entries", &key, "AAAA"), "not-signable"),
        (&asks("entries", "another+00000000", "AAAA"), "key-not-held"),
        (&asks("checkpoints", &key, "AAAA"), "key-not-held"),
    ] {
        let answer = sent(&place, bytes);
        let document: Value = serde_json::from_slice(&answer[4..]).unwrap();
        assert_eq!(document["answer"], "refused");
        assert_eq!(document["code"], code, "{document}");
    }
    for cut in [&b""[..], b"\0", b"\0\0\0\x10{\"ask\""] {
        assert_eq!(sent(&place, cut), b"");
    }
    sign(&keys, 2).unwrap();
}

#[test]
fn a_signer_over_its_connections_is_busy_until_one_ends() {
    let place = Place::new();
    let _signer = place.start(&["--connections-max", "2", "--purpose", "entries"]);
    let silent = [(); 2].map(|()| {
        let mut stream = UnixStream::connect(place.socket()).unwrap();
        stream.write_all(&frame(r#"{"ask":"keys"}"#)).unwrap();
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        stream
    });
    let busy = place.keys(200).unwrap_err().to_string();
    assert!(busy.contains("connections"), "{busy}");
    drop(silent);
    let keys = place.keys(60_000).unwrap();
    sign(&keys, 1).unwrap();
    assert!(!keys.sign_for(api::signer::KeyPurpose::Checkpoints));
}

/// What answers in a signer's place, and how it is refused.
#[test]
fn an_answer_that_is_none_is_never_used() {
    let place = Place::new();
    let signer = place.start(&[]);
    let keys = place.keys(2_000).unwrap();
    signer.stop();
    let zeros = json!({ "answer": "signed", "signatures": ["A".repeat(86) + "=="] });
    for (answer, said) in [
        (frame("{}"), "no signature of this key"),
        (frame(r#"{"answer":"busy","#), "no signature of this key"),
        (
            frame(r#"{"answer":"signed","signatures":[]}"#),
            "no signature of this key",
        ),
        (frame(&zeros.to_string()), "no signature of this key"),
        (vec![0xff; 8], "no signature of this key"),
        (
            frame(r#"{"answer":"refused","code":"c","detail":"not today"}"#),
            "not today (c)",
        ),
    ] {
        let _ = fs::remove_file(place.socket());
        let listener = UnixListener::bind(place.socket()).unwrap();
        let impostor = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&answer).unwrap();
        });
        let refused = sign(&keys, 1).unwrap_err();
        assert!(refused.contains(said), "{refused}");
        impostor.join().unwrap();
    }
    // One that takes the question and says nothing.
    let _ = fs::remove_file(place.socket());
    let _silent = UnixListener::bind(place.socket()).unwrap();
    let hasty = place.client(100);
    let began = Instant::now();
    assert!(hasty.keys().unwrap_err().to_string().contains("too long"));
    assert!(began.elapsed() < Duration::from_secs(30));
}
