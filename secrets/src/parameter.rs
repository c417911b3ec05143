//! Parameters `KEY=VALUE`, in a query or in a text, whose key says that the value is a secret.

use crate::HIDDEN;
use crate::text::unstyled;

/// How keys end that name secrets, in small letters.
const ENDINGS: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "secret_key",
    "secretkey",
    "access_key",
    "accesskey",
    "api_key",
    "apikey",
    "token",
    "signature",
    "credential",
    "credentials",
];

/// Keys that are too short to be told by their end.
const WHOLE: [&str; 3] = ["pass", "sig", "pw"];

/// Whether the value of a parameter of this name is a secret: `password`, `PGPASSWORD`, `X-Amz-Signature`, `sig`.
/// Capitals, `-` and `%`-escapes hide no name.
pub fn names_a_secret(key: &str) -> bool {
    let key = decoded(key).to_ascii_lowercase().replace('-', "_");
    WHOLE.contains(&key.as_str()) || ENDINGS.iter().any(|ending| key.ends_with(ending))
}

/// A key with its `%`-escapes read, where they are whole.
fn decoded(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text in which the values of such parameters are hidden.
pub(crate) fn hide(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let (before, after) = rest.split_at(at);
        let value = &after[1..];
        shown.push_str(before);
        shown.push('=');
        rest = value;
        if !names_a_secret(key(before)) || value.starts_with(['=', '>']) {
            continue;
        }
        let space = value.len() - value.trim_start_matches(' ').len();
        let spaced = before.ends_with(' ');
        let lead = if spaced || value[space..].starts_with(['\'', '"', '\\']) { space } else { 0 };
        let length = length(&value[lead..]);
        if length > 0 {
            shown.push_str(&value[..lead]);
            shown.push_str(HIDDEN);
        }
        rest = &value[lead + length..];
    }
    shown.push_str(rest);
    shown
}

/// The name that ends a text, without the spaces that TOML and libpq allow before `=`.
fn key(before: &str) -> &str {
    let before = before.trim_end_matches(' ');
    let part = |c: char| c.is_ascii_alphanumeric() || "_-.%".contains(c);
    let (head, word) = before.split_at(before.trim_end_matches(part).len());
    unstyled(head, word)
}

/// How many bytes a value takes that begins a text: a quoted one up to its closing quote and what hangs on it, any
/// other one up to a space, a quote or a `&`.
fn length(value: &str) -> usize {
    let Some(quote) = ["\\\"", "\"", "'"].into_iter().find(|quote| value.starts_with(quote)) else {
        return unquoted(value);
    };
    let mut taken = quoted(value, quote);
    // A quote within that was doubled or not escaped closes nothing, and a shell joins what hangs together.
    loop {
        let rest = &value[taken..];
        taken += match rest.chars().next() {
            _ if rest.starts_with(quote) => quoted(rest, quote),
            Some(letter) if !")]},;:.\\".contains(letter) && unquoted(rest) > 0 => unquoted(rest),
            _ => return taken,
        };
    }
}

/// How many bytes a text takes that begins with a quote.
fn quoted(value: &str, quote: &str) -> usize {
    let inside = &value[quote.len()..];
    let end = closing(inside, quote).map(|end| end + quote.len());
    quote.len() + end.unwrap_or_else(|| unquoted(inside))
}

fn unquoted(value: &str) -> usize {
    let ends = |c: char| c.is_whitespace() || c.is_control() || "&\"'`<>".contains(c);
    let found = &value[..value.find(ends).unwrap_or(value.len())];
    // The escape of a quote belongs to that.
    found.trim_end_matches('\\').len()
}

/// Where a quote closes, before the line ends. A backslash takes the next letter with it.
fn closing(inside: &str, quote: &str) -> Option<usize> {
    let mut letters = inside.char_indices();
    while let Some((at, letter)) = letters.next() {
        if inside[at..].starts_with(quote) {
            return Some(at);
        }
        match letter {
            '\n' => return None,
            '"' if quote == "'" => return None,
            '\\' => drop(letters.next()),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_in_any_spelling() {
        for key in [
            "password",
            "PASSWORD",
            "PGPASSWORD",
            "passwd",
            "sslpassword",
            "p%61ssword",
            "X-Amz-Signature",
            "X-Amz-Security-Token",
            "AWS_SECRET_ACCESS_KEY",
            "sig",
            "token",
        ] {
            assert!(names_a_secret(key), "{key}");
        }
        for key in ["user", "host", "sslkey", "sslmode", "tokens", "design", "key", "", "%"] {
            assert!(!names_a_secret(key), "{key}");
        }
    }

    #[test]
    fn values_end_where_their_form_ends_them() {
        for (text, shown) in [
            ("host=db password=s3cret user=ann", "host=db password=*** user=ann"),
            ("PASSWD='s3 cr\\'et' user=ann", "PASSWD=*** user=ann"),
            ("password = \"s3 cret\"\nlayers = 2", "password = ***\nlayers = 2"),
            ("password='s3cret", "password=***"),
            ("password='s3 c'ret' user=ann", "password=*** user=ann"),
            ("password='s3''cret' user=ann", "password=*** user=ann"),
            ("{\"a\": \"password='s3cret'\", \"b\": 1}", "{\"a\": \"password=***\", \"b\": 1}"),
            ("(password='s3cret')", "(password=***)"),
            ("{\"a\": \"password=s3cret\"}", "{\"a\": \"password=***\"}"),
            ("{\"a\": \"password=\\\"s3 cret\\\" b\"}", "{\"a\": \"password=*** b\"}"),
            ("{\"a\": \"\\\"password=s3cret\\\"\"}", "{\"a\": \"\\\"password=***\\\"\"}"),
            ("/b?X-Amz-Signature=s3cret&n=1", "/b?X-Amz-Signature=***&n=1"),
            ("token=\"s3cret\" n=1", "token=*** n=1"),
            ("if password == other", "if password == other"),
            ("password= host=db", "password= host=db"),
            ("learning_rate=0.1", "learning_rate=0.1"),
        ] {
            assert_eq!(hide(text), shown);
        }
    }
}
