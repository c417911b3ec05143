//! Scores as they are printed and kept, with what they depend on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::{self, DeserializeOwned, Error as _};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::scores::{Basis, Interval, MOST_PSNR, Output, Own, Owns, Score, Value};

/// Scores of one task. Those of single outputs are over all outputs, their intervals over inputs; those of
/// sets are over the first output of each input.
///
/// As JSON an object with `outputs`, `inputs`, `scales`, `perfect` and each score by its key
/// ([`crate::scores::About::key`]). Keys of no score are passed over, so that what is kept of a later
/// version can be read.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// Outputs that were compared.
    pub outputs: u64,
    /// Inputs that they belong to.
    pub inputs: u64,
    /// Scales of MS-SSIM that the pictures are large enough for, of five.
    pub scales: Option<usize>,
    /// Outputs that equal their reference, or nearly: PSNR counts each of them as [`MOST_PSNR`].
    pub perfect: u64,
    values: BTreeMap<Score, Value>,
}

impl Scores {
    /// Of the own values of a task's outputs.
    pub fn of(outputs: &[&Output]) -> Self {
        let mut scores = Self {
            outputs: outputs.len() as u64,
            inputs: outputs.iter().filter(|one| one.first).count() as u64,
            scales: outputs.iter().find_map(|one| one.scales),
            perfect: outputs.iter().filter(|one| is_perfect(one)).count() as u64,
            ..Self::default()
        };
        for score in Score::ALL {
            scores.set(score, score.measure().total(&Owns::of(score, outputs)));
        }
        scores
    }

    /// A line for people about what PSNR counts; none where no output is perfect.
    pub fn perfect_note(&self) -> Option<String> {
        let Self { perfect, outputs, .. } = self;
        let note = || {
            format!(
                "{perfect} of {outputs} outputs equal their reference: PSNR counts them as {MOST_PSNR} dB"
            )
        };
        (*perfect > 0).then(note)
    }

    /// True where not one score could be computed.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// A score, where there is one.
    pub fn get(&self, score: Score) -> Option<&Value> {
        self.values.get(&score)
    }

    /// The score as a number.
    pub fn number(&self, score: Score) -> Option<f64> {
        self.get(score).map(Value::number)
    }

    /// What a table shows of a score, in the unit of its column.
    pub fn cell(&self, score: Score) -> Option<Interval> {
        let factor = score.about().column?.factor;
        Some(self.get(score)?.interval()?.times(factor))
    }

    /// How many outputs have which value of a score that counts them.
    pub fn histogram(&self, score: Score) -> Option<&[u64]> {
        match self.get(score)? {
            Value::Distribution { histogram, .. } => Some(histogram),
            _ => None,
        }
    }

    /// Sets a score; none takes it away.
    pub fn set(&mut self, score: Score, value: Option<Value>) {
        match value {
            Some(value) => self.values.insert(score, value),
            None => self.values.remove(&score),
        };
    }
}

fn is_perfect(output: &Output) -> bool {
    output.own(Score::Psnr).and_then(Own::value).is_some_and(|psnr| psnr >= MOST_PSNR)
}

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("outputs", &self.outputs)?;
        map.serialize_entry("inputs", &self.inputs)?;
        for score in Score::ALL {
            let about = score.about();
            match self.get(score) {
                Some(value) => map.serialize_entry(about.key, value)?,
                // Scores over generated pixels are always written: null without a value.
                None if about.basis == Basis::Generated => {
                    map.serialize_entry(about.key, &None::<f64>)?;
                }
                None => {}
            }
        }
        if let Some(scales) = self.scales {
            map.serialize_entry("scales", &scales)?;
        }
        if self.perfect > 0 {
            map.serialize_entry("perfect", &self.perfect)?;
        }
        map.end()
    }
}

/// What is kept under a key; null is nothing.
fn read<T: DeserializeOwned, E: de::Error>(
    key: &str,
    kept: serde_json::Value,
) -> Result<Option<T>, E> {
    serde_json::from_value(kept).map_err(|error| E::custom(format!("{key}: {error}")))
}

impl<'de> Deserialize<'de> for Scores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut map = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        let mut take = |key| map.remove(key).unwrap_or_default();
        let outputs = read::<u64, D::Error>("outputs", take("outputs"))?;
        let mut scores = Self {
            outputs: outputs.ok_or_else(|| D::Error::missing_field("outputs"))?,
            inputs: read::<u64, D::Error>("inputs", take("inputs"))?.unwrap_or_default(),
            scales: read::<usize, D::Error>("scales", take("scales"))?,
            perfect: read::<u64, D::Error>("perfect", take("perfect"))?.unwrap_or_default(),
            ..Self::default()
        };
        for score in Score::ALL {
            let key = score.about().key;
            scores.set(score, read::<Value, D::Error>(key, take(key))?);
        }
        Ok(scores)
    }
}

/// What scores depend on beside the pictures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Depends {
    /// sha256 of what was scored, or of its list of files.
    pub outputs: String,
    /// What FID and KID compare with, and how many images that has; none where it is the references.
    pub distribution: Option<Distribution>,
    /// The square that all pictures were brought to; none where each has its own size.
    pub size: Option<u32>,
    /// Splits of the Inception Score.
    pub splits: u32,
    /// Images in a subset of KID, at most.
    pub kid_subset: usize,
    /// The extractors.
    pub extractors: Vec<ExtractorUse>,
    /// The program.
    pub version: String,
}

/// What FID and KID compare with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Distribution {
    /// Where it is.
    pub uri: String,
    /// Its sha256.
    pub digest: String,
    /// Images.
    pub images: u64,
}

/// An extractor and what was taken through it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExtractorUse {
    /// Its name.
    pub name: String,
    /// sha256 of its file.
    pub sha256: String,
    /// What is done to a picture before it.
    pub rule: String,
    /// The scores.
    pub scores: Vec<String>,
}

/// What had no partner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Matching {
    /// References without an output.
    pub missing: u64,
    /// The first of them.
    pub first_missing: Vec<String>,
    /// Outputs without a reference, which were not scored.
    pub surplus: u64,
    /// The first of them.
    pub first_surplus: Vec<String>,
}

impl Matching {
    /// Of these names.
    pub fn new(missing: &[String], surplus: &[String]) -> Self {
        let first = |names: &[String]| names.iter().take(10).cloned().collect();
        Self {
            missing: missing.len() as u64,
            first_missing: first(missing),
            surplus: surplus.len() as u64,
            first_surplus: first(surplus),
        }
    }

    /// A line for people; none where all have partners.
    pub fn note(&self) -> Option<String> {
        let of = |count: u64, what: &str, first: &[String]| {
            let name = first.first().map_or("", String::as_str);
            (count > 0).then(|| format!("{count} {what} (the first is `{name}`)"))
        };
        let parts: Vec<String> = [
            of(self.missing, "references have no output", &self.first_missing),
            of(self.surplus, "outputs have no reference and are not scored", &self.first_surplus),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// How long scoring took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Timing {
    /// Outputs a second, from the first to the last.
    pub outputs_per_second: f64,
    /// Seconds from the first to the last output.
    pub seconds: f64,
    /// The share of them in which the extractors worked.
    pub extractor_share: f64,
    /// Seconds for eigenvalues, subsets and resamples afterwards.
    pub closing_seconds: f64,
}

impl Timing {
    /// Of so many outputs.
    pub fn new(outputs: u64, looking: Duration, wall: Duration, closing: Duration) -> Self {
        let seconds = wall.as_secs_f64().max(1e-9);
        Self {
            outputs_per_second: outputs as f64 / seconds,
            seconds,
            extractor_share: looking.as_secs_f64() / seconds,
            closing_seconds: closing.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scores_are_kept_as_they_always_were() {
        // What an earlier version kept, with what `evaluator run` keeps beside.
        let kept = json!({
            "outputs": 48,
            "inputs": 24,
            "mean_absolute_error": 20.5,
            "psnr": 18.25,
            "input_mean_absolute_error": null,
            "diversity": 3.5,
            "fid": { "value": 15.78, "low": 14.0, "high": 17.5 },
            "kid": { "mean": 0.012, "deviation": 0.003 },
            "inception": { "mean": 200.8, "deviation": 4.5 },
            "accuracy": { "value": 0.72, "low": 0.7, "high": 0.75 },
            "perceptual": { "value": 46.5, "low": 46.0, "high": 47.0 },
            "perceptual_squared": { "value": 2200.0, "low": 2100.0, "high": 2300.0 },
            "lpips": { "value": 0.25, "low": 0.24, "high": 0.26 },
            "picture_psnr": { "value": 21.5, "low": 21.0, "high": 22.0 },
            "ssim": { "value": 0.875, "low": 0.87, "high": 0.88 },
            "ms_ssim": { "value": 0.9, "low": 0.89, "high": 0.91 },
            "diversity_ms_ssim": {
                "mean": { "value": 0.6, "low": 0.5, "high": 0.7 },
                "histogram": [0, 24]
            },
            "scales": 5,
            "perfect": 3,
        });
        let mut with_more = kept.clone();
        with_more["depends"] = json!({ "size": 256 });
        let scores: Scores = serde_json::from_value(with_more).unwrap();
        assert_eq!(serde_json::to_value(&scores).unwrap(), kept);
        let cell = |score| scores.cell(score).map(|one| one.value);
        assert_eq!([cell(Score::Kid), cell(Score::Ca)], [Some(12.0), Some(72.0)]);
        assert_eq!(cell(Score::Is), Some(200.8));
        assert_eq!((cell(Score::Error), cell(Score::Fool3)), (None, None));
        assert_eq!(scores.number(Score::Error), Some(20.5));
        assert_eq!(scores.histogram(Score::Likeness), Some([0, 24].as_slice()));
    }

    #[test]
    fn what_is_not_there_is_null_or_left_out() {
        let scores: Scores = serde_json::from_str(r#"{"outputs":3}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&scores).unwrap(),
            "{\"outputs\":3,\"inputs\":0,\"mean_absolute_error\":null,\
             \"input_mean_absolute_error\":null,\"psnr\":null,\"diversity\":null}"
        );
        assert!(serde_json::from_str::<Scores>("{}").is_err());
        let error = serde_json::from_str::<Scores>(r#"{"outputs":3,"fid":"x"}"#).unwrap_err();
        assert!(error.to_string().contains("fid"), "{error}");
    }
}
