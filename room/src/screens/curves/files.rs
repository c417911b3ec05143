//! Series and tables as files: JSON, CSV, Parquet and Arrow.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::Room;

pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
}
