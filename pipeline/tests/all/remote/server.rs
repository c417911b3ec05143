//! A web server that can be told to misbehave. It answers one request a connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A file that is served.
#[derive(Clone)]
pub struct Served {
    pub bytes: Arc<Vec<u8>>,
    pub tag: Option<String>,
    pub modified: Option<String>,
}

impl Served {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Arc::new(bytes), tag: Some("\"first\"".into()), modified: None }
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// How many came before.
    pub number: usize,
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    /// The first byte of the range that is asked for, and one after the last.
    pub fn range(&self) -> Option<(usize, usize)> {
        let (start, last) = self.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((start.parse().unwrap(), last.parse::<usize>().map_or(usize::MAX, |last| last + 1)))
    }

    /// True for the question what a file is, by its first byte.
    pub fn is_look(&self) -> bool {
        self.range() == Some((0, 1)) || self.method == "HEAD"
    }
}

/// How a request is answered. By default well.
#[derive(Clone, Default)]
pub struct Act {
    /// This status and these headers alone.
    pub only: Option<(u16, String)>,
    /// Closes the connection after this number of bytes of the body.
    pub cut: Option<usize>,
    /// Stops sending after this number of bytes of the body, until the client disconnects.
    pub stall: Option<usize>,
    /// Knows nothing of ranges.
    pub whole: bool,
    /// Knows nothing of conditions.
    pub careless: bool,
    /// Further headers.
    pub headers: String,
    /// Says another length, of the body or of the part that it is of.
    pub lie: Option<String>,
}

type Rule = Box<dyn Fn(&Request) -> Act + Send>;

struct State {
    files: Mutex<BTreeMap<String, Served>>,
    rule: Mutex<Rule>,
    requests: Mutex<Vec<Request>>,
}

pub struct Server {
    pub address: String,
    state: Arc<State>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            files: Mutex::default(),
            rule: Mutex::new(Box::new(|_| Act::default())),
            requests: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                // What a client no longer wants to hear is no failure.
                std::thread::spawn(move || answer(&state, stream.unwrap()).ok());
            }
        });
        Self { address, state }
    }

    /// Serves a file at a path such as `/a.tar`.
    pub fn serve(&self, path: &str, file: Served) {
        self.state.files.lock().unwrap().insert(path.to_owned(), file);
    }

    /// What a rule may change the files by.
    pub fn changer(&self) -> Self {
        Self { address: self.address.clone(), state: Arc::clone(&self.state) }
    }

    /// Answers by this rule from now on.
    pub fn rule(&self, rule: impl Fn(&Request) -> Act + Send + 'static) {
        *self.state.rule.lock().unwrap() = Box::new(rule);
    }

    /// What was asked since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.state.requests.lock().unwrap())
    }
}

fn answer(state: &State, stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = reader.by_ref().lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return Ok(()) };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let headers = lines
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    let request = {
        let mut requests = state.requests.lock().unwrap();
        let request = Request { number: requests.len(), method, target, headers };
        requests.push(request.clone());
        request
    };
    let act = (state.rule.lock().unwrap())(&request);
    let path = request.target.split('?').next().unwrap();
    let file = state.files.lock().unwrap().get(path).cloned();
    send(&request, &act, file, stream)
}

fn send(
    request: &Request,
    act: &Act,
    file: Option<Served>,
    mut stream: TcpStream,
) -> std::io::Result<()> {
    let mut only = |status: u16, headers: &str| {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{headers}");
        stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())
    };
    if let Some((status, headers)) = &act.only {
        return only(*status, headers);
    }
    let Some(file) = file else { return only(404, "") };
    let matches = request.headers.get("if-match").is_none_or(|tag| Some(tag) == file.tag.as_ref());
    let since = request.headers.get("if-unmodified-since");
    let unchanged = since.is_none_or(|since| Some(since) == file.modified.as_ref());
    if !(act.careless || matches && unchanged) {
        return only(412, "");
    }
    let length = file.bytes.len();
    let range = request.range().filter(|_| !act.whole);
    let (start, end) = range.map_or((0, length), |(start, end)| (start, end.min(length)));
    if range.is_some() && start >= length {
        return only(416, &format!("Content-Range: bytes */{length}\r\n"));
    }
    let body = &file.bytes[start..end];
    let mut head = match (range, &act.lie) {
        (None, _) => "HTTP/1.1 200 OK\r\n".to_owned(),
        (Some(_), Some(lie)) => {
            format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {lie}\r\n")
        }
        (Some(_), None) => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{length}\r\n",
            end - 1
        ),
    };
    match (range, act.lie.as_deref()) {
        (None, Some("none")) => {}
        (None, Some(lie)) => head += &format!("Content-Length: {lie}\r\n"),
        _ => head += &format!("Content-Length: {}\r\n", body.len()),
    }
    for (name, value) in [("ETag", &file.tag), ("Last-Modified", &file.modified)] {
        if let Some(value) = value {
            head += &format!("{name}: {value}\r\n");
        }
    }
    stream.write_all(format!("{head}{}Connection: close\r\n\r\n", act.headers).as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let count = act.cut.or(act.stall).unwrap_or(body.len()).min(body.len());
    stream.write_all(&body[..count])?;
    if act.stall.is_some_and(|most| most < body.len()) {
        // Until the client closes the connection.
        std::io::copy(&mut stream, &mut std::io::sink())?;
    }
    Ok(())
}
