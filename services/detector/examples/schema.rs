//! Prints the feature schema (`features.json` of a detector folder) of a trace configuration.
//!
//! ```text
//! schema [CONFIG]
//! ```
//! `CONFIG` is a JSON file with a trace configuration; without it the default is taken.

use detector::TraceConfig;
use detector::features::FeatureSchema;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config: TraceConfig = match std::env::args().nth(1) {
        Some(path) => serde_json::from_str(&std::fs::read_to_string(path)?)?,
        None => TraceConfig::default(),
    };
    config.check()?;
    println!(
        "{}",
        serde_json::to_string_pretty(&FeatureSchema::of(&config))?
    );
    Ok(())
}
