//! Points of metrics a second, as attempts send them: batches of one run each, fenced, with the run's
//! newest values kept beside.

use std::time::{Duration, Instant};

use registry::{
    Error, JobKind, Lease, NewJob, NewPoint, NewRun, Resources, Result, Scratch, WorkerInfo,
};
use serde::Serialize;
use serde_json::json;

use super::Spread;

/// Points a second.
#[derive(Clone, Debug, Serialize)]
pub struct Points {
    /// Runs that record at the same time, each over a connection of its own.
    pub writers: usize,
    /// Points of a batch, of ten metrics.
    pub batch: usize,
    /// Points a second of all of them together.
    pub points_per_second: Spread,
}

/// Measures with each number of writers, each round for so long.
///
/// # Errors
/// Those of the database.
pub async fn points(
    scratch: &Scratch,
    writers: &[usize],
    batches: &[usize],
    rounds: usize,
    turn: Duration,
) -> Result<Vec<Points>> {
    let mut all = Vec::new();
    for &batch in batches {
        for &count in writers {
            let mut rates = Vec::new();
            for _ in 0..rounds {
                rates.push(record_for(scratch, count, batch, turn).await?);
            }
            all.push(Points { writers: count, batch, points_per_second: Spread::of(rates) });
        }
    }
    Ok(all)
}

async fn record_for(
    scratch: &Scratch,
    writers: usize,
    batch: usize,
    turn: Duration,
) -> Result<f64> {
    let lease = Lease { length: turn * 10, retry_delay: Duration::ZERO };
    let resources = Resources { kinds: vec![JobKind::Train], ..Resources::default() };
    let mut clients = Vec::new();
    for _ in 0..writers {
        let database = scratch.client().await?;
        let worker = WorkerInfo::this_process(None, 1);
        database.register_worker(&worker).await?;
        database.create_run(new_run()).await?;
        let claimed = database
            .claim(&worker, &resources, &lease)
            .await?
            .ok_or_else(|| Error::Failed("the run cannot be claimed".into()))?;
        clients.push((database, claimed));
    }
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (database, claimed) in clients {
        tasks.spawn(async move {
            let mut sent = 0;
            while began.elapsed() < turn {
                let points: Vec<NewPoint> = (0..batch)
                    .map(|number| NewPoint {
                        step: ((sent + number) / 10) as i64,
                        name: format!("metric_{}", number % 10),
                        value: number as f64,
                    })
                    .collect();
                database.record_metrics(claimed.fence, claimed.job.id, &points).await?;
                sent += batch;
            }
            Ok::<_, Error>(sent)
        });
    }
    let mut sent = 0;
    while let Some(done) = tasks.join_next().await {
        sent += done.map_err(|error| Error::Failed(error.to_string()))??;
    }
    Ok(sent as f64 / began.elapsed().as_secs_f64())
}

fn new_run() -> NewRun {
    NewRun {
        name: "bench".into(),
        experiment: None,
        config: json!({}),
        seed: 0,
        total_steps: i64::MAX,
        uri: Some("/nowhere".into()),
        under: None,
        best_metric: "loss".into(),
        git_revision: None,
        datasets: Vec::new(),
        fork: None,
        job: NewJob::new(JobKind::Train, "bench", json!({})),
    }
}
