//! T12: stalls of the hub extend all windows.

use std::time::Duration;

use futures::SinkExt;
use presence_hub::clock::{Clock, TICK};
use presence_hub::presence::{Cause, Platform, Stall};
use serde_json::json;
use tokio::time::{advance, sleep};
use tokio_tungstenite::tungstenite::Message;

use crate::lab::{AT_ONCE, EPOCH, Lab, SECOND, assert_kept};

/// A stall that is longer than all windows except those of native apps.
const STALL: Duration = Duration::from_secs(70);
/// The time of two ticks after a stall.
const TICKS: Duration = Duration::from_millis(200);

#[tokio::test(start_paused = true)]
async fn t12_stall_lasts_from_tick_to_tick_and_a_late_tick_is_no_stall() {
    let clock = Clock::simulated(EPOCH);
    let late = SECOND + TICK;
    advance(late).await;
    assert_eq!(clock.tick(), None, "one second late is not a stall");
    assert_eq!((clock.running(), clock.stalled_for()), (EPOCH + late, Duration::ZERO));

    let whole = late + Duration::from_millis(1);
    let stall = Stall { from: EPOCH + late, until: EPOCH + late + whole };
    advance(whole).await;
    // The stall counts before the tick, and the same after it.
    for tick in [None, Some(whole)] {
        assert!(tick.is_none() || clock.tick() == tick);
        assert_eq!((clock.running(), clock.stalled_for()), (EPOCH + late, whole));
        assert_eq!(*clock.present().1, [stall]);
    }
    advance(TICK).await;
    assert_eq!(clock.running(), EPOCH + late + TICK, "time goes on");
    assert_eq!(clock.tick(), None);
}

#[tokio::test(start_paused = true)]
async fn t12_data_that_arrived_during_a_stall_counts_as_heard_in_time() {
    for (platform, stall) in [(Platform::Web, STALL), (Platform::Linux, 7 * STALL)] {
        let lab = Lab::new();
        let mut watcher = lab.watcher(&["ana"]).await;
        let (mut client, _) = lab.login("ana", platform.name()).await;
        watcher.state("ana", "Online").await;
        let window = if platform.is_native() { 400 * SECOND } else { 60 * SECOND };
        watcher.hears_nothing_for(window - SECOND).await;
        client.socket.send(Message::Pong(Vec::new().into())).await.expect("to send");
        advance(stall).await;
        // The pong is read only now, so the window restarts now.
        let from = lab.now();
        let (at, _) = watcher.state("ana", "Offline").await;
        assert_kept(window, at - from, platform.name());
    }
}

#[tokio::test(start_paused = true)]
async fn t12_stall_extends_silence_deadlines_and_makes_pings_due_at_once() {
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana", "bo"]).await;
    let (_silent, _) = lab.login("ana", "web").await;
    let bo = lab.listener("bo", "web").await;
    watcher.state("ana", "Online").await;
    watcher.state("bo", "Online").await;
    let from = lab.now();
    watcher.hears_nothing_for(19 * SECOND).await;
    // The ping at 20 s is sent at once after the stall.
    advance(STALL).await;
    let resumed = lab.now();
    let (at, _) = watcher.state("ana", "Offline").await;
    let took = at - from;
    let moved = 60 * SECOND + STALL..=61 * SECOND + STALL;
    assert!(moved.contains(&took), "{took:?}");
    let first = bo.pings()[0];
    assert!(first - resumed <= TICKS, "pinged {:?} after the stall", first - resumed);
    assert_eq!(lab.causes("bo").await, [Cause::Login], "a client that answers pings stays");
}

#[tokio::test(start_paused = true)]
async fn t12_client_that_only_answers_pings_survives_many_stalls() {
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana", "bo", "cy"]).await;
    let _clients = [
        lab.listener("ana", "web").await,
        lab.listener("bo", "miniprogram").await,
        lab.listener("cy", "android").await,
    ];
    for user in ["ana", "bo", "cy"] {
        watcher.state(user, "Online").await;
    }
    for stall in [2, 9, 59, 61, 70, 500, 3600] {
        advance(stall * SECOND).await;
        watcher.hears_nothing_for(65 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn t12_stall_extends_background_and_grace_windows() {
    for (reason, window) in
        [(Some("hide"), 30 * SECOND), (Some("exit"), 4 * SECOND), (None, SECOND)]
    {
        let lab = Lab::new();
        let mut watcher = lab.watcher(&["ana"]).await;
        let platform = if reason.is_some() { "miniprogram" } else { "web" };
        let (mut client, _) = lab.login("ana", platform).await;
        watcher.state("ana", "Online").await;
        if let Some(reason) = reason {
            client.ok(json!({ "type": "background", "reason": reason })).await;
            watcher.away("ana", true).await;
        }
        let from = lab.now();
        drop(client);
        sleep(Duration::from_millis(500)).await;
        advance(STALL).await;
        let (at, _) = watcher.state("ana", "Offline").await;
        let moved = window + STALL..=window + STALL + SECOND;
        assert!(moved.contains(&(at - from)), "{reason:?}: {:?}", at - from);
    }
}

#[tokio::test(start_paused = true)]
async fn t12_resume_right_after_a_stall_is_invisible() {
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana", "bo"]).await;
    let (page, ok) = lab.login("ana", "web").await;
    let (mut mini, mini_ok) = lab.login("bo", "miniprogram").await;
    watcher.state("ana", "Online").await;
    watcher.state("bo", "Online").await;
    mini.ok(json!({ "type": "background", "reason": "exit" })).await;
    watcher.away("bo", true).await;
    drop((page, mini));
    sleep(AT_ONCE).await;
    advance(STALL).await;
    let (page, ok) = lab.resume("ana", "web", &ok).await;
    assert_eq!(ok["resumed"], json!(true));
    let (mini, ok) = lab.resume("bo", "miniprogram", &mini_ok).await;
    assert_eq!(ok["resumed"], json!(true));
    let _alive = [lab.listen(page), lab.listen(mini)];
    watcher.hears_nothing_for(300 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn l7_resume_that_waited_during_a_long_stall_is_not_executed_after_it() {
    for (stall, is_executed) in [(3 * SECOND, true), (6 * SECOND, false)] {
        let lab = Lab::new();
        let (client, ok) = lab.login("ana", "linux").await;
        // The socket stays half open, so the hub does not notice the loss.
        std::mem::forget(client);
        let mut hello = lab.hello("ana", "linux");
        (hello["resume"], hello["id"]) = (ok["session"].clone(), json!(1));
        let mut late = lab.connect().await;
        sleep(TICKS).await;
        late.send(&hello).await;
        advance(stall).await;
        let reply = late.message().await;
        assert_eq!(reply["ok"]["resumed"] == json!(true), is_executed, "{reply}");
        if !is_executed {
            assert_eq!(reply["error"]["code"], json!("unavailable"), "{reply}");
            assert_eq!(late.until_closed().await.1, Some(4006));
        }
        let (_again, again) = lab.resume("ana", "linux", &ok).await;
        assert_eq!(again["resumed"], json!(true), "{again}");
    }
}
