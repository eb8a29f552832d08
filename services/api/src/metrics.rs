//! What is counted while the process runs, in the text format of Prometheus (version 0.0.4).
//!
//! Labels are patterns of paths, methods and status codes: nothing that a caller writes becomes one, so
//! their number is bounded and nothing private stands in them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets in seconds: from an answer out of memory to a long generation.
const BOUNDS_S: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
];
/// Upper bounds of the buckets for images of a batch.
const BOUNDS_IMAGES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
/// Bounds of a histogram at most.
const BOUNDS_MAX: usize = 13;
/// Methods that get a label of their own.
const METHODS: [&str; 6] = ["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"];

/// How often something took how long, or was how large.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for everything above.
    buckets: [AtomicU64; BOUNDS_MAX + 1],
    sum_millionths: AtomicU64,
}

impl Histogram {
    /// Durations; nothing counted yet.
    #[must_use]
    pub const fn new() -> Self {
        Self::within(BOUNDS_S)
    }

    const fn within(bounds: &'static [f64]) -> Self {
        assert!(bounds.len() <= BOUNDS_MAX, "every bound has its bucket");
        Self {
            bounds,
            buckets: [const { AtomicU64::new(0) }; BOUNDS_MAX + 1],
            sum_millionths: AtomicU64::new(0),
        }
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.count(duration.as_secs_f64(), us);
    }

    /// Counts one number of things.
    pub fn observe_size(&self, size: usize) {
        self.count(size as f64, (size as u64).saturating_mul(1_000_000));
    }

    fn count(&self, value: f64, millionths: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[place].fetch_add(1, Ordering::Relaxed);
        self.sum_millionths.fetch_add(millionths, Ordering::Relaxed);
    }

    /// Writes the series; `labels` is empty or ends in a comma.
    fn write(&self, text: &mut String, name: &str, labels: &str) {
        let mut count = 0;
        let bounds = self.bounds.iter().map(f64::to_string);
        for (bucket, bound) in self.buckets.iter().zip(bounds.chain(["+Inf".to_owned()])) {
            count += bucket.load(Ordering::Relaxed);
            line(
                text,
                &format!("{name}_bucket{{{labels}le=\"{bound}\"}}"),
                count,
            );
        }
        let labels = match labels.strip_suffix(',') {
            Some(labels) => format!("{{{labels}}}"),
            None => String::new(),
        };
        let sum = Duration::from_micros(self.sum_millionths.load(Ordering::Relaxed)).as_secs_f64();
        line(text, &format!("{name}_sum{labels}"), sum);
        line(text, &format!("{name}_count{labels}"), count);
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// How long generations took, waiting for a turn left out.
pub static GENERATIONS: Histogram = Histogram::new();
/// How many images went through the denoising loop together.
pub static BATCH_IMAGES: Histogram = Histogram::within(BOUNDS_IMAGES);
/// How long scores took, waiting for a turn left out.
pub static SCORES: Histogram = Histogram::new();

/// Requests of this process. They are counted where no state is at hand.
static REQUESTS: Mutex<BTreeMap<Series, u64>> = Mutex::new(BTreeMap::new());
static REQUEST_DURATIONS: Mutex<BTreeMap<String, Histogram>> = Mutex::new(BTreeMap::new());

/// What tells one counter of requests from another.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    path: String,
    method: &'static str,
    status: u16,
}

/// Counts an answered request. `path` is the pattern of the resource, not the path that was asked for.
pub fn observe_request(method: &str, path: &str, status: u16, duration: Duration) {
    let known = METHODS.into_iter().find(|known| *known == method);
    let series = Series {
        path: path.to_owned(),
        method: known.unwrap_or("other"),
        status,
    };
    *locked(&REQUESTS).entry(series).or_default() += 1;
    locked(&REQUEST_DURATIONS)
        .entry(path.to_owned())
        .or_default()
        .observe(duration);
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counters have no half-changed state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A size at the moment of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge {
    /// Name of the metric; several of one name stand together.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub help: &'static str,
    /// Labels inside the braces, or nothing.
    pub labels: &'static str,
    /// The size.
    pub value: u64,
}

/// Everything counted, and these sizes, as text.
#[must_use]
pub fn render(gauges: &[Gauge]) -> String {
    let mut text = String::new();
    let name = "retrace_http_requests_total";
    head(
        &mut text,
        name,
        "Requests answered, by pattern of the path.",
        "counter",
    );
    for (series, count) in locked(&REQUESTS).iter() {
        let Series {
            path,
            method,
            status,
        } = series;
        let path = escaped(path);
        let labels = format!("method=\"{method}\",path=\"{path}\",status=\"{status}\"");
        line(&mut text, &format!("{name}{{{labels}}}"), count);
    }
    let name = "retrace_http_request_duration_seconds";
    head(&mut text, name, "Time until an answer began.", "histogram");
    for (path, histogram) in locked(&REQUEST_DURATIONS).iter() {
        histogram.write(&mut text, name, &format!("path=\"{}\",", escaped(path)));
    }
    let name = "retrace_generation_duration_seconds";
    head(
        &mut text,
        name,
        "Time of a generation request's work.",
        "histogram",
    );
    GENERATIONS.write(&mut text, name, "");
    let name = "retrace_generation_batch_images";
    head(
        &mut text,
        name,
        "Images of a turn that went through the denoising loop together.",
        "histogram",
    );
    BATCH_IMAGES.write(&mut text, name, "");
    let name = "retrace_score_duration_seconds";
    head(
        &mut text,
        name,
        "Time of a score request's work.",
        "histogram",
    );
    SCORES.write(&mut text, name, "");
    let mut before = "";
    for gauge in gauges {
        if gauge.name != before {
            head(&mut text, gauge.name, gauge.help, "gauge");
            before = gauge.name;
        }
        let labels = match gauge.labels {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        line(&mut text, &format!("{}{labels}", gauge.name), gauge.value);
    }
    text
}

const TO_STRING: &str = "writing to a string does not fail";

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect(TO_STRING);
}

fn line(text: &mut String, series: &str, value: impl std::fmt::Display) {
    writeln!(text, "{series} {value}").expect(TO_STRING);
}

/// A label's value, with what the format wants escaped.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let histogram = Histogram::new();
        for ms in [1, 5, 6, 400, 200_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let mut text = String::new();
        histogram.write(&mut text, "x_seconds", "path=\"/\",");
        let expected = [
            "x_seconds_bucket{path=\"/\",le=\"0.005\"} 2",
            "x_seconds_bucket{path=\"/\",le=\"0.01\"} 3",
            "x_seconds_bucket{path=\"/\",le=\"0.5\"} 4",
            "x_seconds_bucket{path=\"/\",le=\"120\"} 4",
            "x_seconds_bucket{path=\"/\",le=\"+Inf\"} 5",
            "x_seconds_sum{path=\"/\"} 200.412",
            "x_seconds_count{path=\"/\"} 5",
        ];
        for line in expected {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_histogram_of_sizes_has_bounds_of_its_own() {
        let histogram = Histogram::within(BOUNDS_IMAGES);
        for size in [1, 4, 40] {
            histogram.observe_size(size);
        }
        let mut text = String::new();
        histogram.write(&mut text, "x_images", "");
        let expected = [
            "x_images_bucket{le=\"1\"} 1",
            "x_images_bucket{le=\"2\"} 1",
            "x_images_bucket{le=\"4\"} 2",
            "x_images_bucket{le=\"32\"} 2",
            "x_images_bucket{le=\"+Inf\"} 3",
            "x_images_sum 45",
            "x_images_count 3",
        ];
        for line in expected {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert_eq!(text.lines().count(), 9);
    }

    #[test]
    fn requests_are_counted_by_pattern_and_an_unknown_method_has_no_name() {
        observe_request("GET", "/of/{this}/test", 200, Duration::ZERO);
        observe_request("BREW \"\n", "/of/{this}/test", 405, Duration::ZERO);
        let gauges = [Gauge {
            name: "retrace_log_entries",
            help: "Entries.",
            labels: "",
            value: 7,
        }];
        let text = render(&gauges);
        for line in [
            "retrace_http_requests_total{method=\"GET\",path=\"/of/{this}/test\",status=\"200\"} 1",
            "retrace_http_requests_total{method=\"other\",path=\"/of/{this}/test\",status=\"405\"} 1",
            "# TYPE retrace_http_request_duration_seconds histogram",
            "# TYPE retrace_log_entries gauge",
            "retrace_log_entries 7",
            "# TYPE retrace_generation_batch_images histogram",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert_eq!(escaped("a\"b\\c\n"), "a\\\"b\\\\c\\n");
    }
}
