//! Plays a scenario: moves the clock from step to step, and acts for the users.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::device::{Connection, Device, Ended, Line};
use super::fault::Fault;
use super::hub::Hub;
use super::receiver::Receiver;
use super::scenario::{Act, Does, Scenario, Step};
use super::timeline::{Timeline, clock};
use crate::duration;
use crate::presence::{DeviceId, Platform, State, Timestamp, UserId};

/// The close code of a client that leaves.
const LEAVES: u16 = 1000;
/// The close code of a page that is loaded anew.
const GOES_AWAY: u16 = 1001;
/// How many events are read at once.
const EVENTS: usize = 1000;

type Whose = (UserId, DeviceId);

/// A scenario while it is played.
pub(super) struct Play<'a, W> {
    scenario: &'a Scenario,
    hub: Hub,
    devices: BTreeMap<Whose, Device>,
    timeline: Timeline<W>,
    /// When it began, on the hub's clock.
    began: Timestamp,
    /// The hub's clock after the last move.
    now: Timestamp,
    /// The last event that was shown.
    shown: Option<String>,
}

impl<'a, W: Write> Play<'a, W> {
    /// Starts the hub of a scenario, and plays all steps.
    ///
    /// # Errors
    ///
    /// If an expectation does not hold, a step cannot be played, or the simulation fails.
    pub(super) async fn all(scenario: &'a Scenario, timeline: Timeline<W>) -> Result<(), Fault> {
        let (receiver, address) = Receiver::start().await?;
        let hub = Hub::start(scenario, address).await?;
        let began = hub.advance(Duration::ZERO).await?;
        let devices = BTreeMap::new();
        let mut play = Self { scenario, hub, devices, timeline, began, now: began, shown: None };
        play.timeline.begin(began)?;
        let mut played = Ok(());
        for step in &scenario.steps {
            played = play.step(step).await;
            if played.is_err() {
                break;
            }
        }
        // After a failure, too: they may show why.
        play.timeline.end(&receiver.posted())?;
        played
    }

    /// Plays one step.
    async fn step(&mut self, step: &Step) -> Result<(), Fault> {
        let until = (self.began + step.at) - self.now;
        if !until.is_zero() {
            self.now = self.hub.advance(until).await?;
            self.show_events().await?;
        }
        if let Some(act) = &step.act {
            let told = self.act(act).await.map_err(|why| self.at_step(step, why))?;
            self.timeline.act(self.began + step.at, act, told.as_deref())?;
            self.now = self.hub.advance(Duration::ZERO).await?;
            self.show_events().await?;
        }
        match &step.expect {
            Some((user, state)) => self.check(step, user, *state).await,
            None => Ok(()),
        }
    }

    /// Names the step that a fault belongs to.
    fn at_step(&self, step: &Step, why: Fault) -> Fault {
        match why {
            Fault::Step(why) => {
                let at = clock(step.at);
                Fault::Step(format!("{}:{}: at {at}: {why}", self.scenario.name, step.line))
            }
            Fault::Scenario(_) | Fault::Other(_) => why,
        }
    }

    async fn check(&self, step: &Step, user: &UserId, state: State) -> Result<(), Fault> {
        let status = json!({ "users": [user] });
        let answer = self.hub.call("v1/status", &status).await?;
        let status = &answer["statuses"][0];
        let is = status["state"].as_str().unwrap_or_default();
        if is == state.name() {
            return Ok(());
        }
        let since = status["since"].as_u64().map(Timestamp::from_millis);
        let since = since.map(|since| format!(" since {}", clock(since - self.began)));
        let (user, expected) = (user.as_str(), state.name());
        let since = since.unwrap_or_default();
        let why = format!("expected {user} to be {expected}, but {user} is {is}{since}");
        Err(self.at_step(step, Fault::Step(why)))
    }

    /// Shows the events since the last call.
    async fn show_events(&mut self) -> Result<(), Fault> {
        #[derive(Deserialize)]
        struct Page {
            events: Vec<Value>,
            next: String,
        }
        loop {
            let after = self.shown.as_ref().map(|cursor| format!("&after={cursor}"));
            let path = format!("v1/events?limit={EVENTS}{}", after.unwrap_or_default());
            let page: Page = serde_json::from_value(self.hub.get(&path).await?)
                .map_err(|error| Fault::Other(format!("/{path}: {error}")))?;
            self.shown = Some(page.next);
            let ended = self.ended(&page.events).await;
            self.timeline.events(&page.events, &ended)?;
            if page.events.len() < EVENTS {
                return Ok(());
            }
        }
    }

    /// How the hub ended the connections of the sessions that are not `Online` any more, by session.
    async fn ended(&mut self, events: &[Value]) -> BTreeMap<String, Ended> {
        let left = events.iter().map(|event| &event["terminal"]);
        let left =
            left.filter(|terminal| terminal["from"] == "Online" && terminal["to"] != "Online");
        let left: BTreeSet<_> = left.filter_map(|terminal| terminal["session"].as_str()).collect();
        let mut ended = BTreeMap::new();
        for device in self.devices.values_mut() {
            let session = device.session.clone().unwrap_or_default();
            if let Line::Connected(connection) = &device.line
                && left.contains(session.as_str())
            {
                ended.insert(session, connection.until_ended().await);
                device.line = Line::Closed;
            }
        }
        ended
    }

    /// Does what a step says; returns what is told about it.
    async fn act(&mut self, act: &Act) -> Result<Option<String>, Fault> {
        match act {
            Act::OnDevice { user, device, does } => {
                let whose = (user.clone(), device.clone());
                self.on_device(&whose, does).await
            }
            Act::Kick { user, device } => {
                let user = percent_encoded(user.as_str());
                let target = match device {
                    Some(device) => json!({ "device": device }),
                    None => json!({ "all": true }),
                };
                self.hub.call(&format!("v1/users/{user}/kick"), &target).await.map(|_| None)
            }
            Act::RestartHub => self.restart(Signal::TERM).await.map(|()| None),
            Act::KillHub => self.restart(Signal::KILL).await.map(|()| None),
        }
    }

    async fn on_device(&mut self, whose: &Whose, does: &Does) -> Result<Option<String>, Fault> {
        match does {
            Does::Login { platform, token_ttl } => {
                let line = Line::Closed;
                let new =
                    Device { platform: *platform, token_ttl: *token_ttl, session: None, line };
                let old = self.devices.insert(whose.clone(), new);
                let told = self.log_in(whose, None).await;
                drop(old);
                told
            }
            Does::Return => {
                let device = self.device(whose)?;
                if let Line::Connected(connection) = &device.line
                    && !connection.ended().is_over
                {
                    return Err(Fault::Step(format!("{} is still connected", name(whose))));
                }
                self.resume(whose).await
            }
            Does::Reload => {
                self.take_connection(whose)?.close(GOES_AWAY).await;
                self.resume(whose).await
            }
            Does::Logout => {
                let told = self.ask(whose, json!({ "type": "logout" })).await?;
                self.device_mut(whose)?.session = None;
                Ok(told)
            }
            Does::Background => self.ask(whose, json!({ "type": "background" })).await,
            Does::Exit => self.ask(whose, json!({ "type": "background", "reason": "exit" })).await,
            Does::Foreground => self.ask(whose, json!({ "type": "foreground" })).await,
            Does::Custom(text) => self.ask(whose, json!({ "type": "set", "custom": text })).await,
            Does::RenewToken { token_ttl } => {
                self.device_mut(whose)?.token_ttl = *token_ttl;
                let token = self.token(whose).await?;
                self.ask(whose, json!({ "type": "refresh", "token": token })).await
            }
            Does::Close => {
                self.take_connection(whose)?.close(LEAVES).await;
                Ok(None)
            }
            Does::KillApp => self.take_connection(whose).map(drop).map(|()| None),
            Does::LoseNetwork => {
                let session = self.device(whose)?.session.clone();
                let cut = json!({ "user": whose.0, "session": session });
                let connection = self.take_connection(whose)?;
                let ignored: Result<Value, Fault> = self.hub.development("ignore", &cut).await;
                self.device_mut(whose)?.line = Line::Cut(connection);
                ignored.map(|_| None)
            }
        }
    }

    async fn resume(&mut self, whose: &Whose) -> Result<Option<String>, Fault> {
        // Without a session it is one that never was.
        let session = self.device(whose)?.session.clone().unwrap_or_default();
        self.log_in(whose, Some(session)).await
    }

    /// Logs in or resumes on a new connection; returns why it was refused, if it was.
    async fn log_in(
        &mut self,
        whose: &Whose,
        resume: Option<String>,
    ) -> Result<Option<String>, Fault> {
        let (user, device) = whose;
        let token = self.token(whose).await?;
        let connection = Connection::open(self.hub.address).await?;
        let platform: Platform = self.device(whose)?.platform;
        let mut login = json!({
            "type": "login", "token": token, "platform": platform, "device": device,
        });
        if let Some(session) = resume {
            login["resume"] = session.into();
        }
        let reply = connection.ask(login).await.map_err(|_| {
            Fault::Step(format!("the hub did not answer the login of {}", user.as_str()))
        })?;
        if let Some(code) = reply["error"]["code"].as_str() {
            return Ok(Some(format!("refused: {code}")));
        }
        let is_resumed = reply["ok"]["resumed"] == true;
        let device = self.device_mut(whose)?;
        device.session = reply["ok"]["session"].as_str().map(str::to_owned);
        device.line = Line::Connected(connection);
        Ok(is_resumed.then(|| "session resumed".to_owned()))
    }

    /// Mints a token. It lives as long as it may, if the scenario does not say how long.
    async fn token(&self, whose: &Whose) -> Result<String, Fault> {
        #[derive(Deserialize)]
        struct Minted {
            token: String,
        }
        let longest = self.hub.config.auth.max_token_ttl;
        let ttl = duration::format(self.device(whose)?.token_ttl.unwrap_or(longest));
        let asked = json!({ "user": whose.0, "ttl": ttl });
        let minted: Minted = self.hub.development("token", &asked).await?;
        Ok(minted.token)
    }

    /// Asks the hub on a device's connection; returns the code of an error.
    async fn ask(&self, whose: &Whose, request: Value) -> Result<Option<String>, Fault> {
        let Line::Connected(connection) = &self.device(whose)?.line else {
            return Err(not_connected(whose));
        };
        let reply = connection.ask(request).await.map_err(|_| not_connected(whose))?;
        Ok(reply["error"]["code"].as_str().map(|code| format!("refused: {code}")))
    }

    /// Takes the open connection of a device away from it.
    fn take_connection(&mut self, whose: &Whose) -> Result<Connection, Fault> {
        let line = &mut self.device_mut(whose)?.line;
        let is_open = match line {
            Line::Connected(connection) => !connection.ended().is_over,
            Line::Cut(_) | Line::Closed => false,
        };
        if is_open && let Line::Connected(connection) = std::mem::replace(line, Line::Closed) {
            return Ok(connection);
        }
        Err(not_connected(whose))
    }

    /// Stops the hub and starts it again. The clients that were connected resume.
    async fn restart(&mut self, signal: Signal) -> Result<(), Fault> {
        let connected = self.devices.iter().filter(|(_, device)| match &device.line {
            Line::Connected(connection) => !connection.ended().is_over,
            Line::Cut(_) | Line::Closed => false,
        });
        let connected: Vec<_> = connected.map(|(whose, _)| whose.clone()).collect();
        self.hub.restart(signal).await?;
        for whose in connected {
            self.resume(&whose).await?;
        }
        Ok(())
    }

    fn device(&self, whose: &Whose) -> Result<&Device, Fault> {
        self.devices.get(whose).ok_or_else(|| not_connected(whose))
    }

    fn device_mut(&mut self, whose: &Whose) -> Result<&mut Device, Fault> {
        self.devices.get_mut(whose).ok_or_else(|| not_connected(whose))
    }
}

/// A device and its user, for people.
fn name((user, device): &Whose) -> String {
    format!("{}'s {}", user.as_str(), device.as_str())
}

fn not_connected(whose: &Whose) -> Fault {
    Fault::Step(format!("{} has no connection", name(whose)))
}

/// A user id in a path.
fn percent_encoded(user: &str) -> String {
    form_urlencoded::byte_serialize(user.as_bytes()).collect::<String>().replace('+', "%20")
}
