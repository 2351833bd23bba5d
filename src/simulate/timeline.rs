//! Writes what happens in a simulation, for people or as lines of JSON.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::device::Ended;
use super::fault::{Fault, other};
use super::receiver::Posted;
use super::scenario::{Act, Does};
use crate::duration;
use crate::presence::Timestamp;

/// What happens, in the order of time.
pub(super) struct Timeline<W> {
    out: W,
    is_json: bool,
    began: Timestamp,
}

impl<W: Write> Timeline<W> {
    pub(super) const fn new(out: W, is_json: bool) -> Self {
        Self { out, is_json, began: Timestamp::from_millis(0) }
    }

    /// Begins a simulation, at this time of the hub.
    pub(super) fn begin(&mut self, began: Timestamp) -> Result<(), Fault> {
        self.began = began;
        if self.is_json {
            return Ok(());
        }
        self.row("time", "user", "change", "cause", "device")
    }

    /// Shows what somebody did, and what came of it.
    pub(super) fn act(
        &mut self,
        at: Timestamp,
        act: &Act,
        told: Option<&str>,
    ) -> Result<(), Fault> {
        let (user, device, does) = describe(act);
        if self.is_json {
            let after_ms = millis(at - self.began);
            return self.json(&json!({ "step": {
                "after_ms": after_ms, "user": user, "device": device, "do": does, "result": told,
            }}));
        }
        let does = told.map_or_else(|| does.clone(), |told| format!("{does} ({told})"));
        let time = clock(at - self.began);
        self.row(&time, user.unwrap_or("-"), &format!("> {does}"), "", device.unwrap_or_default())
    }

    /// Shows changes. Of a session whose connection the hub has ended, the last one says how.
    pub(super) fn events(
        &mut self,
        events: &[Value],
        ended: &BTreeMap<String, Ended>,
    ) -> Result<(), Fault> {
        for (n, event) in events.iter().enumerate() {
            let session = event["terminal"]["session"].as_str();
            let is_last = !events[n + 1..]
                .iter()
                .any(|later| later["terminal"]["session"] == event["terminal"]["session"]);
            let ended = session.and_then(|session| ended.get(session)).filter(|_| is_last);
            self.event(event, ended)?;
        }
        Ok(())
    }

    fn event(&mut self, event: &Value, ended: Option<&Ended>) -> Result<(), Fault> {
        let at = Timestamp::from_millis(event["at"].as_u64().unwrap_or_default());
        let after = at - self.began;
        let closed = ended.filter(|ended| ended.code.is_some() || ended.kicked.is_some());
        if self.is_json {
            let code = closed.and_then(|closed| closed.code);
            let line = json!({ "event": event, "after_ms": millis(after), "closed": code });
            return self.json(&line);
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (from, to) = (text(&event["state"]["from"]), text(&event["state"]["to"]));
        let change = if from == to { to } else { format!("{from} -> {to}") };
        let terminal = &event["terminal"];
        let mut device = match terminal["device"].as_str() {
            Some(device) => format!("{device} ({})", text(&terminal["platform"])),
            None => String::new(),
        };
        if let Some(closed) = closed {
            let kicked = closed.kicked.as_ref().map(|why| format!(", kicked: {why}"));
            let code = closed.code.map(|code| format!(", closed: {code}"));
            device += &(kicked.unwrap_or_default() + &code.unwrap_or_default());
        }
        let (user, cause) = (text(&event["user"]), text(&event["cause"]));
        self.row(&clock(after), &user, &change, &cause, &device)
    }

    /// Shows the webhooks as they were received.
    pub(super) fn end(&mut self, posted: &[Posted]) -> Result<(), Fault> {
        if self.is_json {
            for (n, Posted { id, body }) in posted.iter().enumerate() {
                self.json(&json!({ "webhook": { "number": n + 1, "id": id, "body": body } }))?;
            }
            return Ok(());
        }
        self.line("")?;
        self.line(&format!("{} webhook requests received", posted.len()))?;
        for (n, Posted { body, .. }) in posted.iter().enumerate() {
            let Some(events) = body["events"].as_array() else {
                self.line(&format!("  #{} {body}", n + 1))?;
                continue;
            };
            for event in events {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let at = Timestamp::from_millis(event["at"].as_u64().unwrap_or_default());
                let (time, user) = (clock(at - self.began), text(&event["user"]));
                let (from, to) = (text(&event["state"]["from"]), text(&event["state"]["to"]));
                let cause = text(&event["cause"]);
                self.line(&format!("  #{} {time} {user} {from} -> {to} {cause}", n + 1))?;
            }
        }
        Ok(())
    }

    fn row(
        &mut self,
        time: &str,
        user: &str,
        change: &str,
        cause: &str,
        device: &str,
    ) -> Result<(), Fault> {
        let line = format!("{time:>17}  {user:<12}  {change:<28}  {cause:<13}  {device}");
        self.line(line.trim_end())
    }

    fn json(&mut self, value: &Value) -> Result<(), Fault> {
        self.line(&value.to_string())
    }

    fn line(&mut self, line: &str) -> Result<(), Fault> {
        writeln!(self.out, "{line}").map_err(|error| other("standard output", &error))
    }
}

/// The user, the device, and what happens.
fn describe(act: &Act) -> (Option<&str>, Option<&str>, String) {
    match act {
        Act::OnDevice { user, device, does } => {
            (Some(user.as_str()), Some(device.as_str()), does_what(does))
        }
        Act::Kick { user, device } => {
            let device = device.as_ref().map(|device| device.as_str());
            (Some(user.as_str()), device, "kick".into())
        }
        Act::RestartHub => (None, None, "restart_hub".into()),
        Act::KillHub => (None, None, "kill_hub".into()),
    }
}

fn does_what(does: &Does) -> String {
    match does {
        Does::Login { .. } => "login".into(),
        Does::Logout => "logout".into(),
        Does::Background => "background".into(),
        Does::Foreground => "foreground".into(),
        Does::Exit => "exit".into(),
        Does::Custom(Some(text)) => format!("custom {text:?}"),
        Does::Custom(None) => "custom".into(),
        Does::RenewToken { token_ttl: Some(ttl) } => {
            format!("renew_token {}", duration::format(*ttl))
        }
        Does::RenewToken { token_ttl: None } => "renew_token".into(),
        Does::Close => "close".into(),
        Does::KillApp => "kill_app".into(),
        Does::Reload => "reload".into(),
        Does::LoseNetwork => "lose_network".into(),
        Does::Return => "return".into(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A time from the begin: `7d 00:06:40.104`.
pub(super) fn clock(after: Duration) -> String {
    let (secs, ms) = (after.as_secs(), after.subsec_millis());
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    let time = format!("{hours:02}:{minutes:02}:{:02}.{ms:03}", secs % 60);
    if days > 0 { format!("{days}d {time}") } else { time }
}
