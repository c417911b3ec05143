//! What stands between strangers and the screens.
//!
//! A request passes, in this order: the host that it names (`host`), who it comes from (`session`), the token against
//! forged requests where it changes something (`forgery`), the screen (whose database is one that only reads where
//! they may only look), and the headers of its answer (`headers`).

mod forgery;
mod headers;
mod host;
mod login;
mod session;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::{Router, middleware};

use crate::Room;

pub use host::Hosts;
pub use login::routes;

/// Bytes of a request's body, at most, where a route does not allow more.
const BODY: usize = 1 << 20;

/// Puts the guards before all routes.
pub fn guarded(router: Router<Arc<Room>>, room: &Arc<Room>) -> Router<Arc<Room>> {
    router
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn(forgery::check))
        .layer(middleware::from_fn_with_state(Arc::clone(room), session::identify))
        .layer(middleware::from_fn_with_state(Arc::clone(room), host::check))
        .layer(middleware::from_fn(headers::finish))
}
