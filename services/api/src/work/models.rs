//! The models that clients can ask for: this process's own, or what workers announce.

use std::sync::Arc;
use std::time::Duration;

use diffusion::SchedulerKind;
use provenance::Digest;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::WorkError;
use super::infotext::MODEL_HASH_DIGITS;
use crate::engine::GeneratorSlot;
use crate::state::AppState;

/// How often a worker says which model it has.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10);
/// After so long without a word a model has no worker any more.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(60);

/// What clients are told about a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Its name, as requests and entries state it.
    pub name: String,
    /// SHA-256 over all its parts, as entries state it.
    pub digest: Digest,
    /// Width and height of its pictures where a request names no size.
    pub picture_size: (u32, u32),
    /// Whether it takes a prompt.
    pub takes_prompt: bool,
    /// The scheduler of a request that names none.
    pub scheduler: SchedulerKind,
    /// The steps of a request that names none.
    pub num_inference_steps: u32,
    /// The guidance scale of a request that names none.
    pub guidance_scale: f32,
}

impl From<&GeneratorSlot> for ModelFacts {
    fn from(slot: &GeneratorSlot) -> Self {
        Self {
            name: slot.model.name.clone(),
            digest: slot.model.digest,
            picture_size: slot.picture_size,
            takes_prompt: slot.takes_prompt,
            scheduler: slot.defaults.scheduler.unwrap_or(slot.scheduler),
            num_inference_steps: slot.defaults.num_inference_steps,
            guidance_scale: slot.defaults.guidance_scale,
        }
    }
}

impl ModelFacts {
    /// The start of the digest, as A1111 shows it.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut digest = self.digest.to_string();
        digest.truncate(MODEL_HASH_DIGITS);
        digest
    }
}

/// The models that requests can name: the one of this process, else those that workers announced a moment ago.
///
/// # Errors
/// When the database fails.
pub async fn models(state: &Arc<AppState>) -> Result<Vec<ModelFacts>, WorkError> {
    if let Ok(slot) = state.engine.generator() {
        return Ok(vec![slot.into()]);
    }
    let ledger = state.ledger.clone();
    let announced = state
        .run(async move { Ok(ledger.announced_models(ANNOUNCED_WITHIN).await?) })
        .await?;
    // What a worker of another version writes in another way is not told.
    Ok(announced
        .iter()
        .filter_map(|text| serde_json::from_str(text).ok())
        .collect())
}

/// The model of a request that names none.
///
/// # Errors
/// When there is none, and when the database fails.
pub async fn model(state: &Arc<AppState>) -> Result<ModelFacts, WorkError> {
    match models(state).await?.into_iter().next() {
        Some(model) => Ok(model),
        None => Ok(state.engine.generator()?.into()),
    }
}

/// Announces the model of this process until the service stops, and forgets those that no worker announces any more.
pub async fn announce_model(state: Arc<AppState>, mut stopping: watch::Receiver<bool>) {
    let Ok(slot) = state.engine.generator() else {
        return;
    };
    let facts = ModelFacts::from(slot);
    let description = serde_json::to_string(&facts).expect("texts and numbers serialise");
    while !*stopping.borrow() {
        let announced = async {
            state
                .ledger
                .announce_model(&facts.digest, &description)
                .await?;
            state.ledger.forget_models(ANNOUNCED_WITHIN).await
        };
        if let Err(error) = announced.await {
            tracing::debug!(%error, "could not announce the model");
        }
        tokio::select! {
            _ = stopping.wait_for(|stops| *stops) => return,
            () = tokio::time::sleep(ANNOUNCE_INTERVAL) => {}
        }
    }
}
