//! For each picture of the command line, one line of JSON: the most agreeing bits of each known open
//! watermark, and which of them would be reported. `models/evaluation/marks` measures with it.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    for path in std::env::args().skip(1) {
        let file = std::fs::read(&path)?;
        let picture = media::decode(&file, &media::Limits::default())?;
        let (width, height) = (picture.width, picture.height);
        let agreements: serde_json::Map<String, serde_json::Value> =
            media::watermark_agreements(width, height, &picture.rgb)
                .into_iter()
                .map(|(name, agreeing, bits)| (name.to_owned(), [agreeing, bits].to_vec().into()))
                .collect();
        let found: Vec<String> = media::invisible_watermark(width, height, &picture.rgb)
            .into_iter()
            .map(|mark| mark.generator)
            .collect();
        let line = serde_json::json!({
            "path": path, "width": width, "height": height, "agreements": agreements, "found": found,
        });
        println!("{line}");
    }
    Ok(())
}
