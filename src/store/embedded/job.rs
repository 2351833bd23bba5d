//! What the thread that writes can be asked for, each with its own kind of answer.

use std::sync::Arc;

use rusqlite::Result;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::transaction::{EncodedCommit, Transaction, Trimmed};
use super::view::View;
use crate::presence::{self, Timestamp, UserId, WatchList, WatchListChange};
use crate::store::{DeadSelection, Save, StoreError, Stored, WebhookName};

/// Something to write.
pub(super) trait Job: Send + 'static {
    type Answer: Send + 'static;

    /// Whether a power cut may undo it: it is written again anyway.
    const MAY_BE_UNDONE: bool = false;

    /// Writes it. It runs again where the transaction of several jobs fails.
    fn run(&self, transaction: &mut Transaction<'_>) -> Result<Self::Answer>;

    /// Shows what was committed to callers who do not ask the database.
    fn show(&self, _answer: &Self::Answer, _view: &View) {}
}

/// A job whose caller waits, whatever its kind.
pub(super) trait Queued: Send {
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<()>;

    fn show(&self, view: &View);

    fn may_be_undone(&self) -> bool;

    /// Answers, once the transaction is committed or has failed.
    fn answer(self: Box<Self>, result: Result<(), StoreError>);
}

/// Puts a job into the form of the queue; the receiver hears the answer.
pub(super) fn queued<J: Job>(job: J) -> (Box<dyn Queued>, oneshot::Receiver<Answered<J>>) {
    let (done, answer) = oneshot::channel();
    (Box::new(Pending { job, ran: None, done }), answer)
}

struct Pending<J: Job> {
    job: J,
    ran: Option<J::Answer>,
    done: oneshot::Sender<Answered<J>>,
}

/// What a job's caller hears.
type Answered<J> = Result<<J as Job>::Answer, StoreError>;

impl<J: Job> Queued for Pending<J> {
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<()> {
        self.ran = Some(self.job.run(transaction)?);
        Ok(())
    }

    fn show(&self, view: &View) {
        if let Some(answer) = &self.ran {
            self.job.show(answer, view);
        }
    }

    fn may_be_undone(&self) -> bool {
        J::MAY_BE_UNDONE
    }

    fn answer(self: Box<Self>, result: Result<(), StoreError>) {
        let Self { ran, done, .. } = *self;
        let not_run = || StoreError::unavailable(&"the job was not run");
        done.send(result.and_then(|()| ran.ok_or_else(not_run))).ok();
    }
}

/// Stores a record and its events; answers whether it was at the expected revision.
pub(super) struct WriteCommit(pub(super) EncodedCommit);

impl Job for WriteCommit {
    type Answer = Option<Stored>;

    fn run(&self, transaction: &mut Transaction<'_>) -> Result<Self::Answer> {
        let EncodedCommit { record, due, .. } = &self.0;
        let Some(revision) = transaction.commit(&self.0)? else { return Ok(None) };
        // An empty record is not kept.
        let stored = Stored { record: Arc::clone(record), wall_deadline: due.wall, revision };
        Ok(Some(if record.is_empty() { Stored::default() } else { stored }))
    }

    fn show(&self, answer: &Self::Answer, view: &View) {
        let user = &self.0.user;
        match answer {
            Some(stored) => view.cache.committed(user, stored.clone(), self.0.record_json.len()),
            None => view.cache.forget(user),
        }
        if answer.is_some() && self.0.replaces_damaged {
            view.damage.mended("users", user.as_str());
        }
    }
}

/// Changes a user's watch list; answers with the new one, or `None` if it would be too long.
pub(super) struct ChangeWatchList {
    pub(super) user: UserId,
    pub(super) change: WatchListChange,
    pub(super) max: usize,
}

impl Job for ChangeWatchList {
    type Answer = Option<Arc<WatchList>>;

    fn run(&self, transaction: &mut Transaction<'_>) -> Result<Self::Answer> {
        transaction.change_watch_list(&self.user, &self.change, self.max)
    }

    fn show(&self, answer: &Self::Answer, view: &View) {
        if answer.is_some() {
            view.damage.mended("watch_lists", self.user.as_str());
        }
    }
}

/// Writes a node's sign of life; after a failed write, proves that writes work again.
pub(super) struct WriteSign {
    pub(super) node: String,
    pub(super) sign: presence::SignOfLife,
    pub(super) proves: bool,
}

impl Job for WriteSign {
    type Answer = ();
    const MAY_BE_UNDONE: bool = true;

    fn run(&self, transaction: &mut Transaction<'_>) -> Result<()> {
        if self.proves {
            transaction.prove()?;
        }
        transaction.save_sign_of_life(&self.node, &self.sign)
    }
}

/// Removes a dead node.
pub(super) struct Retire(pub(super) String);

impl Job for Retire {
    type Answer = ();

    fn run(&self, transaction: &mut Transaction<'_>) -> Result<()> {
        transaction.retire(&self.0)
    }
}

/// Lets some of the oldest entries of the log go.
pub(super) struct Trim(pub(super) Timestamp);

impl Job for Trim {
    type Answer = Trimmed;
    const MAY_BE_UNDONE: bool = true;

    fn run(&self, transaction: &mut Transaction<'_>) -> Result<Trimmed> {
        transaction.trim(self.0)
    }
}

/// Replaces the figures of a day.
pub(super) struct SaveDay {
    pub(super) day: u32,
    pub(super) figures: Box<RawValue>,
    pub(super) keep_from: u32,
}

impl Job for SaveDay {
    type Answer = ();
    const MAY_BE_UNDONE: bool = true;

    fn run(&self, transaction: &mut Transaction<'_>) -> Result<()> {
        transaction.save_day(self.day, &self.figures, self.keep_from)
    }
}

/// Notes a webhook's progress.
pub(super) struct SaveProgress(pub(super) Save);

impl Job for SaveProgress {
    type Answer = ();

    fn run(&self, transaction: &mut Transaction<'_>) -> Result<()> {
        transaction.save(&self.0)
    }
}

/// Forgets a webhook's progress.
pub(super) struct ClearProgress(pub(super) WebhookName);

impl Job for ClearProgress {
    type Answer = ();

    fn run(&self, transaction: &mut Transaction<'_>) -> Result<()> {
        transaction.clear(&self.0)
    }
}

/// Puts dead letters back; answers how many.
pub(super) struct PutBack(pub(super) WebhookName, pub(super) DeadSelection);

impl Job for PutBack {
    type Answer = u64;

    fn run(&self, transaction: &mut Transaction<'_>) -> Result<u64> {
        transaction.put_back(&self.0, &self.1)
    }
}

/// Drops dead letters; answers how many.
pub(super) struct DropDead(pub(super) WebhookName, pub(super) DeadSelection);

impl Job for DropDead {
    type Answer = u64;

    fn run(&self, transaction: &mut Transaction<'_>) -> Result<u64> {
        transaction.drop_dead(&self.0, &self.1)
    }
}
