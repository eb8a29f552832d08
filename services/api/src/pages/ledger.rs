//! `/ledger`

use std::collections::BTreeMap;

use ::ledger::{EntryFilter, Order, Page, Scope};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError, web};
use provenance::LeafIndex;

use super::search::{DigestOf, SearchFields};
use super::view::{LedgerPage, Place};
use super::visitor::{PageError, Visitor, shown};
use super::{present, respond};
use crate::problem::{Problem, kinds};
use crate::routes;
use crate::work::{self, ExportOrder, WorkError};

/// Rows of one page.
const ROWS: u32 = 50;

/// One page of the search's result.
pub(super) async fn show(
    visitor: Visitor,
    fields: web::Query<SearchFields>,
) -> Result<HttpResponse, PageError> {
    visitor.require(Scope::Audit)?;
    let mut page = LedgerPage {
        frame: visitor.frame("Ledger", Place::Ledger),
        search: fields.form(&[]),
        rows: Vec::new(),
        checkpoint: None,
        next: None,
        first: fields.after().is_some().then(|| fields.link(None, None)),
        exports: Vec::new(),
        keys: Vec::new(),
        checkpoint_keys: Vec::new(),
        problem: None,
    };
    let history = match work::key_history(&visitor.state).await {
        Ok(history) => history,
        Err(error) => return Ok(refuse(page, &Problem::from(error))),
    };
    page.search = fields.form(history.keys());
    page.keys = history.keys().iter().map(present::signing_key).collect();
    let checkpoint_keys = history.checkpoints().keys().iter();
    page.checkpoint_keys = checkpoint_keys.map(present::checkpoint_key).collect();
    let filter = match fields.parse() {
        Ok(filter) => filter,
        Err(problem) => return Ok(refuse(page, &problem)),
    };
    match find(&visitor, &fields, filter).await {
        Ok((found, by)) => {
            let rows = found.entries.iter();
            page.rows = rows
                .map(|row| {
                    let taken_back = history.has_taken_back(row.leaf_index);
                    let is_taken_back = taken_back && !row.entry.is_key_statement();
                    present::row(row.leaf_index.get(), &row.entry, is_taken_back)
                })
                .collect();
            page.checkpoint = found.checkpoint.as_ref().map(present::checkpoint);
            if let (Some(head), false) = (&page.checkpoint, page.rows.is_empty()) {
                page.exports = fields.exports(by, head.tree_size);
            }
            page.next = found.next.map(|next| fields.link(Some(next.get()), by));
            Ok(respond::page(StatusCode::OK, &page))
        }
        Err(error) => Ok(refuse(page, &Problem::from(error))),
    }
}

/// Everything that a search finds, as a file with a signed end.
pub(super) async fn export(
    visitor: Visitor,
    query: web::Query<BTreeMap<String, String>>,
) -> Result<HttpResponse, PageError> {
    visitor.require(Scope::Audit)?;
    let order = export_order(query.into_inner()).map_err(|problem| visitor.refuse(problem))?;
    let answer = routes::export_answer(&visitor.state, order).await;
    answer.map_err(|problem| visitor.refuse(problem))
}

fn export_order(mut parameters: BTreeMap<String, String>) -> Result<ExportOrder, Problem> {
    let terms = routes::ExportTerms::take(&mut parameters)?;
    let unreadable = |detail: String| Problem::new(kinds::INVALID_REQUEST, detail);
    let text =
        serde_urlencoded::to_string(&parameters).map_err(|error| unreadable(error.to_string()))?;
    let fields: SearchFields =
        serde_urlencoded::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    let conditions = fields.all_conditions()?;
    Ok(terms.order(conditions.filter(Order::Descending)?, conditions.stated()))
}

/// Shows the form again, with the reason beside the field that was refused where there is one.
fn refuse(mut page: LedgerPage, problem: &Problem) -> HttpResponse {
    let status = problem.status_code();
    match problem.parameter.and_then(field) {
        Some(field) => page.search.refused = Some((field, shown(problem).detail)),
        None => page.problem = Some(shown(problem)),
    }
    respond::page(status, &page)
}

/// The field of the form that a parameter of the search comes from.
fn field(parameter: &str) -> Option<&'static str> {
    let fields = [
        ("from", "from"),
        ("to", "to"),
        ("kind", "kind"),
        ("verdict", "verdict"),
        ("key", "key"),
        ("digest", "digest"),
        ("prompt_commitment", "prompt"),
        ("perceptual_hash", "like"),
        ("near_entry", "like"),
        ("distance", "distance"),
    ];
    let named = fields.into_iter().find(|(name, _)| *name == parameter);
    named.map(|(_, field)| field)
}

/// Searches; a digest is looked up as that of a file first, then as that of pixels.
async fn find(
    visitor: &Visitor,
    fields: &SearchFields,
    filter: EntryFilter,
) -> Result<(Page, Option<DigestOf>), WorkError> {
    let after = fields.after().map(LeafIndex::new);
    let state = &visitor.state;
    let Some(digest) = fields.digest() else {
        return Ok((work::search(state, filter, after, ROWS).await?, None));
    };
    if fields.by() != Some(DigestOf::Pixels) {
        let by_file = EntryFilter {
            image_sha256: Some(digest),
            ..filter.clone()
        };
        let page = work::search(state, by_file, after, ROWS).await?;
        if !page.entries.is_empty() || fields.by().is_some() {
            return Ok((page, Some(DigestOf::File)));
        }
    }
    let by_pixels = EntryFilter {
        pixel_sha256: Some(digest),
        ..filter
    };
    Ok((
        work::search(state, by_pixels, after, ROWS).await?,
        Some(DigestOf::Pixels),
    ))
}
