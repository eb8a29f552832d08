//! What the pages show, already in words: every value here is ready to be escaped and printed.
//!
//! The handlers translate domain values into these structures, the templates only lay them out. So
//! a template cannot decide anything, and a test can render a page without a service behind it.

use askama::Template;

/// The places in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Home,
    Studio,
    Review,
    Cases,
    Ledger,
    /// A page outside the navigation: sign-in, errors.
    Elsewhere,
}

impl Place {
    /// The value of `aria-current` for the link to `other`; an empty value means "not here".
    pub(crate) fn current(self, other: Place) -> &'static str {
        if self == other { "page" } else { "false" }
    }
}

/// How well the service is, in one of three steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Good,
    Warning,
    Bad,
}

impl Level {
    /// The suffix of the style class.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Level::Good => "good",
            Level::Warning => "warning",
            Level::Bad => "bad",
        }
    }
}

/// The health of the service in one line.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    pub(crate) level: Level,
    pub(crate) line: String,
}

/// What surrounds the body of every page.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) title: String,
    pub(crate) place: Place,
    /// Name of the client whose key this browser holds.
    pub(crate) client: Option<String>,
    /// Whether the service has clients, so that pages need a key.
    pub(crate) keys_exist: bool,
}

/// A name and a value, shown as one row of a definition list.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    /// Machine text: digests, keys, numbers that somebody may copy.
    pub(crate) mono: bool,
}

impl Fact {
    /// Prose.
    pub(crate) fn plain(name: &'static str, value: impl Into<String>) -> Fact {
        Fact {
            name,
            value: value.into(),
            mono: false,
        }
    }

    /// Machine text.
    pub(crate) fn mono(name: &'static str, value: impl Into<String>) -> Fact {
        Fact {
            name,
            value: value.into(),
            mono: true,
        }
    }
}

/// One picture of a strip.
#[derive(Clone, Debug)]
pub(crate) struct StripTile {
    pub(crate) source: String,
    pub(crate) caption: String,
    pub(crate) alt: String,
}

/// A row of pictures along the forward or the reverse process.
#[derive(Clone, Debug)]
pub(crate) struct Strip {
    pub(crate) title: &'static str,
    pub(crate) explanation: String,
    /// Whether the pictures are large enough to be shown larger.
    pub(crate) large: bool,
    pub(crate) tiles: Vec<StripTile>,
}

/// An error that the visitor can read where it happened.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) title: String,
    pub(crate) detail: String,
}

/// A recent entry on the first page.
#[derive(Clone, Debug)]
pub(crate) struct RecentEntry {
    pub(crate) index: u64,
    pub(crate) kind: &'static str,
    pub(crate) kind_class: &'static str,
    pub(crate) picture: Option<String>,
    pub(crate) line: String,
    pub(crate) time: Time,
}

/// A moment: for machines and for people.
#[derive(Clone, Debug)]
pub(crate) struct Time {
    pub(crate) iso: String,
    pub(crate) text: String,
}

/// The signed tree head that a page speaks for.
#[derive(Clone, Debug)]
pub(crate) struct CheckpointView {
    pub(crate) tree_size: u64,
    pub(crate) root_hash: String,
    pub(crate) origin: String,
    pub(crate) note: String,
}

/// `/`
#[derive(Template)]
#[template(path = "home.html")]
pub(crate) struct HomePage {
    pub(crate) frame: Frame,
    pub(crate) health: Health,
    pub(crate) checkpoint: Option<CheckpointView>,
    pub(crate) recent: Vec<RecentEntry>,
    /// Whether the visitor's key may read entries at all.
    pub(crate) may_read: bool,
    pub(crate) problem: Option<Problem>,
}

/// A choice of a select element.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) value: String,
    pub(crate) label: String,
    pub(crate) selected: bool,
}

/// The studio's form as it was sent, or its defaults.
#[derive(Clone, Debug)]
pub(crate) struct StudioForm {
    pub(crate) prompt: String,
    pub(crate) takes_prompt: bool,
    pub(crate) prompt_chars_max: usize,
    pub(crate) negative_prompt: String,
    pub(crate) seed: String,
    pub(crate) steps: String,
    pub(crate) steps_max: u32,
    pub(crate) guidance_scale: String,
    pub(crate) count: String,
    pub(crate) count_max: u32,
    pub(crate) schedulers: Vec<Choice>,
}

/// One generated image with its provenance.
#[derive(Clone, Debug)]
pub(crate) struct GeneratedView {
    pub(crate) index: u64,
    pub(crate) picture: String,
    pub(crate) alt: String,
    pub(crate) download: String,
    /// File name that the command expects.
    pub(crate) download_name: String,
    pub(crate) bundle: String,
    pub(crate) bundle_name: String,
    pub(crate) facts: Vec<Fact>,
    pub(crate) command: String,
    pub(crate) strip: Option<Strip>,
}

/// `/studio`
#[derive(Template)]
#[template(path = "studio.html")]
pub(crate) struct StudioPage {
    pub(crate) frame: Frame,
    pub(crate) model: String,
    pub(crate) form: StudioForm,
    pub(crate) problem: Option<Problem>,
    pub(crate) notes: Vec<String>,
    pub(crate) images: Vec<GeneratedView>,
}

/// One line of evidence.
#[derive(Clone, Debug)]
pub(crate) struct EvidenceView {
    pub(crate) title: String,
    pub(crate) finding: String,
    pub(crate) limits: String,
    /// `found`, `clear` or `unknown`.
    pub(crate) state_class: &'static str,
    pub(crate) state: &'static str,
    pub(crate) link: Option<String>,
}

/// One rectangle of the heatmap, in pixels of the shown picture.
#[derive(Clone, Debug)]
pub(crate) struct HeatCell {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) width: f32,
    pub(crate) height: f32,
    /// Colour, from 0 (least like diffusion output) to 8.
    pub(crate) step: u8,
    pub(crate) label: String,
}

/// The examined picture with the heat above it.
#[derive(Clone, Debug)]
pub(crate) struct HeatmapView {
    /// None where the upload is not kept any more.
    pub(crate) picture: Option<String>,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) cells: Vec<HeatCell>,
    pub(crate) caption: String,
    pub(crate) alt: String,
}

/// The calibrated probability on its scale.
#[derive(Clone, Debug)]
pub(crate) struct ProbabilityView {
    pub(crate) percent: String,
    pub(crate) meaning: String,
    /// Places on a scale of 0 to 100.
    pub(crate) marker: String,
    pub(crate) lower: String,
    pub(crate) upper: String,
    pub(crate) lower_text: String,
    pub(crate) upper_text: String,
}

/// The entry of this ledger that states the upload's digest.
#[derive(Clone, Debug)]
pub(crate) struct OwnEntryView {
    pub(crate) finding: String,
    pub(crate) link: String,
}

/// The trace curve against the range of photographs, in units of its drawing.
#[derive(Clone, Debug)]
pub(crate) struct CurveView {
    pub(crate) width: f64,
    pub(crate) height: f64,
    /// Corners of the range.
    pub(crate) band: String,
    /// Corners of the range's middle.
    pub(crate) median: String,
    /// Corners of the picture's curve.
    pub(crate) line: String,
    pub(crate) dots: Vec<(String, String)>,
    /// Ticks along the noise levels: place and text.
    pub(crate) levels: Vec<(String, String)>,
    /// Ticks along the sizes: place and text.
    pub(crate) sizes: Vec<(String, String)>,
    pub(crate) alt: String,
    pub(crate) caption: String,
}

/// What was found about one upload.
#[derive(Clone, Debug)]
pub(crate) struct Findings {
    pub(crate) file_name: String,
    pub(crate) verdict: &'static str,
    /// `generated`, `not-generated` or `inconclusive`.
    pub(crate) verdict_class: &'static str,
    pub(crate) reason: String,
    pub(crate) means: &'static str,
    pub(crate) means_not: &'static str,
    pub(crate) probability: Option<ProbabilityView>,
    pub(crate) own_entry: Option<OwnEntryView>,
    pub(crate) evidence: Vec<EvidenceView>,
    pub(crate) heatmap: HeatmapView,
    pub(crate) curve: Option<CurveView>,
    /// What was done to the picture before it was examined.
    pub(crate) notes: Vec<String>,
    pub(crate) strips: Vec<Strip>,
}

/// The answer to one upload.
#[derive(Clone, Debug)]
pub(crate) struct ReviewResult {
    pub(crate) entry_index: u64,
    pub(crate) bundle: String,
    pub(crate) bundle_name: String,
    pub(crate) facts: Vec<Fact>,
    pub(crate) command: String,
    /// The case that was opened with it.
    pub(crate) case: Option<i64>,
}

/// `/review`
#[derive(Template)]
#[template(path = "review.html")]
pub(crate) struct ReviewPage {
    pub(crate) frame: Frame,
    pub(crate) bytes_max: u64,
    pub(crate) limits: String,
    pub(crate) scope: &'static str,
    pub(crate) note: String,
    pub(crate) note_chars_max: usize,
    pub(crate) problem: Option<Problem>,
    pub(crate) found: Option<Findings>,
    pub(crate) result: Option<ReviewResult>,
}

/// The ledger's search form as it was sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct SearchForm {
    pub(crate) kinds: Vec<Choice>,
    pub(crate) verdicts: Vec<Choice>,
    pub(crate) keys: Vec<Choice>,
    pub(crate) model: String,
    pub(crate) client: String,
    pub(crate) digest: String,
    pub(crate) prompt: String,
    pub(crate) like: String,
    pub(crate) distance: String,
    pub(crate) distance_max: u32,
    pub(crate) from: String,
    pub(crate) to: String,
    /// Whether any condition was set.
    pub(crate) active: bool,
    /// The field that was refused, and why.
    pub(crate) refused: Option<(&'static str, String)>,
}

impl SearchForm {
    /// Why this field was refused, if it was.
    pub(crate) fn refusal(&self, field: &str) -> Option<&str> {
        let (refused, why) = self.refused.as_ref()?;
        (*refused == field).then_some(why)
    }
}

/// One row of the ledger's table.
#[derive(Clone, Debug)]
pub(crate) struct EntryRow {
    pub(crate) index: u64,
    pub(crate) time: Time,
    pub(crate) kind: &'static str,
    pub(crate) kind_class: &'static str,
    pub(crate) subject: String,
    pub(crate) client: String,
    pub(crate) digest: String,
    pub(crate) digest_short: String,
    /// Whether a later entry says that this one is not to be believed.
    pub(crate) is_taken_back: bool,
}

/// `/ledger`
#[derive(Template)]
#[template(path = "ledger.html")]
pub(crate) struct LedgerPage {
    pub(crate) frame: Frame,
    pub(crate) search: SearchForm,
    pub(crate) rows: Vec<EntryRow>,
    pub(crate) checkpoint: Option<CheckpointView>,
    /// Where all that was found is downloaded.
    pub(crate) exports: Vec<ExportLink>,
    /// Address of the next page.
    pub(crate) next: Option<String>,
    /// Address of the first page when this is a later one.
    pub(crate) first: Option<String>,
    /// Which key signs which entries.
    pub(crate) keys: Vec<SigningKey>,
    /// Which key signs which checkpoints.
    pub(crate) checkpoint_keys: Vec<SigningKey>,
    pub(crate) problem: Option<Problem>,
}

/// One encoding of the results of a search.
pub(crate) struct ExportLink {
    pub(crate) label: &'static str,
    pub(crate) address: String,
}

/// A key that signs entries, or checkpoints.
pub(crate) struct SigningKey {
    pub(crate) name: String,
    pub(crate) validity: String,
    pub(crate) revoked: Option<String>,
}

/// The later entry which says that one is not to be believed.
pub(crate) struct TakenBack {
    pub(crate) by: u64,
    pub(crate) key: String,
    /// The first and the last entry that it takes back.
    pub(crate) since: u64,
    pub(crate) last: u64,
    pub(crate) reason: String,
}

/// `/ledger/{index}`
#[derive(Template)]
#[template(path = "entry.html")]
pub(crate) struct EntryPage {
    pub(crate) frame: Frame,
    pub(crate) index: u64,
    pub(crate) kind: &'static str,
    pub(crate) kind_class: &'static str,
    pub(crate) summary: String,
    pub(crate) taken_back: Option<TakenBack>,
    pub(crate) picture: Option<String>,
    pub(crate) download: Option<String>,
    pub(crate) download_name: String,
    pub(crate) facts: Vec<Fact>,
    pub(crate) model_files: Vec<Part>,
    pub(crate) leaf_hash: String,
    pub(crate) proof: Vec<String>,
    pub(crate) checkpoint: CheckpointView,
    pub(crate) bundle: String,
    pub(crate) commands: Vec<Command>,
    pub(crate) payload: String,
}

/// A name and a digest that are both data: a file of the model and its digest.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// A command that the reader can run, with what it shows.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) purpose: &'static str,
    pub(crate) text: String,
}

/// `/sign-in`
#[derive(Template)]
#[template(path = "sign_in.html")]
pub(crate) struct SignInPage {
    pub(crate) frame: Frame,
    /// Where to go afterwards; a path of this service.
    pub(crate) next: String,
    pub(crate) problem: Option<Problem>,
}

/// Any refusal that has no form to stand in.
#[derive(Template)]
#[template(path = "problem.html")]
pub(crate) struct ProblemPage {
    pub(crate) frame: Frame,
    pub(crate) status: u16,
    pub(crate) problem: Problem,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame {
            title: "Test".to_owned(),
            place: Place::Studio,
            client: Some("<b>client</b>".to_owned()),
            keys_exist: true,
        }
    }

    fn form(prompt: &str) -> StudioForm {
        StudioForm {
            prompt: prompt.to_owned(),
            takes_prompt: true,
            prompt_chars_max: 1000,
            negative_prompt: prompt.to_owned(),
            seed: String::new(),
            steps: "30".to_owned(),
            steps_max: 100,
            guidance_scale: "5".to_owned(),
            count: "1".to_owned(),
            count_max: 4,
            schedulers: Vec::new(),
        }
    }

    #[test]
    fn the_studio_escapes_the_prompt_and_everything_else_that_people_write() {
        let hostile = "</textarea><script>alert(1)</script>\" onfocus=\"alert(2)";
        let page = StudioPage {
            frame: frame(),
            model: hostile.to_owned(),
            form: form(hostile),
            problem: Some(Problem {
                title: hostile.to_owned(),
                detail: hostile.to_owned(),
            }),
            notes: vec![hostile.to_owned()],
            images: Vec::new(),
        };
        let html = page.render().unwrap();
        assert!(!html.contains("<script>alert"), "{html}");
        assert!(!html.contains("<b>client</b>"), "{html}");
        assert!(!html.contains("\" onfocus=\""), "{html}");
    }

    #[test]
    fn a_refused_request_keeps_what_was_written() {
        let page = StudioPage {
            frame: frame(),
            model: "model".to_owned(),
            form: form("a red heart"),
            problem: Some(Problem {
                title: "Refused".to_owned(),
                detail: "steps 900 is over the limit of 100".to_owned(),
            }),
            notes: Vec::new(),
            images: Vec::new(),
        };
        let html = page.render().unwrap();
        assert!(html.contains(">a red heart</textarea>"), "{html}");
        assert!(html.contains("over the limit of 100"), "{html}");
        assert!(html.contains("role=\"alert\""), "{html}");
    }

    #[test]
    fn the_navigation_says_where_the_reader_is() {
        let html = ProblemPage {
            frame: Frame {
                place: Place::Ledger,
                ..frame()
            },
            status: 404,
            problem: Problem {
                title: "No such entry".to_owned(),
                detail: String::new(),
            },
        };
        let html = html.render().unwrap();
        assert!(
            html.contains("href=\"/ledger\" aria-current=\"page\""),
            "{html}"
        );
        assert_eq!(html.matches("aria-current=\"page\"").count(), 1);
    }

    #[test]
    fn pages_load_nothing_from_elsewhere() {
        let html = SignInPage {
            frame: frame(),
            next: "/".to_owned(),
            problem: None,
        };
        let html = html.render().unwrap();
        for attribute in ["src=\"", "href=\""] {
            for part in html.split(attribute).skip(1) {
                assert!(part.starts_with('/') || part.starts_with('#'), "{part}");
            }
        }
        assert!(
            !html.contains("style=\"") && !html.contains("onclick"),
            "{html}"
        );
    }
}
