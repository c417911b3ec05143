//! `worker`: does the work, and says so line by line.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use registry::{Database, JobKind, JobState, Lease, STOPPED, Signals, WorkerInfo};
use scheduler::gpus::Host;
use scheduler::slurm::{Allocation, MARGIN};
use scheduler::worker::endpoint::{Address, Endpoint};
use scheduler::worker::{Bounds, Options, Reporter, Summary, WorkerEvent};
use storage::{Place, Source};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler worker
  scheduler worker --slots 2 --max-walltime 4h --label rack=a
  scheduler worker --slurm --drain --idle 10m")]
pub struct Arguments {
    /// End when nothing is queued or running that this worker could do; status 1 when a job failed here or one is left
    /// that too few hosts came for, otherwise 75 when it was stopped before, by a signal or its wall time
    #[arg(long)]
    drain: bool,
    /// End as soon as there is nothing to claim; status as with --drain, and 1 when it was ailing and jobs waited
    #[arg(long)]
    exit_when_idle: bool,
    /// End when nothing could be claimed for this long (`10m`), though jobs of others run or wait; status as with
    /// --exit-when-idle
    #[arg(long, value_name = "SPAN", conflicts_with = "exit_when_idle", value_parser = super::span)]
    idle: Option<Duration>,
    /// Jobs at a time [default: the number of GPUs, or 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    slots: Option<u16>,
    /// Seconds between polls of the queue while no notification comes
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    poll: f64,
    /// Seconds that a job has for its checkpoint when it is asked to stop, before it is killed
    #[arg(long, env = "PALETTE_GRACE_SECONDS", default_value_t = 120.0, value_parser = seconds)]
    grace: f64,
    /// Seconds that a job for several hosts waits for workers there, before its places are given back
    #[arg(long, env = "PALETTE_GATHER_SECONDS", default_value_t = 300.0, value_parser = seconds)]
    gather: f64,
    /// End within this time (`3:55:00`, `4h`, `90m`, `600s`): no more claims, and a checkpoint asked
    /// for, one grace before; for Slurm and preemptible machines
    #[arg(long, env = "PALETTE_MAX_WALLTIME", value_parser = registry::walltime)]
    max_walltime: Option<Duration>,
    /// Take from the job of Slurm that this runs in when to end, and the labels `partition`, `node` and `slurm-job`;
    /// status 75 whenever work is left (`scheduler slurm` prints a script that requeues then)
    #[arg(long)]
    slurm: bool,
    /// Name of this worker [default: host and process]
    #[arg(long, value_parser = storage::names::name)]
    name: Option<String>,
    /// A label that jobs can ask for; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = storage::names::label)]
    labels: Vec<(String, String)>,
    /// Print what the jobs print too [default: where stderr is a terminal]
    #[arg(long)]
    follow: bool,
    /// The folder of the programs that do the work [default: that of this program]
    #[arg(long, env = "PALETTE_BIN", value_name = "DIR", value_parser = storage::local_path)]
    programs: Option<PathBuf>,
    /// A folder or address (s3://, gs://, https://) that jobs may read; may be repeated
    #[arg(long = "data-root", value_name = "PLACE")]
    data_roots: Vec<Source>,
    /// A folder or address (s3://, gs://) that jobs may read and write; may be repeated
    #[arg(long = "output-root", value_name = "PLACE")]
    output_roots: Vec<Place>,
    /// Let jobs of a shared database read and write all that this user may: whoever may submit does so as this
    /// user. The private database needs no such word
    #[arg(
        long,
        env = "PALETTE_TRUST_SUBMITTERS",
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    trust_submitters: bool,
    /// Answer Prometheus at http://HOST:PORT/metrics [host default: 127.0.0.1]
    #[arg(long, value_name = "[HOST:]PORT")]
    metrics: Option<Address>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.05..=86_400.0).contains(&value) => Ok(value),
        _ => Err("seconds from 0.05 to 86400".into()),
    }
}

/// Runs the command; [`STOPPED`] where it was to empty the queue and was told to end before.
pub fn run(arguments: Arguments, messages: terminal::Messages) -> anyhow::Result<ExitCode> {
    let programs = super::programs(arguments.programs)?;
    let grace = Duration::from_secs_f64(arguments.grace);
    let too_short = |what: &str, span: Duration| {
        let (span, grace) = (terminal::duration(span), terminal::duration(grace));
        terminal::Usage::new(format!(
            "{what} {span}, which is not more than --grace, {grace}: no job could run"
        ))
    };
    if let Some(walltime) = arguments.max_walltime
        && walltime <= grace
    {
        return Err(too_short("--max-walltime is", walltime).into());
    }
    let mut walltime = arguments.max_walltime;
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    if arguments.slurm {
        let allocation = Allocation::read(|name| std::env::var(name).ok())
            .map_err(|why| terminal::Usage::new(format!("--slurm: {why}")))?;
        match allocation.time_left() {
            Ok(None) => {}
            Ok(Some(left)) => {
                let left = left.saturating_sub(MARGIN);
                if left <= grace {
                    return Err(too_short("Slurm leaves this job", left).into());
                }
                walltime = Some(walltime.map_or(left, |walltime| walltime.min(left)));
            }
            Err(why) => tracing::warn!(
                "when job {} of Slurm ends is not known: {why}; it works until Slurm tells it to end",
                allocation.job
            ),
        }
        labels.extend(allocation.labels);
    }
    labels.extend(arguments.labels);
    let bounds = match (arguments.data_roots.as_slice(), arguments.output_roots.as_slice()) {
        ([], []) => None,
        _ if arguments.trust_submitters => {
            let message =
                "--trust-submitters beside --data-root or --output-root: say one or the other";
            return Err(terminal::Usage::new(message).into());
        }
        (data, output) => Some(Bounds::new(data, output)?),
    };
    for doubt in bounds.iter().flat_map(Bounds::doubts) {
        tracing::warn!("{doubt}");
    }
    let options = Options {
        name: arguments.name,
        slots: arguments.slots.map(usize::from),
        drain: arguments.drain,
        exit_when_idle: arguments.exit_when_idle,
        poll: Duration::from_secs_f64(arguments.poll),
        grace,
        stand_still: registry::collective_limit()?,
        gather: Duration::from_secs_f64(arguments.gather),
        idle: arguments.idle,
        walltime,
        follow: arguments.follow || std::io::stderr().is_terminal(),
        format: messages.format(),
        labels,
        host: Some(Host::from_env()?),
        sample: registry::seconds("PALETTE_SAMPLE_SECONDS", 60.0, 0.1)?,
        programs,
        bounds,
        lease: Lease::from_env()?,
    };
    let unbound = options.bounds.is_none() && !arguments.trust_submitters;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let summary = runtime.block_on(async {
        // Batch systems send SIGTERM more than once, and children need their grace.
        let mut shutdown = std::pin::pin!(Signals::hear()?.first(scheduler::worker::kill_all));
        let database = tokio::select! {
            database = open(&options.lease) => database?,
            () = shutdown.as_mut() => return Ok(Summary { stopped: true, ..Summary::default() }),
        };
        if unbound && !database.is_private() {
            return Err(terminal::Usage::new(UNBOUND).into());
        }
        let mut report: Reporter = Arc::new(say);
        let endpoint = match &arguments.metrics {
            Some(address) => Some(Endpoint::start(address, database.clone()).await?),
            None => None,
        };
        if let Some(endpoint) = &endpoint {
            report(WorkerEvent::Note(format!("metrics at http://{}/metrics", endpoint.address())));
            report = endpoint.counting(report);
        }
        anyhow::Ok(scheduler::worker::run(database, options, report, shutdown).await?)
    })?;
    if !(arguments.drain || arguments.exit_when_idle || arguments.idle.is_some()) {
        return Ok(ExitCode::SUCCESS);
    }
    // Under Slurm the status is for a script, which cannot see both.
    if summary.failed > 0 && !(arguments.slurm && summary.stopped) {
        let all = summary.failed + summary.succeeded;
        anyhow::bail!(
            "{} of {all} jobs failed (see `scheduler jobs --state failed`)",
            summary.failed
        );
    }
    if summary.stopped {
        tracing::warn!("ended before the queue was empty: the same command goes on");
        return Ok(ExitCode::from(STOPPED));
    }
    if let Some(ails) = summary.ails {
        anyhow::bail!("jobs wait, and this worker could do none of them: {ails}");
    }
    if !summary.too_few_hosts.is_empty() {
        anyhow::bail!(
            "fewer hosts came than are needed for {}: start workers on as many at the same time, or wait longer \
             for them (--gather)",
            summary.too_few_hosts.join(", ")
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether these arguments are taken; then, whether they leave open what jobs may read and write.
///
/// # Errors
/// Why not, in one line.
pub fn check(arguments: &[String]) -> Result<bool, String> {
    use clap::{Args, FromArgMatches};
    let command = Arguments::augment_args(clap::Command::new("worker").no_binary_name(true));
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|matches| Arguments::from_arg_matches(&matches))
        .map_err(|error| {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.trim_start_matches("error: ").to_owned()
        })?;
    let bound = !parsed.data_roots.is_empty() || !parsed.output_roots.is_empty();
    Ok(!(bound || parsed.trust_submitters))
}

/// Why a worker of a shared database wants to know whom it trusts.
const UNBOUND: &str = "whoever may submit to this database decides what its jobs read and write as this user: name \
                       the folders and addresses that they may (--data-root, --output-root), or say \
                       --trust-submitters (docs/administration.md)";

/// Opens the database; where the server has no connection left, waits for one.
async fn open(lease: &Lease) -> registry::Result<Database> {
    let mut said = false;
    loop {
        let opened = async {
            let database = Database::open_for_work(lease).await?;
            database.demand_sessions().await?;
            Ok::<_, registry::Error>(database)
        };
        match opened.await {
            Err(error) if error.is_full() => {
                if !said {
                    tracing::warn!("{error}; waiting for one");
                }
                said = true;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            opened => return opened,
        }
    }
}

fn say(report: WorkerEvent) {
    let text = text(&report);
    match &report {
        WorkerEvent::Ready { worker, .. } | WorkerEvent::Gpus(worker) => {
            tracing::info!(worker = worker.name, "{text}");
        }
        WorkerEvent::Started { job, name, kind, attempt, ranks, gpus, .. } => {
            let ranks = ranks.map(|(all, _)| all);
            tracing::info!(job, name, kind = kind.name(), attempt, ranks, gpus, "{text}");
        }
        WorkerEvent::Seated { job, name, attempt } => {
            tracing::info!(job, name, attempt, "{text}");
        }
        WorkerEvent::Joined { job, name, attempt, ranks, gpus, .. } => {
            tracing::info!(job, name, attempt, ranks, gpus, "{text}");
        }
        WorkerEvent::Left { job, name, attempt, reason } => {
            tracing::info!(job, name, attempt, reason, "{text}");
        }
        WorkerEvent::Line { job, line } => {
            if !terminal::pass_on(line, &[("job", job)]) {
                tracing::info!(job, "{text}");
            }
        }
        WorkerEvent::Ended { job, name, state, reason, took, .. } => {
            let seconds = took.map(|took| took.as_secs_f64());
            tracing::info!(job, name, state = state.to_string(), reason, seconds, "{text}");
        }
        WorkerEvent::Dropped { job, name, attempt, why } => {
            tracing::info!(job, name, attempt, why, "{text}");
        }
        WorkerEvent::Ails(Some(ails)) => tracing::warn!(ails, "{text}"),
        WorkerEvent::Ails(None) | WorkerEvent::Note(_) => tracing::info!("{text}"),
    }
}

fn text(report: &WorkerEvent) -> String {
    match report {
        WorkerEvent::Ready { worker, kinds } => {
            let all = kinds.len() == JobKind::ALL.len();
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            let only = if all { String::new() } else { format!(", only {}", names.join(", ")) };
            let gpus = if worker.gpus.is_empty() { String::new() } else { gpus(worker) };
            format!("worker {}: {}{gpus}{only}", worker.name, at_a_time(worker))
        }
        WorkerEvent::Started { job, name, kind, attempt, ranks, gpus, log } => {
            let gpus = gpus.as_ref().map(|gpus| format!(", {gpus}")).unwrap_or_default();
            let ranks = match *ranks {
                None | Some((1, _)) => String::new(),
                Some((all, here)) if all == here => format!(", {all} ranks"),
                Some((all, here)) => format!(", {all} ranks, {here} of them here"),
            };
            let log = log.display();
            format!("{job} {name}: {kind} started, attempt {attempt}{ranks}{gpus}, log {log}")
        }
        WorkerEvent::Seated { job, name, attempt } => {
            format!("{job} {name}: takes part in attempt {attempt}, waits for the other hosts")
        }
        WorkerEvent::Joined { job, name, attempt, ranks, gpus, log } => {
            let gpus = gpus.as_ref().map(|gpus| format!(", {gpus}")).unwrap_or_default();
            let log = log.display();
            format!("{job} {name}: {ranks} of attempt {attempt} started{gpus}, log {log}")
        }
        WorkerEvent::Left { job, name, reason, .. } => {
            let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{job} {name}: its seat has ended{reason}")
        }
        WorkerEvent::Line { job, line } => format!("{job} | {line}"),
        WorkerEvent::Ended { job, name, state, reason, took, wait } => {
            let mut text = format!("{job} {name}: {state}");
            if let Some(took) = took {
                text += &format!(" after {}", terminal::duration(*took));
            }
            if let Some(reason) = reason {
                text += &format!(", {reason}");
            }
            if *state == JobState::Queued && !wait.is_zero() {
                text += &format!("; tried again in {}", terminal::duration(*wait));
            }
            text
        }
        WorkerEvent::Dropped { job, name, attempt, why: None } => {
            format!(
                "{job} {name}: attempt {attempt} was cancelled or given to another worker; dropped"
            )
        }
        WorkerEvent::Dropped { job, name, attempt, why: Some(why) } => {
            format!("{job} {name}: the end of attempt {attempt} cannot be stored: {why}; dropped")
        }
        WorkerEvent::Gpus(worker) => {
            format!("worker {}: {}{}", worker.name, at_a_time(worker), gpus(worker))
        }
        WorkerEvent::Ails(Some(ails)) => {
            format!("ailing: {ails}; nothing is claimed until that has passed")
        }
        WorkerEvent::Ails(None) => "well again: jobs are claimed".to_owned(),
        WorkerEvent::Note(text) => text.clone(),
    }
}

fn at_a_time(worker: &WorkerInfo) -> String {
    let plural = if worker.slots == 1 { "" } else { "s" };
    format!("{} job{plural} at a time", worker.slots)
}

/// How many GPUs a worker hands out.
fn gpus(worker: &WorkerInfo) -> String {
    let count = worker.gpus.len();
    let plural = if count == 1 { "" } else { "s" };
    format!(", {count} gpu{plural}")
}
