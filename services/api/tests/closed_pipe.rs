//! Commands whose reader has left end quietly.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io;
use std::process::{Command, Stdio};

use api::keys::{Keys, Vault};

#[test]
fn showing_keys_to_nobody_is_a_quiet_end() {
    let state = tempfile::tempdir().unwrap();
    Keys::open(state.path(), "test.local/log", &Vault::default()).unwrap();
    for arguments in [&["key", "show"][..], &["key", "show", "--json"]] {
        for closes_errors in [false, true] {
            let (reader, writer) = io::pipe().unwrap();
            drop(reader);
            let mut command = Command::new(env!("CARGO_BIN_EXE_retrace"));
            command.args(arguments).env_clear();
            command.env("RETRACE_STATE", state.path());
            command.stderr(match closes_errors {
                true => Stdio::from(writer.try_clone().unwrap()),
                false => Stdio::piped(),
            });
            let ended = command.stdout(writer).output().unwrap();
            let said = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(0), "{said}");
            assert!(!said.contains("panicked"), "{said}");
        }
    }
}
