//! Strangers before the control room: real sockets against the real server.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use testkit::http::{Answer, ask, raw};
use testkit::{ControlRoom, House};

fn token(house: &House, name: &str, role: &str) -> String {
    let made = house.ok("scheduler", &["room", "token", "create", name, "--role", role]);
    made.trim().to_owned()
}

/// With this token in the header.
fn as_(room: &ControlRoom, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    let body = body.map(|body| body.to_string().into_bytes());
    ask(&room.address, method, path, &headers, body.as_deref())
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// A browser that logs in with a token: its cookie, and what the page after it says.
fn logged_in(room: &ControlRoom, token: &str) -> (String, Answer) {
    let page = ask(&room.address, "GET", "/login", &[], None);
    let cookie = page.header("set-cookie").split(';').next().unwrap().to_owned();
    let csrf = text(&page);
    let csrf = csrf.split_once("name=\"csrf\" value=\"").unwrap().1.split('"').next().unwrap();
    let form = format!("csrf={csrf}&next=%2Fruns&token={token}");
    let headers = [("cookie", &*cookie), ("content-type", "application/x-www-form-urlencoded")];
    let answer = ask(&room.address, "POST", "/login", &headers, Some(form.as_bytes()));
    (answer.header("set-cookie").split(';').next().unwrap().to_owned(), answer)
}

/// Every change that the API's document knows, with its path filled in.
fn changes(room: &ControlRoom, token: &str) -> Vec<(String, String)> {
    let document = as_(room, token, "GET", "/api/v1/openapi.json", None).json();
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let filled: String =
            path.split('/')
                .map(|part| {
                    if part.starts_with('{') {
                        "00000000-0000-0000-0000-000000000000"
                    } else {
                        part
                    }
                })
                .collect::<Vec<_>>()
                .join("/");
        for method in methods.as_object().unwrap().keys() {
            if ["post", "put", "patch", "delete"].contains(&&**method) {
                found.push((method.to_uppercase(), filled.clone()));
            }
        }
    }
    assert!(found.contains(&("POST".into(), "/api/v1/tokens".into())), "{found:?}");
    found
}

#[test]
fn without_a_token_only_the_user_of_the_server_enters() {
    let house = House::new();
    let room = house.room(&[]);
    assert_eq!(room.get("/").status, 200, "the test is the user who runs it");
    // A proxy passes on what others ask, and names another host or says so.
    for header in
        [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1"), ("via", "1.1 proxy")]
    {
        let answer = ask(&room.address, "GET", "/api/v1/tokens", &[header], None);
        assert_eq!(answer.status, 401, "{header:?}");
    }
    let failed = house.fails(2, "scheduler", &["room", "--bind", "127.0.0.1:0", "--tokens-only"]);
    assert!(failed.contains("scheduler room token create"), "{failed}");
    let failed = house.fails(2, "scheduler", &["room", "--bind", "0.0.0.0:0", "--public"]);
    assert!(failed.contains("scheduler room token create"), "{failed}");
    let failed = house.fails(2, "scheduler", &["room", "--bind", "0.0.0.0:0"]);
    assert!(failed.contains("--public"), "{failed}");

    let admin = token(&house, "ann", "admin");
    let strict = house.room(&["--tokens-only"]);
    let answer = ask(&strict.address, "GET", "/runs?a=%2F", &[], None);
    assert_eq!((answer.status, answer.header("location")), (303, "/login?next=/runs%3Fa%3D%252F"));
    for (path, headers) in [
        ("/api/v1/tokens", &[][..]),
        ("/", &[("x-part", "1")]),
        ("/api/v1/events", &[]),
        ("/api/v1/tokens", &[("authorization", "Bearer")]),
        ("/api/v1/tokens", &[("authorization", "Basic YW5uOmFubg==")]),
        ("/api/v1/tokens", &[("authorization", "Bearer palette_wrong")]),
        ("/api/v1/tokens", &[("cookie", "palette_session=")]),
        ("/api/v1/tokens", &[("cookie", "palette_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]),
    ] {
        let answer = ask(&strict.address, "GET", path, headers, None);
        assert_eq!(answer.status, 401, "{path} {headers:?}: {}", text(&answer));
    }
    assert_eq!(as_(&strict, &admin, "GET", "/api/v1/tokens", None).status, 200);
    for asset in ["/assets/room.css", "/assets/room.js"] {
        assert_eq!(strict.get(asset).status, 200, "the page of tokens needs it");
    }
}

#[test]
fn another_user_of_this_machine_does_not_enter() {
    if !is_root() {
        println!("skipped: only root can be another user");
        return;
    }
    let house = House::new();
    let room = house.room(&[]);
    let script = format!(
        "import os, socket\ns = socket.socket()\nos.setgid(65534); os.setuid(65534)\ns = socket.socket()\n\
         s.connect(('127.0.0.1', {}))\n\
         s.sendall(b'GET /api/v1/tokens HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n')\n\
         print(s.recv(100).split()[1].decode())",
        room.address.rsplit_once(':').unwrap().1
    );
    let run = |script: &str| {
        let output = std::process::Command::new("python3").args(["-c", script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(run(&script), "401");
    assert_eq!(run(&script.replace("os.setgid(65534); os.setuid(65534)", "")), "200");
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

#[test]
fn a_reader_changes_nothing_whatever_they_ask() {
    let house = House::new();
    let (reader, user) = (token(&house, "rae", "reader"), token(&house, "uma", "user"));
    let admin = token(&house, "ann", "admin");
    let room = house.room(&["--tokens-only"]);
    for (method, path) in changes(&room, &reader) {
        let answer = as_(&room, &reader, &method, &path, Some(&json!({})));
        assert_eq!(answer.status, 403, "{method} {path}: {}", text(&answer));
        let answer = ask(&room.address, &method, &path, &[], Some(b"{}"));
        assert_eq!(answer.status, 401, "{method} {path}: {}", text(&answer));
        // The session of a user without the token of its pages, as a page of a stranger has it.
        let (cookie, _) = logged_in(&room, &user);
        for sent in [
            &[("cookie", &*cookie), ("content-type", "application/json")][..],
            &[
                ("cookie", &*cookie),
                ("content-type", "text/plain"),
                ("origin", "http://evil.example"),
            ],
            &[("cookie", &*cookie), ("x-csrf-token", "AAAA"), ("sec-fetch-site", "cross-site")],
        ] {
            let answer = ask(&room.address, &method, &path, sent, Some(b"{}"));
            assert_eq!(answer.status, 403, "{method} {path} {sent:?}: {}", text(&answer));
        }
    }
    // Methods that no page uses.
    for method in ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "BREW"] {
        let answer = as_(&room, &reader, method, "/api/v1/tokens", None);
        assert!([403, 400].contains(&answer.status), "{method}: {}", answer.status);
    }
    // What is for administrators.
    for who in [&reader, &user] {
        assert_eq!(as_(&room, who, "GET", "/api/v1/tokens", None).status, 403);
        assert_eq!(as_(&room, who, "GET", "/tokens", None).status, 403);
    }
    let new = json!({ "name": "eve", "role": "admin" });
    assert_eq!(as_(&room, &user, "POST", "/api/v1/tokens", Some(&new)).status, 403);
    let made = as_(&room, &admin, "POST", "/api/v1/tokens", Some(&new));
    assert_eq!(made.status, 200, "{}", text(&made));
    let eve = made.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(as_(&room, &eve, "GET", "/api/v1/tokens", None).status, 200);
    for wrong in [
        json!({ "name": "a\u{1b}b", "role": "user" }),
        json!({ "name": "a", "role": "root" }),
        json!({ "name": "a", "role": "user", "days": 0 }),
    ] {
        let answer = as_(&room, &admin, "POST", "/api/v1/tokens", Some(&wrong));
        assert_eq!(answer.status, 400, "{wrong}: {}", text(&answer));
    }
}

#[test]
fn the_use_of_a_token_is_noted_by_the_day() {
    let house = House::new();
    let reader = token(&house, "rae", "reader");
    let room = house.room(&[]);
    as_(&room, &reader, "GET", "/", None);
    testkit::until("the use is noted", || {
        house.sql("select count(*) from room_tokens where used_on = current_date").trim() == "1"
    });
}

#[test]
fn a_session_lasts_over_a_restart_and_ends_with_its_token() {
    let house = House::new();
    let user = token(&house, "uma", "user");
    let mut room = house.room(&["--tokens-only", "--secure"]);
    let (cookie, answer) = logged_in(&room, &user);
    assert_eq!((answer.status, answer.header("location")), (303, "/runs"), "{}", text(&answer));
    let set = answer.header("set-cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
        assert!(set.contains(part), "{set}");
    }
    let look = |room: &ControlRoom| ask(&room.address, "GET", "/", &[("cookie", &cookie)], None);
    let page = text(&look(&room));
    assert!(page.contains("uma") && page.contains("Log out"), "{page}");
    let csrf = |page: &str| {
        page.split_once("data-csrf=\"").unwrap().1.split('"').next().unwrap().to_owned()
    };
    let before = csrf(&page);
    room.process.kill();
    let room = house.room_at(&room.address, &["--tokens-only"]);
    assert_eq!(csrf(&text(&look(&room))), before, "an open page goes on");
    // Another home has another key.
    let mode = std::fs::metadata(house.path("home/room/key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    house.ok("scheduler", &["room", "token", "revoke", "uma"]);
    testkit::until("the session is over", || look(&room).status == 303);
    assert_eq!(as_(&room, &user, "GET", "/api/v1/tokens", None).status, 401);
    house.fails(1, "scheduler", &["room", "token", "revoke", "nobody"]);
}

#[test]
fn a_token_is_printed_once_and_kept_nowhere() {
    let house = House::new();
    house
        .ok("scheduler", &["room", "token", "create", "ci", "--role", "user", "--out", "ci.token"]);
    let kept = house.read("ci.token");
    let mode = std::fs::metadata(house.path("ci.token")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    house.fails(
        1,
        "scheduler",
        &["room", "token", "create", "ci", "--role", "user", "--out", "ci.token"],
    );
    assert_eq!(house.read("ci.token"), kept, "a file that is there stays");
    testkit::failed(
        &mut house.command("scheduler", &["room", "token", "create", "ci", "--role", "king"]),
        2,
    );
    let listed = house.json("scheduler", &["room", "token", "list", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let secret = kept.trim().strip_prefix("palette_").unwrap();
    assert!(!listed.to_string().contains(secret));
    let rows = house.sql("select row(t.*)::text from room_tokens t");
    assert!(!rows.contains(secret), "{rows}");
    let room = house.room(&["--tokens-only"]);
    assert_eq!(as_(&room, kept.trim(), "GET", "/", None).status, 200);
    assert_eq!(as_(&room, &kept.trim()[..kept.trim().len() - 1], "GET", "/", None).status, 401);
    assert!(!room.process.said().contains(secret));
}

#[test]
fn who_guesses_waits_and_who_is_in_does_not() {
    let house = House::new();
    let user = token(&house, "uma", "user");
    let room = house.room(&["--tokens-only"]);
    let (cookie, _) = logged_in(&room, &user);
    let statuses: Vec<u16> =
        (0..8).map(|_| as_(&room, "palette_wrong", "GET", "/", None).status).collect();
    assert_eq!(statuses[0], 401);
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(ask(&room.address, "GET", "/", &[("cookie", &*cookie)], None).status, 200);
    assert_eq!(as_(&room, &user, "GET", "/", None).status, 200);
}

#[test]
fn requests_that_mean_harm_get_nothing() {
    let house = House::new();
    let room = house.room(&[]);
    let get = |path: &str, headers: &str| {
        let sent = format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        raw(&room.address, sent.as_bytes()).map_or(0, |answer| answer.status)
    };
    // A name of a stranger that points here (DNS rebinding), none, and two of them.
    for host in [
        "Host: evil.example\r\n",
        "Host: 127.0.0.1.evil.example\r\n",
        "Host: localhost@evil\r\n",
        "Host: \r\n",
        "",
        "Host: localhost\r\nHost: evil.example\r\n",
        "Host: localhost\r\nHost: localhost\r\n",
    ] {
        let status = get("/", host);
        assert!([400, 421].contains(&status), "{host:?}: {status}");
    }
    assert_eq!(get("http://evil.example/", "Host: localhost\r\n"), 421);
    // Paths that lead out.
    for path in [
        "/assets/../Cargo.toml",
        "/assets/..%2f..%2fCargo.toml",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets/%00",
        "/pictures/../../etc/passwd",
        "/pictures/..%2f..%2fetc%2fpasswd",
        "/pictures//etc/passwd",
        "//etc/passwd",
        "/assets/room.js%00.css",
        "/pictures/%ff%fe",
        "/assets/....//....//etc/passwd",
        "/.env",
        "/.git/config",
    ] {
        let status = get(path, "Host: localhost\r\n");
        assert!([400, 404].contains(&status), "{path}: {status}");
    }
    // Two lengths, a length and chunks, a length that is none: what a proxy may read otherwise.
    for head in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding : chunked\r\n",
        " Folded: yes\r\n",
        "Bad\0Name: 1\r\n",
    ] {
        let sent = format!(
            "POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\n{head}\r\nGET /tokens HTTP/1.1\r\nHost: localhost\r\n\r\n"
        );
        let answer = raw(&room.address, sent.as_bytes());
        let said = answer.map(|answer| (answer.status, text(&answer)));
        let refused =
            said.as_ref().is_none_or(|(status, said)| *status >= 400 && !said.contains("200 OK"));
        assert!(refused, "{head:?}: {said:?}");
    }
    // Heads and bodies without an end.
    let large = "x".repeat(1 << 20);
    let status = get("/", &format!("Host: localhost\r\nX-Large: {large}\r\n"));
    assert!([0, 431, 400].contains(&status), "{status}");
    let many = "X-Many: 1\r\n".repeat(5000);
    assert!([0, 431, 400].contains(&get("/", &format!("Host: localhost\r\n{many}"))));
    let status = get(&format!("/{large}"), "Host: localhost\r\n");
    assert!([0, 414, 431, 400].contains(&status), "{status}");
    let (cookie, csrf) = room.session();
    let body = vec![b' '; 8 << 20];
    let answer = raw(&room.address, &[format!("POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\
        X-Csrf-Token: {csrf}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat());
    assert!(answer.is_none_or(|answer| answer.status == 413), "a body that is too long");
    assert_eq!(room.get("/").status, 200, "and the page is there");
}

#[test]
fn no_answer_goes_without_its_guards() {
    let house = House::new();
    let room = house.room(&[]);
    for path in [
        "/",
        "/login",
        "/nowhere",
        "/assets/room.js",
        "/assets/nothing",
        "/api/v1/openapi.json",
        "/api/v1/nothing",
        "/tokens",
    ] {
        let answer = room.get(path);
        let policy = answer.header("content-security-policy");
        for part in
            ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
        {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
        assert_eq!(answer.header("server"), "", "{path}");
        let page = text(&answer);
        if answer.header("content-type").starts_with("text/html") {
            assert!(!page.contains("style=\"") && !page.contains("onclick="), "{path}");
        }
    }
    let refused = ask(&room.address, "GET", "/", &[("host", "evil.example")], None);
    assert!(refused.header("content-security-policy").contains("default-src 'none'"));
}

#[test]
fn two_hundred_pages_stay_open_under_a_flood_of_silent_connections() {
    let house = House::new();
    let room = house.room(&[]);
    let pages: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(&room.address).unwrap();
            stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut head = [0; 12];
            stream.read_exact(&mut head).unwrap();
            assert_eq!(&head, b"HTTP/1.1 200");
            stream
        })
        .collect();
    // Heads that never end, and bodies.
    let _flood: Vec<TcpStream> = (0..700)
        .map(|number| {
            let mut stream = TcpStream::connect(&room.address).unwrap();
            let sent: &[u8] = match number % 2 {
                0 => b"GET / HTTP/1.1\r\nHost: localhost\r\nX-a: ",
                _ => b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\na",
            };
            stream.write_all(sent).unwrap();
            stream
        })
        .collect();
    assert_eq!(room.get("/").status, 200);
    for mut page in pages {
        page.set_nonblocking(false).unwrap();
        let mut some = [0; 64];
        assert!(page.read(&mut some).unwrap() > 0, "the stream goes on");
    }
}
