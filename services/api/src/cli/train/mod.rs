//! `retrace train`

mod fitting;
mod folder;
mod measuring;
mod pictures;
mod reading;

use std::path::{Path, PathBuf};

use api::config::Limits;
use api::engine::Engine;
use clap::Args;
use serde_json::json;
use training::recipe::RECIPE_VERSION;
use training::report::{Facts, Report};
use training::table::{Label, Table};

use super::Outcome;
use super::environment::EngineArgs;
use super::failure::Failure;
use pictures::Named;
use reading::Reader;

const EXAMPLES: &str = "\
Examples:
  retrace train --real photos/ --generated generated/ --output models/detector-2026-11
  retrace train --real photos/ --art drawings/ --generated generated/ --output models/detector-2026-11
  retrace train --manifest pictures/manifest.csv --seed 7 --output models/detector-2026-11
  retrace score --offline --detector models/detector-2026-11 suspect.jpg

A folder inside --real, --art or --generated is a set: a source of photographs, or what one generator made. Each set
is left out of the fit in turn, to say how the detector does on a source or generator that it has never seen; so name
the folders by camera, agency or model. A manifest is a CSV file with the columns path, label (real, art or
generated), set and, where wanted, role (train or validation, of real and art pictures) and original_format (JPEG or
WEBP mark pictures that were compressed with loss before they were saved as they are now).

Refits trees, semantic head, fusion, calibration and thresholds, without Python, and writes a new folder with its card
(README.md), its report (report.html, report.json) and its own manifest of digests. Nothing is overwritten and nothing
is put to use by itself: name the folder with --detector or RETRACE_DETECTOR. The photo prior and the image encoder
stay those of the detector in use. A convolutional head is not fitted: that needs the training environment with
PyTorch (models/training). A detector whose controls fail is written with its reasons, exit code 1, and refused by
every command that would use it.

What was measured of a picture is kept below --cache. A run that was stopped, or killed, goes on when the same command
is given again, and loses the one picture that it was at. The same pictures, seed and parts give the same weights.";

/// Arguments of `retrace train`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Train {
    /// Folder of photographs; may be given several times
    #[arg(long, value_name = "DIR", required_unless_present = "manifest")]
    real: Vec<PathBuf>,

    /// Folder of generated pictures; may be given several times
    #[arg(long, value_name = "DIR", required_unless_present = "manifest")]
    generated: Vec<PathBuf>,

    /// Folder of drawings, paintings and renderings by people; may be given several times
    #[arg(long, value_name = "DIR")]
    art: Vec<PathBuf>,

    /// List of pictures instead of folders
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["real", "generated", "art"])]
    manifest: Option<PathBuf>,

    /// Folder of the new detector, which must not exist
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,

    /// Name of the new detector [default: the name of its folder]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Seed of every draw
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Folder where measurements are kept between runs
    #[arg(long, value_name = "DIR", default_value = "./retrace-training/")]
    cache: PathBuf,

    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    limits: TrainLimits,

    #[command(flatten)]
    engine: EngineArgs,
}

/// Limits of a training.
#[derive(Debug, Args, Clone)]
#[command(next_help_heading = "Limits")]
struct TrainLimits {
    /// Pictures that are needed of photographs, and of generated pictures; at least 20
    #[arg(long, value_name = "COUNT", default_value_t = 40, value_parser = clap::value_parser!(u64).range(CLASS_PICTURES_FLOOR..))]
    class_pictures_min: u64,

    /// Pictures at most: each takes about 0.2 MB of memory
    #[arg(long, value_name = "COUNT", default_value_t = 20_000)]
    pictures_max: u64,
}

/// With fewer pictures of a class the controls could not tell a broken detector from a good one.
const CLASS_PICTURES_FLOOR: u64 = 20;
/// Longest name of a detector.
const NAME_CHARS_MAX: usize = 64;

impl Train {
    /// Reads, measures, fits and writes.
    pub fn run(self) -> Outcome {
        let name = self.detector_name()?;
        folder::refuse_existing(&self.output)?;
        let named = self.named_pictures()?;
        if named.len() as u64 > self.limits.pictures_max {
            let text = format!(
                "{} pictures, over pictures_max ({})",
                named.len(),
                self.limits.pictures_max
            );
            return Err(Failure::usage(text));
        }
        let engine =
            Engine::open_detector(&self.engine.options(None)).map_err(Failure::environment)?;
        let slot = engine.detector().map_err(Failure::environment)?;
        let base = folder::base(engine.detector_folder(), slot)?;
        if base.semantic.is_none() {
            eprintln!(
                "the image encoder is not installed: the new detector will rest on the trace alone"
            );
        }
        let limits = Limits::default();
        let runtime = super::async_runtime()?;
        let mut reader = Reader::new(&self.cache, &limits)?;
        let mut read = runtime.block_on(reader.read_all(named))?;
        self.refuse_few(&read.pictures)?;
        let pool = reading::pool(&read.pictures);
        let measured = runtime.block_on(measuring::measure_all(
            &measuring::Measuring {
                reader: &reader,
                slot,
                base: &base,
                pool: &pool,
                seed: self.seed,
                cache: &self.cache,
            },
            &mut read,
        ))?;
        self.refuse_few(&read.pictures)?;
        let table = Table::new(measured, base.semantic.is_some(), self.seed);
        let facts = Facts {
            name,
            version: folder::today(),
            date: folder::today(),
            seed: self.seed,
            made_with: format!("retrace {}", env!("CARGO_PKG_VERSION")),
            has_semantic: base.semantic.is_some(),
            base: format!("{} {}", slot.identity.name, slot.identity.version),
            recipe: RECIPE_VERSION.to_owned(),
            history_share: pool.history_share(),
            skipped: read.skipped,
        };
        let trained = fitting::fit(&table, &base, &facts, self.engine.threads())?;
        folder::write(&self.output, &trained.files, &self.engine)?;
        self.tell(&trained.report)
    }

    fn detector_name(&self) -> Result<String, Failure> {
        let of_folder = || {
            self.output
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let name = self.name.clone().or_else(of_folder).unwrap_or_default();
        let is_printable = name.chars().all(|character| !character.is_control());
        if name.trim().is_empty() || name.chars().count() > NAME_CHARS_MAX || !is_printable {
            let text = format!(
                "a detector's name has 1 to {NAME_CHARS_MAX} printable characters; give one with --name"
            );
            return Err(Failure::usage(text));
        }
        Ok(name)
    }

    fn named_pictures(&self) -> Result<Vec<Named>, Failure> {
        if let Some(manifest) = &self.manifest {
            return pictures::of_manifest(manifest);
        }
        let mut out = Vec::new();
        for (label, folders) in [
            (Label::Real, &self.real),
            (Label::Art, &self.art),
            (Label::Generated, &self.generated),
        ] {
            for folder in folders {
                out.extend(pictures::of_folder(folder, label)?);
            }
        }
        Ok(out)
    }

    /// Too few pictures of a class are refused, before and after measuring.
    fn refuse_few(&self, pictures: &[reading::Read]) -> Outcome {
        for label in [Label::Real, Label::Generated] {
            let count = pictures
                .iter()
                .filter(|picture| picture.named.label == label)
                .count() as u64;
            let least = self.limits.class_pictures_min;
            if count < least {
                let text = format!(
                    "{count} usable {} pictures, {least} are needed (class_pictures_min)",
                    label.name()
                );
                return Err(Failure::does_not_hold(text));
            }
        }
        Ok(())
    }

    fn tell(&self, report: &Report) -> Outcome {
        let figures = &report.figures;
        let all = &figures.tiers[0];
        if self.json {
            let line = json!({
                "detector": self.output,
                "refused": report.refused,
                "pictures": report.sets.iter().map(|set| set.pictures).sum::<usize>(),
                "copies": report.copies,
                "skipped": report.facts.skipped.len(),
                "auc": all.auc,
                "trace_auc": all.trace_auc,
                "semantic_auc": all.semantic_auc,
                "left_out_mean_auc": figures.macro_auc,
                "left_out_minimum_auc": figures.minimum_auc,
                "report": self.output.join("report.html"),
            });
            println!("{line}");
        } else {
            let auc =
                |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
            println!("{}", self.output.display());
            println!(
                "  pictures used     {} ({} skipped)",
                report.sets.iter().map(|set| set.pictures).sum::<usize>(),
                report.facts.skipped.len()
            );
            println!(
                "  AUC               {} (trace {}, semantic {})",
                auc(all.auc),
                auc(all.trace_auc),
                auc(all.semantic_auc)
            );
            println!(
                "  left-out sets     mean {}, smallest {}",
                auc(figures.macro_auc),
                auc(figures.minimum_auc)
            );
            for row in figures.verdicts.iter().filter(|row| row.tier == "all") {
                println!(
                    "  {:<17} {:.1} % likely generated, {:.1} % likely not, {:.1} % inconclusive",
                    row.label.name(),
                    100.0 * row.generated.share,
                    100.0 * row.not_generated.share,
                    100.0 * row.inconclusive.share
                );
            }
            println!(
                "  report            {}",
                self.output.join("report.html").display()
            );
        }
        if report.refused.is_empty() {
            if !self.json {
                println!(
                    "put it to use with --detector {0}, or RETRACE_DETECTOR={0}",
                    self.output.display()
                );
            }
            return Ok(());
        }
        Err(Failure::does_not_hold(format!(
            "the detector in {} is refused: {}",
            self.output.display(),
            report.refused.join("; ")
        )))
    }
}

/// Makes a folder with all above it.
fn make_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path).map_err(|error| {
        Failure::environment(format!("folder {} cannot be made: {error}", path.display()))
    })
}
