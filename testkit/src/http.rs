//! HTTP/1.1 over a plain connection, as little as the tests need.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// What came back.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Names in lower case, sorted; without the date.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// A header, empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value)
    }
}

/// Sends a request to `HOST:PORT` and reads the answer; a body is JSON.
pub fn send(address: &str, method: &str, path: &str, body: Option<&str>) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    if let Some(body) = body {
        head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}\r\n{}", body.unwrap_or_default()).as_bytes()).unwrap();
    read(&mut stream)
}

fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let mut head = None;
    let mut buffer = [0; 64 << 10];
    // As much as the length says: not everyone closes the connection when asked to.
    loop {
        if head.is_none() {
            head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        }
        if let Some(head) = head {
            let answer = parse(&bytes, head);
            let length = answer.header("content-length").parse().unwrap_or(0);
            if answer.body.len() >= length {
                return answer;
            }
        }
        match stream.read(&mut buffer).unwrap() {
            0 => panic!("the connection ended early"),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

fn parse(bytes: &[u8], head: usize) -> Answer {
    let text = std::str::from_utf8(&bytes[..head]).unwrap();
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .filter(|(name, _)| name != "date")
        .collect();
    headers.sort();
    Answer { status, headers, body: bytes[head + 4..].to_vec() }
}
