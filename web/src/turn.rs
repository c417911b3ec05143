//! Whose turn it is on a connection. The client that makes the server wait longest makes room for others, whatever it
//! leaves undone: a request's head, its body, or the reading of an answer.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Whose turn it is, and how many the server had.
#[derive(Clone)]
pub struct Turn(Arc<Mutex<State>>);

struct State {
    /// Since when the server waits for the client; none while the client waits for the server.
    waiting: Option<Instant>,
    answered: usize,
}

impl Turn {
    /// The client's, from now on.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State { waiting: Some(Instant::now()), answered: 0 })))
    }

    /// Since when the server waits for the client, if it does.
    pub fn waiting(&self) -> Option<Instant> {
        self.lock().waiting
    }

    /// Requests that were answered.
    pub fn answered(&self) -> usize {
        self.lock().answered
    }

    /// A request was answered: the client's turn. Gives how many were by now.
    pub fn answer(&self) -> usize {
        let mut state = self.lock();
        state.waiting = Some(Instant::now());
        state.answered += 1;
        state.answered
    }

    /// The client has begun a request: its turn still, until all of it is there.
    fn asked(&self) {
        self.lock().waiting = Some(Instant::now());
    }

    fn servers(&self) {
        self.lock().waiting = None;
    }

    /// The client took a part of an answer. What it sends does not count: single bytes cost it nothing.
    fn took(&self) {
        if let Some(since) = self.lock().waiting.as_mut() {
            *since = Instant::now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body; when all of it has come, it is the server's turn.
pub struct Sent {
    body: Incoming,
    turn: Turn,
}

impl Sent {
    pub fn new(body: Incoming, turn: Turn) -> Self {
        turn.asked();
        let sent = Self { body, turn };
        sent.look();
        sent
    }

    fn look(&self) {
        if self.body.is_end_stream() {
            self.turn.servers();
        }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.look();
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that notes what the client takes.
pub struct Stream {
    pub stream: TcpStream,
    pub turn: Turn,
}

impl Stream {
    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(count)) if count > 0) {
            self.turn.took();
        }
        written
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
