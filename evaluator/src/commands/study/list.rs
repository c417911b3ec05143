//! `evaluator study list`: what studies there are and how far they are.

use clap::Args;

use super::times;

#[derive(Args)]
#[command(after_help = "\
Examples:
  evaluator study list")]
pub struct List {
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    pub fn run(self) -> anyhow::Result<()> {
        let db = registry::Blocking::open()?;
        let studies = db.wait(db.studies())?;
        if self.json {
            return terminal::print_json(&studies);
        }
        let mut table = terminal::Table::new(&[
            "study",
            "systems",
            "images",
            "shown for",
            "raters",
            "answers",
            "owner",
        ])
        .cut(&["systems"])
        .omit(&["owner"]);
        for study in studies {
            table.row([
                study.name,
                study.systems.join(", "),
                study.images.to_string(),
                times(&study.seconds),
                study.raters.to_string(),
                study.answers.to_string(),
                study.owner,
            ]);
        }
        table.print()
    }
}
