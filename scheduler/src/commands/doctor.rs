//! `doctor`: what is wrong, and what to do.

use std::path::PathBuf;

use scheduler::doctor::{Verdict, examine};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler doctor")]
pub struct Arguments {
    /// The folder of the programs that do the work [default: that of this program]
    #[arg(long, env = "PALETTE_BIN", value_name = "DIR", value_parser = storage::local_path)]
    programs: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// `revision` is that of this program.
pub fn run(arguments: Arguments, revision: Option<&str>) -> anyhow::Result<()> {
    let findings = examine(&super::programs(arguments.programs)?, revision)?;
    if arguments.json {
        terminal::print_json(&findings)?;
    } else {
        for finding in &findings {
            let remedy = finding.remedy.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
            let (verdict, area, text) = (finding.verdict, finding.area, &finding.text);
            let verdict = terminal::states(&format!("{verdict:7}"));
            terminal::print(&format!("{verdict}  {area:8}  {text}{remedy}").replace('\n', " "))?;
        }
    }
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Failed).count();
    anyhow::ensure!(failed == 0, "{failed} of {} checks failed", findings.len());
    Ok(())
}
