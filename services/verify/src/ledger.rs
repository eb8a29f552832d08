//! `retrace-verify ledger`

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use provenance::envelope::ENVELOPE_BYTES_MAX;
use provenance::merkle::{Appender, TreeHead};
use provenance::{Checkpoint, Envelope, ProvenanceError, PublicKeys};

use crate::arguments::LedgerTask;
use crate::checkpoint;
use crate::input::{self, InputError};
use crate::report::{Check, Reason, Report};

const CHECK: &str = "entries";

/// Checks every entry of a ledger and that together they make the tree of each checkpoint given.
pub fn check(task: &LedgerTask, show_progress: bool) -> Result<Report, InputError> {
    let keys = match input::read_public_keys(&task.public_key)? {
        Ok(keys) => keys,
        Err(check) => return Ok(Report::of(check)),
    };
    let mut report = Report::of(input::public_keys_check(&keys));
    let Some(latest) = checkpoint::check_file(&mut report, &task.checkpoint, &keys)? else {
        return Ok(report);
    };
    report.prove_checkpoint(&latest);
    let mut heads = vec![latest];
    for path in &task.earlier {
        match checkpoint::check_file(&mut report, path, &keys)? {
            Some(earlier) => heads.push(earlier),
            None => return Ok(report),
        }
    }
    // Checkpoints are met on the way from the first entry to the last.
    heads.sort_by_key(|head| head.tree_size);
    let progress = progress_bar(heads.last(), show_progress);
    let file = BufReader::new(input::open(&task.file)?);
    let mut walk = Walk::new(&keys, &heads);
    let outcome = walk.run(file, &progress);
    progress.finish_and_clear();
    match outcome {
        Ok(()) => {
            let detail = format!(
                "{} entries, each signed by {}",
                walk.size(),
                keys.entries.key_id()
            );
            report.add(Check::ok(CHECK, detail));
        }
        Err(Stop::Reading(source)) => return Err(unreadable(&task.file, source)),
        Err(Stop::Entry(reason)) => report.add(Check::failed(CHECK, reason)),
    }
    for check in walk.tree_checks() {
        report.add(check);
    }
    Ok(report)
}

fn unreadable(path: &Path, source: io::Error) -> InputError {
    InputError::File {
        path: path.to_owned(),
        source,
    }
}

fn progress_bar(latest: Option<&Checkpoint>, show: bool) -> ProgressBar {
    let target = if show {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} entries, {eta} left")
        .expect("the template is constant and well formed");
    let entries = latest.map(|head| head.tree_size.get());
    let bar = ProgressBar::with_draw_target(entries, target).with_style(style);
    if show {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}

/// Why the walk ended before the last line.
enum Stop {
    Reading(io::Error),
    Entry(Reason),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Reading(error)
    }
}

/// The walk over all entries in the order of the log.
struct Walk<'a> {
    keys: &'a PublicKeys,
    appender: Appender,
    /// The checkpoints in the order of their sizes, and how many of them were reached.
    heads: &'a [Checkpoint],
    roots_found: Vec<TreeHead>,
}

impl<'a> Walk<'a> {
    fn new(keys: &'a PublicKeys, heads: &'a [Checkpoint]) -> Self {
        let mut walk = Self {
            keys,
            appender: Appender::empty(),
            heads,
            roots_found: Vec::new(),
        };
        walk.meet_heads();
        walk
    }

    fn size(&self) -> u64 {
        self.appender.size().get()
    }

    /// Notes the present root for every checkpoint of the present size.
    fn meet_heads(&mut self) {
        while self
            .heads
            .get(self.roots_found.len())
            .is_some_and(|head| head.tree_size == self.appender.size())
        {
            self.roots_found.push(TreeHead {
                size: self.appender.size(),
                root_hash: self.appender.root(),
            });
        }
    }

    fn run(&mut self, mut file: BufReader<File>, progress: &ProgressBar) -> Result<(), Stop> {
        let size_max = self.heads.last().map_or(0, |head| head.tree_size.get());
        let mut line = Vec::new();
        loop {
            line.clear();
            // One byte for the newline, one to notice a line that is too long.
            let bytes_max = ENVELOPE_BYTES_MAX as u64 + 2;
            if file.by_ref().take(bytes_max).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let place = self.size();
            if place >= size_max {
                let detail = format!("entry {place} is not covered by the checkpoint");
                return Err(Stop::Entry(Reason::new("entry-not-covered", detail)));
            }
            self.append(&line).map_err(|refusal| {
                let detail = format!("entry {place}: {refusal}");
                Stop::Entry(Reason::new(refusal.code(), detail))
            })?;
            progress.inc(1);
        }
    }

    fn append(&mut self, line: &[u8]) -> Result<(), ProvenanceError> {
        let envelope = Envelope::parse(line.strip_suffix(b"\n").unwrap_or(line))?;
        envelope.verify(&self.keys.entries)?;
        self.appender
            .append(envelope.leaf_hash(), &mut Vec::new())?;
        self.meet_heads();
        Ok(())
    }

    /// One check for every checkpoint: whether the entries make its tree.
    fn tree_checks(&self) -> Vec<Check> {
        const CHECK: &str = "tree";
        let check = |(place, head): (usize, &Checkpoint)| {
            let size = head.tree_size;
            match self.roots_found.get(place) {
                None => {
                    let detail =
                        format!("{} entries where the checkpoint covers {size}", self.size());
                    Check::failed(CHECK, Reason::new("entries-missing", detail))
                }
                Some(found) if found.root_hash == head.root_hash => Check::ok(
                    CHECK,
                    format!("the first {size} entries have the signed root hash"),
                ),
                Some(found) => {
                    let detail = format!(
                        "the first {size} entries have the root hash {}, signed was {}",
                        found.root_hash, head.root_hash
                    );
                    Check::failed(CHECK, Reason::new("root-mismatch", detail))
                }
            }
        };
        self.heads.iter().enumerate().map(check).collect()
    }
}
