//! The one form of an error of configuration: file, key, value, what is allowed, and the known key or
//! value that is nearest to what was written.

use std::fmt;

/// A configuration that cannot be used: wrong use of a program, which ends with status 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    origin: Option<String>,
    key: String,
    fault: Fault,
    nearest: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// The value is not allowed.
    Value { value: String, allowed: String },
    /// There is no such key.
    Unknown { allowed: String },
    /// The key must be there.
    Missing,
    /// Anything else, in words.
    Other(String),
}

impl ConfigError {
    /// A value that is not allowed. `key` is written in full: `train.steps`.
    pub fn value(
        key: impl Into<String>,
        value: impl fmt::Display,
        allowed: impl Into<String>,
    ) -> Self {
        let fault = Fault::Value { value: value.to_string(), allowed: allowed.into() };
        Self { origin: None, key: key.into(), fault, nearest: None }
    }

    /// A fault that is told in words; `key` may be empty where it is of no single key.
    pub fn other(key: impl Into<String>, message: impl Into<String>) -> Self {
        let fault = Fault::Other(message.into());
        Self { origin: None, key: key.into(), fault, nearest: None }
    }

    /// A key that is not known, beside those that are: `allowed` without their table, `others` in full.
    pub(crate) fn unknown(key: impl Into<String>, allowed: &[&str], others: &[String]) -> Self {
        let key = key.into();
        let (table, name) = match key.rsplit_once('.') {
            Some((table, name)) => (format!("{table}."), name),
            None => (String::new(), key.as_str()),
        };
        let same_name = |other: &&String| other.rsplit('.').next() == Some(name);
        let nearest = nearest(name, allowed.iter().copied())
            .map(|near| format!("{table}{near}"))
            .or_else(|| {
                let others = others.iter().filter(same_name);
                others.min_by_key(|other| other.matches('.').count()).cloned()
            })
            .or_else(|| nearest(&key, others.iter().map(String::as_str)).map(str::to_owned));
        let fault = Fault::Unknown { allowed: allowed.join(", ") };
        Self { origin: None, key, fault, nearest }
    }

    /// A key that must be there and is not.
    pub(crate) fn missing(key: impl Into<String>) -> Self {
        Self { origin: None, key: key.into(), fault: Fault::Missing, nearest: None }
    }

    /// The same, with the value that was probably meant.
    pub(crate) fn meant(self, nearest: Option<&str>) -> Self {
        Self { nearest: nearest.map(str::to_owned), ..self }
    }

    /// The same, with where the configuration was read: a file, or what was typed.
    #[must_use]
    pub fn of(self, origin: impl Into<String>) -> Self {
        Self { origin: Some(origin.into()), ..self }
    }

    /// The key, in full; empty where the fault is of no single key.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        let key = &self.key;
        match &self.fault {
            Fault::Value { value, allowed } => write!(f, "{key} is {value}, allowed: {allowed}")?,
            Fault::Unknown { allowed } if allowed.is_empty() => {
                write!(f, "{key} is not a known key")?;
            }
            Fault::Unknown { allowed } => {
                write!(f, "{key} is not a known key, allowed: {allowed}")?;
            }
            Fault::Missing => write!(f, "{key} is missing")?,
            Fault::Other(message) if key.is_empty() => f.write_str(message)?,
            Fault::Other(message) => write!(f, "{key}: {message}")?,
        }
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<pipeline::Error> for ConfigError {
    fn from(error: pipeline::Error) -> Self {
        match error {
            pipeline::Error::Config { key, value, allowed } => Self::value(key, value, allowed),
            other => Self::other("", other.to_string()),
        }
    }
}

impl From<diffusion::Error> for ConfigError {
    fn from(error: diffusion::Error) -> Self {
        match error {
            diffusion::Error::Config { key, value, allowed } => Self::value(key, value, allowed),
            other => Self::other("", other.to_string()),
        }
    }
}

/// The candidate that differs least from a word, if it is near enough to be what was meant: a third of
/// its letters may differ.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_file_key_value_and_what_is_allowed() {
        let error = ConfigError::value("train.steps", 0, "at least 1").of("a.toml");
        assert_eq!(error.to_string(), "a.toml: train.steps is 0, allowed: at least 1");
        let missing = ConfigError::missing("name").of("a.toml");
        assert_eq!(missing.to_string(), "a.toml: name is missing");
    }

    #[test]
    fn the_nearest_known_key_is_named_in_its_table_or_in_another() {
        let others = ["train.steps".to_owned(), "data.crop".to_owned()];
        let meant = |key: &str| ConfigError::unknown(key, &["seed", "name"], &others).to_string();
        assert_eq!(
            meant("sed"),
            "sed is not a known key, allowed: seed, name; did you mean `seed`?"
        );
        assert!(meant("steps").ends_with("did you mean `train.steps`?"));
        assert!(meant("data.crpo").ends_with("did you mean `data.crop`?"));
        assert!(meant("weather").ends_with("allowed: seed, name"));
    }

    #[test]
    fn errors_of_the_libraries_have_the_same_form() {
        let data = pipeline::DataConfig::default().validate().unwrap_err();
        let message = ConfigError::from(data).to_string();
        assert_eq!(message, "data.datasets is empty, allowed: at least one { uri, weight }");
        let config = diffusion::DiffusionConfig { min_snr: 0.0, ..Default::default() };
        let message = ConfigError::from(config.validate().unwrap_err()).to_string();
        assert!(message.starts_with("diffusion.min_snr is 0, allowed: "), "{message}");
    }
}
