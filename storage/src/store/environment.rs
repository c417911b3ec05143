//! What the environment says of an object store. Its client takes what it finds; where that is no value (a key that was
//! read from a file with its line end, an endpoint without a port's number) it ends within a call, and says nothing
//! of the variable.

use std::ffi::OsString;

use object_store::aws::AmazonS3ConfigKey;
use object_store::gcp::GoogleConfigKey;
use reqwest::Url;

use crate::Scheme;

/// Says which variable for stores of this scheme cannot be used as it is; never its value.
pub(super) fn check(
    scheme: Scheme,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(), String> {
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| is_read(scheme, name)) else { continue };
        if let Some(wrong) = fault(name, &value) {
            return Err(format!("the variable {name} {wrong}"));
        }
    }
    Ok(())
}

/// Whether the client of these stores reads the variable.
fn is_read(scheme: Scheme, name: &str) -> bool {
    let key = name.to_ascii_lowercase();
    match scheme {
        Scheme::S3 => name.starts_with("AWS_") && key.parse::<AmazonS3ConfigKey>().is_ok(),
        Scheme::Gs => {
            name == "SERVICE_ACCOUNT"
                || (name.starts_with("GOOGLE_") && key.parse::<GoogleConfigKey>().is_ok())
        }
    }
}

fn fault(name: &str, value: &OsString) -> Option<&'static str> {
    let Some(text) = value.to_str() else { return Some("is no UTF-8") };
    if text.trim() != text {
        return Some("begins or ends with white space: is there a line end too much?");
    }
    // A document of JSON (GOOGLE_SERVICE_ACCOUNT_KEY) has lines.
    let document = text.starts_with('{');
    if !document && !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        return Some("holds a line end or a character that is not ASCII");
    }
    if name.contains("REGION")
        && !text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    {
        return Some("is no name of a region, such as eu-west-1");
    }
    let is_address = ["ENDPOINT", "_URI", "_URL"].iter().any(|part| name.contains(part));
    let relative = name.contains("RELATIVE");
    if is_address && !relative && !text.is_empty() {
        let fits = Url::parse(text)
            .is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        if !fits {
            return Some("is no address: it is http://HOST:PORT or https://HOST");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn variables_that_no_call_could_use_are_told_by_name_alone() {
        let check = |name: &str, value: &[u8]| {
            let value = OsString::from_vec(value.to_vec());
            let scheme = if name.starts_with("AWS") { Scheme::S3 } else { Scheme::Gs };
            super::check(scheme, [(name.into(), value)].into_iter())
        };
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", &b"s3cret\n"[..]),
            ("AWS_SECRET_ACCESS_KEY", b" s3cret"),
            ("AWS_SESSION_TOKEN", "s3cr\u{e9}t".as_bytes()),
            ("AWS_SESSION_TOKEN", b"s3c\nret"),
            ("AWS_ACCESS_KEY_ID", b"s3cret\xff"),
            ("AWS_REGION", b"eu west"),
            ("AWS_DEFAULT_REGION", b"eu/s3cret"),
            ("AWS_ENDPOINT", b"127.0.0.1:s3cret"),
            ("AWS_ENDPOINT_URL", b"http://h:9000 "),
            ("AWS_ENDPOINT_URL_S3", b"ftp://s3cret"),
            ("GOOGLE_SERVICE_ACCOUNT", b"s3cret\n"),
        ] {
            let said = check(name, value).unwrap_err();
            assert!(said.contains(name) && !said.contains("s3cret"), "{said}");
        }
        for (name, value) in [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000"),
            ("AWS_ENDPOINT_URL", ""),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "a+b/c="),
            ("AWS_PROFILE", "my profile \n"),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", "{\n\"type\": \"x\"\n}"),
        ] {
            assert_eq!(check(name, value.as_bytes()), Ok(()), "{name}");
        }
    }
}
