//! The network between the hubs and the server: it delays, loses and repeats requests, replies and messages.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use presence_hub::store::{Cursor, Part, Received};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use super::feed::{Ear, Word};
use super::given;
use super::server::Server;
use super::switch::Switch;
use super::trace::Trace;
use super::webhook::Receiver;

/// A delivery that is due at a time; the number keeps the order of those of one moment.
type Due = (Duration, u64);
/// Sends a reply to the hub that waits for it.
pub(super) type Reply = Box<dyn FnOnce() + Send>;
/// Executes a request; it may arrive twice.
pub(super) type Request = Arc<dyn Fn(&mut Server) -> Reply + Send + Sync>;

/// How many lines a failure shows.
const LINES: usize = 100;

/// The number of a hub's link.
pub(super) type LinkId = usize;

/// How reliable a link is, in percent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    /// The longest usual delay of a request, a reply or a message, in milliseconds.
    pub(super) delay_ms: u64,
    pub(super) loses: u32,
    pub(super) repeats: u32,
    /// How many requests arrive up to three seconds late.
    pub(super) late: u32,
}

/// The link of one hub.
struct Link {
    random: StdRng,
    weather: Weather,
    is_cut: bool,
    ear: Option<Ear>,
    /// The end of the log, as the hub knows it.
    head: watch::Sender<Cursor>,
    /// Messages arrive in their order: none before this time.
    heard_until: Duration,
}

/// The network, and the server that it leads to.
pub(super) struct Network(Mutex<State>);

pub(super) struct State {
    pub(super) server: Server,
    pub(super) receiver: Receiver,
    pub(super) trace: Trace,
    broken: Option<Switch>,
    links: BTreeMap<LinkId, Link>,
    requests: BTreeMap<Due, (LinkId, Request)>,
    replies: BTreeMap<Due, (LinkId, Reply)>,
    words: BTreeMap<Due, (LinkId, Word)>,
    deliveries: u64,
}

impl Link {
    /// Decides what becomes of a request, a reply or a message.
    fn fate(&mut self) -> Fate {
        let Weather { delay_ms, loses, repeats, late } = self.weather;
        let mut delay = Duration::from_millis(self.random.random_range(0..=delay_ms));
        let roll = self.random.random_range(0..100);
        if roll < loses {
            return Fate::Lost;
        }
        if roll < loses + repeats {
            let second = delay + Duration::from_millis(self.random.random_range(0..=500));
            return Fate::Twice(delay, second);
        }
        if roll < loses + repeats + late {
            delay += Duration::from_millis(self.random.random_range(500..=3000));
        }
        Fate::After(delay)
    }
}

impl Network {
    pub(super) fn new(server: Server, broken: Option<Switch>) -> Self {
        Self(Mutex::new(State {
            server,
            receiver: Receiver::default(),
            trace: Trace::keeping(given("SIMULATION_LINES").unwrap_or(LINES)),
            broken,
            links: BTreeMap::new(),
            requests: BTreeMap::new(),
            replies: BTreeMap::new(),
            words: BTreeMap::new(),
            deliveries: 0,
        }))
    }

    /// Does something with the state. Never called by what it runs.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock())
    }

    pub(super) fn note(&self, what: &dyn fmt::Display) {
        self.with(|state| state.note(what));
    }
}

impl State {
    pub(super) fn note(&mut self, what: &dyn fmt::Display) {
        self.trace.note(self.server.now, what);
    }

    pub(super) fn add_link(&mut self, id: LinkId, seed: u64) {
        let random = StdRng::seed_from_u64(seed);
        let (weather, is_cut, head) = (Weather::default(), false, watch::Sender::default());
        let (ear, heard_until) = (None, Duration::ZERO);
        self.links.insert(id, Link { random, weather, is_cut, ear, head, heard_until });
    }

    /// A random number of milliseconds for a link.
    pub(super) fn random_ms(&mut self, id: LinkId, most: u64) -> u64 {
        self.link(id).random.random_range(0..=most)
    }

    pub(super) fn set_weather(&mut self, id: LinkId, weather: Weather) {
        self.link(id).weather = weather;
    }

    fn link(&mut self, id: LinkId) -> &mut Link {
        self.links.get_mut(&id).expect("a link")
    }

    /// Cuts a hub off from the server, or connects it again.
    pub(super) fn set_cut(&mut self, id: LinkId, is_cut: bool) {
        let was_cut = std::mem::replace(&mut self.link(id).is_cut, is_cut);
        if was_cut && !is_cut {
            // The connection was lost, so the hub knows that it has missed messages.
            let numbers = self.server.numbers();
            self.say(id, &Word::Connected(numbers));
        }
    }

    /// Listens to the messages for one link.
    pub(super) fn listen(&mut self, id: LinkId, ear: impl FnOnce(BTreeMap<Part, u64>) -> Ear) {
        let ear = ear(self.server.numbers());
        self.link(id).ear = Some(ear);
    }

    /// The end of the log, as a hub knows it.
    pub(super) fn head(&mut self, id: LinkId) -> watch::Receiver<Cursor> {
        self.link(id).head.subscribe()
    }

    fn due(&mut self, after: Duration) -> Due {
        self.deliveries += 1;
        (self.server.now + after, self.deliveries)
    }

    // Requests.

    /// Sends a request on its way. Without a delay it is executed at once.
    pub(super) fn request(&mut self, id: LinkId, what: &dyn fmt::Display, request: Request) {
        let link = self.link(id);
        let fate = if link.is_cut { Fate::Lost } else { link.fate() };
        self.note(&format_args!("link {id}: {what} {fate}"));
        match fate {
            Fate::Lost => (),
            Fate::After(Duration::ZERO) => self.execute(id, &request),
            Fate::After(delay) => {
                let due = self.due(delay);
                self.requests.insert(due, (id, request));
            }
            Fate::Twice(first, second) => {
                for delay in [first, second] {
                    let due = self.due(delay);
                    self.requests.insert(due, (id, Arc::clone(&request)));
                }
            }
        }
    }

    fn execute(&mut self, id: LinkId, request: &Request) {
        let reply = request(&mut self.server);
        for published in std::mem::take(&mut self.server.published) {
            self.tell(&Word::Message(published));
        }
        let link = self.link(id);
        let fate = if link.is_cut { Fate::Lost } else { link.fate() };
        match fate {
            Fate::Lost => self.note(&format_args!("link {id}: a reply is lost")),
            Fate::After(Duration::ZERO) => reply(),
            Fate::After(delay) | Fate::Twice(delay, _) => {
                let due = self.due(delay);
                self.replies.insert(due, (id, reply));
            }
        }
    }

    // Messages.

    /// Tells every link something.
    fn tell(&mut self, word: &Word) {
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.say(id, word);
        }
    }

    /// Tells every link the number of each part's last message.
    pub(super) fn tell_numbers(&mut self) {
        let (numbers, head) = (self.server.numbers(), self.server.last_cursor);
        self.tell(&Word::Numbers(numbers, head));
    }

    /// Loses the commits of a part since a time. Every link notices that another server serves the part.
    pub(super) fn fail_over(&mut self, part: Part, since: Duration) {
        let lost = self.server.roll_back(part, since);
        self.note(&format_args!("{part:?} loses {lost} commits"));
        let number = self.server.numbers().get(&part).copied().unwrap_or_default();
        self.tell(&Word::FailedOver(part, number));
    }

    fn say(&mut self, id: LinkId, word: &Word) {
        let now = self.server.now;
        let link = self.link(id);
        if link.is_cut || link.ear.is_none() {
            return;
        }
        let is_certain = !matches!(word, Word::Message(_) | Word::Numbers(..));
        let (delay, copies) = match link.fate() {
            Fate::Lost if is_certain => (Duration::ZERO, 1),
            Fate::Lost => {
                self.note(&format_args!("link {id}: {word} is lost"));
                return;
            }
            Fate::After(delay) => (delay, 1),
            Fate::Twice(delay, _) => (delay, 2),
        };
        let link = self.link(id);
        link.heard_until = link.heard_until.max(now + delay);
        let delay = link.heard_until - now;
        for _ in 0..copies {
            let due = self.due(delay);
            self.words.insert(due, (id, word.clone()));
        }
        self.hear();
    }

    /// Delivers the messages that are due.
    fn hear(&mut self) {
        while let Some((id, word)) = pop_due(&mut self.words, self.server.now) {
            let Self { links, trace, server, broken, .. } = self;
            let Some(link) = links.get_mut(&id).filter(|link| !link.is_cut) else { continue };
            if let Word::Numbers(_, head) = &word {
                link.head.send_if_modified(|known| std::mem::replace(known, *head) != *head);
            }
            let Some(ear) = &mut link.ear else { continue };
            for received in ear.hear(word, *broken) {
                let what = match &received {
                    Received::Message(message) => format!("hears of {}", message.user),
                    Received::Missed(part) => format!("missed {part:?}"),
                };
                trace.note(server.now, &format_args!("link {id}: {what}"));
                ear.pass_on(received);
            }
        }
    }

    /// Delivers everything that is due.
    pub(super) fn deliver(&mut self) {
        while let Some((id, request)) = pop_due(&mut self.requests, self.server.now) {
            self.execute(id, &request);
        }
        while let Some((id, reply)) = pop_due(&mut self.replies, self.server.now) {
            if self.links.get(&id).is_some_and(|link| !link.is_cut) {
                reply();
            }
        }
        self.hear();
    }

    /// Whether something is under way.
    pub(super) fn is_busy(&self) -> bool {
        !(self.requests.is_empty() && self.replies.is_empty() && self.words.is_empty())
    }
}

/// Removes the first delivery that is due.
fn pop_due<T>(deliveries: &mut BTreeMap<Due, T>, now: Duration) -> Option<T> {
    let first = deliveries.first_entry()?;
    (first.key().0 <= now).then(|| first.remove())
}

/// What becomes of a request, a reply or a message.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Lost,
    After(Duration),
    Twice(Duration, Duration),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("lost"),
            Self::After(Duration::ZERO) => f.write_str("at once"),
            Self::After(delay) => write!(f, "after {delay:?}"),
            Self::Twice(first, second) => write!(f, "after {first:?} and {second:?}"),
        }
    }
}
