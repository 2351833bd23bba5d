//! A hub process that is killed repeatedly under load; checks the log, the webhook and the statuses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::client_async;

use crate::receiver::{Act, Receiver};
use crate::support::{Client, SOON, Server, WEBHOOK_SECRET, token, until};

/// Clients that always resume, and clients that come and go.
const STEADY: usize = 180;
const FICKLE: usize = 20;
const KILLS: usize = 10;

/// The state that all clients share.
struct Crowd {
    address: watch::Receiver<SocketAddr>,
    /// Set at the end: clients make no more changes.
    rest: watch::Receiver<bool>,
    acknowledged: Mutex<BTreeSet<(String, u64)>>,
    online: Mutex<BTreeSet<String>>,
}

impl Crowd {
    /// Connects and logs in or resumes; `None` if the hub was killed meanwhile.
    async fn enter(
        &self,
        user: &str,
        device: &str,
        resume: Option<&str>,
    ) -> Option<(Client, Value)> {
        let address = *self.address.borrow();
        let stream = TcpStream::connect(address).await.ok()?;
        let (socket, _) = client_async(format!("ws://{address}/ws"), stream).await.ok()?;
        let mut client = Client::over(socket, SOON);
        let mut login = json!({
            "type": "login", "id": 0, "token": token(user), "platform": "web", "device": device,
        });
        if let Some(resume) = resume {
            login["resume"] = json!(resume);
        }
        let reply = client.try_request(login).await?;
        Some((client, reply))
    }

    /// Sets a custom status; `None` if the hub was killed meanwhile.
    async fn set(&self, client: &mut Client, user: &str) -> Option<()> {
        let custom = format!("{:x}", rand::random::<u64>());
        let reply = client.try_request(json!({ "type": "set", "custom": custom })).await?;
        self.acknowledge(user, &reply["ok"]["status"]);
        Some(())
    }

    fn acknowledge(&self, user: &str, status: &Value) {
        let version = status["version"].as_u64().expect("a version");
        self.acknowledged.lock().insert((user.to_owned(), version));
    }

    /// A client that never leaves, and resumes after each restart.
    async fn steady(self: Arc<Self>, user: String) {
        let (mut address, mut session) = (self.address.clone(), None::<String>);
        loop {
            address.mark_unchanged();
            let Some((mut client, reply)) = self.enter(&user, "d", session.as_deref()).await else {
                // The hub is down and returns at another address, or is busy.
                timeout(Duration::from_millis(50), address.changed()).await.ok();
                continue;
            };
            let ok = &reply["ok"];
            assert!(ok.is_object(), "{user}: {reply}");
            assert_eq!(ok["resumed"], session.is_some(), "{user}: {reply}");
            session = ok["session"].as_str().map(str::to_owned);
            self.acknowledge(&user, &ok["status"]);
            self.online.lock().insert(user.clone());
            while self.set(&mut client, &user).await.is_some() {
                if *self.rest.borrow() {
                    // Keeps reading, and so answers pings.
                    client.until_closed().await;
                }
                sleep(Duration::from_millis(rand::random_range(5..100))).await;
            }
            self.online.lock().remove(&user);
        }
    }

    /// A client that logs in, takes over from its other device, leaves, and never resumes.
    async fn fickle(self: Arc<Self>, user: String) {
        while !*self.rest.borrow() {
            let device = format!("d{}", rand::random_range(0..3));
            if let Some((mut client, reply)) = self.enter(&user, &device, None).await {
                assert!(reply["ok"].is_object(), "{user}: {reply}");
                self.acknowledge(&user, &reply["ok"]["status"]);
                self.set(&mut client, &user).await;
                if rand::random() {
                    client.try_request(json!({ "type": "logout" })).await;
                }
            }
            sleep(Duration::from_millis(rand::random_range(5..50))).await;
        }
    }
}

/// Checks V5 and V6 on the events of one observer; returns each user's last status.
pub(crate) fn fold(what: &str, events: &[Value]) -> BTreeMap<String, Value> {
    let mut seen = BTreeSet::new();
    let mut users: BTreeMap<String, Value> = BTreeMap::new();
    for event in events {
        if !seen.insert(event["id"].as_str().expect("an id").to_owned()) {
            continue;
        }
        let user = event["user"].as_str().expect("a user").to_owned();
        let before = users.get(&user);
        let state = before.map_or(&Value::Null, |status| &status["state"]);
        let state = if state.is_null() { "Offline" } else { state.as_str().expect("a state") };
        assert_eq!(event["state"]["from"], state, "{what}: a gap before {event}");
        let version = before.and_then(|status| status["version"].as_u64()).unwrap_or_default();
        assert!(event["version"].as_u64() > Some(version), "{what}: out of order: {event}");
        let mut status = event["status"].clone();
        assert_eq!(status["version"], event["version"]);
        // In a takeover all entries have the status after the commit, but each has its own state.
        status["state"] = event["state"]["to"].clone();
        users.insert(user, status);
    }
    users
}

/// Reads the whole log, page by page.
pub(crate) async fn read_events(server: &Server) -> Vec<Value> {
    let (mut events, mut after) = (Vec::new(), String::new());
    loop {
        let (status, page) =
            server.call("GET", &format!("/v1/events?limit=1000{after}"), None).await;
        assert_eq!(status, 200, "{page}");
        let some = page["events"].as_array().expect("events");
        if some.is_empty() {
            return events;
        }
        events.extend(some.iter().cloned());
        after = format!("&after={}", page["next"].as_str().expect("a cursor"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn t11_v5_repeatedly_killed_hub_loses_no_event_and_no_session() {
    // The receiver sometimes fails, and sometimes takes events but reports an error.
    let receiver = Receiver::start(|_| match rand::random_range(0..20) {
        0 => Act::Refuse(500),
        1 => Act::Take(502),
        _ => Act::Take(200),
    });
    let receiver = receiver.await;
    let (url, secrets) = (receiver.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
    let settings = [
        ("webhook.url", url.as_str()),
        ("webhook.secrets", &secrets),
        ("limits.changes_per_user_per_minute", "1000000"),
        ("liveness.web_ping", "2s"),
        ("liveness.web_silence", "8s"),
        ("liveness.web_close_grace", "100ms"),
    ];
    let mut server = Server::start(&settings);
    let (address, reader) = watch::channel(server.address);
    let (rest, resting) = watch::channel(false);
    let crowd = Arc::new(Crowd {
        address: reader,
        rest: resting,
        acknowledged: Mutex::default(),
        online: Mutex::default(),
    });
    let mut steady = JoinSet::new();
    let mut fickle = JoinSet::new();
    for n in 0..STEADY {
        steady.spawn(Arc::clone(&crowd).steady(format!("steady-{n}")));
    }
    for n in 0..FICKLE {
        fickle.spawn(Arc::clone(&crowd).fickle(format!("fickle-{n}")));
    }
    for _ in 0..KILLS {
        until("everybody's resume", async || crowd.online.lock().len() == STEADY).await;
        sleep(Duration::from_millis(rand::random_range(50..400))).await;
        server.restart(&settings);
        crowd.online.lock().clear();
        address.send_replace(server.address);
    }
    until("everybody's resume", async || crowd.online.lock().len() == STEADY).await;
    rest.send_replace(true);
    while let Some(done) = fickle.join_next().await {
        done.expect("a fickle client to end well");
    }
    // Sessions that were not resumed after a kill end when their window is over.
    for n in 0..FICKLE {
        server.until_state(&format!("fickle-{n}"), "Offline").await;
    }
    until("the webhook", async || {
        let (_, state) = server.call("GET", "/v1/webhooks", None).await;
        let delivery = &state["delivery"];
        state["backlog"]["events"] == 0 && delivery["under_way"] == 0 && delivery["waiting"] == 0
    })
    .await;
    assert!(steady.try_join_next().is_none(), "a steady client has failed");

    assert_agreed(&server, &receiver.taken(), &crowd).await;
}

/// Checks that the log, the webhook and the statuses agree, and that no acknowledged change is lost.
async fn assert_agreed(server: &Server, posted: &[Value], crowd: &Crowd) {
    let logged = read_events(server).await;
    let (from_log, from_posts) = (fold("the log", &logged), fold("the webhook", posted));
    let users: Vec<_> = from_log.keys().cloned().collect();
    assert_eq!(users.len(), STEADY + FICKLE);
    for some in users.chunks(100) {
        let (_, live) = server.call("POST", "/v1/status", Some(json!({ "users": some }))).await;
        for (user, live) in some.iter().zip(live["statuses"].as_array().expect("statuses")) {
            assert_eq!(&from_log[user], live, "the log and the status of {user}");
            assert_eq!(&from_posts[user], live, "the webhook and the status of {user}");
        }
    }
    for event in &logged {
        let is_steady = event["user"].as_str().is_some_and(|user| user.starts_with("steady"));
        assert!(
            !is_steady || event["state"]["to"] == "Online",
            "a steady client went offline: {event}"
        );
    }
    let version = |event: &Value| {
        let user = event["user"].as_str().expect("a user").to_owned();
        (user, event["version"].as_u64().expect("a version"))
    };
    let versions: BTreeSet<_> = logged.iter().map(version).collect();
    let lost: Vec<_> = crowd.acknowledged.lock().difference(&versions).cloned().collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}
