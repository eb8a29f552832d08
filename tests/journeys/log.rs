//! The log as files: mirrored over HTTP, checked by the auditors' program and by implementations of other people.

use std::path::{Path, PathBuf};
use std::process::Command;

use ledger::Scope;
use provenance::tile::{TileLevel, tiles};
use provenance::{Bundle, SignedCheckpoint, Tile, TreeSize};
use signed_note::{Note, StandardVerifier, VerifierList};
use tests::client::{Client, png_of};
use tests::programs::program;
use tests::service::{TestService, spawn_app};
use tlog_tiles::{
    Error, Hash, TileHashReader, TileReader, check_record, prove_record, record_hash,
};

/// A folder with everything that an auditor downloads.
struct Mirror {
    folder: tempfile::TempDir,
    size: TreeSize,
}

impl Mirror {
    /// Downloads the checkpoint and every file that a tree of its size is made of.
    fn of(service: &TestService, client: &Client) -> Self {
        let checkpoint = client.get("/checkpoint").text();
        let size = SignedCheckpoint::parse(&checkpoint)
            .unwrap()
            .unverified()
            .tree_size;
        let folder = tempfile::tempdir().unwrap();
        let mirror = Self { folder, size };
        mirror.write("checkpoint", checkpoint.as_bytes());
        for tile in tiles(size) {
            let answer = client.get(&format!("/{tile}"));
            assert_eq!(answer.status, 200, "{tile}: {}", answer.text());
            assert_eq!(answer.media_type, "application/octet-stream");
            mirror.write(&tile.to_string(), &answer.body);
        }
        let keys = service.public_keys().to_string();
        mirror.write("retrace.pub", keys.as_bytes());
        mirror
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Runs the auditors' program on the mirror; its exit code and what it said.
    fn verify(&self, task: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(program("retrace-verify").unwrap())
            .current_dir(self.folder.path())
            .args(task)
            .args(["--public-key", "retrace.pub"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said)
    }
}

/// Gives another implementation the mirror; it writes the height of tiles into their paths.
struct Files<'a>(&'a Path);

impl TileReader for Files<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let read = |tile: &tlog_tiles::Tile| {
            let path = tile.path().replacen("tile/8/", "tile/", 1);
            std::fs::read(self.0.join(path)).unwrap()
        };
        Ok(tiles.iter().map(read).collect())
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

#[test]
fn a_mirror_of_the_log_holds_offline_and_finds_an_image_again() {
    let service = spawn_app();
    let client = service.client();
    client.generate_one("a red heart", 31);
    let item = client.generate_one("a blue car", 32);
    client.generate_one("a green tree", 33);
    let mirror = Mirror::of(&service, &client);
    let (code, said) = mirror.verify(&["ledger", "."]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("3 entries, each signed by"), "{said}");

    mirror.write("image.png", &png_of(&item));
    let (code, said) = mirror.verify(&["image", "image.png", "--tiles", "."]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("entry 1"), "{said}");

    let name = "tile/entries/000.p/3";
    let mut bundle = std::fs::read(mirror.path(name)).unwrap();
    let place = bundle.len() / 2;
    bundle[place] ^= 1;
    mirror.write(name, &bundle);
    assert_eq!(mirror.verify(&["ledger", "."]).0, Some(1));
}

#[test]
fn other_implementations_accept_the_checkpoint_the_tiles_and_the_proofs_of_the_service() {
    let service = spawn_app();
    let client = service.client();
    for seed in 41..44 {
        client.generate_one("a red heart", seed);
    }
    let mirror = Mirror::of(&service, &client);
    let keys = service.public_keys().to_string();
    let key = StandardVerifier::new(keys.lines().nth(1).unwrap()).unwrap();
    let note = Note::from_bytes(&std::fs::read(mirror.path("checkpoint")).unwrap()).unwrap();
    note.verify(&VerifierList::new(vec![Box::new(key)]))
        .unwrap();
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!(checkpoint.size(), mirror.size.get());

    let (size, root) = (checkpoint.size(), *checkpoint.hash());
    let files = Files(mirror.folder.path());
    let reader = TileHashReader::new(size, root, &files);
    for index in 0..size {
        let bundle = client.get(&format!("/v1/entries/{index}/bundle")).body;
        let bundle = Bundle::parse(&bundle).unwrap();
        let ours: Vec<Hash> = bundle
            .inclusion_proof()
            .iter()
            .map(|hash| Hash(*hash.as_bytes()))
            .collect();
        assert_eq!(prove_record(size, index, &reader).unwrap(), ours);
        let leaf = record_hash(&bundle.envelope().to_bytes());
        check_record(&ours, size, root, index, leaf).unwrap();
    }
}

#[test]
fn tiles_are_cached_for_ever_and_only_what_a_checkpoint_covers_is_there() {
    let service = spawn_app();
    let client = service.client();
    client.generate_one("a red heart", 51);
    for absent in [
        "/tile/0/000",
        "/tile/0/000.p/2",
        "/tile/1/000.p/1",
        "/tile/entries/000",
        "/tile/entries/001.p/1",
        "/tile/0/000.p/0",
        "/tile/0/000.p/256",
        "/tile/0/0",
        "/tile/0/x000/000.p/1",
        "/tile/00/000.p/1",
        "/tile/64/000.p/1",
        "/tile/0/%30%30%30.p/1",
        "/tile/entries/",
        "/tile/data/000.p/1",
    ] {
        client.get(absent).expect_problem(404, "not-found");
    }
    let base = format!("http://127.0.0.1:{}", service.port());
    let get = |path: &str, encoding: &str| {
        let request = ureq::get(format!("{base}{path}")).header("accept-encoding", encoding);
        request.call().unwrap()
    };
    let header = |answer: &ureq::http::Response<ureq::Body>, name: &str| {
        let value = answer.headers().get(name);
        value
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    let hashes = get("/tile/0/000.p/1", "identity");
    assert_eq!(
        header(&hashes, "cache-control"),
        "public, max-age=31536000, immutable"
    );
    let mut bundle = get("/tile/entries/000.p/1", "gzip");
    assert_eq!(
        header(&bundle, "cache-control"),
        "private, max-age=31536000, immutable"
    );
    assert_eq!(header(&bundle, "content-encoding"), "gzip");
    assert_eq!(bundle.body_mut().read_to_vec().unwrap()[..2], [0x1f, 0x8b]);
    assert_eq!(
        header(&get("/checkpoint", "identity"), "cache-control"),
        "no-store"
    );
}

#[test]
fn hashes_are_open_to_everyone_and_entries_to_auditors() {
    let service = spawn_app();
    service.client().generate_one("a red heart", 61);
    let tile = |level| format!("/{}", Tile::new(level, 0, 1).unwrap());
    let (hashes, entries) = (tile(TileLevel::Hashes(0)), tile(TileLevel::Entries));
    let auditor = service.client_with("auditor", &[Scope::Audit]);
    let painter = service.client_with("painter", &[Scope::Generate]);
    let nobody = service.client();
    assert_eq!(nobody.get(&hashes).status, 200);
    assert_eq!(nobody.get("/checkpoint").status, 200);
    assert_eq!(auditor.get(&entries).status, 200);
    painter.get(&entries).expect_problem(403, "missing-scope");
    nobody.get(&entries).expect_problem(401, "unauthorized");
}

#[test]
fn metrics_count_requests_by_pattern_and_tell_no_names() {
    let service = spawn_app();
    let painter = service.client_with("painter-of-hearts", &[Scope::Generate, Scope::Audit]);
    painter.generate_one("a secret heart", 71);
    painter.get("/v1/entries/0").expect_ok();
    let answer = service.client().get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.media_type.starts_with("text/plain; version=0.0.4"));
    let text = answer.text();
    let value = |series: &str| -> f64 {
        let found = text.lines().find_map(|line| line.strip_prefix(series));
        let found = found.unwrap_or_else(|| panic!("{series} in\n{text}"));
        found.trim().parse().unwrap()
    };
    // Other tests of this program are counted too.
    let entries =
        "retrace_http_requests_total{method=\"GET\",path=\"/v1/entries/{index}\",status=\"200\"}";
    assert!(value(entries) >= 1.0);
    assert!(value("retrace_generation_duration_seconds_count") >= 1.0);
    assert!(value("retrace_log_entries ") >= 1.0);
    assert!(value("retrace_log_pending_entries ") >= 0.0);
    for secret in [
        "painter-of-hearts",
        "secret heart",
        "retrace_app",
        "postgres://",
    ] {
        assert!(!text.contains(secret), "{secret}");
    }
}
