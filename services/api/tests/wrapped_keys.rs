//! Secrets under a passphrase, as the command line wraps and unwraps them.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use api::config::CredentialOptions;
use api::credential_keys::CredentialKeys;
use api::keys::{Keys, Vault, open_witness};
use tempfile::TempDir;

const ORIGIN: &str = "test.local/log";
/// 2026-11-27, in seconds since 1970.
const NOW_S: i64 = 1_795_737_600;
const SECRETS: [&str; 4] = [
    "entries.seed",
    "checkpoint.seed",
    "witness.seed",
    "credentials.pem",
];

/// A state folder with every secret that there is, and two passphrases beside it.
struct Folder {
    place: TempDir,
}

impl Folder {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let folder = Self { place };
        for (name, passphrase) in [
            ("one", "correct horse battery\n"),
            ("two", "another staple"),
        ] {
            fs::write(folder.file(name), passphrase).unwrap();
            fs::set_permissions(folder.file(name), Permissions::from_mode(0o600)).unwrap();
        }
        fs::create_dir(folder.state()).unwrap();
        folder.open(None);
        folder
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.file("state")
    }

    fn secret(&self, name: &str) -> Vec<u8> {
        fs::read(self.state().join("keys").join(name)).unwrap()
    }

    fn secrets(&self) -> Vec<Vec<u8>> {
        SECRETS.iter().map(|name| self.secret(name)).collect()
    }

    /// What everybody can see of the keys, once all of them were opened.
    fn open(&self, passphrase: Option<&str>) -> String {
        let path = passphrase.map(|name| self.file(name));
        let vault = Vault::open(path.as_deref()).unwrap();
        let state = self.state();
        let keys = Keys::open(&state, ORIGIN, &vault).unwrap();
        let witness = open_witness(&state, "witness.test/w", &vault).unwrap();
        let options = CredentialOptions::of("test.local");
        let chain = CredentialKeys::open(&state, &options, NOW_S, &vault).unwrap();
        let chain = chain.signer.chain().pem().to_owned();
        format!("{}{}{chain}", keys.public, witness.verifier())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retrace"));
        command
            .args(arguments)
            .env_clear()
            .env("RETRACE_STATE", self.state())
            .current_dir(self.place.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

fn is_wrapped(bytes: &[u8]) -> bool {
    bytes.starts_with(b"retrace-wrapped@v1 ")
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn secrets_are_wrapped_changed_and_unwrapped_without_becoming_others() {
    let folder = Folder::new();
    let (seen, plain) = (folder.open(None), folder.secrets());
    let wrapped = folder.run(&["key", "wrap", "--key-passphrase-file", "one"]);
    assert!(wrapped.status.success(), "{}", said(&wrapped));
    for name in SECRETS {
        assert!(is_wrapped(&folder.secret(name)), "{name}");
        let metadata = fs::metadata(folder.state().join("keys").join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(folder.open(Some("one")), seen);
    // A second time there is nothing to do; under another passphrase it is refused.
    let before = folder.secrets();
    let again = folder.run(&["key", "wrap", "--key-passphrase-file", "one", "--json"]);
    assert_eq!(again.stdout, b"{\"wrapped\":[]}\n");
    let other = folder.run(&["key", "wrap", "--key-passphrase-file", "two"]);
    assert_eq!(other.status.code(), Some(1));
    assert_eq!(folder.secrets(), before);
    let changed = folder.run(&[
        "key",
        "wrap",
        "--old-passphrase-file",
        "one",
        "--key-passphrase-file",
        "two",
    ]);
    assert!(changed.status.success(), "{}", said(&changed));
    assert_eq!(folder.open(Some("two")), seen);
    let refused = folder.run(&["key", "unwrap", "--key-passphrase-file", "one"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("entries.seed"),
        "{}",
        said(&refused)
    );
    assert!(said(&refused).contains("this passphrase does not open it"));
    assert!(!said(&refused).contains("horse"));
    let unwrapped = folder.run(&["key", "unwrap", "--key-passphrase-file", "two"]);
    assert!(unwrapped.status.success(), "{}", said(&unwrapped));
    assert_eq!(folder.secrets(), plain);
}

#[test]
fn a_wrapped_key_without_its_passphrase_stops_the_start_and_says_what_to_do() {
    let folder = Folder::new();
    folder.run(&["key", "wrap", "--key-passphrase-file", "one"]);
    let before = folder.secrets();
    // Port 1 belongs to no database: the keys come first.
    let url = "postgres://nobody@127.0.0.1:1/none";
    let start = ["key", "list", "--origin", ORIGIN, "--database-url", url];
    let refused = folder.run(&start);
    assert_eq!(refused.status.code(), Some(3));
    let text = said(&refused);
    assert!(
        text.contains("entries.seed") && text.contains("--key-passphrase-file"),
        "{text}"
    );
    let wrong = folder.run(&[&start[..], &["--key-passphrase-file", "two"]].concat());
    assert!(
        said(&wrong).contains("does not open it"),
        "{}",
        said(&wrong)
    );
    let mut by_name = folder.command(&start);
    by_name.env("RETRACE_KEY_PASSPHRASE_FILE", folder.file("one"));
    let opened = said(&by_name.output().unwrap());
    assert!(opened.contains("database"), "{opened}");
    fs::set_permissions(folder.file("one"), Permissions::from_mode(0o644)).unwrap();
    let open = folder.run(&[&start[..], &["--key-passphrase-file", "one"]].concat());
    assert!(said(&open).contains("644"), "{}", said(&open));
    assert_eq!(folder.secrets(), before);
}

/// Kills the commands behind every file that they write, and before the first: what was done by then stays,
/// and the next call ends it.
#[test]
fn a_command_that_is_killed_loses_nothing_and_goes_on_when_it_is_run_again() {
    let folder = Folder::new();
    let (seen, plain) = (folder.open(None), folder.secrets());
    let wrap = ["key", "wrap", "--key-passphrase-file", "one"];
    let unwrap = ["key", "unwrap", "--key-passphrase-file", "one"];
    for files in 0..SECRETS.len() {
        killed_after(&folder, &wrap, files);
        let found = folder.secrets();
        for (secret, known) in found.iter().zip(&plain) {
            assert!(is_wrapped(secret) || secret == known);
        }
        let wrapped = found.iter().filter(|secret| is_wrapped(secret)).count();
        assert!(wrapped >= files, "{wrapped} of {files}");
        // Half wrapped or not, the passphrase opens all of it.
        assert_eq!(folder.open(Some("one")), seen);
        assert!(folder.run(&wrap).status.success());
        assert!(folder.secrets().iter().all(|secret| is_wrapped(secret)));
        killed_after(&folder, &unwrap, files);
        assert!(folder.run(&unwrap).status.success());
        assert_eq!(folder.secrets(), plain);
        let names = fs::read_dir(folder.state().join("keys")).unwrap();
        let left = names.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with(".new-")
        });
        assert_eq!(left.count(), 0, "a killed command left a secret behind");
    }
}

/// Kills the command as soon as it has told of so many files.
fn killed_after(folder: &Folder, arguments: &[&str], files: usize) {
    let mut command = folder.command(arguments);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(told.take(files).count(), files);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn two_commands_at_once_leave_every_secret_under_one_passphrase() {
    let folder = Folder::new();
    let seen = folder.open(None);
    let mut both = ["one", "two"].map(|name| {
        let mut command = folder.command(&["key", "wrap", "--key-passphrase-file", name]);
        (name, command.stderr(Stdio::null()).spawn().unwrap())
    });
    let ended = both
        .each_mut()
        .map(|(name, child)| (*name, child.wait().unwrap().success()));
    let winners: Vec<&str> = ended
        .iter()
        .filter_map(|(name, done)| done.then_some(*name))
        .collect();
    let [winner] = winners[..] else {
        panic!("{ended:?}");
    };
    assert_eq!(folder.open(Some(winner)), seen);
    assert!(Path::new(&folder.state()).join("retrace.pub").exists());
}
