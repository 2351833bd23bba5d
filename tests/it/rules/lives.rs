//! Random lives, held against a plain model of the rules that shares nothing with the hub's own.

use std::collections::BTreeSet;
use std::time::Duration;

use presence_hub::presence::{
    Answer, BackgroundReason, Event, EventId, EventKind, Groups, Intent, Kicker, LoginPolicy,
    OnConflict, Platform, Preset, Refusal, Target, Terminal, Victor, WebTabs,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use super::model::{Model, Rules};
use super::{DAY, Life, MILLI, SECOND, Seat, named};

const DEVICES: [&str; 3] = ["a", "b", "c"];

/// Something that a user, the network, an operator or time does.
#[derive(Debug, Clone)]
enum Deed {
    Login { on: Index, device: Index, card: Card },
    Resume { who: Index, card: Card },
    ResumeNothing { on: Index, device: Index, card: Card },
    ResumeAnothers { who: Index, on: Index, device: Index, card: Card },
    Act(Act),
    Hear(Index),
    Wait(Duration),
    Stall(Duration),
    Repeat(Index),
    Reconfigure(Rules),
}

/// A deed that is one event, whoever does it.
#[derive(Debug, Clone)]
enum Act {
    Close(Index),
    Silence(Index),
    Background(Index, BackgroundReason),
    Foreground(Index),
    Logout(Index),
    Set(Option<Index>, Option<&'static str>),
    Kick { who: Index, names: Names, own: bool },
    Refresh { who: Index, card: Card },
    Tick,
}

/// What a login shows beside its device.
#[derive(Debug, Clone, Copy)]
struct Card {
    custom: Option<Option<&'static str>>,
    issued_ago: Duration,
    lasts: Duration,
}

/// What a kick names.
#[derive(Debug, Clone, Copy)]
enum Names {
    Nothing,
    Platform,
    Device,
    Session,
}

fn custom() -> impl Strategy<Value = Option<&'static str>> {
    select(vec![None, Some("busy"), Some("away")])
}

fn card() -> impl Strategy<Value = Card> {
    let issued_ago = select(vec![Duration::ZERO, SECOND, DAY]);
    let lasts = select(vec![2 * SECOND, DAY, 40 * DAY]);
    (proptest::option::weighted(0.2, custom()), issued_ago, lasts)
        .prop_map(|(custom, issued_ago, lasts)| Card { custom, issued_ago, lasts })
}

fn short() -> impl Strategy<Value = Duration> {
    select(vec![0, 1, 500, 999, 1000, 3999, 4000, 26_000, 30_000]).prop_map(Duration::from_millis)
}

fn long() -> impl Strategy<Value = Duration> {
    select(vec![400 * SECOND, DAY - MILLI, DAY, 7 * DAY, 21 * DAY])
}

fn rules() -> impl Strategy<Value = Rules> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (select(Preset::ALL.to_vec()), 1..=3_u8, flags).prop_map(
        |(preset, room, (as_web, reject, share_tabs))| Rules {
            preset,
            room,
            as_web,
            reject,
            share_tabs,
        },
    )
}

fn deed() -> impl Strategy<Value = Deed> {
    let i = any::<Index>;
    prop_oneof![
        8 => (i(), i(), card()).prop_map(|(on, device, card)| Deed::Login { on, device, card }),
        5 => (i(), card()).prop_map(|(who, card)| Deed::Resume { who, card }),
        2 => (i(), i(), card())
            .prop_map(|(on, device, card)| Deed::ResumeNothing { on, device, card }),
        1 => (i(), i(), i(), card())
            .prop_map(|(who, on, device, card)| Deed::ResumeAnothers { who, on, device, card }),
        24 => act().prop_map(Deed::Act),
        4 => i().prop_map(Deed::Hear),
        8 => short().prop_map(Deed::Wait),
        2 => long().prop_map(Deed::Wait),
        1 => short().prop_map(Deed::Stall),
        2 => i().prop_map(Deed::Repeat),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    use BackgroundReason::{Exit, Hide};
    let i = any::<Index>;
    let names = select(vec![Names::Nothing, Names::Platform, Names::Device, Names::Session]);
    prop_oneof![
        4 => i().prop_map(Act::Close),
        2 => i().prop_map(Act::Silence),
        5 => (i(), select(vec![Hide, Exit])).prop_map(|(who, how)| Act::Background(who, how)),
        2 => i().prop_map(Act::Foreground),
        1 => i().prop_map(Act::Logout),
        2 => (proptest::option::of(i()), custom()).prop_map(|(who, text)| Act::Set(who, text)),
        1 => (i(), names, any::<bool>())
            .prop_map(|(who, names, own)| Act::Kick { who, names, own }),
        1 => (i(), card()).prop_map(|(who, card)| Act::Refresh { who, card }),
        5 => Just(Act::Tick),
    ]
}

/// A user with some platforms and devices, under some rules.
#[derive(Debug)]
struct Lived {
    life: Life,
    model: Model,
    platforms: Vec<Platform>,
    devices: usize,
    /// Every session there was, on every connection it lived on.
    seats: Vec<Seat>,
    history: Vec<(Event, Answer)>,
    /// Whether the rules were always these.
    steady: bool,
}

impl Lived {
    fn new(rules: Rules, grace: Duration, platforms: Vec<Platform>, devices: usize) -> Self {
        let mut life = Life::under(policy_of(rules));
        life.policy.windows.web_close_grace = grace;
        life.policy.record_ttl = 20 * DAY;
        life.policy.max_token_ttl = 30 * DAY;
        life.ahead = 5 * DAY;
        let model = Model::new(rules, grace);
        let (seats, history) = (Vec::new(), Vec::new());
        Self { life, model, platforms, devices, seats, history, steady: true }
    }

    fn live(&mut self, deed: &Deed) {
        match deed {
            Deed::Login { on, device, card } => {
                self.enter(*on.get(&self.platforms), self.device(device), Intent::New, *card);
            }
            Deed::ResumeNothing { on, device, card } => {
                let intent = Intent::Resume(None);
                self.enter(*on.get(&self.platforms), self.device(device), intent, *card);
            }
            Deed::Resume { who, card } => {
                let Some(seat) = self.pick(who) else { return };
                let intent = Intent::Resume(Some(seat.session));
                self.enter(seat.platform, seat.device, intent, *card);
            }
            Deed::ResumeAnothers { who, on, device, card } => {
                let Some(seat) = self.pick(who) else { return };
                let intent = Intent::Resume(Some(seat.session));
                self.enter(*on.get(&self.platforms), self.device(device), intent, *card);
            }
            Deed::Act(act) => {
                if let Some(kind) = self.event_of(act) {
                    self.apply(kind);
                }
            }
            Deed::Hear(who) => {
                if let Some(seat) = self.pick(who) {
                    self.life.hear(seat);
                }
            }
            Deed::Wait(by) => self.life.wait(*by),
            Deed::Stall(by) => {
                let from = self.life.now;
                self.life.stall(from, *by);
                self.model.stood_still(from, *by);
                self.life.wait(*by);
            }
            Deed::Repeat(which) => self.repeat(which),
            Deed::Reconfigure(rules) => {
                self.life.policy.login = policy_of(*rules);
                self.model.rules = *rules;
                self.steady = false;
            }
        }
    }

    /// What an act is to the hub; `None` where nobody is there to do it.
    fn event_of(&self, act: &Act) -> Option<EventKind> {
        let now = self.life.now;
        let origin = |who| self.pick(who).map(Seat::origin);
        Some(match act {
            Act::Close(who) => EventKind::Closed { origin: origin(who)?, close_code: None },
            Act::Silence(who) => EventKind::Silent { origin: origin(who)?, deadline: now },
            Act::Background(who, reason) => {
                EventKind::Background { origin: origin(who)?, reason: *reason }
            }
            Act::Foreground(who) => EventKind::Foreground(origin(who)?),
            Act::Logout(who) => EventKind::Logout(origin(who)?),
            Act::Set(who, custom) => {
                let origin = who.as_ref().and_then(origin);
                EventKind::Set { origin, custom: custom.map(Into::into) }
            }
            Act::Kick { who, names, own } => {
                let seat = self.pick(who)?;
                let mut target = Target::default();
                match names {
                    Names::Nothing => (),
                    Names::Platform => target.platform = Some(seat.platform),
                    Names::Device => target.device = Some(named(seat.device)),
                    Names::Session => target.session = Some(seat.session),
                }
                let Seat { platform, device, session, .. } = seat;
                let user = Victor { platform, device: named(device), session };
                let by = if *own { Kicker::Own(user) } else { Kicker::Admin { message: None } };
                EventKind::Kick { target, by }
            }
            Act::Refresh { who, card } => EventKind::Refresh {
                origin: origin(who)?,
                token_until: now + card.lasts,
                issued_at_secs: (self.life.wall() - card.issued_ago).as_secs(),
            },
            Act::Tick => EventKind::Tick,
        })
    }

    fn device(&self, index: &Index) -> &'static str {
        DEVICES[index.index(self.devices)]
    }

    /// One of the latest sessions, live or not.
    fn pick(&self, who: &Index) -> Option<Seat> {
        let latest = &self.seats[self.seats.len().saturating_sub(8)..];
        (!latest.is_empty()).then(|| *who.get(latest))
    }

    fn enter(&mut self, platform: Platform, device: &'static str, intent: Intent, card: Card) {
        let mut login = self.life.card(platform, device, intent);
        let connection = login.connection;
        login.custom = card.custom.map(|custom| custom.map(Into::into));
        login.token_until = self.life.now + card.lasts;
        login.issued_at_secs = (self.life.wall() - card.issued_ago).as_secs();
        let answer = self.apply(EventKind::Login(Box::new(login)));
        if let Answer::Admitted { session, .. } = answer {
            self.seats.push(Seat { platform, device, session, connection });
        }
    }

    fn apply(&mut self, kind: EventKind) -> Answer {
        let id = EventId(self.life.number().into());
        self.play(Event { id, kind })
    }

    /// Applies an event to the hub's rules and to the model, and compares what they make of it.
    fn play(&mut self, event: Event) -> Answer {
        let answer = self.life.send(&event);
        let (now, wall) = (self.life.now, self.life.wall());
        let expected = self.model.apply(&event.kind, now, wall, &self.life.heard);
        assert_eq!(in_order(answer.clone()), in_order(expected.answer), "{event:?}");
        assert_eq!(self.life.causes(), expected.causes, "{event:?}");
        let mut ended: Vec<_> = self.life.ends().into_iter().map(|(c, _)| c).collect();
        ended.sort_unstable();
        assert_eq!(ended, expected.closed, "{event:?}");

        let record = &self.life.record;
        let terminals: Vec<_> = record
            .terminals
            .iter()
            .map(|t| (t.session, t.platform, t.device.clone(), t.state()))
            .collect();
        assert_eq!(terminals, self.model.terminals(), "{event:?}");
        assert!(record.status().looks_like(&self.model.status()), "{event:?}: {record:?}");
        if self.steady {
            assert_allowed(self.model.rules, &record.terminals);
        }
        self.history.push((event, answer.clone()));
        answer
    }

    /// Sends an event again, as a hub does whose commit's answer was lost, or a late packet.
    fn repeat(&mut self, which: &Index) {
        let latest = &self.history[self.history.len().saturating_sub(6)..];
        if latest.is_empty() {
            return;
        }
        let (event, answer) = which.get(latest).clone();
        if self.life.record.recent.iter().any(|applied| applied.event == event.id) {
            assert_eq!(self.life.send(&event), answer);
        } else if !matches!(event.kind, EventKind::Login(_)) {
            // It had changed nothing, or is long past: it is judged anew.
            self.history.retain(|(past, _)| past.id != event.id);
            self.play(event);
        }
    }
}

/// L1, L2, L5: what a policy allows under which the user always lived.
fn assert_allowed(rules: Rules, terminals: &[Terminal]) {
    assert!(terminals.len() <= 100);
    for one in terminals {
        let slot = rules.slot(one.platform);
        let mut devices = BTreeSet::new();
        let mut tabs = 0;
        for other in terminals {
            let same_group = rules.group(other.platform) == rules.group(one.platform);
            if rules.slot(other.platform) == slot {
                devices.insert((other.platform, &other.device));
            } else {
                assert!(!same_group, "two slots of one group: {one:?}, {other:?}");
            }
            tabs += usize::from((other.platform, &other.device) == (one.platform, &one.device));
        }
        assert!(devices.len() <= rules.room.into(), "{slot}: {devices:?}");
        let share = one.platform == Platform::Web && rules.share_tabs;
        assert!(tabs <= if share { 20 } else { 1 }, "{one:?}");
    }
}

/// Devices in the way are named in no order of importance.
fn in_order(mut answer: Answer) -> Answer {
    if let Answer::Refused(Refusal::LoginConflict(devices)) = &mut answer {
        devices.sort_unstable();
    }
    answer
}

fn policy_of(rules: Rules) -> LoginPolicy {
    let slots = Platform::ALL.into_iter().filter(|p| rules.slot(*p) == *p);
    let instances: Vec<_> = slots.map(|slot| (slot, rules.room)).collect();
    let mut policy =
        LoginPolicy::new(Groups::Preset(rules.preset), &instances, rules.as_web).expect("a policy");
    if rules.reject {
        policy.on_conflict = OnConflict::RejectNew;
    }
    if !rules.share_tabs {
        policy.web_tabs = WebTabs::Replace;
    }
    policy
}

fn grace() -> impl Strategy<Value = Duration> {
    select(vec![SECOND, SECOND, Duration::ZERO])
}

fn platforms() -> impl Strategy<Value = Vec<Platform>> {
    prop_oneof![
        subsequence(Platform::ALL.to_vec(), 1..=8),
        Just(vec![Platform::Web, Platform::MiniProgram]),
        Just(vec![Platform::Ios, Platform::Web]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48, failure_persistence: None, max_shrink_iters: 1000, ..ProptestConfig::default()
    })]

    #[test]
    fn every_life_goes_as_the_rules_say(
        rules in rules(),
        grace in grace(),
        platforms in platforms(),
        devices in 1..=3_usize,
        deeds in vec(deed(), 200..300),
    ) {
        let mut lived = Lived::new(rules, grace, platforms, devices);
        deeds.iter().for_each(|deed| lived.live(deed));
    }

    #[test]
    fn l10_so_it_does_where_the_policy_changes_on_the_way(
        first in rules(),
        changes in vec((vec(deed(), 20..40), rules()), 6),
    ) {
        let mut lived = Lived::new(first, SECOND, Platform::ALL.to_vec(), 3);
        for (deeds, rules) in changes {
            deeds.iter().for_each(|deed| lived.live(deed));
            lived.live(&Deed::Reconfigure(rules));
        }
    }

    #[test]
    fn l5_so_it_does_with_many_tabs(rules in rules(), deeds in vec(deed(), 200..300)) {
        let rules = Rules { share_tabs: true, room: 2, ..rules };
        let mut lived = Lived::new(rules, SECOND, vec![Platform::Web], 2);
        for (nth, deed) in deeds.iter().enumerate() {
            // Tabs are opened far more often than they are left.
            lived.live(deed);
            let card = Card { custom: None, issued_ago: Duration::ZERO, lasts: 40 * DAY };
            lived.enter(Platform::Web, DEVICES[nth % 2], Intent::New, card);
        }
    }
}
