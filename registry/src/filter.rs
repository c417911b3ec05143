//! Which rows a list of jobs or of runs shows.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{JobState, Since};

/// Those that every given condition fits; `K` is the kind of what is listed.
#[derive(Clone, Debug)]
pub struct Filter<K> {
    /// In one of these states; in any where none is given, and so for the kinds.
    pub states: Vec<JobState>,
    /// Of one of these kinds.
    pub kinds: Vec<K>,
    /// Of this owner.
    pub owner: Option<String>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// Of this name, in which `*` is any text.
    pub name: Option<String>,
    /// Of this experiment, or about a run of it.
    pub experiment: Option<String>,
    /// Created since then.
    pub since: Option<Since>,
    /// Of this sweep.
    pub sweep: Option<Uuid>,
    /// Only archived ones, or only those that are not; both where none is given.
    pub archived: Option<bool>,
    /// At most so many, the newest; all where none is given.
    pub limit: Option<i64>,
}

impl<K> Default for Filter<K> {
    fn default() -> Self {
        Self {
            states: Vec::new(),
            kinds: Vec::new(),
            owner: None,
            tags: Vec::new(),
            name: None,
            experiment: None,
            since: None,
            sweep: None,
            archived: Some(false),
            limit: Some(50),
        }
    }
}

impl<K> Filter<K> {
    /// All of this kind that have not ended.
    pub fn unfinished(kind: K) -> Self {
        let states = vec![JobState::Queued, JobState::Running, JobState::Paused];
        Self { states, kinds: vec![kind], limit: None, ..Self::default() }
    }
}

/// A filter as the statements take it. A condition that is `None` lets every row through.
pub(crate) struct Conditions<'a> {
    /// A single state stands by itself, because only then an index gives the newest rows of that state
    /// in order; several stand in `states`.
    pub state: Option<JobState>,
    pub states: Option<Vec<String>>,
    pub kinds: Option<Vec<String>>,
    pub owner: Option<&'a str>,
    pub tags: Option<&'a [String]>,
    /// A pattern of `like`.
    pub name: Option<String>,
    pub experiment: Option<&'a str>,
    /// Seconds.
    pub ago: Option<f64>,
    pub at: Option<OffsetDateTime>,
    pub sweep: Option<Uuid>,
    pub archived: Option<bool>,
}

impl<K: Copy + Into<&'static str>> Filter<K> {
    pub(crate) fn conditions(&self) -> Conditions<'_> {
        let (state, states) = match &self.states[..] {
            [one] => (Some(*one), None),
            many => (None, names(many.iter().map(|state| state.name()))),
        };
        let (ago, at) = Since::parts(self.since);
        Conditions {
            state,
            states,
            kinds: names(self.kinds.iter().map(|&kind| kind.into())),
            owner: self.owner.as_deref(),
            tags: (!self.tags.is_empty()).then_some(&self.tags[..]),
            name: self.name.as_deref().map(like),
            experiment: self.experiment.as_deref(),
            ago,
            at,
            sweep: self.sweep,
            archived: self.archived,
        }
    }
}

/// None where there is no choice.
fn names(names: impl ExactSizeIterator<Item = &'static str>) -> Option<Vec<String>> {
    (names.len() > 0).then(|| names.map(str::to_owned).collect())
}

/// The pattern of `like` for a name in which `*` is any text.
pub(crate) fn like(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '*' => pattern.push('%'),
            '%' | '_' | '\\' => pattern.extend(['\\', character]),
            _ => pattern.push(character),
        }
    }
    pattern
}
