//! The calls about users: read their statuses, and change them.

mod act;
mod read;
mod see;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(in crate::http) use self::act::end_terminals;
use crate::http::state::AppState;

pub(super) fn routes() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::new()
        .routes(routes!(read::statuses))
        .routes(routes!(read::users))
        .routes(routes!(read::user, see::erase))
        .routes(routes!(read::history))
        .routes(routes!(read::watchers))
        .routes(routes!(act::kick))
        .routes(routes!(act::set_custom))
        .routes(routes!(see::visibility, see::set_visibility))
        .routes(routes!(see::watch_list, see::set_watch_list, see::change_watch_list))
}
