//! What a run reads: recorded when it is queued, and compared whenever an attempt begins or goes on.

use std::collections::BTreeMap;

use anyhow::Context;
use contracts::Experiment;
use pipeline::Dataset;
use registry::{Attempt, ChangedData, DataRole, RunDataset, Settled};
use storage::Place;
use terminal::Usage;

/// A dataset that an experiment names, and the key that names it.
struct Named<'a> {
    role: DataRole,
    key: &'static str,
    uri: &'a Place,
    weight: f64,
}

/// Datasets of weight 0 are not read.
fn named(experiment: &Experiment) -> Vec<Named<'_>> {
    let train = experiment.data.datasets.iter().filter(|dataset| dataset.weight > 0.0);
    let mut all: Vec<Named> = train
        .map(|dataset| Named {
            role: DataRole::Train,
            key: "data.datasets",
            uri: &dataset.uri,
            weight: dataset.weight,
        })
        .collect();
    let config = &experiment.train;
    if let Some(validation) = &config.validation {
        let (role, key) = (DataRole::Validation, "train.validation.dataset");
        all.push(Named { role, key, uri: &validation.dataset, weight: 1.0 });
    }
    if let Some(uri) = config.preview.as_ref().and_then(|preview| preview.dataset.as_ref()) {
        let (role, key) = (DataRole::Preview, "train.preview.dataset");
        all.push(Named { role, key, uri, weight: 1.0 });
    }
    all
}

/// What an experiment reads, as it is now.
///
/// # Errors
/// Where a dataset is not there or cannot be used: wrong use, naming the key.
pub fn found(experiment: &Experiment) -> anyhow::Result<Vec<RunDataset>> {
    let open = |Named { role, key, uri, weight }: Named| {
        let dataset = Dataset::open(uri).with_context(|| {
            Usage::new(format!("{key}: `{uri}` cannot be used ({})", other(role, key)))
        })?;
        Ok(RunDataset {
            role,
            name: dataset.manifest().name.clone(),
            uri: uri.to_string(),
            manifest_digest: dataset.digest().to_owned(),
            rows: dataset.len().cast_signed(),
            weight,
        })
    };
    named(experiment).into_iter().map(open).collect()
}

/// How another dataset is named.
fn other(role: DataRole, key: &str) -> String {
    match role {
        DataRole::Train => "--dataset names another".to_owned(),
        DataRole::Validation | DataRole::Preview => format!("--set {key}=… names another"),
    }
}

/// Compares what the run of this attempt reads with what was recorded, records what was not, and holds the
/// experiment to it: from here on its loaders take no other data.
///
/// # Errors
/// Where a dataset is not the recorded one and nobody accepted the change: wrong use, naming both.
pub fn settle(
    experiment: &mut Experiment,
    attempt: &Attempt,
    run: &str,
    step: u64,
) -> anyhow::Result<()> {
    let found = found(experiment)?;
    match attempt.settle_data(step.cast_signed(), &found)? {
        Settled::Same => {}
        Settled::Accepted(user, changes) => {
            for change in &changes {
                let ChangedData { before, after } = change;
                let (uri, before) = (&after.uri, &before.dataset.manifest_digest);
                tracing::warn!(
                    step,
                    "{uri}: going on over other data, as {user} accepts: its manifest was sha256 \
                     {before}, and is sha256 {}",
                    after.manifest_digest
                );
            }
        }
        Settled::Refused(changes) => return Err(refusal(run, step, &changes).into()),
    }
    let digests =
        found.into_iter().map(|dataset| Ok((dataset.uri.parse()?, dataset.manifest_digest)));
    experiment.data.expected = digests.collect::<anyhow::Result<BTreeMap<Place, String>>>()?;
    Ok(())
}

fn refusal(run: &str, step: u64, changes: &[ChangedData]) -> Usage {
    let each: Vec<String> = changes.iter().map(told).collect();
    let begun = if step == 0 { "was queued for" } else { "was trained on so far" };
    Usage::new(format!(
        "the data is not what run {run} {begun}: {}. Put the earlier data back, submit a new run, or let \
         this one go on with `scheduler retry {run} --accept-changed-data`, which keeps the change with \
         the run",
        each.join("; ")
    ))
}

/// Both manifests of a dataset, and when each was made.
fn told(ChangedData { before, after }: &ChangedData) -> String {
    let (recorded, then) = (terminal::moment(before.recorded_at), &before.dataset);
    let written = after
        .uri
        .parse::<Place>()
        .ok()
        .and_then(|place| Dataset::open(&place).ok()?.written().ok()?)
        .map(|written| format!(", written {}", terminal::moment(written)))
        .unwrap_or_default();
    format!(
        "{} had the manifest sha256 {} ({} images, recorded {recorded}) and has sha256 {} ({} images{written})",
        after.uri, then.manifest_digest, then.rows, after.manifest_digest, after.rows
    )
}
