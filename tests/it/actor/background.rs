//! T6, T7, T15, T17: mini-programs and other platforms in the background.

use std::time::Duration;

use presence_hub::presence::{Cause, Platform, State};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::lab::{AT_ONCE, Lab, SECOND, assert_kept};

const HIDE: u64 = 30;
const EXIT: u64 = 4;

/// An action of a client, at a time in seconds after its login.
#[derive(Debug, Clone, Copy)]
enum Act {
    Hide(u64),
    Exit(u64),
    Return(u64),
}

impl Act {
    const fn at(self) -> Duration {
        let (Self::Hide(secs) | Self::Exit(secs) | Self::Return(secs)) = self;
        Duration::from_secs(secs)
    }

    fn message(self) -> Value {
        match self {
            // `hide` is the default reason.
            Self::Hide(at) if at % 2 == 0 => json!({ "type": "background" }),
            Self::Hide(_) => json!({ "type": "background", "reason": "hide" }),
            Self::Exit(_) => json!({ "type": "background", "reason": "exit" }),
            Self::Return(_) => json!({ "type": "foreground" }),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn t6_t7_t15_mini_program_in_the_background_ends_at_its_deadline() {
    use Act::{Exit, Hide, Return};
    let cases: [(&[Act], u64, Cause); 9] = [
        (&[Hide(0)], HIDE, Cause::Background),
        (&[Exit(0)], EXIT, Cause::Exit),
        // Repeating it does not extend the deadline.
        (&[Hide(0), Hide(10), Hide(29)], HIDE, Cause::Background),
        (&[Exit(0), Exit(3)], EXIT, Cause::Exit),
        // The earlier of two deadlines applies.
        (&[Hide(0), Exit(5)], 5 + EXIT, Cause::Exit),
        (&[Hide(0), Exit(28)], HIDE, Cause::Background),
        (&[Exit(0), Hide(1)], EXIT, Cause::Exit),
        // The foreground clears the deadline; the next background sets a new one.
        (&[Hide(0), Return(29), Hide(40)], 40 + HIDE, Cause::Background),
        (&[Exit(0), Return(3), Exit(11), Return(12), Hide(21)], 21 + HIDE, Cause::Background),
    ];
    for (acts, ends_at, cause) in cases {
        let lab = Lab::new();
        let mut watcher = lab.watcher(&["ana"]).await;
        let mut ana = lab.listener("ana", "miniprogram").await;
        let from = lab.now();
        watcher.away("ana", false).await;
        // A4: watchers are told who is away, and back.
        let (mut is_away, mut causes) = (false, vec![Cause::Login]);
        for act in acts {
            sleep(act.at() - (lab.now() - from)).await;
            ana.send(act.message()).await;
            let leaves = !matches!(act, Return(_));
            if leaves != is_away {
                is_away = leaves;
                causes.push(if is_away { Cause::Idle } else { Cause::Active });
                watcher.away("ana", is_away).await;
            }
        }
        let (at, _) = watcher.state("ana", "Offline").await;
        assert_kept(Duration::from_secs(ends_at), at - from, &format!("{acts:?}"));
        causes.push(cause);
        assert_eq!(lab.causes("ana").await, causes, "{acts:?}");
        let (closed, code) = ana.close().await;
        assert_eq!(code, 4003, "{acts:?}");
        assert!(closed - at <= AT_ONCE, "{acts:?}: its connection is closed at once");
    }
}

#[tokio::test(start_paused = true)]
async fn t15_reply_contains_the_deadline() {
    let lab = Lab::new();
    let (mut client, _) = lab.login("ana", "miniprogram").await;
    let from = lab.now();
    let hide = json!({ "type": "background", "reason": "hide" });
    let exit = json!({ "type": "background", "reason": "exit" });
    assert_eq!(client.ok(hide.clone()).await["deadline"], json!(from + Duration::from_secs(HIDE)));
    sleep(2 * SECOND).await;
    assert_eq!(client.ok(hide.clone()).await["deadline"], json!(from + Duration::from_secs(HIDE)));
    let sooner = json!(from + Duration::from_secs(2 + EXIT));
    assert_eq!(client.ok(exit).await["deadline"], sooner);
    assert_eq!(client.ok(hide.clone()).await["deadline"], sooner);
    assert_eq!(client.ok(json!({ "type": "foreground" })).await, json!({}));

    let (mut page, _) = lab.login("bo", "web").await;
    assert_eq!(page.ok(hide).await["deadline"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn t15_background_sets_a_deadline_only_for_mini_programs() {
    for platform in Platform::ALL.into_iter().filter(|p| *p != Platform::MiniProgram) {
        for reason in ["hide", "exit"] {
            let lab = Lab::new();
            let mut watcher = lab.watcher(&["ana"]).await;
            let mut ana = lab.listener("ana", platform.name()).await;
            watcher.state("ana", "Online").await;
            ana.send(json!({ "type": "background", "reason": reason })).await;
            if platform != Platform::Web {
                watcher.away("ana", true).await;
            }
            watcher.hears_nothing_for(500 * SECOND).await;
            let background = lab.record("ana").await.terminals[0].background;
            assert!(background.is_some_and(|b| b.deadline.is_none()), "{platform}: {background:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn t17_lost_connection_in_the_background_keeps_the_deadline() {
    for (reason, window, cause) in [("hide", HIDE, Cause::Background), ("exit", EXIT, Cause::Exit)]
    {
        let lab = Lab::new();
        let mut watcher = lab.watcher(&["ana"]).await;
        let (mut client, _) = lab.login("ana", "miniprogram").await;
        watcher.state("ana", "Online").await;
        let from = lab.now();
        client.ok(json!({ "type": "background", "reason": reason })).await;
        watcher.away("ana", true).await;
        watcher.hears_nothing_for(3 * SECOND).await;
        drop(client);
        let (at, _) = watcher.state("ana", "Offline").await;
        assert_kept(Duration::from_secs(window), at - from, reason);
        assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Idle, cause]);
    }
}

#[tokio::test(start_paused = true)]
async fn t17_resume_in_time_is_invisible_and_ends_the_background() {
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (mut client, ok) = lab.login("ana", "miniprogram").await;
    watcher.state("ana", "Online").await;
    client.ok(json!({ "type": "background" })).await;
    let away = watcher.away("ana", true).await;
    watcher.hears_nothing_for(5 * SECOND).await;
    drop(client);
    watcher.hears_nothing_for(24 * SECOND).await;

    let (client, again) = lab.resume("ana", "miniprogram", &ok).await;
    assert_eq!((&again["resumed"], &again["session"]), (&json!(true), &ok["session"]));
    assert_eq!(again["status"]["version"], away["version"]);
    let _ana = lab.listen(client);
    watcher.hears_nothing_for(200 * SECOND).await;
    assert_eq!(lab.record("ana").await.terminals[0].background, None);
    assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Idle]);
}

#[tokio::test(start_paused = true)]
async fn t17_resume_over_an_open_connection_ends_the_background() {
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (mut client, ok) = lab.login("ana", "miniprogram").await;
    watcher.state("ana", "Online").await;
    client.ok(json!({ "type": "background", "reason": "exit" })).await;
    watcher.away("ana", true).await;
    watcher.hears_nothing_for(2 * SECOND).await;
    let (second, again) = lab.resume("ana", "miniprogram", &ok).await;
    assert_eq!(again["resumed"], json!(true));
    assert_eq!(client.until_closed().await.1, Some(4007), "its session has moved");
    let _ana = lab.listen(second);
    watcher.hears_nothing_for(200 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn t17_session_is_over_after_the_deadline() {
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (mut client, ok) = lab.login("ana", "miniprogram").await;
    watcher.state("ana", "Online").await;
    client.ok(json!({ "type": "background", "reason": "exit" })).await;
    watcher.away("ana", true).await;
    drop(client);
    watcher.state("ana", "Offline").await;
    let (_client, again) = lab.resume("ana", "miniprogram", &ok).await;
    assert_eq!(again["resumed"], json!(false));
    assert_ne!(again["session"], ok["session"]);
    watcher.state("ana", "Online").await;
}

#[tokio::test(start_paused = true)]
async fn t17_earlier_of_silence_and_background_deadline_applies() {
    for (silence, ends_at, cause, code) in
        [(20, 20, Cause::Silence, 4002), (45, HIDE, Cause::Background, 4003)]
    {
        let lab = Lab::with(|config| config.liveness.web_silence = Duration::from_secs(silence));
        let mut watcher = lab.watcher(&["ana"]).await;
        let (mut client, _) = lab.login("ana", "miniprogram").await;
        watcher.state("ana", "Online").await;
        let from = lab.now();
        client.ok(json!({ "type": "background" })).await;
        watcher.away("ana", true).await;
        let (at, _) = watcher.state("ana", "Offline").await;
        assert_kept(Duration::from_secs(ends_at), at - from, &format!("{silence}"));
        assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Idle, cause]);
        assert_eq!(client.until_closed().await.1, Some(code));
    }
}

#[tokio::test(start_paused = true)]
async fn t3_end_of_a_mini_program_in_the_foreground_is_visible_at_once() {
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (mut client, _) = lab.login("ana", "miniprogram").await;
    watcher.state("ana", "Online").await;
    client.ok(json!({ "type": "background" })).await;
    watcher.away("ana", true).await;
    client.ok(json!({ "type": "foreground" })).await;
    watcher.away("ana", false).await;
    let from = lab.now();
    drop(client);
    let (at, _) = watcher.state("ana", "Offline").await;
    assert!(at - from <= AT_ONCE);
    assert_eq!(lab.state("ana").await, State::Offline);
}
