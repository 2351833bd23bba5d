//! Texts from clients cannot forge or hide log lines.

use serde_json::{Value, json};

use crate::support::{API_KEY, Server};

/// Characters that reverse text, break lines, or are invisible.
const UNSEEN: &str = "\u{202e}\u{2028}\u{2066}\u{200b}\u{feff}\u{85}\u{e0041}\u{61c}\u{ad}\u{3164}\u{34f}\u{e000}\u{a0}\u{3000}\u{fe0f}";

#[tokio::test]
async fn invisible_characters_are_escaped_in_log_lines() {
    for format in ["text", "json"] {
        let server = Server::start(&[("log.format", format), ("log.filter", "debug")]);
        let unseen: String = UNSEEN.chars().filter(|c| !c.is_control()).collect();
        let user = format!("mallory{unseen}漢é👩");
        let mut client = server.connect().await;
        let login = json!({
            "type": "login", "token": crate::support::token(&user), "platform": "web",
            "device": format!("d{UNSEEN}\n2026 ERROR forged\u{1b}[31m"), "app": UNSEEN,
        });
        client.ok(login).await;
        let body = json!({ "platform": "web", "message": format!("bye{UNSEEN}") });
        let path = format!("/v1/users/{}/kick", url_encoded(&user));
        let request = server.http("POST", &path).bearer_auth(API_KEY).json(&body);
        assert_eq!(request.send().await.expect("an answer").status(), 200);
        client.until_closed().await;
        server.until_logged(&["session ended", "mallory"]).await;
        server.until_logged(&["audit", "mallory"]).await;
        let log = server.log();
        let raw = log.chars().find(|c| *c != '\n' && (c.is_control() || UNSEEN.contains(*c)));
        assert_eq!(raw, None, "{log}");
        assert!(!log.lines().any(|line| line.starts_with("2026 ERROR forged")), "{log}");
        for line in log.lines().filter(|line| line.contains("mallory")) {
            if format == "json" {
                let line: Value = serde_json::from_str(line).expect("JSON");
                let name = [&line["user"], &line["span"]["user"], &line["whom"]];
                let name = name.into_iter().find_map(Value::as_str);
                assert_eq!(name, Some(&*user), "nothing is lost: {line}");
            } else {
                assert!(line.contains("mallory\\u{202e}\\u{2028}\\u{2066}"), "{line}");
                assert!(line.contains("漢é👩"), "visible characters are unchanged: {line}");
            }
        }
    }
}

fn url_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
