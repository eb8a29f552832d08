//! The conditions of a search as people write them, for interface, pages and commands alike.

use std::collections::BTreeMap;

use ledger::{EntryFilter, Likeness, Near, Order};
use media::PerceptualHash;
use provenance::{Digest, LeafIndex, NEAR_DISTANCE_MAX};

use super::WorkError;

/// The kinds of entries.
const KINDS: [&str; 5] = [
    "generation",
    "score",
    "key_succession",
    "checkpoint_key_succession",
    "key_revocation",
];
/// The verdicts of scores.
const VERDICTS: [&str; 3] = ["likely_generated", "likely_not_generated", "inconclusive"];

/// Conditions that all must hold; those that are none are no condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Stated time at or after this, in milliseconds since 1970 UTC.
    pub created_from_ms: Option<u64>,
    /// Stated time before this, in milliseconds since 1970 UTC.
    pub created_until_ms: Option<u64>,
    /// Kind of the entry.
    pub kind: Option<String>,
    /// Name of the client.
    pub client: Option<String>,
    /// The request's id.
    pub request_id: Option<String>,
    /// Name of the generator or detector.
    pub model: Option<String>,
    /// Digest of the generator or detector.
    pub model_digest: Option<String>,
    /// Name and id of the key that signed.
    pub key: Option<String>,
    /// Digest of an image file.
    pub image_sha256: Option<String>,
    /// Digest of an image's pixels.
    pub pixel_sha256: Option<String>,
    /// Commitment to a prompt.
    pub prompt_commitment: Option<String>,
    /// Verdict of a score.
    pub verdict: Option<String>,
    /// PDQ hash that images are to resemble.
    pub perceptual_hash: Option<String>,
    /// Leaf index of the entry whose image they are to resemble.
    pub near_entry: Option<u64>,
    /// Bits of the perceptual hash that may differ; [`NEAR_DISTANCE_MAX`] when none.
    pub distance: Option<u32>,
}

impl Conditions {
    /// The filter that they make.
    ///
    /// # Errors
    /// Refuses, by the name of its field, what no entry can have: finding nothing would look like an answer.
    pub fn filter(&self, order: Order) -> Result<EntryFilter, WorkError> {
        Ok(EntryFilter {
            created_from_ms: self.created_from_ms,
            created_until_ms: self.created_until_ms,
            kind: one_of("kind", &KINDS, self.kind.as_deref())?,
            client: self.client.clone(),
            request_id: self.request_id.clone(),
            model_name: self.model.clone(),
            model_digest: digest("model_digest", self.model_digest.as_deref())?,
            image_sha256: digest("image_sha256", self.image_sha256.as_deref())?,
            pixel_sha256: digest("pixel_sha256", self.pixel_sha256.as_deref())?,
            prompt_commitment: digest("prompt_commitment", self.prompt_commitment.as_deref())?,
            verdict: one_of("verdict", &VERDICTS, self.verdict.as_deref())?,
            key: self.key.clone(),
            near: self.near()?,
            order,
        })
    }

    fn near(&self) -> Result<Option<Near>, WorkError> {
        let to = match (self.perceptual_hash.as_deref(), self.near_entry) {
            (Some(_), Some(_)) => {
                let detail = "near_entry and perceptual_hash exclude each other";
                return Err(WorkError::invalid("near_entry", detail));
            }
            (Some(hash), None) => {
                let parsed: Result<PerceptualHash, _> = hash.parse();
                let hash = parsed
                    .map_err(|error| WorkError::invalid("perceptual_hash", error.to_string()))?;
                Likeness::Hash(*hash.as_bytes())
            }
            (None, Some(leaf_index)) => Likeness::Entry(LeafIndex::new(leaf_index)),
            (None, None) if self.distance.is_some() => {
                let detail = "distance belongs to perceptual_hash or near_entry";
                return Err(WorkError::invalid("distance", detail));
            }
            (None, None) => return Ok(None),
        };
        let distance_max = self.distance.unwrap_or(NEAR_DISTANCE_MAX);
        if distance_max > NEAR_DISTANCE_MAX {
            let detail = format!("distance must be 0 to {NEAR_DISTANCE_MAX}");
            return Err(WorkError::invalid("distance", detail));
        }
        Ok(Some(Near { to, distance_max }))
    }

    /// The conditions by the names of the interface, as the manifest of an export states them.
    pub fn stated(&self) -> BTreeMap<String, String> {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let named = [
            ("created_from_ms", number(self.created_from_ms)),
            ("created_until_ms", number(self.created_until_ms)),
            ("kind", self.kind.clone()),
            ("client", self.client.clone()),
            ("request_id", self.request_id.clone()),
            ("model", self.model.clone()),
            ("model_digest", self.model_digest.clone()),
            ("key", self.key.clone()),
            ("image_sha256", self.image_sha256.clone()),
            ("pixel_sha256", self.pixel_sha256.clone()),
            ("prompt_commitment", self.prompt_commitment.clone()),
            ("verdict", self.verdict.clone()),
            ("perceptual_hash", self.perceptual_hash.clone()),
            ("near_entry", number(self.near_entry)),
            ("distance", number(self.distance.map(u64::from))),
        ];
        named
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}

fn digest(parameter: &'static str, text: Option<&str>) -> Result<Option<Digest>, WorkError> {
    let refused = |_| {
        let detail = format!("{parameter} must be 64 lower-case hexadecimal digits");
        WorkError::invalid(parameter, detail)
    };
    text.map(|text| text.parse().map_err(refused)).transpose()
}

/// Refuses a word that no entry can have, instead of finding nothing.
fn one_of(
    parameter: &'static str,
    words: &[&str],
    text: Option<&str>,
) -> Result<Option<String>, WorkError> {
    match text {
        Some(text) if !words.contains(&text) => Err(WorkError::invalid(
            parameter,
            format!("{parameter} must be one of {}", words.join(", ")),
        )),
        text => Ok(text.map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_no_entry_can_meet_is_refused_by_its_name() {
        let text = |text: &str| Some(text.to_owned());
        let none = Conditions::default;
        let cases = [
            (
                Conditions {
                    kind: text("banana"),
                    ..none()
                },
                "kind",
            ),
            (
                Conditions {
                    verdict: text("certain"),
                    ..none()
                },
                "verdict",
            ),
            (
                Conditions {
                    prompt_commitment: text("ab"),
                    ..none()
                },
                "prompt_commitment",
            ),
            (
                Conditions {
                    image_sha256: text(&"AB".repeat(32)),
                    ..none()
                },
                "image_sha256",
            ),
            (
                Conditions {
                    perceptual_hash: text("12"),
                    ..none()
                },
                "perceptual_hash",
            ),
            (
                Conditions {
                    distance: Some(3),
                    ..none()
                },
                "distance",
            ),
            (
                Conditions {
                    near_entry: Some(3),
                    distance: Some(32),
                    ..none()
                },
                "distance",
            ),
            (
                Conditions {
                    near_entry: Some(3),
                    perceptual_hash: text(&"ab".repeat(32)),
                    ..none()
                },
                "near_entry",
            ),
        ];
        for (conditions, expected) in cases {
            match conditions.filter(Order::Ascending) {
                Err(WorkError::Invalid { parameter, .. }) => assert_eq!(parameter, expected),
                other => panic!("{conditions:?} gave {other:?}"),
            }
        }
    }

    #[test]
    fn conditions_are_stated_by_the_names_of_the_interface() {
        let conditions = Conditions {
            near_entry: Some(7),
            distance: Some(9),
            kind: Some("generation".to_owned()),
            ..Conditions::default()
        };
        let filter = conditions.filter(Order::Descending).unwrap();
        let to = Likeness::Entry(LeafIndex::new(7));
        assert_eq!(
            filter.near,
            Some(Near {
                to,
                distance_max: 9
            })
        );
        let stated = conditions.stated();
        let stated: Vec<(&str, &str)> = stated
            .iter()
            .map(|(name, value)| (&name[..], &value[..]))
            .collect();
        assert_eq!(
            stated,
            [
                ("distance", "9"),
                ("kind", "generation"),
                ("near_entry", "7")
            ]
        );
    }
}
