//! `/ledger/{index}`

use ::ledger::{RecordedEntry, Scope};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use provenance::{Entry, LeafIndex};

use super::view::{EntryPage, Place, TakenBack};
use super::visitor::{PageError, Visitor};
use super::{present, respond};
use crate::problem::{Problem, kinds};
use crate::work;

/// One entry with its proof.
pub(super) async fn show(
    visitor: Visitor,
    index: web::Path<String>,
) -> Result<HttpResponse, PageError> {
    let index = parse(&visitor, &index)?;
    let state = &visitor.state;
    let recorded = work::entry(state, index)
        .await
        .map_err(|error| visitor.refuse(error))?;
    let proof = work::entry_proof(state, index, None).await;
    let proof = proof.map_err(|error| visitor.refuse(error))?;
    let taken_back = taken_back(&visitor, &recorded).await?;
    let has_image = matches!(recorded.entry, Entry::Generation(_))
        && work::entry_image(state, index).await.is_ok();
    let number = index.get();
    let image = has_image.then(|| present::image_address(number));
    let page = EntryPage {
        frame: visitor.frame(format!("Entry {number}"), Place::Ledger),
        index: number,
        kind: present::kind(&recorded.entry),
        kind_class: recorded.entry.kind(),
        summary: present::summary(&recorded.entry),
        taken_back,
        picture: image.clone(),
        download: image,
        download_name: present::image_name(number),
        facts: present::facts(&recorded.entry),
        model_files: present::model_files(&recorded.entry),
        leaf_hash: recorded.leaf_hash.to_string(),
        proof: proof.hashes.iter().map(ToString::to_string).collect(),
        checkpoint: present::checkpoint(&proof.checkpoint),
        bundle: present::bundle_address(number),
        commands: present::commands(number, &recorded.entry),
        payload: present::json(recorded.envelope.payload()),
    };
    Ok(respond::page(StatusCode::OK, &page))
}

/// That a later entry says this one is not to be believed, where one does. Statements about keys stay.
async fn taken_back(
    visitor: &Visitor,
    recorded: &RecordedEntry,
) -> Result<Option<TakenBack>, PageError> {
    if recorded.entry.is_key_statement() {
        return Ok(None);
    }
    let history = work::key_history(&visitor.state).await;
    let history = history.map_err(|error| visitor.refuse(error))?;
    let key = history.key(recorded.envelope.key_id());
    let place = recorded.leaf_index;
    Ok(key.and_then(|key| present::taken_back(key, place)))
}

fn parse(visitor: &Visitor, index: &str) -> Result<LeafIndex, PageError> {
    visitor.require(Scope::Audit)?;
    index.parse().map(LeafIndex::new).map_err(|_| {
        visitor.refuse(Problem::new(
            kinds::NOT_FOUND,
            "an entry is named by its leaf index, a number",
        ))
    })
}
