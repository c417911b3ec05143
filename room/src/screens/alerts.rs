//! Who is told of what.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::Room;

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
}
