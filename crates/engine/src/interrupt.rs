//! A wish that a command end early: asked for, or no longer waited for at all.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// A wish that a command end early.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    level: AtomicU8,
    rung: Notify,
}

const ASKED: u8 = 1;
const ABORTED: u8 = 2;

impl Interrupt {
    /// Asks the command to come to an end and report it.
    pub fn ask(&self) {
        self.raise(ASKED);
    }

    pub fn abort(&self) {
        self.raise(ABORTED);
    }

    fn raise(&self, level: u8) {
        self.level.fetch_max(level, Ordering::SeqCst);
        self.rung.notify_waiters();
    }

    pub fn is_asked(&self) -> bool {
        self.level.load(Ordering::SeqCst) >= ASKED
    }

    pub async fn asked(&self) {
        self.reached(ASKED).await;
    }

    /// Nobody waits for the command any more: drop it.
    pub async fn aborted(&self) {
        self.reached(ABORTED).await;
    }

    async fn reached(&self, level: u8) {
        loop {
            let rung = self.rung.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if self.level.load(Ordering::SeqCst) >= level {
                return;
            }
            rung.await;
        }
    }
}
