//! Calls over the network. The libraries that make them are asynchronous; they run on threads of this
//! module's own, so that any thread may wait for them, also one that belongs to another runtime.

use std::future::Future;
use std::io;
use std::sync::{OnceLock, mpsc};

use tokio::runtime::Runtime;

/// Sets up what TLS needs, before the first client is made.
pub(crate) fn ready() {
    // A second provider of cryptography in the process is no harm: the first one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("object-store")
            .enable_all()
            .build()
    });
    runtime.as_ref().map_err(|error| io::Error::other(error.to_string()))
}

/// Runs a call and waits for it.
pub(crate) fn wait<T: Send + 'static>(
    call: impl Future<Output = T> + Send + 'static,
) -> io::Result<T> {
    let (answer, answered) = mpsc::sync_channel(1);
    runtime()?.spawn(async move {
        // Who asked has gone where nobody listens.
        let _ = answer.send(call.await);
    });
    answered.recv().map_err(|_| io::Error::other("the call over the network panicked"))
}

/// Runs a call that nobody waits for.
pub(crate) fn leave(call: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = runtime() {
        runtime.spawn(call);
    }
}

/// The first line of an error with its causes. Errors of object stores hold no secrets: their requests are
/// signed in headers.
pub(crate) fn first_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text.lines().next().unwrap_or_default().to_owned()
}
