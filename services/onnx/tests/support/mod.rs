//! What the tests of this crate share: the runtime, the fixtures, scratch copies of them.
#![allow(dead_code, reason = "each test file uses its part")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use onnx::{GenerateRequest, Generator, Progress, Runtime, RuntimeOptions};
use tempfile::TempDir;

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/pipelines")
        .join(name)
}

pub fn runtime() -> Runtime {
    runtime_with(2)
}

pub fn runtime_with(threads: usize) -> Runtime {
    let library = onnx::locate_library().unwrap();
    Runtime::load(&RuntimeOptions {
        threads,
        ..RuntimeOptions::cpu(library)
    })
    .unwrap()
}

pub fn open(folder: &Path) -> Generator {
    Generator::open(&runtime(), folder).unwrap()
}

pub fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub fn on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Six DDIM steps with guidance, one image per seed.
pub fn request(seeds: &[u64]) -> GenerateRequest {
    GenerateRequest {
        prompt: Some("a green cat and the moon".to_owned()),
        seeds: seeds.to_vec(),
        steps: 6,
        scheduler: None,
        guidance_scale: 3.0,
        ..GenerateRequest::default()
    }
}

/// A copy of a fixture that a test may break.
pub fn scratch_copy(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture(name), folder.path());
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
