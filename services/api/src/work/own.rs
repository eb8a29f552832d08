//! What this ledger knows of an upload: the entries with its bytes, its pixels, a picture like it, or the
//! watermark in its noise.

use std::collections::HashSet;

use detector::{Evidence, WatermarkStanding};
use media::{MATCH_DISTANCE_MAX, MATCH_QUALITY_MIN, PerceptualHash};
use provenance::{Entry, GenerationDetails, GenerationEntry, KeyHistory, LeafIndex};

use super::WorkError;
use super::score::Examination;
use crate::state::AppState;

/// Entries of this ledger with the upload's bytes, else with its pixels, else with an image like it. What a
/// revoked key has signed from its revocation on is no evidence.
pub(super) async fn own_entries(
    state: &AppState,
    examination: &Examination,
) -> Result<Vec<Evidence>, WorkError> {
    let own = |exact_file| {
        move |recorded: &ledger::RecordedEntry| Evidence::OwnEntry {
            leaf_index: recorded.leaf_index.get(),
            exact_file,
        }
    };
    let keys = state.ledger.key_history().await?;
    let mut exact = state.ledger.find_image(&examination.sha256).await?;
    exact.retain(|recorded| !keys.has_taken_back(recorded.leaf_index));
    if !exact.is_empty() {
        return Ok(exact.iter().map(own(true)).collect());
    }
    let mut pixels = state.ledger.find_pixels(&examination.pixel_sha256).await?;
    pixels.retain(|recorded| !keys.has_taken_back(recorded.leaf_index));
    if !pixels.is_empty() {
        return Ok(pixels.iter().map(own(false)).collect());
    }
    like_entries(state, examination, &keys).await
}

/// What the ledger says about the mark in the upload's noise. The mark alone is no proof of origin: it
/// takes the entry that states its id, and an image there that looks like the upload.
pub(super) async fn noise_watermark(
    state: &AppState,
    examination: &Examination,
) -> Result<Option<Evidence>, WorkError> {
    let Some(reading) = &examination.noise_watermark else {
        return Ok(None);
    };
    let ids: Vec<u64> = reading.ids.iter().map(|id| id.to_u64()).collect();
    let keys = state.ledger.key_history().await?;
    let mut entries = state.ledger.find_watermarks(&ids).await?;
    entries.retain(|recorded| !keys.has_taken_back(recorded.leaf_index));
    let generations: Vec<(u64, &GenerationEntry)> = entries
        .iter()
        .filter_map(|recorded| match &recorded.entry {
            Entry::Generation(entry) => Some((recorded.leaf_index.get(), entry)),
            _ => None,
        })
        .collect();
    let looks = looks(
        examination,
        generations.first().map(|(_, entry)| entry.image.width),
    )
    .await?;
    let standings = generations.iter().filter_map(|(leaf_index, entry)| {
        let stated = entry.details.as_ref()?;
        Some((
            stated.watermark_id()?,
            standing(*leaf_index, stated, &looks),
        ))
    });
    let best = standings.min_by_key(|(_, standing)| match *standing {
        WatermarkStanding::SameImage { distance, .. } => (0, distance),
        WatermarkStanding::NotCompared { .. } => (1, 0),
        WatermarkStanding::OtherImage { distance, .. } => (2, distance),
        WatermarkStanding::NoEntry => (3, 0),
    });
    let named = |id: u64| reading.ids.iter().find(|read| read.to_u64() == id);
    let (id, standing) = match best {
        Some((id, standing)) => (named(id), standing),
        None => (reading.ids.first(), WatermarkStanding::NoEntry),
    };
    Ok(id.map(|id| Evidence::NoiseWatermark {
        id: id.to_string(),
        score: reading.score,
        false_positive_rate: reading.false_positive_rate,
        standing,
    }))
}

/// The perceptual hashes by which an upload is compared with the image whose mark it carries, with their
/// qualities: its own, and that of the upload at the recorded width. Enlarging a small picture changes its
/// hash more than it changes the picture. A mark is read upright, so turns do not come into question.
async fn looks(
    examination: &Examination,
    recorded_width: Option<u32>,
) -> Result<Vec<(PerceptualHash, u8)>, WorkError> {
    let (hashes, quality) = &examination.perceptual;
    let mut looks = vec![(hashes[0], *quality)];
    let (width, height) = (examination.decoded.width, examination.decoded.height);
    if let Some(recorded_width) = recorded_width.filter(|recorded| *recorded < width) {
        let picture = super::to_picture(width, height, &examination.decoded.rgb);
        let picture = picture.map_err(WorkError::Encode)?;
        let side = u64::from(recorded_width) * u64::from(width.max(height)) / u64::from(width);
        let side = u32::try_from(side).unwrap_or(u32::MAX);
        let fitted = tokio::task::spawn_blocking(move || {
            let small = picture.fit(side);
            media::perceptual_hash(small.width(), small.height(), small.rgb())
        });
        let fitted = fitted.await.map_err(|_| WorkError::Interrupted)?;
        looks.push((fitted.hash, fitted.quality));
    }
    Ok(looks)
}

/// How the upload compares with the image of an entry that states its mark.
fn standing(
    leaf_index: u64,
    stated: &GenerationDetails,
    looks: &[(PerceptualHash, u8)],
) -> WatermarkStanding {
    let recorded = stated
        .perceptual_hash
        .filter(|recorded| recorded.quality >= MATCH_QUALITY_MIN);
    let compared = recorded.and_then(|recorded| {
        let recorded = PerceptualHash::from_bytes(*recorded.hash.as_bytes());
        let telling = looks
            .iter()
            .filter(|(_, quality)| *quality >= MATCH_QUALITY_MIN);
        telling.map(|(hash, _)| hash.distance(&recorded)).min()
    });
    match compared {
        None => WatermarkStanding::NotCompared { leaf_index },
        Some(distance) if distance <= MATCH_DISTANCE_MAX => WatermarkStanding::SameImage {
            leaf_index,
            distance,
        },
        Some(distance) => WatermarkStanding::OtherImage {
            leaf_index,
            distance,
        },
    }
}

/// How a picture is turned or mirrored against one whose hash is at this place of the eight.
const TURNS: [Option<&str>; 8] = [
    None,
    Some("turned by a quarter"),
    Some("turned upside down"),
    Some("turned by a quarter"),
    Some("mirrored upside down"),
    Some("mirrored"),
    Some("turned and mirrored"),
    Some("turned and mirrored"),
];
/// Entries that are named for one upload, the nearest ones.
const NEAR_NAMED_MAX: usize = 5;

/// Entries whose image looks like the upload. Hashes of pictures with little structure are shared by so
/// many others that they say nothing, on either side.
async fn like_entries(
    state: &AppState,
    examination: &Examination,
    keys: &KeyHistory,
) -> Result<Vec<Evidence>, WorkError> {
    let (hashes, quality) = &examination.perceptual;
    if *quality < MATCH_QUALITY_MIN {
        return Ok(Vec::new());
    }
    let hashes = hashes.map(|hash| *hash.as_bytes());
    let found = state.ledger.find_near(&hashes, MATCH_DISTANCE_MAX).await?;
    let found = found.into_iter().zip(TURNS);
    let found = found.flat_map(|(near, turned)| near.into_iter().map(move |near| (near, turned)));
    let mut found: Vec<_> = found
        .filter(|(near, _)| near.quality >= MATCH_QUALITY_MIN)
        .filter(|(near, _)| !keys.has_taken_back(LeafIndex::new(near.leaf_index)))
        .collect();
    // A symmetric picture is found in several turns: the first one of the list stands for all.
    found.sort_by_key(|(near, turned)| (near.distance, near.leaf_index, turned.is_some()));
    let mut named = HashSet::new();
    found.retain(|(near, _)| named.insert(near.leaf_index));
    let evidence = found.into_iter().take(NEAR_NAMED_MAX);
    Ok(evidence
        .map(|(near, turned)| Evidence::NearMatch {
            leaf_index: near.leaf_index,
            distance: near.distance,
            turned: turned.map(str::to_owned),
        })
        .collect())
}
