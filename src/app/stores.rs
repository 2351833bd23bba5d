//! Opens the configured store.

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{Config, StoreKind};
use crate::store::{
    Days, EmbeddedStore, MemoryStore, OpenFault, Outbox, RedisFault, RedisStore, SharedLogins,
    Store,
};

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// The embedded store in this directory.
    #[error("cannot open the store in {0}: {1}")]
    Embedded(String, OpenFault),
    /// Redis cannot be reached, or cannot serve as the store.
    #[error(transparent)]
    Redis(RedisFault),
}

/// One adapter behind all of its traits.
pub(super) struct Stores {
    pub(super) store: Arc<dyn Store>,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) days: Arc<dyn Days>,
    /// Only a store of several hubs has it.
    pub(super) logins: Option<Arc<dyn SharedLogins>>,
}

impl Stores {
    /// Opens the store of the configuration.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub(super) async fn open(config: &Config, clock: &Clock) -> Result<Self, StoreFault> {
        let (retention, present) = (config.retention(), clock.sign_of_life());
        match config.store.kind {
            StoreKind::Embedded => {
                let (path, sync) = (&config.store.path, config.store.sync);
                let store = EmbeddedStore::open(path, retention, sync, &present);
                Ok(Self::of(
                    store
                        .map_err(|fault| StoreFault::Embedded(path.display().to_string(), fault))?,
                ))
            }
            StoreKind::Redis => {
                let store = RedisStore::open(config.redis(), retention, clock).await;
                let store = Arc::new(store.map_err(StoreFault::Redis)?);
                let logins = Some(Arc::<RedisStore>::clone(&store) as Arc<dyn SharedLogins>);
                Ok(Self { logins, ..Self::shared(store) })
            }
            StoreKind::Memory => {
                let store = || MemoryStore::new(retention, present.wall);
                let directory = &config.store.path;
                Ok(Self::of(store().with_saved_time(directory).unwrap_or_else(|error| {
                    let directory = directory.display();
                    tracing::warn!(
                        %directory,
                        %error,
                        "cannot save the time in store.path; versions may go back if the wall clock \
                         is set back before the next start"
                    );
                    store()
                })))
            }
        }
    }

    fn of<T: Store + Outbox + Days>(adapter: T) -> Self {
        Self::shared(Arc::new(adapter))
    }

    fn shared<T: Store + Outbox + Days>(adapter: Arc<T>) -> Self {
        let (store, outbox) = (Arc::<T>::clone(&adapter), Arc::<T>::clone(&adapter));
        Self { store, outbox, days: adapter, logins: None }
    }
}
