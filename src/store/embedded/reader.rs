//! Connections that read, beside the one that writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::connection;
use super::error::OpenFault;
use super::queries::{self, UserRow};
use super::queue::{Giver, queue};
use super::view::View;
use crate::panics::caught_now;
use crate::presence::UserId;
use crate::store::StoreError;

/// How many records are looked up in one read transaction.
const LOADS_MAX: usize = 512;
/// How many other questions are answered at once.
const QUESTIONS_MAX: usize = 4;

/// Connections that read: one looks single records up, some answer all other questions.
pub(super) struct Readers {
    database: PathBuf,
    loads: Giver<Load>,
    idle: Mutex<Vec<Connection>>,
    places: Semaphore,
}

/// A record to look up.
struct Load {
    user: UserId,
    done: oneshot::Sender<Result<UserRow, StoreError>>,
}

impl Readers {
    pub(super) fn new(database: PathBuf, view: Arc<View>) -> Result<Arc<Self>, OpenFault> {
        let (loads, wanted) = queue();
        let connection = connection::to_read(&database)?;
        let work = move || {
            while wanted.wait() {
                let loads = wanted.take(LOADS_MAX);
                if let Err(panic) = caught_now(|| look_up(&connection, loads, &view)) {
                    tracing::error!(%panic, "store-reader panicked: the lookups under way failed");
                }
            }
        };
        thread::Builder::new().name("store-reader".into()).spawn(work)?;
        let places = Semaphore::new(QUESTIONS_MAX);
        Ok(Arc::new(Self { database, loads, idle: Mutex::default(), places }))
    }

    /// Looks a record up.
    pub(super) async fn load(&self, user: &UserId) -> Result<UserRow, StoreError> {
        let (done, answer) = oneshot::channel();
        self.loads.give(Load { user: user.clone(), done });
        let stopped = |_| StoreError::unavailable(&"the lookup panicked");
        answer.await.map_err(stopped)?
    }

    /// Asks a question, on a thread that may wait for the disk.
    pub(super) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.places.acquire().await;
        let place = place.map_err(|error| StoreError::unavailable(&error))?;
        let readers = Arc::clone(self);
        let answer = tokio::task::spawn_blocking(move || {
            let idle = readers.idle.lock().pop();
            let connection = match idle {
                Some(connection) => connection,
                None => connection::to_read(&readers.database)?,
            };
            let answer = question(&connection);
            readers.idle.lock().push(connection);
            answer
        });
        let answer = answer.await.map_err(|error| StoreError::unavailable(&error))?;
        drop(place);
        answer.map_err(StoreError::from)
    }
}

/// Looks records up as of one moment, and answers each.
fn look_up(connection: &Connection, loads: Vec<Load>, view: &View) {
    // Where it cannot begin, each lookup begins its own transaction, and reports the error.
    let begun = connection.unchecked_transaction();
    for Load { user, done } in loads {
        let found = queries::load(connection, &user);
        if let Ok(UserRow::Damaged(_)) = found {
            view.damage.found("users", user.as_str());
        }
        done.send(found.map_err(StoreError::from)).ok();
    }
    drop(begun);
}
