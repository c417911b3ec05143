//! Keeping scores in the registry.

use anyhow::Result;
use contracts::Origin;
use registry::NewEvaluation;
use terminal::Usage;

use super::Scored;
use crate::pictures::{Set, address};

/// Keeps the scores of each task, with the run that the outputs are from, under `label` where there is
/// one. Without either they are only printed.
pub fn keep(outputs: &Set, label: Option<&str>, scored: &Scored) -> Result<()> {
    let origin = match outputs {
        Set::Outputs(outputs, _) => {
            Origin::of_outputs(&outputs.manifest().options, &scored.outputs).map_err(Usage::of)?
        }
        _ => None,
    };
    // Of a run, and at which step; weights that are no run's have neither.
    let origin = origin.and_then(|origin| Some((origin.run?, origin.step?)));
    if origin.is_none() && label.is_none() {
        tracing::info!(
            note = true,
            "the outputs are no run's, and there is no --label: the scores are not kept"
        );
        return Ok(());
    }
    let place = address(&scored.outputs)?;
    let reference = match &scored.reference {
        Some(reference) => address(reference)?,
        None => place.clone(),
    };
    let db = registry::Blocking::open()?;
    let run = origin.as_ref().map(|(run, _)| db.wait(db.find_run(run))).transpose()?;
    for (task, scores) in &scored.tasks {
        let mut kept = serde_json::to_value(scores)?;
        if let Some(kept) = kept.as_object_mut() {
            kept.insert("depends".into(), serde_json::to_value(&scored.depends)?);
            kept.insert("matching".into(), serde_json::to_value(&scored.matching)?);
        }
        let step = origin.as_ref().map(|(_, step)| *step);
        let own = || format!("{task}@{}", step.unwrap_or_default());
        db.wait(db.record_evaluation(&NewEvaluation {
            run_id: run.as_ref().map(|run| run.id),
            step,
            label: label.map_or_else(own, str::to_owned),
            task: Some(task.clone()),
            outputs_uri: place.clone(),
            reference_uri: Some(reference.clone()),
            scores: kept,
        }))?;
    }
    Ok(())
}
