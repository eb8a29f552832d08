//! Inverts pictures with a generator and prints one JSON object of statistics per picture:
//!
//! ```text
//! cargo run --package onnx --example invert_pictures -- models/generator WIDTH HEIGHT STEPS FILE
//! ```
//!
//! FILE holds pictures of that size one after another as 8-bit RGB without any header. The rule in
//! `inversion.json` is fitted from these statistics, so that fitting and serving share one code.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;

use onnx::{Generator, InvertRequest, Picture, Runtime, RuntimeOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, width, height, steps, file] = arguments.as_slice() else {
        return Err("expected MODEL WIDTH HEIGHT STEPS FILE".into());
    };
    let (width, height): (u32, u32) = (width.parse()?, height.parse()?);
    let runtime = Runtime::load(&RuntimeOptions::cpu(onnx::locate_library()?))?;
    let mut generator = Generator::open(&runtime, &PathBuf::from(model))?;
    let bytes = std::fs::read(file)?;
    for rgb in bytes.chunks(width as usize * height as usize * 3) {
        let picture = Picture {
            width,
            height,
            rgb: rgb.to_vec(),
        };
        let request = InvertRequest {
            picture: &picture,
            steps: Some(steps.parse()?),
            preview_steps: 0,
        };
        let inversion = generator.invert(&request, &mut |_, _| ControlFlow::Continue(()))?;
        println!("{}", serde_json::to_string(&inversion.statistics)?);
    }
    Ok(())
}
