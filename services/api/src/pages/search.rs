//! The ledger's search form.

use ::ledger::{EntryFilter, Order};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use provenance::{Digest, EntryKey, NEAR_DISTANCE_MAX};
use serde::{Deserialize, Serialize};

use super::view::{Choice, ExportLink, SearchForm};
use crate::problem::Problem;
use crate::work::Conditions;

/// Kinds of entries, as the canonical bytes spell them, with the words of the page.
const KINDS: [(&str, &str); 6] = [
    ("", "Any"),
    ("generation", "Images"),
    ("score", "Scores"),
    ("key_succession", "New keys"),
    ("checkpoint_key_succession", "New checkpoint keys"),
    ("key_revocation", "Revoked keys"),
];
/// Verdicts, as the canonical bytes spell them, with the words of the page.
const VERDICTS: [(&str, &str); 4] = [
    ("", "Any"),
    ("likely_generated", "Likely generated"),
    ("likely_not_generated", "Likely not generated"),
    ("inconclusive", "Inconclusive"),
];

/// What a digest is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DigestOf {
    File,
    Pixels,
}

/// The form's fields as they come; all may be empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SearchFields {
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    model: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    client: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    verdict: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    prompt: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    like: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    distance: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    from: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<DigestOf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
}

impl SearchFields {
    /// The leaf index behind which the page begins.
    pub(super) fn after(&self) -> Option<u64> {
        self.after
    }

    /// What the digest was found to be of, on later pages.
    pub(super) fn by(&self) -> Option<DigestOf> {
        self.by
    }

    /// The digest asked for; an unreadable one is refused by [`SearchFields::parse`].
    pub(super) fn digest(&self) -> Option<Digest> {
        self.digest.trim().to_ascii_lowercase().parse().ok()
    }

    /// The filter of the conditions without the digest.
    pub(super) fn parse(&self) -> Result<EntryFilter, Problem> {
        Ok(self.conditions()?.filter(Order::Descending)?)
    }

    /// All conditions, for an export: a digest is that of a file where it was not found to be of pixels.
    pub(super) fn all_conditions(&self) -> Result<Conditions, Problem> {
        let digest = self.digest().map(|digest| digest.to_string());
        let (image_sha256, pixel_sha256) = match self.by {
            Some(DigestOf::Pixels) => (None, digest),
            Some(DigestOf::File) | None => (digest, None),
        };
        Ok(Conditions {
            image_sha256,
            pixel_sha256,
            ..self.conditions()?
        })
    }

    /// The conditions without the digest.
    fn conditions(&self) -> Result<Conditions, Problem> {
        if !self.digest.trim().is_empty() && self.digest().is_none() {
            let detail = "a digest has 64 hexadecimal digits";
            return Err(Problem::invalid("digest", detail));
        }
        let (perceptual_hash, near_entry) = self.like()?;
        Ok(Conditions {
            created_from_ms: time("from", &self.from)?,
            created_until_ms: time("to", &self.to)?,
            kind: text(&self.kind),
            client: text(&self.client),
            model: text(&self.model),
            verdict: text(&self.verdict),
            key: text(&self.key),
            prompt_commitment: self.prompt()?,
            // The form always sends the distance; without anything to resemble it says nothing.
            distance: match perceptual_hash.is_some() || near_entry.is_some() {
                true => self.distance()?,
                false => None,
            },
            perceptual_hash,
            near_entry,
            ..Conditions::default()
        })
    }

    fn prompt(&self) -> Result<Option<String>, Problem> {
        let Some(text) = text(&self.prompt) else {
            return Ok(None);
        };
        let commitment: Result<Digest, _> = text.to_ascii_lowercase().parse();
        let commitment = commitment.map_err(|_| {
            let detail = "a prompt commitment has 64 hexadecimal digits";
            Problem::invalid("prompt_commitment", detail)
        })?;
        Ok(Some(commitment.to_string()))
    }

    /// What images are to resemble: a perceptual hash, or the image of an entry.
    fn like(&self) -> Result<(Option<String>, Option<u64>), Problem> {
        let refused = || {
            let detail = "name the entry of an image by its number, or a PDQ hash by its 64 hexadecimal digits";
            Problem::invalid("near_entry", detail)
        };
        match text(&self.like) {
            None => Ok((None, None)),
            Some(hash) if hash.len() == 64 => Ok((Some(hash), None)),
            Some(number) => Ok((None, Some(number.parse().map_err(|_| refused())?))),
        }
    }

    fn distance(&self) -> Result<Option<u32>, Problem> {
        let refused = |_| {
            let detail = format!("a number from 0 to {NEAR_DISTANCE_MAX}");
            Problem::invalid("distance", detail)
        };
        text(&self.distance)
            .map(|number| number.parse().map_err(refused))
            .transpose()
    }

    /// The form as it was sent. Its choice of keys is that of the log.
    pub(super) fn form(&self, keys: &[EntryKey]) -> SearchForm {
        let choices = |words: &[(&str, &str)], chosen: &str| -> Vec<Choice> {
            let choice = |(value, label): &(&str, &str)| Choice {
                value: (*value).to_owned(),
                label: (*label).to_owned(),
                selected: *value == chosen,
            };
            words.iter().map(choice).collect()
        };
        let names: Vec<String> = keys.iter().map(|key| key.verifier.key_id()).collect();
        let names: Vec<(&str, &str)> = std::iter::once(("", "Any"))
            .chain(names.iter().map(|name| (&name[..], &name[..])))
            .collect();
        let conditions = [
            &self.kind,
            &self.model,
            &self.client,
            &self.digest,
            &self.verdict,
            &self.key,
            &self.prompt,
            &self.like,
            &self.from,
            &self.to,
        ];
        SearchForm {
            kinds: choices(&KINDS, &self.kind),
            verdicts: choices(&VERDICTS, &self.verdict),
            keys: choices(&names, &self.key),
            model: self.model.clone(),
            client: self.client.clone(),
            digest: self.digest.clone(),
            prompt: self.prompt.clone(),
            like: self.like.clone(),
            distance: match text(&self.distance) {
                Some(distance) => distance,
                None => NEAR_DISTANCE_MAX.to_string(),
            },
            distance_max: NEAR_DISTANCE_MAX,
            from: self.from.clone(),
            to: self.to.clone(),
            active: conditions
                .iter()
                .any(|condition| !condition.trim().is_empty()),
            refused: None,
        }
    }

    /// The address of another page of the same search.
    pub(super) fn link(&self, after: Option<u64>, by: Option<DigestOf>) -> String {
        let fields = Self {
            after,
            by,
            ..self.clone()
        };
        let query = serde_urlencoded::to_string(&fields).unwrap_or_default();
        if query.is_empty() {
            "/ledger".to_owned()
        } else {
            format!("/ledger?{query}")
        }
    }
}

/// The encodings of exports, as the address spells them, with their names on the page.
const ENCODINGS: [(&str, &str); 3] = [("ndjson", "NDJSON"), ("csv", "CSV"), ("parquet", "Parquet")];

impl SearchFields {
    /// Addresses under which everything that this search finds under a checkpoint is downloaded.
    pub(super) fn exports(&self, by: Option<DigestOf>, tree_size: u64) -> Vec<ExportLink> {
        let fields = Self {
            after: None,
            by,
            ..self.clone()
        };
        let query = serde_urlencoded::to_string(&fields).unwrap_or_default();
        let between = if query.is_empty() { "" } else { "&" };
        let link = |(encoding, label): (&str, &'static str)| ExportLink {
            label,
            address: format!(
                "/ledger/export?{query}{between}encoding={encoding}&tree_size={tree_size}"
            ),
        };
        ENCODINGS.into_iter().map(link).collect()
    }
}

fn text(field: &str) -> Option<String> {
    let field = field.trim();
    (!field.is_empty()).then(|| field.to_owned())
}

/// A time as browsers send it (`2026-11-23T03:12`), taken as UTC.
fn time(parameter: &'static str, field: &str) -> Result<Option<u64>, Problem> {
    let Some(field) = text(field) else {
        return Ok(None);
    };
    let refused = || Problem::invalid(parameter, "a time is written like 2026-11-23T03:12, in UTC");
    let civil: DateTime = field.trim_end_matches('Z').parse().map_err(|_| refused())?;
    let zoned = civil.to_zoned(TimeZone::UTC).map_err(|_| refused())?;
    u64::try_from(zoned.timestamp().as_millisecond())
        .map(Some)
        .map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use ::ledger::{Likeness, Near};
    use provenance::LeafIndex;

    use super::*;

    fn fields(query: &str) -> SearchFields {
        serde_urlencoded::from_str(query).unwrap()
    }

    #[test]
    fn an_empty_form_searches_for_everything() {
        let fields = fields("kind=&model=&client=+&digest=&from=&to=");
        assert_eq!(fields.parse().unwrap(), EntryFilter::default());
        assert!(!fields.form(&[]).active);
    }

    #[test]
    fn times_are_taken_as_utc() {
        let filter = fields("from=2026-11-23T03:12&to=2026-11-23T03:13:30")
            .parse()
            .unwrap();
        assert_eq!(filter.created_from_ms, Some(1_795_403_520_000));
        assert_eq!(filter.created_until_ms, Some(1_795_403_610_000));
    }

    #[test]
    fn unreadable_conditions_are_refused_by_name() {
        for (query, name) in [
            ("digest=abc", "digest"),
            ("kind=banana", "kind"),
            ("from=yesterday", "from"),
            ("to=1950-01-01T00:00", "to"),
            ("verdict=certain", "verdict"),
            ("prompt=12", "prompt_commitment"),
            ("like=abc", "near_entry"),
            ("like=-1", "near_entry"),
            ("like=3&distance=32", "distance"),
            ("like=3&distance=few", "distance"),
        ] {
            assert_eq!(
                fields(query).parse().unwrap_err().parameter,
                Some(name),
                "{query}"
            );
        }
    }

    #[test]
    fn images_are_compared_with_an_entry_or_with_a_hash() {
        let near = |query: &str| fields(query).parse().unwrap().near;
        let like = |to, distance_max| Some(Near { to, distance_max });
        let entry = Likeness::Entry(LeafIndex::new(7));
        assert_eq!(near("like=7&distance=10"), like(entry, 10));
        assert_eq!(near("like=+7+&distance="), like(entry, NEAR_DISTANCE_MAX));
        let hash = format!("like={}", "aB".repeat(32));
        assert_eq!(
            near(&hash),
            like(Likeness::Hash([0xab; 32]), NEAR_DISTANCE_MAX)
        );
        // The form sends its distance with every search.
        assert_eq!(near("kind=score&distance=31"), None);
    }

    #[test]
    fn an_export_has_the_conditions_of_the_search_and_no_page() {
        let digest = "ab".repeat(32);
        let fields = fields(&format!("client=a%26b&digest={digest}&distance=31&after=9"));
        let links = fields.exports(Some(DigestOf::Pixels), 12);
        let expected = format!(
            "/ledger/export?client=a%26b&digest={digest}&distance=31&by=pixels&encoding=csv&tree_size=12"
        );
        assert_eq!(links[1].address, expected);
        assert_eq!(fields.all_conditions().unwrap().image_sha256, Some(digest));
    }

    #[test]
    fn the_next_page_keeps_the_conditions_and_escapes_them() {
        let link = fields("client=a%26b&kind=score").link(Some(41), None);
        assert_eq!(link, "/ledger?kind=score&client=a%26b&after=41");
        assert_eq!(fields("after=9").link(None, None), "/ledger");
    }
}
