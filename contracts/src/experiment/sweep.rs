//! The points of a sweep: a grid over keys of the configuration.

use serde_json::{Map, Value};

use super::overrides::value;
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
        if key.trim().is_empty() {
            return Err(other("the key is missing"));
        }
        let values = split(values);
        if let Some(empty) = values.iter().position(|value| value.trim().is_empty()) {
            return Err(ConfigError::other(key, format!("value {} is empty", empty + 1)));
        }
        Ok(Self { key: key.trim().to_owned(), values })
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

/// All points of a grid; the last axis changes fastest.
///
/// # Errors
/// When a key stands on two axes, or there are too many points.
pub fn grid(axes: &[Axis]) -> Result<Vec<Point>, ConfigError> {
    for (index, axis) in axes.iter().enumerate() {
        if axes[..index].iter().any(|other| other.key == axis.key) {
            let message = "swept twice: give all its values at once";
            return Err(ConfigError::other(&axis.key, message));
        }
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
        for (text, expected) in
            [("a", "expected key="), ("=1", "key is missing"), ("a=1,,2", "value 2")]
        {
            let message = text.parse::<Axis>().unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
        let twice: Vec<Axis> = ["a=1", "a=2"].map(|text| text.parse().unwrap()).into();
        assert!(grid(&twice).unwrap_err().to_string().contains("swept twice"));
        let many = vec![
            Axis::seeds(0, 200),
            "b=1".parse().unwrap(),
            Axis { key: "c".into(), values: vec!["1".into(); 51] },
        ];
        assert!(grid(&many).unwrap_err().to_string().contains("more than 10000"));
    }
}
