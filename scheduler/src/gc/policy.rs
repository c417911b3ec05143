//! What may be reclaimed: the options of `scheduler gc`, or a TOML file with the same names.

use std::fmt::{Display, Formatter};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use registry::{Error, JobState, Result, Retention, RunCheckpoints};
use serde::{Deserialize, Serialize};

/// A policy is text that people write; more than this is something else.
const LARGEST: u64 = 1 << 20;

/// What may be reclaimed. All is off unless it is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Policy {
    /// Checkpoints of ended runs but for the newest N and multiples of K; the best, final and
    /// imported ones and those that unfinished sampling jobs name stay too
    #[arg(long, value_name = "keep-last=N[,keep-every=K]")]
    pub checkpoints: Option<Keep>,
    /// All checkpoints of failed and cancelled runs but those that unfinished sampling jobs need
    #[arg(long)]
    pub failed_runs: bool,
    /// Working folders and logs of the attempts of ended jobs on this host; the last lines stay
    #[arg(long)]
    pub logs: bool,
    /// Points of ended runs that are hidden because a later attempt took another course
    #[arg(long)]
    pub metrics: bool,
    /// Copies of checkpoints of object stores; needs --older-than or --cache-bytes
    #[arg(long)]
    pub cache: bool,
    /// What the copies may take in total (50GB); the least recently used go first
    #[arg(long, value_name = "SIZE", requires = "cache")]
    pub cache_bytes: Option<Size>,
    /// Preview pictures of ended runs but those of N steps, spread from the first to the last; 0 keeps none
    #[arg(long, value_name = "keep=N")]
    pub pictures: Option<Spread>,
    /// Files of runs under this home that a killed process left and no row names, a day old at least
    #[arg(long)]
    pub orphans: bool,
    /// Pictures that were tried in the control room and that nobody keeps
    #[arg(long)]
    pub tries: bool,
    /// Only what ended, or was last used, at least this long ago (12h, 30d, 8w)
    #[arg(long, value_name = "AGE")]
    pub older_than: Option<Age>,
}

impl Policy {
    /// Reads a policy from a TOML file.
    ///
    /// # Errors
    /// When the file cannot be read or says something else.
    pub fn read(path: &Path) -> Result<Self> {
        let text = storage::limited::read_text(path, LARGEST).map_err(Error::io(path))?;
        toml::from_str(&text).map_err(|error| {
            // Of what goes too deep no line is told.
            let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
            let line = line.map_or_else(String::new, |line| format!(", line {line}"));
            Error::Invalid(format!("{}{line}: {}", path.display(), error.message()))
        })
    }

    /// This policy and what `other` names besides.
    pub fn or(self, other: Self) -> Self {
        Self {
            checkpoints: self.checkpoints.or(other.checkpoints),
            failed_runs: self.failed_runs || other.failed_runs,
            logs: self.logs || other.logs,
            metrics: self.metrics || other.metrics,
            cache: self.cache || other.cache,
            cache_bytes: self.cache_bytes.or(other.cache_bytes),
            pictures: self.pictures.or(other.pictures),
            orphans: self.orphans || other.orphans,
            tries: self.tries || other.tries,
            older_than: self.older_than.or(other.older_than),
        }
    }

    /// The policy, where it makes sense.
    ///
    /// # Errors
    /// When the copies of object stores are named without a measure, or a measure without them.
    pub fn checked(self) -> Result<Self> {
        if self.cache && self.older_than.is_none() && self.cache_bytes.is_none() {
            let message = "cache names no measure: add older-than or cache-bytes";
            return Err(Error::Invalid(message.into()));
        }
        if !self.cache && self.cache_bytes.is_some() {
            return Err(Error::Invalid("cache-bytes is for the cache: add cache".into()));
        }
        Ok(self)
    }

    /// True where it takes checkpoints that were not marked before.
    pub(super) fn marks(&self) -> bool {
        self.checkpoints.is_some() || self.failed_runs
    }

    /// Steps of the checkpoints of a run in this state that may go, with why.
    pub(super) fn surplus(&self, state: JobState, run: &RunCheckpoints) -> Vec<(i64, String)> {
        if self.failed_runs && matches!(state, JobState::Failed | JobState::Cancelled) {
            let why = format!("the run is {state}");
            return run.unneeded().into_iter().map(|step| (step, why.clone())).collect();
        }
        let Some(Keep(retention)) = self.checkpoints else { return Vec::new() };
        let steps = retention.surplus(&run.kept, &run.best_metric, &run.named);
        let why = format!("not in {}", Keep(retention));
        steps.into_iter().map(|step| (step, why.clone())).collect()
    }
}

impl Display for Policy {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let named = |name: &str, on: bool| on.then(|| name.to_owned());
        let parts = [
            self.checkpoints.map(|keep| format!("checkpoints {keep}")),
            named("failed-runs", self.failed_runs),
            named("logs", self.logs),
            named("metrics", self.metrics),
            named("cache", self.cache),
            self.cache_bytes.map(|size| format!("cache-bytes {size}")),
            self.pictures.map(|spread| format!("pictures {spread}")),
            named("orphans", self.orphans),
            named("tries", self.tries),
            self.older_than.map(|age| format!("older-than {age}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() {
            return f.write_str("only removals that were begun");
        }
        f.write_str(&parts.join(", "))
    }
}

/// Which checkpoints of an ended run stay, written `keep-last=N` or `keep-last=N,keep-every=K`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Keep(pub Retention);

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`: keep-last=N or keep-last=N,keep-every=K, both from 1");
        let (mut keep_last, mut keep_every) = (None, None);
        for part in text.split(',') {
            match part.trim().split_once('=') {
                Some(("keep-last", number)) if keep_last.is_none() => {
                    keep_last = number.parse().ok().filter(|&number: &u32| number > 0);
                    keep_last.ok_or_else(wrong)?;
                }
                Some(("keep-every", number)) if keep_every.is_none() => {
                    keep_every = number.parse().ok().filter(|&number: &i64| number > 0);
                    keep_every.ok_or_else(wrong)?;
                }
                _ => return Err(wrong()),
            }
        }
        let keep_last = keep_last.ok_or_else(wrong)?;
        Ok(Self(Retention { keep_last, keep_every: keep_every.unwrap_or(0) }))
    }
}

impl Display for Keep {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "keep-last={}", self.0.keep_last)?;
        if self.0.keep_every > 0 {
            write!(f, ",keep-every={}", self.0.keep_every)?;
        }
        Ok(())
    }
}

/// Of how many steps of an ended run pictures stay, written `keep=N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Spread(pub u32);

impl FromStr for Spread {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim().strip_prefix("keep=").and_then(|number| number.parse().ok());
        number.map(Self).ok_or_else(|| format!("`{text}`: keep=N, from 0"))
    }
}

impl Display for Spread {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "keep={}", self.0)
    }
}

/// An age, written in seconds, minutes, hours, days or weeks: `90s`, `45m`, `12h`, `30d`, `8w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Age(pub Duration);

const AGES: [(&str, u64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
/// A hundred years, as of any span that is typed.
const OLDEST: u64 = 100 * 366 * 86_400;

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        measure(text, &AGES)
            .filter(|&seconds| seconds <= OLDEST)
            .map(|seconds| Self(Duration::from_secs(seconds)))
            .ok_or_else(|| format!("`{text}`: an age is a number and s, m, h, d or w, such as 30d, and at most a hundred years"))
    }
}

impl Display for Age {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&measured(self.0.as_secs(), &AGES, "0s"))
    }
}

/// A number of bytes, written in decimal units: `500MB`, `50GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

const SIZES: [(&str, u64); 5] =
    [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000), ("B", 1)];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        measure(text, &SIZES).map(Self).ok_or_else(|| {
            format!("`{text}`: a size is a number and B, kB, MB, GB or TB, such as 50GB")
        })
    }
}

impl Display for Size {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&measured(self.0, &SIZES, "0B"))
    }
}

/// A whole number with one of these units, in the smallest of them.
fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The same in the largest unit that leaves a whole number.
fn measured(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    let whole = units.iter().find(|(_, factor)| value > 0 && value.is_multiple_of(*factor));
    whole.map_or_else(|| zero.to_owned(), |(name, factor)| format!("{}{name}", value / factor))
}

/// Reading from and writing as text, for TOML and JSON.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )*};
}
as_text!(Keep, Spread, Age, Size);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_sizes_and_rules_read_back_what_they_write() {
        for text in ["45s", "90m", "12h", "30d", "8w", "0s"] {
            assert_eq!(text.parse::<Age>().unwrap().to_string(), text);
        }
        assert_eq!("14d".parse::<Age>().unwrap().to_string(), "2w");
        for text in ["50GB", "1TB", "999MB", "12kB", "7B", "0B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!("50 gb".parse::<Size>(), Ok(Size(50_000_000_000)));
        for text in ["keep-last=2", "keep-last=1,keep-every=5000"] {
            assert_eq!(text.parse::<Keep>().unwrap().to_string(), text);
        }
        for text in ["keep=0", "keep=8"] {
            assert_eq!(text.parse::<Spread>().unwrap().to_string(), text);
        }
        for text in ["", "8", "keep=", "keep=-1", "keep=99999999999"] {
            assert!(text.parse::<Spread>().is_err(), "{text}");
        }
        for text in ["", "d", "3", "-3d", "3y", "1.5d", "99999999w"] {
            assert!(text.parse::<Age>().is_err(), "{text}");
        }
        for text in ["", "GB", "5", "5XB", "99999999999TB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        for text in ["", "keep-last", "keep-last=0", "keep-every=5", "keep-last=1,keep-last=2"] {
            assert!(text.parse::<Keep>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_has_the_names_of_the_options_and_options_add_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write(
            "checkpoints = \"keep-last=2\"\nfailed-runs = true\ncache = true\ncache-bytes = \"5GB\"\n",
        );
        let file = Policy::read(&path).unwrap();
        let options = Policy {
            logs: true,
            older_than: "30d".parse().ok(),
            checkpoints: "keep-last=9".parse().ok(),
            ..Policy::default()
        };
        let all = options.or(file).checked().unwrap();
        assert_eq!(
            all.to_string(),
            "checkpoints keep-last=9, failed-runs, logs, cache, cache-bytes 5GB, older-than 30d"
        );
        assert_eq!(Policy::default().to_string(), "only removals that were begun");

        for (text, said) in [
            ("logs = true\nlog = true", "line 2: unknown field `log`"),
            ("older-than = \"soon\"", "line 1: `soon`: an age is"),
            ("logs = 1", "line 1: invalid type"),
        ] {
            write(text);
            let error = Policy::read(&path).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let bare = Policy { cache: true, ..Policy::default() };
        assert!(bare.checked().unwrap_err().to_string().contains("add older-than or cache-bytes"));
    }
}
