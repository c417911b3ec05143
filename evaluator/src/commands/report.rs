//! `evaluator report`: tables, histograms and sheets in one HTML file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use registry::Blocking;

use super::Protocol;
use crate::report::{self, Options};

#[derive(Args)]
#[command(after_help = "\
Examples:
  evaluator report configs/evaluation/table-1.toml --profile my-lab.toml --out report.html")]
pub struct ReportArgs {
    /// Tables, such as configs/evaluation/table-1.toml.
    #[arg(value_name = "TABLE", required = true)]
    tables: Vec<PathBuf>,
    /// Where this laboratory has what the tables name, such as configs/evaluation/profiles/paper.toml.
    #[arg(long, value_name = "FILE")]
    profile: PathBuf,
    /// The HTML file.
    #[arg(long, value_name = "FILE", default_value = "report.html", value_parser = storage::named::file)]
    out: PathBuf,
    /// Also write every sheet as a PNG file into this folder.
    #[arg(long, value_name = "DIR", value_parser = storage::local_path)]
    pictures: Option<PathBuf>,
}

impl ReportArgs {
    pub fn run(self) -> Result<()> {
        if storage::named::is_stdout(&self.out) {
            terminal::leave_stdout();
        }
        let protocol = Protocol::read(&self.tables, &self.profile)?;
        let db = Blocking::open()?;
        let filled = protocol.fill(&db)?;
        let options = Options {
            profile: &protocol.profile,
            profile_file: &self.profile,
            pictures: self.pictures.as_deref(),
        };
        for failed in report::write(&filled, &options, &self.out)? {
            tracing::warn!("{failed}");
        }
        terminal::print(&self.out.display().to_string())
    }
}
