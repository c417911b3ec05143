//! The address of a set of pictures: `URI`, or `URI#COLUMN` of an output dataset.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use storage::{NoPlace, Place};

/// Which pictures of an output dataset are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageColumn {
    /// What the network made.
    Output,
    /// The photographs.
    Reference,
    /// What the network was given.
    Source,
}

impl ImageColumn {
    const ALL: [Self; 3] = [Self::Output, Self::Reference, Self::Source];

    fn name(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Reference => "reference",
            Self::Source => "source",
        }
    }
}

/// Where a set of pictures is: the output dataset of a sampling job, a dataset of photographs or a folder.
/// Written as text it is `PLACE` or `PLACE#COLUMN`, and that text is read as the same set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PictureSet {
    place: Place,
    column: Option<ImageColumn>,
}

impl PictureSet {
    /// The place.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The column, where one is named; only an output dataset has some.
    pub fn column(&self) -> Option<ImageColumn> {
        self.column
    }
}

/// Address and column. What follows a `#` and is no column is part of the address.
fn split(text: &str) -> (&str, Option<ImageColumn>) {
    let named = |name: &str| ImageColumn::ALL.into_iter().find(|column| column.name() == name);
    match text.rsplit_once('#').map(|(place, name)| (place, named(name))) {
        Some((place, Some(column))) => (place, Some(column)),
        _ => (text, None),
    }
}

impl FromStr for PictureSet {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (place, column) = split(text);
        Ok(Self { place: place.parse()?, column })
    }
}

impl fmt::Display for PictureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            Some(column) => write!(f, "{}#{}", self.place, column.name()),
            None => write!(f, "{}", self.place),
        }
    }
}

/// As it is stored: never a relative path, for nobody knows which folder that counted from.
impl TryFrom<String> for PictureSet {
    type Error = NoPlace;

    fn try_from(text: String) -> Result<Self, NoPlace> {
        let (place, column) = split(&text);
        Ok(Self { place: Place::stored(place)?, column })
    }
}

impl From<PictureSet> for String {
    fn from(set: PictureSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_a_place_and_perhaps_a_column() {
        let set = |text: &str| text.parse::<PictureSet>().unwrap();
        for (text, place, column) in [
            ("/data/a", "/data/a", None),
            ("/data/a#source", "/data/a", Some(ImageColumn::Source)),
            ("s3://bucket/out#reference", "s3://bucket/out", Some(ImageColumn::Reference)),
            ("file:///data/a#output", "/data/a", Some(ImageColumn::Output)),
            // No column: a part of the name.
            ("/data/take#2", "/data/take#2", None),
            ("/data/a#output#output", "/data/a#output", Some(ImageColumn::Output)),
        ] {
            let set = set(text);
            assert_eq!((set.place().to_string().as_str(), set.column()), (place, column), "{text}");
            assert_eq!(set.to_string().parse::<PictureSet>().unwrap(), set, "{text}");
        }
        assert!(set("data").place().local().unwrap().is_absolute());
        assert!("ftp://host/a#source".parse::<PictureSet>().is_err());
        let stored = |text: &str| PictureSet::try_from(text.to_owned());
        assert_eq!(stored("/data/a#source").unwrap(), set("/data/a#source"));
        for relative in ["data", "data#source"] {
            let message = stored(relative).unwrap_err().to_string();
            assert!(message.contains("it is relative"), "{message}");
        }
    }
}
