//! Content Credentials of uploads, read by the real program as a confined child.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use api::config::Limits;
use api::sandbox::{Sandbox, SandboxError};
use credentials::{
    CredentialSigner, DevChain, ModelStatement, Operator, Reading, Software, State, Statement, Work,
};
use media::Format;

const PROGRAM: &str = env!("CARGO_BIN_EXE_retrace");

fn sandbox(limits: &Limits) -> Sandbox {
    Sandbox::new(Some(Path::new(PROGRAM)), limits)
}

/// A signed picture and the root under which it is trusted.
fn signed() -> (Vec<u8>, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let made = DevChain::make("Newsroom", now.as_secs() as i64).unwrap();
    let signer = CredentialSigner::new(made.chain, &made.key).unwrap();
    let rgb: Vec<u8> = (0..64 * 64 * 3).map(|at| (at * 37) as u8).collect();
    let statement = Statement {
        format: Format::Png,
        software: Software {
            name: "Retrace",
            version: "1",
        },
        operator: Operator {
            name: "Newsroom",
            log: "test.local/log",
        },
        model: ModelStatement {
            name: "model",
            digest: "00",
        },
        work: Work::Created,
        request_id: "req-1",
        image_index: 0,
        created_at_ms: 1_795_421_854_095,
        soft_bindings: &[],
    };
    let file = media::encode_png(64, 64, &rgb, &[]).unwrap();
    (signer.sign(file, &statement).unwrap(), made.root_pem)
}

async fn read(sandbox: &Sandbox, file: &[u8]) -> Reading {
    let read = sandbox.read_credentials(file, Format::Png).await;
    read.unwrap().unwrap()
}

#[tokio::test]
async fn credentials_are_trusted_under_the_anchors_that_the_child_is_given() {
    let (file, root) = signed();
    let child = sandbox(&Limits::default());
    let valid = read(&child, &file).await;
    assert_eq!(valid.state, State::Valid, "{valid:?}");
    let trusted = read(&child.trusting(&root), &file).await;
    assert_eq!(trusted.state, State::Trusted, "{trusted:?}");
    assert_eq!(trusted.says_generated, Some(true));
}

#[tokio::test]
async fn a_file_without_credentials_has_none_and_a_source_carries_those_that_hold() {
    let child = sandbox(&Limits::default());
    let bare = media::encode_png(64, 64, &vec![7; 64 * 64 * 3], &[]).unwrap();
    assert_eq!(
        child.read_credentials(&bare, Format::Png).await.unwrap(),
        None
    );
    let ingredient = child.ingredient(&bare, Format::Png).await.unwrap();
    assert!(!ingredient.carries_manifests());
    let ingredient = child.ingredient(&signed().0, Format::Png).await.unwrap();
    assert!(ingredient.carries_manifests());
}

#[tokio::test]
async fn credentials_over_a_limit_are_not_read_and_the_picture_is() {
    let (file, _) = signed();
    let bytes = Limits {
        manifest_bytes_max: 1_024,
        ..Limits::default()
    };
    let time = Limits {
        manifest_wall_ms_max: 1,
        ..Limits::default()
    };
    // The program itself does not fit.
    let memory = Limits {
        manifest_memory_bytes_max: 1 << 20,
        ..Limits::default()
    };
    for (limits, words) in [
        (bytes, "manifest_bytes_max"),
        (time, "manifest_wall_ms_max of 1"),
        (memory, "manifest_memory_bytes_max"),
    ] {
        let child = sandbox(&limits);
        let reading = read(&child, &file).await;
        assert_eq!(reading.state, State::Refused, "{words}");
        assert!(reading.codes[0].contains(words), "{reading:?}");
        let ingredient = child.ingredient(&file, Format::Png).await.unwrap();
        assert!(!ingredient.carries_manifests());
        let parsed = child.parse(&file).await.unwrap();
        assert!(parsed.decoded.has_content_credentials);
    }
}

#[tokio::test]
async fn a_program_that_does_not_answer_as_a_reader_is_not_believed() {
    let (file, _) = signed();
    let limits = Limits::default();
    let silent = Sandbox::new(Some(Path::new("/bin/true")), &limits);
    assert_eq!(read(&silent, &file).await.state, State::Refused);
    let failing = Sandbox::new(Some(Path::new("/bin/false")), &limits);
    assert_eq!(read(&failing, &file).await.state, State::Refused);
    let missing = Sandbox::new(Some(Path::new("/nonexistent/retrace")), &limits);
    let refused = missing.read_credentials(&file, Format::Png).await;
    assert!(matches!(refused, Err(SandboxError::NotStarted { .. })));
}
