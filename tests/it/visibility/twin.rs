//! P5: a viewer gets the same bytes about a hidden user and about one who is really `Offline`.

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::{done, heard};
use crate::support::{Client, SOON, Server, until};

/// The twins. Their ids have the same length, so that sizes can be compared, too.
const HIDDEN: &str = "hidden";
const OFFLINE: &str = "really";
const PLATFORMS: [&str; 8] =
    ["web", "miniprogram", "android", "ios", "ipad", "windows", "mac", "linux"];

/// How long a phone is `PushOnline` here.
const SETTINGS: [(&str, &str); 5] = [
    ("liveness.push_online_ttl", "300ms"),
    ("limits.changes_per_user_per_minute", "10000"),
    ("limits.lookups_per_user_per_minute", "100000"),
    ("limits.messages_per_second", "100000"),
    ("limits.message_burst", "100000"),
];

/// What one viewer sees of the twins.
pub(crate) struct Eye {
    client: Client,
    /// The frozen `since`, `last_seen` and `version` of each twin, as text.
    frozen: [[String; 3]; 2],
}

impl Eye {
    /// Subscribes to the twins, both of whom are not to be seen.
    pub(crate) async fn open(hub: &Server, viewer: &str) -> Self {
        let (mut client, _) = hub.login(viewer, "web").await;
        let ask = json!({ "type": "subscribe", "users": [HIDDEN, OFFLINE] });
        let answer = client.ok(ask).await;
        let frozen = [0, 1].map(|twin| {
            let status = &answer["statuses"][twin];
            ["since", "last_seen", "version"].map(|field| status[field].to_string())
        });
        Self { client, frozen }
    }

    /// All that the viewer can ask about a twin, as text in which the twins differ only if the viewer could tell.
    async fn answers(&mut self, twin: usize) -> Vec<String> {
        let (user, other) = if twin == 0 { (HIDDEN, OFFLINE) } else { (OFFLINE, HIDDEN) };
        let requests = [
            json!({ "type": "query", "users": [user] }),
            json!({ "type": "query", "users": [user, "", "nobody", user] }),
            json!({ "type": "subscribe", "users": [user] }),
            json!({ "type": "unsubscribe", "users": [user] }),
            json!({ "type": "subscribe", "users": [user, other, user] }),
            json!({ "type": "unsubscribe", "users": [other] }),
            json!({ "type": "subscribe", "users": [user, other] }),
            json!({ "type": "kick", "session": user }),
            json!({ "type": "sessions" }),
        ];
        let mut answers = Vec::new();
        for mut request in requests {
            request["id"] = json!(1);
            self.client.send(&request).await;
            let text = raw(&mut self.client).await;
            answers.push(self.masked(&text, twin));
        }
        answers
    }

    /// A text without what may differ: the ids, and the frozen times and version of each twin.
    fn masked(&self, text: &str, twin: usize) -> String {
        let mut text = text.to_owned();
        for (of, user) in [HIDDEN, OFFLINE].into_iter().enumerate() {
            text = text.replace(user, if of == twin { "this" } else { "other" });
            for (field, frozen) in ["since", "last_seen", "version"].iter().zip(&self.frozen[of]) {
                text =
                    text.replace(&format!("\"{field}\":{frozen}"), &format!("\"{field}\":frozen"));
            }
        }
        text
    }

    /// Asserts that the viewer was told nothing, and cannot tell the twins apart.
    pub(crate) async fn assert_blind(&mut self, after: &str) {
        assert_eq!(heard(&mut self.client).await, [json!(null); 0], "pushed after {after}");
        let (hidden, offline) = (self.answers(0).await, self.answers(1).await);
        assert_eq!(hidden, offline, "after {after}");
        let ask = json!({ "type": "query", "users": [HIDDEN] });
        let seen = self.client.ok(ask).await["statuses"][0].clone();
        let now = ["since", "last_seen", "version"].map(|field| seen[field].to_string());
        assert_eq!((&seen["state"], &now), (&json!("Offline"), &self.frozen[0]), "after {after}");
    }
}

/// The next message as the bytes that came.
async fn raw(client: &mut Client) -> String {
    let next = async {
        loop {
            let heard = client.socket.next().await.expect("a message").expect("a message");
            if let Message::Text(text) = heard {
                return text.to_string();
            }
        }
    };
    timeout(SOON, next).await.expect("a message")
}

/// Both were `Online` on the web; at the same time one is made invisible, and the other logs out.
pub(crate) async fn part(hub: &Server, invisible: Value) -> Client {
    let (client, _) = hub.login(HIDDEN, "web").await;
    let (mut other, _) = hub.login(OFFLINE, "web").await;
    done(hub, "PUT", &format!("/v1/users/{HIDDEN}/visibility"), invisible).await;
    other.ok(json!({ "type": "logout" })).await;
    client
}

/// Thirty changes of the hidden user, at hubs in turn. After each one the viewers are asked.
pub(crate) async fn live(hubs: &[&Server], eyes: &mut [Eye]) {
    let mut turn = 0;
    let mut next = || {
        turn += 1;
        hubs[turn % hubs.len()]
    };
    for platform in PLATFORMS {
        let hub = next();
        let (mut client, _) = hub.login(HIDDEN, platform).await;
        blind(eyes, &format!("a login on {platform}")).await;
        client.ok(json!({ "type": "set", "custom": platform })).await;
        blind(eyes, &format!("a custom status on {platform}")).await;
        leave_and_return(next(), &mut client, eyes, platform).await;
        match platform {
            "web" | "mac" => drop(client.ok(json!({ "type": "logout" })).await),
            "ios" | "linux" => {
                let path = format!("/v1/users/{HIDDEN}/kick");
                done(next(), "POST", &path, json!({ "platform": platform })).await;
            }
            "miniprogram" => drop(client.ok(json!({ "type": "background" })).await),
            _ => drop(client),
        }
        blind(eyes, &format!("the end on {platform}")).await;
    }
    let custom = format!("/v1/users/{HIDDEN}/custom");
    let (_client, _) = hubs[0].login(HIDDEN, "windows").await;
    done(next(), "PUT", &custom, json!({ "custom": "by the back end" })).await;
    blind(eyes, "a custom status by the back end").await;
    // The phones that were closed are `PushOnline`, and then gone.
    until("only the new session to be left", async || {
        hubs[0].user(HIDDEN).await["terminals"].as_array().is_some_and(|all| all.len() == 1)
    })
    .await;
    blind(eyes, "the end of `PushOnline`").await;
    let visibility = format!("/v1/users/{HIDDEN}/visibility");
    for blocked in [json!(["vic"]), json!(["vic", "wen"]), json!(["vic"])] {
        done(next(), "PUT", &visibility, json!({ "hidden": true, "blocked": blocked })).await;
        blind(eyes, "another change of who may not see the user").await;
    }
    done(next(), "POST", &format!("/v1/users/{HIDDEN}/kick"), json!({ "all": true })).await;
    blind(eyes, "a kick of everything").await;
}

/// The hidden user is away, and back. Only the back end sees it.
async fn leave_and_return(hub: &Server, client: &mut Client, eyes: &mut [Eye], platform: &str) {
    client.ok(json!({ "type": "idle", "for_ms": 300_000 })).await;
    let user = hub.user(HIDDEN).await;
    let mine = user["terminals"].as_array().expect("a list").iter();
    let idle = mine.filter(|it| it["platform"] == platform && it["activity"] == "idle");
    assert_eq!(idle.count(), 1, "the truth changes: {user}");
    blind(eyes, &format!("`idle` on {platform}")).await;
    client.ok(json!({ "type": "active" })).await;
    blind(eyes, &format!("`active` on {platform}")).await;
}

async fn blind(eyes: &mut [Eye], after: &str) {
    for eye in eyes {
        eye.assert_blind(after).await;
    }
}

#[tokio::test]
async fn p5_a_hidden_user_and_an_offline_one_are_answered_with_the_same_bytes() {
    let mut hub = Server::start(&SETTINGS);
    let _there = part(&hub, json!({ "hidden": true })).await;
    let mut eyes = [Eye::open(&hub, "vic").await];
    live(&[&hub], &mut eyes).await;
    let frozen = eyes[0].frozen.clone();
    drop(eyes);
    hub.restart(&SETTINGS);
    let mut eyes = [Eye::open(&hub, "vic").await];
    assert_eq!(eyes[0].frozen, frozen, "over a restart");
    live(&[&hub], &mut eyes).await;
}

#[tokio::test]
async fn p5_a_blocked_viewer_sees_an_offline_user_and_others_see_the_truth() {
    let hub = Server::start(&SETTINGS);
    let _there = part(&hub, json!({ "blocked": ["vic"] })).await;
    let mut vic = Eye::open(&hub, "vic").await;
    let (mut yan, _) = hub.login("yan", "web").await;
    let ask = json!({ "type": "subscribe", "users": [HIDDEN] });
    assert_eq!(yan.ok(ask).await["statuses"][0]["state"], "Online");
    let (mut client, _) = hub.login(HIDDEN, "mac").await;
    client.ok(json!({ "type": "set", "custom": "busy" })).await;
    vic.assert_blind("a login and a custom status").await;
    let told = [yan.message().await, yan.message().await];
    assert_eq!(told[1]["custom"], "busy", "{told:?}");
    for (word, is_away) in [("idle", true), ("active", false)] {
        client.ok(json!({ "type": word, "for_ms": 0 })).await;
        vic.assert_blind(word).await;
        let told = yan.message().await;
        assert_eq!(told["away"], is_away, "{told}");
    }
    let path = format!("/v1/users/{HIDDEN}/visibility");
    done(&hub, "PUT", &path, json!({ "blocked": [] })).await;
    let shown = vic.client.message().await;
    assert_eq!(shown["custom"], "busy", "{shown}");
    assert!(heard(&mut yan).await.is_empty(), "who saw the user is told nothing");
}
