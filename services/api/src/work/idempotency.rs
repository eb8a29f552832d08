//! The same order with the same key is carried out once.
//!
//! The id of such a request is computed from client, key and order, so that the ledger itself
//! (one entry for each client, request and image) keeps a repetition from being recorded twice,
//! also after a restart. What is remembered here serves two things more: a repetition waits for
//! the first attempt, and another order under the same key is refused.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use provenance::{Digest, commit};
use tokio::sync::OwnedMutexGuard;

use super::{GenerateAnswer, GenerateOrder, WorkError};

/// Longest key, as in the IETF draft's examples: a UUID or another random text.
const KEY_BYTES_MAX: usize = 255;
/// Hexadecimal digits of a request id: 96 bits.
const ID_DIGITS: usize = 24;

/// The value of an `Idempotency-Key` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Parses a header's value.
    ///
    /// # Errors
    /// Refuses empty, long and unprintable keys.
    pub fn parse(text: &str) -> Result<Self, WorkError> {
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > KEY_BYTES_MAX || !printable {
            let detail = format!("a key has 1 to {KEY_BYTES_MAX} printable ascii characters");
            return Err(WorkError::invalid("Idempotency-Key", detail));
        }
        Ok(Self(text.to_owned()))
    }
}

/// What a key stands for: who used it, and for which order.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    owner: Digest,
    request_id: String,
}

impl Claim {
    /// The claim of a client's key on an order.
    ///
    /// The request id stands in the public log, so the order goes into it under the key as the
    /// secret: nobody without the key can test a guess of the prompt against it.
    pub(super) fn new(client: &str, key: &IdempotencyKey, order: &GenerateOrder) -> Self {
        let owner = Digest::of(format!("{client}\n{}", key.0).as_bytes());
        let order = commit(owner.as_bytes(), format!("{order:?}").as_bytes()).to_string();
        Self {
            owner,
            request_id: format!("key-{}", &order[..ID_DIGITS]),
        }
    }

    pub(super) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The digest over client and key.
    pub(super) fn owner(&self) -> Digest {
        self.owner
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<GenerateAnswer>>>;

#[derive(Debug)]
struct Remembered {
    claim: Claim,
    slot: Slot,
}

/// Remembers the latest answers.
#[derive(Debug)]
pub struct Idempotency {
    answers_max: usize,
    remembered: Mutex<VecDeque<Remembered>>,
}

impl Idempotency {
    /// Remembers up to this many answers.
    #[must_use]
    pub fn new(answers_max: usize) -> Self {
        Self {
            answers_max,
            remembered: Mutex::default(),
        }
    }

    /// Waits until no other request with this key is under way, then holds the key.
    pub(super) async fn claim(&self, claim: &Claim) -> Result<Place, WorkError> {
        let slot = self.slot(claim)?;
        Ok(Place {
            answer: slot.lock_owned().await,
        })
    }

    fn slot(&self, claim: &Claim) -> Result<Slot, WorkError> {
        let mut remembered = self.lock();
        if let Some(known) = remembered
            .iter()
            .find(|known| known.claim.owner == claim.owner)
        {
            if known.claim.request_id != claim.request_id {
                let detail = "this Idempotency-Key was used for another request".to_owned();
                return Err(WorkError::IdempotencyConflict { detail });
            }
            return Ok(Arc::clone(&known.slot));
        }
        let slot = Slot::default();
        remembered.push_back(Remembered {
            claim: claim.clone(),
            slot: Arc::clone(&slot),
        });
        if remembered.len() > self.answers_max {
            // The ledger still knows what was recorded under a forgotten key.
            remembered.pop_front();
        }
        Ok(slot)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Remembered>> {
        // A queue of claims has no half-changed state.
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds a key until it is dropped.
pub(super) struct Place {
    answer: OwnedMutexGuard<Option<GenerateAnswer>>,
}

impl Place {
    /// What an earlier request with this key was answered.
    pub(super) fn answer(&self) -> Option<GenerateAnswer> {
        self.answer.clone()
    }

    pub(super) fn remember(&mut self, answer: &GenerateAnswer) {
        *self.answer = Some(answer.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> GenerateAnswer {
        GenerateAnswer {
            request_id: "key-1".to_owned(),
            created_at_ms: 1,
            images: Vec::new(),
            truncated_prompt: None,
            usage: None,
            timings: None,
        }
    }

    #[tokio::test]
    async fn the_same_key_and_order_get_the_same_answer_and_another_order_is_refused() {
        let idempotency = Idempotency::new(2);
        let key = IdempotencyKey::parse("7c1f").unwrap();
        let claim = Claim::new("client", &key, &GenerateOrder::new("a red heart"));
        let mut place = idempotency.claim(&claim).await.unwrap();
        assert_eq!(place.answer(), None);
        place.remember(&answer());
        drop(place);
        assert_eq!(
            idempotency.claim(&claim).await.unwrap().answer(),
            Some(answer())
        );

        let other = Claim::new("client", &key, &GenerateOrder::new("a blue car"));
        let refused = idempotency.claim(&other).await;
        assert!(matches!(
            refused,
            Err(WorkError::IdempotencyConflict { .. })
        ));
        let stranger = Claim::new("another", &key, &GenerateOrder::new("a blue car"));
        assert_eq!(idempotency.claim(&stranger).await.unwrap().answer(), None);
    }

    #[test]
    fn the_request_id_does_not_disclose_the_prompt_to_who_lacks_the_key() {
        let order = GenerateOrder::new("a red heart");
        let id = |key: &str| {
            Claim::new("client", &IdempotencyKey::parse(key).unwrap(), &order).request_id
        };
        assert_ne!(id("one"), id("two"));
        assert_eq!(id("one"), id("one"));
    }

    #[test]
    fn unusable_keys_are_refused() {
        for key in ["", "with space", "ä", &"k".repeat(256)] {
            assert!(IdempotencyKey::parse(key).is_err(), "{key:?}");
        }
    }
}
