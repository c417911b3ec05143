//! One connection, from its opening to its end.

use std::convert::Infallible;

use axum::Router;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::turn::{Sent, Stream, Turn};
use crate::{Limits, Peer};

/// Bytes of a request's head, at most.
const HEAD: usize = 64 << 10;

/// Answers its requests until the client leaves, a time is over, or the end is asked for.
pub async fn serve(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    turn: Turn,
    mut ended: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    // None where it is gone already.
    let peer = Peer::of(&stream).ok();
    let stream = Stream { stream, turn: turn.clone() };
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        let turn = turn.clone();
        let answer = router.call(request.map(|body| Sent::new(body, turn.clone())));
        async move {
            let mut response = match timeout(limits.request, answer).await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => {
                    (StatusCode::REQUEST_TIMEOUT, "the request took too long\n").into_response()
                }
            };
            let is_last = turn.answer() >= limits.requests;
            if is_last || response.status() == StatusCode::REQUEST_TIMEOUT {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<Response, Infallible>(response)
        }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(HEAD)
            .max_header_size(HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ended.wait_for(|ended| *ended) => {}
        () = sleep(limits.connection) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.request, connection).await;
}
