//! Scores pictures with a detector folder and says where the time goes.
//!
//! ```text
//! score LIBRARY DETECTOR FILE...
//! ```
//! `LIBRARY` is the ONNX Runtime library, `DETECTOR` the detector's folder. Prints one JSON object
//! for each file, with milliseconds for decoding, trace and assessment.

use std::path::Path;
use std::time::Instant;

use detector::PictureView;
use onnx::{Detector, Runtime, RuntimeOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, folder, files @ ..] = arguments.as_slice() else {
        return Err("usage: score LIBRARY DETECTOR FILE...".into());
    };
    let runtime = Runtime::load(&RuntimeOptions::cpu(library.into()))?;
    let mut detector = Detector::open(&runtime, Path::new(folder))?;
    for file in files {
        let bytes = std::fs::read(file)?;
        let started = Instant::now();
        let decoded = media::decode(&bytes, &media::Limits::default())?;
        let decode_ms = started.elapsed().as_millis();
        let picture = PictureView::new(decoded.width, decoded.height, &decoded.rgb)?;
        let started = Instant::now();
        let trace = detector.trace(&picture)?;
        let trace_ms = started.elapsed().as_millis();
        let started = Instant::now();
        let answer = detector.assess_trace(&trace)?;
        let assess_ms = started.elapsed().as_millis();
        let line = serde_json::json!({
            "path": file, "verdict": answer.verdict, "reason": answer.reason,
            "probability": answer.probability, "raw_score": answer.raw_score,
            "patches": trace.patches.len(), "decode_ms": decode_ms as u64,
            "trace_ms": trace_ms as u64, "assess_ms": assess_ms as u64,
        });
        println!("{line}");
    }
    Ok(())
}
