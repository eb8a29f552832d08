//! What the pages of review cases show.

use askama::Template;

use super::view::{Fact, Findings, Frame, Place, Problem, Time};

/// One row of the list.
#[derive(Clone, Debug)]
pub(crate) struct CaseRow {
    pub(crate) id: i64,
    pub(crate) opened: Time,
    pub(crate) client: String,
    pub(crate) verdict: &'static str,
    pub(crate) state: &'static str,
    /// `open` or `closed`.
    pub(crate) state_class: &'static str,
    pub(crate) decision: &'static str,
    pub(crate) upload: &'static str,
}

/// `/cases`
#[derive(Template)]
#[template(path = "cases.html")]
pub(crate) struct CasesPage {
    pub(crate) frame: Frame,
    /// `open`, `closed` or nothing.
    pub(crate) state: &'static str,
    /// Whether the visitor sees the cases of all clients.
    pub(crate) sees_all: bool,
    pub(crate) rows: Vec<CaseRow>,
    /// Address of the next page.
    pub(crate) next: Option<String>,
}

/// A note.
#[derive(Clone, Debug)]
pub(crate) struct NoteView {
    pub(crate) author: String,
    pub(crate) time: Time,
    pub(crate) text: String,
}

/// How a case was closed.
#[derive(Clone, Debug)]
pub(crate) struct ClosingView {
    pub(crate) decision: &'static str,
    pub(crate) by: String,
    pub(crate) time: Time,
}

/// A decision to choose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecisionView {
    pub(crate) value: &'static str,
    pub(crate) label: &'static str,
}

/// `/cases/{id}`
#[derive(Template)]
#[template(path = "case.html")]
pub(crate) struct CasePage {
    pub(crate) frame: Frame,
    pub(crate) id: i64,
    pub(crate) opened: Time,
    pub(crate) client: String,
    pub(crate) entry_index: u64,
    pub(crate) closing: Option<ClosingView>,
    pub(crate) decisions: Vec<DecisionView>,
    pub(crate) notes: Vec<NoteView>,
    pub(crate) note_chars_max: usize,
    /// What the form held when it was refused.
    pub(crate) note: String,
    pub(crate) problem: Option<Problem>,
    /// None where the report cannot be read any more.
    pub(crate) found: Option<Findings>,
    /// Why the upload is not shown.
    pub(crate) upload_missing: Option<String>,
    pub(crate) may_change: bool,
    /// Whether the upload can be erased.
    pub(crate) may_erase: bool,
    /// Whether pictures of the process can be asked for.
    pub(crate) offers_process: bool,
    /// What the reader must know about these pictures.
    pub(crate) process_note: Option<String>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) command: String,
    pub(crate) bundle: String,
}
