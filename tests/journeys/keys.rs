//! The entry key changes and is revoked: what was signed before and after is checked offline by an auditor who
//! pinned the first key alone.

use std::path::Path;
use std::process::{Command, Output};

use ledger::Scope;
use provenance::tile::tiles;
use provenance::{Bundle, SignedCheckpoint};
use serde_json::Value;
use signed_note::{Note, StandardVerifier, VerifierList};
use tests::client::{Client, bundle_of, png_of};
use tests::programs::program;
use tests::service::{TestService, spawn_app};

/// What lies on an auditor's disk.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Runs the auditors' program; its exit code and what it said.
    fn verify(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(program("retrace-verify").unwrap())
            .current_dir(self.folder.path())
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said)
    }

    /// As [`verify`](Self::verify), with the pinned keys alone.
    fn verify_pinned(&self, arguments: &[&str]) -> (Option<i32>, String) {
        self.verify(&[arguments, &["--policy", "pinned.txt"]].concat())
    }

    /// Downloads everything that the log consists of.
    fn mirror(&self, client: &Client) {
        let checkpoint = client.get("/checkpoint").text();
        let signed = SignedCheckpoint::parse(&checkpoint).unwrap();
        self.write("mirror/checkpoint", checkpoint.as_bytes());
        for tile in tiles(signed.unverified().tree_size) {
            let answer = client.get(&format!("/{tile}"));
            assert_eq!(answer.status, 200, "{tile}");
            self.write(&format!("mirror/{tile}"), &answer.body);
        }
    }
}

/// Runs `retrace key`.
fn key(arguments: &[&str], state: &Path, database_url: &str) -> Output {
    Command::new(program("retrace").unwrap())
        .arg("key")
        .args(arguments)
        .arg("--json")
        .env("RETRACE_STATE", state)
        .env("DATABASE_URL", database_url)
        .output()
        .unwrap()
}

fn report(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The key that the service has now takes the place of the one before.
fn rotated(service: TestService) -> (TestService, Value) {
    let mut told = Value::Null;
    let service = service.stopped_for(|state, database_url| {
        told = report(&key(&["rotate"], state, database_url));
    });
    (service, told)
}

#[test]
fn an_auditor_who_pinned_the_first_key_follows_the_log_past_a_change_and_a_revocation() {
    let service = spawn_app();
    let desk = Desk::new();
    let items: Vec<Value> = (0..2)
        .map(|seed| service.client().generate_one("a red heart", 60 + seed))
        .collect();
    for (number, item) in items.iter().enumerate() {
        desk.write(&format!("{number}.png"), &png_of(item));
        desk.write(&format!("{number}.bundle"), &bundle_of(item));
    }
    desk.write("first.pub", service.public_keys().to_string().as_bytes());
    let first_use = [
        "bundle",
        "0.bundle",
        "--image",
        "0.png",
        "--public-key",
        "first.pub",
    ];
    let (code, said) = desk.verify_pinned(&first_use);
    assert_eq!(code, Some(0), "{said}");

    // A running service would go on with the old key: nothing is changed under it.
    let busy = key(&["rotate"], service.state(), service.database_url());
    assert_eq!(busy.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&busy.stderr).contains("stop the service"));

    let (service, told) = rotated(service);
    assert_eq!(told["recorded_in_entry"], 2);
    assert_eq!(told["valid_from_entry"], 3);
    let item = service.client().generate_one("a blue car", 62);
    desk.write("3.png", &png_of(&item));
    desk.write("3.bundle", &bundle_of(&item));
    for number in ["0", "1", "3"] {
        let (bundle, image) = (format!("{number}.bundle"), format!("{number}.png"));
        let (code, said) = desk.verify_pinned(&["bundle", &bundle, "--image", &image]);
        assert_eq!(code, Some(0), "{said}");
    }
    desk.mirror(&service.client());
    let (code, said) = desk.verify_pinned(&["ledger", "mirror"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("signs entries 0 to 2") && said.contains("from entry 3 on"),
        "{said}"
    );
    tampered_successions_are_refused(&desk, &bundle_of(&item));
    let export = service.client().get("/v1/entries/export").body;
    desk.write("export.ndjson", &export);
    desk.write("new.pub", &service.client().get("/v1/public-key").body);
    let (code, said) = desk.verify(&["export", "export.ndjson", "--public-key", "new.pub"]);
    assert_eq!(code, Some(0), "{said}");

    revoked(&service, &desk);
}

/// The proof of the new key is taken out of a bundle, or changed.
fn tampered_successions_are_refused(desk: &Desk, bytes: &[u8]) {
    let bundle: Value = serde_json::from_slice(bytes).unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let without = text[..text.find(",\"keys\":").unwrap()].to_owned() + "}";
    let without = without.replace("bundle@v2", "bundle@v1");
    let moved = text.replace("\"leaf_index\":2", "\"leaf_index\":1");
    let signature = bundle["keys"][0]["envelope"]["signatures"][0]["sig"]
        .as_str()
        .unwrap();
    let own = bundle["envelope"]["signatures"][0]["sig"].as_str().unwrap();
    let forged = text.replace(signature, own);
    for (tampered, reason) in [
        (without, "unknown-key"),
        (moved, "root-mismatch"),
        (forged, "signature-invalid"),
    ] {
        desk.write("tampered.bundle", tampered.as_bytes());
        let arguments = ["bundle", "tampered.bundle", "--image", "3.png", "--json"];
        let (code, said) = desk.verify_pinned(&arguments);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&format!("\"{reason}\"")), "{reason}: {said}");
    }
}

/// The first key is revoked from entry 1 on, while the service runs.
fn revoked(service: &TestService, desk: &Desk) {
    let shown = report(&key(&["show"], service.state(), service.database_url()));
    let old = shown["entry_keys"][0].clone();
    let fingerprint = old["fingerprint"].as_str().unwrap();
    let current = shown["entry_keys"][1]["key"].as_str().unwrap();
    let refused = key(
        &["revoke", current, "--reason", "lost"],
        service.state(),
        service.database_url(),
    );
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("retrace key rotate"));
    let order = [
        "revoke",
        fingerprint,
        "--reason",
        "its disk was lost",
        "--since",
        "1",
    ];
    let told = report(&key(&order, service.state(), service.database_url()));
    assert_eq!(told["revoked"]["since_entry"], 1);
    assert_eq!(told["key"], old["key"]);
    let shown = report(&key(&["show"], service.state(), service.database_url()));
    assert_eq!(
        shown["entry_keys"][0]["revoked"]["reason"],
        "its disk was lost"
    );
    assert_eq!(shown["fingerprint"].as_str().unwrap().len(), 64);

    // The newest key file knows of it; so does a bundle that is fetched now.
    let client = service.client();
    desk.write("new.pub", &client.get("/v1/public-key").body);
    let fresh = client.get("/v1/entries/1/bundle").body;
    assert!(Bundle::parse(&fresh).is_ok());
    desk.write("fresh.bundle", &fresh);
    let (code, said) = desk.verify_pinned(&["bundle", "fresh.bundle", "--image", "1.png"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("key-revoked: "), "{said}");
    let given = ["--public-key", "new.pub"];
    let (code, said) =
        desk.verify_pinned(&[&["bundle", "1.bundle", "--image", "1.png"], &given[..]].concat());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("key-revoked: "), "{said}");
    let (code, said) =
        desk.verify_pinned(&[&["bundle", "0.bundle", "--image", "0.png"], &given[..]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("key-revoked-later"), "{said}");

    desk.mirror(&client);
    let (code, said) = desk.verify_pinned(&["ledger", "mirror"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("signed entries 1 to 1 and was revoked"),
        "{said}"
    );
    for (image, expected) in [("0.png", Some(0)), ("1.png", Some(1)), ("3.png", Some(0))] {
        let (code, said) = desk.verify_pinned(&["image", image, "--tiles", "mirror"]);
        assert_eq!(code, expected, "{image}: {said}");
        assert_eq!(
            said.contains("key-revoked: entry 1"),
            image == "1.png",
            "{said}"
        );
    }
    // The service goes on, and its pages name the keys.
    let item = client.generate_one("a green tree", 63);
    assert!(
        Bundle::parse(&bundle_of(&item))
            .unwrap()
            .verify(service.public_keys())
            .is_ok()
    );
    let page = service
        .client_with("reader", &[Scope::Audit, Scope::Admin])
        .get("/ledger")
        .text();
    assert!(
        page.contains("Signing keys") && page.contains("its disk was lost"),
        "{page}"
    );
    assert_eq!(page.matches("Taken back").count(), 1, "{page}");
    let reader = service.client_with("another reader", &[Scope::Audit]);
    for (entry, is_taken_back) in [(0, false), (1, true), (2, false), (3, false)] {
        let page = reader.get(&format!("/ledger/{entry}")).text();
        assert_eq!(
            page.contains("This entry was taken back"),
            is_taken_back,
            "{page}"
        );
        assert_eq!(page.contains("href=\"/ledger/4\""), is_taken_back, "{page}");
    }
}

/// Whose signature an implementation by somebody else finds on a checkpoint.
fn is_signed_by(checkpoint: &str, key: &str) -> bool {
    let verifier = StandardVerifier::new(key).unwrap();
    let verifiers = VerifierList::new(vec![Box::new(verifier)]);
    let note = Note::from_bytes(checkpoint.as_bytes()).unwrap();
    note.verify(&verifiers).is_ok()
}

/// Whether the checkpoint that the service shows holds under a policy, and why not.
fn shown_checkpoint(service: &TestService, desk: &Desk, policy: &str) -> (Option<i32>, String) {
    let checkpoint = service.client().get("/checkpoint").text();
    desk.write("shown.txt", checkpoint.as_bytes());
    desk.verify(&["checkpoint", "shown.txt", "--policy", policy])
}

#[test]
fn the_checkpoint_key_changes_under_load_and_those_who_pinned_the_old_one_have_time_to_follow() {
    let service = spawn_app();
    let desk = Desk::new();
    desk.write("first.pub", service.public_keys().to_string().as_bytes());
    service.client().generate_one("a red heart", 80);
    desk.mirror(&service.client());
    for policy in ["old.txt", "new.txt"] {
        let given = ["--public-key", "first.pub", "--policy", policy];
        let (code, said) = desk.verify(&[&["ledger", "mirror"], &given[..]].concat());
        assert_eq!(code, Some(0), "{said}");
    }

    let (told, during) = std::thread::scope(|threads| {
        let load = threads.spawn(|| {
            let client = service.client();
            let seeds = 81..84;
            seeds
                .map(|seed| client.generate_one("a blue car", seed))
                .collect::<Vec<Value>>()
        });
        let order = ["rotate", "--checkpoint"];
        let told = report(&key(&order, service.state(), service.database_url()));
        (told, load.join().unwrap())
    });
    for item in &during {
        let bundle = Bundle::parse(&bundle_of(item)).unwrap();
        assert!(bundle.verify(service.public_keys()).is_ok());
    }
    let after = service.client().generate_one("a green tree", 85);
    desk.write("after.png", &png_of(&after));
    desk.write("after.bundle", &bundle_of(&after));
    let (old, new) = (
        service.public_keys().checkpoint.to_string(),
        told["verifier"].as_str().unwrap().to_owned(),
    );
    let checkpoint = service.client().get("/checkpoint").text();
    assert!(is_signed_by(&checkpoint, &old) && is_signed_by(&checkpoint, &new));
    assert!(!is_signed_by(&checkpoint.replace("log\n", "lag\n"), &new));

    // Both auditors accept it; the one who pinned the old key is told.
    let (code, said) = shown_checkpoint(&service, &desk, "old.txt");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("checkpoint-key-unseen: "), "{said}");
    desk.write("new.pub", &service.client().get("/v1/public-key").body);
    let moved_on = ["--public-key", "new.pub", "--policy", "new.txt"];
    let (code, said) = desk.verify(&[&["checkpoint", "shown.txt"], &moved_on[..]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("are pinned in new.txt as well"), "{said}");
    desk.mirror(&service.client());
    for policy in ["old.txt", "new.txt"] {
        for task in [
            &["ledger", "mirror"][..],
            &["bundle", "after.bundle", "--image", "after.png"],
        ] {
            let (code, said) = desk.verify(&[task, &["--policy", policy]].concat());
            assert_eq!(code, Some(0), "{policy} {task:?}: {said}");
        }
    }
    // One change at a time, and the key that signs is not revoked.
    let again = key(
        &["rotate", "--checkpoint"],
        service.state(),
        service.database_url(),
    );
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("still signs beside"));
    transition_ended(service, &desk, (&old, &new));
}

/// The old key is revoked, which ends its time; the service starts anew with the new one.
fn transition_ended(service: TestService, desk: &Desk, (old, new): (&str, &str)) {
    let name = |key: &str| {
        let parts: Vec<&str> = key.splitn(3, '+').collect();
        format!("{}+{}", parts[0], parts[1])
    };
    let order = ["revoke", &name(old), "--reason", "its time is over"];
    report(&key(&order, service.state(), service.database_url()));
    let checkpoint = service.client().get("/checkpoint").text();
    assert!(!is_signed_by(&checkpoint, old) && is_signed_by(&checkpoint, new));
    let (code, said) = shown_checkpoint(&service, desk, "old.txt");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("checkpoint-key-unseen: signed by"), "{said}");
    let (code, said) = shown_checkpoint(&service, desk, "new.txt");
    assert_eq!(code, Some(0), "{said}");

    let service = service.restart();
    let item = service.client().generate_one("a yellow star", 86);
    desk.write("late.png", &png_of(&item));
    desk.write("late.bundle", &bundle_of(&item));
    // A bundle carries the proof of its key, so that the pinned first keys suffice.
    let late = ["bundle", "late.bundle", "--image", "late.png"];
    for policy in ["old.txt", "new.txt"] {
        let (code, said) = desk.verify(&[&late, &["--policy", policy][..]].concat());
        assert_eq!(code, Some(0), "{policy}: {said}");
    }
    let text = String::from_utf8(bundle_of(&item)).unwrap();
    let without = text[..text.find(",\"keys\":").unwrap()].to_owned() + "}";
    let without = without.replace("bundle@v2", "bundle@v1");
    desk.write("without.bundle", without.as_bytes());
    let without = ["bundle", "without.bundle", "--image", "late.png"];
    let (code, said) = desk.verify(&[&without, &["--policy", "old.txt"][..]].concat());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("checkpoint-key-unseen: "), "{said}");
    let (code, said) = desk.verify(&[&without, &["--policy", "new.txt"][..]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(!service.state().join("keys/checkpoint.old.seed").exists());
    assert!(service.check_ledger().unwrap().is_sound());
}
