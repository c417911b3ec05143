//! `export`: the metrics of runs as files that other programs open.

use std::path::PathBuf;

use registry::Blocking;
use room::Export;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler export palette --tensorboard logs
  scheduler export palette 1a2b3c4d --parquet metrics.parquet")]
pub struct Arguments {
    /// The runs, by name or id
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    #[command(flatten)]
    to: To,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct To {
    /// Write event files of TensorBoard into this folder, a folder for each run
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
    /// Write all points as one CSV file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write all points as one Parquet file
    #[arg(long, value_name = "FILE")]
    parquet: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let To { tensorboard, csv, parquet } = arguments.to;
    let to = match (tensorboard, csv, parquet) {
        (Some(folder), _, _) => Export::TensorBoard(folder),
        (_, Some(file), _) => Export::Csv(file),
        (_, _, Some(file)) => Export::Parquet(file),
        // The command line asks for one of them.
        (None, None, None) => return Ok(()),
    };
    let db = Blocking::open()?;
    let mut runs = Vec::new();
    for name in &arguments.runs {
        runs.push(db.wait(db.find_run(name))?);
    }
    for file in db.wait(room::export(&db, &runs, &to))? {
        terminal::print(&file.display().to_string())?;
    }
    Ok(())
}
