//! Jobs: claimed once, finished with their entries or not at all, whoever dies on the way.

use std::time::Duration;

use ledger::{
    ClaimedJob, EntryFilter, Heartbeat, Job, JobEventKind, JobHint, JobLimits, JobProgress,
    JobState, Ledger, LedgerError, NewJob, SignedEntry, WorkerTerms,
};
use provenance::Digest;

use crate::support::{TestLog, generation, secret, signed, until};

const LIMITS: JobLimits = JobLimits {
    jobs_waiting_max: 4,
    jobs_per_client_max: 3,
    job_order_bytes_max: 100,
};

fn terms(holder: &str) -> WorkerTerms {
    WorkerTerms {
        holder: holder.to_owned(),
        job_lease: Duration::from_secs(60),
        job_attempts_max: 2,
    }
}

/// A worker that is lost as soon as it has claimed.
fn dying() -> WorkerTerms {
    WorkerTerms {
        job_lease: Duration::ZERO,
        ..terms("dying")
    }
}

fn order<'a>(client: &'a str, request_id: &'a str) -> NewJob<'a> {
    NewJob {
        client,
        request_id,
        idempotency: None,
        images: 1,
        order: r#"{"prompt":"a red heart"}"#,
    }
}

async fn enqueue(ledger: &Ledger, request_id: &str) -> Job {
    let enqueued = ledger
        .enqueue_job(&order("alice", request_id), &LIMITS)
        .await
        .unwrap();
    assert!(enqueued.is_new);
    enqueued.job
}

async fn claim(ledger: &Ledger, terms: &WorkerTerms) -> ClaimedJob {
    ledger.claim_job(terms).await.unwrap().unwrap()
}

/// The entry that finishes a job.
fn entry_of(request_id: &str) -> Vec<SignedEntry> {
    vec![SignedEntry {
        envelope: signed(generation("alice", request_id)),
        secret: Some(secret()),
    }]
}

async fn entries_of(ledger: &Ledger, request_id: &str) -> usize {
    let filter = EntryFilter {
        request_id: Some(request_id.to_owned()),
        ..EntryFilter::default()
    };
    ledger
        .search(&filter, None, 10)
        .await
        .unwrap()
        .entries
        .len()
}

#[tokio::test]
async fn a_finished_job_has_succeeded_when_a_checkpoint_covers_its_entry_and_its_order_is_gone() {
    let log = TestLog::start().await;
    let job = enqueue(&log.ledger, "request").await;
    assert_eq!(
        (job.state, job.queue_position),
        (JobState::Waiting, Some(1))
    );
    let claimed = claim(&log.ledger, &terms("worker")).await;
    assert_eq!((&claimed.id, claimed.attempt), (&job.id, 1));
    assert!(claimed.order.contains("a red heart"));
    let progress = JobProgress {
        image_index: 0,
        step_index: 3,
        steps: 8,
    };
    let beat = log.ledger.heartbeat(&claimed, Some(progress)).await;
    assert_eq!(beat.unwrap(), Heartbeat::GoOn);
    log.ledger
        .finish_job(&claimed, &entry_of("request"), "{}")
        .await
        .unwrap();
    let recording = log.ledger.job(&job.id).await.unwrap();
    assert_eq!(recording.state, JobState::Recording);
    assert_eq!(recording.progress, Some(progress));

    let mut hints = log.ledger.watch_jobs().subscribe();
    let sequencer = log.sequencer();
    until(async || {
        hints
            .wait(
                |hint| *hint == JobHint::Published,
                Duration::from_millis(50),
            )
            .await;
        log.ledger.job(&job.id).await.unwrap().state == JobState::Succeeded
    })
    .await;
    assert_eq!(entries_of(&log.ledger, "request").await, 1);
    let (orders,): (i64,) = sqlx::query_as("SELECT count(client_order) FROM jobs")
        .fetch_one(&mut log.superuser().await)
        .await
        .unwrap();
    assert_eq!(orders, 0, "the prompt stays no longer than the work");
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_worker_that_was_lost_records_nothing_beside_its_successor() {
    let (log, sequencer) = TestLog::running().await;
    let job = enqueue(&log.ledger, "request").await;
    let lost = claim(&log.ledger, &dying()).await;
    let successor = claim(&log.ledger, &terms("successor")).await;
    assert_eq!((&successor.id, successor.attempt), (&job.id, 2));
    let late = log
        .ledger
        .finish_job(&lost, &entry_of("request"), "{}")
        .await;
    assert!(matches!(late, Err(LedgerError::JobLost)), "{late:?}");
    let late = log.ledger.heartbeat(&lost, None).await;
    assert!(matches!(late, Err(LedgerError::JobLost)), "{late:?}");
    log.ledger
        .finish_job(&successor, &entry_of("request"), "{}")
        .await
        .unwrap();
    let again = log
        .ledger
        .finish_job(&successor, &entry_of("request"), "{}")
        .await;
    assert!(matches!(again, Err(LedgerError::JobLost)), "{again:?}");
    until(async || log.ledger.job(&job.id).await.unwrap().state == JobState::Succeeded).await;
    assert_eq!(entries_of(&log.ledger, "request").await, 1);
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_job_that_no_worker_survives_fails_instead_of_going_round_for_ever() {
    let log = TestLog::start().await;
    let job = enqueue(&log.ledger, "request").await;
    claim(&log.ledger, &dying()).await;
    claim(&log.ledger, &dying()).await;
    assert!(log.ledger.claim_job(&dying()).await.unwrap().is_none());
    let failed = log.ledger.job(&job.id).await.unwrap();
    assert_eq!((failed.state, failed.attempts), (JobState::Failed, 2));
    assert!(failed.problem.unwrap().contains("worker-lost"));
    log.finish().await;
}

#[tokio::test]
async fn many_workers_claim_each_job_once() {
    let log = TestLog::start().await;
    for number in 0..3 {
        enqueue(&log.ledger, &format!("request-{number}")).await;
    }
    let claims: Vec<_> = (0..8)
        .map(|worker| {
            let (ledger, terms) = (log.ledger.clone(), terms(&format!("worker {worker}")));
            tokio::spawn(async move { ledger.claim_job(&terms).await })
        })
        .collect();
    let mut claimed = Vec::new();
    for claim in claims {
        claimed.extend(claim.await.unwrap().unwrap().map(|job| job.request_id));
    }
    claimed.sort();
    assert_eq!(claimed, ["request-0", "request-1", "request-2"]);
    log.finish().await;
}

#[tokio::test]
async fn a_cancelled_job_records_nothing_even_if_its_worker_was_done() {
    let log = TestLog::start().await;
    let waiting = enqueue(&log.ledger, "waiting").await;
    let gone = log.ledger.cancel_job(&waiting.id).await.unwrap();
    assert_eq!(gone.state, JobState::Cancelled);

    let running = enqueue(&log.ledger, "running").await;
    let claimed = claim(&log.ledger, &terms("worker")).await;
    let told = log.ledger.cancel_job(&running.id).await.unwrap();
    assert_eq!(
        (told.state, told.cancel_requested),
        (JobState::Running, true)
    );
    let beat = log.ledger.heartbeat(&claimed, None).await;
    assert_eq!(beat.unwrap(), Heartbeat::Cancel);
    let late = log
        .ledger
        .finish_job(&claimed, &entry_of("running"), "{}")
        .await;
    assert!(matches!(late, Err(LedgerError::JobLost)), "{late:?}");
    log.ledger.end_cancelled_job(&claimed).await.unwrap();
    let kinds: Vec<_> = log
        .ledger
        .job_events(&running.id, 1)
        .await
        .unwrap()
        .into_iter()
        .map(|event| event.kind)
        .collect();
    let expected = [
        JobEventKind::Running,
        JobEventKind::Cancelling,
        JobEventKind::Cancelled,
    ];
    assert_eq!(kinds, expected);
    log.finish().await;
}

#[tokio::test]
async fn a_job_that_is_handed_back_keeps_its_place_and_loses_no_attempt() {
    let log = TestLog::start().await;
    let first = enqueue(&log.ledger, "first").await;
    enqueue(&log.ledger, "second").await;
    let claimed = claim(&log.ledger, &terms("leaving")).await;
    log.ledger.hand_back_job(&claimed, None).await.unwrap();
    let back = log.ledger.job(&first.id).await.unwrap();
    assert_eq!((back.state, back.attempts), (JobState::Waiting, 0));
    assert_eq!(claim(&log.ledger, &terms("next")).await.id, first.id);
    log.finish().await;
}

#[tokio::test]
async fn a_pause_after_a_failure_lets_others_pass() {
    let log = TestLog::start().await;
    let first = enqueue(&log.ledger, "first").await;
    let second = enqueue(&log.ledger, "second").await;
    let claimed = claim(&log.ledger, &terms("worker")).await;
    let pause = Some(Duration::from_secs(3600));
    log.ledger.hand_back_job(&claimed, pause).await.unwrap();
    assert_eq!(claim(&log.ledger, &terms("worker")).await.id, second.id);
    assert!(!log.ledger.has_claimable_job().await.unwrap());
    assert_eq!(log.ledger.job(&first.id).await.unwrap().attempts, 1);
    log.finish().await;
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_job_and_another_order_under_it_is_refused() {
    let log = TestLog::start().await;
    let keyed = |request_id| NewJob {
        idempotency: Some(Digest::of(b"key of alice")),
        ..order("alice", request_id)
    };
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let enqueued = log
            .ledger
            .enqueue_job(&keyed("one"), &LIMITS)
            .await
            .unwrap();
        jobs.push((enqueued.job.id, enqueued.is_new));
    }
    assert_eq!(jobs[0].0, jobs[1].0);
    assert_eq!((jobs[0].1, jobs[1].1), (true, false));
    let refused = log.ledger.enqueue_job(&keyed("two"), &LIMITS).await;
    assert!(
        matches!(refused, Err(LedgerError::JobKeyConflict)),
        "{refused:?}"
    );
    let together: Vec<_> = (0..8)
        .map(|_| {
            let ledger = log.ledger.clone();
            tokio::spawn(async move {
                let new = NewJob {
                    idempotency: Some(Digest::of(b"another key")),
                    ..order("alice", "together")
                };
                ledger.enqueue_job(&new, &LIMITS).await.unwrap().job.id
            })
        })
        .collect();
    let mut ids = Vec::new();
    for id in together {
        ids.push(id.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    log.finish().await;
}

#[tokio::test]
async fn the_limits_of_the_queue_are_named() {
    let log = TestLog::start().await;
    for number in 0..3 {
        enqueue(&log.ledger, &format!("request-{number}")).await;
    }
    let refused = log
        .ledger
        .enqueue_job(&order("alice", "more"), &LIMITS)
        .await;
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("jobs_per_client_max (3)"), "{told}");
    log.ledger
        .enqueue_job(&order("bob", "his"), &LIMITS)
        .await
        .unwrap();
    let refused = log
        .ledger
        .enqueue_job(&order("carol", "hers"), &LIMITS)
        .await;
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("jobs_waiting_max (4)"), "{told}");
    let long = "x".repeat(101);
    let refused = log
        .ledger
        .enqueue_job(
            &NewJob {
                order: &long,
                ..order("dave", "long")
            },
            &LIMITS,
        )
        .await;
    assert!(matches!(
        refused,
        Err(LedgerError::JobOrderTooLarge { bytes_max: 100 })
    ));
    let queue = log.ledger.job_queue().await.unwrap();
    assert_eq!((queue.waiting, queue.running), (4, 0));
    assert!(queue.oldest_waiting_ms.is_some());
    log.finish().await;
}

#[tokio::test]
async fn a_client_pages_through_its_own_jobs_and_ended_ones_are_forgotten_in_time() {
    let log = TestLog::start().await;
    let mut jobs = Vec::new();
    for number in 0..3 {
        jobs.push(enqueue(&log.ledger, &format!("request-{number}")).await.id);
    }
    log.ledger
        .enqueue_job(&order("bob", "his"), &LIMITS)
        .await
        .unwrap();
    let page = log.ledger.jobs_of("alice", None, 2).await.unwrap();
    let page: Vec<_> = page.into_iter().map(|job| job.id).collect();
    assert_eq!(page, [jobs[2].clone(), jobs[1].clone()]);
    let rest = log
        .ledger
        .jobs_of("alice", Some(&jobs[1]), 2)
        .await
        .unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].id, jobs[0]);
    let foreign = log.ledger.jobs_of("bob", Some(&jobs[1]), 2).await;
    assert!(matches!(foreign, Err(LedgerError::NoSuchJob)));

    log.ledger.cancel_job(&jobs[0]).await.unwrap();
    assert_eq!(
        log.ledger
            .prune_jobs(Duration::from_secs(60), 10)
            .await
            .unwrap(),
        0
    );
    assert_eq!(log.ledger.prune_jobs(Duration::ZERO, 10).await.unwrap(), 1);
    let gone = log.ledger.job(&jobs[0]).await;
    assert!(matches!(gone, Err(LedgerError::NoSuchJob)));
    log.finish().await;
}

#[tokio::test]
async fn entries_of_another_request_do_not_end_a_job() {
    let log = TestLog::start().await;
    let job = enqueue(&log.ledger, "request").await;
    let claimed = claim(&log.ledger, &terms("worker")).await;
    let refused = log
        .ledger
        .finish_job(&claimed, &entry_of("another"), "{}")
        .await;
    assert!(
        matches!(refused, Err(LedgerError::ForeignEntry)),
        "{refused:?}"
    );
    assert_eq!(
        log.ledger.job(&job.id).await.unwrap().state,
        JobState::Running
    );
    log.finish().await;
}

#[tokio::test]
async fn the_entries_of_a_request_are_queued_together_or_not_at_all() {
    let (log, sequencer) = TestLog::running().await;
    let image = |index: u32| {
        let mut entry = generation("alice", "request");
        entry.image_index = index;
        SignedEntry {
            envelope: signed(entry),
            secret: Some(secret()),
        }
    };
    let mut unopened = image(1);
    if let Some(secret) = &mut unopened.secret {
        secret.prompt = "another prompt".to_owned();
    }
    let refused = log.ledger.append_all(&[image(0), unopened]).await;
    assert!(matches!(refused, Err(LedgerError::SecretMismatch)));
    let appended = log.ledger.append_all(&[image(0), image(1)]).await.unwrap();
    assert_eq!(appended.len(), 2);
    assert_eq!(
        appended[0].leaf_index.get(),
        0,
        "nothing was recorded before"
    );
    sequencer.stop().await;
    log.finish().await;
}
