//! One attempt's way in from a sandbox with a network of its own.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::task::JoinSet;

use super::{Entrance, server};

/// Connections of one listener. Each takes a descriptor of the daemon, and may hold a whole request: what runs in a sandbox is not to
/// use up either.
const CONNECTIONS: usize = 64;

/// Serves listeners that were made inside of a sandbox, until it is closed or dropped.
pub(super) struct Door {
    entrance: Arc<Entrance>,
    /// One for each start of the sandbox's first process; those of earlier starts have ended. `None`: closed for good.
    serving: Mutex<Option<JoinSet<()>>>,
}

impl Door {
    pub fn new(entrance: Entrance) -> Self {
        Self { entrance: Arc::new(entrance), serving: Mutex::new(Some(JoinSet::new())) }
    }

    /// Ends what is served, calls under way included, and serves nothing more.
    pub fn close(&self) {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl domain::ports::sandbox::Door for Door {
    fn serve(&self, listener: TcpListener) {
        match (
            tokio::net::TcpListener::from_std(listener),
            &mut *self.serving.lock().unwrap_or_else(PoisonError::into_inner),
        ) {
            (Ok(listener), Some(serving)) => {
                serving.spawn(server::accept(listener, Arc::clone(&self.entrance), CONNECTIONS));
            }
            (Ok(_), None) => {}
            // Its agent finds nobody at the door, and says so.
            (Err(error), _) => tracing::warn!(%error, "the gateway cannot serve a sandbox's listener"),
        }
    }
}
