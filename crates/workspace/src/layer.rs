//! Layers: immutable directories that lie under workspaces. A base layer has the files of a commit, and a `.git` that knows them,
//! so that nothing is hashed again in a workspace over it.
//!
//! ```text
//! layers/base/<commit>/tree/         every file, or what differs from the layers below
//! layers/base/<commit>/index/        the index that workspaces share: shown read-only, as git would touch it
//! layers/base/<commit>/about.json    what it lies over; its time of change says when it was used last
//! layers/base/<commit>/durable       written once it is known to be on disk; holds how many bytes it takes
//! layers/environment/<id>/{tree,home,about.json}
//! ```

use std::{
    fs::{self, File, FileTimes},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use domain::{Fault, environment::EnvironmentId, ids::CommitId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    base::Base,
    git::{io_fault, pieces},
    home::{Chore, make_dir, read_dir},
    path_of,
    prepare::{Head, Index, make_dot_git},
    rung::{disk_bytes, make_opaque},
    store::{Store, put},
};

/// A stack that is deeper costs each look at a file more than a new checkout is worth.
const DEEPEST: usize = 8;
/// With more than one file in so many changed, a new checkout costs little more than what differs.
const MANY_CHANGED: u64 = 4;
/// The clock that files get their times from may be so much behind.
const CLOCK_LAG: Duration = Duration::from_millis(50);
/// How many of the layers used last are looked at for one that is near.
const CANDIDATES: usize = 3;

/// Names a layer of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LayerName {
    Base(CommitId),
    Environment(EnvironmentId),
}

/// What lies under a place, topmost first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stack {
    pub trees: Vec<PathBuf>,
    /// Of the environment.
    pub homes: Vec<PathBuf>,
    /// Host directory with the index that the `.git` of the topmost base layer points to.
    pub index: PathBuf,
}

/// A base layer on disk.
#[derive(Clone, Debug)]
pub(crate) struct BaseLayer {
    pub root: PathBuf,
    pub about: AboutBase,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AboutBase {
    /// This layer and what lies under it, topmost first.
    pub stack: Vec<CommitId>,
    pub files: u64,
    /// The boot in which it was made: one that did not get to the disk before the machine went down is made anew.
    pub boot: String,
}

impl BaseLayer {
    pub fn tree(&self) -> PathBuf {
        self.root.join("tree")
    }

    /// The index of its files: small, with what it names in [`Self::shared_index`].
    pub fn index(&self) -> PathBuf {
        self.tree().join(".git/index")
    }

    /// Whether a file that changes now may look to git as it was when the layer was made.
    pub fn is_young(&self) -> bool {
        let settles = fs::metadata(self.index()).and_then(|file| file.modified());
        settles.is_ok_and(|settles| SystemTime::now() < settles + CLOCK_LAG)
    }

    /// The same index in one file.
    pub fn whole_index(&self) -> Result<PathBuf, Fault> {
        let directory = self.root.join("index");
        let files = read_dir(&directory)?;
        files.into_iter().next().ok_or_else(|| Fault::bug(format!("{} is empty", directory.display())))
    }

    /// The name of [`Self::whole_index`], different each time the layer is made.
    pub fn index_name(&self) -> Result<Option<String>, Fault> {
        Ok(self.whole_index()?.file_name().map(|name| name.to_string_lossy().into_owned()))
    }

    pub fn names(&self) -> Vec<LayerName> {
        self.about.stack.iter().cloned().map(LayerName::Base).collect()
    }
}

impl Store<'_> {
    pub fn layers(&self) -> PathBuf {
        self.root().join("layers")
    }

    pub fn layer_root(&self, name: &LayerName) -> PathBuf {
        match name {
            LayerName::Base(commit) => self.layers().join("base").join(commit.as_str()),
            LayerName::Environment(id) => self.layers().join("environment").join(id.as_str()),
        }
    }

    /// The directories of layers; a fault where one is gone.
    pub fn stack(&self, names: &[LayerName]) -> Result<Stack, Fault> {
        let mut stack = Stack::default();
        for name in names {
            let root = self.layer_root(name);
            let tree = root.join("tree");
            if !tree.is_dir() {
                return Err(Fault::environment(format!("the layer {} is gone", root.display()))
                    .hint("restore the home directory from a backup, or reject the task"));
            }
            stack.trees.push(tree);
            match name {
                LayerName::Environment(_) => stack.homes.push(root.join("home")),
                LayerName::Base(_) if stack.index.as_os_str().is_empty() => stack.index = root.join("index"),
                LayerName::Base(_) => {}
            }
        }
        Ok(stack)
    }

    pub fn base_layer(&self, commit: &CommitId) -> Result<Option<BaseLayer>, Fault> {
        let root = self.layer_root(&LayerName::Base(commit.clone()));
        let about: Option<AboutBase> = about(&root)?;
        Ok(about.map(|about| BaseLayer { root, about }))
    }

    /// The layer of a base, made when it is not there.
    pub fn ensure_layer(&self, base: &Base) -> Result<BaseLayer, Fault> {
        if let Some(layer) = self.base_layer(&base.commit)? {
            // Before a place says that it lies over it: until then this keeps it from being collected.
            use_now(&layer.root);
            return Ok(layer);
        }
        let root = self.layer_root(&LayerName::Base(base.commit.clone()));
        self.home.alone(&root, || match self.base_layer(&base.commit)? {
            Some(layer) => Ok(layer),
            None => self.make_layer(base, &root),
        })
    }

    fn make_layer(&self, base: &Base, root: &Path) -> Result<BaseLayer, Fault> {
        let parent = self.layers().join("base");
        make_dir(&parent)?;
        let new = self.home.unique(&parent);
        let made = (|| {
            let over = self.near_layer(base)?;
            if let Some(over) = &over {
                // Nothing says yet that it is wanted: this keeps it from being collected meanwhile.
                use_now(&over.root);
            }
            let about = self.fill_layer(base, over.as_ref(), &new, root)?;
            let text = serde_json::to_vec(&about).map_err(|error| Fault::bug(error.to_string()))?;
            put(&new.join("about.json"), &text)?;
            // What it lies over may have been collected meanwhile.
            self.home.while_layers_stay(|| {
                if let Some(over) = &over {
                    self.stack(&over.names())?;
                }
                fs::rename(&new, root).map_err(|error| io_fault("make", root, &error))
            })?;
            Ok(BaseLayer { root: root.to_owned(), about })
        })();
        match &made {
            Ok(_) => self.home.later(Chore::Settle(root.to_owned())),
            // Best effort: the fault that led here matters more.
            Err(_) => drop(self.home.throw_away(&new)),
        }
        made
    }

    /// The layer, used of late, from which the fewest files differ; none where that are too many.
    fn near_layer(&self, base: &Base) -> Result<Option<BaseLayer>, Fault> {
        let mut near: Vec<(SystemTime, BaseLayer)> = Vec::new();
        for root in read_dir(&self.layers().join("base"))? {
            let commit = root.file_name().and_then(|name| CommitId::parse(&name.to_string_lossy()));
            if let Some(layer) = commit.map(|commit| self.base_layer(&commit)).transpose()?.flatten()
                && layer.about.stack.len() < DEEPEST
            {
                near.push((last_used(&layer.root), layer));
            }
        }
        near.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
        let mut best: Option<(u64, BaseLayer)> = None;
        for (_, layer) in near.into_iter().take(CANDIDATES) {
            let Some(from) = layer.about.stack.first() else { continue };
            let changed = self.changed_names(from, &base.commit)?.len() as u64;
            if changed * MANY_CHANGED < layer.about.files && best.as_ref().is_none_or(|(least, _)| changed < *least) {
                best = Some((changed, layer));
            }
        }
        Ok(best.map(|(_, layer)| layer))
    }

    /// Writes what a layer consists of below `new`, which is to become `root`.
    fn fill_layer(&self, base: &Base, over: Option<&BaseLayer>, new: &Path, root: &Path) -> Result<AboutBase, Fault> {
        let (tree, shared) = (new.join("tree"), new.join("index"));
        make_dir(&tree)?;
        make_dir(&shared)?;
        make_dot_git(&tree, base, Head::Detached(&base.commit), Index::Shared)?;
        let git_dir = tree.join(".git");
        let index = git_dir.join("index");
        let call = || self.git().work_tree(&tree).index(&index);
        match over {
            None => {
                call().args(["read-tree", "-m", "-u", base.commit.as_str()]).run()?;
            }
            Some(over) => {
                make_opaque(&git_dir)?;
                crate::git::copy_index(&over.whole_index()?, &index)?;
                self.lay(&tree, &over.about.stack[0], &base.commit)?;
                call().args(["read-tree", "-m", "-i", base.commit.as_str()]).run()?;
                // Gives the entries of what was laid the stat data of its files.
                let mut laid = Vec::new();
                for path in self.changed_names(&over.about.stack[0], &base.commit)? {
                    if fs::symlink_metadata(tree.join(&path)).is_ok_and(|entry| entry.is_file() || entry.is_symlink()) {
                        laid.extend_from_slice(path.as_os_str().as_encoded_bytes());
                        laid.push(0);
                    }
                }
                call().args(["update-index", "-z", "--stdin"]).input(laid).run()?;
            }
        }
        // Git looks closer at files that are as young as their index. Nobody has written these since git did; who works over
        // them before this time needs an index of its own.
        let settles = next_second();
        set_time(&index, settles)?;
        self.git_program().at(&git_dir).index(&index).args(["update-index", "--split-index"]).run()?;
        set_time(&index, settles)?;
        let mut stack = vec![base.commit.clone()];
        stack.extend(over.iter().flat_map(|over| over.about.stack.clone()));
        share_index(&git_dir, &shared, &root.join("index"))?;
        let files = count_entries(&shared)?;
        Ok(AboutBase { stack, files, boot: boot() })
    }

    /// Paths that differ between two commits.
    pub fn changed_names(&self, from: &CommitId, to: &CommitId) -> Result<Vec<PathBuf>, Fault> {
        let names = ["diff-tree", "-r", "-z", "--no-renames", "--name-only", from.as_str(), to.as_str()];
        Ok(pieces(&self.git().args(names).run()?).map(path_of).collect())
    }
}

/// Git tells times of files by whole seconds: from this one on, a file that changes is known by its time.
fn next_second() -> SystemTime {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs() + 1)
}

fn set_time(file: &Path, time: SystemTime) -> Result<(), Fault> {
    let set = File::options().write(true).open(file).and_then(|file| file.set_modified(time));
    set.map_err(|error| io_fault("set the time of", file, &error))
}

/// Moves the big part of a split index to where it is shown read-only: git sets its time whenever it reads it, which would copy
/// it into every workspace.
fn share_index(git_dir: &Path, to: &Path, shown: &Path) -> Result<(), Fault> {
    for file in read_dir(git_dir)? {
        let Some(name) = file.file_name().filter(|name| name.as_encoded_bytes().starts_with(b"sharedindex.")) else {
            continue;
        };
        fs::rename(&file, to.join(name))
            .and_then(|()| std::os::unix::fs::symlink(shown.join(name), &file))
            .map_err(|error| io_fault("move", &file, &error))?;
    }
    Ok(())
}

/// The number of entries of the index in a directory, by its header.
fn count_entries(directory: &Path) -> Result<u64, Fault> {
    let mut header = [0; 12];
    for file in read_dir(directory)? {
        File::open(&file)
            .and_then(|mut file| io::Read::read_exact(&mut file, &mut header))
            .map_err(|error| io_fault("read", &file, &error))?;
    }
    Ok(u64::from(u32::from_be_bytes([header[8], header[9], header[10], header[11]])))
}

/// What is told of a layer in its own directory; `None` where there is none.
pub(crate) fn about<T: DeserializeOwned>(root: &Path) -> Result<Option<T>, Fault> {
    let path = root.join("about.json");
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| Fault::environment(format!("{} cannot be read: {error}", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_fault("read", &path, &error)),
    }
}

/// When a place was last made over a layer.
pub(crate) fn last_used(root: &Path) -> SystemTime {
    fs::metadata(root.join("about.json")).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Remembers that a layer is used now. It matters for the order of collection only.
pub(crate) fn use_now(root: &Path) {
    let touched = File::options()
        .write(true)
        .open(root.join("about.json"))
        .and_then(|file| file.set_times(FileTimes::new().set_modified(SystemTime::now())));
    if let Err(error) = touched {
        tracing::debug!(%error, layer = %root.display(), "the time of use was not kept");
    }
}

/// Names this run of the kernel.
pub(crate) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned()
}

/// Whether a layer may have lost files when the machine went down.
pub(crate) fn is_doubtful(root: &Path) -> bool {
    !root.join("durable").exists() && !matches!(about::<AboutBase>(root), Ok(Some(about)) if about.boot == boot())
}

/// Makes sure that a layer is on disk, and notes so. One that is gone by now need not be.
pub(crate) fn settle(root: &Path) -> Result<(), Fault> {
    if !root.is_dir() {
        return Ok(());
    }
    let bytes = disk_bytes(root)?;
    let sync = || -> io::Result<()> { Ok(rustix::fs::syncfs(File::open(root)?)?) };
    sync().map_err(|error| io_fault("sync", root, &error))?;
    put(&root.join("durable"), bytes.to_string().as_bytes())
}
