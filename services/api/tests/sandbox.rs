//! The child process that parses uploads, with the real program as the child.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use api::config::Limits;
use api::sandbox::{Sandbox, SandboxError};

const PROGRAM: &str = env!("CARGO_BIN_EXE_retrace");

fn sandbox(limits: &Limits) -> Sandbox {
    Sandbox::new(Some(Path::new(PROGRAM)), limits)
}

fn picture(side: u32) -> Vec<u8> {
    let rgb: Vec<u8> = (0..side * side * 3).map(|i| (i * 37) as u8).collect();
    media::encode_png(side, side, &rgb, &[("Comment", "made for a test")]).unwrap()
}

#[tokio::test]
async fn a_picture_comes_back_with_its_pixels_and_metadata() {
    let parsed = sandbox(&Limits::default())
        .parse(&picture(64))
        .await
        .unwrap();
    let here = media::decode(&picture(64), &media::Limits::default()).unwrap();
    assert_eq!(parsed.decoded, here);
    assert!(parsed.confinement.resource_limits);
}

#[tokio::test]
async fn the_kernel_of_this_machine_grants_the_system_call_filter() {
    // True of every kernel since 3.17 that is not itself behind a filter which forbids filters.
    let confinement = sandbox(&Limits::default()).probe().await.unwrap();
    assert!(confinement.system_call_filter);
}

#[tokio::test]
async fn garbage_is_refused_with_a_word_and_a_reason() {
    let cases: [(&[u8], &str); 4] = [
        (b"", "empty-file"),
        (b"no picture at all", "unknown-format"),
        (b"GIF89a\x01\0\x01\0", "unsupported-format"),
        (&picture(64)[..200], "truncated"),
    ];
    for (bytes, expected) in cases {
        match sandbox(&Limits::default()).parse(bytes).await.unwrap_err() {
            SandboxError::Refused { code, message } => {
                assert_eq!(code, expected);
                assert!(!message.is_empty());
            }
            other => panic!("{expected}: {other}"),
        }
    }
}

#[tokio::test]
async fn a_picture_that_needs_more_memory_than_its_child_has_costs_one_request_alone() {
    // 6,000 pixels square are 108 MB of pixels: above the child's address space, below the caps.
    let bomb = media::encode_png(6_000, 6_000, &vec![7; 6_000 * 6_000 * 3], &[]).unwrap();
    let limits = Limits {
        parser_memory_bytes_max: 64 << 20,
        ..Limits::default()
    };
    let sandbox = sandbox(&limits);
    let error = sandbox.parse(&bomb).await.unwrap_err();
    let stopped = match &error {
        SandboxError::Died => true,
        SandboxError::Refused { code, .. } => code == "decoder-memory",
        _ => false,
    };
    assert!(stopped, "{error}");
}

#[tokio::test]
async fn a_child_that_takes_too_long_is_killed() {
    let limits = Limits {
        parser_wall_ms_max: 1,
        ..Limits::default()
    };
    let big = media::encode_png(4_000, 4_000, &vec![7; 4_000 * 4_000 * 3], &[]).unwrap();
    let error = sandbox(&limits).parse(&big).await.unwrap_err();
    assert!(
        matches!(error, SandboxError::TimedOut { wall_ms_max: 1 }),
        "{error}"
    );
}

#[tokio::test]
async fn a_program_that_does_not_answer_as_a_child_is_not_believed() {
    let silent = Sandbox::new(Some(Path::new("/bin/true")), &Limits::default());
    assert!(matches!(
        silent.parse(&picture(16)).await,
        Err(SandboxError::BadReply)
    ));
    let failing = Sandbox::new(Some(Path::new("/bin/false")), &Limits::default());
    assert!(matches!(
        failing.parse(&picture(16)).await,
        Err(SandboxError::Died)
    ));
    let missing = Sandbox::new(Some(Path::new("/nonexistent/retrace")), &Limits::default());
    assert!(matches!(
        missing.parse(&picture(16)).await,
        Err(SandboxError::NotStarted { .. })
    ));
}
