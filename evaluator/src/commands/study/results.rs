//! `evaluator study results`: fool rates with intervals, and every answer for who wants it.

use std::path::PathBuf;

use clap::Args;
use registry::{RaterRow, StudyAnswer};
use serde::Serialize;

use super::files;
use crate::study::rates::{Rate, rates};

#[derive(Args)]
#[command(after_help = "\
Examples:
  evaluator study results colorization
  evaluator study results colorization --csv rates.csv --details answers.csv")]
pub struct Results {
    /// The study.
    study: String,
    /// Leave out pairs that were shown more than once before they were answered (after a reload).
    #[arg(long)]
    first_look_only: bool,
    /// Leave out pairs whose display was interrupted (the page was hidden meanwhile).
    #[arg(long)]
    uninterrupted_only: bool,
    /// Print as JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Write the rates as CSV; a text that begins with = + - or @ gets a `'` before it, so that no spreadsheet
    /// takes it for a formula.
    #[arg(long, value_name = "FILE", value_parser = storage::named::file)]
    csv: Option<PathBuf>,
    /// Write every answer as CSV, texts as with --csv.
    #[arg(long, value_name = "FILE", value_parser = storage::named::file)]
    details: Option<PathBuf>,
}

#[derive(Serialize)]
struct Summary {
    study: String,
    raters: Raters,
    /// Answers that the rates are of.
    answers: usize,
    /// Answers that were left out by `--first-look-only` or `--uninterrupted-only`.
    left_out: usize,
    /// Of all answers, those whose pair was shown more than once.
    looked_again: usize,
    /// Of all answers, those whose display was interrupted.
    interrupted: usize,
    display: Display,
    rates: Vec<Rate>,
}

#[derive(Serialize)]
struct Raters {
    invited: usize,
    /// Those that agreed and began.
    started: usize,
    /// Those that answered all their trials; what the others answered counts too.
    finished: usize,
}

/// How far displays that nothing interrupted were off their time, either way, in milliseconds.
#[derive(Serialize)]
struct Display {
    median_error_ms: f64,
    /// Of the worst answer.
    greatest_error_ms: f64,
}

impl Results {
    pub fn run(self) -> anyhow::Result<()> {
        let db = registry::Blocking::open()?;
        let study = db.wait(db.study(&self.study))?;
        let raters = db.wait(db.study_raters(study.id))?;
        let all = db.wait(db.study_answers(study.id))?;
        if self.details.as_deref().is_some_and(storage::named::is_stdout) {
            terminal::leave_stdout();
        }
        if let Some(path) = &self.details {
            files::write(path, &files::answers(&all))?;
        }
        let (looked_again, interrupted, display) = (
            all.iter().filter(|answer| answer.shown > 1).count(),
            all.iter().filter(|answer| answer.interrupted).count(),
            Display::of(&all),
        );
        let total = all.len();
        let kept: Vec<StudyAnswer> = all.into_iter().filter(|answer| self.keeps(answer)).collect();
        let summary = Summary {
            study: study.name,
            raters: Raters::of(&raters),
            answers: kept.len(),
            left_out: total - kept.len(),
            looked_again,
            interrupted,
            display,
            rates: rates(&study.systems, &kept),
        };
        if let Some(path) = &self.csv {
            return files::write(path, &files::rates(&summary.rates));
        }
        if self.json { terminal::print_json(&summary) } else { summary.print() }
    }

    fn keeps(&self, answer: &StudyAnswer) -> bool {
        !(self.first_look_only && answer.shown > 1 || self.uninterrupted_only && answer.interrupted)
    }
}

impl Raters {
    fn of(raters: &[RaterRow]) -> Self {
        Self {
            invited: raters.len(),
            started: raters.iter().filter(|rater| rater.started_at.is_some()).count(),
            finished: raters.iter().filter(|rater| rater.answers == rater.trials).count(),
        }
    }
}

impl Display {
    fn of(answers: &[StudyAnswer]) -> Self {
        let errors: Vec<f64> = answers
            .iter()
            .filter(|answer| !answer.interrupted)
            .map(|answer| (answer.shown_ms - 1000.0 * answer.seconds).abs())
            .collect();
        let at = |share| statistics::quantile(&errors, share).unwrap_or_default();
        Self { median_error_ms: at(0.5), greatest_error_ms: at(1.0) }
    }
}

impl Summary {
    fn print(&self) -> anyhow::Result<()> {
        let Raters { invited, started, finished } = self.raters;
        terminal::print(&format!(
            "{}: {invited} raters invited, {started} started, {finished} finished; {} answers{}",
            self.study,
            self.answers,
            match self.left_out {
                0 => String::new(),
                count => format!(", {count} left out"),
            }
        ))?;
        if self.rates.is_empty() {
            return terminal::print(match self.left_out {
                0 => "nothing was answered yet",
                _ => "no answer is left",
            });
        }
        terminal::print(&format!(
            "pairs shown more than once {}, interrupted {}; off their time by {:.1} ms (median), {:.1} ms \
             (at most)",
            self.looked_again,
            self.interrupted,
            self.display.median_error_ms,
            self.display.greatest_error_ms
        ))?;
        let mut table = terminal::Table::new(&[
            "system",
            "set",
            "seconds",
            "raters",
            "answers",
            "fooled",
            "fool rate (%)",
            "95 % over raters",
            "95 % Wilson",
        ])
        .omit(&["fooled", "95 % Wilson"]);
        let any = || "all".to_owned();
        let percent = |value: f64| format!("{:.1}", 100.0 * value);
        let range = |[low, high]: [f64; 2]| format!("{} to {}", percent(low), percent(high));
        for rate in &self.rates {
            table.row([
                rate.system.clone(),
                rate.set.map_or_else(any, |set| set.to_string()),
                rate.seconds.map_or_else(any, |seconds| seconds.to_string()),
                rate.raters.to_string(),
                rate.answers.to_string(),
                rate.fooled.to_string(),
                percent(rate.fool_rate),
                rate.interval.map_or_else(|| "–".to_owned(), range),
                range(rate.wilson),
            ]);
        }
        table.print()
    }
}
