//! A file or folder a screen: its pages, and its part of the API.

mod alerts;
mod compare;
mod curves;
mod data;
mod now;
mod pictures;
mod queue;
mod results;
mod run;
mod runs;
mod sweeps;
mod tokens;
pub mod trial;

use std::sync::Arc;

pub use now::doctor::Doctor;
pub use run::toml_text;

use utoipa_axum::router::OpenApiRouter;

use crate::Room;

/// All of them.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    let all = [
        alerts::routes(),
        compare::routes(),
        curves::routes(),
        data::routes(),
        now::routes(),
        pictures::routes(),
        queue::routes(),
        results::routes(),
        run::routes(),
        runs::routes(),
        sweeps::routes(),
        tokens::routes(),
        trial::routes(),
    ];
    all.into_iter().fold(OpenApiRouter::new(), OpenApiRouter::merge)
}
