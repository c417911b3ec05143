//! Datasets as the network sees them.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::Room;

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
}
