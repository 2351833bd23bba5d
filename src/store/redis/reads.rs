//! Gathers the records that are read together, such as those of a snapshot, into one MGET for each partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use redis::cmd;
use tokio::sync::oneshot;
use tokio::task::yield_now;

use super::router::{At, Router};
use crate::store::StoreError;

/// The maximum number of records in one MGET, so that no command holds the server up.
const KEYS_MAX: usize = 256;

/// A row, if there is one.
type Row = Result<Option<Vec<u8>>, StoreError>;

/// A key that is to be read, and who waits for it.
type Asked = (String, oneshot::Sender<Row>);

/// The reads that are not sent yet, by partition.
#[derive(Debug, Default)]
pub(super) struct Reads(Arc<Mutex<Waiting>>);

type Waiting = BTreeMap<u32, Vec<Asked>>;

impl Reads {
    /// Reads a key of a partition.
    pub(super) async fn read(&self, router: &Arc<Router>, part: u32, key: String) -> Row {
        let (answer, is_first) = self.ask(part, key);
        if is_first {
            // A task of its own, because the caller may be cancelled while others wait.
            tokio::spawn(send(Arc::clone(router), Arc::clone(&self.0), part));
        }
        answer.await.unwrap_or_else(|_| Err(StoreError::unavailable(&"the hub is stopping")))
    }

    /// Queues a read; returns also whether it is the first of its partition.
    fn ask(&self, part: u32, key: String) -> (oneshot::Receiver<Row>, bool) {
        let (asked, answer) = oneshot::channel();
        let mut waiting = self.0.lock();
        let of_part = waiting.entry(part).or_default();
        of_part.push((key, asked));
        (answer, of_part.len() == 1)
    }
}

/// Sends the reads of a partition, after the tasks that are ready have added theirs.
async fn send(router: Arc<Router>, waiting: Arc<Mutex<Waiting>>, part: u32) {
    yield_now().await;
    let mut asked = waiting.lock().remove(&part).unwrap_or_default();
    while !asked.is_empty() {
        let rest = asked.split_off(asked.len().min(KEYS_MAX));
        let mut get = cmd("MGET");
        for (key, _) in &asked {
            get.arg(key);
        }
        let rows: Result<Vec<Option<Vec<u8>>>, StoreError> = router.run(At::Part(part), &get).await;
        // A caller that is gone needs no answer.
        match rows {
            Ok(rows) => {
                for ((_, caller), row) in asked.into_iter().zip(rows) {
                    caller.send(Ok(row)).ok();
                }
            }
            Err(error) => {
                for (_, caller) in asked {
                    caller.send(Err(error.clone())).ok();
                }
            }
        }
        asked = rest;
    }
}
