//! What the server says to anything but its page: it takes nobody's word.

use testkit::http::{self, Answer};

use super::{Shown, Studio, recognise};

const BODY: &str =
    r#"{"chosen":"left","shown_ms":100.5,"response_ms":400,"interrupted":false,"input":"touch"}"#;

#[test]
fn what_is_not_the_raters_next_trial_is_not_there() {
    let house = Studio::new();
    house.study("0.1");
    let links = house.invite("2");
    let (link, other) = (&links[0], &links[1]);
    let server = house.serve();
    let get = |path: &str| http::send(&server.address, "GET", path, None);
    let post = |path: &str, body: &str| http::send(&server.address, "POST", path, Some(body));
    let own = |rest: &str| format!("{link}{rest}");

    // Without a link there is nothing, in the same words for everybody.
    let unknown = format!("/r/{}", "0".repeat(32));
    for path in
        ["/", "/r/", "/r/x", &unknown, &format!("{unknown}/standing"), "/r/x/picture/1/left"]
    {
        let answer = get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(String::from_utf8_lossy(&answer.body).contains("There is nothing here"));
        guarded(&answer);
    }
    assert_eq!(post(&format!("{unknown}/start"), "{}").status, 404);
    let page = get(link);
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    guarded(&page);
    for file in ["/page.js", "/page.css"] {
        let answer = get(file);
        assert_eq!(answer.status, 200);
        guarded(&answer);
    }

    // Nothing is shown or answered before they have agreed.
    assert_eq!(get(&own("/picture/1/left")).status, 404);
    assert_eq!(post(&own("/shown/1"), "{}").status, 409);
    let standing = get(&own("/standing")).json();
    assert_eq!((&standing["started"], &standing["trials"]), (&false.into(), &2.into()));
    assert_eq!(post(&own("/start"), "{}").json()["started"], true);

    // Both pictures come with the same headers and length.
    let pictures = ["left", "right"].map(|side| get(&own(&format!("/picture/1/{side}"))));
    assert_eq!(pictures[0].status, 200);
    assert_eq!(pictures[0].headers, pictures[1].headers);
    assert_eq!(pictures[0].body.len(), pictures[1].body.len());
    guarded(&pictures[0]);
    let shown = pictures.map(|picture| recognise(&picture.body).1);
    assert_eq!(shown.iter().filter(|shown| **shown == Shown::Photograph).count(), 1);
    for path in ["/picture/2/left", "/picture/0/left", "/picture/-1/left", "/picture/x/left"] {
        assert_eq!(get(&own(path)).status, 404, "{path}");
    }
    for side in ["middle", "LEFT", "", "left/.."] {
        assert_eq!(get(&own(&format!("/picture/1/{side}"))).status, 404, "{side}");
    }

    // Not before the pair was shown, no other trial, and no nonsense.
    assert_eq!(post(&own("/answer/1"), BODY).status, 409);
    assert_eq!(post(&own("/shown/2"), "{}").status, 409);
    assert_eq!(post(&own("/shown/1"), "{}").status, 204);
    assert_eq!(post(&own("/answer/2"), BODY).status, 409);
    assert_eq!(post(&own("/answer/99999999999"), BODY).status, 404);
    for (from, to) in [
        ("\"left\"", "\"middle\""),
        ("\"left\"", "null"),
        ("100.5", "-1"),
        ("100.5", "3600001"),
        ("100.5", "1e999"),
        ("400", "\"400\""),
        ("400", "NaN"),
        ("\"touch\"", "\"voice\""),
        ("}", ",\"reference_side\":\"left\"}"),
        ("{", "["),
        (BODY, ""),
        ("\"touch\"", &format!("\"{}\"", "x".repeat(5000))),
    ] {
        let answer = post(&own("/answer/1"), &BODY.replacen(from, to, 1));
        assert!((400..=413).contains(&answer.status), "{from} {to}: {}", answer.status);
        guarded(&answer);
    }
    let get_answer = get(&own("/answer/1"));
    assert_eq!(get_answer.status, 404, "another method");

    // As soon as the time is over, by the server's clock; then once and no more.
    let kept = loop {
        let answer = post(&own("/answer/1"), BODY);
        if answer.status != 409 {
            break answer;
        }
    };
    assert_eq!((kept.status, &kept.json()["trial"]), (200, &2.into()));
    let again = post(&own("/answer/1"), &BODY.replace("left", "right"));
    assert_eq!((again.status, &again.json()["answered"]), (200, &1.into()));
    assert_eq!(get(&own("/picture/1/left")).status, 404, "it is over");
    assert_eq!(get(&format!("{other}/standing")).json()["answered"], 0);
    server.end();

    let details = house.path("answers.csv");
    house.ok(
        "evaluator",
        &["study", "results", "faces", "--details", "answers.csv", "--csv", "rates.csv"],
    );
    let details = std::fs::read_to_string(details).unwrap();
    assert_eq!(details.lines().count(), 2);
    assert!(details.contains(",left,") && details.contains(",100.5,400,false,touch,"), "{details}");
    let rates = std::fs::read_to_string(house.path("rates.csv")).unwrap();
    assert!(rates.starts_with("system,set,seconds,raters,answers,fooled,fool_rate,"), "{rates}");
}

/// What every answer says to a browser.
fn guarded(answer: &Answer) {
    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert_eq!(answer.header("set-cookie"), "");
}

#[test]
fn a_flood_of_half_requests_keeps_the_page_from_nobody() {
    use std::io::Write;
    let house = Studio::new();
    house.study("0.1");
    let link = &house.invite("1")[0];
    let server = house.serve();
    let flood: Vec<_> = (0..600)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
            // One that was closed meanwhile is no harm.
            let _ = stream.write_all(b"GET /r/x HTTP/1.1\r\nHost: x\r\nX-a: ");
            stream
        })
        .collect();
    assert_eq!(http::send(&server.address, "GET", link, None).status, 200);
    drop(flood);
}
