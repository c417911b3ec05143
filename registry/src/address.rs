//! How the URL of a database becomes a connection.
//!
//! Of a server of the user's own the variables `PG*` mean what they mean to `psql`: they fill in what the URL leaves
//! open. The private one is reached by its URL alone.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::private;

/// What is allowed, for the messages.
const FORM: &str = "it is postgres://USER@HOST:5432/DATABASE?sslmode=verify-full, with the password in PGPASSWORD or ~/.pgpass";

/// Parameters of a password, as sqlx knows them.
const PASSWORD: &str = "password";

/// The parameters that mean something here; the wish behind another one would be passed over.
const KNOWN: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    PASSWORD,
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Parameters of libpq that change nothing that matters where they are passed over.
const HARMLESS: [&str; 8] = [
    "connect_timeout",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "tcp_user_timeout",
];

/// The variables that fill in what a URL leaves open.
const VARIABLES: [&str; 12] = [
    "PGAPPNAME",
    "PGDATABASE",
    "PGHOST",
    "PGHOSTADDR",
    "PGOPTIONS",
    "PGPASSWORD",
    "PGPORT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGUSER",
];

/// The options that a URL stands for.
pub(crate) fn options(url: &str) -> sqlx::Result<PgConnectOptions> {
    let wrong = |text: String| sqlx::Error::Configuration(text.into());
    check(url).map_err(|text| wrong(format!("{text}; {FORM}")))?;
    let socket = private::socket_of(url);
    if socket.is_none() {
        check_variables(|name| std::env::var_os(name)).map_err(wrong)?;
    }
    let options: PgConnectOptions = url.parse()?;
    let options = options
        .application_name("palette")
        // PgBouncer refuses what it does not know of the start of a session; the server's own is exact already.
        .extra_float_digits(None)
        .disable_statement_logging();
    Ok(match socket {
        Some(socket) => by_socket_alone(options, socket),
        None => options,
    })
}

/// The private server's options, where `PG*` would have filled in others. `PGOPTIONS` cannot be taken out of them:
/// [`home::private::shut_out_options`] does that where a program begins.
fn by_socket_alone(options: PgConnectOptions, socket: PathBuf) -> PgConnectOptions {
    let name = home::private::NAME;
    options.socket(socket).port(5432).username(name).database(name).ssl_mode(PgSslMode::Disable)
}

/// Says what is wrong with a URL of which parts would else be taken for others, and then be printed: a password
/// for the name of a host, a port or a database.
fn check(url: &str) -> Result<(), String> {
    let scheme = |scheme: &&str| {
        scheme.eq_ignore_ascii_case("postgres") || scheme.eq_ignore_ascii_case("postgresql")
    };
    let Some((_, rest)) = url.split_once("://").filter(|(name, _)| scheme(name)) else {
        return Err("it does not begin with postgres://".to_owned());
    };
    if url.contains(char::REPLACEMENT_CHARACTER) {
        return Err("bytes that are no UTF-8 are written %XX".to_owned());
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if place.split_once('/').is_some_and(|(_, path)| path.contains('@')) {
        return Err("a `/` in a password is written %2F, and a `@` %40".to_owned());
    }
    let mut seen = BTreeSet::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let Some((key, _)) = parameter.split_once('=') else {
            return Err(
                "a `?` in a password is written %3F, a `&` %26; of a parameter the `=` is missing"
                    .to_owned(),
            );
        };
        if key != PASSWORD && secrets::names_a_secret(key) {
            return Err(format!(
                "`{key}` is no parameter: a password stands before the `@`, or in `{PASSWORD}=`"
            ));
        }
        let option = key.starts_with("options[") && key.ends_with(']');
        if !KNOWN.contains(&key) && !HARMLESS.contains(&key) && !option {
            return Err(format!("`{}` is no parameter that is known here", secrets::text(key)));
        }
        if !seen.insert(key) {
            return Err(format!("`{key}` stands there twice"));
        }
    }
    Ok(())
}

/// Says which variable of the environment cannot be read: passed over, another server would be asked than is meant,
/// or without TLS.
fn check_variables(value: impl Fn(&str) -> Option<OsString>) -> Result<(), String> {
    for name in VARIABLES {
        let Some(value) = value(name).filter(|value| !value.is_empty()) else { continue };
        let text = value.to_str().ok_or(format!("{name} is no UTF-8"))?;
        let (fits, is) = match name {
            "PGPORT" => (text.parse::<u16>().is_ok(), "a port is 0 to 65535"),
            "PGSSLMODE" => (
                text.parse::<PgSslMode>().is_ok(),
                "it is disable, allow, prefer, require, verify-ca or verify-full",
            ),
            _ => (true, ""),
        };
        if !fits {
            return Err(format!("{name} is `{}`: {is}", secrets::text(text)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn what_would_be_taken_for_something_else_is_refused_and_never_repeated() {
        for url in [
            "postgres:ann:s3cret@db/p",
            "ann:s3cret@db/p",
            "host=db password=s3cret",
            "https://ann:s3cret@db/p",
            "postgres://ann:12/s3cret@db/p",
            "postgres://ann:12?s3cret@db/p",
            "postgres://db/p?PASSWORD=s3cret",
            "postgres://db/p?passwd=s3cret",
            "postgres://db/p?sslpassword=s3cret",
            "postgres://db/p?password=a&s3cret",
            "postgres://db/p?SSLMODE=verify-full",
            "postgres://db/p?sslmodee=verify-full",
            "postgres://db/p?channel_binding=require",
            "postgres://db/p?sslmode=verify-full&sslmode=disable",
            "postgres://ann:s3cret\u{fffd}@db/p",
            "s3cret",
        ] {
            let message = options(url).unwrap_err().to_string();
            assert!(message.contains(FORM) && !message.contains("s3cret"), "{message}");
        }
        for url in [
            "postgres://ann:s3cret@db/p",
            "POSTGRESQL:///p?host=/run&user=ann&password=s3cret",
            "postgres://ann%40lab:a%2Fb@db:1/p?application_name=a@b",
            "postgres://db/p?sslmode=verify-full&sslrootcert=ca.pem&connect_timeout=5",
            "postgres://db/p?options[search_path]=lab&options=-c%20jit%3Doff",
            "postgres://",
        ] {
            assert!(options(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_variable_that_cannot_be_read_is_not_passed_over() {
        let check = |own: &str, value: &[u8]| {
            let value = OsString::from_vec(value.to_vec());
            check_variables(|name| (name == own).then(|| value.clone()))
        };
        for (name, value) in [
            ("PGSSLMODE", &b"verify_full"[..]),
            ("PGPORT", b"abc"),
            ("PGPORT", b"65536"),
            ("PGUSER", b"ann\xff"),
        ] {
            assert!(check(name, value).unwrap_err().contains(name));
        }
        for (name, value) in
            [("PGSSLMODE", &b"verify-full"[..]), ("PGPORT", b"5433"), ("PGSSLMODE", b"")]
        {
            assert_eq!(check(name, value), Ok(()));
        }
    }

    #[test]
    fn the_private_server_is_reached_by_its_socket_as_its_role() {
        let foreign = options("postgres://ann:pw@db:6432/other?sslmode=require").unwrap();
        let options = by_socket_alone(foreign, "/run/p".into());
        assert_eq!(options.get_socket(), Some(&PathBuf::from("/run/p")));
        assert_eq!((options.get_port(), options.get_username()), (5432, "palette"));
        assert_eq!(options.get_database(), Some("palette"));
        assert!(matches!(options.get_ssl_mode(), PgSslMode::Disable));
    }
}
