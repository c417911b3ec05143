//! Any text, in which addresses and parameters stand.

use std::borrow::Cow;

use crate::address::{hide, split};
use crate::parameter;

/// A text as it may be shown: addresses in it without their secrets, values of parameters such as `password=`
/// hidden. A text of JSON stays one.
pub fn text(text: &str) -> Cow<'_, str> {
    if !text.contains(['@', '=', '?', '#']) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    let open = parameter::hide(text);
    let mut rest = open.as_str();
    // An address begins with its scheme, which ends at a colon.
    let mut from = 0;
    while let Some(colon) = rest[from..].find(':').map(|at| from + at) {
        let start = colon - scheme(&rest[..colon]).len();
        let word = word(&rest[start..]);
        let Some((scheme, after)) = split(word) else {
            from = colon + 1;
            continue;
        };
        shown.push_str(&rest[..start]);
        shown.push_str(&hide(scheme, after, "?***"));
        rest = &rest[start + word.len()..];
        from = 0;
    }
    shown.push_str(rest);
    if shown == text { text.into() } else { shown.into() }
}

/// The letters of a scheme that end a text.
fn scheme(before: &str) -> &str {
    let part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let (head, scheme) = before.split_at(before.trim_end_matches(part).len());
    unstyled(head, scheme).trim_start_matches(|c: char| !c.is_ascii_alphanumeric())
}

/// A word without the end of the escape sequence for a colour (`ESC [ 0 m`) that it may hang on.
pub(crate) fn unstyled<'a>(head: &str, word: &'a str) -> &'a str {
    let numbers = |c: char| c.is_ascii_digit() || c == ';';
    match head.trim_end_matches(numbers).ends_with("\u{1b}[") {
        true => word.trim_start_matches(numbers).strip_prefix('m').unwrap_or(word),
        false => word,
    }
}

/// The word that begins a text, without the punctuation behind it.
fn word(text: &str) -> &str {
    let ends = |c: char| c.is_whitespace() || c.is_control() || "\"`<>".contains(c);
    let word = &text[..text.find(ends).unwrap_or(text.len())];
    word.trim_end_matches(['\'', ')', ']', '}', ',', ';', ':', '.', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_wherever_they_stand() {
        for (said, shown) in [
            (
                "cannot open postgres://ann:s3cret@db/p: refused",
                "cannot open postgres://ann@db/p: refused",
            ),
            (
                "DATABASE_URL=postgres://ann:s3cret@db/p trainer",
                "DATABASE_URL=postgres://ann@db/p trainer",
            ),
            ("'https://me:s3cret@h/a?sig=s3cret', then", "'https://h/a?***', then"),
            ("(https://h/a?s3cret)", "(https://h/a?***)"),
            ("https:me:s3cret@h/x", "https:***@h/x"),
            (
                "http://a:s3cret@h:1/x?X-Amz-Signature=s3cret&t=s3cret: gone",
                "http://h:1/x?***: gone",
            ),
            (
                "postgres:ann:s3cret@127.0.0.1:1/p: No such file",
                "postgres:***@127.0.0.1:1/p: No such file",
            ),
            ("POSTGRES:ann:s3cret@db", "POSTGRES:***@db"),
            (
                "{\"a\":[\"https://me:s3cret@h/a?b\",\"x \\\"https://me:s3cret@h/a?b\\\"\"]}",
                "{\"a\":[\"https://h/a?***\",\"x \\\"https://h/a?***\\\"\"]}",
            ),
            ("key=a https://a:s3cret@b https://c:s3cret@d", "key=a https://b https://d"),
            ("GET /a?X-Amz-Signature=s3cret&n=1", "GET /a?X-Amz-Signature=***&n=1"),
            ("\u{1b}[33mhttps://a:s3cret@b\u{1b}[0m", "\u{1b}[33mhttps://b\u{1b}[0m"),
            ("\u{1b}[1;33mhttps://b?s3cret\u{1b}[0m", "\u{1b}[1;33mhttps://b?***\u{1b}[0m"),
            ("\u{1b}[0mpostgres:a:s3cret@b", "\u{1b}[0mpostgres:***@b"),
            ("\u{1b}[0msig=s3cret", "\u{1b}[0msig=***"),
        ] {
            assert_eq!(text(said), shown);
        }
    }

    #[test]
    fn what_is_no_secret_is_left_as_it_is() {
        for said in [
            "",
            "step 5/10: loss=0.5, at 12:30",
            "psql 'postgresql:///palette?host=/run/p&user=palette'",
            "image:tag@sha256:00, git@github.com:a/b.git, a@b=c:d",
            "http://127.0.0.1:8090/r/abc",
            "error: database: postgres: gone?",
            "s3://bucket/a@b/c=d",
            "snow \u{2603} = 1 @ ?",
        ] {
            assert!(matches!(text(said), Cow::Borrowed(_)), "{said}: {}", text(said));
        }
    }

    #[test]
    fn any_bytes_may_come() {
        let letters = [
            "a", ":", "/", "@", "?", "=", "'", "\"", "\\", " ", "\u{e9}", "postgres", "password",
            "&", "%",
        ];
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let mut said = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                said += letters[(state >> 33) as usize % letters.len()];
            }
            let shown = text(&said).into_owned();
            assert!(!shown.is_empty());
            let _ = (crate::address(&said), crate::database(&said));
        }
    }
}
