//! What an ingest keeps beside every finished shard, in `.ingest/`, so that one that was killed goes
//! on there: `00000.parquet`, `00000.digests`, `00000.keys`, `00000.json`, in this order. A shard counts
//! once its `.json` is there.

use serde::{Deserialize, Serialize};
use sha2::Sha256;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};

use super::layout::Ended;
use crate::dataset::{Counts, ShardEntry};
use crate::{Error, Result, Store, atomic};

/// The folder of everything unfinished.
pub(super) const WORK: &str = ".ingest";
/// Longest journal of a shard that is read.
const MAX_MARK: u64 = 1 << 30;

/// First half of a SHA-256.
pub(super) type Digest = [u8; 16];

/// What tells images apart: of each that was stored its key, of each that was new its bytes.
#[derive(Clone, Default)]
pub(super) struct Seen {
    pub(super) images: Vec<Digest>,
    pub(super) keys: Vec<Digest>,
}

/// How far an ingest is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Items taken of each source.
    pub(super) taken: Vec<u64>,
    /// What is known of the sources that were read to their end.
    pub(super) ended: Vec<Option<Ended>>,
    /// For each source, the running digest over its files.
    pub(super) files: Vec<Running>,
    /// What became of the files.
    pub(super) counts: Counts,
    /// Image bytes that were written or refused.
    pub(super) bytes: u64,
}

impl State {
    pub(super) fn new(sources: usize) -> Self {
        Self {
            taken: vec![0; sources],
            ended: vec![None; sources],
            files: vec![Running::default(); sources],
            counts: Counts::default(),
            bytes: 0,
        }
    }
}

/// A SHA-256 that is not finished; as text, the hexadecimal of its inner state.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Running(pub(super) Sha256);

impl From<Running> for String {
    fn from(running: Running) -> Self {
        atomic::hex(&running.0.serialize())
    }
}

impl TryFrom<String> for Running {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || "no state of a SHA-256".to_owned();
        let mut state = SerializedState::<Sha256>::default();
        if text.len() != 2 * state.len() {
            return Err(wrong());
        }
        for (byte, at) in state.iter_mut().zip((0..).step_by(2)) {
            let digits = text.get(at..at + 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Sha256::deserialize(&state).map(Self).map_err(|_| wrong())
    }
}

/// A file that was not stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reject {
    pub(super) key: String,
    pub(super) source: String,
    pub(super) reason: String,
}

/// One finished shard and how far the ingest was when it was closed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    pub(super) shard: ShardEntry,
    pub(super) state: State,
    /// What was left out since the mark before.
    pub(super) rejects: Vec<Reject>,
    /// What was seen since the mark before.
    #[serde(skip)]
    pub(super) seen: Seen,
}

/// Name in the working folder of what belongs to a shard.
pub(super) fn name(number: usize, ending: &str) -> String {
    format!("{WORK}/{number:05}.{ending}")
}

impl Mark {
    pub(super) fn write(&self, store: &Store, number: usize) -> Result<()> {
        store.write(&name(number, "digests"), self.seen.images.concat())?;
        store.write(&name(number, "keys"), self.seen.keys.concat())?;
        let text = serde_json::to_vec(self)
            .map_err(|error| Error::dataset(store.place(), error.to_string()))?;
        Ok(store.write(&name(number, "json"), text)?)
    }

    /// Reads the mark of a shard; none where the shard was not finished.
    pub(super) fn read(store: &Store, number: usize) -> Result<Option<Self>> {
        let Some(text) = store.read(&name(number, "json"), MAX_MARK)? else { return Ok(None) };
        let file = name(number, "json");
        let wrong = |message: String| {
            let message =
                format!("{file} of an unfinished ingest: {message}; begin anew with --overwrite");
            Error::dataset(store.place(), message)
        };
        let mut mark: Self =
            serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let digests = |ending: &str| -> Result<Vec<Digest>> {
            let bytes = store.read(&name(number, ending), MAX_MARK)?.unwrap_or_default();
            match bytes.as_chunks() {
                (digests, []) => Ok(digests.to_vec()),
                _ => Err(wrong(format!("its {ending} are damaged"))),
            }
        };
        mark.seen = Seen { images: digests("digests")?, keys: digests("keys")? };
        if store.size(&name(number, "parquet"))? != Some(mark.shard.bytes)
            || mark.seen.keys.len() as u64 != mark.shard.rows
        {
            return Err(wrong("its shard is gone or damaged".into()));
        }
        Ok(Some(mark))
    }
}
