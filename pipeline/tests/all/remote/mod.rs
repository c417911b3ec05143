//! Sources that are far away: servers that misbehave, as servers and networks do, and a real S3 server.
//! What comes of them is what comes of the same files on a disk, byte for byte, or nothing.

mod objects;
mod server;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::common::{self, fails_with, run_ok, scenes_folder};
use server::{Act, Request, Served, Server};

/// Reads a manifest, which names every shard's digest.
fn manifest(dataset: &Path) -> String {
    fs::read_to_string(dataset.join("manifest.json")).unwrap()
}

/// The program; nothing between it and the servers.
fn pipeline() -> Command {
    let mut command = common::pipeline();
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    command
}

/// An ingest with several shards, and no patience.
fn ingest(source: &str, out: &Path) -> Command {
    let mut command = pipeline();
    command.args(["ingest", source, "--shard-bytes", "65536", "--workers", "2"]);
    command.args(["--source-timeout", "1", "--source-patience", "1", "--out"]).arg(out);
    command
}

/// A tar of photographs, what an ingest of it from the disk gives, and a folder to work in.
struct Photographs {
    folder: tempfile::TempDir,
    tar: Vec<u8>,
    expected: String,
}

impl Photographs {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scenes = scenes_folder(folder.path(), 90, 64);
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_dir_all("scenes", &scenes).unwrap();
        let tar = builder.into_inner().unwrap();
        let path = folder.path().join("photographs.tar");
        fs::write(&path, &tar).unwrap();
        let out = folder.path().join("local");
        run_ok(&mut ingest(path.to_str().unwrap(), &out));
        let expected = manifest(&out);
        let shards = expected.matches("\"file\"").count();
        assert!(shards > 3 && tar.len() > 400_000, "{shards} shards, {} bytes", tar.len());
        Self { folder, tar, expected }
    }

    fn server(&self) -> Server {
        let server = Server::start();
        server.serve("/photographs.tar", Served::new(self.tar.clone()));
        server
    }

    /// The photographs in every form that is read.
    fn forms(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&self.tar).unwrap();
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let mut tar = tar::Archive::new(self.tar.as_slice());
        for mut entry in tar.entries().unwrap().map(Result::unwrap) {
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            if entry.header().entry_type().is_file() {
                zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
                std::io::copy(&mut entry, &mut zip).unwrap();
            }
        }
        let shards = fs::read_dir(self.path("local/data")).unwrap();
        let shard = shards.map(|shard| shard.unwrap().path()).min().unwrap();
        vec![
            ("a.tar", self.tar.clone()),
            ("a.tar.gz", gzip.finish().unwrap()),
            ("a.tar.zst", zstd::encode_all(self.tar.as_slice(), 1).unwrap()),
            ("a.zip", zip.finish().unwrap().into_inner()),
            ("train-00000-of-00001.parquet", fs::read(shard).unwrap()),
        ]
    }

    /// Another tar of the same length; the last photograph differs.
    fn other(&self) -> Vec<u8> {
        let mut other = self.tar.clone();
        let last = other.len() - 3000;
        other[last] ^= 1;
        other
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Ingests what this server has, by this rule, and compares. Gives the requests.
    fn same(
        &self,
        server: &Server,
        rule: impl Fn(&Request) -> Act + Send + 'static,
    ) -> Vec<Request> {
        let out = tempfile::tempdir_in(&self.folder).unwrap();
        server.rule(rule);
        server.requests();
        let source = format!("http://{}/photographs.tar", server.address);
        run_ok(&mut ingest(&source, out.path()));
        assert!(manifest(out.path()) == self.expected, "another dataset");
        server.requests()
    }

    /// The error of an ingest that must end with this status, and without a dataset.
    fn fails(
        &self,
        server: &Server,
        status: i32,
        rule: impl Fn(&Request) -> Act + Send + 'static,
    ) -> String {
        let out = tempfile::tempdir_in(&self.folder).unwrap();
        server.rule(rule);
        server.requests();
        let source = format!("http://me:hunter2@{}/photographs.tar?hunter2", server.address);
        let message = fails_with(&mut ingest(&source, out.path()), status);
        assert!(!out.path().join("manifest.json").exists(), "{message}");
        let name = format!("http://{}/photographs.tar", server.address);
        assert!(message.contains(&name) && !message.contains("hunter2"), "{message}");
        message
    }
}

/// Cuts the body of every answer that is long.
fn cut(request: &Request) -> Act {
    Act { cut: Some(if request.is_look() { 1 } else { 30_000 }), ..Act::default() }
}

#[test]
fn archives_are_the_same_from_a_server_as_from_a_disk() {
    let photographs = Photographs::new();
    let server = Server::start();
    let mut forms = photographs.forms();
    forms.push(("with a space é.tar", photographs.tar.clone()));
    // Every body is cut off, so that all readers are taken up again.
    server.rule(cut);
    for (number, (name, bytes)) in forms.into_iter().enumerate() {
        let file = photographs.path(name);
        fs::write(&file, &bytes).unwrap();
        let encoded = name.replace(' ', "%20").replace('é', "%C3%A9");
        server.serve(&format!("/x/{encoded}"), Served::new(bytes));
        let (near, far) =
            (photographs.path(&format!("near{number}")), photographs.path(&format!("far{number}")));
        run_ok(&mut ingest(file.to_str().unwrap(), &near));
        run_ok(&mut ingest(&format!("http://{}/x/{encoded}", server.address), &far));
        assert!(manifest(&near) == manifest(&far), "{name}");
        assert!(manifest(&near).contains(&format!("\"name\": \"{name}\"")), "{name}");
    }
}

#[test]
fn a_server_that_is_gone_is_no_damage_of_its_files() {
    let photographs = Photographs::new();
    let server = Server::start();
    for (number, (name, bytes)) in photographs.forms().into_iter().enumerate() {
        server.serve(&format!("/{name}"), Served::new(bytes));
        let source = format!("http://{}/{name}", server.address);
        server.rule(cut);
        server.requests();
        run_ok(&mut ingest(&source, &photographs.path(&format!("whole{number}"))));
        let all = server.requests().len();
        // It is gone for good after some of the requests, in either pass.
        for after in [all / 2, all - 1] {
            server.requests();
            server.rule(move |request| match request.number < after {
                true => cut(request),
                false => Act { only: Some((503, String::new())), ..Act::default() },
            });
            let out = photographs.path(&format!("gone{number}-{after}"));
            let message = fails_with(&mut ingest(&source, &out), 1);
            assert!(message.contains("given up after"), "{name} after {after}: {message}");
            assert!(message.contains("answers 503") && message.contains(&source), "{message}");
            assert!(!out.join("manifest.json").exists(), "{name} after {after}");
            // Then it is back, and what there was of it is no reject.
            server.rule(|_| Act::default());
            run_ok(&mut ingest(&source, &out));
            assert!(manifest(&out) == manifest(&photographs.path(&format!("whole{number}"))));
        }
    }
}

#[test]
fn a_broken_connection_is_taken_up_at_its_byte() {
    let photographs = Photographs::new();
    let server = photographs.server();
    let length = photographs.tar.len();
    let requests = photographs.same(&server, cut);
    assert!(requests[0].is_look() && !requests[0].headers.contains_key("if-match"));
    for request in &requests {
        assert_eq!(request.headers["accept-encoding"], "identity");
        assert!(!request.headers.contains_key("referer"));
    }
    let starts: Vec<usize> =
        requests[1..].iter().map(|request| request.range().unwrap().0).collect();
    for request in &requests[1..] {
        assert_eq!(request.headers["if-match"], "\"first\"", "{request:?}");
    }
    // The last pass reads it all, each time from where it broke.
    let last: Vec<usize> = (0..length).step_by(30_000).collect();
    let is_last = starts.windows(last.len()).any(|starts| starts == last);
    assert!(is_last, "{starts:?}");

    // Nothing comes any more, again and again.
    let stall = |request: &Request| Act {
        stall: (!request.is_look()).then_some(200_000),
        ..Act::default()
    };
    let requests = photographs.same(&server, stall);
    let starts: Vec<usize> = requests.iter().map(|request| request.range().unwrap().0).collect();
    assert!(starts.windows(2).any(|two| two[1] == two[0] + 200_000), "{starts:?}");

    // The first bytes of each answer are all that comes, after an error each time.
    let moody = |request: &Request| match request.number % 3 {
        0 => Act { only: Some((503, String::new())), ..Act::default() },
        1 => Act { only: Some((429, "Retry-After: 0\r\n".into())), ..Act::default() },
        _ => Act { cut: Some(150_000), ..Act::default() },
    };
    photographs.same(&server, moody);
}

#[test]
fn a_file_without_etag_is_known_by_its_time() {
    let photographs = Photographs::new();
    let server = Server::start();
    let monday = "Mon, 05 Jan 2026 00:00:00 GMT";
    let served = Served {
        tag: Some("W/\"weak\"".into()),
        modified: Some(monday.into()),
        ..Served::new(photographs.tar.clone())
    };
    server.serve("/photographs.tar", served.clone());
    let requests = photographs.same(&server, cut);
    assert!(requests[1..].iter().all(|request| {
        request.headers["if-unmodified-since"] == monday
            && !request.headers.contains_key("if-match")
    }));
    let none = Served { tag: None, modified: None, ..served };
    server.serve("/photographs.tar", none);
    let message = photographs.fails(&server, 2, |_| Act::default());
    assert!(message.contains("neither ETag nor Last-Modified"), "{message}");
}

#[test]
fn a_server_without_ranges_is_read_from_the_start_again() {
    let photographs = Photographs::new();
    let server = photographs.server();
    // Each answer breaks off further on.
    let length = photographs.tar.len();
    let further = move |request: &Request| Act {
        whole: true,
        cut: Some((50_000 * request.number).min(length)),
        ..Act::default()
    };
    let requests = photographs.same(&server, further);
    assert!(requests[1..].iter().all(|request| request.range().is_none()));
    assert!(requests.len() > length / 50_000, "{}", requests.len());

    // One that knew ranges and knows them no more.
    let forgetful = |request: &Request| Act {
        whole: request.number > 4,
        cut: (request.number <= 4).then_some(60_000),
        ..Act::default()
    };
    photographs.same(&server, forgetful);

    // One that always breaks off at the same place gets no further.
    let always = |_: &Request| Act { whole: true, cut: Some(100_000), ..Act::default() };
    let message = photographs.fails(&server, 1, always);
    let byte = message.split("at byte ").nth(1).and_then(|rest| rest.split(' ').next());
    let byte: usize = byte.expect(&message).parse().unwrap();
    assert!((100_000..130_000).contains(&byte), "{message}");
    assert!(message.contains("given up after") && message.contains(&format!(" of {length}")));

    // What is read in parts cannot be read without them.
    server.serve("/photographs.tar", Served::new(b"PK\x03\x04 and so on".to_vec()));
    let message =
        photographs.fails(&server, 1, |_: &Request| Act { whole: true, ..Act::default() });
    assert!(message.contains("is a zip, which is read in parts"), "{message}");
}

#[test]
fn a_file_that_is_replaced_meanwhile_is_an_error() {
    let photographs = Photographs::new();
    let server = photographs.server();
    let other = photographs.other();
    let replaced = Served { tag: Some("\"second\"".into()), ..Served::new(other) };
    for (whole, careless) in [(false, false), (false, true), (true, false), (true, true)] {
        // The file becomes another one after a few requests, with the same length.
        let first = Served::new(photographs.tar.clone());
        server.serve("/photographs.tar", first);
        let message = {
            let out = tempfile::tempdir_in(&photographs.folder).unwrap();
            let source = format!("http://{}/photographs.tar", server.address);
            let (address, replaced) = (server.address.clone(), replaced.clone());
            server.requests();
            let change = server.changer();
            server.rule(move |request| {
                if request.number == 4 {
                    change.serve("/photographs.tar", replaced.clone());
                }
                Act { whole, careless, cut: Some(100_000), ..Act::default() }
            });
            let message = fails_with(&mut ingest(&source, out.path()), 2);
            assert!(message.contains(&address) && !out.path().join("manifest.json").exists());
            message
        };
        assert!(message.contains("is another file than the one that was begun"), "{message}");
        let how = if careless { "its ETag was \"first\", is \"second\"" } else { "412" };
        assert!(message.contains(how), "{message}");
    }
}

#[test]
fn a_server_that_lies_is_not_believed() {
    let photographs = Photographs::new();
    let server = photographs.server();
    let length = photographs.tar.len();
    // More bytes are promised than come: that is never the end of the file.
    let longer = move |_: &Request| Act {
        whole: true,
        lie: Some((length + 512).to_string()),
        ..Act::default()
    };
    let message = photographs.fails(&server, 1, longer);
    let expected = format!("at byte {length} of {}", length + 512);
    assert!(message.contains(&expected), "{message}");
    let lies = [
        (format!("7-99999/{length}"), "sends other bytes than it was asked for", 1),
        ("nothing".to_owned(), "does not say which", 1),
    ];
    for (lie, expected, status) in lies {
        let rule = move |request: &Request| Act {
            lie: (!request.is_look()).then(|| lie.clone()),
            ..Act::default()
        };
        let message = photographs.fails(&server, status, rule);
        assert!(message.contains(expected), "{message}");
    }
    // A file that ends before the archive does.
    let shorter = move |request: &Request| {
        let (start, end) = request.range().unwrap();
        let lie = format!("{start}-{}/{}", end.min(length / 2) - 1, length / 2);
        Act { lie: Some(lie), ..Act::default() }
    };
    let message = photographs.fails(&server, 1, shorter);
    assert!(message.contains("ends early") || message.contains("more bytes"), "{message}");
    let unknown = |_: &Request| Act { whole: true, lie: Some("none".into()), ..Act::default() };
    let message = photographs.fails(&server, 2, unknown);
    assert!(message.contains("Content-Length"), "{message}");
}

#[test]
fn what_is_packed_on_the_way_is_refused() {
    let photographs = Photographs::new();
    let server = photographs.server();
    let packed = |encoding: &str| Act {
        headers: format!("Content-Encoding: {encoding}\r\n"),
        ..Act::default()
    };
    for encoding in ["gzip", "br", "zstd"] {
        let message = photographs.fails(&server, 2, move |_| packed(encoding));
        assert!(message.contains(&format!("Content-Encoding: {encoding}")), "{message}");
    }
    photographs.same(&server, move |_| packed("identity"));
    // Some servers say of a file that is a .tar.gz that it is packed; then it is the file that is.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&photographs.tar).unwrap();
    server.serve("/photographs.tar.gz", Served::new(gzip.finish().unwrap()));
    server.rule(move |_| packed("x-gzip"));
    let out = photographs.path("gzip");
    let source = format!("http://{}/photographs.tar.gz", server.address);
    run_ok(&mut ingest(&source, &out));
    let rows = |manifest: &str| serde_json::from_str::<Value>(manifest).unwrap()["rows"].clone();
    assert_eq!(rows(&manifest(&out)), rows(&photographs.expected));
}

#[test]
fn redirects_are_followed_where_they_are_safe() {
    let photographs = Photographs::new();
    let (server, other) = (photographs.server(), photographs.server());
    let to = |to: String| {
        move |_: &Request| Act {
            only: Some((302, format!("Location: {to}\r\n"))),
            ..Act::default()
        }
    };
    let target = format!("http://{}/photographs.tar?signature=hunter2", other.address);
    photographs.same(&server, to(target));
    let asked = other.requests();
    assert!(
        !asked.is_empty()
            && asked.iter().all(|request| {
                let secret = ["referer", "authorization"]
                    .iter()
                    .any(|name| request.headers.contains_key(*name));
                request.target == "/photographs.tar?signature=hunter2" && !secret
            })
    );
    for (target, expected) in [
        ("http://192.0.2.1/photographs.tar?hunter2", "http:// on another machine"),
        ("ftp://192.0.2.1/photographs.tar?hunter2", "redirect"),
        ("/photographs.tar?hunter2", "more than 10 redirects"),
    ] {
        let message = photographs.fails(&server, 2, to(target.to_owned()));
        assert!(message.contains(expected), "{target}: {message}");
    }
    let empty = |_: &Request| Act { only: Some((302, String::new())), ..Act::default() };
    let message = photographs.fails(&server, 2, empty);
    assert!(message.contains("302"), "{message}");
}

/// A server within a worker's roots may send its clients anywhere: into the laboratory's own network, too.
#[test]
fn no_redirect_leads_out_of_the_roots_of_a_worker() {
    let photographs = Photographs::new();
    let (server, other) = (photographs.server(), photographs.server());
    let address = |server: &Server| format!("http://{}", server.address);
    let location = format!("Location: {}/photographs.tar\r\n", address(&other));
    server.rule(move |_| Act { only: Some((302, location.clone())), ..Act::default() });
    let bounded = |name: &str, roots: &[String]| {
        let out = photographs.path(name);
        fs::create_dir(&out).unwrap();
        let write = [photographs.folder.path()];
        let roots = json!({"read": [], "write": write, "read_far": roots, "write_far": []});
        let mut command = ingest(&format!("{}/photographs.tar", address(&server)), &out);
        command.env("PALETTE_ROOTS", roots.to_string()).env("TMPDIR", &out);
        (command, out)
    };
    let (mut command, out) = bounded("one", &[address(&server)]);
    let message = fails_with(&mut command, 2);
    assert!(message.contains("it redirects out of the roots of this worker"), "{message}");
    assert!(other.requests().is_empty() && !out.join("manifest.json").exists());
    let (mut command, out) = bounded("both", &[address(&server), address(&other)]);
    run_ok(&mut command);
    assert!(manifest(&out) == photographs.expected, "another dataset");
}

#[test]
fn what_is_not_there_or_not_safe_is_refused_by_name() {
    let photographs = Photographs::new();
    let server = photographs.server();
    for (status, expected) in [
        (404, "there is no such file"),
        (410, "no such file"),
        (403, "may not be read"),
        (401, "may not be read"),
        (400, "answers 400"),
    ] {
        let only = move |_: &Request| Act { only: Some((status, String::new())), ..Act::default() };
        let message = photographs.fails(&server, 2, only);
        assert!(message.contains(expected), "{message}");
        assert_eq!(server.requests().len(), 1, "it is not asked again");
    }
    let busy = |_: &Request| Act { only: Some((503, String::new())), ..Act::default() };
    let message = photographs.fails(&server, 1, busy);
    assert!(message.contains("503") && message.contains("given up after"), "{message}");

    let out = photographs.path("never");
    let nobody = {
        // A port that was just free.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for (source, status, expected) in [
        (format!("http://{nobody}/a.tar?hunter2"), 1, "given up after 4 tries"),
        ("http://192.0.2.1/a.tar?hunter2".into(), 2, "--plain-http"),
        ("https://host/?hunter2".into(), 2, "names a server and no file"),
        ("https://me:hunter2@host:x/a.tar?hunter2".into(), 2, "invalid port"),
        ("ftp://host/a.tar".into(), 2, "https://HOST/PATH"),
    ] {
        let message = fails_with(&mut ingest(&source, &out), status);
        assert!(message.contains(expected) && !message.contains("hunter2"), "{message}");
    }
    for list in ["--labels", "--classes"] {
        let mut command = ingest(&format!("http://{}/photographs.tar", server.address), &out);
        let stderr = testkit::failed(command.args([list, "s3://bucket/list.txt"]), 2);
        assert!(stderr.contains("is not on this machine"), "{stderr}");
    }
    assert!(!out.exists());
}

#[test]
fn a_killed_ingest_goes_on_with_a_new_signature_and_ends_the_same() {
    let photographs = Photographs::new();
    let server = photographs.server();
    let out = photographs.path("killed");
    let source = |signature: &str| {
        let at = &server.address;
        format!("http://me:hunter2@{at}/photographs.tar?signature={signature}")
    };
    // The pass that reads it all stalls in the middle, which is when it is killed.
    let half = photographs.tar.len() * 3 / 4;
    let begun = AtomicUsize::new(0);
    server.rule(move |request| {
        let (start, end) = request.range().unwrap();
        // The start is looked at, then it is looked through, then its start and all of it are read.
        let begun =
            begun.fetch_add(usize::from(start == 0 && !request.is_look()), Ordering::Relaxed);
        let stalls = begun + usize::from(start == 0) >= 5 && end > half;
        Act { stall: stalls.then_some(half.saturating_sub(start)), ..Act::default() }
    });
    let mut command = pipeline();
    command.args(["ingest", &source("hunter2"), "--shard-bytes", "65536", "--workers", "2"]);
    command.args(["--layout", "folder", "--source-timeout", "600", "--verbose", "--out"]).arg(&out);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    testkit::until("a shard is finished", || {
        assert!(child.try_wait().unwrap().is_none(), "it stalls");
        out.join(".ingest/00000.json").exists()
    });
    child.kill().unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(!out.join("manifest.json").exists());
    let plan = fs::read_to_string(out.join(".ingest/plan.json")).unwrap();
    assert!(!said.contains("hunter2") && !plan.contains("hunter2"), "{said} {plan}");

    // It is another file now: nothing is mixed.
    let other = photographs.other();
    let first = Served::new(photographs.tar.clone());
    let second = Served { tag: Some("\"second\"".into()), ..Served::new(other) };
    server.rule(|_| Act::default());
    server.serve("/photographs.tar", second.clone());
    let message = fails_with(&mut ingest(&source("hunter3"), &out), 2);
    assert!(
        message.contains("holds an unfinished ingest") && message.contains("ETag"),
        "{message}"
    );

    server.serve("/photographs.tar", first.clone());
    let output = ingest(&source("hunter4"), &out).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("goes on after"), "{said}");
    assert!(manifest(&out) == photographs.expected);
    let made = fs::read_to_string(out.join("ingest.json")).unwrap();
    let made: Value = serde_json::from_str(&made).unwrap();
    let expected = format!("http://{}/photographs.tar", server.address);
    assert_eq!(made["sources"][0]["address"], expected.as_str());
    assert_eq!(made["sources"][0]["etag"], "\"first\"");

    // Finished: the same again does nothing, also where only the ETag is another one.
    let finished = |served: Served| {
        server.serve("/photographs.tar", served);
        ingest(&source("hunter5"), &out).output().unwrap()
    };
    for (tag, compared) in [("\"first\"", false), ("\"again\"", true)] {
        let output = finished(Served { tag: Some(tag.into()), ..first.clone() });
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.contains("is finished already"), "{said}");
        assert_eq!(said.contains("its content is compared"), compared, "{said}");
    }
    let output = finished(second);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("already holds a finished dataset") && !said.contains("hunter"),
        "{said}"
    );
    assert!(manifest(&out) == photographs.expected);
}
