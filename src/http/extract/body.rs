//! Extracts a request's body as JSON. The content type is ignored.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::http::problem::Problem;
use crate::wire::{no_object, read_json};

/// The default size limit of a body.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The time limit for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The name of a body in errors.
const BODY: &str = "the body";

/// A body that is a JSON object; an empty one is `{}`.
pub(crate) struct JsonBody<T, const BYTES_MAX: usize = BODY_BYTES_MAX>(pub(crate) T);

impl<S, T, const BYTES_MAX: usize> FromRequest<S> for JsonBody<T, BYTES_MAX>
where
    S: Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = read_body(request.into_body(), BYTES_MAX).await?;
        let body = str::from_utf8(&body);
        let body = body.map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
        let body = if body.is_empty() { "{}" } else { body };
        // serde would also accept a list of the fields' values in order.
        if !body.trim_ascii_start().starts_with('{') {
            return Err(Problem::bad_request(no_object(body, BODY)));
        }
        read_json(body, BODY).map(Self).map_err(Problem::bad_request)
    }
}

/// Reads a body within its size limit and the time limit.
pub(crate) async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let read = to_bytes(body, bytes_max);
    let read = tokio::time::timeout(BODY_TIMEOUT, read).await;
    read.map_err(|_| Problem::timeout())?.map_err(|_| Problem::too_large())
}

#[cfg(test)]
mod tests {
    use std::io;

    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    use futures::{StreamExt, stream};

    use super::*;

    async fn refused(body: Body) -> StatusCode {
        read_body(body, 10_000).await.expect_err("a refusal").into_response().status()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_without_an_end_is_refused_for_its_size_or_its_time() {
        let part = |bytes: &'static [u8]| Ok::<_, io::Error>(Bytes::from_static(bytes));
        let parts = stream::repeat_with(move || part(&[b' '; 1000]));
        assert_eq!(refused(Body::from_stream(parts)).await, StatusCode::PAYLOAD_TOO_LARGE);

        let slow = stream::repeat_with(move || part(b" ")).then(async |part| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            part
        });
        // It must have come to an end by then.
        let in_time = tokio::time::timeout(BODY_TIMEOUT + Duration::from_secs(1), async {
            refused(Body::from_stream(slow)).await
        });
        assert_eq!(in_time.await, Ok(StatusCode::REQUEST_TIMEOUT));
    }
}
