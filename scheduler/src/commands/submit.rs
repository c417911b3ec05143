//! `submit`: a command line of `pipeline` or `evaluator` becomes a job.

use std::path::{Path, PathBuf};

use registry::{Blocking, CommandLine, JobKind, JobOptions, NewJob};
use terminal::{Checked, Usage};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler submit ingest -- photographs.tar --out data/train
  scheduler submit evaluate --after 1a2b3c4d -- --outputs outputs/palette")]
pub struct Arguments {
    /// Kind of job: `ingest` runs `pipeline ingest …`, `evaluate` runs `evaluator run …`
    #[arg(value_enum)]
    kind: SubmitKind,
    /// Name of the job: 1 to 100 characters, no spaces, @ and / [default: `ingest`, or that of the outputs with
    /// `-scores` behind it]
    #[arg(long, value_parser = storage::names::name)]
    name: Option<String>,
    #[command(flatten)]
    options: JobOptions,
    /// The folder of the program, which is asked whether it takes the arguments [default: that of this program]
    #[arg(long, env = "PALETTE_BIN", value_name = "DIR", value_parser = storage::local_path)]
    programs: Option<PathBuf>,
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
    let kind = match arguments.kind {
        SubmitKind::Ingest => JobKind::Ingest,
        SubmitKind::Evaluate => JobKind::Evaluate,
    };
    let command = kind.command().unwrap_or_default();
    if arguments.arguments.iter().any(|argument| argument.contains('\0')) {
        return Err(Usage::new("an argument holds a zero byte").into());
    }
    let line = CommandLine {
        arguments: std::iter::once(command.to_owned()).chain(arguments.arguments).collect(),
        folder: std::env::current_dir()?,
    };
    let program = super::programs(arguments.programs)?.join(kind.program());
    let unchecked = check(&program, &line.arguments)?;
    let name = arguments.name.unwrap_or_else(|| match arguments.kind {
        SubmitKind::Ingest => command.to_owned(),
        SubmitKind::Evaluate => scores_of(&line.arguments),
    });
    let db = Blocking::open()?;
    let job = arguments.options.apply(&db, NewJob::new(kind, name, line.payload()?))?;
    let submitted = db.wait(db.submit(job))?;
    if let Some(why) = unchecked {
        tracing::info!(
            "the arguments are checked when a worker has the job: {}: {why}",
            program.display()
        );
    }
    if arguments.json {
        return terminal::print_json(&submitted);
    }
    let how = if submitted.existed { "was submitted before" } else { "submitted" };
    let job = submitted.job;
    terminal::print(&format!("job {} ({}) {how}, {}", job.short, job.name, job.state))
}

/// Refuses what the program would refuse; where that cannot be asked, says why.
fn check(program: &Path, arguments: &[String]) -> anyhow::Result<Option<String>> {
    match terminal::check(program, arguments) {
        Checked::Taken => Ok(None),
        Checked::Refused(reason) => {
            let name = program.file_name().unwrap_or_default().display();
            let command = arguments.first().map_or("", String::as_str);
            Err(Usage::new(format!(
                "{name} does not take these arguments: {reason} (`{name} {command} --help` lists what it takes)"
            ))
            .into())
        }
        Checked::Unknown(why) => Ok(Some(why)),
    }
}

/// The name of a job that scores these outputs, as that of a sampling job goes by its run.
fn scores_of(arguments: &[String]) -> String {
    let mut words = arguments.iter().skip_while(|word| !word.starts_with(OUTPUTS));
    let outputs = match words.next().and_then(|word| word.strip_prefix(OUTPUTS)) {
        Some("") => words.next().map_or("", String::as_str),
        Some(rest) => rest.trim_start_matches('='),
        None => "",
    };
    // Without the column behind `#`, which a name of a folder seldom has.
    let place = outputs.split('#').next().unwrap_or_default().trim_end_matches('/');
    match place.rsplit('/').next().unwrap_or_default() {
        "" | "." | ".." => "scores".to_owned(),
        last => storage::names::with_end(&storage::names::fitted(last), "-scores"),
    }
}

/// The option of `evaluator run` that names what is scored.
const OUTPUTS: &str = "--outputs";

#[cfg(test)]
mod tests {
    use super::scores_of;

    #[test]
    fn scores_are_called_by_what_they_score() {
        for (arguments, name) in [
            (&["run", "--outputs", "outputs/palette"][..], "palette-scores"),
            (&["run", "--size", "64", "--outputs=s3://lab/out/jpeg 5/#source"], "jpeg-5-scores"),
            (&["run", "--outputs", "."], "scores"),
            (&["run", "--outputs"], "scores"),
            (&["run"], "scores"),
        ] {
            let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(scores_of(&arguments), name, "{arguments:?}");
        }
    }
}
