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

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::patience::Retry;

    struct Hands(Mutex<Timestamp>);

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    impl Hands {
        fn forward(&self, seconds: i64) {
            *self.0.lock().unwrap() += SignedDuration::from_secs(seconds);
        }
    }

    fn windows() -> (Arc<Hands>, Arc<Windows>) {
        let clock = Arc::new(Hands(Mutex::new("2026-11-20T12:00:00Z".parse().unwrap())));
        (Arc::clone(&clock), Windows::new(clock, Duration::from_secs(2)))
    }

    fn open(windows: &Arc<Windows>) -> Option<Pass> {
        match windows.enter(7) {
            Entry::Open(pass) => Some(pass),
            Entry::Shut(_) | Entry::Queue(_) => None,
        }
    }

    #[test]
    fn when_a_window_opens_one_goes_first_and_then_more_and_more() {
        let (clock, windows) = windows();
        open(&windows).unwrap().shut(Some(Duration::from_secs(10)), "busy");
        assert!(open(&windows).is_none());
        clock.forward(10);
        for step in [1, 2, 4, 8, 16, 32] {
            let mut passes: Vec<_> = std::iter::from_fn(|| open(&windows)).collect();
            assert_eq!(passes.len(), step);
            passes.pop().unwrap().served();
            assert!(step == 32 || windows.lock()[&7].under_way == u32::try_from(step - 1).unwrap());
        }
        assert!(windows.lock().is_empty(), "nobody counts any more");
    }

    #[test]
    fn who_is_refused_shuts_it_for_all_and_for_longer_each_time() {
        let (clock, windows) = windows();
        let together = [open(&windows).unwrap(), open(&windows).unwrap(), open(&windows).unwrap()];
        for pass in together {
            pass.shut(None, "busy");
        }
        for seconds in [2, 4, 8] {
            assert_eq!(windows.shut_until(7), Some(clock.now() + SignedDuration::from_secs(seconds)));
            clock.forward(seconds);
            assert_eq!(windows.shut_until(7), None);
            let first = open(&windows).unwrap();
            assert!(open(&windows).is_none(), "the first is not back yet");
            first.shut(None, "busy");
        }
        drop(open(&windows));
        clock.forward(1000);
        drop(open(&windows).unwrap());
        assert!(open(&windows).is_some(), "one that came to nothing makes place");
    }

    #[tokio::test]
    async fn who_cannot_wait_that_long_is_told_and_who_can_is_called() {
        let (clock, windows) = windows();
        let retry = Retry { tries: 3, first: Duration::from_secs(1), in_all: Duration::from_secs(3600) };
        let mut patience = Patience::new(retry);
        open(&windows).unwrap().shut(Some(Duration::from_secs(61)), "busy");
        let until = clock.now() + SignedDuration::from_secs(61);
        let held = windows.admit(&[7], &mut patience).await.err().unwrap();
        assert_eq!(held, Held { why: "busy".to_owned(), until });
        assert_eq!(windows.admit(&[7, 8], &mut patience).await.ok().unwrap().0, 1, "another one is open");
        clock.forward(61);
        let first = open(&windows).unwrap();
        let mut second = std::pin::pin!(windows.admit(&[7], &mut patience));
        assert!(second.as_mut().now_or_never().is_none());
        first.served();
        assert_eq!(second.await.ok().unwrap().0, 0);
    }
}
