//! Many callers at once, each waiting for its proof.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ledger::Ledger;
use provenance::{EntrySigner, Envelope};
use serde_json::{Value, json};

use crate::{Failure, Options, quantile_ms, statement};

pub struct Appended {
    pub entries_per_s: f64,
    appenders: usize,
    seconds: f64,
    latencies: Vec<Duration>,
}

impl Appended {
    pub fn to_json(&self) -> Value {
        json!({
            "appenders": self.appenders,
            "entries": self.latencies.len(),
            "seconds": self.seconds,
            "entries_per_s": self.entries_per_s,
            "p50_ms": quantile_ms(&self.latencies, 0.5),
            "p95_ms": quantile_ms(&self.latencies, 0.95),
            "p99_ms": quantile_ms(&self.latencies, 0.99),
        })
    }
}

pub async fn measure(
    ledger: &Ledger,
    signer: &Arc<EntrySigner>,
    options: &Options,
) -> Result<Appended, Failure> {
    let next = Arc::new(AtomicU64::new(options.log));
    let end = options.log + options.entries as u64;
    let started = Instant::now();
    let callers: Vec<_> = (0..options.appenders)
        .map(|_| {
            let caller = Caller {
                ledger: ledger.clone(),
                signer: Arc::clone(signer),
                next: Arc::clone(&next),
                end,
            };
            tokio::spawn(caller.run())
        })
        .collect();
    let mut latencies = Vec::with_capacity(options.entries);
    for caller in callers {
        latencies.extend(caller.await??);
    }
    let seconds = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    Ok(Appended {
        entries_per_s: latencies.len() as f64 / seconds,
        appenders: options.appenders,
        seconds,
        latencies,
    })
}

/// One caller, who appends one entry after another.
struct Caller {
    ledger: Ledger,
    signer: Arc<EntrySigner>,
    next: Arc<AtomicU64>,
    end: u64,
}

impl Caller {
    async fn run(self) -> Result<Vec<Duration>, Failure> {
        let mut latencies = Vec::new();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.end {
                return Ok(latencies);
            }
            let (entry, secret) = statement::numbered(number)?;
            let began = Instant::now();
            let envelope = Envelope::sign(&entry, &self.signer)?;
            self.ledger.append(&envelope, Some(secret)).await?;
            latencies.push(began.elapsed());
        }
    }
}
