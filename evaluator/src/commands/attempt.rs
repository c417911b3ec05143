//! One attempt at a scoring job. It begins from the start: nothing is kept before all is scored.

use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::Result;
use contracts::EvaluationRequest;
use registry::{Attempt, End, Stop};

use super::evaluate::{evaluate, keep, print};

/// `evaluator attempt`: the identity comes from the worker by environment.
pub fn run() -> Result<ExitCode> {
    Attempt::of_worker()?.make(work)
}

fn work(attempt: &Attempt) -> Result<End> {
    let request = EvaluationRequest::from_payload(&attempt.job().payload)?;
    let mut watch = |what: &str, done: u64, total: u64| {
        attempt.progress(done.cast_signed(), total.cast_signed(), what);
        match attempt.stop_requested() {
            None => ControlFlow::Continue(()),
            Some(_) => ControlFlow::Break(()),
        }
    };
    let scored = evaluate(&request, |_| Ok(()), &mut watch)?;
    match (scored, attempt.stop_requested()) {
        (_, Some(Stop::Stale)) => Ok(End::Stale),
        (None, _) => Ok(End::Stopped),
        (Some(scored), _) => {
            keep(&scored, request.label.as_deref(), Some(attempt))?;
            print(&scored)?;
            Ok(End::Finished)
        }
    }
}
