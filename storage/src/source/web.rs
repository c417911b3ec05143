//! Files that web servers have, by HTTP. Parts are asked for by `Range`, of the file that was opened
//! (`If-Match`, `If-Unmodified-Since`), and as they are (`Accept-Encoding: identity`).

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName,
    IF_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode, Url, redirect};

use super::origin::{Answer, Body, Facts, Failure, Origin};
use super::reader::FarFile;
use super::{Fault, Reach};
use crate::{Error, Result, calls, roots};

const MOST_REDIRECTS: usize = 10;
/// Headers of an answer, at most, and bytes of one that is kept.
const MOST_HEADERS: usize = 100;
const MOST_HEADER_LIST: u32 = 64 << 10;
const LONGEST_HEADER: usize = 1 << 10;

/// A file of a web server.
pub(super) struct Web {
    client: Client,
    url: Url,
    /// The address for messages.
    name: String,
}

/// Looks a file up.
pub(super) fn open(url: &Url, name: String, reach: Reach, fault: Fault) -> Result<FarFile> {
    let refused = |message: String| Error::Refused { place: name.clone(), message };
    if url.scheme() != "https" && !reach.plain_http && !is_loopback(url) {
        let message = "comes unencrypted, and anybody on the way can change it: give its https:// \
                       address, or say --plain-http";
        return Err(refused(message.to_owned()));
    }
    calls::ready();
    let client = Client::builder()
        .user_agent(concat!("palette/", env!("CARGO_PKG_VERSION")))
        // It would tell the next server the signature of this address.
        .referer(false)
        .redirect(redirects(reach.plain_http))
        .connect_timeout(reach.stall)
        .http1_max_headers(MOST_HEADERS)
        .http2_max_header_list_size(MOST_HEADER_LIST)
        .build()
        .map_err(|error| refused(format!("no connection can be set up: {}", said(error))))?;
    let web = Web { client, url: url.clone(), name: name.clone() };
    FarFile::look_up(Origin::Web(web), name, reach, fault)
}

/// Redirects are followed, not many, not to where the way is less safe, and not out of the roots of a worker: a server
/// within them may send anybody anywhere.
fn redirects(plain_http: bool) -> redirect::Policy {
    const OUTSIDE: &str =
        "it redirects out of the roots of this worker (--data-root, --output-root)";
    redirect::Policy::custom(move |attempt| {
        let outside = || (!roots::may_read(attempt.url().as_str())).then_some(OUTSIDE);
        match objection(attempt.previous(), attempt.url(), plain_http).or_else(outside) {
            None => attempt.follow(),
            Some(why) => attempt.error(why),
        }
    })
}

/// Why a redirect is not followed; `before` are all addresses that led to it.
fn objection(before: &[Url], to: &Url, plain_http: bool) -> Option<&'static str> {
    let from_https = before.iter().any(|url| url.scheme() == "https");
    match to.scheme() {
        _ if before.len() > MOST_REDIRECTS => Some("there are more than 10 redirects"),
        "https" => None,
        "http" if from_https => Some("it redirects from https:// to http://"),
        "http" if plain_http || is_loopback(to) => None,
        "http" => Some("it redirects to http:// on another machine, see --plain-http"),
        _ => Some("it redirects to an address that is not http"),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// What an error of the client says, with its causes and without addresses.
pub(super) fn said(error: reqwest::Error) -> String {
    calls::first_line(&error.without_url())
}

impl Web {
    /// Asks for a part. A server that does not know parts answers with the whole file.
    pub(super) async fn get(
        &self,
        range: Range<u64>,
        known: Option<&Facts>,
    ) -> Result<Answer, Failure> {
        let mut request = self.client.get(self.url.clone()).header(ACCEPT_ENCODING, "identity");
        let whole = known.is_some_and(|known| !known.ranges);
        if !whole {
            let last = range.end.saturating_sub(1);
            request = request.header(RANGE, format!("bytes={}-{last}", range.start));
        }
        match known.map(|known| (known.strong_tag(), &known.modified)) {
            Some((Some(tag), _)) => request = request.header(IF_MATCH, tag),
            Some((None, Some(modified))) => {
                request = request.header(IF_UNMODIFIED_SINCE, modified);
            }
            _ => {}
        }
        let response = request.send().await.map_err(|error| self.unsent(error))?;
        let part = match response.status() {
            StatusCode::OK => None,
            StatusCode::PARTIAL_CONTENT if !whole => Some(self.part(&response, &range)?),
            StatusCode::RANGE_NOT_SATISFIABLE if known.is_none() => {
                // So is a file without any bytes.
                match content_range(response.headers()) {
                    Some((None, 0)) => Some((0..0, 0)),
                    _ => return Err(self.refused("answers 416 Range Not Satisfiable".into())),
                }
            }
            _ => return Err(self.failure(&response)),
        };
        self.check_encoding(response.headers())?;
        let ranges = part.is_some();
        let (range, length) = match part {
            Some(part) => part,
            None => {
                let length = self.whole_length(response.headers())?;
                (0..length, length)
            }
        };
        let facts = Facts {
            length,
            tag: text(response.headers(), ETAG),
            modified: text(response.headers(), LAST_MODIFIED),
            ranges,
        };
        Ok(Answer { facts, range, body: Body::Web(Box::new(response)) })
    }

    /// Which part an answer has, and how long the file is.
    fn part(&self, response: &Response, asked: &Range<u64>) -> Result<(Range<u64>, u64), Failure> {
        let wrong = |message: &str| Failure::Final(self.broken(message.to_owned()));
        match content_range(response.headers()) {
            Some((Some(range), length)) => {
                match range.start == asked.start && range.end <= asked.end && range.end <= length {
                    true => Ok((range, length)),
                    false => Err(wrong("its server sends other bytes than it was asked for")),
                }
            }
            _ => Err(wrong("its server sends a part and does not say which (Content-Range)")),
        }
    }

    fn whole_length(&self, headers: &HeaderMap) -> Result<u64, Failure> {
        let length = text(headers, CONTENT_LENGTH).and_then(|length| length.trim().parse().ok());
        length.ok_or_else(|| {
            let message = "has no length that its server says (Content-Length), so that its end \
                           could not be told from a broken connection: download it first";
            self.refused(message.to_owned())
        })
    }

    /// A file may be packed by its own ending; then the bytes are the file's. Any other packing would be
    /// of the way only.
    fn check_encoding(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let encoding = text(headers, CONTENT_ENCODING).unwrap_or_default().to_ascii_lowercase();
        let path = self.url.path().to_ascii_lowercase();
        match encoding.trim() {
            "" | "identity" => Ok(()),
            "gzip" | "x-gzip" if path.ends_with(".gz") || path.ends_with(".tgz") => Ok(()),
            packed => {
                let packed: String =
                    packed.chars().filter(char::is_ascii_graphic).take(40).collect();
                Err(self.refused(format!(
                    "is sent packed (Content-Encoding: {packed}) although it was asked for as it \
                     is: download it first"
                )))
            }
        }
    }

    /// What a status means that brings no bytes. Of a server's text only the status is repeated: some
    /// send back what was signed.
    fn failure(&self, response: &Response) -> Failure {
        let status = response.status();
        let wait = text(response.headers(), RETRY_AFTER)
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs);
        match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Failure::Passing { said: format!("answers {status}"), wait, reached: true }
            }
            status if status.is_server_error() => {
                Failure::Passing { said: format!("answers {status}"), wait, reached: true }
            }
            StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE => {
                Failure::Changed(format!("its server answers {status}"))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.refused(format!(
                "may not be read: its server answers {status}; where the address is signed, get a \
                 new one"
            )),
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                self.refused(format!("there is no such file: its server answers {status}"))
            }
            status => self.refused(format!("cannot be read: its server answers {status}")),
        }
    }

    /// A request that got no answer.
    fn unsent(&self, error: reqwest::Error) -> Failure {
        if error.is_redirect() {
            return self.refused(format!("is not followed to where it leads: {}", said(error)));
        }
        if error.is_builder() {
            return self.refused(format!("cannot be asked for: {}", said(error)));
        }
        let reached = !error.is_connect();
        Failure::Passing { said: said(error), wait: None, reached }
    }

    fn refused(&self, message: String) -> Failure {
        Failure::Final(Error::Refused { place: self.name.clone(), message })
    }

    fn broken(&self, message: String) -> Error {
        Error::Store { doing: "read", place: self.name.clone(), message }
    }
}

/// A header, where there is one of sensible length.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (value.len() <= LONGEST_HEADER).then(|| value.to_owned())
}

/// `bytes 0-4/10` or `bytes */10`: the part, and the length of the whole.
fn content_range(headers: &HeaderMap) -> Option<(Option<Range<u64>>, u64)> {
    let value = text(headers, CONTENT_RANGE)?;
    let (range, length) = value.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let length = length.parse().ok()?;
    if range == "*" {
        return Some((None, length));
    }
    let (start, last) = range.split_once('-')?;
    let (start, last): (u64, u64) = (start.parse().ok()?, last.parse().ok()?);
    (start <= last).then_some(())?;
    Some((Some(start..last.checked_add(1)?), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_they_say() {
        let range = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, value.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(range("bytes 0-4/10"), Some((Some(0..5), 10)));
        assert_eq!(range("bytes */0"), Some((None, 0)));
        let last = format!("bytes 0-{}/5", u64::MAX);
        for wrong in ["bytes 5-4/10", "bytes 0-4/*", "items 0-4/5", "bytes -4/5", "", &last] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn redirects_lead_nowhere_less_safe() {
        let url = |text: &str| Url::parse(text).unwrap();
        let (safe, near, plain) = (url("https://a/x"), url("http://[::1]/x"), url("http://a/x"));
        let from = |url: &Url| vec![url.clone()];
        for plain_http in [false, true] {
            assert_eq!(objection(&from(&safe), &safe, plain_http), None);
            assert_eq!(objection(&from(&near), &safe, plain_http), None);
            assert_eq!(objection(&from(&near), &near, plain_http), None);
            assert!(objection(&from(&safe), &plain, plain_http).is_some());
            assert!(objection(&from(&safe), &near, plain_http).is_some());
            let way = [safe.clone(), near.clone(), safe.clone()];
            assert!(objection(&way, &plain, plain_http).is_some(), "also in several steps");
            assert!(objection(&from(&safe), &url("ftp://a/x"), plain_http).is_some());
            assert!(objection(&vec![safe.clone(); 11], &safe, plain_http).is_some());
        }
        assert!(objection(&from(&near), &plain, false).is_some());
        assert_eq!(objection(&from(&plain), &plain, true), None);
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let is = |text: &str| is_loopback(&Url::parse(text).unwrap());
        for near in ["http://127.0.0.1:80/", "http://localhost/x", "http://[::1]:8/"] {
            assert!(is(near), "{near}");
        }
        for far in ["http://127.0.0.1.example.com/", "http://10.0.0.1/", "http://localhost.x/"] {
            assert!(!is(far), "{far}");
        }
    }
}
