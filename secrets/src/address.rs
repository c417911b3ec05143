//! One address, known to be one: of a database, a file or a folder.

use crate::parameter::names_a_secret;
use crate::{HIDDEN, text};

/// An address as it may be shown and stored; of one of the web no query is left. A text without a scheme is
/// taken for a path, in which only parameters are hidden.
pub fn address(text: &str) -> String {
    match split(text) {
        // What is left of it may hold parameters where an address has none.
        Some((scheme, rest)) => self::text(&hide(scheme, rest, "")).into_owned(),
        None => self::text(text).into_owned(),
    }
}

/// The URL of a database as it may be shown; what is none, because its scheme or its slashes were forgotten or
/// because it is made of `KEY=VALUE`, holds secrets too.
pub fn database(url: &str) -> String {
    if split(url).is_some() {
        return address(url);
    }
    let shown = text(url).into_owned();
    let first = shown.find(['=', ':', '@']).map_or("", |at| &shown[at..]);
    if first.starts_with('=') {
        // An unquoted password may have had spaces: no word without a `=` is shown.
        let words = shown.split_whitespace().filter(|word| word.contains('='));
        return words.collect::<Vec<_>>().join(" ");
    }
    match (shown.find([':', '/', '?']), shown.rfind('@')) {
        (Some(end), Some(at)) if end < at => {
            // It may look like another kind of address now.
            text(&format!("{}:{HIDDEN}{}", &shown[..end], &shown[at..])).into_owned()
        }
        _ => shown,
    }
}

/// True for the schemes of a database.
fn is_database(scheme: &str) -> bool {
    ["postgres", "postgresql"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

/// True for the schemes of the web.
fn is_web(scheme: &str) -> bool {
    ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

/// Scheme and rest of an address: before `://`, or before the `:` of a scheme that can be nothing else.
pub(crate) fn split(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let named = scheme.starts_with(|c: char| c.is_ascii_alphanumeric())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let known = is_database(scheme) || is_web(scheme);
    (named && (known || rest.starts_with("//"))).then_some((scheme, rest))
}

/// An address without its secrets; `query` stands for that of an address of the web.
pub(crate) fn hide(scheme: &str, rest: &str, query: &str) -> String {
    let slashes = rest.len() - rest.trim_start_matches(['/', '\\']).len();
    let (slashes, rest) = rest.split_at(slashes);
    if slashes.is_empty() {
        // Where a user ends and a password begins is not known.
        let Some(at) = rest.rfind('@') else {
            return format!("{scheme}:{}", without_query(scheme, rest, query));
        };
        return format!("{scheme}:{HIDDEN}{}", without_query(scheme, &rest[at..], query));
    }
    if is_database(scheme) {
        return format!("{scheme}:{slashes}{}", on_server(rest));
    }
    // Without a user no `@`.
    let rest = &rest[end_of_user(scheme, rest).map_or(0, |at| at + 1)..];
    let slashes = if is_web(scheme) { "//" } else { slashes };
    format!("{scheme}:{slashes}{}", without_query(scheme, rest, query))
}

/// What may be shown of a database's `USER:PASSWORD@HOST:PORT/DATABASE?PARAMETERS`. A password that was not written as
/// URLs demand, with `@`, `/` or `?` in it, ends at the last `@`; one may stand in place of the port.
fn on_server(rest: &str) -> String {
    // An `@` of a parameter (a user of a managed server) ends no password.
    let parameter = |at: usize| {
        let query = rest[..at].rfind('?').map_or("", |start| &rest[start + 1..at]);
        query.rsplit(['&', ';']).next().is_some_and(is_shown)
    };
    let mut ends = rest.match_indices('@').map(|(at, _)| at).filter(|at| !parameter(*at));
    let (user, rest) = rest.split_at(ends.next_back().unwrap_or(0));
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (server, database) = place.split_at(place.find('/').unwrap_or(place.len()));
    let server = match server.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') && !port.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{host}:{HIDDEN}")
        }
        _ => server.to_owned(),
    };
    let query: Vec<&str> = query.split(['&', ';']).filter(|part| is_shown(part)).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    format!("{}{server}{database}{query}", &user[..end_of_name(user)])
}

/// Whether a parameter of a database's URL is one of those that help and hold no secret.
fn is_shown(parameter: &str) -> bool {
    const SHOWN: [&str; 11] = [
        "application_name",
        "connect_timeout",
        "dbname",
        "host",
        "hostaddr",
        "port",
        "sslcert",
        "sslmode",
        "sslrootcert",
        "target_session_attrs",
        "user",
    ];
    parameter.split_once('=').is_some_and(|(key, _)| SHOWN.contains(&key))
}

/// Where the `@` is that ends user and password. A password that was not written as URLs demand, with a `/` or
/// a `?` in it, ends at the last one.
fn end_of_user(scheme: &str, rest: &str) -> Option<usize> {
    let ends: &[char] = if is_web(scheme) { &['/', '\\', '?', '#'] } else { &['/', '?'] };
    let authority = &rest[..rest.find(ends).unwrap_or(rest.len())];
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    match (authority.rfind('@'), port) {
        // No host follows: the `/` was of a password too.
        (Some(at), _) if matches!(authority[at + 1..].chars().next(), None | Some(':')) => {
            rest.rfind('@')
        }
        (Some(at), _) => Some(at),
        (None, Some(port)) if !number(port) => rest.rfind('@'),
        _ => None,
    }
}

/// Where the name ends in `NAME:PASSWORD`.
fn end_of_name(user: &str) -> usize {
    let escaped = user.to_ascii_lowercase().find("%3a");
    let plain = user.find(':');
    plain.into_iter().chain(escaped).min().unwrap_or(user.len())
}

/// Host, path and what of the query is no secret.
fn without_query(scheme: &str, rest: &str, instead: &str) -> String {
    if is_web(scheme) {
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let (place, query) = rest.split_at(end);
        let instead = if query.len() > 1 { instead } else { "" };
        return format!("{}{instead}", text(place));
    }
    let Some((place, query)) = rest.split_once('?') else { return rest.to_owned() };
    let open = |part: &&str| part.split_once('=').is_some_and(|(key, _)| !names_a_secret(key));
    let query = query.split(['&', ';']).filter(open).collect::<Vec<_>>().join("&");
    if query.is_empty() { place.to_owned() } else { format!("{place}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_databases_keep_the_user_and_lose_the_password() {
        for (url, shown) in [
            ("postgres://ann:s3cret@db/p?sslmode=require", "postgres://ann@db/p?sslmode=require"),
            ("postgres://ann:a@s3/cret@db/p", "postgres://ann@db/p"),
            ("postgres://ann:a@s3?cret@db/p", "postgres://ann@db/p"),
            ("postgres://ann:a@s3?x=cret@db/p", "postgres://ann@db/p"),
            ("postgres://db/p?user=ann@server", "postgres://db/p?user=ann@server"),
            ("postgres://ann@db:s3cret/p", "postgres://ann@db:***/p"),
            ("postgres://ann@[::1]/p", "postgres://ann@[::1]/p"),
            ("postgres://ann@[::1]:5432/p", "postgres://ann@[::1]:5432/p"),
            ("postgres://db/p?options=-c%20a.password%3Ds3cret&user=a", "postgres://db/p?user=a"),
            ("postgres://db/p?options[password]=s3cret", "postgres://db/p"),
            ("postgres://ann:s3/cr?et@db/p", "postgres://ann@db/p"),
            ("postgres://ann:s3@cret@db:1/p", "postgres://ann@db:1/p"),
            ("postgres://ann%3As3cret@db/p", "postgres://ann@db/p"),
            ("postgres://db:1/p?password=s3cret", "postgres://db:1/p"),
            ("postgres://db/p?PassWord=s3cret&p%61sswd=s3cret", "postgres://db/p"),
            ("postgres://db/p?sslpassword=s3&cret", "postgres://db/p"),
            (
                "postgres:///p?host=/run&password=s3cret&user=ann",
                "postgres:///p?host=/run&user=ann",
            ),
            ("https/://ann@db/p?s3cret", "https:***@db/p?***"),
            ("postgres:password=s3cret", "postgres:password=***"),
            ("postgres:host=db password=s3cret", "postgres:host=db password=***"),
            ("postgres://db/password=s3cret", "postgres://db/password=***"),
            ("postgres://db/p", "postgres://db/p"),
            ("postgres:ann:s3cret@db/p", "postgres:***@db/p"),
            ("postgresql:s3cret@db/p?password=s3cret", "postgresql:***@db/p"),
            ("mysql://ann:s3cret@db/p", "mysql://db/p"),
            ("ann:s3cret@db/p", "ann:***@db/p"),
            ("ann/s3cret@db:1/p", "ann:***@db:1/p"),
            ("host=db password=s3 cret user=ann", "host=db password=*** user=ann"),
            ("host=db PASSWORD='s3 cret'", "host=db PASSWORD=***"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(database(url), shown);
        }
    }

    #[test]
    fn addresses_of_files_lose_user_and_query() {
        for (text, shown) in [
            ("https://ann:s3@/cret@h/a", "https://h/a"),
            ("https://me:s3cret@host/a/b?X-Amz-Signature=s3cret", "https://host/a/b"),
            ("HTTP://host/?s3cret#x", "HTTP://host/"),
            ("https://a@b:c@host:80/x@y/z?q", "https://host:80/x@y/z"),
            ("https://me:s3/cret@host/x", "https://host/x"),
            ("https:me:s3cret@host/x?sig=s3cret", "https:***@host/x"),
            ("https://host/to/https://me:s3cret@other/x", "https://host/to/https://other/x"),
            ("s3://key:s3cret@bucket/p", "s3://bucket/p"),
            ("s3://bucket/p", "s3://bucket/p"),
            ("/a?b", "/a?b"),
            ("a:b@c/d", "a:b@c/d"),
        ] {
            assert_eq!(address(text), shown);
        }
    }
}
