//! Lists of images, such as the published `ctest10k.txt`, and which images of a dataset they name.

use std::collections::HashMap;
use std::path::Path;

use super::Dataset;
use crate::names::{Endings, Found, Names};
use crate::text;
use crate::{Error, Result};

/// Longest list that is read.
const MAX_LIST: u64 = 1 << 30;
/// Longest line of it: a path has at most as many bytes.
const MAX_LINE: usize = 4096;

/// A list of images: a name a line, with or without folders, then its class index or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Its lines in order.
    pub lines: Vec<Listed>,
}

/// A line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Name of the image, without a leading `/`.
    pub name: String,
    /// Its class index, where the list says one.
    pub label: Option<i64>,
    /// The line as it stands: a name may end in a space and a number itself.
    line: String,
}

/// The images of a dataset that a list names.
#[derive(Debug, Default)]
pub(super) struct InList {
    /// Their indices, in the list's order.
    pub indices: Vec<u64>,
    /// Names of the list that the dataset has not.
    pub missing: Vec<String>,
    /// Images whose class index differs from the list's, as text.
    pub mislabelled: Vec<String>,
}

impl List {
    /// Reads a list; empty lines are passed over. Numbers that count the lines, as in ImageNet's
    /// `ImageSets/CLS-LOC/val.txt`, are no classes.
    ///
    /// # Errors
    /// When the file cannot be read, is no text, names no image or one twice.
    pub fn read(path: &Path) -> Result<Self> {
        let text = text::read(path, MAX_LIST)?;
        let mut lines = Vec::new();
        let mut seen = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            if line.len() > MAX_LINE {
                let message =
                    format!("line {}: more than {MAX_LINE} bytes are not a name", number + 1);
                return Err(Error::source(path, message));
            }
            let (name, label) = match line.rsplit_once(char::is_whitespace) {
                Some((name, last)) => match last.parse() {
                    Ok(label) => (name.trim_end(), Some(label)),
                    Err(_) => (line, None),
                },
                None => (line, None),
            };
            let below =
                |name: &str| name.trim_start_matches("./").trim_start_matches('/').to_owned();
            let (name, line) = (below(name), below(line));
            if let Some(before) = seen.insert(line.clone(), number + 1) {
                let message = format!("names {name} twice, in lines {before} and {}", number + 1);
                return Err(Error::source(path, message));
            }
            lines.push(Listed { name, label, line });
        }
        if lines.is_empty() {
            return Err(Error::source(path, "names no image"));
        }
        let counts =
            lines.len() > 2 && lines.iter().zip(1..).all(|(line, at)| line.label == Some(at));
        if counts {
            lines.iter_mut().for_each(|line| line.label = None);
        }
        Ok(Self { lines })
    }
}

impl Dataset {
    /// Finds the images of a list by their keys, as [`Names`] says.
    ///
    /// # Errors
    /// Where a shard cannot be read, where several images fit a name equally well, and where two names
    /// fit one image.
    pub(super) fn in_list(&self, list: &List) -> Result<InList> {
        let mut rows: Vec<(String, i64)> = vec![Default::default(); self.len() as usize];
        let mut names = Vec::with_capacity(rows.len());
        self.scan(&["key", "label"], &mut |row| {
            let key = row.text("key")?;
            *rows.get_mut(row.index as usize)? = (key.to_owned(), row.label()?);
            names.push((key.to_owned(), row.index));
            Some(())
        })?;
        let names = Names::new(names);
        let mut found = InList::default();
        let mut taken: HashMap<u64, &str> = HashMap::new();
        let wrong = |message: String| Err(Error::dataset(self.store().place(), message));
        for Listed { name, label, line } in &list.lines {
            let several = |one: &str, other: &str| {
                wrong(format!(
                    "several of its images fit the list's {line}, such as {one} and {other}: name \
                     them with more of their folders"
                ))
            };
            // The number at the end of a line may be the label, or of the name.
            let mut readings = Vec::new();
            let whole = (line != name).then_some((line, None));
            for (name, listed) in [Some((name, *label)), whole].into_iter().flatten() {
                match names.find(name, Endings::LeftOut) {
                    Found::One(&index) => readings.push((index, name, listed)),
                    Found::None => {}
                    Found::Several([one, other]) => return several(one, other),
                }
            }
            let (index, name, listed) = match readings[..] {
                [] => {
                    found.missing.push(name.clone());
                    continue;
                }
                [one] => one,
                [(one, ..), (other, ..), ..] => {
                    return several(&rows[one as usize].0, &rows[other as usize].0);
                }
            };
            let (key, label) = &rows[index as usize];
            if self.contradicts(name, key, *label) {
                found.missing.push(name.clone());
                continue;
            }
            if let Some(before) = taken.insert(index, name) {
                return wrong(format!(
                    "its image {key} fits two names of the list, {before} and {name}"
                ));
            }
            if let Some(listed) = listed.filter(|listed| *label >= 0 && label != listed) {
                found.mislabelled.push(format!("{key} is of class {label}, not {listed}"));
            }
            found.indices.push(index);
        }
        Ok(found)
    }

    /// Whether the folder of a listed name is another class than that of the image whose key has no folder.
    fn contradicts(&self, name: &str, key: &str, label: i64) -> bool {
        let Some((folders, _)) = name.rsplit_once('/').filter(|_| !key.contains('/')) else {
            return false;
        };
        let classes = &self.manifest().classes;
        let Some(own) = usize::try_from(label).ok().and_then(|label| classes.get(label)) else {
            return false;
        };
        let last = folders.rsplit('/').next().unwrap_or(folders);
        own != last && classes.iter().any(|class| class == last)
    }
}
