//! `/`

use ::ledger::{EntryFilter, RecordedEntry, Scope};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use onnx::Provider;
use provenance::Entry;

use super::view::{Health, HomePage, Level, Place, RecentEntry};
use super::visitor::{Visitor, shown_error};
use super::{present, respond};
use crate::state::{AppState, SequencerStatus};
use crate::work;

/// Two rows of the first page on a wide window.
const RECENT_ENTRIES: u32 = 12;

/// What this is, how it is, and the newest entries for those who may read them.
pub(super) async fn show(visitor: Visitor) -> HttpResponse {
    let page = work::search(&visitor.state, EntryFilter::default(), None, RECENT_ENTRIES).await;
    let may_read = visitor.caller.may(Scope::Audit);
    let (entries, checkpoint, problem) = match page {
        Ok(page) => (page.entries, page.checkpoint, None),
        Err(error) => (Vec::new(), None, Some(shown_error(error).1)),
    };
    let checkpoint = checkpoint.as_ref().map(present::checkpoint);
    let entries_recorded = checkpoint
        .as_ref()
        .map_or(0, |checkpoint| checkpoint.tree_size);
    let health = match problem {
        Some(_) => Health {
            level: Level::Bad,
            line: "The ledger does not answer.".to_owned(),
        },
        None => health(&visitor.state, entries_recorded).await,
    };
    let home = HomePage {
        frame: visitor.frame("Follow a picture back", Place::Home),
        health,
        checkpoint,
        recent: entries.iter().filter(|_| may_read).map(recent).collect(),
        may_read,
        problem,
    };
    respond::page(StatusCode::OK, &home)
}

fn recent(recorded: &RecordedEntry) -> RecentEntry {
    let index = recorded.leaf_index.get();
    let entry = &recorded.entry;
    let is_generation = matches!(entry, Entry::Generation(_));
    RecentEntry {
        index,
        kind: present::kind(entry),
        kind_class: entry.kind(),
        picture: is_generation.then(|| present::image_address(index)),
        line: present::line(entry),
        time: present::time(entry.created_at_ms()),
    }
}

/// The state of the parts in one line; the worst of them decides the colour.
async fn health(state: &AppState, entries: u64) -> Health {
    let health = crate::health::health(state).await;
    if *state.sequencer.borrow() == SequencerStatus::Ended {
        let line = "Nothing more is recorded: the sequencer has stopped. See the service's log.";
        return Health {
            level: Level::Bad,
            line: line.to_owned(),
        };
    }
    let place = match state.engine.provider_status().used {
        Provider::Cpu => "the processor",
        Provider::Cuda => "the GPU",
    };
    let generator = health
        .generator
        .map(|model| format!("images by {} on {place}", model.name));
    let detector = health.detector.map(|model| {
        format!(
            "scores by {} {}",
            model.name,
            model.version.unwrap_or_default()
        )
    });
    let recorded = Some(format!("{} recorded", present::entries(entries)));
    let parts = [generator, detector, recorded].into_iter().flatten();
    let parts = parts
        .chain(health.warnings.iter().cloned())
        .collect::<Vec<_>>()
        .join(", ");
    if health.warnings.is_empty() {
        Health {
            level: Level::Good,
            line: format!("Ready: {parts}."),
        }
    } else {
        Health {
            level: Level::Warning,
            line: format!("Working with limits: {parts}."),
        }
    }
}
