//! `GET /v1/entries/export`: all entries of a search in one file with a signed manifest.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use futures_util::stream::unfold;
use ledger::{EntryFilter, Scope};
use provenance::{ExportEncoding, TreeSize};
use tokio::sync::Semaphore;

use super::entries::EntryQuery;
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody, kinds};
use crate::state::AppState;
use crate::work::{self, ExportOrder};

/// Exports that may run at once: each holds a connection of the database now and then, and a core.
const EXPORTS_RUNNING_MAX: usize = 2;
/// Seconds after which another try makes sense.
const RETRY_S: u64 = 30;
static EXPORTS: Semaphore = Semaphore::const_new(EXPORTS_RUNNING_MAX);

/// Parameters of a search that an export has no use for: it has no pages.
const PAGE_PARAMETERS: [&str; 3] = ["after", "limit", "order"];

/// Export a search as NDJSON, CSV or Parquet, oldest first, ending in a signed manifest. An export without its
/// end is not whole.
#[utoipa::path(
    get,
    path = "/v1/entries/export",
    tag = "audit",
    params(
        ("encoding" = Option<String>, Query, description = "`ndjson` (the default), `csv` or `parquet`"),
        ("tree_size" = Option<u64>, Query, description = "Size of a published checkpoint; the newest when left out"),
        EntryQuery
    ),
    responses(
        (status = 200, body = String, content_type = "application/x-ndjson"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["audit"]))
)]
pub(super) async fn export(
    state: web::Data<AppState>,
    caller: Caller,
    query: web::Query<BTreeMap<String, String>>,
) -> Result<HttpResponse, Problem> {
    caller.require(Scope::Audit)?;
    export_answer(&state, parse(query.into_inner())?).await
}

/// The export as it is made, page by page.
///
/// # Errors
/// When too many run already, or there is no such checkpoint.
pub(crate) async fn export_answer(
    state: &Arc<AppState>,
    order: ExportOrder,
) -> Result<HttpResponse, Problem> {
    let (media_type, file_name) = match order.encoding {
        ExportEncoding::Ndjson => ("application/x-ndjson", "retrace-entries.ndjson"),
        ExportEncoding::Csv => ("text/csv; charset=utf-8", "retrace-entries.csv"),
        ExportEncoding::Parquet => ("application/vnd.apache.parquet", "retrace-entries.parquet"),
    };
    let permit = EXPORTS.try_acquire().map_err(|_| {
        let detail = format!("{EXPORTS_RUNNING_MAX} exports (exports_running_max) run already");
        Problem::new(kinds::OVERLOADED, detail).retry_after(RETRY_S)
    })?;
    let pages = work::export(state, order, permit).await?;
    // An error in the middle breaks the answer off: the problem is logged, and the manifest is missing.
    let body = unfold(pages, |mut pages| async move {
        let page = pages.recv().await?;
        Some((page.map(Bytes::from).map_err(Problem::from), pages))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media_type))
        .insert_header((
            CONTENT_DISPOSITION,
            format!("attachment; filename=\"{file_name}\""),
        ))
        // A proxy that collects the whole answer first would defeat the stream.
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(Box::pin(body)))
}

/// What is asked of an export beside the conditions of its search.
pub(crate) struct ExportTerms {
    encoding: ExportEncoding,
    tree_size: Option<TreeSize>,
}

impl ExportTerms {
    /// Takes them out of the parameters of a request.
    ///
    /// # Errors
    /// Names the parameter that means nothing.
    pub(crate) fn take(parameters: &mut BTreeMap<String, String>) -> Result<Self, Problem> {
        let encoding = match parameters.remove("encoding").as_deref() {
            None | Some("ndjson") => ExportEncoding::Ndjson,
            Some("csv") => ExportEncoding::Csv,
            Some("parquet") => ExportEncoding::Parquet,
            Some(_) => {
                let detail = "encoding must be ndjson, csv or parquet";
                return Err(Problem::invalid("encoding", detail));
            }
        };
        let tree_size = parameters
            .remove("tree_size")
            .map(|text| text.parse().map(TreeSize::new))
            .transpose()
            .map_err(|_| Problem::invalid("tree_size", "tree_size must be a number"))?;
        Ok(Self {
            encoding,
            tree_size,
        })
    }

    /// The order for a search with this filter, whose conditions the manifest states so.
    pub(crate) fn order(
        self,
        filter: EntryFilter,
        conditions: BTreeMap<String, String>,
    ) -> ExportOrder {
        ExportOrder {
            encoding: self.encoding,
            filter,
            conditions,
            tree_size: self.tree_size,
        }
    }
}

fn parse(mut parameters: BTreeMap<String, String>) -> Result<ExportOrder, Problem> {
    let terms = ExportTerms::take(&mut parameters)?;
    if let Some(name) = PAGE_PARAMETERS
        .into_iter()
        .find(|name| parameters.contains_key(*name))
    {
        let detail = format!("an export has no pages, so {name} means nothing here");
        return Err(Problem::invalid(name, detail));
    }
    let unreadable = |detail: String| Problem::new(kinds::INVALID_REQUEST, detail);
    let text =
        serde_urlencoded::to_string(&parameters).map_err(|error| unreadable(error.to_string()))?;
    let query: EntryQuery =
        serde_urlencoded::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    Ok(terms.order(query.filter()?, parameters))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &str) -> Result<ExportOrder, Problem> {
        parse(serde_urlencoded::from_str(query).unwrap())
    }

    #[test]
    fn an_export_takes_the_conditions_of_a_search_and_states_them() {
        let order = parsed("encoding=csv&kind=score&client=a%26b&tree_size=7").unwrap();
        assert_eq!(order.encoding, ExportEncoding::Csv);
        assert_eq!(order.filter.kind.as_deref(), Some("score"));
        assert_eq!(order.filter.client.as_deref(), Some("a&b"));
        assert_eq!(order.tree_size, Some(TreeSize::new(7)));
        let stated: Vec<&str> = order.conditions.keys().map(String::as_str).collect();
        assert_eq!(stated, ["client", "kind"]);
    }

    #[test]
    fn an_export_refuses_pages_and_unknown_parameters() {
        for refused in [
            "limit=5",
            "after=5",
            "order=asc",
            "encoding=xml",
            "tree_size=x",
            "tree_size=-1",
            "kind=banana",
            "nothing=1",
        ] {
            assert!(parsed(refused).is_err(), "{refused}");
        }
    }
}
