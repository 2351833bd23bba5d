//! The names of the keys. The README lists what each contains.

use super::tags::hash_tags;
use crate::presence::{NodeId, State, UserId};
use crate::store::WebhookName;

/// The names of all keys.
#[derive(Debug)]
pub(super) struct Keys {
    parts: Vec<PartKeys>,
    pub(super) hub: HubKeys,
}

/// The keys of one partition, all in one slot.
#[derive(Debug)]
pub(super) struct PartKeys {
    tag: String,
    pub(super) log: String,
    pub(super) place: String,
    pub(super) counts: String,
    pub(super) gone: String,
    /// The channel, not a key.
    pub(super) feed: String,
    pub(super) wall: String,
    pub(super) damaged: String,
}

/// The keys of no partition, all in one slot.
#[derive(Debug)]
pub(super) struct HubKeys {
    pub(super) format: String,
    pub(super) nodes: String,
    pub(super) gone: String,
    pub(super) latest: String,
    /// The figures of each day.
    pub(super) days: String,
    pub(super) logins: String,
    /// The names of webhooks that have, or had, progress or dead letters.
    pub(super) webhooks: String,
    /// The keys of the webhook without a name.
    pub(super) unnamed: WebhookKeys,
    prefix: String,
}

/// The keys of one webhook, all in the slot of [`HubKeys`].
#[derive(Debug)]
pub(super) struct WebhookKeys {
    pub(super) seat: String,
    pub(super) progress: String,
    pub(super) held: String,
    pub(super) waiting: String,
    pub(super) back: String,
    pub(super) letters: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, partitions: u32) -> Self {
        let parts = hash_tags(partitions).into_iter().map(|tag| PartKeys::new(prefix, &tag));
        Self { parts: parts.collect(), hub: HubKeys::new(prefix) }
    }

    pub(super) fn of(&self, part: u32) -> &PartKeys {
        &self.parts[part as usize]
    }

    /// The partition of a channel of the feed.
    pub(super) fn part_of_feed(&self, channel: &[u8]) -> Option<u32> {
        let part = self.parts.iter().position(|keys| keys.feed.as_bytes() == channel)?;
        u32::try_from(part).ok()
    }
}

impl PartKeys {
    fn new(prefix: &str, tag: &str) -> Self {
        let tag = format!("{prefix}:{{{tag}}}");
        let key = |name: &str| format!("{tag}{name}");
        Self {
            log: key("log"),
            place: key("at"),
            counts: key("sum"),
            gone: key("gone"),
            feed: key("feed"),
            wall: key("wall"),
            damaged: key("damaged"),
            tag,
        }
    }

    pub(super) fn record(&self, user: &UserId) -> String {
        format!("{}u:{user}", self.tag)
    }

    pub(super) fn watch_list(&self, user: &UserId) -> String {
        format!("{}w:{user}", self.tag)
    }

    /// The users in a state.
    pub(super) fn state(&self, state: State) -> String {
        format!("{}s{}", self.tag, state as usize)
    }

    /// The users with an `Online` terminal on a node.
    pub(super) fn node(&self, node: NodeId) -> String {
        format!("{}n:{node}", self.tag)
    }
}

impl HubKeys {
    fn new(prefix: &str) -> Self {
        let key = |name: &str| format!("{prefix}:{{hub}}{name}");
        Self {
            format: key("format"),
            nodes: key("nodes"),
            gone: key("gone"),
            latest: key("latest"),
            days: key("days"),
            logins: key("logins"),
            webhooks: key("hooks"),
            unnamed: WebhookKeys::new(prefix, &WebhookName::UNNAMED),
            prefix: prefix.to_owned(),
        }
    }

    /// The keys of a webhook.
    pub(super) fn webhook(&self, webhook: &WebhookName) -> WebhookKeys {
        WebhookKeys::new(&self.prefix, webhook)
    }

    /// The logins with a key.
    pub(super) fn logins_of(&self, key: &str) -> String {
        format!("{}:{key}", self.logins)
    }
}

impl WebhookKeys {
    fn new(prefix: &str, webhook: &WebhookName) -> Self {
        let key = |name: &str| match webhook.as_str() {
            "" => format!("{prefix}:{{hub}}{name}"),
            webhook => format!("{prefix}:{{hub}}{name}:{webhook}"),
        };
        Self {
            seat: key("seat"),
            progress: key("hook"),
            held: key("held"),
            waiting: key("dead"),
            back: key("back"),
            letters: key("letters"),
        }
    }
}
