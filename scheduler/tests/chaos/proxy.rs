//! A network of a worker's own: a port of this machine that leads to the server's socket, and that
//! a test can stall, refuse or cut.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the network does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// It carries.
    #[default]
    Open,
    /// A black hole: it accepts nothing, forwards nothing and closes nothing.
    Stalled,
    /// It closes what is open and takes nothing new.
    Refused,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    link: Link,
    /// How often all open connections were cut.
    cuts: u64,
}

/// The port. Closed when it is dropped.
pub struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port; every connection leads to this socket.
    pub fn start(runtime: &Handle, socket: PathBuf) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, seen) = watch::channel(State::default());
        let task = runtime.spawn(serve(listener, socket, seen));
        Self { port, state, task }
    }

    /// The URL of the database behind it.
    pub fn url(&self) -> String {
        format!("postgresql://palette@127.0.0.1:{}/palette?sslmode=disable", self.port)
    }

    pub fn set(&self, link: Link) {
        self.state.send_modify(|state| state.link = link);
    }

    /// Closes all open connections, once.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, socket: PathBuf, mut state: watch::Receiver<State>) {
    loop {
        if state.wait_for(|state| state.link != Link::Stalled).await.is_err() {
            return;
        }
        let client = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = state.changed() => continue,
        };
        if let Ok((client, _)) = client
            && state.borrow().link != Link::Refused
        {
            tokio::spawn(connect(client, socket.clone(), state.clone()));
        }
    }
}

/// One connection to its end, or until it is cut.
async fn connect(client: TcpStream, socket: PathBuf, state: watch::Receiver<State>) {
    let cuts = state.borrow().cuts;
    let Ok(server) = UnixStream::connect(socket).await else { return };
    let _ = client.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = state.clone();
    let both = async {
        tokio::join!(
            carry(from_client, to_server, state.clone()),
            carry(from_server, to_client, state.clone()),
        )
    };
    tokio::select! {
        _ = both => {}
        _ = cut.wait_for(|state| state.link == Link::Refused || state.cuts != cuts) => {}
    }
}

/// Carries bytes, and then their end, while the link is not stalled.
async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await.unwrap_or(0);
        if state.wait_for(|state| state.link != Link::Stalled).await.is_err() {
            return;
        }
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}
