//! The line between a running turn and its task.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    Fault,
    event::Event,
    ids::{AttemptKey, CommentId, TurnNo},
    ports::{BoxFuture, agent, sandbox::Sandbox},
};
use tokio::sync::{Notify, OwnedMappedMutexGuard, OwnedMutexGuard, mpsc};

use crate::interrupt::Interrupt;

/// One turn's line. What the agent says leaves as events, in order.
pub(crate) struct Line {
    key: AttemptKey,
    turn: TurnNo,
    comments: Mutex<VecDeque<(CommentId, String)>>,
    notices: Mutex<Vec<String>>,
    /// Rings when a comment or a notice came.
    noticed: Notify,
    said: mpsc::UnboundedSender<Event>,
    interrupt: Arc<Interrupt>,
    /// `None` once the turn is over: whatever were started in it then would write beside the next turn.
    sandbox: Arc<tokio::sync::Mutex<Option<Arc<dyn Sandbox>>>>,
}

/// A turn's sandbox, while something is started in it.
pub(crate) type InUse = OwnedMappedMutexGuard<Option<Arc<dyn Sandbox>>, Arc<dyn Sandbox>>;

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("key", &self.key).field("turn", &self.turn).finish_non_exhaustive()
    }
}

impl Line {
    pub fn new(
        key: AttemptKey,
        turn: TurnNo,
        said: mpsc::UnboundedSender<Event>,
        interrupt: Arc<Interrupt>,
        sandbox: Arc<dyn Sandbox>,
    ) -> Arc<Self> {
        Arc::new(Self {
            key,
            turn,
            comments: Mutex::default(),
            notices: Mutex::default(),
            noticed: Notify::new(),
            said,
            interrupt,
            sandbox: Arc::new(Some(sandbox).into()),
        })
    }

    pub fn turn(&self) -> TurnNo {
        self.turn
    }

    /// Where the turn's commands run. The turn does not end while this is held.
    pub async fn sandbox(&self) -> Result<InUse, Fault> {
        let over = |_| Fault::transient(format!("turn {} of {} is just over", self.turn, self.key));
        OwnedMutexGuard::try_map(Arc::clone(&self.sandbox).lock_owned().await, Option::as_mut).map_err(over)
    }

    /// Nobody starts anything in the sandbox any more.
    pub async fn close(&self) {
        self.sandbox.lock().await.take();
    }

    pub fn push(&self, comment: CommentId, text: String) {
        let mut comments = self.comments.lock().unwrap_or_else(PoisonError::into_inner);
        if !comments.iter().any(|(id, _)| *id == comment) {
            comments.push_back((comment, text));
            self.noticed.notify_waiters();
        }
    }

    /// Tells the agent something in Overnight's own name.
    pub fn notice(&self, words: String) {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(words);
        self.noticed.notify_waiters();
    }

    /// Tells people something of how the turn goes.
    pub fn tell(&self, percent: Option<u8>, text: &str) {
        let text = text.chars().take(500).collect();
        self.say(Event::Progressed { attempt: self.key.attempt, turn: self.turn, percent, text });
    }

    fn is_noticed(&self) -> bool {
        let waits = |queue: &Mutex<VecDeque<_>>| !queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        waits(&self.comments) || !self.notices.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn say(&self, event: Event) {
        // The performer has gone only when the turn is over: then there is nobody to tell.
        let _ = self.said.send(event);
    }
}

impl agent::Line for Line {
    fn take_comments(&self) -> Vec<(CommentId, String)> {
        self.comments.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn noticed(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let noticed = self.noticed.notified();
                tokio::pin!(noticed);
                noticed.as_mut().enable();
                if self.is_noticed() {
                    return;
                }
                noticed.await;
            }
        })
    }

    fn delivered(&self, comments: Vec<CommentId>, round: u32) {
        let AttemptKey { attempt, .. } = self.key;
        self.say(Event::CommentsDelivered { attempt, turn: self.turn, round, comments });
    }

    fn progress(&self, percent: Option<u8>, text: String) {
        self.tell(percent, &text);
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.is_asked()
    }

    fn interrupted(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.interrupt.asked())
    }
}

/// The lines of all running turns.
#[derive(Debug, Default)]
pub(crate) struct Lines(Mutex<HashMap<AttemptKey, Arc<Line>>>);

impl Lines {
    pub fn get(&self, key: AttemptKey) -> Option<Arc<Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// Opens a line; it closes when the guard is dropped.
    pub fn open(&self, line: Arc<Line>) -> OpenLine<'_> {
        let key = line.key;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, line);
        OpenLine { lines: self, key }
    }
}

pub(crate) struct OpenLine<'a> {
    lines: &'a Lines,
    key: AttemptKey,
}

impl Drop for OpenLine<'_> {
    fn drop(&mut self) {
        self.lines.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
