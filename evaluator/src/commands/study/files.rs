//! What `evaluator study results` writes as CSV.

use std::path::Path;

use registry::StudyAnswer;
use time::format_description::well_known::Rfc3339;

use crate::cells::guarded;
use crate::study::rates::Rate;

/// The rates, a line each; what is over all sets or times has none there.
pub fn rates(rates: &[Rate]) -> Vec<Vec<String>> {
    let heading = [
        "system",
        "set",
        "seconds",
        "raters",
        "answers",
        "fooled",
        "fool_rate",
        "low",
        "high",
        "wilson_low",
        "wilson_high",
    ];
    let rows = rates.iter().map(|rate| {
        let end = |end: usize| rate.interval.map_or_else(String::new, |it| it[end].to_string());
        vec![
            guarded(&rate.system),
            rate.set.map_or_else(String::new, |set| set.to_string()),
            rate.seconds.map_or_else(String::new, |seconds| seconds.to_string()),
            rate.raters.to_string(),
            rate.answers.to_string(),
            rate.fooled.to_string(),
            rate.fool_rate.to_string(),
            end(0),
            end(1),
            rate.wilson[0].to_string(),
            rate.wilson[1].to_string(),
        ]
    });
    std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect()
}

/// Every answer, a line each.
pub fn answers(answers: &[StudyAnswer]) -> Vec<Vec<String>> {
    let heading = [
        "rater",
        "set",
        "seconds",
        "trial",
        "key",
        "system",
        "reference_side",
        "chosen",
        "fooled",
        "shown",
        "shown_ms",
        "response_ms",
        "interrupted",
        "input",
        "answered_at",
    ];
    let rows = answers.iter().map(|answer| {
        vec![
            answer.rater.to_string(),
            answer.set.to_string(),
            answer.seconds.to_string(),
            answer.trial.to_string(),
            guarded(&answer.key),
            guarded(&answer.system),
            answer.reference_side.name().to_owned(),
            answer.chosen.name().to_owned(),
            answer.fooled.to_string(),
            answer.shown.to_string(),
            answer.shown_ms.to_string(),
            answer.response_ms.to_string(),
            answer.interrupted.to_string(),
            answer.input.name().to_owned(),
            answer.answered_at.format(&Rfc3339).unwrap_or_default(),
        ]
    });
    std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect()
}

/// Writes rows as CSV (RFC 4180).
pub fn write(path: &Path, rows: &[Vec<String>]) -> anyhow::Result<()> {
    let terminator = csv::Terminator::CRLF;
    let mut writer = csv::WriterBuilder::new().terminator(terminator).from_writer(Vec::new());
    for row in rows {
        writer.write_record(row)?;
    }
    Ok(storage::named::write(path, &writer.into_inner()?)?)
}
