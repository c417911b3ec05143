//! Messages of a length that people read: more of one is what a file says, such as a name of 65,000 bytes.

use std::borrow::Cow;

use serde_json::Value;

use crate::messages::object;

/// Most characters of a message that are printed, and of each field of it in JSON.
pub(crate) const LONGEST: usize = 4000;

/// The text, or as much of its beginning as is printed with a `…` behind it.
pub(crate) fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// A line of a message, as text or as JSON, with its line feed; one of JSON stays JSON.
pub(crate) fn line(line: &str) -> Cow<'_, str> {
    if line.len() <= LONGEST {
        return line.into();
    }
    if let Some(mut object) = object(line) {
        object.values_mut().for_each(cut_value);
        return format!("{}\n", Value::Object(object)).into();
    }
    match cut(line.trim_end_matches('\n')) {
        Cow::Owned(short) => (short + "\n").into(),
        Cow::Borrowed(_) => line.into(),
    }
}

/// Fields that events do not have by themselves, such as lists, come from other programs.
fn cut_value(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(short) = cut(text) {
                *text = short;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(cut_value),
        Value::Object(fields) => fields.values_mut().for_each(cut_value),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_and_stay_lines_of_their_form() {
        let text = format!("warning: {}\n", "ä".repeat(LONGEST));
        let short = line(&text);
        assert_eq!(short.chars().count(), LONGEST + 2);
        assert!(short.starts_with("warning: ä") && short.ends_with("ä…\n"));
        let json = |message: usize, name: usize| {
            let line = serde_json::json!({
                "level": "WARN", "message": "ä".repeat(message), "count": 7, "name": "\u{1b}".repeat(name),
            });
            format!("{line}\n")
        };
        let short = line(&json(LONGEST + 1, 100_000)).into_owned();
        assert!(short.ends_with("}\n") && short.lines().count() == 1);
        let object = object(&short).unwrap();
        for name in ["message", "name"] {
            let text = object[name].as_str().unwrap();
            assert!(text.ends_with('…') && text.chars().count() == LONGEST + 1, "{name}");
        }
        assert_eq!((&object["level"], &object["count"]), (&"WARN".into(), &7.into()));
        for whole in ["warning: short\n".to_owned(), "ä".repeat(LONGEST - 1) + "\n"] {
            assert_eq!(line(&whole), whole);
        }
    }
}
