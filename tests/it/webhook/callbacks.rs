//! The callbacks to a back end written for Tencent Cloud IM, for each cause.

use presence_hub::presence::{
    Cause, EventId, Evidence, Kicker, Platform, SessionId, State, Status, TerminalChange,
    Transition, Victim, Victor,
};
use presence_hub::webhook::{TencentCallbacks, callback};
use serde_json::{Value, json};

use crate::lab::{EPOCH, id};
use crate::receiver::{Act, Receiver};
use crate::support::{Server, until};

fn tencent() -> TencentCallbacks {
    TencentCallbacks { sdk_app_id: 1_400_000_000, token: String::new(), kick_sends_logout: false }
}

fn transition(cause: Cause, platform: Platform) -> Transition {
    let terminal = TerminalChange {
        platform,
        device: "d".parse().expect("a device"),
        session: SessionId(1),
        from: Some(State::Online),
        to: None,
    };
    Transition {
        id: (EventId(1), 0),
        at: EPOCH,
        cause,
        version: 1,
        from: State::Online,
        to: State::Offline,
        terminal: Some(terminal),
        status: Status::default(),
        by: None,
        kicked: Vec::new(),
        evidence: Evidence { address: "192.0.2.7".parse().ok(), ..Evidence::default() },
        visibility: None,
    }
}

fn victor() -> Victor {
    Victor {
        platform: Platform::Mac,
        device: "m".parse().expect("a device"),
        session: SessionId(2),
    }
}

/// The `Action` and `Reason` of a transition's callback, if it has one.
fn action_and_reason(
    tencent: &TencentCallbacks,
    transition: &Transition,
) -> Option<(String, String)> {
    let callback = callback(tencent, &id("ana"), transition)?;
    let body = serde_json::to_value(&callback.body).expect("JSON");
    assert_eq!(body["CallbackCommand"], "State.StateChange");
    assert_eq!(body["EventTime"], json!(EPOCH));
    assert_eq!(body["Info"]["To_Account"], "ana");
    let text = |name: &str| body["Info"][name].as_str().expect("a text").to_owned();
    Some((text("Action"), text("Reason")))
}

#[test]
fn each_cause_has_its_action_and_reason() {
    let login = Some(("Login", "Register"));
    let logout = Some(("Logout", "Unregister"));
    let closed = Some(("Disconnect", "LinkClose"));
    let timeout = Some(("Disconnect", "TimeOut"));
    for platform in Platform::ALL {
        let lost = if platform.is_native() { timeout } else { closed };
        let table = [
            (Cause::Login, login),
            (Cause::Resume, login),
            (Cause::Logout, logout),
            (Cause::Close, closed),
            (Cause::Background, closed),
            (Cause::Exit, closed),
            (Cause::TokenExpired, closed),
            (Cause::Silence, lost),
            (Cause::NodeLost, lost),
            (Cause::Expired, None),
            (Cause::Recovered, None),
            (Cause::Visibility, None),
            (Cause::Idle, None),
            (Cause::Active, None),
            (Cause::Custom, Some(("CustomStatusChange", "SetCustomStatus"))),
        ];
        for (cause, expected) in table {
            let expected = expected.map(|(action, reason)| (action.into(), reason.into()));
            assert_eq!(
                action_and_reason(&tencent(), &transition(cause, platform)),
                expected,
                "{cause:?} {platform}"
            );
        }
    }
}

#[test]
fn kick_callback_depends_on_who_kicked() {
    let by = |kicker: Kicker| Transition {
        by: Some(kicker),
        ..transition(Cause::Kicked, Platform::Windows)
    };
    let logout = Some(("Logout".to_owned(), "Unregister".to_owned()));
    let by_login = by(Kicker::Login(victor()));
    assert_eq!(action_and_reason(&tencent(), &by_login), None, "the login's callback has it");
    let also = TencentCallbacks { kick_sends_logout: true, ..tencent() };
    assert_eq!(action_and_reason(&also, &by(Kicker::Login(victor()))), logout);
    assert_eq!(action_and_reason(&tencent(), &by(Kicker::Own(victor()))), logout);
    let admin = by(Kicker::Admin { message: None });
    assert_eq!(action_and_reason(&tencent(), &admin), logout);
    let callback = callback(&tencent(), &id("ana"), &admin).expect("a callback");
    assert_eq!(callback.platform, "RESTAPI");
}

#[test]
fn platform_names_match_each_field() {
    let table = [
        (Platform::Android, "Android", "Android"),
        (Platform::Ios, "IOS", "iOS"),
        (Platform::Ipad, "iPad", "iPad"),
        (Platform::Windows, "Windows", "Windows"),
        (Platform::Mac, "Mac", "Mac"),
        (Platform::Linux, "Linux", "Linux"),
        (Platform::Web, "Web", "Web"),
        (Platform::MiniProgram, "Web", "Web"),
    ];
    for (platform, opt_platform, kicked) in table {
        let device = "d".parse().expect("a device");
        let victim = Victim { platform, device, session: SessionId(3) };
        let login = Transition { kicked: vec![victim], ..transition(Cause::Login, platform) };
        let callback = callback(&tencent(), &id("ana"), &login).expect("a callback");
        assert_eq!((callback.platform, &*callback.address), (opt_platform, "192.0.2.7"));
        let body = serde_json::to_value(&callback.body).expect("JSON");
        assert_eq!(body["KickedDevice"], json!([{ "Platform": kicked }]));
    }
    let alone = callback(&tencent(), &id("ana"), &transition(Cause::Login, Platform::Web));
    let body = serde_json::to_value(alone.expect("a callback").body).expect("JSON");
    assert_eq!(body.get("KickedDevice"), None, "only on a login that kicked");
}

#[test]
fn custom_status_set_by_the_server_api_comes_from_restapi() {
    let status = Status { custom: Some("busy".into()), ..Status::default() };
    let set = Transition { terminal: None, status, ..transition(Cause::Custom, Platform::Web) };
    let callback = callback(&tencent(), &id("ana"), &set).expect("a callback");
    assert_eq!(callback.platform, "RESTAPI");
    let body = serde_json::to_value(&callback.body).expect("JSON");
    assert_eq!(body["Info"]["CustomStatus"], "busy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_are_posted_one_by_one_with_their_query() {
    let receiver = Receiver::start(|_| Act::Take(200)).await;
    let url = receiver.url();
    let server = Server::start(&[
        ("webhook.url", &url),
        ("webhook.format", "tencent"),
        ("tencent.sdk_app_id", "1400000000"),
        ("tencent.secret_key", "a secret key"),
        ("tencent.callback_token", "a token"),
    ]);
    let (_loser, _) = server.login("ana", "windows").await;
    let (mut winner, _) = server.login("ana", "mac").await;
    winner.ok(json!({ "type": "set", "custom": "busy" })).await;
    winner.ok(json!({ "type": "logout" })).await;
    until("four callbacks", async || receiver.taken().len() == 4).await;
    let actions: Vec<_> =
        receiver.taken().iter().map(|body| body["Info"]["Action"].clone()).collect();
    assert_eq!(actions, ["Login", "Login", "CustomStatusChange", "Logout"].map(Value::from));
    assert_eq!(receiver.taken()[1]["KickedDevice"], json!([{ "Platform": "Windows" }]));
    for came in receiver.came() {
        for part in [
            "SdkAppid=1400000000",
            "CallbackCommand=State.StateChange",
            "contenttype=json",
            "ClientIP=127.0.0.1",
            "Sign=",
            "RequestTime=",
        ] {
            assert!(came.path.contains(part), "{part} in {}", came.path);
        }
    }
    assert!(receiver.came()[0].path.contains("OptPlatform=Windows"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_without_a_callback_does_not_count_as_a_success() {
    let receiver = Receiver::start(|_| Act::Take(200)).await;
    let url = receiver.url();
    let server = Server::start(&[
        ("webhook.url", &url),
        ("webhook.format", "tencent"),
        ("webhook.give_up_after", "1s"),
        ("tencent.sdk_app_id", "1400000000"),
        ("tencent.secret_key", "a secret key"),
    ]);
    let mut clients = Vec::new();
    for n in 0..8 {
        clients.push(server.login(&format!("user-{n}"), "windows").await);
    }
    until("the first logins", async || receiver.taken().len() >= 8).await;
    receiver.set(|_| Act::Refuse(500));
    // Each login kicks the first one; Tencent has no callback for that kick.
    for n in 0..8 {
        clients.push(server.login(&format!("user-{n}"), "mac").await);
        let refused = receiver.came().len();
        until("another attempt", async || receiver.came().len() > refused).await;
    }
    let (_, dead) = server.call("GET", "/v1/webhooks/dead", None).await;
    assert_eq!(dead["dead"], json!([]), "while nothing is accepted, nothing is given up");
    receiver.set(|_| Act::Take(200));
    until("the rest", async || receiver.taken().len() >= 16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_json_answer_accepts_the_callback() {
    let receiver = Receiver::start(|_| Act::TakeAtLength(100_000)).await;
    let server = Server::start(&[
        ("webhook.url", &receiver.url()),
        ("webhook.format", "tencent"),
        ("tencent.sdk_app_id", "1400000000"),
        ("tencent.secret_key", "a secret key"),
    ]);
    let (_ana, _) = server.login("ana", "windows").await;
    until("the delivery", async || {
        let (_, state) = server.call("GET", "/v1/webhooks", None).await;
        state["delivery"]["last_success"].is_number()
    })
    .await;
    assert_eq!(receiver.came().len(), 1);
}
