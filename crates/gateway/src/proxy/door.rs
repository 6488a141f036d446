//! One attempt's way in from a sandbox with a network of its own.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::task::JoinSet;

use super::listen::{Host, accept};

/// Connections of one listener. Each takes a descriptor of the daemon, and may hold a whole request: what runs in a sandbox is not to
/// use up either.
const CONNECTIONS: usize = 64;

/// Serves listeners that were made inside of a sandbox, until it is closed or dropped.
pub(crate) struct Door<H> {
    host: Arc<H>,
    /// One for each start of the sandbox's first process; those of earlier starts have ended. `None`: closed for good.
    serving: Mutex<Option<JoinSet<()>>>,
}

impl<H> Door<H> {
    pub fn new(host: Arc<H>) -> Self {
        Self { host, serving: Mutex::new(Some(JoinSet::new())) }
    }

    /// Ends what is served, calls under way included, and serves nothing more.
    pub fn close(&self) {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl<H: Host> domain::ports::sandbox::Door for Door<H> {
    fn serve(&self, listener: TcpListener) {
        match (
            tokio::net::TcpListener::from_std(listener),
            &mut *self.serving.lock().unwrap_or_else(PoisonError::into_inner),
        ) {
            (Ok(listener), Some(serving)) => {
                serving.spawn(accept(listener, Arc::clone(&self.host), CONNECTIONS));
            }
            (Ok(_), None) => {}
            // Its agent finds nobody at the door, and says so.
            (Err(error), _) => tracing::warn!(%error, "the gateway cannot serve a sandbox's listener"),
        }
    }
}
