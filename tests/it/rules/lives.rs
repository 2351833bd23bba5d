//! Random lives of a user, compared with a simple model of the rules that shares no code with the hub.

use std::collections::BTreeSet;
use std::time::Duration;

use presence_hub::presence::{
    Activity, Answer, BackgroundReason, Event, EventId, EventKind, Groups, Intent, Kicker,
    LoginPolicy, OnConflict, Platform, Preset, Refusal, Target, Terminal, Victor, WebTabs,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::groups::Rules;
use super::model::Model;
use super::{DAY, Life, MILLI, SECOND, Seat, named};

const DEVICES: [&str; 3] = ["a", "b", "c"];
/// The bytes that choose an action of a life.
const ACTION_BYTES: usize = 4;

/// An action of the user, the network, an operator or time.
#[derive(Debug, Clone)]
enum Action {
    Login { on: Index, device: Index, options: LoginOptions },
    Resume { who: Index, options: LoginOptions },
    ResumeNothing { on: Index, device: Index, options: LoginOptions },
    ResumeAnothers { who: Index, on: Index, device: Index, options: LoginOptions },
    Event(EventAction),
    Hear(Index),
    Wait(Duration),
    Stall(Duration),
    Repeat(Index),
    Reconfigure(Rules),
}

/// An action that causes one event.
#[derive(Debug, Clone)]
enum EventAction {
    Close(Index),
    Silence(Index),
    Background(Index, BackgroundReason),
    Foreground(Index),
    Idle(Index, Duration),
    Active(Index),
    Logout(Index),
    Set(Option<Index>, Option<&'static str>),
    Kick { who: Index, names: Names, own: bool },
    Refresh { who: Index, options: LoginOptions },
    Tick,
}

/// The data of a login beside its device.
#[derive(Debug, Clone, Copy)]
struct LoginOptions {
    custom: Option<Option<&'static str>>,
    idle: Option<Duration>,
    issued_ago: Duration,
    lasts: Duration,
}

/// The field that a kick names.
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

fn options() -> impl Strategy<Value = LoginOptions> {
    let issued_ago = select(vec![Duration::ZERO, SECOND, DAY]);
    let lasts = select(vec![2 * SECOND, DAY, 40 * DAY]);
    let idle = proptest::option::weighted(0.2, short());
    (proptest::option::weighted(0.2, custom()), idle, issued_ago, lasts).prop_map(
        |(custom, idle, issued_ago, lasts)| LoginOptions { custom, idle, issued_ago, lasts },
    )
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

fn action() -> impl Strategy<Value = Action> {
    let i = any::<Index>;
    prop_oneof![
        8 => (i(), i(), options())
            .prop_map(|(on, device, options)| Action::Login { on, device, options }),
        5 => (i(), options()).prop_map(|(who, options)| Action::Resume { who, options }),
        2 => (i(), i(), options())
            .prop_map(|(on, device, options)| Action::ResumeNothing { on, device, options }),
        1 => (i(), i(), i(), options()).prop_map(|(who, on, device, options)| {
            Action::ResumeAnothers { who, on, device, options }
        }),
        24 => event_action().prop_map(Action::Event),
        4 => i().prop_map(Action::Hear),
        8 => short().prop_map(Action::Wait),
        2 => long().prop_map(Action::Wait),
        1 => short().prop_map(Action::Stall),
        2 => i().prop_map(Action::Repeat),
    ]
}

fn event_action() -> impl Strategy<Value = EventAction> {
    use BackgroundReason::{Exit, Hide};
    let i = any::<Index>;
    let names = select(vec![Names::Nothing, Names::Platform, Names::Device, Names::Session]);
    prop_oneof![
        4 => i().prop_map(EventAction::Close),
        2 => i().prop_map(EventAction::Silence),
        5 => (i(), select(vec![Hide, Exit]))
            .prop_map(|(who, how)| EventAction::Background(who, how)),
        2 => i().prop_map(EventAction::Foreground),
        4 => (i(), short()).prop_map(|(who, by)| EventAction::Idle(who, by)),
        3 => i().prop_map(EventAction::Active),
        1 => i().prop_map(EventAction::Logout),
        2 => (proptest::option::of(i()), custom())
            .prop_map(|(who, text)| EventAction::Set(who, text)),
        1 => (i(), names, any::<bool>())
            .prop_map(|(who, names, own)| EventAction::Kick { who, names, own }),
        1 => (i(), options()).prop_map(|(who, options)| EventAction::Refresh { who, options }),
        5 => Just(EventAction::Tick),
    ]
}

/// A user with some platforms and devices, under some rules, in the hub and in the model.
#[derive(Debug)]
struct Simulation {
    life: Life,
    model: Model,
    platforms: Vec<Platform>,
    devices: usize,
    /// Every session so far, once for each of its connections.
    seats: Vec<Seat>,
    history: Vec<(Event, Answer)>,
    /// Whether the policy never changed.
    steady: bool,
}

impl Simulation {
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

    fn run(&mut self, action: &Action) {
        match action {
            Action::Login { on, device, options } => {
                self.enter(*on.get(&self.platforms), self.device(device), Intent::New, *options);
            }
            Action::ResumeNothing { on, device, options } => {
                let intent = Intent::Resume(None);
                self.enter(*on.get(&self.platforms), self.device(device), intent, *options);
            }
            Action::Resume { who, options } => {
                let Some(seat) = self.pick(who) else { return };
                let intent = Intent::Resume(Some(seat.session));
                self.enter(seat.platform, seat.device, intent, *options);
            }
            Action::ResumeAnothers { who, on, device, options } => {
                let Some(seat) = self.pick(who) else { return };
                let intent = Intent::Resume(Some(seat.session));
                self.enter(*on.get(&self.platforms), self.device(device), intent, *options);
            }
            Action::Event(event) => {
                if let Some(kind) = self.event_of(event) {
                    self.apply(kind);
                }
            }
            Action::Hear(who) => {
                if let Some(seat) = self.pick(who) {
                    self.life.hear(seat);
                }
            }
            Action::Wait(by) => self.life.wait(*by),
            Action::Stall(by) => {
                let from = self.life.now;
                self.life.stall(from, *by);
                self.model.stalled_for(from, *by);
                self.life.wait(*by);
            }
            Action::Repeat(which) => self.repeat(which),
            Action::Reconfigure(rules) => {
                self.life.policy.login = policy_of(*rules);
                self.model.rules = *rules;
                self.steady = false;
            }
        }
    }

    /// The hub's event for an action; `None` if there is no session to act.
    fn event_of(&self, event: &EventAction) -> Option<EventKind> {
        let now = self.life.now;
        let origin = |who| self.pick(who).map(Seat::origin);
        Some(match event {
            EventAction::Close(who) => EventKind::Closed { origin: origin(who)?, close_code: None },
            EventAction::Silence(who) => EventKind::Silent { origin: origin(who)?, deadline: now },
            EventAction::Background(who, reason) => {
                EventKind::Background { origin: origin(who)?, reason: *reason }
            }
            EventAction::Foreground(who) => EventKind::Foreground(origin(who)?),
            EventAction::Idle(who, untouched) => {
                EventKind::Idle { origin: origin(who)?, untouched: *untouched }
            }
            EventAction::Active(who) => EventKind::Active(origin(who)?),
            EventAction::Logout(who) => EventKind::Logout(origin(who)?),
            EventAction::Set(who, custom) => {
                let origin = who.as_ref().and_then(origin);
                EventKind::Set { origin, custom: Some(custom.map(Into::into)), hidden: None }
            }
            EventAction::Kick { who, names, own } => {
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
            EventAction::Refresh { who, options } => EventKind::Refresh {
                origin: origin(who)?,
                token_until: now + options.lasts,
                issued_at_secs: (self.life.wall() - options.issued_ago).as_secs(),
            },
            EventAction::Tick => EventKind::Tick,
        })
    }

    fn device(&self, index: &Index) -> &'static str {
        DEVICES[index.index(self.devices)]
    }

    /// Picks one of the latest sessions, alive or ended.
    fn pick(&self, who: &Index) -> Option<Seat> {
        let latest = &self.seats[self.seats.len().saturating_sub(8)..];
        (!latest.is_empty()).then(|| *who.get(latest))
    }

    fn enter(
        &mut self,
        platform: Platform,
        device: &'static str,
        intent: Intent,
        options: LoginOptions,
    ) {
        let mut login = self.life.fresh_login(platform, device, intent);
        let connection = login.connection;
        login.custom = options.custom.map(|custom| custom.map(Into::into));
        let wall = self.life.wall();
        login.activity = options.idle.map(|time| Activity::untouched_for(time, wall));
        login.token_until = self.life.now + options.lasts;
        login.issued_at_secs = (self.life.wall() - options.issued_ago).as_secs();
        let answer = self.apply(EventKind::Login(Box::new(login)));
        if let Answer::Admitted { session, .. } = answer {
            self.seats.push(Seat { platform, device, session, connection });
        }
    }

    fn apply(&mut self, kind: EventKind) -> Answer {
        let id = EventId(self.life.number().into());
        self.play(Event { id, kind })
    }

    /// Applies an event to the hub's rules and to the model, and compares the results.
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
            .map(|t| (t.session, t.platform, t.device.clone(), t.state(), t.activity.is_idle()))
            .collect();
        assert_eq!(terminals, self.model.terminals(), "{event:?}");
        assert!(record.status().looks_like(&self.model.status()), "{event:?}: {record:?}");
        if self.steady {
            assert_allowed(self.model.rules, &record.terminals);
        }
        self.history.push((event, answer.clone()));
        answer
    }

    /// Sends an event again, like a hub after a lost answer of a commit, or like a late packet.
    fn repeat(&mut self, which: &Index) {
        let latest = &self.history[self.history.len().saturating_sub(6)..];
        if latest.is_empty() {
            return;
        }
        let (event, answer) = which.get(latest).clone();
        if self.life.record.recent.iter().any(|applied| applied.event == event.id) {
            assert_eq!(self.life.send(&event), answer);
        } else if !matches!(event.kind, EventKind::Login(_)) {
            // The record no longer holds the event, so it counts as a new one.
            self.history.retain(|(past, _)| past.id != event.id);
            self.play(event);
        }
    }
}

/// L1, L2, L5: the limits of a policy that never changed.
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

/// The order of conflicting devices does not matter.
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

/// Lives the life that these bytes choose: the first four its rules, each four more an action. Returns
/// how it ended.
pub(crate) fn live(bytes: &[u8]) -> String {
    let mut chunks = bytes.chunks(ACTION_BYTES);
    let start = (rules(), grace(), platforms(), 1..=3_usize);
    let (rules, grace, platforms, devices) = chosen(&start, chunks.next().unwrap_or_default());
    let mut simulation = Simulation::new(rules, grace, platforms, devices);
    let change = prop_oneof![20 => action(), 1 => self::rules().prop_map(Action::Reconfigure)];
    for chunk in chunks {
        simulation.run(&chosen(&change, chunk));
    }
    let causes: BTreeSet<_> = simulation.life.causes().into_iter().collect();
    let terminals = simulation.life.record.terminals.len();
    format!("{:?} {terminals} {causes:?} {}", simulation.life.state(), simulation.steady)
}

/// The value of a strategy that these bytes choose.
fn chosen<S: Strategy>(strategy: &S, bytes: &[u8]) -> S::Value {
    let mut seed = [0; 32];
    seed[..bytes.len()].copy_from_slice(bytes);
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), random);
    strategy.new_tree(&mut runner).expect("a strategy without a filter").current()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48, failure_persistence: None, max_shrink_iters: 1000, ..ProptestConfig::default()
    })]

    #[test]
    fn random_lives_match_the_model(
        rules in rules(),
        grace in grace(),
        platforms in platforms(),
        devices in 1..=3_usize,
        actions in vec(action(), 200..300),
    ) {
        let mut simulation = Simulation::new(rules, grace, platforms, devices);
        actions.iter().for_each(|action| simulation.run(action));
    }

    #[test]
    fn l10_random_lives_match_the_model_across_policy_changes(
        first in rules(),
        changes in vec((vec(action(), 20..40), rules()), 6),
    ) {
        let mut simulation = Simulation::new(first, SECOND, Platform::ALL.to_vec(), 3);
        for (actions, rules) in changes {
            actions.iter().for_each(|action| simulation.run(action));
            simulation.run(&Action::Reconfigure(rules));
        }
    }

    #[test]
    fn l5_random_lives_match_the_model_with_many_tabs(
        rules in rules(),
        actions in vec(action(), 200..300),
    ) {
        let rules = Rules { share_tabs: true, room: 2, ..rules };
        let mut simulation = Simulation::new(rules, SECOND, vec![Platform::Web], 2);
        for (nth, action) in actions.iter().enumerate() {
            // Tabs are opened far more often than they are closed.
            simulation.run(action);
            let (issued_ago, lasts) = (Duration::ZERO, 40 * DAY);
            let options = LoginOptions { custom: None, idle: None, issued_ago, lasts };
            simulation.enter(Platform::Web, DEVICES[nth % 2], Intent::New, options);
        }
    }
}
