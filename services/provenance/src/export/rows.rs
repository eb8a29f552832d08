//! The rows of exports.

use crate::{Entry, Envelope, LeafIndex, ProvenanceError, RecordedVerdict};

/// The names of the columns of a CSV export.
pub const CSV_HEADER: &str = "leaf_index,leaf_hash,kind,created_at_ms,client,request_id,image_index,\
model_name,model_digest,image_sha256,pixel_sha256,width,height,scheduler,steps,seed,verdict,probability\r\n";

/// One entry as a line of JSON: its place, its leaf hash, what it states and the signed envelope. The
/// statement is the payload of the envelope, byte for byte.
pub fn ndjson_row(leaf_index: LeafIndex, envelope: &Envelope) -> Vec<u8> {
    let leaf = envelope.to_bytes();
    let leaf_hash = crate::merkle::leaf_hash(&leaf);
    let head =
        format!("{{\"leaf_index\":{leaf_index},\"leaf_hash\":\"{leaf_hash}\",\"statement\":");
    [
        head.as_bytes(),
        envelope.payload(),
        b",\"envelope\":",
        &leaf,
        b"}\n",
    ]
    .concat()
}

/// One entry as a line of comma-separated values, in the order of [`CSV_HEADER`].
///
/// # Errors
/// Refuses an envelope whose statement cannot be read.
pub fn csv_row(leaf_index: LeafIndex, envelope: &Envelope) -> Result<Vec<u8>, ProvenanceError> {
    let entry = envelope.unverified_entry()?;
    let mut cells = vec![
        leaf_index.to_string(),
        envelope.leaf_hash().to_string(),
        entry.kind().to_owned(),
        entry.created_at_ms().to_string(),
        text(entry.client()),
    ];
    match &entry {
        Entry::Generation(generation) => cells.extend([
            text(&generation.request_id),
            generation.image_index.to_string(),
            text(&generation.model.name),
            generation.model.digest.to_string(),
            generation.image.sha256.to_string(),
            generation.image.pixel_sha256.to_string(),
            generation.image.width.to_string(),
            generation.image.height.to_string(),
            text(&generation.scheduler),
            generation.steps.to_string(),
            generation.seed.to_string(),
            String::new(),
            String::new(),
        ]),
        Entry::KeySuccession(_) | Entry::CheckpointKeySuccession(_) | Entry::KeyRevocation(_) => {
            cells.push(text(entry.request_id()));
            cells.extend(std::iter::repeat_n(String::new(), 12));
        }
        Entry::Score(score) => {
            let probability = score.probability.as_ref();
            cells.extend([
                text(&score.request_id),
                String::new(),
                text(&score.detector.name),
                score.detector.digest.to_string(),
            ]);
            cells.extend(std::iter::repeat_n(String::new(), 7));
            cells.extend([
                verdict(score.verdict).to_owned(),
                probability.map(ToString::to_string).unwrap_or_default(),
            ]);
        }
    }
    Ok((cells.join(",") + "\r\n").into_bytes())
}

/// The verdict as the canonical bytes spell it.
fn verdict(verdict: RecordedVerdict) -> &'static str {
    match verdict {
        RecordedVerdict::LikelyGenerated => "likely_generated",
        RecordedVerdict::LikelyNotGenerated => "likely_not_generated",
        RecordedVerdict::Inconclusive => "inconclusive",
    }
}

/// A cell of text that somebody chose: quoted where needed, and never a formula.
fn text(value: &str) -> String {
    let formula = value.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let value = match formula {
        true => format!("'{value}"),
        false => value.to_owned(),
    };
    match value.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", value.replace('"', "\"\"")),
        false => value,
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_cell_is_quoted_where_needed_and_is_never_a_formula() {
        for (value, cell) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=1+1", "'=1+1"),
            ("@a,b", "\"'@a,b\""),
            ("-5", "'-5"),
        ] {
            assert_eq!(text(value), cell);
        }
    }
}
