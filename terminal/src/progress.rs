//! Progress of long work on stderr: a bar on a terminal, a line a minute elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(60);

/// Progress of one piece of long work. Cheap to call for every item, from any thread.
pub struct Progress {
    what: String,
    unit: String,
    bar: ProgressBar,
    lines: Option<Mutex<Lines>>,
}

struct Lines {
    started: Instant,
    last: Instant,
    first_position: Option<u64>,
}

impl Progress {
    /// Progress of `what`, counted in `unit`, up to `total` where that is known.
    pub fn new(what: &str, total: Option<u64>, unit: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = match total {
            Some(_) => {
                "{prefix} {wide_bar} {human_pos}/{human_len} {unit} {per_sec} {eta} left {msg}"
            }
            None => "{prefix} {spinner} {human_pos} {unit} {per_sec} {elapsed} {msg}",
        }
        .replace("{unit}", unit);
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        let now = Instant::now();
        let lines = (!terminal)
            .then(|| Mutex::new(Lines { started: now, last: now, first_position: None }));
        Self { what: what.to_owned(), unit: unit.to_owned(), bar, lines }
    }

    /// Counts `count` more as done.
    pub fn inc(&self, count: u64) {
        self.bar.inc(count);
        self.line(false);
    }

    /// Says how many are done; the first call sets where the rate is counted from.
    pub fn set(&self, position: u64) {
        self.bar.set_position(position);
        self.line(false);
    }

    /// Says how many there are in all, where that became known later.
    pub fn set_total(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// A short text behind the bar (a loss, a file name).
    pub fn message(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// Ends the bar; elsewhere than on a terminal the last line.
    pub fn finish(&self) {
        self.line(true);
        self.bar.finish_and_clear();
    }

    fn line(&self, last: bool) {
        let Some(lines) = &self.lines else { return };
        let mut lines = lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let position = self.bar.position();
        let first = *lines.first_position.get_or_insert(position.saturating_sub(1));
        if !last && lines.last.elapsed() < LINE_EVERY {
            return;
        }
        lines.last = Instant::now();
        let elapsed = lines.started.elapsed();
        let rate = position.saturating_sub(first) as f64 / elapsed.as_secs_f64().max(1e-9);
        let mut text = format!("{}: {position}", self.what);
        if let Some(total) = self.bar.length() {
            text += &format!("/{total}");
        }
        text += &format!(" {}, {rate:.1}/s", self.unit);
        match self.bar.length() {
            Some(total) if !last && rate > 0.0 => {
                let left = total.saturating_sub(position) as f64 / rate;
                if let Ok(left) = Duration::try_from_secs_f64(left) {
                    text += &format!(", {} left", crate::duration(left));
                }
            }
            _ => text += &format!(", {}", crate::duration(elapsed)),
        }
        let message = self.bar.message();
        if !message.is_empty() {
            text += &format!(", {message}");
        }
        eprintln!("{text}");
    }
}
