//! The ledger's search form.

use ::ledger::EntryFilter;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use provenance::Digest;
use serde::{Deserialize, Serialize};

use super::view::{Choice, SearchForm};
use crate::problem::Problem;

/// Kinds of entries, as the canonical bytes spell them, with the words of the page.
const KINDS: [(&str, &str); 5] = [
    ("", "Any"),
    ("generation", "Images"),
    ("score", "Scores"),
    ("key_succession", "New keys"),
    ("key_revocation", "Revoked keys"),
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

    /// The conditions without the digest.
    pub(super) fn parse(&self) -> Result<EntryFilter, Problem> {
        if !self.digest.trim().is_empty() && self.digest().is_none() {
            let detail = "a digest has 64 hexadecimal digits";
            return Err(Problem::invalid("digest", detail));
        }
        if !KINDS.iter().any(|(kind, _)| *kind == self.kind) {
            return Err(Problem::invalid(
                "kind",
                "the kind is generation, score, key_succession or key_revocation",
            ));
        }
        Ok(EntryFilter {
            created_from_ms: time("from", &self.from)?,
            created_until_ms: time("to", &self.to)?,
            kind: text(&self.kind),
            client: text(&self.client),
            model_name: text(&self.model),
            ..EntryFilter::default()
        })
    }

    /// The form as it was sent.
    pub(super) fn form(&self) -> SearchForm {
        let kinds = KINDS.iter().map(|(value, label)| Choice {
            value: (*value).to_owned(),
            label: (*label).to_owned(),
            selected: *value == self.kind,
        });
        let conditions = [
            &self.kind,
            &self.model,
            &self.client,
            &self.digest,
            &self.from,
            &self.to,
        ];
        SearchForm {
            kinds: kinds.collect(),
            model: self.model.clone(),
            client: self.client.clone(),
            digest: self.digest.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            active: conditions
                .iter()
                .any(|condition| !condition.trim().is_empty()),
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
    use super::*;

    fn fields(query: &str) -> SearchFields {
        serde_urlencoded::from_str(query).unwrap()
    }

    #[test]
    fn an_empty_form_searches_for_everything() {
        let fields = fields("kind=&model=&client=+&digest=&from=&to=");
        assert_eq!(fields.parse().unwrap(), EntryFilter::default());
        assert!(!fields.form().active);
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
        ] {
            assert_eq!(
                fields(query).parse().unwrap_err().parameter,
                Some(name),
                "{query}"
            );
        }
    }

    #[test]
    fn the_next_page_keeps_the_conditions_and_escapes_them() {
        let link = fields("client=a%26b&kind=score").link(Some(41), None);
        assert_eq!(link, "/ledger?kind=score&client=a%26b&after=41");
        assert_eq!(fields("after=9").link(None, None), "/ledger");
    }
}
