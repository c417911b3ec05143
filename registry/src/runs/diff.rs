//! What is different between two runs: their configurations leaf by leaf, the facts of their making,
//! their results side by side. Pure; who calls it reads the runs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{Checkpoint, DataRole, Evaluation, RecordedData, Run, RunDataset};

/// What two runs have under one name; none where one has nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The name: of a leaf of the configuration `a.b[0].c`.
    pub key: String,
    /// What the first has.
    pub a: Option<Value>,
    /// What the second has.
    pub b: Option<Value>,
}

impl Difference {
    fn new(key: impl Into<String>, a: Option<Value>, b: Option<Value>) -> Self {
        Self { key: key.into(), a, b }
    }

    fn is_equal(&self) -> bool {
        match (&self.a, &self.b) {
            (Some(a), Some(b)) => same(a, b),
            (a, b) => a == b,
        }
    }
}

/// A run with everything that a comparison looks at.
#[derive(Clone, Debug)]
pub struct RunSide {
    /// The run.
    pub run: Run,
    /// What it is trained on.
    pub datasets: Vec<RecordedData>,
    /// Its checkpoints.
    pub checkpoints: Vec<Checkpoint>,
    /// The scores of what was drawn with it, oldest first.
    pub evaluations: Vec<Evaluation>,
}

/// A comparison of two runs.
#[derive(Clone, Debug, Serialize)]
pub struct RunDiff {
    /// Leaves of the configuration that differ.
    pub config: Vec<Difference>,
    /// How many leaves are equal.
    pub config_equal: usize,
    /// Facts that differ.
    pub facts: Vec<Difference>,
    /// The names of the facts that are equal.
    pub facts_equal: Vec<String>,
    /// Results side by side, the equal ones too: steps, the newest value of each metric, the metric
    /// of the best checkpoint, the newest scores of each label and task.
    pub results: Vec<Difference>,
}

impl RunDiff {
    /// Compares two runs.
    pub fn new(a: &RunSide, b: &RunSide) -> Self {
        let (config, config_equal) = config_diff(&a.run.config, &b.run.config);
        let (mut facts, mut facts_equal) = (Vec::new(), Vec::new());
        for fact in side_by_side(facts_of(a), facts_of(b)) {
            match (&fact.a, &fact.b) {
                (None, None) => {}
                _ if fact.is_equal() => facts_equal.push(fact.key),
                _ => facts.push(fact),
            }
        }
        let results = side_by_side(results_of(a), results_of(b));
        Self { config, config_equal, facts, facts_equal, results }
    }
}

/// The leaves that differ between two configurations, by key, and the number of those that are equal.
pub fn config_diff(a: &Value, b: &Value) -> (Vec<Difference>, usize) {
    let (a, b) = (leaves(a), leaves(b));
    let keys: BTreeSet<&Path> = a.keys().chain(b.keys()).collect();
    let all = keys.into_iter().map(|key| {
        let of = |side: &BTreeMap<Path, &Value>| side.get(key).map(|&value| value.clone());
        Difference::new(dotted(key), of(&a), of(&b))
    });
    let (equal, different): (Vec<_>, Vec<_>) = all.partition(Difference::is_equal);
    (different, equal.len())
}

/// The leaves of a configuration by their keys, as people read them: by key, and elements by their number.
pub fn config_leaves(config: &Value) -> Vec<(String, &Value)> {
    leaves(config).into_iter().map(|(path, value)| (dotted(&path), value)).collect()
}

/// The way to a leaf from its key, `a.b[0].c`: keys and numbers of elements, as Postgres takes them. None of what is
/// no such key.
pub fn config_path(key: &str) -> Option<Vec<String>> {
    let mut path = Vec::new();
    let mut rest = key;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (segment, after) = unquoted(quoted)?;
            path.push(segment);
            rest = after;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (segment, after) = rest.split_at(end);
            if segment.is_empty() {
                return None;
            }
            path.push(segment.to_owned());
            rest = after;
        }
        while let Some(after) = rest.strip_prefix('[') {
            let (number, after) = after.split_once(']')?;
            path.push(number.parse::<u32>().ok()?.to_string());
            rest = after;
        }
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Some(path),
            None => return None,
        }
    }
}

/// A text up to its closing quotation mark, and what follows.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut segment = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => return Some((segment, &text[at + 1..])),
            (_, '\\') => segment.push(match characters.next()?.1 {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => {
                    let digits: String = characters
                        .by_ref()
                        .map(|(_, c)| c)
                        .skip(1)
                        .take_while(|c| *c != '}')
                        .collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                }
                other => other,
            }),
            (_, other) => segment.push(other),
        }
    }
}

/// The way to a leaf. Ordered as people read: by key, and elements by their number.
type Path<'a> = Vec<Segment<'a>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment<'a> {
    Key(&'a str),
    Element(usize),
}

/// Everything in a value that holds nothing itself; an empty object or array is a leaf.
fn leaves(value: &Value) -> BTreeMap<Path<'_>, &Value> {
    fn walk<'a>(value: &'a Value, path: &mut Path<'a>, all: &mut BTreeMap<Path<'a>, &'a Value>) {
        let mut step = |segment: Segment<'a>, value: &'a Value| {
            path.push(segment);
            walk(value, path, all);
            path.pop();
        };
        match value {
            Value::Object(object) if !object.is_empty() => {
                object.iter().for_each(|(key, value)| step(Segment::Key(key), value));
            }
            Value::Array(array) if !array.is_empty() => {
                let elements = array.iter().enumerate();
                elements.for_each(|(number, value)| step(Segment::Element(number), value));
            }
            leaf => {
                all.insert(path.clone(), leaf);
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(value, &mut Vec::new(), &mut all);
    all
}

/// A path as people write it: `a.b[0].c`; a key that could be read otherwise in quotes.
fn dotted(path: &Path<'_>) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Element(number) => text += &format!("[{number}]"),
            Segment::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                if !key.is_empty() && key.bytes().all(plain) {
                    text += key;
                } else {
                    text += &format!("{key:?}");
                }
            }
        }
    }
    text
}

/// Equal, where 1 and 1.0 are.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) if x.is_f64() != y.is_f64() => {
            x.as_f64() == y.as_f64()
        }
        _ => a == b,
    }
}

type Named = Vec<(String, Option<Value>)>;

/// Both lists by name, in the order of the first, with what only the second has behind it.
fn side_by_side(a: Named, b: Named) -> Vec<Difference> {
    let mut rest: BTreeMap<String, Option<Value>> = b.iter().cloned().collect();
    let mut all: Vec<Difference> = a
        .into_iter()
        .map(|(name, value)| {
            let other = rest.remove(&name).flatten();
            Difference::new(name, value, other)
        })
        .collect();
    let late = b.into_iter().filter(|(name, _)| rest.contains_key(name));
    all.extend(late.map(|(name, value)| Difference::new(name, None, value)));
    all
}

fn facts_of(side: &RunSide) -> Named {
    let run = &side.run;
    let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
    let mut facts = vec![
        ("experiment".to_owned(), Some(json!(run.experiment))),
        ("seed".to_owned(), Some(json!(run.seed))),
        ("revision".to_owned(), text(&run.git_revision)),
        ("libtorch".to_owned(), text(&run.libtorch)),
        ("device".to_owned(), text(&run.device)),
        ("host".to_owned(), text(&run.host)),
    ];
    let datasets = side.datasets.iter().map(|recorded| &recorded.dataset);
    let mut datasets: Vec<&RunDataset> = datasets.collect();
    datasets.sort_by_key(|dataset| (dataset.role, &dataset.name, &dataset.manifest_digest));
    // Data is what its manifest says, wherever it lies; those of one name are counted up.
    let mut last = (DataRole::Train, "", 0);
    for dataset in datasets {
        let (role, name) = (dataset.role, dataset.name.as_str());
        last = (role, name, if (last.0, last.1) == (role, name) { last.2 + 1 } else { 1 });
        let kind = match role {
            DataRole::Train => "dataset",
            DataRole::Validation => "validation dataset",
            DataRole::Preview => "preview dataset",
        };
        let name = match last.2 {
            1 => format!("{kind} {name}"),
            count => format!("{kind} {name} ({count})"),
        };
        let value = json!({
            "digest": dataset.manifest_digest, "rows": dataset.rows, "weight": dataset.weight,
        });
        facts.push((name, Some(value)));
    }
    facts
}

fn results_of(side: &RunSide) -> Named {
    let run = &side.run;
    let mut results = vec![
        ("state".to_owned(), Some(json!(run.state.map_or("imported", crate::JobState::name)))),
        ("step".to_owned(), Some(json!(run.last_step))),
        ("steps in all".to_owned(), Some(json!(run.total_steps))),
    ];
    let latest = run.latest.as_object().into_iter().flatten();
    results.extend(latest.map(|(name, value)| (name.clone(), Some(value.clone()))));
    if let Some(best) = run.best(&side.checkpoints) {
        let value = best.metrics.get(&run.best_metric).cloned();
        results.push((format!("best checkpoint, {}", run.best_metric), value));
        results.push(("best checkpoint, step".to_owned(), Some(json!(best.step))));
    }
    let mut newest: BTreeMap<(&str, &str), &Evaluation> = BTreeMap::new();
    for evaluation in &side.evaluations {
        let task = evaluation.task.as_deref().unwrap_or("all tasks");
        newest.insert((&evaluation.label, task), evaluation);
    }
    for ((label, task), evaluation) in newest {
        let scores = evaluation.scores.as_object().into_iter().flatten();
        results.extend(
            scores.map(|(name, value)| (format!("{label}, {task}, {name}"), Some(value.clone()))),
        );
    }
    results
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(differences: &[Difference]) -> Vec<&str> {
        differences.iter().map(|difference| difference.key.as_str()).collect()
    }

    #[test]
    fn leaves_go_by_dotted_keys_and_elements_by_number() {
        let a = json!({"lr": 0.1, "data": {"sets": [{"uri": "x", "w": 1}, {"uri": "y", "w": 2}]}});
        let b = json!({"lr": 0.1, "data": {"sets": [{"uri": "x", "w": 3}]}, "new": []});
        let (different, equal) = config_diff(&a, &b);
        assert_eq!(
            different,
            [
                Difference::new("data.sets[0].w", Some(json!(1)), Some(json!(3))),
                Difference::new("data.sets[1].uri", Some(json!("y")), None),
                Difference::new("data.sets[1].w", Some(json!(2)), None),
                Difference::new("new", None, Some(json!([]))),
            ]
        );
        assert_eq!(equal, 2);
    }

    #[test]
    fn elements_are_counted_up_and_strange_keys_are_quoted() {
        let many = |last| {
            let mut elements = vec![0; 11];
            (elements[2], elements[10]) = (last, last);
            json!({ "a": elements, "b.c": last, "": last })
        };
        let (different, _) = config_diff(&many(1), &many(2));
        assert_eq!(keys(&different), ["\"\"", "a[2]", "a[10]", "\"b.c\""]);
    }

    #[test]
    fn a_number_is_the_same_however_it_is_written_and_another_type_is_not() {
        assert_eq!(config_diff(&json!({"a": 1}), &json!({"a": 1.0})), (vec![], 1));
        let (different, equal) = config_diff(&json!({"a": {"b": 1}}), &json!({"a": "1"}));
        assert_eq!((keys(&different), equal), (vec!["a", "a.b"], 0));
        let large = u64::MAX;
        assert_eq!(config_diff(&json!({"a": large}), &json!({"a": large - 1})).0.len(), 1);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3..3i64).prop_map(Value::from),
            (-3..3i32).prop_map(|value| Value::from(f64::from(value))),
            "[a-c.]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c.\"\\\\\n\u{202e}\\[]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn nothing_differs_from_itself(a in any_value()) {
            prop_assert_eq!(config_diff(&a, &a), (vec![], leaves(&a).len()));
        }

        #[test]
        fn a_key_leads_to_its_leaf(config in any_value()) {
            for (key, leaf) in config_leaves(&config) {
                let Some(path) = config_path(&key) else {
                    // The whole of a configuration that is none, or is empty.
                    prop_assert!(config.as_object().is_none_or(|all| all.is_empty()), "{}", key);
                    continue;
                };
                let mut at = Some(&config);
                for segment in &path {
                    at = match at {
                        Some(Value::Array(elements)) => {
                            segment.parse::<usize>().ok().and_then(|number| elements.get(number))
                        }
                        Some(Value::Object(object)) => object.get(segment),
                        _ => None,
                    };
                }
                prop_assert_eq!(at, Some(leaf));
            }
        }

        #[test]
        fn the_other_way_round_is_the_mirror_image(a in any_value(), b in any_value()) {
            let (there, equal) = config_diff(&a, &b);
            let (back, equal_back) = config_diff(&b, &a);
            let mirror: Vec<_> = back
                .into_iter()
                .map(|Difference { key, a, b }| Difference { key, a: b, b: a })
                .collect();
            prop_assert_eq!((there, equal), (mirror, equal_back));
        }

        #[test]
        fn every_leaf_is_told_once(a in any_value(), b in any_value()) {
            let (different, equal) = config_diff(&a, &b);
            let (of_a, of_b) = (leaves(&a), leaves(&b));
            prop_assert_eq!(different.iter().filter(|one| one.a.is_some()).count() + equal, of_a.len());
            prop_assert_eq!(different.iter().filter(|one| one.b.is_some()).count() + equal, of_b.len());
        }
    }
}
