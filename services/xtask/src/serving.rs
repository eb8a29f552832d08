//! `cargo xtask bench --serving`: the service under many clients. Throughput of eight clients
//! against one, with and without batches; how fast refusals are under tenfold overload, beside how late
//! the machine itself is; memory over many images.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::client::{Client, Status};
use crate::service::{Service, ServiceOptions};

/// Clients at once.
const CLIENTS: u64 = 8;
/// Images of each client in one measurement of the throughput.
const IMAGES_PER_CLIENT: u64 = 3;
/// Measurements of each throughput; the median counts.
const ROUNDS: usize = 3;
/// Images that a service makes before it is measured: batch sizes are tried in them.
const WARMING_IMAGES: u64 = 48;
/// How long each overload lasts.
const OVERLOAD: Duration = Duration::from_secs(60);
/// Requests of the overload for each one that the service can carry out.
const OVERLOAD_FACTOR: f64 = 10.0;
/// Clients of the overload: those that wait for an image, and enough beside them to keep the rate.
const OVERLOAD_CLIENTS: u64 = 64;
/// How long the thread sleeps that notices how late the machine wakes a thread.
const NAP: Duration = Duration::from_millis(5);
/// Images of one request while memory is watched, and how many in all.
const IMAGES_PER_REQUEST: u64 = 8;
const IMAGES: u64 = 10_000;
/// The first reading of the memory: before it, pools and caches fill.
const IMAGES_BEFORE_FIRST_READING: u64 = 1_000;

/// What of the service is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Throughput, refusals and memory.
    All,
    /// Images per second of many clients against one.
    Throughput,
    /// How fast refusals are under overload.
    Refusals,
    /// Memory over many images.
    Memory,
}

/// What is measured, and where.
pub struct Serving<'a> {
    /// The program `retrace`.
    pub program: &'a Path,
    /// The checkout.
    pub root: &'a Path,
    /// Folder of the native parts.
    pub runtime: &'a Path,
}

/// A service under measurement.
struct Running {
    service: Service,
    client: Client,
    port: u16,
    // Removed last.
    _state: tempfile::TempDir,
}

impl Serving<'_> {
    /// Measures one part or all.
    pub fn measure(&self, part: Part) -> Result<Value> {
        let is_wanted = |asked: Part| part == Part::All || part == asked;
        let mut document = json!({});
        if is_wanted(Part::Throughput) {
            document["throughput"] = self.throughput()?;
        }
        if is_wanted(Part::Refusals) {
            document["overload"] = json!({
                "service_full": self.overload("1000")?,
                "client_full": self.overload("8")?,
            });
        }
        if is_wanted(Part::Memory) {
            document["memory"] = self.memory()?;
        }
        Ok(document)
    }

    fn start(&self, settings: &[(&str, &str)]) -> Result<Running> {
        let state = tempfile::Builder::new()
            .prefix("retrace-bench-")
            .tempdir()
            .context("no temporary folder can be made")?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|free| free.local_addr())?
            .port();
        let folder = state.path().join("state");
        let mut all = vec![("RETRACE_STATE", folder.as_path())];
        all.extend(
            settings
                .iter()
                .map(|(name, value)| (*name, Path::new(value))),
        );
        let mut service = Service::start(&ServiceOptions {
            program: self.program,
            folder: self.root,
            runtime: self.runtime,
            port,
            log: &state.path().join("service.log"),
            settings: &all,
        })?;
        let client = Client::new(port);
        service.wait_until_ready(&client)?;
        Ok(Running {
            service,
            client,
            port,
            _state: state,
        })
    }

    /// Images per second of one client and of eight, alternately without batches and with them.
    fn throughput(&self) -> Result<Value> {
        eprintln!("measuring the throughput of {CLIENTS} clients against 1");
        let services = [
            self.start(&[("RETRACE_BATCH_IMAGES_MAX", "1")])?,
            self.start(&[])?,
        ];
        for running in &services {
            running.images_per_s(CLIENTS, WARMING_IMAGES / CLIENTS)?;
        }
        let mut measured: [[Vec<f64>; 2]; 2] = Default::default();
        for _ in 0..ROUNDS {
            for (service, running) in services.iter().enumerate() {
                let alone = running.images_per_s(1, 2 * IMAGES_PER_CLIENT)?;
                measured[service][0].push(alone);
                let all = running.images_per_s(CLIENTS, IMAGES_PER_CLIENT)?;
                measured[service][1].push(all);
            }
        }
        let [[off_1, off_8], [on_1, on_8]] = measured
            .each_ref()
            .map(|of| of.each_ref().map(|all| median(all)));
        let batches = services[1].batch_images()?;
        for running in services {
            running.service.stop()?;
        }
        Ok(json!({
            "load_average": load_average(),
            "images_per_s": {
                "without_batches": { "clients_1": off_1, "clients_8": off_8 },
                "with_batches": { "clients_1": on_1, "clients_8": on_8 },
            },
            "clients_8_against_1": { "without_batches": off_8 / off_1, "with_batches": on_8 / on_1 },
            "batches_against_none_at_8_clients": on_8 / off_8,
            "turns_by_images_at_most": batches,
        }))
    }

    /// Ten times as many requests as the service can carry out: how fast it refuses the rest.
    fn overload(&self, per_client_max: &str) -> Result<Value> {
        eprintln!(
            "measuring refusals under overload for {} s",
            OVERLOAD.as_secs()
        );
        let running = self.start(&[("RETRACE_GENERATIONS_PER_CLIENT_MAX", per_client_max)])?;
        running.images_per_s(CLIENTS, WARMING_IMAGES / CLIENTS)?;
        let images_per_s = running.images_per_s(CLIENTS, IMAGES_PER_CLIENT)?;
        let memory_before = running.memory()?;
        let rate = OVERLOAD_FACTOR * images_per_s;
        let tickets = AtomicU64::new(0);
        let seen = Mutex::new(Seen::default());
        let memory_most = AtomicU64::new(memory_before);
        let started = Instant::now();
        let delays = std::thread::scope(|scope| -> Result<Vec<Duration>> {
            let napping = scope.spawn(|| wake_up_delays(started));
            let clients: Vec<_> = (0..OVERLOAD_CLIENTS)
                .map(|_| scope.spawn(|| press(running.port, rate, (&tickets, started), &seen)))
                .collect();
            while started.elapsed() < OVERLOAD {
                std::thread::sleep(Duration::from_secs(1));
                memory_most.fetch_max(running.memory()?, Ordering::Relaxed);
            }
            for client in clients {
                client
                    .join()
                    .map_err(|_| anyhow::anyhow!("a client panicked"))??;
            }
            napping
                .join()
                .map_err(|_| anyhow::anyhow!("the sleeper panicked"))
        })?;
        let seen = seen.into_inner().context("a client panicked")?;
        let memory_after = running.memory()?;
        running.service.stop()?;
        let mut document = seen.document()?;
        document["seconds"] = json!(OVERLOAD.as_secs());
        document["load_average"] = load_average();
        document["machine_wakes_late_ms"] = quantiles(delays)?;
        document["requests_per_s_asked"] = json!(rate);
        document["memory_bytes"] = json!({
            "before": memory_before,
            "most": memory_most.into_inner(),
            "after": memory_after,
        });
        Ok(document)
    }

    /// Resident memory of a service that makes many images with a tiny model.
    fn memory(&self) -> Result<Value> {
        eprintln!("measuring the memory over {IMAGES} images of a tiny model");
        let model = self.root.join("tests/golden/pipelines/clip");
        let model = model.to_str().context("the checkout's path is no text")?;
        let running = self.start(&[("RETRACE_GENERATOR", model)])?;
        let started = Instant::now();
        let mut readings = Vec::new();
        let mut made = 0;
        while made < IMAGES {
            let requests = IMAGES_BEFORE_FIRST_READING / IMAGES_PER_REQUEST / CLIENTS;
            made += running.make(CLIENTS, requests + 1, IMAGES_PER_REQUEST)?;
            readings.push((made, running.memory()?));
        }
        let seconds = started.elapsed().as_secs_f64();
        running.service.stop()?;
        let (first, last) = (readings[0], readings[readings.len() - 1]);
        Ok(json!({
            "load_average": load_average(),
            "images": made,
            "seconds": seconds,
            "resident_bytes_by_images": readings,
            "bytes_per_image_after_the_first_reading":
                (last.1 as f64 - first.1 as f64) / (last.0 - first.0).max(1) as f64,
        }))
    }
}

impl Running {
    /// Images per second when so many clients ask for one image after another.
    fn images_per_s(&self, clients: u64, each: u64) -> Result<f64> {
        let started = Instant::now();
        let images = self.make(clients, each, 1)?;
        Ok(images as f64 / started.elapsed().as_secs_f64())
    }

    /// Lets so many clients ask for so many requests of some images each; how many images came.
    fn make(&self, clients: u64, requests: u64, images: u64) -> Result<u64> {
        std::thread::scope(|scope| {
            let working: Vec<_> = (0..clients)
                .map(|client| {
                    scope.spawn(move || -> Result<()> {
                        let own = Client::new(self.port);
                        for request in 0..requests {
                            let seed = 1_000 * client + request;
                            own.generate_images(&format!("a red heart {seed}"), seed, images)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            for client in working {
                client
                    .join()
                    .map_err(|_| anyhow::anyhow!("a client panicked"))??;
            }
            Ok(clients * requests * images)
        })
    }

    /// Resident memory of the service's process in bytes.
    fn memory(&self) -> Result<u64> {
        let path = PathBuf::from(format!("/proc/{}/status", self.service.id()));
        let text = fs::read_to_string(&path).context("the service's memory cannot be read")?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(1_024 * kib.context("the system does not tell the service's memory")?)
    }

    /// The counters of the images that were made together, by the upper bound of their number.
    fn batch_images(&self) -> Result<Value> {
        let text = String::from_utf8(self.client.bytes("/metrics")?)?;
        let mut found = serde_json::Map::new();
        for line in text.lines() {
            let series = line.strip_prefix("retrace_generation_batch_images_bucket{le=\"");
            if let Some((bound, count)) = series.and_then(|rest| rest.split_once("\"} ")) {
                found.insert(bound.to_owned(), count.parse::<u64>()?.into());
            }
        }
        Ok(found.into())
    }
}

/// What the clients of an overload saw.
#[derive(Default)]
struct Seen {
    made: u64,
    /// How long each refusal took, by its status.
    refusals: Vec<(u16, Duration)>,
    /// Requests that were sent more than a tenth of a second after their time.
    late: u64,
}

impl Seen {
    fn document(self) -> Result<Value> {
        let count = |status: u16| {
            let refused = self.refusals.iter();
            refused.filter(|(found, _)| *found == status).count()
        };
        let (refused_429, refused_503) = (count(429), count(503));
        let took = self.refusals.iter().map(|(_, took)| *took).collect();
        Ok(json!({
            "made": self.made,
            "refused_429": refused_429,
            "refused_503": refused_503,
            "sent_late": self.late,
            "refusal_ms": quantiles(took).context("this was no overload")?,
        }))
    }
}

/// Median, slowest hundredth and slowest of some times, in milliseconds.
fn quantiles(mut times: Vec<Duration>) -> Result<Value> {
    times.sort_unstable();
    let last = times.len().checked_sub(1).context("nothing was timed")?;
    let quantile = |share: f64| {
        let time = times[(last as f64 * share).round() as usize];
        time.as_secs_f64() * 1e3
    };
    Ok(json!({ "p50": quantile(0.5), "p99": quantile(0.99), "most": quantile(1.0) }))
}

/// How much later than asked a thread wakes up that does nothing else: what the machine's other work, the service's
/// own among it, adds to any answer.
fn wake_up_delays(started: Instant) -> Vec<Duration> {
    let mut delays = Vec::new();
    while started.elapsed() < OVERLOAD {
        let slept = Instant::now();
        std::thread::sleep(NAP);
        delays.push(slept.elapsed().saturating_sub(NAP));
    }
    delays
}

fn load_average() -> Value {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!(text.trim())
}

/// Sends requests at the times of their tickets until the overload ends. Every refusal must say when to come
/// again.
fn press(
    port: u16,
    rate: f64,
    (tickets, started): (&AtomicU64, Instant),
    seen: &Mutex<Seen>,
) -> Result<()> {
    let client = Client::new(port);
    loop {
        let ticket = tickets.fetch_add(1, Ordering::Relaxed);
        let due = Duration::from_secs_f64(ticket as f64 / rate);
        if due >= OVERLOAD {
            return Ok(());
        }
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        let sent = Instant::now();
        let is_late = started.elapsed() > due + Duration::from_millis(100);
        let answer = client.try_to_generate("a red heart", ticket)?;
        let took = sent.elapsed();
        let mut seen = seen
            .lock()
            .map_err(|_| anyhow::anyhow!("a client panicked"))?;
        seen.late += u64::from(is_late);
        match answer {
            Status { code: 200, .. } => seen.made += 1,
            Status {
                code: code @ (429 | 503),
                retry_after: true,
            } => seen.refusals.push((code, took)),
            Status { code, retry_after } => {
                bail!("answered with {code}, Retry-After: {retry_after}")
            }
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The chief figures, a line each.
pub fn rows(document: &Value) -> Vec<(String, String)> {
    let number = |pointer: &str, unit: &str| {
        let value = document.pointer(pointer).and_then(Value::as_f64);
        value.map_or("not measured".to_owned(), |value| {
            format!("{value:.3} {unit}")
        })
    };
    [
        (
            "8 clients against 1, no batches",
            "/throughput/clients_8_against_1/without_batches",
            "times",
        ),
        (
            "8 clients against 1, batches",
            "/throughput/clients_8_against_1/with_batches",
            "times",
        ),
        (
            "batches against none, 8 clients",
            "/throughput/batches_against_none_at_8_clients",
            "times",
        ),
        (
            "refusal of a full service, 99 %",
            "/overload/service_full/refusal_ms/p99",
            "ms",
        ),
        (
            "machine late beside it, 99 %",
            "/overload/service_full/machine_wakes_late_ms/p99",
            "ms",
        ),
        (
            "refusal of a full client, 99 %",
            "/overload/client_full/refusal_ms/p99",
            "ms",
        ),
        (
            "machine late beside it, 99 %",
            "/overload/client_full/machine_wakes_late_ms/p99",
            "ms",
        ),
        (
            "memory for each image after the first",
            "/memory/bytes_per_image_after_the_first_reading",
            "bytes",
        ),
    ]
    .map(|(name, pointer, unit)| (name.to_owned(), number(pointer, unit)))
    .to_vec()
}
