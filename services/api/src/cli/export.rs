//! `retrace ledger export`

use std::fs::File;
use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;

use api::config::EngineOptions;
use api::startup::Storage;
use api::work::{Export, ExportOrder, WorkError};
use clap::{Args, ValueEnum};
use ledger::Order;
use provenance::{ExportEncoding, TreeSize};

use super::environment::StateArgs;
use super::failure::Failure;
use super::search::SearchArgs;
use super::{Outcome, cannot_write};

/// Arguments of `retrace ledger export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// How rows are written
    #[arg(long, value_enum, default_value = "ndjson")]
    encoding: Encoding,
    /// File to write; standard output when left out
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    search: SearchArgs,
    /// Export under the checkpoint of this tree size [default: the newest]
    #[arg(long, value_name = "N")]
    tree_size: Option<u64>,
    #[command(flatten)]
    state: StateArgs,
}

/// The encodings, as the command line spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Encoding {
    Ndjson,
    Csv,
    Parquet,
}

impl ExportArgs {
    /// Writes the export.
    pub fn run(self) -> Outcome {
        let config = self.state.config(EngineOptions::default());
        let order = self.order()?;
        let mut output: Box<dyn Write> = match &self.output {
            Some(path) => {
                let file = File::create(path).map_err(|error| {
                    Failure::environment(format!("cannot write {}: {error}", path.display()))
                })?;
                Box::new(BufWriter::new(file))
            }
            None => Box::new(stdout().lock()),
        };
        super::async_runtime()?.block_on(async {
            let storage = Storage::open(&config).await?;
            let written = write(&storage, order, &mut *output).await;
            storage.close().await?;
            written
        })
    }

    fn order(&self) -> Result<ExportOrder, WorkError> {
        let conditions = self.search.conditions();
        Ok(ExportOrder {
            encoding: match self.encoding {
                Encoding::Ndjson => ExportEncoding::Ndjson,
                Encoding::Csv => ExportEncoding::Csv,
                Encoding::Parquet => ExportEncoding::Parquet,
            },
            filter: conditions.filter(Order::Ascending)?,
            conditions: conditions.stated(),
            tree_size: self.tree_size.map(TreeSize::new),
        })
    }
}

async fn write(storage: &Storage, order: ExportOrder, output: &mut dyn Write) -> Outcome {
    let mut export = Export::begin(&storage.ledger, order).await?;
    while let Some(bytes) = export.next(&storage.keys.entries).await? {
        output.write_all(&bytes).map_err(cannot_write)?;
    }
    output.flush().map_err(cannot_write)
}
