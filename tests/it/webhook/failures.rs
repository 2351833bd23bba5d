//! The error messages of failed webhook requests, as operators see them.

use serde_json::Value;

use super::start;
use crate::receiver::Act;
use crate::support::{Server, until};

async fn last_error(server: &Server) -> Option<String> {
    let (_, state): (_, Value) = server.call("GET", "/v1/webhooks", None).await;
    let last = state["delivery"]["failures"].as_array()?.last()?.clone();
    last["error"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn failure_shows_the_status_and_the_beginning_of_the_answer() {
    let long = "x".repeat(5000);
    let long: &'static str = Box::leak(long.into_boxed_str());
    let rows = [
        (422, "{\"error\":\n\t\"no such user\"}", "{\"error\": \"no such user\"}".to_owned()),
        (500, "", String::new()),
        (503, long, "x".repeat(200)),
    ];
    for (status, body, said) in rows {
        let (receiver, server) = start(&[]).await;
        receiver.set(move |_| {
            if body.is_empty() { Act::Refuse(status) } else { Act::RefuseFor(status, body) }
        });
        let _bob = server.login("bob", "web").await;
        until("a failure", async || last_error(&server).await.is_some()).await;
        let error = last_error(&server).await.expect("an error");
        let (name, rest) = error.split_once(": ").unwrap_or((&error, ""));
        assert!(name.starts_with(&format!("status {status} ")), "{error}");
        assert_eq!(rest, said, "{status}");
    }
}
