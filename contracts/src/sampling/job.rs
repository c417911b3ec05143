//! What a sampling job is about: the payload that a submission queues and an attempt reads.

use diffusion::{Precision, SamplingConfig};
use pipeline::degrade::Evaluation;
use pipeline::masks::{MaskOptions, MaskSet};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::Place;

use crate::{Error, Result, Trained, payload};

/// A sampling job over a dataset.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingJob {
    /// `RUN@best`, `RUN@latest` or `RUN@STEP`: whose weights, unless there is a `checkpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// A checkpoint that is no run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<GivenCheckpoint>,
    /// The dataset whose images are degraded and restored.
    pub dataset: Place,
    /// sha256 of its manifest when the job was queued.
    pub dataset_digest: String,
    /// How each image is degraded; every one of them is applied to every image.
    pub evaluations: Vec<Evaluation>,
    /// Masks that take the place of those that the evaluations draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masks: Option<GivenMasks>,
    /// Number of images to sample, spread evenly over the dataset.
    pub count: u64,
    /// Outputs for each input.
    pub samples: u32,
    /// Seed of masks and noise.
    pub seed: u64,
    /// The reverse process.
    pub sampling: SamplingConfig,
    /// Images that go through the network at once; found by the memory where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Numbers that the network is computed in; found by its training and the device where it is left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Also where the network was not trained for one of the tasks.
    #[serde(default)]
    pub any_task: bool,
    /// Images of the dataset in a chunk; each chunk becomes one shard.
    pub chunk: u64,
    /// Where the outputs go.
    pub out: Place,
    /// Also write every output as a PNG file.
    pub png: bool,
}

/// A checkpoint by its place.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenCheckpoint {
    /// Where it is.
    pub uri: Place,
    /// Its digest when the job was queued.
    pub digest: String,
}

impl SamplingJob {
    /// Reads the payload of a job.
    ///
    /// # Errors
    /// When it is damaged, or of a later version.
    pub fn from_payload(payload: &Value) -> Result<Self> {
        payload::read(payload, "the payload of the sampling job", "sampler")
    }

    /// The payload of the job.
    ///
    /// # Errors
    /// When it is no JSON, which does not happen.
    pub fn payload(&self) -> Result<Value> {
        payload::write(self)
    }

    /// Outputs for each image of the dataset.
    pub fn outputs_each(&self) -> u64 {
        self.evaluations.len() as u64 * u64::from(self.samples)
    }

    /// Chunks that its images are cut into.
    pub fn chunks(&self) -> u64 {
        self.count.div_ceil(self.chunk.max(1))
    }

    /// Its tasks as lists show them.
    pub fn tasks(&self) -> String {
        self.evaluations.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// Refuses tasks that the weights called `name` were not trained for, where that is known.
    ///
    /// # Errors
    /// Names the weights and their tasks.
    pub fn check_tasks(&self, name: &str, trained: &Trained) -> Result<()> {
        if self.any_task {
            return Ok(());
        }
        self.evaluations.iter().try_for_each(|one| trained.check_task(name, one.task()))
    }
}

impl GivenMasks {
    /// Opens them.
    ///
    /// # Errors
    /// When they cannot be used, or are not what they were when the job was queued.
    pub fn open(&self) -> Result<MaskSet> {
        let masks = MaskSet::open(&self.from, self.options)?;
        let Some(queued) = &self.digest else { return Ok(masks) };
        let now = masks.digest()?;
        if *queued == now {
            return Ok(masks);
        }
        Err(Error::Refused(format!(
            "the masks of {} have changed since the job was queued: they were sha256 {queued}, and are \
             sha256 {now}. Put the earlier ones back, or submit a new job",
            self.from
        )))
    }
}

/// Masks from files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenMasks {
    /// `PATH` or `PATH#KEY`, as [`pipeline::masks::MaskSet::open`] takes it.
    #[serde(rename = "place")]
    pub from: String,
    /// What the files were when the job was queued, as [`pipeline::masks::MaskSet::digest`] gives it; none in
    /// a job of before it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// How the files are read.
    pub options: MaskOptions,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As it was queued before there were versions, by a program that kept addresses as they were typed.
    #[test]
    fn a_payload_of_before_is_read_and_one_of_later_is_refused() {
        let mut payload = json!({
            "run": "r@best", "dataset": "file:///data/a", "dataset_digest": "d",
            "evaluations": ["jpeg:10"], "count": 5, "samples": 2, "seed": 0, "sampling": {},
            "masks": { "place": "/m.npz#a", "options": { "threshold": 128, "invert": false } },
            "chunk": 2, "out": "s3://bucket/out", "png": false,
        });
        let job = SamplingJob::from_payload(&payload).unwrap();
        assert_eq!((job.dataset.to_string().as_str(), job.chunks()), ("/data/a", 3));
        assert_eq!(job.masks.as_ref().unwrap().from, "/m.npz#a");
        let written = job.payload().unwrap();
        assert_eq!(written["version"], 1);
        assert_eq!(written["out"], "s3://bucket/out");
        assert!(SamplingJob::from_payload(&written).is_ok());

        payload["version"] = 2.into();
        let message = SamplingJob::from_payload(&payload).unwrap_err().to_string();
        assert!(message.contains("version 2") && message.contains("update sampler"), "{message}");
        let damaged = SamplingJob::from_payload(&json!({ "run": "r" })).unwrap_err().to_string();
        assert!(damaged.contains("is damaged"), "{damaged}");
    }
}
