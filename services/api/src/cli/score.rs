//! `retrace score`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::access::Caller;
use api::config::Limits;
use api::credential_keys::offline_anchors;
use api::engine::Engine;
use api::sandbox::Sandbox;
use api::startup::Services;
use api::work::{self, Examination, RecordedScore, Upload, WorkError};
use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::environment::{CredentialArgs, EngineArgs, StateArgs};
use super::failure::Failure;
use super::score_table::ScoreTable;
use super::{Outcome, picture_file, picture_list, progress};

const EXAMPLES: &str = "\
Examples:
  retrace score suspect.jpg
  retrace score --offline --json pictures/*.png
  retrace score --json suspect.jpg | jq .verdict
  retrace score --offline --output scores.csv inbox/
  retrace score --offline --output scores.jsonl --resume inbox/

Each file gives one result, and a folder one for every PNG, JPEG and WebP file in it and below. A file
that cannot be read or is refused gives an error in its place, the others are still scored, and the
exit code is 1. Without --offline every score is signed and appended to the ledger; the entry holds
a salted digest of the file, not the file. --output writes one line for each file as soon as it is
scored: a run that was stopped goes on with --resume and scores no file twice.";

/// Pictures under way at once: while the models look at one, the next is parsed.
const PICTURES_IN_FLIGHT: usize = 2;

/// Arguments of `retrace score`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Score {
    /// Images (PNG, JPEG or WebP), and folders of such
    #[arg(value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,

    /// Write the results into a table, which the ending makes one JSON object a line or CSV
    #[arg(short, long, value_name = "FILE.jsonl|FILE.csv")]
    output: Option<PathBuf>,

    /// Go on with a table that an earlier run began: files in it are not scored again
    #[arg(long, requires = "output")]
    resume: bool,

    /// No ledger and no database: nothing is looked up, signed or recorded
    #[arg(long)]
    offline: bool,

    /// Print one JSON object per file, on one line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    state: StateArgs,

    #[command(flatten)]
    credentials: CredentialArgs,
}

/// What was found about a file, and what the ledger recorded of it.
pub(super) type Scored = (Examination, Option<RecordedScore>);

/// Where the scores come from.
enum Desk {
    /// The models alone.
    Offline {
        engine: Arc<Engine>,
        sandbox: Sandbox,
    },
    /// The models and the ledger.
    Ledger(Services),
}

impl Desk {
    async fn score(&self, upload: Upload) -> Result<Scored, WorkError> {
        match self {
            Self::Offline { engine, sandbox } => Ok((
                work::examine(Arc::clone(engine), sandbox, upload).await?,
                None,
            )),
            Self::Ledger(services) => {
                let answer = work::score(services.state(), &Caller::local(), upload).await?;
                Ok((answer.examination, Some(answer.recorded)))
            }
        }
    }

    async fn close(self) -> Outcome {
        match self {
            Self::Offline { .. } => Ok(()),
            Self::Ledger(services) => Ok(services.close().await?),
        }
    }
}

impl Score {
    /// Scores every file.
    pub fn run(self) -> Outcome {
        super::async_runtime()?.block_on(async {
            let desk = self.desk().await?;
            let outcome = self.score_all(&desk).await;
            outcome.and(desk.close().await)
        })
    }

    async fn desk(&self) -> Result<Desk, Failure> {
        let options = self.engine.options(None);
        if !self.offline {
            let config = self.credentials.add_to(self.state.config(options));
            let services = Services::open(config).await?;
            return Ok(Desk::Ledger(services));
        }
        let engine = Engine::open(&options).map_err(Failure::environment)?;
        engine.detector().map_err(Failure::environment)?;
        let config = self.credentials.add_to(self.state.config(options));
        let anchors = offline_anchors(&config.state, &config.credentials);
        let anchors = anchors.map_err(Failure::environment)?;
        let sandbox = Sandbox::new(None, &Limits::default()).trusting(&anchors);
        Ok(Desk::Offline {
            engine: Arc::new(engine),
            sandbox,
        })
    }

    async fn score_all(&self, desk: &Desk) -> Outcome {
        let limits = &Limits::default();
        let mut files = picture_list::pictures(&self.files)?;
        let mut table = match &self.output {
            None => None,
            Some(path) => {
                let table = ScoreTable::open(path, self.resume)?;
                files.retain(|file| !table.has(file));
                Some(table)
            }
        };
        let bar = progress::bar(files.len() as u64, "scores");
        let mut refused = 0;
        let mut results = stream::iter(&files)
            .map(|path| async move {
                let result = match picture_file::read(path, limits) {
                    Ok(bytes) => desk.score(upload(bytes)).await.map_err(Failure::from),
                    Err(failure) => Err(failure),
                };
                (path, result)
            })
            .buffered(PICTURES_IN_FLIGHT);
        while let Some((path, result)) = results.next().await {
            let result = match result {
                Err(failure) if !failure.concerns_one_file() => return Err(failure),
                result => result,
            };
            refused += usize::from(result.is_err());
            match &mut table {
                Some(table) => table.write(path, &result)?,
                None => bar.suspend(|| self.show(path, &result))?,
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        super::all_files(refused, files.len())
    }

    fn show(&self, path: &Path, result: &Result<Scored, Failure>) -> Outcome {
        match result {
            Ok((examination, recorded)) => self.print(path, examination, recorded.as_ref()),
            Err(failure) => self.print_refusal(path, failure),
        }
    }

    fn print(
        &self,
        path: &Path,
        examination: &Examination,
        recorded: Option<&RecordedScore>,
    ) -> Outcome {
        let mut out = std::io::stdout().lock();
        if self.json {
            let line = json_line(path, examination, recorded)?;
            return writeln!(out, "{line}").map_err(super::cannot_write);
        }
        let assessment = &examination.assessment;
        let probability = match assessment.probability {
            Some(probability) => format!("probability {probability:.3}"),
            None => "no probability".to_owned(),
        };
        let verdict = assessment.verdict;
        let mut lines = vec![
            format!("{}", path.display()),
            format!(
                "  {verdict}, {probability}: {}",
                assessment.reason.sentence()
            ),
        ];
        for evidence in &assessment.evidence {
            lines.push(format!("  - {}", evidence.sentence()));
        }
        for note in examination.decoded.notes() {
            lines.push(format!("  * {note}"));
        }
        if let Some(recorded) = recorded {
            lines.push(format!("  recorded as entry {}", recorded.leaf_index));
        }
        writeln!(out, "{}", lines.join("\n")).map_err(super::cannot_write)
    }

    fn print_refusal(&self, path: &Path, failure: &Failure) -> Outcome {
        let mut out = std::io::stdout().lock();
        let written = if self.json {
            writeln!(
                out,
                "{}",
                json!({ "path": path, "error": failure.message() })
            )
        } else {
            writeln!(
                out,
                "{}\n  not scored: {}",
                path.display(),
                failure.message()
            )
        };
        written.map_err(super::cannot_write)
    }
}

/// A local file has no label that a sender could have got wrong: its bytes say what it is.
fn upload(bytes: Vec<u8>) -> Upload {
    Upload {
        bytes,
        file_name: None,
        media_type: None,
        strip_pictures: 0,
    }
}

/// The assessment as it is, with the file's path and digests, and the entry where there is one.
pub(super) fn json_line(
    path: &Path,
    examination: &Examination,
    recorded: Option<&RecordedScore>,
) -> Result<Value, Failure> {
    let mut line = serde_json::to_value(&examination.assessment).map_err(Failure::work)?;
    line["path"] = json!(path);
    line["sha256"] = json!(examination.sha256);
    line["pixel_sha256"] = json!(examination.pixel_sha256);
    line["notes"] = json!(examination.decoded.notes());
    line["colour_profile"] = json!(examination.decoded.colour_profile);
    line["timings_ms"] = json!(examination.timings_ms);
    line["entry"] = match recorded {
        None => Value::Null,
        Some(recorded) => json!({
            "leaf_index": recorded.leaf_index,
            "leaf_hash": recorded.leaf_hash,
            "upload_salt": hex::encode(recorded.upload_salt),
        }),
    };
    Ok(line)
}
