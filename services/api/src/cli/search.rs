//! Which entries a command is about.

use api::work::Conditions;
use clap::Args;
use jiff::Timestamp;

/// Conditions that all must hold.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which entries")]
pub struct SearchArgs {
    /// Of this kind: generation, score, key_succession, checkpoint_key_succession or key_revocation
    #[arg(long)]
    kind: Option<String>,
    /// Of this client
    #[arg(long)]
    client: Option<String>,
    /// Of this request
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Of this generator or detector
    #[arg(long)]
    model: Option<String>,
    /// Of the generator or detector with this digest
    #[arg(long, value_name = "HEX")]
    model_digest: Option<String>,
    /// Signed by this key, as `name+id`
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Of the image file with this digest
    #[arg(long, value_name = "HEX")]
    image_sha256: Option<String>,
    /// Of the image with this digest of its pixels
    #[arg(long, value_name = "HEX")]
    pixel_sha256: Option<String>,
    /// With this commitment to a prompt
    #[arg(long, value_name = "HEX")]
    prompt_commitment: Option<String>,
    /// With this verdict: likely_generated, likely_not_generated or inconclusive
    #[arg(long)]
    verdict: Option<String>,
    /// Of images that look like this PDQ hash
    #[arg(long, value_name = "HEX", conflicts_with = "near_entry")]
    perceptual_hash: Option<String>,
    /// Of images that look like the image of this entry
    #[arg(long, value_name = "N")]
    near_entry: Option<u64>,
    /// Bits of the perceptual hash that may differ, 0 to 31 [default: 31]
    #[arg(long, value_name = "BITS")]
    distance: Option<u32>,
    /// That state this time or a later one, as 2026-11-23T03:12:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<u64>,
    /// That state an earlier time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<u64>,
}

impl SearchArgs {
    /// The conditions as all other parts of the service have them.
    pub fn conditions(&self) -> Conditions {
        Conditions {
            created_from_ms: self.from,
            created_until_ms: self.until,
            kind: self.kind.clone(),
            client: self.client.clone(),
            request_id: self.request_id.clone(),
            model: self.model.clone(),
            model_digest: self.model_digest.clone(),
            key: self.key.clone(),
            image_sha256: self.image_sha256.clone(),
            pixel_sha256: self.pixel_sha256.clone(),
            prompt_commitment: self.prompt_commitment.clone(),
            verdict: self.verdict.clone(),
            perceptual_hash: self.perceptual_hash.clone(),
            near_entry: self.near_entry,
            distance: self.distance,
        }
    }
}

/// A time in milliseconds since 1970 UTC.
fn time(text: &str) -> Result<u64, String> {
    let stamp: Timestamp = text
        .parse()
        .map_err(|_| "a time is written like 2026-11-23T03:12:00Z")?;
    let ms = u64::try_from(stamp.as_millisecond());
    ms.map_err(|_| "the log knows no times before 1970".to_owned())
}
