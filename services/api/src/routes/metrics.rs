//! `/metrics`: counters and sizes in the text format of Prometheus. Open wherever `/healthz` is; nothing
//! in it says who did what.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::{HttpResponse, web};

use crate::metrics::{Gauge, render};
use crate::state::{AppState, SequencerStatus};
use crate::work;
use crate::{checkpoint_stamps, cosigning, time_stamps};

/// Media type of the format.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counters, durations and sizes for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(state: web::Data<AppState>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(MEDIA_TYPE)
        .body(render(&gauges(&state).await))
}

fn count(name: &'static str, help: &'static str, counter: &AtomicU64) -> Gauge {
    Gauge {
        name,
        help,
        labels: "",
        value: counter.load(Ordering::Relaxed),
    }
}

/// Sizes of the process, and those of the ledger when it answers.
async fn gauges(state: &Arc<AppState>) -> Vec<Gauge> {
    let sequencer = *state.sequencer.borrow() == SequencerStatus::Running;
    let waiting = "Requests that wait for their turn.";
    let turns = |labels, value: usize| Gauge {
        name: "retrace_turns_waiting",
        help: waiting,
        labels,
        value: value as u64,
    };
    let mut gauges = vec![
        turns("work=\"generation\"", state.generations.waiting()),
        turns("work=\"score\"", state.scores.waiting()),
        turns("work=\"upload\"", state.uploads.waiting()),
        Gauge {
            name: "retrace_sequencer_running",
            help: "Whether this process sequences, or stands by to.",
            labels: "",
            value: sequencer.into(),
        },
        count(
            "retrace_cosignatures",
            "Cosignatures of witnesses that this process has fetched.",
            &cosigning::COSIGNATURES,
        ),
        count(
            "retrace_cosigning_failures",
            "Times that a witness did not cosign when this process asked.",
            &cosigning::FAILURES,
        ),
        count(
            "retrace_time_stamps",
            "Files whose signature the time-stamping authority stamped in this process.",
            &time_stamps::STAMPS,
        ),
        count(
            "retrace_time_stamp_failures",
            "Files for which the time-stamping authority gave no stamp in this process.",
            &time_stamps::FAILURES,
        ),
        count(
            "retrace_checkpoint_time_stamps",
            "Checkpoints that the time-stamping authority stamped for this process.",
            &checkpoint_stamps::STAMPS,
        ),
        count(
            "retrace_checkpoint_time_stamp_failures",
            "Times that the time-stamping authority gave this process no stamp of a checkpoint.",
            &checkpoint_stamps::FAILURES,
        ),
    ];
    // The rest is worth reading when the database is down.
    let ledger = work::gauges(state).await.ok();
    gauges.push(Gauge {
        name: "retrace_ledger_up",
        help: "Whether the database answers.",
        labels: "",
        value: ledger.is_some().into(),
    });
    let Some(ledger) = ledger else {
        return gauges;
    };
    let gauge = |name, help, labels, value| Gauge {
        name,
        help,
        labels,
        value,
    };
    let jobs = "Jobs that have not ended.";
    gauges.extend([
        gauge(
            "retrace_log_entries",
            "Entries that the newest checkpoint covers.",
            "",
            ledger.entries,
        ),
        gauge(
            "retrace_log_batch_entries",
            "Entries that the newest checkpoint added.",
            "",
            ledger.batch_entries,
        ),
        gauge(
            "retrace_log_pending_entries",
            "Entries that wait for the sequencer.",
            "",
            ledger.pending,
        ),
        gauge(
            "retrace_jobs",
            jobs,
            "state=\"waiting\"",
            ledger.jobs_waiting,
        ),
        gauge(
            "retrace_jobs",
            jobs,
            "state=\"running\"",
            ledger.jobs_running,
        ),
    ]);
    gauges
}
