//! Reads a scenario: settings of the hub, and what users do when.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::Table;
use toml::de::{DeTable, DeValue};

use super::fault::Fault;
use crate::config::position;
use crate::duration;
use crate::presence::{DeviceId, Platform, State, UserId};
use crate::wire::explain;

/// A valid scenario.
#[derive(Debug)]
pub(super) struct Scenario {
    /// The file, as it was given.
    pub(super) name: String,
    text: String,
    /// The settings of the hub, as in its `config.toml`.
    pub(super) hub: Table,
    /// In the order of time.
    pub(super) steps: Vec<Step>,
}

/// One step.
#[derive(Debug)]
pub(super) struct Step {
    /// The line in the file.
    pub(super) line: usize,
    /// When it happens, from the begin.
    pub(super) at: Duration,
    /// What happens; `None` if the step only expects something.
    pub(super) act: Option<Act>,
    /// The user's state afterwards.
    pub(super) expect: Option<(UserId, State)>,
}

/// What happens.
#[derive(Debug)]
pub(super) enum Act {
    /// Somebody does something on a device.
    OnDevice { user: UserId, device: DeviceId, does: Does },
    /// The back end kicks a user, or one device of a user.
    Kick { user: UserId, device: Option<DeviceId> },
    /// The hub is stopped and started again; clients resume.
    RestartHub,
    /// The hub is killed and started again; clients resume.
    KillHub,
}

/// What somebody does on a device.
#[derive(Debug)]
pub(super) enum Does {
    Login {
        platform: Platform,
        token_ttl: Option<Duration>,
    },
    Logout,
    Background,
    Foreground,
    /// Leaves a mini-program by its close button.
    Exit,
    Custom(Option<String>),
    /// Shows the hub a new token.
    RenewToken {
        token_ttl: Option<Duration>,
    },
    /// The client closes its connection properly.
    Close,
    /// The system kills the app: its socket is closed without a word.
    KillApp,
    /// The page is loaded anew: it closes its connection, and resumes on another one.
    Reload,
    /// Nothing arrives any more, in both directions, and nobody is told.
    LoseNetwork,
    /// The client comes back on a new connection, and resumes its session.
    Return,
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    hub: Table,
    step: Vec<Fields>,
}

/// The fields of a step.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, deserialize_with = "some_duration")]
    at: Option<Duration>,
    user: Option<String>,
    device: Option<DeviceId>,
    platform: Option<Platform>,
    #[serde(rename = "do")]
    act: Option<Word>,
    #[serde(default, deserialize_with = "some_duration")]
    token_ttl: Option<Duration>,
    text: Option<String>,
    expect: Option<State>,
}

/// The values of `do`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Login,
    Logout,
    Background,
    Foreground,
    Exit,
    Custom,
    RenewToken,
    Close,
    KillApp,
    Reload,
    LoseNetwork,
    Return,
    Kick,
    RestartHub,
    KillHub,
}

fn some_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration::deserialize(from).map(Some)
}

impl Scenario {
    /// Reads and checks a scenario.
    ///
    /// # Errors
    ///
    /// What is wrong, with its line and key.
    pub(super) fn read(file: &Path) -> Result<Self, Fault> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| Fault::Scenario(format!("{name}: {error}")))?;
        let File { hub, step } = parse(&name, &text)?;
        let mut scenario = Self { name, text, hub, steps: Vec::new() };
        let lines = scenario.step_lines();
        let mut cast = Cast::default();
        for (n, fields) in step.into_iter().enumerate() {
            let line = lines.get(n).copied().unwrap_or_default();
            let read = cast.step(fields, line);
            let step = read.map_err(|why| {
                Fault::Scenario(format!("{}:{line}: step[{n}]: {why}", scenario.name))
            })?;
            scenario.steps.push(step);
        }
        Ok(scenario)
    }

    /// The place of a key of the hub's settings.
    pub(super) fn place(&self, key: &str) -> String {
        let path = ["hub"].into_iter().chain(key.split('.'));
        let table = DeTable::parse(&self.text).ok();
        let offset = table.and_then(|table| offset_of(table.get_ref(), path));
        match offset {
            Some(offset) => format!("{}:{}", self.name, position(&self.text, offset).0),
            None => self.name.clone(),
        }
    }

    /// The line of each step.
    fn step_lines(&self) -> Vec<usize> {
        let Ok(table) = DeTable::parse(&self.text) else { return Vec::new() };
        let steps = table.get_ref().iter().find(|(key, _)| key.get_ref() == "step");
        let steps = steps.and_then(|(_, steps)| steps.get_ref().as_array());
        let line = |offset| position(&self.text, offset).0;
        steps.into_iter().flatten().map(|step| line(step.span().start)).collect()
    }
}

/// Where the last of some nested keys is.
fn offset_of<'a>(table: &DeTable<'_>, mut path: impl Iterator<Item = &'a str>) -> Option<usize> {
    let name = path.next()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
    let within = match value.get_ref() {
        DeValue::Table(inner) => offset_of(inner, path),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_) => None,
    };
    within.or(Some(key.span().start))
}

fn parse(name: &str, text: &str) -> Result<File, Fault> {
    let fault = |error: &toml::de::Error, message: String| {
        let (line, column) = position(text, error.span().map_or(0, |span| span.start));
        Fault::Scenario(format!("{name}:{line}:{column}: {message}"))
    };
    let deserializer = toml::Deserializer::parse(text);
    let deserializer = deserializer.map_err(|error| fault(&error, error.message().to_owned()))?;
    serde_path_to_error::deserialize(deserializer).map_err(|wrong| {
        let given: Option<Table> = toml::from_str(text).ok();
        let given = given.and_then(|given| serde_json::to_value(given).ok());
        let error = wrong.inner();
        fault(error, explain(wrong.path(), error.message(), given.as_ref(), "the scenario"))
    })
}

/// The users and devices of the steps so far.
#[derive(Default)]
struct Cast {
    /// The time of the last step.
    at: Duration,
    devices: BTreeMap<UserId, BTreeMap<DeviceId, Platform>>,
}

impl Cast {
    /// Checks the fields of the next step.
    fn step(&mut self, fields: Fields, line: usize) -> Result<Step, String> {
        let at = fields.at.unwrap_or(self.at);
        if at < self.at {
            let before = duration::format(self.at);
            let at = duration::format(at);
            return Err(format!("`at` is {at}, before the step above, which is at {before}"));
        }
        self.at = at;
        let user = fields.user.as_deref().map(|user| {
            user.parse::<UserId>().map_err(|error| format!("`user` is {user:?}: {error}"))
        });
        let user = user.transpose()?;
        let expect = match (fields.expect, &user) {
            (Some(_), None) => return Err("`expect` needs `user`".into()),
            (Some(state), Some(user)) => Some((user.clone(), state)),
            (None, _) => None,
        };
        only_with(&[Word::Login], fields.act, "platform", fields.platform.is_some())?;
        let has_token = [Word::Login, Word::RenewToken];
        only_with(&has_token, fields.act, "token_ttl", fields.token_ttl.is_some())?;
        only_with(&[Word::Custom], fields.act, "text", fields.text.is_some())?;
        let act = match fields.act {
            None if expect.is_none() => return Err("`do` or `expect` is missing".into()),
            None if fields.device.is_some() => {
                return Err("`device` has no meaning without `do`".into());
            }
            None => None,
            Some(word) => Some(self.act(word, user, fields)?),
        };
        Ok(Step { line, at, act, expect })
    }

    fn act(&mut self, word: Word, user: Option<UserId>, fields: Fields) -> Result<Act, String> {
        if matches!(word, Word::RestartHub | Word::KillHub) {
            // `user` may be there for `expect`.
            let is_named = user.is_some() && fields.expect.is_none() || fields.device.is_some();
            return match (is_named, word) {
                (true, _) => Err(format!("{} has no `user` and no `device`", name(word))),
                (false, Word::RestartHub) => Ok(Act::RestartHub),
                (false, _) => Ok(Act::KillHub),
            };
        }
        let user = user.ok_or_else(|| format!("{} needs `user`", name(word)))?;
        if word == Word::Kick {
            if let Some(device) = &fields.device {
                self.known(&user, device)?;
            }
            return Ok(Act::Kick { user, device: fields.device });
        }
        let device = self.device(&user, word, &fields)?;
        let does = match word {
            Word::Login => {
                let platform = self.platform(&user, &device, fields.platform)?;
                Does::Login { platform, token_ttl: fields.token_ttl }
            }
            Word::Logout => Does::Logout,
            Word::Background => Does::Background,
            Word::Foreground => Does::Foreground,
            Word::Exit => Does::Exit,
            Word::Custom => Does::Custom(fields.text),
            Word::RenewToken => Does::RenewToken { token_ttl: fields.token_ttl },
            Word::Close => Does::Close,
            Word::KillApp => Does::KillApp,
            Word::Reload => Does::Reload,
            Word::LoseNetwork => Does::LoseNetwork,
            Word::Return => Does::Return,
            Word::Kick | Word::RestartHub | Word::KillHub => unreachable!("handled above"),
        };
        Ok(Act::OnDevice { user, device, does })
    }

    /// The device of a step: the one that it names, or the only one that the user has. A first login may leave it
    /// out; then it is named like its platform.
    fn device(&self, user: &UserId, word: Word, fields: &Fields) -> Result<DeviceId, String> {
        let known = self.devices.get(user);
        if let Some(device) = &fields.device {
            if word != Word::Login {
                self.known(user, device)?;
            }
            return Ok(device.clone());
        }
        if word == Word::Login
            && let Some(platform) = fields.platform
        {
            return platform.name().parse().map_err(|error| format!("{error}"));
        }
        let mut devices = known.into_iter().flat_map(BTreeMap::keys);
        match (devices.next(), devices.next()) {
            (Some(only), None) => Ok(only.clone()),
            (None, _) if word == Word::Login => Err("the first login needs `platform`".into()),
            (None, _) => Err(format!("{} has not logged in before", user.as_str())),
            (Some(_), Some(_)) => {
                Err(format!("{} has several devices: name one as `device`", user.as_str()))
            }
        }
    }

    fn known(&self, user: &UserId, device: &DeviceId) -> Result<(), String> {
        if self.devices.get(user).is_some_and(|devices| devices.contains_key(device)) {
            return Ok(());
        }
        let (user, device) = (user.as_str(), device.as_str());
        Err(format!("{user} has not logged in on the device {device:?} before"))
    }

    /// The platform of a device, which stays the same.
    fn platform(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        given: Option<Platform>,
    ) -> Result<Platform, String> {
        let devices = self.devices.entry(user.clone()).or_default();
        let platform = match (devices.get(device), given) {
            (Some(known), Some(given)) if *known != given => {
                let device = device.as_str();
                return Err(format!("`platform` is {given}, but the device {device:?} is {known}"));
            }
            (Some(known), _) => *known,
            (None, Some(given)) => given,
            (None, None) => return Err("the first login needs `platform`".into()),
        };
        devices.insert(device.clone(), platform);
        Ok(platform)
    }
}

/// Checks that a field stands only in the steps that it has a meaning for.
fn only_with(
    words: &[Word],
    given: Option<Word>,
    field: &str,
    is_there: bool,
) -> Result<(), String> {
    if is_there && given.is_none_or(|given| !words.contains(&given)) {
        let words: Vec<_> = words.iter().map(|word| name(*word)).collect();
        return Err(format!("`{field}` has a meaning only with {}", words.join(" or ")));
    }
    Ok(())
}

/// A value of `do` as it is written.
const fn name(word: Word) -> &'static str {
    match word {
        Word::Login => "do = \"login\"",
        Word::Logout => "do = \"logout\"",
        Word::Background => "do = \"background\"",
        Word::Foreground => "do = \"foreground\"",
        Word::Exit => "do = \"exit\"",
        Word::Custom => "do = \"custom\"",
        Word::RenewToken => "do = \"renew_token\"",
        Word::Close => "do = \"close\"",
        Word::KillApp => "do = \"kill_app\"",
        Word::Reload => "do = \"reload\"",
        Word::LoseNetwork => "do = \"lose_network\"",
        Word::Return => "do = \"return\"",
        Word::Kick => "do = \"kick\"",
        Word::RestartHub => "do = \"restart_hub\"",
        Word::KillHub => "do = \"kill_hub\"",
    }
}
