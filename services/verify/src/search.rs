//! A search of the service, done again over entries that were read offline.

use media::PerceptualHash;
use provenance::{
    Digest, Entry, GenerationDetails, KeyHistory, LeafIndex, NEAR_DISTANCE_MAX, RecordedVerdict,
};

use crate::report::Reason;

/// Entries of a page when the search names no number, as the service has it.
const LIMIT_DEFAULT: usize = 50;

/// The conditions of a search, all of which must hold, and which part of what meets them is asked for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    created_from_ms: Option<u64>,
    created_until_ms: Option<u64>,
    kind: Option<String>,
    client: Option<String>,
    request_id: Option<String>,
    model: Option<String>,
    model_digest: Option<Digest>,
    image_sha256: Option<Digest>,
    pixel_sha256: Option<Digest>,
    prompt_commitment: Option<Digest>,
    verdict: Option<String>,
    key: Option<String>,
    like: Option<Likeness>,
    distance: Option<u32>,
    after: Option<u64>,
    limit: Option<usize>,
    ascending: bool,
}

/// What images are to look like.
#[derive(Clone, Copy, Debug)]
enum Likeness {
    Hash(PerceptualHash),
    /// The image of this entry, whose hash is not known yet.
    Entry(LeafIndex),
}

impl Search {
    /// Parses the parameters of `GET /v1/entries`, or the conditions that an export's manifest states.
    ///
    /// # Errors
    /// Refuses what it does not know: a condition that is passed over would make a page look complete
    /// that is not.
    pub fn parse<'a>(
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Reason> {
        let mut search = Self::default();
        for (name, value) in parameters {
            search.take(name, value)?;
        }
        let distance = search.distance;
        if distance.is_some_and(|most| search.like.is_none() || most > NEAR_DISTANCE_MAX) {
            let detail = format!(
                "a distance belongs to a perceptual hash or an entry, and is at most {NEAR_DISTANCE_MAX}"
            );
            return Err(Reason::new("unknown-condition", detail));
        }
        Ok(search)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), Reason> {
        let refused = || {
            let detail = format!("{name}={value} is no condition of a search");
            Reason::new("unknown-condition", detail)
        };
        let text = || Some(value.to_owned());
        let number = || value.parse().map(Some).map_err(|_| refused());
        let digest = || value.parse().map(Some).map_err(|_| refused());
        match name {
            "created_from_ms" => self.created_from_ms = number()?,
            "created_until_ms" => self.created_until_ms = number()?,
            "kind" => self.kind = text(),
            "client" => self.client = text(),
            "request_id" => self.request_id = text(),
            "model" => self.model = text(),
            "model_digest" => self.model_digest = digest()?,
            "image_sha256" => self.image_sha256 = digest()?,
            "pixel_sha256" => self.pixel_sha256 = digest()?,
            "prompt_commitment" => self.prompt_commitment = digest()?,
            "verdict" => self.verdict = text(),
            "key" => self.key = text(),
            "perceptual_hash" if self.like.is_none() => {
                let hash = value.parse().map_err(|_| refused())?;
                self.like = Some(Likeness::Hash(hash));
            }
            "near_entry" if self.like.is_none() => {
                let place = value.parse().map_err(|_| refused())?;
                self.like = Some(Likeness::Entry(LeafIndex::new(place)));
            }
            "distance" => self.distance = Some(value.parse().map_err(|_| refused())?),
            "after" => self.after = number()?,
            "limit" => self.limit = Some(value.parse().map_err(|_| refused())?),
            "order" if value == "asc" => self.ascending = true,
            "order" if value == "desc" => self.ascending = false,
            _ => return Err(refused()),
        }
        Ok(())
    }

    /// The entry whose image is asked for others like it, while its hash is not known.
    pub fn like_entry(&self) -> Option<LeafIndex> {
        match self.like {
            Some(Likeness::Entry(place)) => Some(place),
            _ => None,
        }
    }

    /// The search for images like that of this entry, by the hash that it states; none where it states none.
    pub fn like(self, entry: &Entry) -> Option<Self> {
        let hash = About::of(entry).perceptual_hash?;
        Some(Self {
            like: Some(Likeness::Hash(hash)),
            ..self
        })
    }

    /// Whether the entry at this place was signed by the key asked for.
    ///
    /// # Errors
    /// Refuses a key that never signed in this log: a service would have too.
    pub fn is_signed_as_asked(&self, keys: &KeyHistory, place: LeafIndex) -> Result<bool, Reason> {
        let Some(asked) = &self.key else {
            return Ok(true);
        };
        let key = keys.key(asked).ok_or_else(|| {
            let detail = format!("no key {asked} has signed entries of this log");
            Reason::new("unknown-condition", detail)
        })?;
        Ok(key.from <= place && key.until.is_none_or(|until| place <= until))
    }

    fn is_like(&self, found: Option<PerceptualHash>) -> bool {
        match self.like {
            None => true,
            // An entry's hash is looked up before entries are compared with it.
            Some(Likeness::Entry(_)) => false,
            Some(Likeness::Hash(asked)) => found.is_some_and(|found| {
                asked.distance(&found) <= self.distance.unwrap_or(NEAR_DISTANCE_MAX)
            }),
        }
    }

    /// Whether an entry meets every condition that it can be asked by itself.
    pub fn is_met_by(&self, entry: &Entry) -> bool {
        let time = entry.created_at_ms();
        let about = About::of(entry);
        let same = |asked: &Option<String>, found: Option<&str>| {
            asked.is_none() || asked.as_deref() == found
        };
        let same_digest =
            |asked: Option<Digest>, found: Option<Digest>| asked.is_none() || asked == found;
        self.created_from_ms.is_none_or(|from| time >= from)
            && self.created_until_ms.is_none_or(|until| time < until)
            && same(&self.kind, Some(entry.kind()))
            && same(&self.client, Some(entry.client()))
            && same(&self.request_id, Some(about.request_id))
            && same(&self.model, about.model)
            && same(&self.verdict, about.verdict)
            && same_digest(self.model_digest, about.model_digest)
            && same_digest(self.image_sha256, about.image_sha256)
            && same_digest(self.pixel_sha256, about.pixel_sha256)
            && same_digest(self.prompt_commitment, about.prompt_commitment)
            && self.is_like(about.perceptual_hash)
    }

    /// The page of this search, from the places of all entries that meet the conditions, oldest first;
    /// and where the next page begins, if there is one.
    pub fn page(&self, places: &[LeafIndex]) -> (Vec<LeafIndex>, Option<LeafIndex>) {
        let after = self.after.map(LeafIndex::new);
        let behind = |place: &&LeafIndex| match (after, self.ascending) {
            (None, _) => true,
            (Some(after), true) => **place > after,
            (Some(after), false) => **place < after,
        };
        let mut rest: Vec<LeafIndex> = places.iter().filter(behind).copied().collect();
        if !self.ascending {
            rest.reverse();
        }
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        let has_next = rest.len() > limit;
        rest.truncate(limit);
        let next = rest.last().copied().filter(|_| has_next);
        (rest, next)
    }
}

/// What a search can ask of an entry.
struct About<'a> {
    request_id: &'a str,
    model: Option<&'a str>,
    model_digest: Option<Digest>,
    image_sha256: Option<Digest>,
    pixel_sha256: Option<Digest>,
    prompt_commitment: Option<Digest>,
    perceptual_hash: Option<PerceptualHash>,
    verdict: Option<&'static str>,
}

impl<'a> About<'a> {
    fn of(entry: &'a Entry) -> Self {
        match entry {
            Entry::Generation(entry) => Self {
                request_id: &entry.request_id,
                model: Some(&entry.model.name),
                model_digest: Some(entry.model.digest),
                image_sha256: Some(entry.image.sha256),
                pixel_sha256: Some(entry.image.pixel_sha256),
                prompt_commitment: Some(entry.prompt_commitment),
                perceptual_hash: entry.details.as_ref().and_then(stated_hash),
                verdict: None,
            },
            Entry::Score(entry) => Self {
                request_id: &entry.request_id,
                model: Some(&entry.detector.name),
                model_digest: Some(entry.detector.digest),
                image_sha256: None,
                pixel_sha256: None,
                prompt_commitment: None,
                perceptual_hash: None,
                verdict: Some(match entry.verdict {
                    RecordedVerdict::LikelyGenerated => "likely_generated",
                    RecordedVerdict::LikelyNotGenerated => "likely_not_generated",
                    RecordedVerdict::Inconclusive => "inconclusive",
                }),
            },
            Entry::KeySuccession(_)
            | Entry::CheckpointKeySuccession(_)
            | Entry::KeyRevocation(_) => Self {
                request_id: entry.request_id(),
                model: None,
                model_digest: None,
                image_sha256: None,
                pixel_sha256: None,
                prompt_commitment: None,
                perceptual_hash: None,
                verdict: None,
            },
        }
    }
}

fn stated_hash(details: &GenerationDetails) -> Option<PerceptualHash> {
    let stated = details.perceptual_hash?;
    Some(PerceptualHash::from_bytes(*stated.hash.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(numbers: &[u64]) -> Vec<LeafIndex> {
        numbers.iter().copied().map(LeafIndex::new).collect()
    }

    #[test]
    fn a_page_runs_either_way_and_says_whether_more_follows() {
        let all = places(&[1, 4, 6, 9]);
        let page = |text: &[(&'static str, &'static str)]| {
            Search::parse(text.iter().copied()).unwrap().page(&all)
        };
        assert_eq!(page(&[]), (places(&[9, 6, 4, 1]), None));
        let (found, next) = page(&[("limit", "2")]);
        assert_eq!((found, next), (places(&[9, 6]), Some(LeafIndex::new(6))));
        let last = page(&[("limit", "2"), ("after", "6")]);
        assert_eq!(last, (places(&[4, 1]), None));
        let up = page(&[("order", "asc"), ("after", "4"), ("limit", "1")]);
        assert_eq!(up, (places(&[6]), Some(LeafIndex::new(6))));
    }

    #[test]
    fn a_condition_that_is_not_known_is_refused() {
        for (name, value) in [
            ("colour", "red"),
            ("order", "random"),
            ("limit", "-1"),
            ("model_digest", "12"),
            ("perceptual_hash", "12"),
            ("near_entry", "-1"),
            ("distance", "5"),
            ("prompt_commitment", "x"),
        ] {
            let refused = Search::parse([(name, value)]).unwrap_err();
            assert_eq!(refused.code, "unknown-condition");
        }
    }
}
