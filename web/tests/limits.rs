//! Real sockets against the limits.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use web::{Limits, serve};

const BLINK: Duration = Duration::from_millis(200);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(300);

/// An answer of which the system's buffers hold less than a quarter.
const LARGE: usize = 64 << 20;

struct Server {
    runtime: Runtime,
    address: SocketAddr,
    end: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
}

fn start(limits: Limits) -> Server {
    let runtime = Runtime::new().unwrap();
    let large = Bytes::from(vec![b'x'; LARGE]);
    let router = Router::new()
        .route("/", get(async || "here"))
        .route("/never", get(std::future::pending::<()>))
        .route("/large", get(async move || large))
        .route("/body", post(async |body: Bytes| format!("{} bytes", body.len())));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel();
    let serving = runtime.spawn(serve(listener, router, limits, async {
        let _ = ended.await;
    }));
    Server { runtime, address, end, serving }
}

fn open(address: SocketAddr, sent: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(sent.as_bytes()).unwrap();
    stream
}

/// All that comes until the server closes.
fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "still open"),
    }
    String::from_utf8(text).unwrap()
}

fn page(address: SocketAddr) -> String {
    rest(open(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

/// So many connections, and more time than any test takes.
fn patient(connections: usize) -> Limits {
    Limits { head: LONG, request: LONG, connection: LONG, ..Limits::of(connections) }
}

const HALF: &str = "GET / HTTP/1.1\r\nHost: x\r\nX-a: ";

#[test]
fn a_flood_of_silent_connections_keeps_the_page_from_nobody() {
    let server = start(patient(8));
    let flood: Vec<TcpStream> = (0..100).map(|_| open(server.address, HALF)).collect();
    assert!(page(server.address).ends_with("here"));
    let mut open = 0;
    for stream in &flood {
        stream.set_nonblocking(true).unwrap();
        let still = stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        open += usize::from(still);
    }
    assert!(open <= 8, "{open} of 100 are open");
}

/// Requests that end in the middle of their body, and answers that nobody reads.
#[test]
fn a_flood_of_requests_that_go_no_further_keeps_the_page_from_nobody() {
    let server = start(patient(8));
    for request in [
        "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nfour",
        "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n",
        "GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let flood: Vec<TcpStream> = (0..40).map(|_| open(server.address, request)).collect();
        for _ in 0..10 {
            assert!(page(server.address).ends_with("here"), "{request}");
        }
        drop(flood);
    }
}

/// Many come while the server does something else; whoever has asked by then is answered, and makes room after.
#[test]
fn of_many_at_one_go_all_are_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let asked: Vec<TcpStream> =
        (0..40).map(|_| open(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    let (end, ended) = oneshot::channel::<()>();
    let readers = std::thread::spawn(move || {
        for mut stream in asked {
            let mut answer = [0; 15];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
        }
        drop(end);
    });
    let router = Router::new().route("/", get(async || "here"));
    runtime.block_on(serve(listener, router, patient(8), async {
        let _ = ended.await;
    }));
    readers.join().unwrap();
}

/// Who reads its answer, if slowly, keeps the connection while others open more than there may be.
#[test]
fn a_flood_takes_no_answer_from_who_reads_it() {
    let server = start(patient(8));
    let mut reader = open(server.address, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut flood = Vec::new();
    let mut part = vec![0; LARGE / 4];
    for _ in 0..4 {
        reader.read_exact(&mut part).unwrap();
        flood.extend((0..4).map(|_| open(server.address, HALF)));
        assert!(page(server.address).ends_with("here"));
    }
}

/// A thousand requests sent at one go; others are answered beside them, and at last they end.
#[test]
fn a_flood_of_requests_at_one_go_keeps_the_page_from_nobody() {
    let server = start(patient(8));
    let many = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()
        + &"GET /never HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let flood: Vec<TcpStream> = (0..40).map(|_| open(server.address, &many)).collect();
    for _ in 0..20 {
        assert!(page(server.address).ends_with("here"));
    }
    drop(flood);
    let answers = rest(open(server.address, &"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000)));
    assert_eq!(answers.matches("200 OK").count(), Limits::of(8).requests);
}

/// What no browser and no Prometheus sends. The connection ends with it, so that nothing that follows is taken for a
/// request of its own; where more was sent than the server reads, its answer may be lost on the way.
#[test]
fn requests_of_doubtful_form_end_their_connection() {
    let server = start(patient(8));
    let head = |lines: &str| format!("POST /body HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let next = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    for (what, sent, status) in [
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "400"),
        ("many fields", head(&many), "431"),
        ("a long field", head(&format!("X: {}\r\n", "x".repeat(100_000))), "431"),
        ("a long address", format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)), "431"),
        ("two lengths", head("Content-Length: 3\r\nContent-Length: 4\r\n") + "four", "400"),
        ("a length that is not a number", head("Content-Length: +4\r\n") + "four", "400"),
        ("another encoding", head("Transfer-Encoding: chunked, gzip\r\n") + "0\r\n\r\n", "400"),
        ("a folded field", head("X: a\r\n b\r\n"), "400"),
        ("a field without a name", head(": a\r\n"), "400"),
        ("a zero byte", head("X: a\0b\r\n"), "400"),
        // As RFC 9112 asks: the chunks count, and the connection ends.
        ("both lengths", head(&format!("Content-Length: 4\r\n{chunked}")) + "0\r\n\r\n", "200"),
        ("both, swapped", head(&format!("{chunked}Content-Length: 4\r\n")) + "0\r\n\r\n", "200"),
    ] {
        let answer = rest(open(server.address, &(sent + next)));
        let refused = status != "200" && answer.is_empty();
        assert!(refused || answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert!(answer.matches("HTTP/1.1").count() <= 1, "{what}: {answer}");
    }
}

#[test]
fn heads_bodies_and_silence_have_their_times() {
    let server = start(Limits { head: BLINK, request: BLINK, connection: LONG, ..Limits::of(8) });
    assert!(!rest(open(server.address, HALF)).contains("200 OK"));
    assert_eq!(rest(open(server.address, "")), "");
    let asked = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    assert!(rest(open(server.address, asked)).ends_with("here"), "closed before the answer");
    let body = "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nfour";
    let answer = rest(open(server.address, body));
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(page(server.address).ends_with("here"));
}

#[test]
fn a_connection_ends_also_where_its_client_never_stops() {
    let server = start(Limits { head: LONG, request: LONG, connection: BLINK, ..Limits::of(8) });
    let mut stream = open(server.address, "");
    let asked = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut answers = 0;
    let mut buffer = [0; 4096];
    while stream.write_all(asked.as_bytes()).is_ok()
        && stream.read(&mut buffer).is_ok_and(|count| count > 0)
    {
        answers += 1;
    }
    assert!(answers > 0);
}

#[test]
fn the_end_waits_for_what_is_under_way_and_for_no_idle_connection() {
    let server = start(patient(8));
    let idle = open(server.address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut first = [0; 4];
    (&idle).read_exact(&mut first).unwrap();
    let mut asked = open(
        server.address,
        "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    );
    // The handler reads the body, so that the request is under way.
    let mut begun = [0; 12];
    asked.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 100");
    server.end.send(()).unwrap();
    asked.write_all(b"nine byte").unwrap();
    assert!(rest(asked).ends_with("9 bytes"));
    assert!(rest(idle).ends_with("here"));
    server.runtime.block_on(server.serving).unwrap();
    assert!(TcpStream::connect(server.address).is_err(), "it still listens");
}
