//! Claims and finishes of empty jobs, in turns with pgbench on the same table with statements that do
//! nothing else: no attempt, no dependencies, no resources.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use home::private::Programs;
use registry::{Ended, Error, JobKind, Lease, Outcome, Resources, Result, Scratch, WorkerInfo};
use serde::Serialize;

use super::Spread;

/// Pairs of claim and finish a second.
#[derive(Clone, Debug, Serialize)]
pub struct Claims {
    /// Clients that claim at the same time.
    pub claimers: usize,
    /// Ours.
    pub ours: Spread,
    /// pgbench's with the bare statements; none where it is not installed.
    pub bare: Option<Spread>,
    /// Ours by pgbench's, of each round.
    pub ratio: Option<Spread>,
}

const BARE: &str = r"update jobs
set state = 'running', attempt = attempt + 1, worker_id = '00000000-0000-0000-0000-000000000000',
    lease_expires_at = now() + interval '30 seconds'
where id = (select id from jobs where state = 'queued' and waits = 0 and run_after <= now()
            order by priority desc, coalesce(place, created_at), id limit 1 for update skip locked)
returning id, attempt \gset
update jobs set state = 'succeeded', worker_id = null, lease_expires_at = null, ended_at = now()
where id = :id and attempt = :attempt and lease_expires_at is not null;
";

/// Measures with each number of claimers, each turn for so long.
///
/// # Errors
/// Those of the database.
pub async fn claims(
    scratch: &Scratch,
    claimers: &[usize],
    rounds: usize,
    turn: Duration,
) -> Result<Vec<Claims>> {
    let pgbench = Programs::find(None).ok().map(|programs| programs.path("pgbench"));
    let pgbench = pgbench.filter(|path| path.is_file());
    let mut script = tempfile::NamedTempFile::new().map_err(Error::io(&std::env::temp_dir()))?;
    script.write_all(BARE.as_bytes()).map_err(Error::io(Path::new("a temporary file")))?;
    let mut all = Vec::new();
    for &count in claimers {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            fill(scratch, turn).await?;
            ours.push(claim_for(scratch, count, turn).await?);
            if let Some(program) = &pgbench {
                fill(scratch, turn).await?;
                let mut command = Command::new(program);
                command
                    .args(["--no-vacuum", "--protocol=prepared", "--jobs=1"])
                    .arg(format!("--client={count}"))
                    .arg(format!("--time={}", turn.as_secs().max(1)))
                    .arg("--file")
                    .arg(script.path())
                    .arg(scratch.database().url())
                    .stdin(Stdio::null());
                let output = tokio::task::spawn_blocking(move || command.output())
                    .await
                    .map_err(|error| Error::Failed(error.to_string()))?
                    .map_err(Error::io(program))?;
                bare.push(transactions(&String::from_utf8_lossy(&output.stdout)).ok_or_else(
                    || {
                        let said = String::from_utf8_lossy(&output.stderr);
                        Error::Failed(format!("pgbench failed: {}", said.trim()))
                    },
                )?);
            }
        }
        let ratios: Vec<f64> = ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect();
        let some = |values: Vec<f64>| (!values.is_empty()).then(|| Spread::of(values));
        all.push(Claims {
            claimers: count,
            ours: Spread::of(ours),
            bare: some(bare),
            ratio: some(ratios),
        });
    }
    Ok(all)
}

/// Queues more jobs than a turn can take.
async fn fill(scratch: &Scratch, turn: Duration) -> Result<()> {
    scratch.fill(i64::try_from(10_000 * turn.as_secs().max(1)).unwrap_or(i64::MAX)).await
}

async fn claim_for(scratch: &Scratch, claimers: usize, turn: Duration) -> Result<f64> {
    let lease = Lease { length: Duration::from_secs(30), retry_delay: Duration::ZERO };
    let resources = Resources { kinds: vec![JobKind::Ingest], ..Resources::default() };
    let mut clients = Vec::new();
    for _ in 0..claimers {
        let database = scratch.client().await?;
        let worker = WorkerInfo::this_process(None, 1);
        database.register_worker(&worker).await?;
        clients.push((database, worker));
    }
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (database, worker) in clients {
        let resources = resources.clone();
        tasks.spawn(async move {
            let mut pairs = 0;
            while began.elapsed() < turn {
                let Some(claimed) = database.claim(&worker, &resources, &lease).await? else {
                    return Err(Error::Failed("a turn took more jobs than were queued".into()));
                };
                let done = Ended::new(Outcome::Succeeded, None);
                database.finish(claimed.fence, &done, &lease).await?;
                pairs += 1;
            }
            Ok(pairs)
        });
    }
    let mut pairs = 0;
    while let Some(done) = tasks.join_next().await {
        pairs += done.map_err(|error| Error::Failed(error.to_string()))??;
    }
    Ok(f64::from(pairs) / began.elapsed().as_secs_f64())
}

/// What pgbench says of its transactions a second.
fn transactions(text: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix("tps = "))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}
