//! Names that people give: of runs, jobs, sweeps, studies, workers and datasets; tags, labels and keys. One rule
//! for all programs: what is stored can be typed again, and does nothing to a terminal.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// Characters of a name, at most.
pub const LONGEST: usize = 100;

/// Characters of a submit key, at most.
const LONGEST_KEY: usize = 500;

/// What a name may be, for messages.
pub const RULE: &str = "1 to 100 characters, no spaces, `@`, `/`, no control or invisible characters, and no combining mark \
                        at its beginning";

/// A name as it was given, for the command line too.
///
/// # Errors
/// Says the rule.
pub fn name(text: &str) -> Result<String, String> {
    match is_of_length(text, LONGEST) && !text.contains(is_not_of_names) && !begins_with_mark(text)
    {
        true => Ok(text.to_owned()),
        false => Err(format!("a name is {RULE}")),
    }
}

fn is_not_of_names(c: char) -> bool {
    c.is_whitespace() || is_hidden(c) || matches!(c, '@' | '/')
}

/// A word that a list shows in a column and that is found again by typing it: a tag, an owner.
///
/// # Errors
/// Says the rule.
pub fn word(text: &str) -> Result<String, String> {
    let strange = |c: char| c.is_whitespace() || is_hidden(c) || c == ',';
    match is_of_length(text, LONGEST) && !text.contains(strange) && !begins_with_mark(text) {
        true => Ok(text.to_owned()),
        false => {
            Err("one word of 1 to 100 characters, without spaces, commas, control or invisible \
                      characters and a combining mark at its beginning"
                .into())
        }
    }
}

/// A title that lists show and files hold, in which spaces may be.
///
/// # Errors
/// Says the rule.
pub fn title(text: &str) -> Result<String, String> {
    match is_of_length(text, LONGEST) && !text.contains(is_hidden) && !begins_with_mark(text) {
        true => Ok(text.to_owned()),
        false => Err("1 to 100 characters, no control or invisible ones, and no combining mark at the beginning".into()),
    }
}

/// A label, `KEY=VALUE`.
///
/// # Errors
/// Says the rule.
pub fn label(text: &str) -> Result<(String, String), String> {
    let fits = |part: &str| {
        part.chars().count() <= LONGEST && !part.contains(is_hidden) && !begins_with_mark(part)
    };
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && fits(key) && fits(value) => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(
            "a label is KEY=VALUE, each of at most 100 characters, no control or invisible ones, and no combining \
             mark at the beginning"
                .into(),
        ),
    }
}

/// A key by which submitting again gives the same job.
///
/// # Errors
/// Says the rule.
pub fn key(text: &str) -> Result<String, String> {
    match is_of_length(text, LONGEST_KEY) && !text.contains(is_hidden) && !begins_with_mark(text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "a key is 1 to {LONGEST_KEY} characters, no control or invisible ones, and no combining mark at its \
             beginning (without one every submission is a job of its own)"
        )),
    }
}

/// A name made of a text that need not be one: what a name may not have becomes `-`, what is too long is cut.
pub fn fitted(text: &str) -> String {
    let misfit = |at: usize, c: char| is_not_of_names(c) || at == 0 && is_mark(c);
    let letters = text.chars().take(LONGEST).enumerate();
    let fitted: String = letters.map(|(at, c)| if misfit(at, c) { '-' } else { c }).collect();
    if fitted.is_empty() { "-".into() } else { fitted }
}

/// A name with an ending, its own beginning cut where both together are too long.
pub fn with_end(name: &str, end: &str) -> String {
    let room = LONGEST.saturating_sub(end.chars().count());
    name.chars().take(room).chain(end.chars()).collect()
}

fn is_of_length(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.chars().count())
}

/// What Unicode lets programs leave undrawn: the property Default_Ignorable_Code_Point (DerivedCoreProperties.txt of
/// Unicode 16), fillers, joiners, variation selectors, tags and the marks that turn the direction of writing. The
/// property covers blocks that are reserved for such characters, so that later versions add little.
const IGNORABLE: [(char, char); 17] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fff8}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Control characters, those that are not drawn, and those that are for no text (the noncharacters).
fn is_hidden(c: char) -> bool {
    let is_blank = matches!(c, '\u{2800}' | '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}');
    let is_noncharacter = matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe;
    let is_ignorable = || IGNORABLE.iter().any(|&(first, last)| (first..=last).contains(&c));
    c.is_control() || is_blank || is_noncharacter || is_ignorable()
}

/// Combining marks: accents and the like, drawn on the character before.
fn is_mark(c: char) -> bool {
    c.general_category_group() == GeneralCategoryGroup::Mark
}

/// Whether a text would be drawn on what is before it.
fn begins_with_mark(text: &str) -> bool {
    text.chars().next().is_some_and(is_mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_in_characters_and_hide_nothing() {
        // Also letters with combining marks, as many scripts write, and as macOS writes an é.
        let marked = ["cafe\u{301}", "\u{915}\u{93e}\u{92e}", "a\u{fffd}"];
        let plain = ["a", "palette-64", "Farbe_ä", "実験", &"é".repeat(100)];
        for good in plain.into_iter().chain(marked) {
            assert_eq!(name(good).as_deref(), Ok(good));
            assert_eq!(fitted(good), good);
        }
        let long = "é".repeat(101);
        for bad in [
            "",
            "two words",
            "a@best",
            "a/b",
            "a\u{1b}[31m",
            "a\nb",
            "a\u{7f}",
            "a\u{9b}",
            "a\u{200b}b",
            "\u{202e}a",
            "a\u{feff}",
            "a\u{34f}",
            "\u{115f}",
            "\u{3164}",
            "a\u{2800}",
            "a\u{fe0f}",
            "a\u{e0041}",
            "\u{301}",
            "\u{301}a",
            "a\u{ffff}",
            "a\u{10fffe}",
            "a\u{fdd0}",
            &long,
        ] {
            assert_eq!(name(bad), Err(format!("a name is {RULE}")), "{bad:?}");
            assert!(name(&fitted(bad)).is_ok(), "{bad:?}");
        }
        assert_eq!(fitted("places/palette ema"), "places-palette-ema");
        assert_eq!(with_end(&long, "-from-5").chars().count(), LONGEST);
    }

    #[test]
    fn words_labels_titles_and_keys_have_their_rules() {
        assert!(word("a/b").is_ok() && word("a,b").is_err() && word(&"x".repeat(10_000)).is_err());
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(label("a="), Ok(("a".into(), String::new())));
        for rule in [word, title, key] {
            assert!(
                rule("\u{301}a").is_err() && rule("a\u{3164}").is_err() && rule("e\u{301}").is_ok()
            );
        }
        for bad in ["a", "=b", "a\u{1b}=b", "a=\u{202e}", "a=\u{301}"] {
            assert!(label(bad).is_err(), "{bad:?}");
        }
        assert!(title("Ours (EMA)").is_ok() && title("a\tb").is_err());
        assert!(key("evaluation a b").is_ok() && key("").is_err() && key("a\0").is_err());
    }
}
