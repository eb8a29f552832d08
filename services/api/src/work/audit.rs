//! What auditors read.

use std::sync::Arc;

use diffusion::WatermarkId;
use ledger::{EntryFilter, LedgerError, Order, Page, RecordedEntry};
use provenance::{Bundle, Digest, Entry, LeafIndex, Neighbour, SignedCheckpoint, TreeSize};

use super::{GenerateAnswer, RecordedPicture, WorkError};
use crate::state::AppState;

/// Most images that one request can have recorded.
const IMAGES_OF_REQUEST_MAX: u32 = ledger::PAGE_ENTRIES_MAX;

/// An inclusion proof with the checkpoint that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryProof {
    /// The entry's place in the log.
    pub leaf_index: LeafIndex,
    /// The hash of its leaf.
    pub leaf_hash: Digest,
    /// The hashes from the leaf's sibling up.
    pub hashes: Vec<Digest>,
    /// The checkpoint whose root they lead to.
    pub checkpoint: SignedCheckpoint,
}

/// The newest checkpoint.
///
/// # Errors
/// When the log has none yet, or the database fails.
pub async fn latest_checkpoint(state: &Arc<AppState>) -> Result<SignedCheckpoint, WorkError> {
    let ledger = state.ledger.clone();
    state
        .run(async move {
            Ok(ledger
                .latest_checkpoint()
                .await?
                .ok_or(LedgerError::NoCheckpoint)?)
        })
        .await
}

/// The newest checkpoint that enough witnesses have cosigned; where no quorum is demanded, the newest.
///
/// # Errors
/// When there is none yet, or the database fails.
pub async fn witnessed_checkpoint(state: &Arc<AppState>) -> Result<SignedCheckpoint, WorkError> {
    let ledger = state.ledger.clone();
    state
        .run(async move {
            Ok(ledger
                .witnessed_checkpoint()
                .await?
                .ok_or(LedgerError::NoCheckpoint)?)
        })
        .await
}

/// One entry.
///
/// # Errors
/// When no published checkpoint covers it.
pub async fn entry(state: &Arc<AppState>, index: LeafIndex) -> Result<RecordedEntry, WorkError> {
    let ledger = state.ledger.clone();
    state
        .run(async move { Ok(ledger.entry(index).await?) })
        .await
}

/// The entries whose image has a perceptual hash within a distance of this one, the nearest first.
///
/// # Errors
/// Refuses distances beyond what is searched exactly; and when the database fails.
pub async fn near_entries(
    state: &Arc<AppState>,
    hash: [u8; 32],
    distance_max: u32,
) -> Result<Vec<Neighbour>, WorkError> {
    let ledger = state.ledger.clone();
    let find = async move { Ok(ledger.find_near(&[hash], distance_max).await?) };
    let found = state.run(find).await?;
    Ok(found.into_iter().flatten().collect())
}

/// The leaf indexes of the entries that state this watermark, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn marked_entries(
    state: &Arc<AppState>,
    id: WatermarkId,
) -> Result<Vec<LeafIndex>, WorkError> {
    let ledger = state.ledger.clone();
    let find = async move { Ok(ledger.find_watermarks(&[id.to_u64()]).await?) };
    let found = state.run(find).await?;
    Ok(found.iter().map(|recorded| recorded.leaf_index).collect())
}

/// The bundle of an entry, under the newest checkpoint or the one of this size.
///
/// # Errors
/// When no such checkpoint covers it.
pub async fn entry_bundle(
    state: &Arc<AppState>,
    index: LeafIndex,
    tree_size: Option<TreeSize>,
) -> Result<Bundle, WorkError> {
    let ledger = state.ledger.clone();
    state
        .run(async move { Ok(ledger.bundle(index, tree_size).await?) })
        .await
}

/// The inclusion proof of an entry, under the newest checkpoint or the one of this size.
///
/// # Errors
/// When no such checkpoint covers it.
pub async fn entry_proof(
    state: &Arc<AppState>,
    index: LeafIndex,
    tree_size: Option<TreeSize>,
) -> Result<EntryProof, WorkError> {
    let bundle = entry_bundle(state, index, tree_size).await?;
    Ok(EntryProof {
        leaf_index: index,
        leaf_hash: bundle.envelope().leaf_hash(),
        hashes: bundle.inclusion_proof().to_vec(),
        checkpoint: bundle.checkpoint().clone(),
    })
}

/// The image of a generation entry, checked against the digest in the entry.
///
/// # Errors
/// When the entry is no generation, or the image is gone or changed.
pub async fn entry_image(
    state: &Arc<AppState>,
    index: LeafIndex,
) -> Result<(RecordedEntry, Vec<u8>), WorkError> {
    let recorded = entry(state, index).await?;
    let Entry::Generation(generation) = &recorded.entry else {
        let reason = "it records no generation";
        return Err(WorkError::NoImage {
            leaf_index: index.get(),
            reason,
        });
    };
    let digest = generation.image.sha256;
    let image = stored_image(state, index, digest).await?;
    Ok((recorded, image))
}

/// The manifests in the file of a generation entry, which is checked against the digest in the entry.
///
/// # Errors
/// As [`entry_image`]; and when the file has none.
pub async fn entry_manifests(
    state: &Arc<AppState>,
    index: LeafIndex,
) -> Result<Vec<u8>, WorkError> {
    let (_, image) = entry_image(state, index).await?;
    let none = WorkError::NoImage {
        leaf_index: index.get(),
        reason: "its file has no manifest",
    };
    let read = tokio::task::spawn_blocking(move || {
        let format = media::sniff(&image).ok()?;
        credentials::manifest_store(&image, format)
    });
    read.await.map_err(|_| WorkError::Interrupted)?.ok_or(none)
}

/// The bundle of a generation entry.
///
/// # Errors
/// When the entry is no generation, or no checkpoint covers it.
pub async fn manifest_bundle(state: &Arc<AppState>, index: LeafIndex) -> Result<Bundle, WorkError> {
    match entry(state, index).await?.entry {
        Entry::Generation(_) => entry_bundle(state, index, None).await,
        _ => Err(WorkError::NoImage {
            leaf_index: index.get(),
            reason: "it records no generation",
        }),
    }
}

async fn stored_image(
    state: &Arc<AppState>,
    index: LeafIndex,
    digest: Digest,
) -> Result<Vec<u8>, WorkError> {
    let images = state.images.clone();
    let read = tokio::task::spawn_blocking(move || images.get(&digest)).await;
    read.map_err(|_| WorkError::Interrupted)?
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => WorkError::NoImage {
                leaf_index: index.get(),
                reason: "its file is not in this service's store",
            },
            _ => WorkError::Images(error),
        })
}

/// The proof that the tree of the new size continues the one of the old size.
///
/// # Errors
/// When a size is not published, or the sizes are in the wrong order.
pub async fn consistency(
    state: &Arc<AppState>,
    old_size: TreeSize,
    new_size: TreeSize,
) -> Result<Vec<Digest>, WorkError> {
    let ledger = state.ledger.clone();
    state
        .run(async move { Ok(ledger.consistency_proof(old_size, new_size).await?) })
        .await
}

/// One page of entries.
///
/// # Errors
/// When the page is empty or over its limit.
pub async fn search(
    state: &Arc<AppState>,
    filter: EntryFilter,
    after: Option<LeafIndex>,
    limit: u32,
) -> Result<Page, WorkError> {
    let most = state
        .config
        .limits
        .entries_per_page_max
        .min(ledger::PAGE_ENTRIES_MAX);
    if limit == 0 || limit > most {
        let detail = format!("limit is {limit}, it must be 1 to entries_per_page_max ({most})");
        return Err(WorkError::invalid("limit", detail));
    }
    let ledger = state.ledger.clone();
    state
        .run(async move { Ok(ledger.search(&filter, after, limit).await?) })
        .await
}

/// What the ledger holds of a request for images, as it would be answered again.
pub(super) async fn recorded_generation(
    state: &Arc<AppState>,
    client: &str,
    request_id: &str,
) -> Result<Option<GenerateAnswer>, WorkError> {
    let filter = EntryFilter {
        kind: Some("generation".to_owned()),
        client: Some(client.to_owned()),
        request_id: Some(request_id.to_owned()),
        order: Order::Ascending,
        ..EntryFilter::default()
    };
    let page = state
        .ledger
        .search(&filter, None, IMAGES_OF_REQUEST_MAX)
        .await?;
    let Some(first) = page.entries.first() else {
        return Ok(None);
    };
    let created_at_ms = first.entry.created_at_ms();
    let mut images = Vec::with_capacity(page.entries.len());
    for recorded in page.entries {
        let Entry::Generation(entry) = recorded.entry else {
            continue;
        };
        images.push(RecordedPicture {
            file: stored_image(state, recorded.leaf_index, entry.image.sha256).await?,
            entry,
            leaf_index: recorded.leaf_index,
            leaf_hash: recorded.leaf_hash,
            bundle: state.ledger.bundle(recorded.leaf_index, None).await?,
            previews: Vec::new(),
        });
    }
    images.sort_by_key(|image| image.entry.image_index);
    Ok(Some(GenerateAnswer {
        request_id: request_id.to_owned(),
        created_at_ms,
        images,
        truncated_prompt: None,
        usage: None,
        timings: None,
    }))
}
