//! `retrace-verify ledger`

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use provenance::{Checkpoint, KeyHistory, SignedCheckpoint};

use crate::arguments::LedgerTask;
use crate::checkpoint;
use crate::input::InputError;
use crate::keys::{self, Trusted};
use crate::report::{Check, Reason, Report};
use crate::source::{Bundles, Lines};
use crate::tile_folder::{HashTiles, TileFolder};
use crate::walk::{Met, Stop, Walk};

const CHECK: &str = "entries";
const LOG_KEYS: &str = "log keys";

/// Checks every entry of a ledger and that together they make the tree of each checkpoint given.
pub fn check(task: &LedgerTask, show_progress: bool) -> Result<Report, InputError> {
    let (trusted, mut report) = match keys::load(&task.keys)? {
        Ok(loaded) => loaded,
        Err(report) => return Ok(*report),
    };
    let folder = task.path.is_dir().then(|| TileFolder::new(&task.path));
    let latest = latest_path(task, folder.as_ref())?;
    let Some(heads) = heads(&mut report, &latest, &task.earlier, &trusted)? else {
        return Ok(report);
    };
    let ledger = Ledger {
        trusted: &trusted,
        heads: &heads.checkpoints,
        newest: &heads.newest,
        show_progress,
    };
    match &folder {
        Some(folder) => ledger.check_folder(folder, &mut report, &mut |_| ())?,
        None => ledger.check_lines(&task.path, &mut report)?,
    };
    Ok(report)
}

fn latest_path(task: &LedgerTask, folder: Option<&TileFolder>) -> Result<PathBuf, InputError> {
    let own = folder.map(TileFolder::checkpoint);
    let path = task.checkpoint.clone().or(own);
    path.ok_or(InputError::Arguments {
        detail: "a file of envelopes needs the checkpoint that covers them: --checkpoint FILE",
    })
}

/// The checkpoints that entries must lead to.
pub struct Heads {
    /// In the order of their sizes: they are met on the way from the first entry to the last.
    pub checkpoints: Vec<Checkpoint>,
    /// The newest one, as it is signed.
    pub newest: SignedCheckpoint,
}

/// Checks the checkpoints that a walk is to meet. None when one of them does not hold.
pub fn heads(
    report: &mut Report,
    latest: &Path,
    earlier: &[PathBuf],
    trusted: &Trusted,
) -> Result<Option<Heads>, InputError> {
    let Some(newest) = checkpoint::check_witnessed(report, latest, trusted)? else {
        return Ok(None);
    };
    report.prove_checkpoint(newest.unverified());
    let mut checkpoints = vec![newest.unverified().clone()];
    for path in earlier {
        match checkpoint::check_kept(report, path, trusted)? {
            Some(earlier) => checkpoints.push(earlier),
            None => return Ok(None),
        }
    }
    checkpoints.sort_by_key(|head| head.tree_size);
    Ok(Some(Heads {
        checkpoints,
        newest,
    }))
}

/// A ledger to be checked against its checkpoints, of which there is at least one.
pub struct Ledger<'a> {
    /// Whose signatures are believed.
    pub trusted: &'a Trusted,
    /// The checkpoints in the order of their sizes.
    pub heads: &'a [Checkpoint],
    /// The checkpoint of the newest of them, as it is signed.
    pub newest: &'a SignedCheckpoint,
    /// Whether a progress bar is shown.
    pub show_progress: bool,
}

impl Ledger<'_> {
    /// Checks a folder of tiles, and shows every entry whose signature holds to `visit`. Answers which keys
    /// signed them.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn check_folder(
        &self,
        folder: &TileFolder,
        report: &mut Report,
        visit: &mut dyn FnMut(&Met),
    ) -> Result<KeyHistory, InputError> {
        let size = self.heads.last().map(|head| head.tree_size);
        let mut source = Bundles::new(folder, size.unwrap_or_default());
        let mut walk = Walk::new(&self.trusted.keys, self.heads, Some(HashTiles::new(folder)));
        let outcome = walk.run(&mut source, &self.progress_bar(), visit);
        self.conclude(walk, outcome, report)
    }

    fn check_lines(&self, path: &Path, report: &mut Report) -> Result<KeyHistory, InputError> {
        let mut source = Lines::open(path)?;
        let mut walk = Walk::new(&self.trusted.keys, self.heads, None);
        let outcome = walk.run(&mut source, &self.progress_bar(), &mut |_| ());
        self.conclude(walk, outcome, report)
    }

    /// Reports how a walk over all entries ended.
    fn conclude(
        &self,
        mut walk: Walk<'_>,
        outcome: Result<(), Stop>,
        report: &mut Report,
    ) -> Result<KeyHistory, InputError> {
        match outcome {
            Ok(()) => {
                report_keys(&walk, report);
                self.compare_keys(walk.keys(), report);
            }
            Err(Stop::Reading(error)) => return Err(error),
            Err(Stop::Entry(reason)) => report.add(Check::failed(CHECK, reason)),
        }
        for check in walk.tree_checks() {
            report.add(check);
        }
        match walk.hash_tile_check() {
            Ok(check) => check.into_iter().for_each(|check| report.add(check)),
            Err(Stop::Reading(error)) => return Err(error),
            Err(Stop::Entry(reason)) => report.add(Check::failed("hash tiles", reason)),
        }
        Ok(walk.keys().clone())
    }

    /// Whether the log names the keys that are trusted, and its newest checkpoint is signed by the one that it names
    /// itself.
    fn compare_keys(&self, keys: &KeyHistory, report: &mut Report) {
        if !keys.agrees_with(&self.trusted.history) {
            report.add(Check::failed(LOG_KEYS, keys::contradiction("the log")));
        } else if keys.statements() > self.trusted.history.statements()
            && let Err(refusal) = keys.checkpoints().verify_signature(self.newest)
        {
            report.add(Check::failed(LOG_KEYS, refusal));
        }
    }

    fn progress_bar(&self) -> ProgressBar {
        let target = if self.show_progress {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} entries, {eta} left")
            .expect("the template is constant and well formed");
        let entries = self.heads.last().map(|head| head.tree_size.get());
        let bar = ProgressBar::with_draw_target(entries, target)
            .with_style(style)
            .with_finish(ProgressFinish::AndClear);
        if self.show_progress {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        bar
    }
}

/// Whose signatures the entries carry, and which of them a revocation takes back.
fn report_keys(walk: &Walk<'_>, report: &mut Report) {
    let history = walk.keys();
    let size = walk.size();
    let detail = match history.keys() {
        [only] => format!("{size} entries, each signed by {}", only.verifier.key_id()),
        several => {
            let keys: Vec<String> = several.iter().map(keys::describe).collect();
            format!(
                "{size} entries, each signed by the key of its place: {}",
                keys.join("; ")
            )
        }
    };
    report.add(Check::ok(CHECK, detail));
    if let [_, _, ..] = history.checkpoints().keys() {
        let named: Vec<String> = history
            .checkpoints()
            .keys()
            .iter()
            .map(keys::describe_checkpoint)
            .collect();
        report.add(Check::ok(LOG_KEYS, named.join("; ")));
    }
    for key in history.keys() {
        if let (Some((first, last)), Some(revocation)) = (key.taken_back(), &key.revocation) {
            let detail = format!(
                "{} signed entries {first} to {last} and was revoked from there on ({}): what they state is not to \
                 be believed",
                key.verifier.key_id(),
                revocation.reason
            );
            report.add(Check::warning(
                "entry keys",
                Reason::new("key-revoked", detail),
            ));
        }
    }
}
