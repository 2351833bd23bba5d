//! What must hold when everything works again and every window is over.

use presence_hub::presence::{Link, Record};
use serde_json::{Value, json};

use super::client::Client;
use super::node::Node;
use super::world::{USERS, World, user};
use crate::lab::id;

impl World {
    /// Checks that the store, the log, the watchers, the clients and the hubs agree.
    pub(super) fn check_rest(&mut self) {
        if !self.wrong.is_empty() {
            return;
        }
        let mut wrong = Vec::new();
        let watchers = self.clients.iter().filter(|client| client.is_watcher());
        let names = watchers.clone().map(|watcher| watcher.user.clone());
        for user in (0..USERS).map(user).chain(names) {
            let (record, logged) = self.network.with(|state| {
                let record = state.server.load(&id(&user)).record;
                (record, state.server.last_logged(&id(&user)).map(|last| last.status.clone()))
            });
            let status = record.status();
            if logged.as_ref().is_some_and(|logged| *logged != status) {
                wrong.push(format!("{user} is {status:?} in the store, {logged:?} in the log"));
            }
            let shown = serde_json::to_value(&status).expect("JSON");
            let told = watchers.clone().filter(|watcher| !watcher.user.eq(&user));
            let misled = told.filter_map(|watcher| misled(watcher, &user, &shown));
            wrong.extend(misled);
            wrong.extend(self.check_terminals(&user, &record));
        }
        wrong.extend(
            watchers
                .filter(|it| !it.is_subscribed())
                .map(|it| format!("{} has not subscribed", it.name())),
        );
        let clients = self.clients.iter().filter_map(|client| self.check_client(client));
        wrong.extend(clients);
        wrong.extend(self.check_webhook());
        self.wrong.extend(wrong);
    }

    /// Every connected terminal has a live connection, and no session is held for ever.
    fn check_terminals(&self, user: &str, record: &Record) -> Vec<String> {
        let mut wrong = Vec::new();
        for terminal in &record.terminals {
            let has_client = self
                .clients
                .iter()
                .any(|client| client.session_id() == Some(terminal.session) && client.is_in());
            let is_open = self
                .nodes
                .iter()
                .flatten()
                .any(|node| node.within(|lab| lab.hub.heard(terminal.connection)).is_some());
            let is_right = match terminal.link {
                Link::Connected => has_client && is_open,
                Link::Lost { .. } => false,
                Link::Push { .. } => !has_client,
            };
            if !is_right {
                wrong.push(format!(
                    "{user} has {terminal:?}; client: {has_client}, connection: {is_open}"
                ));
            }
        }
        wrong
    }

    /// A client that believes that it is logged in, is, on that connection.
    fn check_client(&self, client: &Client) -> Option<String> {
        let name = client.name();
        let Some(connection) = client.connection.as_ref().filter(|it| it.is_in) else {
            return client.wants_in.then(|| format!("{name} could not log in"));
        };
        let record = self.network.with(|state| state.server.load(&id(&client.user)).record);
        let node = self.nodes[connection.node].as_ref().map(Node::id);
        let is_known = record.terminals.iter().any(|terminal| {
            Some(terminal.session) == client.session_id()
                && terminal.link == Link::Connected
                && Some(terminal.connection.node) == node
        });
        let terminals = &record.terminals;
        (!is_known).then(|| format!("{name} is logged in as {:?}: {terminals:?}", client.session))
    }
}

/// What a watcher was told last, if that is not how the user is. A status that differs only in its version is not
/// pushed.
fn misled(watcher: &Client, user: &str, shown: &Value) -> Option<String> {
    let told = watcher.connection.as_ref()?.told.get(user)?;
    let plain = |status: &Value| {
        let mut status = status.clone();
        for key in ["user", "type", "version"] {
            status[key] = json!(null);
        }
        status
    };
    let is_right = plain(told) == plain(shown);
    (!is_right).then(|| format!("{} was told {told}, not {shown}", watcher.name()))
}
