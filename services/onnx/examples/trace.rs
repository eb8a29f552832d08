//! Writes the traces of pictures as JSON lines, by the same function as `retrace trace`.
//!
//! ```text
//! trace LIBRARY PRIOR CONFIG LIST OUTPUT
//! ```
//! `LIBRARY` is the ONNX Runtime library, `PRIOR` the photo prior's model file, `CONFIG` a JSON
//! file with a trace configuration (or `-` for the default), `LIST` a text file with one picture a
//! line, `OUTPUT` the file to append to. Pictures that `OUTPUT` already holds are passed over, so
//! that a stopped run goes on where it was.

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use detector::{PictureView, TraceConfig, TraceLine};
use onnx::prior::PhotoPrior;
use onnx::{Runtime, RuntimeOptions};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, prior, config, list, output] = arguments.as_slice() else {
        return Err("usage: trace LIBRARY PRIOR CONFIG LIST OUTPUT".into());
    };
    let config = match config.as_str() {
        "-" => TraceConfig::default(),
        path => serde_json::from_str(&std::fs::read_to_string(path)?)?,
    };
    // One thread: two runs over halves of a list use two cores better than one run with two threads.
    let options = RuntimeOptions {
        threads: 1,
        ..RuntimeOptions::cpu(library.into())
    };
    let runtime = Runtime::load(&options)?;
    let mut prior = PhotoPrior::open(&runtime, &PathBuf::from(prior))?;
    let done = done_before(output)?;
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(output)?;
    let mut out = BufWriter::new(file);
    let started = Instant::now();
    let listed = std::fs::read_to_string(list)?;
    let open = listed.lines().filter(|path| !done.contains(*path));
    for (index, path) in open.enumerate() {
        let decoded = media::decode(&std::fs::read(path)?, &media::Limits::default())?;
        let picture = PictureView::new(decoded.width, decoded.height, &decoded.rgb)?;
        let trace = detector::extract(&picture, &config, &mut prior)?;
        writeln!(out, "{}", TraceLine::new(path, &trace, false).to_json()?)?;
        if index % 50 == 49 {
            out.flush()?;
            let seconds = started.elapsed().as_secs_f64();
            eprintln!(
                "{} pictures, {:.2} s each",
                index + 1,
                seconds / (index + 1) as f64
            );
        }
    }
    out.flush()?;
    Ok(())
}

fn done_before(output: &str) -> Result<HashSet<String>, Failure> {
    let Ok(text) = std::fs::read_to_string(output) else {
        return Ok(HashSet::new());
    };
    let paths: Result<HashSet<String>, _> = text
        .lines()
        .map(|line| TraceLine::parse(line).map(|line| line.path))
        .collect();
    Ok(paths?)
}
