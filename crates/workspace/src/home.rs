//! The directories below `$OVERNIGHT_HOME` that this room keeps, and the locks that order its work on them.
//!
//! ```text
//! repositories/<id>/private.git          every object and every `refs/overnight/…`; the host's only
//! repositories/<id>/bases/<commit>/      a base store: objects of one base's history, and what is told of it
//! repositories/<id>/layers/…             what lies under workspaces
//! repositories/<id>/raised/<id>/         an environment that is being built
//! repositories/<id>/path                 where the user's repository is
//! workspaces/T-12.1/{upper,home,…}       one attempt
//! homes/T-12.1/                          the HOME of an attempt whose workspace was given back: its agent's session is in it
//! checkouts/<name>/{upper,home,…}        one check run
//! trash/                                 renamed here, then removed in the background
//! ```

mod removal;

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::SystemTime,
};

use domain::{
    Fault,
    ids::{AttemptKey, RepositoryId},
};

pub(crate) use self::removal::remove_tree;
use crate::{
    git::{Git, io_fault},
    layer::{is_doubtful, settle},
    port::Options,
    rung::Rung,
    store::Store,
};

/// How names of things that are not finished begin.
const TEMPORARY: &str = "tmp-";
/// The bound for layers where nobody gives one; a tenth of the file system where that is less.
const LAYERS_BYTES: u64 = 10 << 30;

/// What can be done in the background.
#[derive(Debug)]
pub(crate) enum Chore {
    /// Remove a directory and everything in it.
    Remove(PathBuf),
    /// See to it that a new layer is on disk.
    Settle(PathBuf),
    /// Remove layers beyond the bound.
    Collect,
    /// See to it that a repository's store has not too many packs.
    RollUp(RepositoryId),
}

#[derive(Debug)]
pub(crate) struct Home {
    root: PathBuf,
    pub git: Git,
    pub rung: Rung,
    /// What layers may hold on disk.
    pub layers_bytes: u64,
    /// Held to write by the one who removes layers.
    layers: RwLock<()>,
    locks: Mutex<HashMap<PathBuf, Weak<Mutex<()>>>>,
    /// When, in nanoseconds: tells this life's temporary names from those of others.
    opened: u128,
    unique: AtomicU64,
    chores: mpsc::Sender<Chore>,
}

impl Home {
    pub fn open(options: &Options, git: Git) -> Result<Arc<Self>, Fault> {
        make_dir(&options.home)?;
        let root = fs::canonicalize(&options.home).map_err(|error| io_fault("open", &options.home, &error))?;
        let opened = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let (chores, inbox) = mpsc::channel();
        let home = Arc::new(Self {
            git,
            rung: options.rung,
            layers_bytes: options.layers_bytes.unwrap_or_else(|| default_bound(&root)),
            layers: RwLock::default(),
            locks: Mutex::default(),
            opened,
            unique: AtomicU64::new(0),
            chores,
            root,
        });
        for name in ["repositories", "workspaces", "homes", "checkouts", "trash"] {
            make_dir(&home.root.join(name))?;
        }
        janitor(Arc::downgrade(&home), inbox)?;
        Ok(home)
    }

    /// The store of a repository, made when it is not there.
    pub fn store(&self, id: &RepositoryId) -> Result<Store<'_>, Fault> {
        let safe = !id.0.is_empty()
            && !id.0.starts_with('.')
            && id.0.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !safe {
            return Err(Fault::bug(format!("`{}` is not a repository id", id.0)));
        }
        Ok(Store::new(self, self.repositories().join(&id.0)))
    }

    pub fn workspace(&self, key: AttemptKey) -> PathBuf {
        self.root.join("workspaces").join(key.to_string())
    }

    pub fn workspaces(&self) -> PathBuf {
        self.root.join("workspaces")
    }

    /// Where the HOME of an attempt waits for its next workspace.
    pub fn kept_home(&self, key: AttemptKey) -> PathBuf {
        self.homes().join(key.to_string())
    }

    pub fn homes(&self) -> PathBuf {
        self.root.join("homes")
    }

    pub fn checkouts(&self) -> PathBuf {
        self.root.join("checkouts")
    }

    pub fn repositories(&self) -> PathBuf {
        self.root.join("repositories")
    }

    pub fn later(&self, chore: Chore) {
        // The thread ends with this value only, so there is always someone who receives.
        let _ = self.chores.send(chore);
    }

    /// Does `work`, and no layer goes meanwhile.
    pub fn while_layers_stay<T>(&self, work: impl FnOnce() -> T) -> T {
        let _held = self.layers.read().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    /// Does `work`, which may remove layers that no place names.
    pub fn while_layers_go<T>(&self, work: impl FnOnce() -> T) -> T {
        let _held = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    /// A new name below `parent`, taken by no other call and by no earlier life of the daemon.
    pub fn unique(&self, parent: &Path) -> PathBuf {
        let number = self.unique.fetch_add(1, Ordering::Relaxed);
        parent.join(format!("{TEMPORARY}{}-{number}", self.opened))
    }

    /// Does `work` on `place` while no other call works on it.
    pub fn alone<T>(&self, place: &Path, work: impl FnOnce() -> T) -> T {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(place).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(Mutex::new(()));
                    locks.insert(place.to_owned(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        // A lock guards files, which a panic leaves as a crash would: the next call copes with that anyway.
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    /// Moves `path` out of the way at once; its content is removed in the background. Nothing there: nothing to do.
    pub fn throw_away(&self, path: &Path) -> Result<(), Fault> {
        if let Some(grave) = self.bury(path)? {
            self.later(Chore::Remove(grave));
        }
        Ok(())
    }

    /// As [`Self::throw_away`], but the content is gone on return: for what an installation with its secrets may have written.
    pub fn destroy(&self, path: &Path) -> Result<(), Fault> {
        self.bury(path)?.map_or(Ok(()), |grave| remove_tree(&grave))
    }

    /// Where `path` lies in the trash now. `None`: there was nothing.
    fn bury(&self, path: &Path) -> Result<Option<PathBuf>, Fault> {
        let grave = self.unique(&self.root.join("trash"));
        match fs::rename(path, &grave) {
            Ok(()) => Ok(Some(grave)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_fault("move away", path, &error)),
        }
    }

    /// What an earlier life of the daemon left: its trash, what it was about to make, layers that may not have got to the disk,
    /// half-built environments, and checkouts, which no check run reads any more.
    pub fn sweep(&self) -> Result<(), Fault> {
        for repository in read_dir(&self.repositories())? {
            let layers = repository.join("layers/base");
            for parent in [&repository, &repository.join("bases"), &layers, &repository.join("layers/environment")] {
                for entry in if parent.is_dir() { read_dir(parent)? } else { Vec::new() } {
                    let name = entry.file_name().unwrap_or_default();
                    let half_made = name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes());
                    if half_made || *parent == layers && is_doubtful(&entry) {
                        self.throw_away(&entry)?;
                    } else if *parent == layers {
                        self.later(Chore::Settle(entry));
                    }
                }
            }
            self.throw_away(&repository.join("raised"))?;
            let store = Store::new(self, repository);
            store.sweep_packs()?;
            self.later(Chore::RollUp(store.id()));
        }
        for entry in read_dir(&self.root.join("trash"))? {
            self.later(Chore::Remove(entry));
        }
        for entry in read_dir(&self.checkouts())? {
            self.throw_away(&entry)?;
        }
        self.later(Chore::Collect);
        Ok(())
    }
}

fn default_bound(root: &Path) -> u64 {
    let whole = rustix::fs::statvfs(root).map_or(u64::MAX, |stat| stat.f_blocks.saturating_mul(stat.f_frsize));
    LAYERS_BYTES.min(whole / 10)
}

/// Paths of the entries of a directory.
pub(crate) fn read_dir(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    let entries = fs::read_dir(path).map_err(|error| io_fault("read", path, &error))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(|error| io_fault("read", path, &error))).collect()
}

/// Makes a directory, and its parents, that only this user can enter.
pub(crate) fn make_dir(path: &Path) -> Result<(), Fault> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| io_fault("make the directory", path, &error))
}

/// One thread that does what it is sent, for as long as someone can send.
fn janitor(home: Weak<Home>, inbox: mpsc::Receiver<Chore>) -> Result<(), Fault> {
    let work = move |chore| match chore {
        Chore::Remove(grave) => remove_tree(&grave),
        Chore::Settle(layer) => settle(&layer).and_then(|()| home.upgrade().map_or(Ok(()), |home| home.collect())),
        Chore::RollUp(id) => home.upgrade().map_or(Ok(()), |home| home.store(&id)?.roll_up()),
        Chore::Collect => home.upgrade().map_or(Ok(()), |home| home.collect()),
    };
    std::thread::Builder::new()
        .name("janitor".to_owned())
        .spawn(move || {
            for chore in inbox {
                if let Err(fault) = work(chore) {
                    tracing::warn!(%fault, "left until the next start");
                }
            }
        })
        .map_err(|error| Fault::environment(format!("cannot start a thread: {error}")))?;
    Ok(())
}
