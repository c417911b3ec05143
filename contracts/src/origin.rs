//! Where the outputs in a folder are from. It is written first, as [`ORIGIN`](crate::files::ORIGIN), and
//! decides for all attempts at a job and at its shares, on whatever machine, with which weights and in
//! which numbers they draw; the manifest of the outputs repeats it.

use diffusion::Precision;
use pipeline::{Evaluation, GENERATION, is_changed};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::Place;

use crate::{Error, Result, SamplingJob, payload};

/// What a folder of outputs was made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// The sampling job.
    pub job: String,
    /// The run whose weights these are, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_name: Option<String>,
    /// Step of its checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<i64>,
    /// Where the checkpoint is.
    pub checkpoint: Place,
    /// Digest of the checkpoint.
    pub checkpoint_digest: String,
    /// Generation of the random numbers ([`random::GENERATION`]).
    #[serde(default)]
    pub noise: u32,
    /// Generation of the degradations ([`pipeline::GENERATION`]).
    #[serde(default)]
    pub stream: u32,
    /// Numbers that the network is computed in; none in what was begun before they were recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// What was asked for.
    pub asked: SamplingJob,
}

impl Origin {
    /// Reads the file [`ORIGIN`](crate::files::ORIGIN) of the outputs at `place`.
    ///
    /// # Errors
    /// When it is damaged, or of a later version.
    pub fn read(text: &[u8], place: &Place) -> Result<Self> {
        let what = format!("{place}/{}", crate::files::ORIGIN);
        let json = serde_json::from_slice::<Value>(text)
            .map_err(|error| Error::Damaged { what: what.clone(), message: error.to_string() })?;
        payload::read(&json, &what, "sampler")
    }

    /// Reads the options in the manifest of the outputs at `place`; none where no sampling job made
    /// them.
    ///
    /// # Errors
    /// When a sampling job made them and what it says is damaged, or of a later version.
    pub fn of_outputs(options: &Value, place: &str) -> Result<Option<Self>> {
        if options.get("job").is_none() {
            return Ok(None);
        }
        payload::read(options, &format!("the origin of {place}"), "evaluator").map(Some)
    }

    /// The JSON of the file, and of the options in the manifest.
    ///
    /// # Errors
    /// When it is no JSON, which does not happen.
    pub fn to_json(&self) -> Result<Value> {
        payload::write(self)
    }

    /// Refuses to go on with outputs of another job, with other noise, or with other masks or JPEG tables.
    ///
    /// # Errors
    /// Names the way out.
    pub fn check(&self, job: &str) -> Result<()> {
        let out = &self.asked.out;
        if self.job != job {
            return Err(Self::of_another(out, &self.job, "choose another --out"));
        }
        if self.noise != random::GENERATION {
            return Err(Error::Refused(format!(
                "{out} was begun with another noise generator (generation {}, not {}): queue the job \
                 again with another --out",
                self.noise,
                random::GENERATION
            )));
        }
        let changed = |evaluation: &Evaluation| is_changed(evaluation.task());
        if self.stream != GENERATION && self.asked.evaluations.iter().any(changed) {
            return Err(Error::Refused(format!(
                "{out} was begun with other masks or JPEG tables (generation {}, not {GENERATION}): queue \
                 the job again with another --out",
                self.stream
            )));
        }
        Ok(())
    }

    /// The refusal to write into the outputs of another job; `other` says how to choose another place.
    pub fn of_another(place: &Place, job: &str, other: &str) -> Error {
        let job = job.get(..8).unwrap_or(job);
        Error::Refused(format!("{place} holds the outputs of job {job}: {other}"))
    }

    /// The job that the file [`ORIGIN`](crate::files::ORIGIN) of the outputs at `place` names, whatever
    /// its version.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn job_of(text: &[u8], place: &Place) -> Result<String> {
        #[derive(Deserialize)]
        struct Job {
            job: String,
        }
        serde_json::from_slice(text).map(|Job { job }| job).map_err(|error| Error::Damaged {
            what: format!("{place}/{}", crate::files::ORIGIN),
            message: error.to_string(),
        })
    }

    /// What people call the weights.
    pub fn title(&self) -> String {
        match (&self.run_name, self.step) {
            (Some(name), Some(step)) => format!("{name} step {step}"),
            _ => self.checkpoint.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored() -> Value {
        json!({
            "job": "0000-job", "checkpoint": "/runs/r/step-1", "checkpoint_digest": "d",
            "noise": random::GENERATION, "stream": GENERATION, "precision": "bf16", "version": 1,
            "asked": {
                "dataset": "/data", "dataset_digest": "d", "evaluations": [], "count": 1,
                "samples": 1, "seed": 0, "sampling": {}, "chunk": 1, "out": "/out", "png": false,
            },
        })
    }

    fn read(json: &Value) -> Result<Origin> {
        Origin::read(&serde_json::to_vec(json).unwrap(), &"/out".parse().unwrap())
    }

    #[test]
    fn outputs_of_other_jobs_and_of_other_noise_are_not_gone_on_with() {
        let origin = read(&stored()).unwrap();
        assert_eq!(origin.precision, Some(Precision::Bf16));
        assert!(origin.check("0000-job").is_ok());
        let other = origin.check("0001-job").unwrap_err().to_string();
        assert!(other.contains("choose another --out"), "{other}");
        // As versions wrote it that recorded neither generation, precision nor version.
        let mut old = stored();
        for key in ["noise", "precision", "version"] {
            old.as_object_mut().unwrap().remove(key);
        }
        let old = read(&old).unwrap();
        assert_eq!(old.precision, None);
        let noise = old.check("0000-job").unwrap_err().to_string();
        assert!(noise.contains("another noise generator"), "{noise}");
    }

    #[test]
    fn outputs_begun_with_other_masks_are_not_gone_on_with() {
        let begun = |task: &str| {
            let mut json = stored();
            json.as_object_mut().unwrap().remove("stream");
            json["asked"]["evaluations"] = json!([task]);
            read(&json).unwrap().check("0000-job")
        };
        assert!(begun("colorization").is_ok());
        for task in ["inpainting:free-form-10-20", "jpeg:9"] {
            let message = begun(task).unwrap_err().to_string();
            assert!(message.contains("other masks or JPEG tables"), "{message}");
        }
    }

    #[test]
    fn a_damaged_origin_or_a_later_one_is_an_error_and_foreign_outputs_have_none() {
        assert!(Origin::of_outputs(&Value::Null, "/out").unwrap().is_none());
        assert!(Origin::of_outputs(&json!({ "made": "elsewhere" }), "/out").unwrap().is_none());
        let origin = read(&stored()).unwrap();
        let again = Origin::of_outputs(&origin.to_json().unwrap(), "/out").unwrap().unwrap();
        assert_eq!((again.job, again.precision), (origin.job, origin.precision));

        let mut later = stored();
        later["version"] = 2.into();
        let message = Origin::of_outputs(&later, "/out").unwrap_err().to_string();
        assert!(message.contains("/out") && message.contains("update evaluator"), "{message}");
        let mut damaged = stored();
        damaged["step"] = "last".into();
        let message = Origin::of_outputs(&damaged, "/out").unwrap_err().to_string();
        assert!(message.contains("is damaged: step is"), "{message}");
        let message = Origin::read(b"{", &"/out".parse().unwrap()).unwrap_err().to_string();
        assert!(message.starts_with("/out/job.json is damaged"), "{message}");
    }
}
