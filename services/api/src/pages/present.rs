//! Entries and numbers in words.

use jiff::Timestamp;
use jiff::fmt::strtime;
use provenance::{
    CheckpointKey, Digest, Entry, EntryKey, GenerationEntry, LeafIndex, RecordedVerdict,
    ScoreEntry, SignedCheckpoint,
};

use super::view::{CheckpointView, Command, EntryRow, Fact, Part, SigningKey, TakenBack, Time};

/// Hexadecimal digits that are shown where the whole digest is one click away.
const DIGEST_SHORT: usize = 12;

/// Milliseconds since 1970 as UTC.
pub(super) fn time(ms: u64) -> Time {
    let stamp = i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let Some(stamp) = stamp else {
        return Time {
            iso: String::new(),
            text: format!("{ms} ms after 1970"),
        };
    };
    let text = strtime::format("%-d %b %Y %H:%M:%S", stamp).unwrap_or_else(|_| stamp.to_string());
    Time {
        iso: stamp.to_string(),
        text,
    }
}

/// The kind in the words of the pages.
pub(super) fn kind(entry: &Entry) -> &'static str {
    match entry {
        Entry::Generation(_) => "Image",
        Entry::Score(_) => "Score",
        Entry::KeySuccession(_) => "New key",
        Entry::CheckpointKeySuccession(_) => "New checkpoint key",
        Entry::KeyRevocation(_) => "Revoked key",
    }
}

/// A verdict as a phrase.
pub(super) fn verdict(verdict: RecordedVerdict) -> &'static str {
    match verdict {
        RecordedVerdict::LikelyGenerated => "Likely generated",
        RecordedVerdict::LikelyNotGenerated => "Likely not generated",
        RecordedVerdict::Inconclusive => "Inconclusive",
    }
}

/// What the entry is about, in a few words.
pub(super) fn subject(entry: &Entry) -> String {
    match entry {
        Entry::Generation(entry) => entry.model.name.clone(),
        Entry::Score(entry) => verdict(entry.verdict).to_owned(),
        Entry::KeySuccession(entry) => format!("after {}", entry.old_key),
        Entry::CheckpointKeySuccession(entry) => format!("after {}", entry.old_key),
        Entry::KeyRevocation(entry) => entry.key.clone(),
    }
}

/// The settings of a generation.
pub(super) fn settings(entry: &GenerationEntry) -> String {
    let steps = if entry.steps == 1 { "step" } else { "steps" };
    format!(
        "{}, {} {steps}, guidance scale {}",
        entry.scheduler,
        entry.steps,
        entry.guidance_scale.as_str()
    )
}

/// One line for a card.
pub(super) fn line(entry: &Entry) -> String {
    match entry {
        Entry::Generation(entry) => {
            format!("{}, {} steps", entry.model.name, entry.steps)
        }
        Entry::Score(entry) => verdict(entry.verdict).to_owned(),
        Entry::KeySuccession(entry) => format!("after {}", entry.old_key),
        Entry::CheckpointKeySuccession(entry) => format!("after {}", entry.old_key),
        Entry::KeyRevocation(entry) => entry.key.clone(),
    }
}

/// One sentence for the entry's own page.
pub(super) fn summary(entry: &Entry) -> String {
    let time = time(entry.created_at_ms()).text;
    match entry {
        Entry::Generation(entry) => format!(
            "An image of {} × {} pixels, made with the model {} for the client {} on {time} UTC.",
            entry.image.width, entry.image.height, entry.model.name, entry.client
        ),
        Entry::Score(entry) => format!(
            "A score given by the detector {} {} to the client {} on {time} UTC: {}.",
            entry.detector.name,
            entry.detector.version,
            entry.client,
            verdict(entry.verdict).to_lowercase()
        ),
        Entry::KeySuccession(entry) => format!(
            "From the next entry on another key signs, instead of {}: the operator changed it on {time} UTC.",
            entry.old_key
        ),
        Entry::CheckpointKeySuccession(entry) => format!(
            "From here on another key signs checkpoints, and {} beside it for a time: the operator changed it on \
             {time} UTC.",
            entry.old_key
        ),
        Entry::KeyRevocation(entry) => format!(
            "What the key {} signed from entry {} on is not to be believed: the operator revoked it on {time} UTC.",
            entry.key, entry.since
        ),
    }
}

/// The entry's fields.
pub(super) fn facts(entry: &Entry) -> Vec<Fact> {
    match entry {
        Entry::Generation(entry) => generation_facts(entry),
        Entry::Score(entry) => score_facts(entry),
        Entry::KeySuccession(entry) => vec![
            Fact::plain("Recorded (UTC)", time(entry.created_at_ms).text),
            Fact::mono("Key until here", &entry.old_key),
            Fact::mono("Key from the next entry on", &entry.new_key),
            Fact::mono("Proof that it is held", &entry.possession),
        ],
        Entry::CheckpointKeySuccession(entry) => vec![
            Fact::plain("Recorded (UTC)", time(entry.created_at_ms).text),
            Fact::mono("Checkpoint key until here", &entry.old_key),
            Fact::mono("Checkpoint key from here on", &entry.new_key),
            Fact::plain(
                "The old one signs as well until (UTC)",
                time(entry.old_key_signs_until_ms).text,
            ),
            Fact::mono("Signature of the old key", &entry.authority),
            Fact::mono("Signature of the new key", &entry.possession),
        ],
        Entry::KeyRevocation(entry) => vec![
            Fact::plain("Recorded (UTC)", time(entry.created_at_ms).text),
            Fact::mono("Key", &entry.key),
            Fact::plain("Not to be believed from entry", entry.since.to_string()),
            Fact::plain("Reason", &entry.reason),
        ],
    }
}

fn generation_facts(entry: &GenerationEntry) -> Vec<Fact> {
    let mut facts = vec![
        Fact::plain("Recorded (UTC)", time(entry.created_at_ms).text),
        Fact::plain("Client", &entry.client),
        Fact::plain("Model", &entry.model.name),
        Fact::mono("Model digest", entry.model.digest.to_string()),
        Fact::plain("Settings", settings(entry)),
        Fact::mono("Seed", entry.seed.to_string()),
        Fact::mono("File digest", entry.image.sha256.to_string()),
        Fact::mono("Pixel digest", entry.image.pixel_sha256.to_string()),
        Fact::mono("Prompt commitment", entry.prompt_commitment.to_string()),
        Fact::mono(
            "Request",
            format!("{}, image {}", entry.request_id, entry.image_index),
        ),
    ];
    if let Some(details) = &entry.details {
        facts.push(Fact::plain("Task", details.task.as_str()));
        facts.push(Fact::plain("Noise from", details.noise_source.as_str()));
        if let Some(digest) = details.initial_latents_sha256 {
            facts.push(Fact::mono("Initial latents", digest.to_string()));
        }
        if let Some(strength) = &details.strength {
            facts.push(Fact::plain("Strength", strength.as_str()));
        }
        let sources = details.sources.iter();
        facts.extend(sources.map(|source| Fact::mono("Source commitment", source.to_string())));
        if !details.settings.is_empty() {
            let further = details.settings.iter();
            let further = further.map(|(name, value)| format!("{name} {value}"));
            let further = further.collect::<Vec<_>>().join("; ");
            facts.push(Fact::mono("Further settings", further));
        }
        facts.push(Fact::plain("Watermark", &details.watermark));
        if let Some(stated) = details.perceptual_hash {
            let text = format!("{}, quality {}", stated.hash, stated.quality);
            facts.push(Fact::mono("Perceptual hash (PDQ)", text));
        }
    }
    facts
}

fn score_facts(entry: &ScoreEntry) -> Vec<Fact> {
    let probability = entry
        .probability
        .as_ref()
        .map_or("none", |value| value.as_str());
    vec![
        Fact::plain("Recorded (UTC)", time(entry.created_at_ms).text),
        Fact::plain("Client", &entry.client),
        Fact::plain("Verdict", verdict(entry.verdict)),
        Fact::mono("Probability", probability),
        Fact::plain(
            "Detector",
            format!("{} {}", entry.detector.name, entry.detector.version),
        ),
        Fact::mono("Detector digest", entry.detector.digest.to_string()),
        Fact::plain("Calibration", &entry.calibration_version),
        Fact::plain("Thresholds", &entry.thresholds_version),
        Fact::mono("Upload commitment", entry.upload_commitment.to_string()),
        Fact::mono("Request", &entry.request_id),
    ]
}

/// The digests of a generation's model files.
pub(super) fn model_files(entry: &Entry) -> Vec<Part> {
    let Entry::Generation(entry) = entry else {
        return Vec::new();
    };
    let parts = entry.model.parts.iter();
    parts
        .map(|(name, digest)| Part {
            name: name.clone(),
            value: digest.to_string(),
        })
        .collect()
}

/// One row of the ledger's table.
pub(super) fn row(index: u64, entry: &Entry, is_taken_back: bool) -> EntryRow {
    let digest = match entry {
        Entry::Generation(entry) => Some(entry.image.sha256),
        Entry::Score(entry) => Some(entry.upload_commitment),
        Entry::KeySuccession(_) | Entry::CheckpointKeySuccession(_) | Entry::KeyRevocation(_) => {
            None
        }
    };
    EntryRow {
        index,
        time: time(entry.created_at_ms()),
        kind: kind(entry),
        kind_class: entry.kind(),
        subject: subject(entry),
        client: entry.client().to_owned(),
        digest: digest.map(|digest| digest.to_string()).unwrap_or_default(),
        digest_short: digest.as_ref().map(short).unwrap_or_default(),
        is_taken_back,
    }
}

/// The first digits of a digest.
pub(super) fn short(digest: &Digest) -> String {
    let mut text = digest.to_string();
    text.truncate(DIGEST_SHORT);
    text.push('…');
    text
}

/// A key with the entries that it signs.
pub(super) fn signing_key(key: &EntryKey) -> SigningKey {
    let from = key.from;
    SigningKey {
        name: key.verifier.key_id(),
        validity: match key.until {
            Some(until) => format!("signed entries {from} to {until}"),
            None => format!("signs from entry {from} on"),
        },
        revoked: key.revocation.as_ref().map(|revocation| {
            let (since, reason) = (revocation.since, &revocation.reason);
            match key.taken_back() {
                Some((first, last)) => {
                    format!("revoked: entries {first} to {last} are not to be believed ({reason})")
                }
                None => {
                    format!("revoked from entry {since} on ({reason}); what it signed stays valid")
                }
            }
        }),
    }
}

/// A key with the checkpoints that it signs.
pub(super) fn checkpoint_key(key: &CheckpointKey) -> SigningKey {
    let from = key.from;
    let along = |until_ms| format!("; beside the next one until {}", time(until_ms).text);
    SigningKey {
        name: key.verifier.key_id(),
        validity: match key.until {
            Some(until) => {
                let along = key.signs_along_until_ms.map(along).unwrap_or_default();
                format!("signed checkpoints of {from} to {until} entries{along}")
            }
            None => format!("signs checkpoints from {from} entries on"),
        },
        revoked: key.revocation.as_ref().map(|revocation| {
            let (since, reason) = (revocation.since, &revocation.reason);
            format!("revoked: checkpoints over entry {since} that it alone signed are not to be believed ({reason})")
        }),
    }
}

/// What takes back the entry at this place, which the key has signed; none where nothing does.
pub(super) fn taken_back(key: &EntryKey, place: LeafIndex) -> Option<TakenBack> {
    let revocation = key.revocation.as_ref()?;
    let (first, last) = key.taken_back()?;
    (first..=last).contains(&place).then(|| TakenBack {
        by: revocation.recorded_at.get(),
        key: key.verifier.key_id(),
        since: first.get(),
        last: last.get(),
        reason: revocation.reason.clone(),
    })
}

/// The checkpoint that a page speaks for.
pub(super) fn checkpoint(signed: &SignedCheckpoint) -> CheckpointView {
    let checkpoint = signed.unverified();
    CheckpointView {
        tree_size: checkpoint.tree_size.get(),
        root_hash: checkpoint.root_hash.to_string(),
        origin: checkpoint.origin.to_string(),
        note: signed.text(),
    }
}

/// A number of entries in words.
pub(super) fn entries(count: u64) -> String {
    let word = if count == 1 { "entry" } else { "entries" };
    format!("{count} {word}")
}

/// JSON bytes, indented for reading; as they are where they are no JSON.
pub(super) fn json(bytes: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let pretty = value.and_then(|value| serde_json::to_string_pretty(&value).ok());
    pretty.unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned())
}

/// The name under which an entry's bundle is downloaded.
pub(super) fn bundle_name(index: u64) -> String {
    format!("retrace-{index}.bundle")
}

/// The name under which an entry's image is downloaded.
pub(super) fn image_name(index: u64) -> String {
    format!("retrace-{index}.png")
}

/// Where an entry's image is served.
pub(super) fn image_address(index: u64) -> String {
    format!("/v1/entries/{index}/image")
}

/// Where an entry's bundle is served.
pub(super) fn bundle_address(index: u64) -> String {
    format!("/v1/entries/{index}/bundle")
}

/// The command that checks an entry offline.
pub(super) fn verify_command(index: u64, with_image: bool) -> String {
    let image = if with_image {
        format!(" --image {}", image_name(index))
    } else {
        String::new()
    };
    format!(
        "retrace-verify bundle {}{image} --public-key retrace.pub",
        bundle_name(index)
    )
}

/// The commands of an entry's page.
pub(super) fn commands(index: u64, entry: &Entry) -> Vec<Command> {
    let with_image = matches!(entry, Entry::Generation(_));
    let mut commands = vec![Command {
        purpose: if with_image {
            "This entry and its image, offline, with the public keys alone"
        } else {
            "This entry, offline, with the public keys alone"
        },
        text: verify_command(index, with_image),
    }];
    commands.push(Command {
        purpose: "The whole ledger, from its entries, on the machine that serves it",
        text: "retrace ledger check".to_owned(),
    });
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        let time = time(1_795_403_520_000);
        assert_eq!(time.iso, "2026-11-23T03:12:00Z");
        assert_eq!(time.text, "23 Nov 2026 03:12:00");
    }

    #[test]
    fn a_time_beyond_the_calendar_is_shown_as_a_number() {
        assert_eq!(time(u64::MAX).text, format!("{} ms after 1970", u64::MAX));
    }

    #[test]
    fn the_command_names_the_files_that_the_page_offers() {
        let command = verify_command(7, true);
        assert!(command.contains(&bundle_name(7)) && command.contains(&image_name(7)));
    }
}
