//! Keeping scores in the registry.

use anyhow::{Result, anyhow};
use contracts::Origin;
use registry::{Attempt, Blocking, Deed, Error, NewEvaluation, Run};
use terminal::Usage;

use super::Scored;
use crate::pictures::Set;

/// Where outputs are from, if a sampling job made them.
///
/// # Errors
/// When what it says of them is damaged, or of a later version.
pub fn origin(outputs: &Set, place: &str) -> Result<Option<Origin>> {
    match outputs {
        Set::Outputs(outputs, _) => {
            Ok(Origin::of_outputs(&outputs.manifest().options, place).map_err(Usage::of)?)
        }
        _ => Ok(None),
    }
}

/// Refuses where scores of outputs from there could not be kept, before they cost anything.
///
/// # Errors
/// When the role may not keep scores, or the run is not known here; those of the registry.
pub fn demand(origin: Option<&Origin>, label: Option<&str>) -> Result<()> {
    let origin = run_and_step(origin);
    if origin.is_none() && label.is_none() {
        return Ok(());
    }
    const INSTEAD: &str = "--dry-run prints the scores and keeps none";
    let db = Blocking::open()?;
    db.wait(db.demand(Deed::KeepScores)).map_err(|error| match error {
        error @ Error::Lacks { .. } => anyhow!("{error}; {INSTEAD}"),
        error => error.into(),
    })?;
    if let Some((run, _)) = origin {
        db.wait(db.find_run(run)).map_err(|error| match error {
            error @ Error::NotFound { .. } => anyhow!("{error}; {INSTEAD}"),
            error => error.into(),
        })?;
    }
    Ok(())
}

/// The run that outputs are from, and at which step; weights that are no run's have neither.
fn run_and_step(origin: Option<&Origin>) -> Option<(&str, i64)> {
    origin.and_then(|origin| Some((origin.run.as_deref()?, origin.step?)))
}

/// Keeps the scores of each task, with the run that the outputs are from, under `label` where there is
/// one. Without either they are only printed. Those of an `attempt` at a job are the job's, and a stale
/// attempt keeps none.
///
/// # Errors
/// Those of the registry, which must know the run.
pub fn keep(scored: &Scored, label: Option<&str>, attempt: Option<&Attempt>) -> Result<()> {
    let origin = run_and_step(scored.origin.as_ref());
    if origin.is_none() && label.is_none() {
        tracing::info!(
            note = true,
            "the outputs are no run's, and there is no --label: the scores are not kept"
        );
        return Ok(());
    }
    let step = origin.map(|(_, step)| step);
    match attempt {
        Some(attempt) => {
            let run = origin.map(|(run, _)| anyhow::Ok(attempt.run_by_id(run.parse()?)?));
            for new in rows(scored, label, run.transpose()?.as_ref(), step)? {
                attempt.evaluation(&new)?;
            }
        }
        None => {
            let db = Blocking::open()?;
            let run = origin.map(|(run, _)| db.wait(db.find_run(run))).transpose()?;
            for new in rows(scored, label, run.as_ref(), step)? {
                db.wait(db.record_evaluation(&new))?;
            }
        }
    }
    Ok(())
}

/// The scores of each task as they are kept.
fn rows(
    scored: &Scored,
    label: Option<&str>,
    run: Option<&Run>,
    step: Option<i64>,
) -> Result<Vec<NewEvaluation>> {
    let row = |(task, scores)| {
        let mut kept = serde_json::to_value(scores)?;
        if let Some(kept) = kept.as_object_mut() {
            kept.insert("depends".into(), serde_json::to_value(&scored.depends)?);
            kept.insert("matching".into(), serde_json::to_value(&scored.matching)?);
        }
        let own = || format!("{task}@{}", step.unwrap_or_default());
        let reference = scored.reference.as_ref().unwrap_or(&scored.outputs);
        Ok(NewEvaluation {
            run_id: run.map(|run| run.id),
            step,
            label: label.map_or_else(own, str::to_owned),
            task: Some(String::clone(task)),
            outputs_uri: scored.outputs.clone(),
            reference_uri: Some(reference.clone()),
            scores: kept,
        })
    };
    scored.tasks.iter().map(row).collect()
}
