//! Progress of long work on stderr: a bar on a terminal, a line a minute elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::stderr::{self, Bars};
use crate::{messages, visible};

const LINE_EVERY: Duration = Duration::from_secs(60);

/// All bars of the process.
static BARS: LazyLock<MultiProgress> = LazyLock::new(|| {
    const A_SECOND: u8 = 20;
    let bars = Box::new(Bars::new(stderr::draw));
    MultiProgress::with_draw_target(ProgressDrawTarget::term_like_with_hz(bars, A_SECOND))
});

/// What stands beside a bar and comes from outside (a name, a file, a class): in one line, harmless, without secrets.
fn harmless(text: &str) -> String {
    secrets::text(&visible::visible_line(text)).into_owned()
}

/// Whether a bar was ever drawn.
static DRAWN: AtomicBool = AtomicBool::new(false);

pub(crate) fn any_drawn() -> bool {
    DRAWN.load(Ordering::Relaxed)
}

/// Prints something while no bar is drawn, so that neither tears the other.
pub(crate) fn beside_bars<T>(print: impl FnOnce() -> T) -> T {
    if any_drawn() { BARS.suspend(print) } else { print() }
}

/// Progress of one piece of long work. Cheap to call for every item, from any thread.
pub struct Progress {
    what: String,
    unit: Unit,
    bar: ProgressBar,
    /// Those that it is one of, where it is drawn.
    bars: Option<MultiProgress>,
    lines: Option<Mutex<Lines>>,
}

struct Lines {
    started: Instant,
    last: Instant,
    /// Where the rate is counted from: when that was, and what was done by then.
    first: Option<(Instant, u64)>,
}

/// What is counted.
enum Unit {
    Bytes,
    Things(String),
}

impl Unit {
    /// How the bar shows it: how far, of how much, how fast.
    fn template(&self) -> [String; 3] {
        match self {
            Self::Bytes => ["{decimal_bytes}", "{decimal_total_bytes}", "{decimal_bytes_per_sec}"]
                .map(str::to_owned),
            Self::Things(name) => {
                ["{human_pos}".into(), format!("{{human_len}} {name}"), "{per_sec}".into()]
            }
        }
    }

    /// How a line says it.
    fn far(&self, position: u64, total: Option<u64>, rate: Option<f64>) -> String {
        let far = match (self, total) {
            (Self::Bytes, total) => {
                let of =
                    total.map_or_else(String::new, |total| format!(" of {}", crate::bytes(total)));
                format!("{}{of}", crate::bytes(position))
            }
            (Self::Things(name), Some(total)) => format!("{position}/{total} {name}"),
            (Self::Things(name), None) => format!("{position} {name}"),
        };
        match (self, rate) {
            (_, None) => far,
            (Self::Bytes, Some(rate)) => format!("{far}, {}/s", crate::bytes(rate as u64)),
            (Self::Things(_), Some(rate)) => format!("{far}, {rate:.1}/s"),
        }
    }
}

impl Progress {
    /// Progress of `what`, counted in `unit`, up to `total` where that is known.
    pub fn new(what: &str, total: Option<u64>, unit: &str) -> Self {
        Self::of(what, total, Unit::Things(unit.to_owned()))
    }

    /// Progress of `what`, counted in bytes.
    pub fn bytes(what: &str, total: Option<u64>) -> Self {
        Self::of(what, total, Unit::Bytes)
    }

    fn of(what: &str, total: Option<u64>, unit: Unit) -> Self {
        let drawn = messages::draws();
        if drawn {
            DRAWN.store(true, Ordering::Relaxed);
        }
        Self::among(drawn.then(|| BARS.clone()), what, total, unit)
    }

    /// One of these bars; without any, in lines.
    fn among(bars: Option<MultiProgress>, what: &str, total: Option<u64>, unit: Unit) -> Self {
        let mut bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        if let Some(bars) = &bars {
            bar = bars.add(bar);
        }
        let what = harmless(what);
        let [far, all, rate] = unit.template();
        let template = match total {
            Some(_) => format!("{{prefix}} {{wide_bar}} {far}/{all} {rate} {{eta}} left {{msg}}"),
            None => format!("{{prefix}} {{spinner}} {far} {rate} {{elapsed}} {{msg}}"),
        };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.set_prefix(what.clone());
        let now = Instant::now();
        let lines =
            bars.is_none().then(|| Mutex::new(Lines { started: now, last: now, first: None }));
        Self { what, unit, bar, bars, lines }
    }

    /// Counts `count` more as done.
    pub fn inc(&self, count: u64) {
        self.bar.inc(count);
        if let Some(mut lines) = self.lines() {
            let started = lines.started;
            lines.first.get_or_insert((started, 0));
        }
        self.line(false);
    }

    /// Says how many are done; the first call sets where the rate is counted from.
    pub fn set(&self, position: u64) {
        self.bar.set_position(position);
        if let Some(mut lines) = self.lines() {
            lines.first.get_or_insert_with(|| (Instant::now(), position));
        }
        self.line(false);
    }

    /// Says how many there are in all, where that became known later.
    pub fn set_total(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// A short text behind the bar (a loss, a file name).
    pub fn message(&self, text: impl Into<String>) {
        self.bar.set_message(harmless(&text.into()));
    }

    /// Ends the bar; elsewhere than on a terminal the last line.
    pub fn finish(&self) {
        self.line(true);
        self.bar.finish_and_clear();
        if let Some(bars) = &self.bars {
            bars.remove(&self.bar);
        }
    }

    fn lines(&self) -> Option<MutexGuard<'_, Lines>> {
        let lines = self.lines.as_ref()?;
        Some(lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn line(&self, last: bool) {
        let Some(mut lines) = self.lines() else { return };
        let position = self.bar.position();
        if !last && lines.last.elapsed() < LINE_EVERY {
            return;
        }
        lines.last = Instant::now();
        let elapsed = lines.started.elapsed();
        let rate = lines.first.and_then(|(since, first)| rate(since.elapsed(), first, position));
        let far = self.unit.far(position, self.bar.length(), rate);
        let mut text = format!("{}: {far}", self.what);
        match self.bar.length() {
            Some(total) if !last && rate.is_some() => {
                let left = total.saturating_sub(position) as f64 / rate.unwrap_or(f64::INFINITY);
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
        tracing::info!("{text}");
    }
}

/// How fast it went from the first position to this one; none where it did not move, or no time has passed. What was
/// done before the first position (work that goes on, a first item of unknown length) has no part in it.
fn rate(elapsed: Duration, first: u64, position: u64) -> Option<f64> {
    let (done, seconds) = (position.saturating_sub(first) as f64, elapsed.as_secs_f64());
    Some(done / seconds).filter(|rate| *rate > 0.0 && rate.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was drawn, by this test alone.
    static SEEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    fn keep(frame: Vec<u8>) {
        SEEN.lock().unwrap().extend(frame);
    }

    #[test]
    fn names_from_outside_reach_the_terminal_as_text() {
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(Bars::new(keep)), 255);
        let bars = MultiProgress::with_draw_target(target);
        let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}a\nb\u{9b}31m";
        let things = |name: &str| Unit::Things(name.into());
        for total in [Some(10), None] {
            let progress = Progress::among(Some(bars.clone()), hostile, total, things("things"));
            progress.message(format!("{hostile} postgres://me:s3cret@host/x"));
            progress.inc(1);
            progress.bar.force_draw();
            progress.finish();
        }
        let seen = String::from_utf8(SEEN.lock().unwrap().clone()).unwrap();
        let shown = "\\x1b]0;owned\\x07\\x1b[2J\\u{202e}a\\nb\\x9b31m";
        assert!(seen.matches(shown).count() >= 4, "{seen:?}");
        for raw in ["\u{1b}]", "\u{7}", "\u{1b}[2J", "\u{202e}", "\u{9b}", "s3cret"] {
            assert!(!seen.contains(raw), "{raw:?} in {seen:?}");
        }
    }

    #[test]
    fn a_rate_is_of_what_was_seen_to_move_or_not_said() {
        let second = Duration::from_secs(1);
        assert_eq!(rate(2 * second, 100, 500), Some(200.0));
        // One image of 737 kB and nothing before: it was never seen to move.
        assert_eq!(rate(second, 737_000, 737_000), None);
        assert_eq!(rate(Duration::ZERO, 0, 5), None);
        let (bytes, steps) = (Unit::Bytes, Unit::Things("steps".into()));
        assert_eq!(bytes.far(737_000, Some(737_000), None), "737 kB of 737 kB");
        assert_eq!(bytes.far(500, None, Some(200.0)), "500 B, 200 B/s");
        assert_eq!(steps.far(5, Some(10), Some(2.0)), "5/10 steps, 2.0/s");
        assert_eq!(steps.far(5, None, None), "5 steps");
    }
}
