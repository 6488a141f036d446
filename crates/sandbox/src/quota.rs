//! The disk quota of a sandbox: how much its writable sides hold, looked at while commands run, and the end of those commands
//! once it is too much.
//!
//! A look asks the file system how much room it has left. Only when that has moved by half of what the sandbox may still take
//! are its files counted, so that a running command costs one system call a second, and a sandbox without commands nothing. Two
//! ways to hold blocks are not seen: a removed file that is only mapped, and one whose descriptor is on its way through a socket.
//! Who begins command after command beyond the quota gains what each writes until the next look.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::ports::sandbox::{Confinement, SandboxSpec, Tree};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep_until},
};

use crate::usage;

/// Between two looks; and while more than the quota is held, when the next command must not get far.
const PACE: Duration = Duration::from_secs(1);
const PACE_BEYOND: Duration = Duration::from_millis(100);
/// The most that a sandbox gets which nobody has given a quota.
const DEFAULT: u64 = 64 << 30;

/// What was found beyond a quota, both in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun {
    pub held: u64,
    pub quota: u64,
}

/// Tells a command when it is to be ended.
#[derive(Debug, Default)]
pub struct Notice(Option<watch::Receiver<Option<Overrun>>>);

impl Notice {
    /// Resolves once the sandbox holds too much; never where there is no quota. A safe point to be canceled at.
    pub async fn over(&mut self) -> Overrun {
        if let Some(receiver) = &mut self.0
            && receiver.changed().await.is_ok()
            && let Some(overrun) = *receiver.borrow_and_update()
        {
            return overrun;
        }
        std::future::pending().await
    }
}

/// One sandbox's.
#[derive(Debug)]
pub struct Quota {
    /// On one file system, as they are all in the state directory: the first one's room stands for all.
    sides: Vec<PathBuf>,
    /// Tells the sandbox's processes, which may hold files that have no name any more.
    lock: PathBuf,
    /// What may be held, or come to what was held when the sandbox was opened.
    bytes: u64,
    notice: watch::Sender<Option<Overrun>>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    looked: Instant,
    watch: Watch,
    /// `None` where nobody has given one, until the files are counted.
    quota: Option<u64>,
    /// What was held, and the room there was, when the files were last counted.
    counted: Option<(u64, Room)>,
    /// What may be held now: the quota, or, where the newest command began with more, a little more than that. `None`: that is
    /// not counted yet.
    allowed: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    Kept,
    /// No command runs.
    Off,
}

impl Quota {
    /// `None` where plain processes were given no quota, or the file system does not tell its room.
    pub fn new(spec: &SandboxSpec) -> Option<Arc<Self>> {
        let side = |tree: &Tree| match tree {
            Tree::Directory(path) => path.clone(),
            Tree::Layers(layers) => layers.upper.clone(),
        };
        let sides = vec![side(&spec.root), side(&spec.home), spec.scratch.clone()];
        let (bytes, quota, counted) = match (spec.limits.disk_bytes, spec.confinement) {
            (Some(bytes), _) => (bytes, Some(bytes), None),
            (None, Confinement::Unconfined) => return None,
            (None, Confinement::Confined) => {
                let room = Room::of(&sides[0])?;
                // Of what it holds now, nothing is counted until it matters.
                ((room.share() / 2).min(DEFAULT), None, Some((0, room)))
            }
        };
        let known = Known { looked: Instant::now(), watch: Watch::Off, quota, counted, allowed: Some(bytes) };
        let lock = spec.lock.clone();
        Some(Arc::new(Self { sides, lock, bytes, notice: watch::channel(None).0, known: known.into() }))
    }

    /// For a command that is about to run. Takes no time, unless more than the quota was held: from what this one begins with is
    /// counted first, as it may remove some of it, or its forerunner has.
    pub async fn notice(self: &Arc<Self>) -> Notice {
        let receiver = self.notice.subscribe();
        let beyond = {
            let mut known = self.known();
            if known.watch == Watch::Off {
                known.watch = Watch::Kept;
                tokio::spawn(self.clone().keep_watch());
            }
            let beyond = known.allowed != Some(known.quota.unwrap_or(self.bytes));
            if beyond {
                known.allowed = None;
            }
            beyond
        };
        if beyond && let Some(room) = Room::of(&self.sides[0]) {
            self.count(room, u64::MAX).await;
        }
        Notice(Some(receiver))
    }

    async fn keep_watch(self: Arc<Self>) {
        loop {
            let due = {
                let known = self.known();
                let beyond = known.allowed != Some(known.quota.unwrap_or(self.bytes));
                known.looked + if beyond { PACE_BEYOND } else { PACE }
            };
            sleep_until(due).await;
            {
                let mut known = self.known();
                // A command that has come since has its notice already.
                if self.notice.receiver_count() == 0 {
                    known.watch = Watch::Off;
                    return;
                }
                known.looked = Instant::now();
            }
            if let Some(room) = Room::of(&self.sides[0])
                && let Some(enough) = self.worth_counting(room)
            {
                let begun = Instant::now();
                self.count(room, enough).await;
                // Never for more than half of the time.
                self.known().looked = Instant::now() + begun.elapsed();
            }
        }
    }

    /// Where more may be held than is allowed: up to which sum it has to be counted.
    fn worth_counting(&self, now: Room) -> Option<u64> {
        let known = self.known();
        match (known.allowed, known.counted) {
            (None, _) => Some(u64::MAX),
            (Some(allowed), None) => Some(allowed),
            (Some(allowed), Some((held, room))) => {
                let enough = if known.quota.is_some() { allowed } else { u64::MAX };
                (now.moved(room).saturating_mul(2) >= allowed.saturating_sub(held)).then_some(enough)
            }
        }
    }

    async fn count(&self, room: Room, enough: u64) {
        /// One sandbox at a time: this is work for the disk, whoever has filled it with small files.
        static TURN: Semaphore = Semaphore::const_new(1);
        let (sides, lock) = (self.sides.clone(), self.lock.clone());
        let _turn = TURN.acquire().await;
        let counted = tokio::task::spawn_blocking(move || usage::count(&sides, &lock, room.bytes_per_file, enough));
        if let Ok(held) = counted.await {
            self.judge(held, room);
        }
    }

    fn judge(&self, held: u64, room: Room) {
        let mut known = self.known();
        let moved = known.counted.map_or(0, |(_, then)| room.moved(then));
        known.counted = Some((held, room));
        let quota = match known.quota {
            Some(quota) => quota,
            None => {
                // What was there in the beginning is at least what is held without all that was taken since.
                let quota = held.saturating_sub(moved).saturating_add(self.bytes);
                (known.quota, known.allowed) = (Some(quota), Some(quota));
                quota
            }
        };
        // Removing takes a little room too: directories are copied up, and what lies in a layer is marked as gone.
        let margin = (quota / 32).min(64 << 20);
        let settled = quota.max(held.saturating_add(margin));
        known.allowed = match known.allowed {
            Some(allowed) if held > allowed => {
                self.notice.send_replace(Some(Overrun { held, quota }));
                None
            }
            Some(allowed) => Some(allowed.min(settled)),
            None => Some(settled),
        };
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a file system has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    bytes: u64,
    files: u64,
    /// 0 where files take up nothing but bytes.
    bytes_per_file: u64,
}

impl Room {
    fn of(path: &Path) -> Option<Self> {
        let told = rustix::fs::statvfs(path).ok()?;
        let bytes_per_file = told.f_blocks.saturating_mul(told.f_frsize).checked_div(told.f_files).unwrap_or(0);
        Some(Self { bytes: told.f_bfree.saturating_mul(told.f_frsize), files: told.f_ffree, bytes_per_file })
    }

    /// In bytes, of what there is less of.
    fn share(self) -> u64 {
        if self.bytes_per_file == 0 {
            self.bytes
        } else {
            self.bytes.min(self.files.saturating_mul(self.bytes_per_file))
        }
    }

    /// The most that can have been taken or given back since, in bytes.
    fn moved(self, then: Self) -> u64 {
        self.bytes.abs_diff(then.bytes).max(self.files.abs_diff(then.files).saturating_mul(self.bytes_per_file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(bytes: u64) -> Quota {
        let allowed = Some(bytes);
        let known = Known { looked: Instant::now(), watch: Watch::Off, quota: allowed, counted: None, allowed };
        Quota { sides: Vec::new(), lock: PathBuf::new(), bytes, notice: watch::channel(None).0, known: known.into() }
    }

    const ROOM: Room = Room { bytes: 1 << 40, files: 1 << 26, bytes_per_file: 1 << 14 };

    #[test]
    fn files_are_counted_only_when_it_may_matter() {
        let quota = quota(1000);
        assert_eq!(quota.worth_counting(ROOM), Some(1000), "never counted");
        quota.judge(200, ROOM);
        assert_eq!(quota.worth_counting(ROOM), None);
        assert_eq!(quota.worth_counting(Room { bytes: ROOM.bytes - 399, ..ROOM }), None);
        assert_eq!(quota.worth_counting(Room { bytes: ROOM.bytes - 400, ..ROOM }), Some(1000));
        assert_eq!(quota.worth_counting(Room { files: ROOM.files - 1, ..ROOM }), Some(1000));
    }

    #[test]
    fn beyond_the_quota_only_growth_ends_commands() {
        let quota = quota(3200);
        let mut notice = quota.notice.subscribe();
        let told = |notice: &mut watch::Receiver<Option<Overrun>>| {
            notice.has_changed().unwrap().then(|| notice.borrow_and_update().unwrap().held)
        };
        quota.judge(3200, ROOM);
        assert_eq!(told(&mut notice), None);
        quota.judge(3201, ROOM);
        assert_eq!(told(&mut notice), Some(3201));
        // What the ended ones wrote last is where the next one begins.
        for held in [5000, 5100, 4000, 4100] {
            assert!(quota.worth_counting(ROOM).is_some() || held == 5100 || held == 4100);
            quota.judge(held, ROOM);
            assert_eq!(told(&mut notice), None, "{held}");
        }
        quota.judge(4101, ROOM);
        assert_eq!(told(&mut notice), Some(4101), "what was given up is not taken again");
        quota.judge(4101, ROOM);
        quota.judge(100, ROOM);
        quota.judge(3200, ROOM);
        assert_eq!(told(&mut notice), None);
        assert_eq!(quota.known().allowed, Some(3200));
    }
    #[test]
    fn without_a_given_quota_what_was_there_is_nobodys_fault() {
        let quota = quota(1000);
        {
            let mut known = quota.known();
            (known.quota, known.counted) = (None, Some((0, ROOM)));
        }
        let taken = |bytes| Room { bytes: ROOM.bytes - bytes, ..ROOM };
        assert_eq!(quota.worth_counting(taken(499)), None);
        assert_eq!(quota.worth_counting(taken(500)), Some(u64::MAX), "all must be known once");
        quota.judge(70_500, taken(500));
        assert_eq!(quota.known().quota, Some(71_000));
        assert!(!quota.notice.borrow().is_some());
        quota.judge(71_001, taken(1001));
        assert_eq!(*quota.notice.borrow(), Some(Overrun { held: 71_001, quota: 71_000 }));
    }
}
