//! `evaluator table`: tables of the paper, filled from the registry; or what was scored of one run.

mod run;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use registry::Blocking;
use terminal::Usage;

use super::Protocol;
use crate::protocol::{Format, render};

#[derive(Args)]
#[command(after_help = "\
Examples:
  evaluator table configs/evaluation/table-1.toml --profile my-lab.toml --format markdown
  evaluator table --run palette")]
pub struct TableArgs {
    /// Tables, such as configs/evaluation/table-1.toml.
    #[arg(value_name = "TABLE", required_unless_present = "run")]
    tables: Vec<PathBuf>,
    /// Where this laboratory has what the tables name, such as configs/evaluation/profiles/paper.toml.
    #[arg(long, value_name = "FILE", required_unless_present = "run")]
    profile: Option<PathBuf>,
    /// In place of tables: this run (id or name) before and after training.
    #[arg(long, conflicts_with_all = ["tables", "profile", "format"])]
    run: Option<String>,
    /// How tables are written.
    #[arg(long, value_enum, default_value = "text", conflicts_with = "json")]
    format: Format,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

impl TableArgs {
    pub fn run(self) -> Result<()> {
        if let Some(run) = &self.run {
            return run::print_run(run, self.json);
        }
        let Some(profile) = &self.profile else {
            return Err(Usage::new("--profile is missing").into());
        };
        let protocol = Protocol::read(&self.tables, profile)?;
        let db = Blocking::open()?;
        let filled = protocol.fill(&db)?;
        if self.json {
            return terminal::print_json(&filled);
        }
        let texts =
            filled.iter().map(|one| render(one, self.format)).collect::<Result<Vec<String>>>()?;
        terminal::print(texts.join("\n").trim_end())
    }
}
