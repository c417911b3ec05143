//! Keeping scores in the registry.

use anyhow::Result;
use scheduler::NewEvaluation;
use serde::Deserialize;

use super::Scored;
use crate::pictures::Set;

/// Which run the outputs are from, as the sampler says in their manifest.
#[derive(Deserialize)]
struct Origin {
    run: String,
    step: i64,
}

/// Keeps the scores of each task, with the run that the outputs are from, under `label` where there is
/// one. Without either they are only printed.
pub fn keep(outputs: &Set, label: Option<&str>, scored: &Scored) -> Result<()> {
    let origin = match outputs {
        Set::Outputs(outputs, _) => {
            serde_json::from_value::<Origin>(outputs.manifest().options.clone()).ok()
        }
        _ => None,
    };
    if origin.is_none() && label.is_none() {
        eprintln!(
            "note: the outputs are no run's, and there is no --label: the scores are not kept"
        );
        return Ok(());
    }
    let place = absolute(&scored.outputs)?;
    let reference = match &scored.reference {
        Some(reference) => absolute(reference)?,
        None => place.clone(),
    };
    let db = scheduler::Blocking::open()?;
    let run = origin.as_ref().map(|origin| db.wait(db.find_run(&origin.run))).transpose()?;
    for (task, scores) in &scored.tasks {
        let mut kept = serde_json::to_value(scores)?;
        if let Some(kept) = kept.as_object_mut() {
            kept.insert("depends".into(), serde_json::to_value(&scored.depends)?);
            kept.insert("matching".into(), serde_json::to_value(&scored.matching)?);
        }
        let step = origin.as_ref().map(|origin| origin.step);
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

fn absolute(uri: &str) -> Result<String> {
    if uri.contains("://") {
        return Ok(uri.to_owned());
    }
    Ok(std::path::absolute(uri)?.to_string_lossy().into_owned())
}
