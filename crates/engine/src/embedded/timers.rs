//! The clock: fires the timers that tasks have set.

use std::{sync::Arc, time::Duration};

use domain::{
    event::Event,
    ids::TaskId,
    task::{Task, Timer},
};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::core::Core;
use crate::incoming::Incoming;

/// The longest sleep between two looks at the store.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A wall clock that ran ahead of the monotonic one by more than this was suspended.
const SUSPENDED_FROM: SignedDuration = SignedDuration::from_secs(5);
/// How long a sleep is remembered: no command waits for longer.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(30 * 24);

pub(super) async fn run(core: Arc<Core>) {
    let mut suspended = Suspended::new(core.site.ports.clock.now());
    loop {
        let now = core.site.ports.clock.now();
        suspended.look(now);
        let next = match core.site.ports.store.due(now).await {
            Ok((due, next)) => {
                let mut fired = due.is_empty();
                for task in due {
                    fired |= fire(&core, task, now, &suspended).await;
                }
                // What is due and may not fire yet (the grace after a suspension) is looked at again later.
                next.filter(|_| fired)
            }
            Err(fault) => {
                tracing::error!(%fault, "the timers could not be read");
                None
            }
        };
        let until_next = next.map_or(LOOK_EVERY, |next| {
            Duration::try_from(next.duration_since(core.site.ports.clock.now())).unwrap_or(Duration::ZERO)
        });
        let sleep = until_next.clamp(Duration::from_millis(5), LOOK_EVERY);
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = sooner(&core, sleep) => {}
        }
    }
}

/// Rings at most every 50 ms: commits set timers all the time, and nearly all are hours away.
async fn sooner(core: &Core, sleep: Duration) {
    if sleep <= Duration::from_millis(50) {
        return std::future::pending().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    core.sooner.notified().await;
}

/// Whether any timer of this task fired.
async fn fire(core: &Arc<Core>, id: TaskId, now: Timestamp, suspended: &Suspended) -> bool {
    let task = match core.task(id).await {
        Ok(task) => task,
        Err(fault) => {
            tracing::error!(task = %id, %fault, "a task with a due timer could not be read");
            return false;
        }
    };
    let mut fired = false;
    for (timer, due) in due_timers(&task, now, suspended) {
        let dedup = format!("t-{timer:?}-{due}");
        let event = Event::TimerFired { timer };
        match core.apply(id, Incoming::system(dedup, event)).await {
            Ok(_) => fired = true,
            Err(fault) => tracing::error!(task = %id, %fault, "a timer could not be recorded; it fires again"),
        }
    }
    fired
}

/// The time a machine slept does not count against the commands that waited meanwhile.
fn due_timers(task: &Task, now: Timestamp, suspended: &Suspended) -> Vec<(Timer, Timestamp)> {
    let due = |timer: &Timer, at: Timestamp| {
        let slept = task.work_since(timer).map_or(SignedDuration::ZERO, |since| suspended.since(since));
        at <= now.checked_sub(slept).unwrap_or(now)
    };
    task.timers.iter().filter(|(timer, at)| due(timer, **at)).map(|(timer, at)| (timer.clone(), *at)).collect()
}

/// When and how long this machine was suspended since the engine started: wall time that the monotonic clock did not see.
struct Suspended {
    wall: Timestamp,
    monotonic: Instant,
    /// When it woke up, and how long it had slept.
    sleeps: Vec<(Timestamp, SignedDuration)>,
}

impl Suspended {
    fn new(wall: Timestamp) -> Self {
        Self { wall, monotonic: Instant::now(), sleeps: Vec::new() }
    }

    fn look(&mut self, wall: Timestamp) {
        let (passed, awake) = (wall.duration_since(self.wall), self.monotonic.elapsed());
        let gap = passed.saturating_sub(SignedDuration::try_from(awake).unwrap_or(SignedDuration::MAX));
        if gap > SUSPENDED_FROM {
            tracing::info!(seconds = gap.as_secs(), "the machine was suspended");
            self.sleeps.retain(|(woke, _)| wall.duration_since(*woke) < REMEMBERED);
            self.sleeps.push((wall, gap));
        }
        (self.wall, self.monotonic) = (wall, Instant::now());
    }

    fn since(&self, at: Timestamp) -> SignedDuration {
        let later = self.sleeps.iter().filter(|(woke, _)| *woke > at);
        later.fold(SignedDuration::ZERO, |sum, (_, slept)| sum.saturating_add(*slept))
    }
}
