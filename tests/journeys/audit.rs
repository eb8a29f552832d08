//! Audit: proofs, bundles and checkpoints, checked without trusting the service.

use std::path::Path;
use std::process::{Command, Output};

use provenance::merkle::{self, TreeHead};
use provenance::{Bundle, Checkpoint, Digest, LeafIndex, SignedCheckpoint};
use serde_json::{Value, json};
use tests::client::{Client, bundle_of, png_of};
use tests::programs::program;
use tests::service::{photograph, spawn_app};

fn digests(value: &Value) -> Vec<Digest> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|digest| digest.as_str().unwrap().parse().unwrap())
        .collect()
}

fn checkpoint(client: &Client) -> SignedCheckpoint {
    let answer = client.get("/checkpoint");
    assert_eq!(answer.status, 200, "{}", answer.text());
    SignedCheckpoint::parse(&answer.text()).unwrap()
}

fn head(checkpoint: &Checkpoint) -> TreeHead {
    TreeHead {
        size: checkpoint.tree_size,
        root_hash: checkpoint.root_hash,
    }
}

/// What lies on an auditor's disk.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn verify(&self, bundle: &Path, image: &Path) -> Output {
        Command::new(program("retrace-verify").unwrap())
            .arg("bundle")
            .arg(bundle)
            .arg("--image")
            .arg(image)
            .arg("--public-key")
            .arg(self.path("retrace.pub"))
            .output()
            .unwrap()
    }
}

#[test]
fn the_auditors_program_accepts_the_bundle_and_refuses_any_change() {
    let service = spawn_app();
    let item = service.client().generate_one("a red heart", 5);
    let (png, bundle) = (png_of(&item), bundle_of(&item));
    let keys = service.public_keys().to_string();
    let desk = Desk::new(&[
        ("image.png", &png),
        ("image.bundle", &bundle),
        ("retrace.pub", keys.as_bytes()),
    ]);
    let held = desk.verify(&desk.path("image.bundle"), &desk.path("image.png"));
    assert_eq!(
        held.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&held.stdout)
    );

    let mut changed = png.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(desk.path("changed.png"), changed).unwrap();
    let refused = desk.verify(&desk.path("image.bundle"), &desk.path("changed.png"));
    assert_eq!(refused.status.code(), Some(1));
    // Starting the program takes longer than its work: some places here, every place in the test below.
    for place in [0, bundle.len() / 3, bundle.len() / 2, bundle.len() - 1] {
        let mut changed = bundle.clone();
        changed[place] ^= 1;
        std::fs::write(desk.path("changed.bundle"), changed).unwrap();
        let refused = desk.verify(&desk.path("changed.bundle"), &desk.path("image.png"));
        assert_ne!(refused.status.code(), Some(0), "byte {place}");
    }
}

#[test]
fn a_bundle_with_any_one_changed_byte_does_not_verify() {
    let service = spawn_app();
    let bundle = bundle_of(&service.client().generate_one("a red heart", 6));
    let image = Bundle::parse(&bundle)
        .unwrap()
        .verify(service.public_keys())
        .unwrap();
    for place in 0..bundle.len() {
        let mut changed = bundle.clone();
        changed[place] ^= 1;
        let verified =
            Bundle::parse(&changed).and_then(|bundle| bundle.verify(service.public_keys()));
        assert!(
            verified.is_err(),
            "byte {place} of {} makes no difference to {image:?}",
            bundle.len()
        );
    }
}

#[test]
fn two_checkpoints_are_consistent_and_entries_stay_where_they_are() {
    let service = spawn_app();
    let client = service.client();
    let first = client.generate_one("a red heart", 8);
    let old = checkpoint(&client)
        .verify_sole(&service.public_keys().checkpoint)
        .unwrap()
        .clone();
    client.generate_one("a blue car", 9);
    client.score_png(&photograph("coffee.png")).expect_ok();
    let new = checkpoint(&client)
        .verify_sole(&service.public_keys().checkpoint)
        .unwrap()
        .clone();
    assert_eq!((old.tree_size.get(), new.tree_size.get()), (1, 3));

    let path = format!(
        "/v1/consistency?old={}&new={}",
        old.tree_size.get(),
        new.tree_size.get()
    );
    let proof = digests(&client.get(&path).expect_ok()["consistency_proof"]);
    let (old_head, new_head) = (head(&old), head(&new));
    merkle::verify_consistency(&old_head, &new_head, &proof).unwrap();

    let inclusion = client.get("/v1/entries/0/proof").expect_ok();
    let leaf: Digest = first["provenance"]["entry"]["leaf_hash"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let hashes = digests(&inclusion["inclusion_proof"]);
    merkle::verify_inclusion(&leaf, LeafIndex::new(0), &new_head, &hashes).unwrap();
}

#[test]
fn an_entry_can_be_found_by_what_it_is_about() {
    let service = spawn_app();
    let client = service.client();
    let item = client.generate_one("a red heart", 11);
    client.score_png(&photograph("coffee.png")).expect_ok();
    let found = |query: &str| {
        let page = client.get(&format!("/v1/entries?{query}")).expect_ok();
        let indices = page["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["leaf_index"].as_u64().unwrap());
        (
            indices.collect::<Vec<u64>>(),
            page["checkpoint"]["tree_size"].as_u64(),
        )
    };
    let digest = item["image"]["sha256"].as_str().unwrap();
    let pixels = item["image"]["pixel_sha256"].as_str().unwrap();
    assert_eq!(found(&format!("image_sha256={digest}")), (vec![0], Some(2)));
    assert_eq!(found(&format!("pixel_sha256={pixels}")), (vec![0], Some(2)));
    assert_eq!(found("kind=score"), (vec![1], Some(2)));
    assert_eq!(found("order=asc"), (vec![0, 1], Some(2)));
    let page = client.get("/v1/entries?limit=1&order=asc").expect_ok();
    assert_eq!(
        found(&format!("limit=1&order=asc&after={}", page["next"])),
        (vec![1], Some(2))
    );
}

#[test]
fn an_earlier_bundle_still_verifies_and_one_under_a_later_checkpoint_does_too() {
    let service = spawn_app();
    let client = service.client();
    let item = client.generate_one("a red heart", 12);
    client.generate_one("a blue car", 13);
    let later = client.get("/v1/entries/0/bundle");
    assert_eq!(later.status, 200);
    for bytes in [bundle_of(&item), later.body] {
        let bundle = Bundle::parse(&bytes).unwrap();
        assert_eq!(
            bundle.verify(service.public_keys()).unwrap().leaf_index,
            LeafIndex::new(0)
        );
    }
    let earlier = client.get("/v1/entries/0/bundle?tree_size=1");
    assert_eq!(earlier.body, bundle_of(&item));
}

#[test]
fn what_is_not_there_is_not_found() {
    let service = spawn_app();
    let client = service.client();
    client.generate_one("a red heart", 14);
    client.generate_one("a red heart", 15);
    for path in [
        "/v1/entries/2",
        "/v1/entries/2/bundle",
        "/v1/entries/2/proof",
        "/v1/consistency?old=1&new=7",
        "/v1/nothing",
        "/v1/entries/x",
    ] {
        client.get(path).expect_problem(404, "not-found");
    }
    client
        .get("/v1/consistency?old=2&new=1")
        .expect_problem(400, "invalid-request");
    client
        .get("/v1/entries?image_sha256=xyz")
        .expect_problem(400, "invalid-request");
    client
        .post_json("/v1/entries/0", &json!({}))
        .expect_problem(405, "method-not-allowed");
}
