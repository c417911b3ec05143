//! Which of many names one means: the same one first, then by rules that leave no doubt, or none.
//!
//! Names are paths with `/` between their parts. From the surest rule to the weakest, the first that
//! anything fits decides, and where several fit, that is said:
//!
//! 1. the same name;
//! 2. the same but for folders before one of the two (`val/cat/1.jpg` and `cat/1.jpg`), never before both:
//!    `dog/1.jpg` is not `cat/1.jpg`;
//! 3. as 1 and 4. as 2, where one of the two has no ending (`cat/1` and `cat/1.jpg`);
//! 5. as 1 and 6. as 2, with different endings of image files (`cat/1.png` and `cat/1.jpg`), where
//!    [`Endings::Any`] allows it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::stem;

/// Whether names may differ in the endings of image files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endings {
    /// They may: a mask `1.png` is that of the photograph `1.jpg`.
    Any,
    /// One of the two may have none.
    LeftOut,
}

/// Values by name. Takes some 16 bytes for each part of a name, twice where it has an ending.
#[derive(Clone, Debug)]
pub struct Names<T> {
    names: Vec<(String, T)>,
    /// Sorted by the hash.
    ends: Vec<End>,
}

/// The last parts of a name, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    hash: u64,
    name: u32,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Form {
    /// Folders before it are left out.
    cut: bool,
    /// The ending of an image file is left out.
    bare: bool,
}

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a, T> {
    /// One value.
    One(&'a T),
    /// None.
    None,
    /// Several that fit equally well; two of their names.
    Several([&'a str; 2]),
}

impl<T: PartialEq> Names<T> {
    /// Of these names with their values; a value may have several names. Names past four billion are not
    /// found.
    pub fn new(all: impl IntoIterator<Item = (String, T)>) -> Self {
        let names: Vec<_> = all.into_iter().collect();
        let mut ends = Vec::new();
        for ((text, _), name) in names.iter().zip(0u32..) {
            ends.extend(forms(text).map(|(end, form)| End { hash: hash(end), name, form }));
        }
        ends.sort_unstable();
        Self { names, ends }
    }

    /// True without names.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// What the name leads to.
    pub fn find(&self, name: &str, endings: Endings) -> Found<'_, T> {
        let mut best = 7;
        let mut fitting: Vec<u32> = Vec::new();
        for (text, form) in forms(name) {
            let wanted = hash(text);
            let from = self.ends.partition_point(|end| end.hash < wanted);
            for end in self.ends[from..].iter().take_while(|end| end.hash == wanted) {
                let Some(rule) = rule(form, end.form, endings).filter(|rule| *rule <= best) else {
                    continue;
                };
                let Some((own, _)) = self.names.get(end.name as usize) else { continue };
                // Hashes may meet.
                if !forms(own).any(|(own, of)| of == end.form && own == text) {
                    continue;
                }
                if rule < best {
                    (best, fitting) = (rule, Vec::new());
                }
                fitting.push(end.name);
            }
        }
        let mut fitting = fitting.iter().filter_map(|name| self.names.get(*name as usize));
        let Some((first, value)) = fitting.next() else { return Found::None };
        match fitting.find(|(_, other)| other != value) {
            None => Found::One(value),
            Some((second, _)) => Found::Several([first, second]),
        }
    }
}

/// The number of the rule by which two names with the same text in these forms are one; none where no
/// rule says so.
fn rule(a: Form, b: Form, endings: Endings) -> Option<u8> {
    if a.cut && b.cut {
        return None;
    }
    let ending = match (a.bare, b.bare) {
        (false, false) => 1,
        (true, true) if endings == Endings::Any => 5,
        (true, true) => return None,
        _ => 3,
    };
    Some(ending + u8::from(a.cut || b.cut))
}

/// The name and its ends after each `/`, each with and without the ending of an image file.
fn forms(name: &str) -> impl Iterator<Item = (&str, Form)> {
    let bare = stem(name);
    let starts = std::iter::once(0).chain(name.match_indices('/').map(|(at, _)| at + 1));
    starts.flat_map(move |start| {
        let cut = start > 0;
        let whole = name.get(start..).map(|end| (end, Form { cut, bare: false }));
        let bare =
            bare.get(start..).filter(|bare| !bare.is_empty() && start + bare.len() < name.len());
        whole.into_iter().chain(bare.map(|end| (end, Form { cut, bare: true })))
    })
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(all: &[&str]) -> Names<usize> {
        Names::new(all.iter().enumerate().map(|(value, name)| ((*name).to_owned(), value)))
    }

    #[test]
    fn each_rule_comes_before_the_next() {
        let all =
            ["a/1.png", "b/1.png", "b/2.JPEG", "d.png", "d.jpg", "set/x/e.jpg", "f", "v/f.jpg"];
        let names = names(&all);
        let any = |name: &str| names.find(name, Endings::Any);
        assert_eq!(any("b/1.png"), Found::One(&1), "1");
        assert_eq!(any("more/b/1.png"), Found::One(&1), "2");
        assert_eq!(any("x/e.jpg"), Found::One(&5), "2");
        assert_eq!(any("b/1"), Found::One(&1), "3");
        assert_eq!(any("f.jpg"), Found::One(&7), "2 before 3");
        assert_eq!(any("2"), Found::One(&2), "4");
        assert_eq!(any("b/1.webp"), Found::One(&1), "5");
        assert_eq!(any("2.jpg"), Found::One(&2), "6");
        assert_eq!(any("c/2"), Found::None, "another folder");
        assert_eq!(any("c/1.png"), Found::None, "another folder");
        assert_eq!(any("1.png"), Found::Several(["a/1.png", "b/1.png"]));
        assert_eq!(any("d"), Found::Several(["d.png", "d.jpg"]));
        assert_eq!(any("3"), Found::None);
        assert_eq!(any(""), Found::None);
        let strict = |name: &str| names.find(name, Endings::LeftOut);
        assert_eq!(strict("b/1"), Found::One(&1));
        assert_eq!(strict("b/1.webp"), Found::None);
        assert_eq!(strict("2.jpg"), Found::None);
    }

    #[test]
    fn several_names_of_one_value_are_no_doubt() {
        let names = Names::new(
            [("cat/1.jpg", 1), ("z/cat/1.jpg", 1), ("z/dog/1.jpg", 2)]
                .map(|(name, value)| (name.to_owned(), value)),
        );
        assert_eq!(names.find("cat/1", Endings::LeftOut), Found::One(&1));
        assert_eq!(names.find("1.jpg", Endings::Any), Found::Several(["cat/1.jpg", "z/dog/1.jpg"]));
    }

    proptest! {
        /// By the rules, one pair of names after the other.
        #[test]
        fn what_is_found_is_what_the_rules_say(
            all in proptest::collection::vec("([ab]/){0,2}[ab](\\.jpg|\\.png|)", 0..8),
            name in "([ab]/){0,2}[ab](\\.jpg|\\.png|)",
            any: bool,
        ) {
            let endings = if any { Endings::Any } else { Endings::LeftOut };
            let fits = |own: &str| -> Option<u8> {
                let pairs = forms(own).flat_map(|own| forms(&name).map(move |other| (own, other)));
                pairs
                    .filter(|((own, _), (other, _))| own == other)
                    .filter_map(|((_, own), (_, other))| rule(own, other, endings))
                    .min()
            };
            let best = all.iter().filter_map(|own| fits(own)).min();
            let fitting: Vec<usize> =
                (0..all.len()).filter(|&at| best.is_some() && fits(&all[at]) == best).collect();
            let found = Names::new(all.iter().enumerate().map(|(at, own)| (own.clone(), at)));
            match (&fitting[..], found.find(&name, endings)) {
                ([], Found::None) => {}
                ([one], Found::One(found)) => prop_assert_eq!(one, found),
                ([_, _, ..], Found::Several(_)) => {}
                (wanted, found) => prop_assert!(false, "{wanted:?} {found:?}"),
            }
        }
    }
}
