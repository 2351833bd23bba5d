//! Extracts the user in a request's path.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::http::problem::Problem;
use crate::presence::UserId;
use crate::wire::show_given;

/// The user in the path.
pub(crate) struct UserPath(pub(crate) UserId);

impl<S: Send + Sync> FromRequestParts<S> for UserPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(user) = path.map_err(|_| Problem::invalid_user("something that is not UTF-8"))?;
        user.parse().map(Self).map_err(|_| Problem::invalid_user(&show_given(&user.into())))
    }
}
