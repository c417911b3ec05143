//! `submit`: a command line of `pipeline` or `evaluator` becomes a job.

use registry::{Blocking, CommandLine, JobKind, JobOptions, NewJob};
use terminal::Usage;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler submit ingest -- photographs.tar --out data/train
  scheduler submit evaluate --after 1a2b3c4d -- --outputs outputs/palette")]
pub struct Arguments {
    /// Kind of job: `ingest` runs `pipeline ingest …`, `evaluate` runs `evaluator run …`
    #[arg(value_enum)]
    kind: SubmitKind,
    /// Name of the job: 1 to 100 characters, no spaces, @ and /
    #[arg(long, value_parser = storage::names::name)]
    name: Option<String>,
    #[command(flatten)]
    options: JobOptions,
    /// Print the job as JSON
    #[arg(long)]
    json: bool,
    /// The command's arguments, after `--`; relative paths start from the current folder, which the
    /// worker's host must have
    #[arg(last = true, required = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum SubmitKind {
    Ingest,
    Evaluate,
}

pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (kind, command) = match arguments.kind {
        SubmitKind::Ingest => (JobKind::Ingest, "ingest"),
        SubmitKind::Evaluate => (JobKind::Evaluate, "run"),
    };
    if arguments.arguments.iter().any(|argument| argument.contains('\0')) {
        return Err(Usage::new("an argument holds a zero byte").into());
    }
    let line = CommandLine {
        arguments: std::iter::once(command.to_owned()).chain(arguments.arguments).collect(),
        folder: std::env::current_dir()?,
    };
    let name = arguments.name.unwrap_or_else(|| command.to_owned());
    let db = Blocking::open()?;
    let job = arguments.options.apply(&db, NewJob::new(kind, name, line.payload()?))?;
    let submitted = db.wait(db.submit(job))?;
    if arguments.json {
        return terminal::print_json(&submitted);
    }
    let how = if submitted.existed { "was submitted before" } else { "submitted" };
    let job = submitted.job;
    terminal::print(&format!("job {} ({}) {how}, {}", job.short, job.name, job.state))
}
