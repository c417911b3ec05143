//! The classes of a source in the order of their labels: found ones sorted by name, or a list that the
//! user gives, to which found ones must then belong.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use crate::text::{self, numbered};
use crate::{Error, Result};

/// Longest list that is read, and most classes.
pub(super) const MAX_BYTES: u64 = 64 << 20;
pub(super) const MAX_CLASSES: usize = 1 << 20;

/// Names of classes in the order of their labels, and where they come from.
#[derive(Clone, Debug)]
pub(crate) struct ClassList {
    pub(crate) names: Vec<String>,
    /// The list or dataset, for messages.
    pub(crate) origin: String,
}

impl ClassList {
    /// Reads a list: a name a line, or lines such as `/a/airfield 0` of Places.
    pub(crate) fn read(list: &Path) -> Result<Self> {
        let wrong = |message| Error::source(list, message);
        let names = parse(&text::read(list, MAX_BYTES)?).map_err(wrong)?;
        Classes::in_order(names.clone()).map_err(wrong)?;
        Ok(Self { names, origin: list.display().to_string() })
    }
}

/// Names and the label of each.
#[derive(Default)]
pub(super) struct Classes {
    names: Vec<String>,
    labels: HashMap<String, usize>,
}

/// The error where a list of classes is given and nothing has a label.
pub(super) fn unlabelled(source: &Path) -> Error {
    let message = "has no labels that the list of classes could be for: leave out --classes, or say where \
                   the labels are (--labels, --label-column, --layout)";
    Error::source(source, message)
}

impl Classes {
    /// Classes with these names in this order.
    ///
    /// # Errors
    /// With the name that comes twice.
    pub(super) fn in_order(names: Vec<String>) -> Result<Self, String> {
        let mut labels = HashMap::with_capacity(names.len());
        for (label, name) in names.iter().enumerate() {
            if labels.insert(name.clone(), label).is_some() {
                return Err(format!("names the class `{name}` twice"));
            }
        }
        Ok(Self { names, labels })
    }

    /// The classes of a list.
    pub(super) fn of(list: &ClassList) -> Result<Self> {
        Self::in_order(list.names.clone()).map_err(|message| Error::source(&list.origin, message))
    }

    /// The found classes of `source` in the order of the list, or sorted where there is none; and the
    /// classes of the list that were not found, as a note.
    pub(super) fn settle(
        source: &Path,
        found: &BTreeSet<String>,
        list: Option<&ClassList>,
    ) -> Result<(Self, Vec<String>)> {
        let Some(list) = list else {
            return Self::in_order(found.iter().cloned().collect())
                .map(|classes| (classes, Vec::new()))
                .map_err(|message| Error::source(source, message));
        };
        let classes = Self::of(list)?;
        let unknown: Vec<&str> =
            found.iter().map(String::as_str).filter(|name| classes.label(name).is_none()).collect();
        if !unknown.is_empty() {
            let message = format!(
                "has {}, which {} not in the list of classes {}; give the right --classes, or \
                 another --layout",
                several("the class", "the classes", &unknown),
                if unknown.len() == 1 { "is" } else { "are" },
                list.origin
            );
            return Err(Error::source(source, message));
        }
        let missing: Vec<&str> =
            list.names.iter().map(String::as_str).filter(|&name| !found.contains(name)).collect();
        let note = format!(
            "of the {} classes of {}, it lacks {}",
            list.names.len(),
            list.origin,
            several("one:", &missing.len().to_string(), &missing)
        );
        Ok((classes, if missing.is_empty() { Vec::new() } else { vec![note] }))
    }

    /// The numbers below `count`, for labels without names.
    pub(super) fn numbers(count: usize) -> Result<Self, String> {
        if count > MAX_CLASSES {
            return Err(format!("has the label {}, at most {}", count - 1, MAX_CLASSES - 1));
        }
        Self::in_order((0..count).map(|number| number.to_string()).collect())
    }

    /// Index = label.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn label(&self, name: &str) -> Option<usize> {
        self.labels.get(name).copied()
    }
}

/// A class that is none of those that the source may have.
pub(super) fn unknown(source: &Path, name: &str) -> Error {
    let message = format!(
        "has the class `{name}`, which is not in the list of classes; give the right --classes, \
         or another --layout"
    );
    Error::source(source, message)
}

/// ``the classes `a`, `b` and 3 more``.
fn several(one: &str, many: &str, names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let what = if names.len() == 1 { one } else { many };
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => format!("{what} {}", shown.join(", ")),
        more => format!("{what} {} and {more} more", shown.join(", ")),
    }
}

/// Classes of several sources together: the longest list where the others are its beginnings, so that
/// labels stay as they are; else all names, sorted.
pub(crate) fn union<'a>(lists: impl Iterator<Item = &'a [String]> + Clone) -> Vec<String> {
    let longest = lists.clone().max_by_key(|list| list.len()).unwrap_or_default();
    if lists.clone().all(|list| longest.starts_with(list)) {
        return longest.to_vec();
    }
    let all: BTreeSet<&String> = lists.flatten().collect();
    all.into_iter().cloned().collect()
}

/// The names of a list in order.
pub(super) fn parse(text: &str) -> Result<Vec<String>, String> {
    let lines = numbered(text)?;
    if lines.is_empty() || lines.len() > MAX_CLASSES {
        return Err(format!("names {} classes, allowed: 1 to {MAX_CLASSES}", lines.len()));
    }
    if !lines.iter().all(|line| line.starts_with('/')) {
        return Ok(lines.into_iter().map(str::to_owned).collect());
    }
    let category = |(number, line): (usize, &&str)| {
        let (path, index) = line.rsplit_once(' ')?;
        let name = path.get(3..).filter(|_| path.get(2..3) == Some("/"))?;
        (index.parse() == Ok(number) && !name.is_empty()).then(|| name.to_owned())
    };
    lines
        .iter()
        .enumerate()
        .map(|(number, line)| {
            category((number, line)).ok_or_else(|| {
                format!("line {}: `/a/airfield {number}` or the like is expected", number + 1)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn lists_are_names_or_categories_of_places() {
        assert_eq!(parse("tench\n golden retriever \n\n").unwrap(), ["tench", "golden retriever"]);
        let places = parse("/a/airfield 0\n/s/swimming_pool/indoor 1\n").unwrap();
        assert_eq!(places, ["airfield", "swimming_pool/indoor"]);
        for wrong in
            ["", "a\n\nb", "/a/airfield 1", "/a/airfield", "/a/ 0", "/é 0", "/a/x 0\n/b/y 2"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(Classes::in_order(owned(&["a", "b", "a"])).is_err());
        assert!(Classes::numbers(MAX_CLASSES + 1).is_err());
    }

    #[test]
    fn lists_that_differ_from_what_is_found_name_the_classes() {
        let list = |names: &[&str]| ClassList { names: owned(names), origin: "list".into() };
        let found = BTreeSet::from(["ant".to_owned(), "dog".to_owned()]);
        let settle = |names: &[&str]| Classes::settle(Path::new("x"), &found, Some(&list(names)));
        let (classes, notes) = settle(&["dog", "bee", "ant"]).unwrap();
        assert_eq!((classes.label("ant"), notes.len()), (Some(2), 1));
        assert_eq!(notes[0], "of the 3 classes of list, it lacks one: `bee`");
        assert!(settle(&["dog", "ant"]).unwrap().1.is_empty());
        let message = settle(&["bee"]).err().unwrap().to_string();
        assert!(message.contains("the classes `ant`, `dog`"), "{message}");
    }

    #[test]
    fn a_union_keeps_labels_where_it_can() {
        let (none, few, many) =
            (owned(&[]), owned(&["0", "1", "2"]), owned(&["0", "1", "2", "10"]));
        let other = owned(&["b", "a"]);
        let union = |lists: &[&Vec<String>]| union(lists.iter().map(|list| list.as_slice()));
        assert_eq!(union(&[&few, &many, &none]), many);
        assert_eq!(union(&[&other]), other);
        assert_eq!(union(&[&few, &other]), ["0", "1", "2", "a", "b"]);
        assert!(union(&[]).is_empty());
    }
}
