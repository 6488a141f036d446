//! Work that is begun at once, and that nobody waits for.

use std::{
    future::Future,
    task::{Context, Waker},
};

/// Begins `work` here and now, so that what it asks for is ahead of all that is asked for later; the rest of it runs by itself.
/// `what` it is, should the runtime end before it does.
pub(crate) fn start(what: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    let mut work = Box::pin(work);
    if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(work)),
            Err(_) => tracing::warn!(what, "the daemon stops before the store has answered"),
        }
    }
}
