//! T4, T5, T12, T13, T14: what counts as heard, and when silence ends a session.

use std::time::Duration;

use futures::SinkExt;
use presence_hub::presence::{Cause, Platform, State, Windows};
use presence_hub::wire::{Close, close_frame};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::lab::{AT_ONCE, Lab, SECOND, assert_kept};
use crate::support::Client;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The windows of T4 and T5.
const fn window(platform: Platform) -> Duration {
    match platform {
        Platform::Web | Platform::MiniProgram => Duration::from_secs(60),
        Platform::Android
        | Platform::Ios
        | Platform::Ipad
        | Platform::Linux
        | Platform::Mac
        | Platform::Windows => Duration::from_secs(400),
    }
}

/// The ways in which a client is silent.
#[derive(Debug, Clone, Copy)]
enum Silence {
    ReadsNothing,
    /// Reads everything, pings included, and sends nothing.
    OnlyReceives,
    /// Sends a frame byte by byte that is never complete.
    NeverEndsAFrame,
    /// Sends complete frames of a message that is never complete.
    NeverEndsAMessage,
}

impl Silence {
    /// Keeps silent until the socket is closed; returns the bytes that were read.
    async fn keep(self, client: Client<DuplexStream>) -> Vec<u8> {
        let mut socket = client.socket;
        let socket = socket.get_mut();
        let mut read = Vec::new();
        let mut first = true;
        let mut say = async |head: &[u8], more: &[u8], socket: &mut DuplexStream| {
            let bytes = if std::mem::take(&mut first) { head } else { more };
            // The hub may have closed the socket already.
            socket.write_all(bytes).await.ok();
        };
        loop {
            match self {
                Self::ReadsNothing => sleep(500 * SECOND).await,
                Self::OnlyReceives => (),
                // A text frame of 100 bytes, masked with zeros, sent byte by byte.
                Self::NeverEndsAFrame => say(&[0x81, 0xe4, 0, 0, 0, 0], b"x", socket).await,
                // A text frame without FIN, then continuation frames without FIN.
                Self::NeverEndsAMessage => {
                    let (text, more) =
                        ([0x01, 0x81, 0, 0, 0, 0, b'x'], [0, 0x81, 0, 0, 0, 0, b'x']);
                    say(&text, &more, socket).await;
                }
            }
            let heard = timeout(10 * SECOND, socket.read_buf(&mut read)).await;
            if let Ok(Ok(0) | Err(_)) = heard {
                return read;
            }
        }
    }
}

async fn is_lost_on_time(platform: Platform, silence: Silence) {
    let case = format!("{platform}, {silence:?}");
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (client, ok) = lab.login("ana", platform.name()).await;
    assert_eq!(ok["silence_ms"], json!(window(platform).as_millis()), "{case}");
    let heard = lab.now();
    watcher.state("ana", "Online").await;
    let silent = tokio::spawn(silence.keep(client));

    let left = if platform.is_mobile() { State::PushOnline } else { State::Offline };
    let (at, status) = watcher.state("ana", left.name()).await;
    assert_kept(window(platform), at - heard, &case);
    assert_eq!(status["last_seen"], json!(heard), "{case}");
    assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Silence], "{case}");
    let read = silent.await.expect("a client that keeps silent");
    let told = close_frame(Close::Silence);
    if matches!(silence, Silence::OnlyReceives) {
        assert!(read.ends_with(&told), "{case}: {read:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn t4_t5_t14_silence_ends_a_session_on_every_platform() {
    for platform in Platform::ALL {
        is_lost_on_time(platform, Silence::ReadsNothing).await;
    }
}

#[tokio::test(start_paused = true)]
async fn t12_receiving_data_does_not_count_as_heard() {
    is_lost_on_time(Platform::Web, Silence::OnlyReceives).await;
    is_lost_on_time(Platform::Ios, Silence::OnlyReceives).await;
}

#[tokio::test(start_paused = true)]
async fn t12_incomplete_frames_and_messages_do_not_count_as_heard() {
    for silence in [Silence::NeverEndsAFrame, Silence::NeverEndsAMessage] {
        is_lost_on_time(Platform::MiniProgram, silence).await;
        is_lost_on_time(Platform::Linux, silence).await;
    }
}

#[tokio::test(start_paused = true)]
async fn t13_client_that_only_answers_pings_stays_online_for_hours() {
    for platform in [Platform::Web, Platform::MiniProgram, Platform::Ios, Platform::Windows] {
        let every = Duration::from_secs(if platform.is_native() { 120 } else { 20 });
        let lab = Lab::new();
        let (client, ok) = lab.login("ana", platform.name()).await;
        assert_eq!(ok["ping_ms"], json!(every.as_millis()), "{platform}");
        let from = lab.now();
        let listener = lab.listen(client);
        sleep(2 * HOUR + SECOND).await;
        let pings = listener.pings();
        assert_eq!(pings.len() as u128, (2 * HOUR).as_millis() / every.as_millis(), "{platform}");
        for (n, at) in (1..).zip(pings) {
            assert_kept(every * n, at - from, &format!("{platform}, ping {n}"));
        }
        assert_eq!(lab.causes("ana").await, [Cause::Login], "{platform}");
        assert_eq!(lab.state("ana").await, State::Online, "{platform}");
    }
}

#[tokio::test(start_paused = true)]
async fn t12_pong_ping_and_message_each_count_as_heard() {
    let says = [
        Message::Pong(Vec::new().into()),
        Message::Ping(Vec::new().into()),
        Message::text(r#"{"type":"ping","id":1}"#),
        // A malformed message counts, too.
        Message::text("?"),
    ];
    for platform in [Platform::Web, Platform::Android] {
        for said in &says {
            let case = format!("{platform}, {said:?}");
            let lab = Lab::new();
            let mut watcher = lab.watcher(&["ana"]).await;
            let (mut client, _) = lab.login("ana", platform.name()).await;
            watcher.state("ana", "Online").await;
            let nearly = window(platform) - SECOND;
            for _ in 0..9 {
                watcher.hears_nothing_for(nearly).await;
                client.socket.send(said.clone()).await.expect("to send");
            }
            let heard = lab.now();
            let left = if platform.is_mobile() { "PushOnline" } else { "Offline" };
            let (at, status) = watcher.state("ana", left).await;
            assert_kept(window(platform), at - heard, &case);
            assert_eq!(status["last_seen"], json!(heard), "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn t14_pong_at_the_end_of_the_window_is_heard() {
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (mut client, _) = lab.login("ana", "web").await;
    watcher.state("ana", "Online").await;
    watcher.hears_nothing_for(window(Platform::Web)).await;
    client.socket.send(Message::Pong(Vec::new().into())).await.expect("to send");
    watcher.hears_nothing_for(window(Platform::Web)).await;
}

#[tokio::test(start_paused = true)]
async fn client_without_a_login_is_closed_after_ten_seconds() {
    let lab = Lab::new();
    for talks in [false, true] {
        let mut client = lab.connect().await;
        let from = lab.now();
        if talks {
            for _ in 0..4 {
                sleep(2 * SECOND).await;
                assert_eq!(client.error(json!({ "type": "ping" })).await, "not_logged_in");
            }
        }
        let (_, code) = client.until_closed().await;
        assert_eq!(code, Some(4000));
        assert_kept(10 * SECOND, lab.now() - from, "the login");
    }
}

#[tokio::test(start_paused = true)]
async fn t16_messages_after_the_end_change_nothing() {
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (mut client, ok) = lab.login("ana", "mac").await;
    watcher.state("ana", "Online").await;
    watcher.state("ana", "Offline").await;
    // The client may not know the end yet; the hub discards its messages.
    client.send(&json!({ "type": "set", "id": 1, "custom": "here" })).await;
    client.send(&json!({ "type": "login", "id": 2 })).await;
    let (messages, code) = client.until_closed().await;
    assert_eq!((messages.len(), code), (0, Some(4002)));
    watcher.hears_nothing_for(MINUTE).await;

    let (_resumed, again) = lab.resume("ana", "mac", &ok).await;
    assert_eq!(again["resumed"], json!(false), "that session is over");
    let (at, _) = watcher.state("ana", "Online").await;
    assert!(lab.now() - at <= AT_ONCE);
    let login = [Cause::Login, Cause::Silence, Cause::Login];
    assert_eq!(lab.causes("ana").await, login);
}

#[test]
fn default_windows_match_the_specification() {
    let policy = crate::lab::defaults().policy().expect("a policy");
    assert_eq!(policy.windows, Windows::default());
    for platform in Platform::ALL {
        assert_eq!(policy.windows.silence(platform), window(platform), "{platform}");
    }
    let exit_and_background = (policy.windows.exit, policy.windows.background);
    assert_eq!(exit_and_background, (4 * SECOND, 30 * SECOND));
}
