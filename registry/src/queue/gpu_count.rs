//! How many GPUs a job takes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, JobKind, Result};

/// The number of GPUs that a job asks for, a range such as `--gpus 1` or `--gpus 0..1`. The job gets as
/// many as are free when it is claimed, up to `most`; while fewer than `least` are free, it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuCount {
    /// The job does not start with fewer.
    pub least: i32,
    /// The job never gets more.
    pub most: i32,
}

impl GpuCount {
    /// Exactly `count` GPUs.
    pub const fn exactly(count: i32) -> Self {
        Self { least: count, most: count }
    }

    /// Any number of GPUs up to `most`.
    pub const fn up_to(most: i32) -> Self {
        Self { least: 0, most }
    }

    /// Refuses more than the program of such a job can use.
    ///
    /// # Errors
    /// With what it can use.
    pub fn check(self, kind: JobKind) -> Result<()> {
        let usable = kind.usable_gpus();
        if self.most <= usable {
            return Ok(());
        }
        let program = kind.program();
        Err(Error::Invalid(match usable {
            0 => format!("--gpus {self}: {program} uses no GPU; leave --gpus out"),
            1 => {
                let several = match kind {
                    JobKind::Sample => {
                        "; sampler submit --workers N --gpus 1 takes N, one for each share"
                    }
                    _ => "",
                };
                format!(
                    "--gpus {self}: {program} uses 1 GPU at most; give --gpus 1, or 0..1 to run without \
                     where none is free{several}"
                )
            }
            most => format!("--gpus {self}: {program} uses {most} GPUs of a host at most"),
        }))
    }
}

impl From<i32> for GpuCount {
    fn from(count: i32) -> Self {
        Self::exactly(count)
    }
}

impl FromStr for GpuCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u16>().ok()).flatten().map(i32::from)
        };
        let count = match text.split_once("..") {
            None => number(text).map(Self::exactly),
            Some((least, most)) => {
                number(least).zip(number(most)).map(|(least, most)| Self { least, most })
            }
        };
        count
            .filter(|count| count.least <= count.most)
            .ok_or_else(|| "a number such as 1, or the least and the most such as 0..1".to_owned())
    }
}

impl fmt::Display for GpuCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.least == self.most {
            write!(f, "{}", self.least)
        } else {
            write!(f, "{}..{}", self.least, self.most)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_they_are_written() {
        for (text, least, most) in [("0", 0, 0), ("2", 2, 2), ("0..1", 0, 1), ("1..4", 1, 4)] {
            let count: GpuCount = text.parse().unwrap();
            assert_eq!(count, GpuCount { least, most });
            assert_eq!(count.to_string(), text);
        }
        for text in ["", "-1", "+1", "1..", "..1", "2..1", "0...1", "1,2", "65536", "all"] {
            let error = text.parse::<GpuCount>().unwrap_err();
            assert!(error.contains("0..1"), "{text}: {error}");
        }
    }

    #[test]
    fn more_than_a_program_can_use_is_refused_with_what_it_can_use() {
        let check = |text: &str, kind| text.parse::<GpuCount>().unwrap().check(kind);
        for kind in [JobKind::Sample, JobKind::Evaluate] {
            for fits in ["0", "0..1", "1"] {
                check(fits, kind).unwrap();
            }
            for too_many in ["2", "0..2", "1..4"] {
                let error = check(too_many, kind).unwrap_err().to_string();
                let says = format!("{} uses 1 GPU at most", kind.program());
                assert!(error.contains(&says) && error.contains("0..1"), "{error}");
                assert_eq!(error.contains("--workers N"), kind == JobKind::Sample, "{error}");
            }
        }
        check("4..8", JobKind::Train).unwrap();
        let error = check("2000", JobKind::Train).unwrap_err().to_string();
        assert!(error.contains("trainer uses 1024 GPUs of a host at most"), "{error}");
        check("0", JobKind::Ingest).unwrap();
        let error = check("0..1", JobKind::Ingest).unwrap_err().to_string();
        assert!(error.contains("pipeline uses no GPU"), "{error}");
    }
}
