//! Judges a login: which terminals it replaces or kicks, and whether it is refused (L1 to L5).

use super::policy::{SESSIONS_MAX, TABS_MAX};
use super::{DeviceId, LoginPolicy, OnConflict, Platform, State, Terminal, WebTabs};

/// The terminals that a login affects, as indices into the user's terminals.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Ended because their own device logs in (L5), or by the 101st session of a browser (L2).
    pub(super) replaced: Vec<usize>,
    /// Kicked (L3).
    pub(super) kicked: Vec<usize>,
    /// The terminals that block the login under `reject_new` (L3); nothing is kicked then.
    pub(super) in_the_way: Vec<usize>,
}

/// The facts about a terminal that decide a login.
pub(super) trait Seat {
    fn platform(&self) -> Platform;
    fn device(&self) -> &str;
    fn is_online(&self) -> bool;
}

impl Seat for Terminal {
    fn platform(&self) -> Platform {
        self.platform
    }

    fn device(&self) -> &str {
        self.device.as_str()
    }

    fn is_online(&self) -> bool {
        self.state() == State::Online
    }
}

/// Judges a login on `platform` by `device` (L1, L2, L3, L5); `seats` are in the order of their logins.
/// A `PushOnline` terminal is a seat like an `Online` one (L4).
pub(super) fn judge<S: Seat>(
    seats: &[S],
    platform: Platform,
    device: &DeviceId,
    policy: &LoginPolicy,
) -> Verdict {
    let own = |seat: &S| seat.platform() == platform && seat.device() == device.as_str();
    let slot = policy.slot(platform);

    let mut verdict =
        Verdict { replaced: replaced(seats, platform, own, policy), ..Verdict::default() };
    let mut conflicts = Conflicts { policy, verdict: &mut verdict, seats };

    let elsewhere = |seat: &S| {
        policy.slot(seat.platform()) != slot && policy.share_group(seat.platform(), platform)
    };
    for index in indices(seats, elsewhere) {
        conflicts.add(&[index]);
    }

    let others = devices(seats, |seat| policy.slot(seat.platform()) == slot && !own(seat));
    conflicts.fit(&others, policy.max_instances(slot) - 1);

    let total = seats.len() - verdict.replaced.len() - verdict.kicked.len() + 1;
    if total > SESSIONS_MAX {
        let leaving: Vec<usize> = verdict.replaced.iter().chain(&verdict.kicked).copied().collect();
        let staying = |index: &usize| !leaving.contains(index);
        let of_slot = indices(seats, |seat| policy.slot(seat.platform()) == slot);
        // If the slot has none left, the earliest session of all ends, so that the limit always holds.
        let earliest = of_slot.into_iter().find(staying).or_else(|| (0..seats.len()).find(staying));
        match earliest.map(|index| &seats[index]) {
            Some(seat) if own(seat) => verdict.replaced.extend(earliest),
            Some(seat) => Conflicts { policy, verdict: &mut verdict, seats }
                .add(&indices(seats, |other| same_device(seat, other))),
            None => (),
        }
    }

    if !verdict.in_the_way.is_empty() {
        verdict.replaced.clear();
        verdict.kicked.clear();
    }
    verdict.kicked.sort_unstable();
    verdict
}

/// The terminals of the device itself that its new login replaces (L5).
fn replaced<S: Seat>(
    seats: &[S],
    platform: Platform,
    own: impl Fn(&S) -> bool,
    policy: &LoginPolicy,
) -> Vec<usize> {
    let mut own = indices(seats, own);
    let beside = if platform == Platform::Web && policy.web_tabs == WebTabs::Share {
        TABS_MAX - 1
    } else {
        0
    };
    own.truncate(own.len().saturating_sub(beside));
    own
}

/// Sorts conflicting terminals into those to kick and those that block the login.
struct Conflicts<'a, S> {
    policy: &'a LoginPolicy,
    seats: &'a [S],
    verdict: &'a mut Verdict,
}

impl<S: Seat> Conflicts<'_, S> {
    /// Adds one device that conflicts with the login.
    fn add(&mut self, device: &[usize]) {
        match self.policy.on_conflict {
            OnConflict::RejectNew if self.is_online(device) => {
                self.verdict.in_the_way.extend(device);
            }
            OnConflict::RejectNew | OnConflict::KickOld => self.verdict.kicked.extend(device),
        }
    }

    /// Adds the earliest of these devices as conflicts until `room` of them are left (L2).
    fn fit(&mut self, devices: &[Vec<usize>], room: usize) {
        let excess = devices.len().saturating_sub(room);
        match self.policy.on_conflict {
            OnConflict::KickOld => {
                self.verdict.kicked.extend(devices[..excess].iter().flatten());
            }
            OnConflict::RejectNew => {
                let (online, push): (Vec<_>, Vec<_>) =
                    devices.iter().partition(|device| self.is_online(device));
                if online.len() > room {
                    self.verdict.in_the_way.extend(online.into_iter().flatten());
                } else {
                    self.verdict.kicked.extend(push.into_iter().take(excess).flatten());
                }
            }
        }
    }

    fn is_online(&self, device: &[usize]) -> bool {
        device.iter().any(|&index| self.seats[index].is_online())
    }
}

fn indices<S>(seats: &[S], wanted: impl Fn(&S) -> bool) -> Vec<usize> {
    seats.iter().enumerate().filter(|(_, seat)| wanted(seat)).map(|(index, _)| index).collect()
}

fn same_device<S: Seat>(one: &S, other: &S) -> bool {
    one.platform() == other.platform() && one.device() == other.device()
}

/// Groups the wanted terminals by device, ordered by each device's earliest login (L2).
fn devices<S: Seat>(seats: &[S], wanted: impl Fn(&S) -> bool) -> Vec<Vec<usize>> {
    let mut devices: Vec<Vec<usize>> = Vec::new();
    for index in indices(seats, wanted) {
        let of_same = |device: &&mut Vec<usize>| same_device(&seats[device[0]], &seats[index]);
        match devices.iter_mut().find(of_same) {
            Some(device) => device.push(index),
            None => devices.push(vec![index]),
        }
    }
    devices
}
