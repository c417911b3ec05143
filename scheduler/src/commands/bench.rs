//! `bench`: how fast the queue and the registry are on this server.

use std::time::Duration;

use registry::Scratch;
use scheduler::bench::{self, Milliseconds, Spread};
use serde::Serialize;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler bench
  scheduler bench claims --claimers 1,8")]
pub struct Arguments {
    /// What to measure [default: claims, latency and points]
    #[arg(value_enum)]
    what: Vec<What>,
    /// Clients that claim at the same time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64], value_name = "N,N")]
    claimers: Vec<usize>,
    /// Seconds of one turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Turns of each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Jobs of the latency, one after the other
    #[arg(long, default_value_t = 300)]
    jobs: u16,
    /// Points of the history
    #[arg(long, value_delimiter = ',', default_values_t = [1_000_000, 10_000_000], value_name = "N,N")]
    points: Vec<i64>,
    /// Runs of the history
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    runs: i64,
    /// Jobs of the long queue
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(i64).range(2..=10_000_000))]
    queue: i64,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Empty jobs claimed and finished a second, in turns with pgbench
    Claims,
    /// From a submission to the start of its process
    Latency,
    /// Points of metrics a second
    Points,
    /// `jobs`, `runs` and `show` over a long history
    History,
    /// Claims, lists and `worker --drain` over a long queue of which a worker can do nothing
    Crowd,
}

#[derive(Default, Serialize)]
struct Results {
    claims: Vec<bench::Claims>,
    latency: Option<bench::Latency>,
    points: Vec<bench::Points>,
    history: Vec<bench::History>,
    crowd: Option<bench::Crowd>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let results = runtime.block_on(async {
        let scratch = Scratch::create().await?;
        let results = measure(arguments, &scratch).await;
        scratch.remove().await?;
        results
    })?;
    if arguments.json { terminal::print_json(&results) } else { print(&results) }
}

async fn measure(arguments: &Arguments, scratch: &Scratch) -> anyhow::Result<Results> {
    let turn = Duration::from_secs(arguments.seconds);
    let rounds = usize::from(arguments.rounds);
    let wanted = |what| {
        let by_default = !matches!(what, What::History | What::Crowd);
        arguments.what.contains(&what) || (arguments.what.is_empty() && by_default)
    };
    let mut results = Results::default();
    if wanted(What::Claims) {
        results.claims = bench::claims(scratch, &arguments.claimers, rounds, turn).await?;
    }
    if wanted(What::Latency) {
        results.latency = Some(bench::latency(scratch, usize::from(arguments.jobs)).await?);
    }
    if wanted(What::Points) {
        results.points = bench::points(scratch, &[1, 2, 4], &[1000, 10_000], rounds, turn).await?;
    }
    if wanted(What::History) {
        let program = std::env::current_exe()?;
        for &points in &arguments.points {
            let history = bench::history(scratch, &program, arguments.runs, points, 20).await?;
            results.history.push(history);
        }
    }
    if wanted(What::Crowd) {
        let program = std::env::current_exe()?;
        results.crowd = Some(bench::crowd(scratch, &program, arguments.queue, 20).await?);
    }
    Ok(results)
}

fn print(results: &Results) -> anyhow::Result<()> {
    if !results.claims.is_empty() {
        let headings = ["claimers", "claims and finishes/s", "pgbench, bare/s", "ratio"];
        let mut table = terminal::Table::new(&headings);
        for row in &results.claims {
            table.row([
                row.claimers.to_string(),
                spread(&row.ours, 0),
                row.bare.as_ref().map_or_else(String::new, |bare| spread(bare, 0)),
                row.ratio.as_ref().map_or_else(String::new, |ratio| spread(ratio, 2)),
            ]);
        }
        table.print()?;
    }
    if let Some(latency) = &results.latency {
        terminal::print(&format!("\nfrom submission, {} jobs", latency.jobs))?;
        let mut table = latency_table();
        table.row(milliseconds("to the claim", &latency.to_claim));
        table.row(milliseconds("to the child's first act", &latency.to_child));
        table.print()?;
    }
    if !results.points.is_empty() {
        terminal::print("")?;
        let mut table = terminal::Table::new(&["writers", "batch", "points/s"]);
        for row in &results.points {
            table.row([
                row.writers.to_string(),
                row.batch.to_string(),
                spread(&row.points_per_second, 0),
            ]);
        }
        table.print()?;
    }
    for history in &results.history {
        terminal::print(&format!(
            "\n{} runs, {} points ({})",
            history.runs,
            history.points,
            terminal::bytes(history.bytes.unsigned_abs())
        ))?;
        let mut table = latency_table();
        table.row(milliseconds("the query of `runs`", &history.query));
        for (command, spans) in &history.commands {
            table.row(milliseconds(command, spans));
        }
        table.print()?;
    }
    if let Some(crowd) = &results.crowd {
        terminal::print(&format!("\n{} queued jobs of which a worker can do nothing", crowd.jobs))?;
        let mut table = latency_table();
        for (query, spans) in &crowd.queries {
            table.row(milliseconds(query, spans));
        }
        for (command, spans) in &crowd.commands {
            table.row(milliseconds(command, spans));
        }
        table.print()?;
    }
    Ok(())
}

fn latency_table() -> terminal::Table {
    terminal::Table::new(&["", "p50 ms", "p90 ms", "p99 ms", "most ms"])
}

fn milliseconds(what: &str, spans: &Milliseconds) -> [String; 5] {
    let text = |value| format!("{value:.1}");
    [what.to_owned(), text(spans.p50), text(spans.p90), text(spans.p99), text(spans.most)]
}

/// The median, with the smallest and the largest.
fn spread(spread: &Spread, digits: usize) -> String {
    let Spread { least, median, most } = spread;
    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
}
