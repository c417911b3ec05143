//! What is to be scored, and how: the payload that a submission queues and an attempt reads.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PictureSet;
use crate::{ConfigError, Error, Result, payload};

/// Sides in pixels that pictures can be brought to.
pub const SIZES: RangeInclusive<u32> = 8..=4096;
/// Splits that the Inception Score can be taken over.
pub const SPLITS: RangeInclusive<u32> = 1..=1000;
/// Images that a subset of KID can have.
pub const SUBSETS: RangeInclusive<u32> = 2..=10_000;

const WHAT: &str = "the payload of the scoring job";

/// A request to score pictures. All its paths are absolute: an attempt works in another folder than the one
/// that it was submitted from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationRequest {
    /// What is scored.
    pub outputs: PictureSet,
    /// What it is compared with; the output dataset's own references where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<PictureSet>,
    /// What FID and KID compare with; the references where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<PictureSet>,
    /// Configurations of the extractors.
    #[serde(default)]
    pub extractors: Vec<PathBuf>,
    /// The side of the square that all pictures are brought to; that of the outputs where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Splits of the Inception Score.
    pub splits: u32,
    /// Images in a subset of KID, at most.
    pub kid_subset: u32,
    /// Also SSIM and MS-SSIM.
    pub structure: bool,
    /// Where every output's own scores go (CSV).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<PathBuf>,
    /// The name that the scores are kept under, by which tables find them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl EvaluationRequest {
    /// Reads the payload of a job.
    ///
    /// # Errors
    /// When it is a command line, damaged, of a later version, or nothing that can be scored.
    pub fn from_payload(payload: &Value) -> Result<Self> {
        if payload.get("arguments").is_some() {
            return Err(Error::Refused(format!(
                "{WHAT} is a command line, as `scheduler submit evaluate` and earlier versions of \
                 `evaluator submit` queue it: a worker runs it as `evaluator run …`; to have it as a \
                 request, cancel the job and queue the table again with `evaluator submit`"
            )));
        }
        let request: Self = payload::read(payload, WHAT, "evaluator")?;
        request.check().map_err(|error| error.of(WHAT.to_owned()))?;
        Ok(request)
    }

    /// The payload of the job.
    ///
    /// # Errors
    /// As [`EvaluationRequest::check`]; for a path that is not UTF-8.
    pub fn payload(&self) -> Result<Value> {
        self.check()?;
        payload::write(self)
    }

    /// Refuses numbers out of range, relative paths and an empty label.
    ///
    /// # Errors
    /// Names the key and what is allowed.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_numbers(self.size, self.splits, self.kid_subset)?;
        let extractors = self.extractors.iter().map(|file| ("extractors", file));
        let details = self.details.iter().map(|file| ("details", file));
        for (key, file) in extractors.chain(details) {
            if file.is_relative() {
                let file = format!("\"{}\"", file.display());
                return Err(ConfigError::value(key, file, "absolute paths"));
            }
        }
        match self.label.as_deref() {
            Some("") => Err(ConfigError::value("label", "empty", "at least one character")),
            _ => Ok(()),
        }
    }
}

/// Refuses numbers out of range; profiles name them as requests do.
///
/// # Errors
/// Names the key and what is allowed.
pub fn check_numbers(size: Option<u32>, splits: u32, kid_subset: u32) -> Result<(), ConfigError> {
    let within = |key: &str, number: u32, allowed: RangeInclusive<u32>, unit: &str| {
        if allowed.contains(&number) {
            return Ok(());
        }
        let allowed = format!("{} to {}{unit}", allowed.start(), allowed.end());
        Err(ConfigError::value(key, number, allowed))
    };
    if let Some(size) = size {
        within("size", size, SIZES, " pixels")?;
    }
    within("splits", splits, SPLITS, "")?;
    within("kid_subset", kid_subset, SUBSETS, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn stored() -> Value {
        json!({
            "outputs": "/outputs/a#source", "splits": 10, "kid_subset": 1000, "structure": true,
            "extractors": ["/e/inception.toml"], "label": "test/a#0123", "version": 1,
        })
    }

    fn refusal(change: impl FnOnce(&mut Value)) -> String {
        let mut payload = stored();
        change(&mut payload);
        EvaluationRequest::from_payload(&payload).unwrap_err().to_string()
    }

    #[test]
    fn a_payload_is_read_and_written_with_its_version() {
        let request = EvaluationRequest::from_payload(&stored()).unwrap();
        assert_eq!(request.outputs, "/outputs/a#source".parse().unwrap());
        assert_eq!((request.splits, request.size, &request.reference), (10, None, &None));
        assert_eq!(request.payload().unwrap(), stored());
    }

    #[test]
    fn a_command_line_is_refused_with_what_to_do() {
        let arguments = json!(["run", "--outputs", "a"]);
        for payload in [
            json!({ "arguments": arguments, "folder": "/work" }),
            json!({ "arguments": arguments, "folder": "/work", "version": 1 }),
        ] {
            let error = EvaluationRequest::from_payload(&payload).unwrap_err();
            assert!(error.is_usage());
            let message = error.to_string();
            assert!(message.contains("is a command line"), "{message}");
            assert!(message.contains("queue the table again with `evaluator submit`"), "{message}");
        }
    }

    #[test]
    fn later_versions_unknown_keys_and_values_out_of_range_are_refused() {
        let newer = refusal(|payload| payload["version"] = 2.into());
        assert_eq!(
            newer,
            "the payload of the scoring job has version 2, this evaluator reads versions up to 1: \
             update evaluator"
        );
        let unknown = refusal(|payload| payload["kid_subsets"] = 3.into());
        assert!(unknown.contains("kid_subsets is not a known key"), "{unknown}");
        assert!(unknown.ends_with("did you mean `kid_subset`?"), "{unknown}");
        for (key, value, says) in [
            ("splits", json!(0), "splits is 0, allowed: 1 to 1000"),
            ("size", json!(7), "size is 7, allowed: 8 to 4096 pixels"),
            ("kid_subset", json!(1), "kid_subset is 1, allowed: 2 to 10000"),
            ("details", json!("a.csv"), "details is \"a.csv\", allowed: absolute paths"),
            ("extractors", json!(["e.toml"]), "extractors is \"e.toml\", allowed: absolute paths"),
            ("label", json!(""), "label is empty"),
            ("outputs", json!("outputs/a"), "it is relative"),
            ("reference", json!("ftp://host/a"), "is no address"),
            ("structure", json!("yes"), "structure is \"yes\", allowed: true or false"),
        ] {
            let message = refusal(|payload| payload[key] = value);
            assert!(message.starts_with("the payload of the scoring job"), "{key}: {message}");
            assert!(message.contains(says), "{key}: {message}");
        }
        let missing = refusal(|payload| {
            payload.as_object_mut().unwrap().remove("outputs");
        });
        assert!(missing.contains("outputs is missing"), "{missing}");
    }

    #[test]
    fn what_cannot_be_read_is_not_written() {
        let request = EvaluationRequest::from_payload(&stored()).unwrap();
        let relative = EvaluationRequest { details: Some("a.csv".into()), ..request.clone() };
        assert!(relative.payload().unwrap_err().is_usage());
        let none = EvaluationRequest { splits: 0, ..request };
        assert!(none.payload().unwrap_err().to_string().contains("1 to 1000"));
    }

    fn set() -> impl Strategy<Value = PictureSet> {
        let place = prop_oneof![
            r"(/[A-Za-z0-9 ._%#ä-]{1,8}){1,3}",
            r"s3://bucket(/[A-Za-z0-9_-]{1,8}){1,3}",
        ];
        let column = prop_oneof![Just(""), Just("#output"), Just("#reference"), Just("#source")];
        (place, column).prop_filter_map("a part that leads elsewhere", |(place, column)| {
            format!("{place}{column}").parse().ok()
        })
    }

    proptest! {
        #[test]
        fn whatever_may_be_asked_for_is_read_as_it_was_written(
            outputs in set(),
            reference in proptest::option::of(set()),
            distribution in proptest::option::of(set()),
            extractors in proptest::collection::vec("/[a-z ä/]{0,12}\\.toml", 0..3),
            size in proptest::option::of(SIZES),
            splits in SPLITS,
            kid_subset in SUBSETS,
            structure in any::<bool>(),
            details in proptest::option::of("/[a-z ä/]{0,12}\\.csv"),
            label in proptest::option::of(".{1,20}"),
        ) {
            let request = EvaluationRequest {
                outputs, reference, distribution, size, splits, kid_subset, structure, label,
                extractors: extractors.into_iter().map(PathBuf::from).collect(),
                details: details.map(PathBuf::from),
            };
            // Through the text that the database keeps.
            let text = request.payload().unwrap().to_string();
            let payload: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&payload["version"], 1);
            prop_assert_eq!(EvaluationRequest::from_payload(&payload).unwrap(), request);
        }
    }
}
