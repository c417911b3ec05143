//! The points of a sweep: a grid over keys of the configuration.

use serde_json::{Map, Value};

use super::overrides::{Override, concern, value};
use crate::ConfigError;

/// The most runs of one sweep: more is a slip of the keyboard.
const MOST: usize = 10_000;

/// One key and the values that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    key: String,
    values: Vec<String>,
}

impl std::str::FromStr for Axis {
    type Err = ConfigError;

    /// Reads `a.b=v1,v2`. A comma within brackets, braces or quotation marks belongs to the value.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let other = |message: &str| ConfigError::other("", message);
        let (key, values) = text
            .split_once('=')
            .ok_or_else(|| other("expected key=v1,v2, such as train.learning_rate=1e-4,2e-4"))?;
        let key = key.split('.').map(str::trim).collect::<Vec<_>>().join(".");
        if key.is_empty() {
            return Err(other("the key is missing"));
        }
        if key == "name" {
            let message = "the runs of a sweep are called by its name and their number; `--set name=NAME` names it";
            return Err(ConfigError::other(key, message));
        }
        let values = split(values);
        if let Some(empty) = values.iter().position(|value| value.trim().is_empty()) {
            return Err(ConfigError::other(key, format!("value {} is empty", empty + 1)));
        }
        let read: Vec<_> = values.iter().map(|text| value(text)).collect();
        let twice = (1..read.len()).find(|&index| read[..index].contains(&read[index]));
        if let Some(twice) = twice {
            let message = format!("the value {} is there twice", values[twice].trim());
            return Err(ConfigError::other(
                key,
                message + ": the runs would be the same; leave one out",
            ));
        }
        Ok(Self { key, values })
    }
}

impl Axis {
    /// So many seeds, from `first` on.
    pub fn seeds(first: u64, count: u32) -> Self {
        let values = (0..u64::from(count)).map(|n| first.wrapping_add(n).to_string()).collect();
        Self { key: "seed".into(), values }
    }
}

/// A point of the grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// What it changes, as `--set` takes it.
    pub sets: Vec<String>,
    /// The same, for the record: an object of keys and values.
    pub record: Value,
}

/// Refuses axes of a key that is also set (`a.b=value`): one of both would be lost.
///
/// # Errors
/// Names the key.
pub fn check_set(axes: &[Axis], set: &str) -> Result<(), ConfigError> {
    let set: Override = set.parse()?;
    match axes.iter().find(|axis| set.concerns(&axis.key)) {
        Some(axis) => {
            let message = format!("swept, and set by `{set}`: leave one of them out");
            Err(ConfigError::other(&axis.key, message))
        }
        None => Ok(()),
    }
}

/// All points of a grid; the last axis changes fastest.
///
/// # Errors
/// When a key, or one in it, is swept twice, or there are too many points.
pub fn grid(axes: &[Axis]) -> Result<Vec<Point>, ConfigError> {
    for (index, axis) in axes.iter().enumerate() {
        let Some(other) = axes[..index].iter().find(|other| concern(&other.key, &axis.key)) else {
            continue;
        };
        let message = match other.key == axis.key {
            true => "swept twice: give all its values at once".to_owned(),
            false => format!("swept, and within `{}` once more: leave one of them out", other.key),
        };
        return Err(ConfigError::other(&axis.key, message));
    }
    let count = axes.iter().try_fold(1_usize, |count, axis| count.checked_mul(axis.values.len()));
    if count.is_none_or(|count| count > MOST) {
        return Err(ConfigError::other("", format!("the sweep has more than {MOST} points")));
    }
    let mut points = vec![Point { sets: Vec::new(), record: Value::Object(Map::new()) }];
    for axis in axes {
        let with = |point: &Point, text: &String| {
            let mut point = point.clone();
            point.sets.push(format!("{}={text}", axis.key));
            if let Value::Object(record) = &mut point.record {
                record.insert(
                    axis.key.clone(),
                    serde_json::to_value(value(text)).unwrap_or_default(),
                );
            }
            point
        };
        points = points
            .iter()
            .flat_map(|point| axis.values.iter().map(move |text| with(point, text)))
            .collect();
    }
    Ok(points)
}

/// Splits at the commas that stand in no bracket, brace or quotation marks.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut depth, mut quote) = (vec![String::new()], 0_usize, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_grid_has_every_combination_once_in_order() {
        let axes: Vec<Axis> =
            ["a.b=1,2.5", r#"c={x=1,y=2},"p,q",plain"#].map(|text| text.parse().unwrap()).into();
        let points = grid(&axes).unwrap();
        assert_eq!(points.len(), 6);
        assert_eq!(points[0].sets, ["a.b=1", "c={x=1,y=2}"]);
        assert_eq!(points[0].record, json!({"a.b": 1, "c": {"x": 1, "y": 2}}));
        assert_eq!(points[4].record, json!({"a.b": 2.5, "c": "p,q"}));
        assert_eq!(points[5].record, json!({"a.b": 2.5, "c": "plain"}));
        assert_eq!(grid(&[]).unwrap().len(), 1);
        let seeds = grid(&[Axis::seeds(7, 3)]).unwrap();
        assert_eq!(seeds[2].record, json!({"seed": 9}));
    }

    #[test]
    fn what_is_no_grid_is_refused() {
        for (text, expected) in [
            ("a", "expected key="),
            ("=1", "key is missing"),
            ("a=1,,2", "value 2"),
            ("name=a,b", "--set name=NAME"),
            ("seed=1,2, 1", "the value 1 is there twice"),
            ("lr=1e-3,0.001", "the value 0.001 is there twice"),
        ] {
            let message = text.parse::<Axis>().unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
        let twice: Vec<Axis> = ["a=1", "a=2"].map(|text| text.parse().unwrap()).into();
        assert!(grid(&twice).unwrap_err().to_string().contains("swept twice"));
        let within: Vec<Axis> = ["a.b={c=1}", "a.b.c=2"].map(|text| text.parse().unwrap()).into();
        assert!(grid(&within).unwrap_err().to_string().contains("within `a.b`"));
        let axes: Vec<Axis> = ["a.b=1,2", "c=3"].map(|text| text.parse().unwrap()).into();
        for (set, refused) in
            [("a.b=9", true), ("a={b=9}", true), ("a.bc=9", false), ("d=3", false)]
        {
            let checked = check_set(&axes, set);
            assert_eq!(checked.is_err(), refused, "{set}");
            if let Err(error) = checked {
                assert!(error.to_string().contains(&format!("set by `{set}`")), "{error}");
            }
        }
        let many = vec![
            Axis::seeds(0, 200),
            "b=1".parse().unwrap(),
            Axis { key: "c".into(), values: vec!["1".into(); 51] },
        ];
        assert!(grid(&many).unwrap_err().to_string().contains("more than 10000"));
    }
}
