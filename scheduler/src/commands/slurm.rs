//! `slurm`: the script by which workers run as a job of Slurm, printed or submitted.

use std::time::Duration;

use scheduler::slurm::{self, MARGIN, Partition, Pilot, Preemption};
use terminal::Usage;

use super::worker;

/// What jobs have for a checkpoint where nothing else is known.
const GRACE: Duration = Duration::from_secs(120);

/// The longest warning that Slurm gives (`--signal` has 16 bits).
const LONGEST_WARNING: Duration = Duration::from_secs(65_535);

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler slurm --partition gpu --gpus 1 --cpus 8 --time 24h
  scheduler slurm --partition gpu --gpus 1 --array 8 --submit -- --output-root /scratch/palette
  scheduler slurm --partition gpu --gpus 4 --nodes 2 --environment /shared/palette.env --submit")]
pub struct Arguments {
    /// The partition; several with commas: the first with room
    #[arg(long, value_name = "NAME", value_parser = slurm::word)]
    partition: String,
    /// Pilots, as tasks of an array; each starts, is preempted and is requeued by itself [default: one, no array]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    array: Option<u32>,
    /// Pilots of the array that run at once, at most
    #[arg(long, value_name = "NUMBER", requires = "array", value_parser = clap::value_parser!(u32).range(1..))]
    at_once: Option<u32>,
    /// Hosts of one pilot, each with a worker
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    nodes: u32,
    /// GPUs of each host, or TYPE:NUMBER [default: none, and none of the host's is used]
    #[arg(long, value_name = "NUMBER", value_parser = slurm::count_of_gpus)]
    gpus: Option<String>,
    /// Cores of each host [default: Slurm's]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    cpus: Option<u32>,
    /// Memory of each host, such as 64G; 0 for all [default: Slurm's]
    #[arg(long, value_name = "AMOUNT", value_parser = slurm::memory)]
    mem: Option<String>,
    /// How long a pilot may run before it must end or be requeued (`24h`, `1-00:00:00`) [default: the partition's]
    #[arg(long, value_name = "SPAN", value_parser = registry::walltime)]
    time: Option<Duration>,
    /// Who pays
    #[arg(long, value_name = "NAME", value_parser = slurm::word)]
    account: Option<String>,
    /// Quality of service
    #[arg(long, value_name = "NAME", value_parser = slurm::word)]
    qos: Option<String>,
    /// What Slurm calls the pilots
    #[arg(long, value_name = "NAME", default_value = "palette", value_parser = slurm::word)]
    name: String,
    /// A label that jobs can ask for, beside `partition`, `node` and `slurm-job`; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = storage::names::label)]
    labels: Vec<(String, String)>,
    /// What jobs have for a checkpoint when the pilot must end; Slurm warns it that long before its time is over
    /// [default: the partition's GraceTime where Slurm is here and has one, at most `2m`, else `2m`]
    #[arg(long, value_name = "SPAN", value_parser = super::span)]
    grace: Option<Duration>,
    /// End when nothing could be claimed for this long although jobs of others run or wait
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = super::span)]
    idle: Duration,
    /// Requeue a pilot at most this often [default: as often as it must end with work left]
    #[arg(long, value_name = "NUMBER", conflicts_with = "no_requeue")]
    restarts: Option<u32>,
    /// Do not requeue a pilot that must end with work left
    #[arg(long)]
    no_requeue: bool,
    /// Where the pilots' output goes, with Slurm's patterns (`/logs/%A_%a.out`) [default: Slurm's]
    #[arg(long, value_name = "PATTERN", value_parser = slurm::pattern)]
    output: Option<String>,
    /// A file of shell on the hosts, read before the worker starts: DATABASE_URL, PALETTE_HOME, modules
    #[arg(long, value_name = "FILE", value_parser = slurm::path)]
    environment: Option<String>,
    /// The program `scheduler` on the hosts [default: this one]
    #[arg(long, value_name = "FILE", value_parser = slurm::path)]
    program: Option<String>,
    /// A further option of sbatch, such as --sbatch=--constraint=h100; may be repeated
    #[arg(long = "sbatch", value_name = "OPTION", allow_hyphen_values = true, value_parser = slurm::option)]
    options: Vec<String>,
    /// Submit the script with sbatch, and print the number of the job
    #[arg(long)]
    submit: bool,
    /// Print as JSON: the script, and the job where it was submitted
    #[arg(long)]
    json: bool,
    /// Further arguments of `scheduler worker`, after `--`
    #[arg(last = true, value_name = "ARGUMENT")]
    worker: Vec<String>,
}

#[derive(serde::Serialize)]
struct Printed<'a> {
    script: &'a str,
    submitted: Option<slurm::Submitted>,
}

pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (submit, json) = (arguments.submit, arguments.json);
    let of = format!(
        "{} in partition {}",
        match arguments.array {
            None | Some(1) => "a pilot".to_owned(),
            Some(pilots) => format!("{pilots} pilots"),
        },
        arguments.partition
    );
    let script = pilot(arguments)?.script();
    let submitted = match submit {
        true => Some(slurm::submit(&script).map_err(anyhow::Error::msg)?),
        false => None,
    };
    if json {
        return terminal::print_json(&Printed { script: &script, submitted });
    }
    match submitted {
        None => terminal::print(script.trim_end()),
        Some(slurm::Submitted { job, cluster }) => {
            let cluster = cluster.map_or_else(String::new, |name| format!(" of cluster {name}"));
            terminal::print(&format!("Slurm job {job}{cluster}: {of}"))
        }
    }
}

/// The pilot that these arguments mean; what could not work is refused.
fn pilot(arguments: Arguments) -> anyhow::Result<Pilot> {
    let command = own_arguments();
    // Each would end a line of the script.
    if let Some(strange) = command.iter().find(|argument| argument.contains(char::is_control)) {
        let message =
            format!("`{strange}` has control characters, which no line of a script can hold");
        return Err(Usage::new(message).into());
    }
    let partition = facts(&arguments.partition)?;
    let grace =
        arguments.grace.unwrap_or_else(|| match partition.as_ref().map(|it| it.preemption) {
            Some(Preemption::After(given)) if !given.is_zero() => given.min(GRACE),
            _ => GRACE,
        });
    if let Some(partition) = &partition {
        check(&arguments.partition, partition, arguments.time, grace)?;
    }
    let needed = grace + MARGIN;
    if needed > LONGEST_WARNING {
        let message = format!(
            "--grace is {}, and Slurm warns at most 18 hours before the end",
            terminal::duration(grace)
        );
        return Err(Usage::new(message).into());
    }
    if let Some(time) = arguments.time
        && time <= needed
    {
        return Err(Usage::new(format!(
            "--time is {}, which is not more than --grace and {} to end, {}: no job could run",
            terminal::duration(time),
            terminal::duration(MARGIN),
            terminal::duration(needed)
        ))
        .into());
    }
    let program = match arguments.program {
        Some(program) => program,
        None => slurm::path(&std::env::current_exe()?.display().to_string()).map_err(Usage::new)?,
    };
    let seconds = |span: Duration| span.as_secs().to_string();
    let mut line: Vec<String> =
        ["--slurm", "--drain", "--idle"].into_iter().map(str::to_owned).collect();
    line.extend([seconds(arguments.idle) + "s", "--grace".to_owned(), seconds(grace)]);
    for (key, value) in &arguments.labels {
        line.extend(["--label".to_owned(), format!("{key}={value}")]);
    }
    line.extend(arguments.worker);
    let unbound = worker::check(&line).map_err(|why| {
        Usage::new(format!("`scheduler worker {}` is refused: {why}", line.join(" ")))
    })?;
    if unbound && arguments.environment.is_none() {
        tracing::warn!(
            "the workers name no folders that jobs may use: add `-- --data-root DIR --output-root DIR`, or \
             --trust-submitters (docs/administration.md)"
        );
    }
    if arguments.environment.is_none() && std::env::var_os("DATABASE_URL").is_none() {
        tracing::warn!(
            "DATABASE_URL is not set here: the pilots want it, from the environment that sbatch passes on or from \
             a file (--environment)"
        );
    }
    Ok(Pilot {
        name: arguments.name,
        partition: arguments.partition,
        account: arguments.account,
        qos: arguments.qos,
        array: arguments.array.map(|pilots| (pilots, arguments.at_once)),
        nodes: arguments.nodes,
        gpus: arguments.gpus,
        cpus: arguments.cpus,
        memory: arguments.mem,
        time: arguments.time,
        grace,
        output: arguments.output,
        requeue: (!arguments.no_requeue).then_some(arguments.restarts),
        options: arguments.options,
        environment: arguments.environment,
        program,
        worker: line,
        command,
    })
}

/// The arguments of this command, as they stand in the script; without those that say what becomes of it.
fn own_arguments() -> Vec<String> {
    let all = std::env::args_os().skip_while(|argument| argument != "slurm").skip(1);
    let all = all.map(|argument| argument.to_string_lossy().into_owned());
    all.filter(|argument| !matches!(argument.as_str(), "--submit" | "--json")).collect()
}

/// What Slurm says of the partition, where there is one, and Slurm.
fn facts(partition: &str) -> anyhow::Result<Option<Partition>> {
    if partition.contains(',') {
        return Ok(None);
    }
    Partition::ask(partition).map_err(|words| anyhow::anyhow!("Slurm: {words}"))
}

/// Refuses what Slurm would never start, and warns of what would cut a checkpoint short.
fn check(
    name: &str,
    partition: &Partition,
    time: Option<Duration>,
    grace: Duration,
) -> Result<(), Usage> {
    if let (Some(time), Some(longest)) = (time, partition.longest)
        && time > longest
    {
        return Err(Usage::new(format!(
            "--time is {}, and partition {name} allows {}",
            slurm::clock(time),
            slurm::clock(longest)
        )));
    }
    match partition.preemption {
        Preemption::After(given) if given < grace => tracing::warn!(
            "partition {name} gives a preempted job {} (GraceTime) before it is killed, and --grace is {}: a \
             checkpoint that takes longer is lost, and its run goes on from the one before",
            terminal::duration(given),
            terminal::duration(grace)
        ),
        _ => {}
    }
    Ok(())
}
