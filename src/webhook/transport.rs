use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};

use super::batch::Blame;
use super::format::Request;
use crate::causes::with_causes;
use crate::clock::timestamp;
use crate::presence::Timestamp;

/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How much of an answer is read, where it matters: more than any means to say, and little enough for
/// as many as are under way.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How much of what a receiver says beside a status is kept: enough for a reason.
const SAID_BYTES_MAX: usize = 200;
/// How long that is waited for; the status alone decides what becomes of the events.
const SAID_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest pause that a receiver may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was accepted.
    Accepted,
    /// The receiver will not have it: something in it is wrong.
    Refused {
        /// What it said.
        error: Arc<str>,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// It did not work this time.
    Failed {
        /// What happened.
        error: Arc<str>,
        /// How long the receiver asks to be left alone.
        retry_after: Option<Duration>,
        /// Whether something in it may be the cause.
        blame: Blame,
    },
}

/// Posts requests: the port to receivers.
pub trait Transport: Send + Sync + 'static {
    /// Posts a request, and waits for its answer for so long; `wall` is what an answer's dates are
    /// compared with.
    fn post(
        &self,
        request: Request,
        timeout: Duration,
        wall: Timestamp,
    ) -> BoxFuture<'static, Outcome>;
}

/// Posts by HTTP: no redirect is followed, and no proxy of the environment's is used.
#[derive(Debug, Clone)]
pub struct HttpTransport(Client);

impl HttpTransport {
    /// Makes the client.
    ///
    /// # Errors
    ///
    /// Where the system's certificates cannot be read.
    pub fn new() -> Result<Self, reqwest::Error> {
        // Whoever comes first installs it; all install the same.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("presence-hub/", env!("CARGO_PKG_VERSION")));
        client.build().map(Self)
    }
}

impl Transport for HttpTransport {
    fn post(
        &self,
        request: Request,
        timeout: Duration,
        wall: Timestamp,
    ) -> BoxFuture<'static, Outcome> {
        let client = self.0.clone();
        let post = async move {
            match tokio::time::timeout(timeout, post(&client, request)).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(answer)) => not_accepted(*answer, wall).await,
                Err(_) => failed(&format!("no answer within {timeout:?}"), None, Blame::Unclear),
            }
        };
        post.boxed()
    }
}

/// Posts a request; an answer that does not accept it is the error.
async fn post(client: &Client, request: Request) -> Result<Outcome, Box<Response>> {
    let Request { url, headers, body, wants_json } = request;
    let post = headers.into_iter().fold(client.post(url), |post, (k, v)| post.header(k, v));
    let answer = match post.body(body).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let blame = if error.is_connect() { Blame::Receiver } else { Blame::Unclear };
            // Without the URL, which may hold a secret.
            return Ok(failed(&with_causes(&error.without_url()), None, blame));
        }
    };
    let status = answer.status();
    if !status.is_success() {
        return Err(Box::new(answer));
    }
    if wants_json && !(status == StatusCode::OK && is_json(answer).await) {
        return Ok(failed("the answer is not 200 with JSON", None, Blame::Unclear));
    }
    Ok(Outcome::Accepted)
}

/// What an answer means that accepts nothing; its reason is the status and what the receiver says.
async fn not_accepted(answer: Response, wall: Timestamp) -> Outcome {
    let status = answer.status();
    let retry_after = retry_after(answer.headers(), wall);
    let said = said(answer).await;
    let colon = if said.is_empty() { "" } else { ": " };
    let error = format!("status {status}{colon}{said}");
    let again = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if status.is_client_error() && !again.contains(&status) {
        return Outcome::Refused { error: error.into(), retry_after };
    }
    let blame = if status.is_server_error() { Blame::Unclear } else { Blame::Receiver };
    failed(&error, retry_after, blame)
}

/// The beginning of an answer's body in one line, as far as it comes soon.
async fn said(mut answer: Response) -> String {
    let mut read = Vec::new();
    let reading = async {
        while read.len() < SAID_BYTES_MAX
            && let Ok(Some(chunk)) = answer.chunk().await
        {
            read.extend_from_slice(&chunk[..chunk.len().min(SAID_BYTES_MAX)]);
        }
    };
    tokio::time::timeout(SAID_TIMEOUT, reading).await.ok();
    read.truncate(SAID_BYTES_MAX);
    let text = String::from_utf8_lossy(&read).replace(char::is_control, " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn failed(error: &str, retry_after: Option<Duration>, blame: Blame) -> Outcome {
    Outcome::Failed { error: error.into(), retry_after, blame }
}

/// For how long a receiver asks to be left alone (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, wall: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // A number that is too large for one is more than is kept in any case.
    let secs = is_number.then(|| value.parse().unwrap_or(u64::MAX));
    let asked = secs.map(Duration::from_secs).or_else(|| {
        let date = httpdate::parse_http_date(value).ok()?;
        Some(timestamp(date) - wall)
    })?;
    Some(asked.min(RETRY_AFTER_MAX))
}

async fn is_json(mut answer: Response) -> bool {
    let mut read = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        read.extend_from_slice(&chunk);
        if read.len() > ANSWER_BYTES_MAX {
            return false;
        }
    }
    serde_json::from_slice::<serde::de::IgnoredAny>(&read).is_ok()
}
