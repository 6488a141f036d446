//! Quota windows: which account is shut until when, for all attempts alike, and how calls come back when it opens again.
//!
//! When a window opens, one call goes first. If it is served, two may follow at once, then four, and so on until nobody counts any
//! more; if it is refused, the window is shut again and nobody else was.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use domain::ports::Clock;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::patience::Patience;

/// The most calls that wait for windows at a time; others are told to come again.
const QUEUE: usize = 512;
/// The longest single wait. A longer one is the caller's, who has other things to do meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// When to come again who found the queue too long.
const SOON: SignedDuration = SignedDuration::from_secs(5);
/// Steps above this are none: the window is open.
const STEPS: u32 = 32;
/// The longest that a window is shut whose provider does not say how long.
const LONGEST_GUESS: Duration = Duration::from_secs(600);

pub(crate) struct Windows {
    clock: Arc<dyn Clock>,
    /// How long a window is shut the first time, where its provider does not say.
    first: Duration,
    /// Those that are not simply open.
    shut: Mutex<HashMap<u64, Window>>,
    /// Tells those who wait to look again.
    changes: watch::Sender<()>,
}

struct Window {
    until: Timestamp,
    why: String,
    /// How often it was found shut since it was last open.
    streak: u32,
    /// How many calls may be under way at a time, once it is time.
    steps: u32,
    under_way: u32,
}

/// No call can go out before then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub why: String,
    pub until: Timestamp,
}

enum Entry {
    Open(Pass),
    Shut(Held),
    /// Others go first.
    Queue(Held),
}

impl Windows {
    pub fn new(clock: Arc<dyn Clock>, first: Duration) -> Arc<Self> {
        let (changes, _) = watch::channel(());
        Arc::new(Self { clock, first, shut: Mutex::default(), changes })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Window>> {
        self.shut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when a window is shut.
    pub fn shut_until(&self, window: u64) -> Option<Timestamp> {
        self.lock().get(&window).map(|window| window.until).filter(|until| *until > self.clock.now())
    }

    /// Finds the first of `windows` that is open, and waits for one as long as patience allows. Returns its place among them.
    pub async fn admit(self: &Arc<Self>, windows: &[u64], patience: &mut Patience) -> Result<(usize, Pass), Held> {
        let mut changes: Option<watch::Receiver<()>> = None;
        loop {
            let mut soonest: Option<Held> = None;
            let mut is_queued = false;
            for (place, window) in windows.iter().enumerate() {
                let held = match self.enter(*window) {
                    Entry::Open(pass) => return Ok((place, pass)),
                    Entry::Shut(held) => held,
                    Entry::Queue(held) => {
                        is_queued = true;
                        held
                    }
                };
                if soonest.as_ref().is_none_or(|before| held.until < before.until) {
                    soonest = Some(held);
                }
            }
            let now = self.clock.now();
            let mut held = soonest.unwrap_or_else(|| Held { why: "there is no account".to_owned(), until: now });
            let left = patience.left();
            let pause =
                if is_queued { left } else { Duration::try_from(held.until.duration_since(now)).unwrap_or_default() };
            if left.is_zero() || pause > left.min(LONGEST_WAIT) && !is_queued || self.changes.receiver_count() > QUEUE {
                held.until = held.until.max(now + SOON);
                return Err(held);
            }
            // Looked at once more after it is there, so that no change is missed.
            let Some(changes) = &mut changes else {
                changes = Some(self.changes.subscribe());
                continue;
            };
            let begun = Instant::now();
            // Told or not: whoever woke looks for themselves.
            let _ = tokio::time::timeout(pause.max(Duration::from_millis(1)), changes.changed()).await;
            patience.waited(begun.elapsed());
        }
    }

    fn enter(self: &Arc<Self>, id: u64) -> Entry {
        let pass = |counted| Pass { windows: Arc::clone(self), id, counted };
        let mut shut = self.lock();
        let Some(window) = shut.get_mut(&id) else { return Entry::Open(pass(false)) };
        let held = || Held { why: window.why.clone(), until: window.until };
        if window.until > self.clock.now() {
            Entry::Shut(held())
        } else if window.under_way >= window.steps {
            Entry::Queue(held())
        } else {
            window.under_way += 1;
            Entry::Open(pass(true))
        }
    }

    fn change(&self, id: u64, counted: bool, change: impl FnOnce(&mut HashMap<u64, Window>)) {
        let mut shut = self.lock();
        if counted && let Some(window) = shut.get_mut(&id) {
            window.under_way = window.under_way.saturating_sub(1);
        }
        change(&mut shut);
        drop(shut);
        self.changes.send_replace(());
    }
}

/// The right to make one call. Dropped: it came to nothing that says anything of the window.
pub(crate) struct Pass {
    windows: Arc<Windows>,
    id: u64,
    /// Whether it is one of few.
    counted: bool,
}

impl Pass {
    /// The provider serves.
    pub fn served(mut self) {
        if std::mem::take(&mut self.counted) {
            let id = self.id;
            self.windows.change(id, true, |shut| {
                if let Some(window) = shut.get_mut(&id) {
                    window.steps *= 2;
                    if window.steps > STEPS {
                        shut.remove(&id);
                    }
                }
            });
        }
    }

    /// The account is out of quota, for as long as the provider says or as experience does.
    pub fn shut(mut self, asked: Option<Duration>, why: &str) -> Timestamp {
        let (id, counted) = (self.id, std::mem::take(&mut self.counted));
        let (now, first) = (self.windows.clock.now(), self.windows.first);
        let mut until = now;
        self.windows.change(id, counted, |shut| {
            let window = shut.entry(id).or_insert_with(|| Window {
                until: now,
                why: String::new(),
                streak: 0,
                steps: 1,
                under_way: 0,
            });
            // Of many that went out together, one says it for all.
            let is_news = window.until <= now;
            window.streak += u32::from(is_news);
            let guess = first.saturating_mul(1 << (window.streak - 1).min(16)).min(LONGEST_GUESS);
            let pause = SignedDuration::try_from(asked.unwrap_or(guess)).unwrap_or(SignedDuration::MAX);
            if is_news || asked.is_some() {
                window.until = window.until.max(now.saturating_add(pause).unwrap_or(Timestamp::MAX));
            }
            window.steps = 1;
            why.clone_into(&mut window.why);
            until = window.until;
        });
        until
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if std::mem::take(&mut self.counted) {
            self.windows.change(self.id, true, |_| {});
        }
    }
}
