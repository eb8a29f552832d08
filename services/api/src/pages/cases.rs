//! `/cases`

use ::ledger::{Case, CaseId, Decision, Scope};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::case_view::{CaseRow, CasesPage};
use super::view::Place;
use super::visitor::{PageError, Visitor};
use super::{present, present_score, respond};
use crate::work::{self, CaseList, ScoreReport};

/// Which cases the address asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields {
    state: String,
    before: Option<i64>,
}

/// One page of the cases that the visitor may see.
pub(super) async fn show(
    visitor: Visitor,
    fields: web::Query<Fields>,
) -> Result<HttpResponse, PageError> {
    let sees_all = visitor.caller.may(Scope::Audit);
    if !sees_all {
        visitor.require(Scope::Score)?;
    }
    let (state, open) = match fields.state.as_str() {
        "open" => ("open", Some(true)),
        "closed" => ("closed", Some(false)),
        _ => ("", None),
    };
    let asked = CaseList {
        open,
        before: fields.before.map(CaseId::new),
        limit: None,
    };
    let listed = work::list_cases(&visitor.state, &visitor.caller, asked).await;
    let listed = listed.map_err(|error| visitor.refuse(error))?;
    let next = listed.next.map(|next| {
        let state = if state.is_empty() {
            String::new()
        } else {
            format!("state={state}&")
        };
        format!("/cases?{state}before={next}")
    });
    let page = CasesPage {
        frame: visitor.frame("Cases", Place::Cases),
        state,
        sees_all,
        rows: listed.cases.iter().map(row).collect(),
        next,
    };
    Ok(respond::page(StatusCode::OK, &page))
}

fn row(case: &Case) -> CaseRow {
    let report: Option<ScoreReport> = serde_json::from_str(&case.report).ok();
    let verdict = report.map(|report| present_score::verdict(report.assessment.verdict).0);
    let (state, state_class) = match case.closing {
        Some(_) => ("Closed", "closed"),
        None => ("Open", "open"),
    };
    let decided = case.closing.as_ref().map(|closing| closing.decision);
    CaseRow {
        id: case.id.get(),
        opened: present::time(case.opened_at_ms),
        client: case.client.clone(),
        verdict: verdict.unwrap_or("not readable"),
        state,
        state_class,
        decision: decided.map_or("–", decision),
        upload: match (case.has_upload(), case.erased_at_ms) {
            (true, _) => "kept",
            (false, Some(_)) => "erased",
            (false, None) => "not kept",
        },
    }
}

/// A decision in the words of the pages.
pub(super) fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Generated => "Generated",
        Decision::NotGenerated => "Not generated",
        Decision::Undecided => "Undecided",
    }
}
