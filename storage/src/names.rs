//! Names that people give: of runs, jobs, sweeps, studies, workers and datasets; tags, labels and keys. One rule
//! for all programs: what is stored can be typed again, and does nothing to a terminal.

/// Characters of a name, at most.
pub const LONGEST: usize = 100;

/// Characters of a submit key, at most.
const LONGEST_KEY: usize = 500;

/// What a name may be, for messages.
pub const RULE: &str =
    "1 to 100 characters, no spaces, `@`, `/`, and no control or invisible characters";

/// A name as it was given, for the command line too.
///
/// # Errors
/// Says the rule.
pub fn name(text: &str) -> Result<String, String> {
    let strange = |c: char| c.is_whitespace() || is_hidden(c) || matches!(c, '@' | '/');
    match is_of_length(text, LONGEST) && !text.contains(strange) {
        true => Ok(text.to_owned()),
        false => Err(format!("a name is {RULE}")),
    }
}

/// A word that a list shows in a column and that is found again by typing it: a tag, an owner.
///
/// # Errors
/// Says the rule.
pub fn word(text: &str) -> Result<String, String> {
    let strange = |c: char| c.is_whitespace() || is_hidden(c) || c == ',';
    match is_of_length(text, LONGEST) && !text.contains(strange) {
        true => Ok(text.to_owned()),
        false => Err("one word of 1 to 100 characters, without spaces, commas and control or \
                      invisible characters"
            .into()),
    }
}

/// A title that lists show and files hold, in which spaces may be.
///
/// # Errors
/// Says the rule.
pub fn title(text: &str) -> Result<String, String> {
    match is_of_length(text, LONGEST) && !text.contains(is_hidden) {
        true => Ok(text.to_owned()),
        false => Err("1 to 100 characters, no control or invisible ones".into()),
    }
}

/// A label, `KEY=VALUE`.
///
/// # Errors
/// Says the rule.
pub fn label(text: &str) -> Result<(String, String), String> {
    let fits = |part: &str| part.chars().count() <= LONGEST && !part.contains(is_hidden);
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && fits(key) && fits(value) => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(
            "a label is KEY=VALUE, each of at most 100 characters, no control or invisible ones"
                .into(),
        ),
    }
}

/// A key by which submitting again gives the same job.
///
/// # Errors
/// Says the rule.
pub fn key(text: &str) -> Result<String, String> {
    match is_of_length(text, LONGEST_KEY) && !text.contains(is_hidden) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "a key is 1 to {LONGEST_KEY} characters, no control or invisible ones (without one every \
             submission is a job of its own)"
        )),
    }
}

/// A name made of a text that need not be one: what a name may not have becomes `-`, what is too long is cut.
pub fn fitted(text: &str) -> String {
    let fit = |c: char| if name(c.encode_utf8(&mut [0; 4])).is_ok() { c } else { '-' };
    let fitted: String = text.chars().take(LONGEST).map(fit).collect();
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

/// Control characters, those without a width, and those that turn the direction of writing.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_in_characters_and_hide_nothing() {
        for good in ["a", "palette-64", "Farbe_ä", "実験", &"é".repeat(100)] {
            assert_eq!(name(good).as_deref(), Ok(good));
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
        for bad in ["a", "=b", "a\u{1b}=b", "a=\u{202e}"] {
            assert!(label(bad).is_err(), "{bad:?}");
        }
        assert!(title("Ours (EMA)").is_ok() && title("a\tb").is_err());
        assert!(key("evaluation a b").is_ok() && key("").is_err() && key("a\0").is_err());
    }
}
