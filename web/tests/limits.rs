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

struct Server {
    runtime: Runtime,
    address: SocketAddr,
    end: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
}

fn start(limits: Limits) -> Server {
    let runtime = Runtime::new().unwrap();
    let router = Router::new()
        .route("/", get(async || "here"))
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

const HALF: &str = "GET / HTTP/1.1\r\nHost: x\r\nX-a: ";

#[test]
fn a_flood_of_silent_connections_keeps_the_page_from_nobody() {
    let limits = Limits { head: LONG, request: LONG, connection: LONG, ..Limits::of(8) };
    let server = start(limits);
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
    let server = start(Limits { head: LONG, request: LONG, connection: LONG, ..Limits::of(8) });
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
