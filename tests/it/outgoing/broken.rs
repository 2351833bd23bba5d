//! Servers that answer something that is not HTTP, or an error whose body never ends.

use serde_json::{Value, json};
use tokio::time::timeout;

use super::endless::Endless;
use crate::support::{SOON, Server, WEBHOOK_SECRET};

const ERROR: &str = "HTTP/1.1 500 Broken\r\nContent-Type: text/plain\r\n\r\n";

/// What is not HTTP, and errors without an end: the beginning, and what follows again and again.
const BROKEN: [(&str, &str, &str); 5] = [
    ("another protocol", "SSH-2.0-OpenSSH_9.6\r\n", ""),
    ("noise without an end", "", "no HTTP at all\r\n"),
    ("a head without an end", "HTTP/1.1 500 Broken\r\nX: ", "xxxxxxxxxxxxxxxxxxxxxxxx"),
    ("a body without an end", ERROR, "out of order, out of order, "),
    ("a body that stops", ERROR, ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_receiver_with_a_broken_answer_is_refused_in_time() {
    for (name, begin, part) in BROKEN {
        let endless = Endless::start(begin, part).await;
        let (url, secrets) = (endless.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
        // So long that an error in time is not this timeout.
        let settings = [
            ("webhook.url", url.as_str()),
            ("webhook.secrets", &secrets),
            ("webhook.timeout", "60s"),
        ];
        let server = Server::start(&settings);
        let test = server.call("POST", "/v1/webhooks/test", None);
        let (_, tested) = timeout(SOON, test).await.unwrap_or_else(|_| panic!("{name}: no end"));
        assert_eq!(tested["accepted"], false, "{name}");
        let error = tested["error"].as_str().unwrap_or_else(|| panic!("{name}: {tested}"));
        assert_eq!(error.starts_with("status 500"), begin == ERROR, "{name}: {error}");
        assert!(!error.is_empty() && error.len() < 300, "{name}: {error}");
        endless.until_closed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_key_sets_with_a_broken_answer_makes_logins_unavailable_in_time() {
    let token = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.eyJzdWIiOiJhIn0.AAAA";
    let login = json!({ "type": "login", "token": token, "platform": "web", "device": "d" });
    for (name, begin, part) in BROKEN {
        let endless = Endless::start(begin, part).await;
        let url = endless.url();
        let server = Server::start(&[
            ("auth.algorithm", "ES256"),
            ("auth.secret", ""),
            ("auth.jwks_url", &url),
        ]);
        let mut client = server.connect().await;
        assert_eq!(client.error(login.clone()).await, "unavailable", "{name}");
        assert_eq!(client.until_closed().await, (Vec::<Value>::new(), Some(4006)), "{name}");
        let line = server.until_logged(&["the JWK set cannot be fetched"]).await;
        assert!(!line.contains("no answer within"), "{name}: {line}");
        assert_eq!(line.contains("expected status 2xx"), begin == ERROR, "{name}: {line}");
        endless.until_closed().await;
    }
}
