//! What a workspace, a checkout or a raised environment consists of on the host, below a directory of its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use domain::{
    Fault,
    environment::EnvironmentId,
    ids::{CommitId, RepositoryId},
    ports::{
        sandbox::{Layers, Tree},
        workspace::Prepared,
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    git::io_fault,
    layer::LayerName,
    store::{Store, put},
};

#[derive(Clone, Debug)]
pub(crate) struct Place {
    root: PathBuf,
}

/// What a finished place is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// `None` in a place that an older version made.
    pub repository: Option<RepositoryId>,
    pub base: CommitId,
    /// The layer of installed things under it, or copied into it.
    pub environment: Option<EnvironmentId>,
    /// What lies under `upper`, topmost first. Empty: a plain `tree`.
    pub layers: Vec<LayerName>,
    /// The name of the big part of the index, which lies with the base's layer.
    pub index: Option<String>,
}

impl Ready {
    pub fn is_layered(&self) -> bool {
        !self.layers.is_empty()
    }
}

impl Place {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The files, where the place is not layered.
    pub fn tree(&self) -> PathBuf {
        self.root.join("tree")
    }

    /// What differs from the layers, where the place is layered.
    pub fn upper(&self) -> PathBuf {
        self.root.join("upper")
    }

    /// Overlayfs's own, beside [`Self::upper`].
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// HOME, or what differs in it from the environment's.
    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// Overlayfs's own, beside a [`Self::home`] that lies over the environment's.
    pub fn home_work(&self) -> PathBuf {
        self.root.join("home.work")
    }

    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    pub fn spill(&self) -> PathBuf {
        self.root.join("spill")
    }

    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The host's own index of a plain tree: what it held last, with the stat data of the files that git wrote.
    pub fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    /// Written last of all when the place is made.
    pub fn ready_file(&self) -> PathBuf {
        self.root.join("ready")
    }

    /// `None`: nothing is here, or only what a crash left half made.
    pub fn ready(&self) -> Result<Option<Ready>, Fault> {
        let path = self.ready_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_fault("read", &path, &error)),
        };
        // Before there were layers, it was the base alone.
        if let Some(base) = CommitId::parse(text.trim_end()) {
            return Ok(Some(Ready { repository: None, base, environment: None, layers: Vec::new(), index: None }));
        }
        // A crash of the machine may leave it empty: then nothing that was made before it can be trusted to be there.
        Ok(serde_json::from_str(&text).ok())
    }

    /// Says that all that came before is there. The last thing to be written.
    pub fn set_ready(&self, ready: &Ready) -> Result<(), Fault> {
        let text = serde_json::to_vec(ready).map_err(|error| Fault::bug(error.to_string()))?;
        put(&self.ready_file(), &text)
    }

    /// The place as a sandbox is to show it.
    pub fn prepared(&self, store: &Store<'_>, ready: &Ready) -> Result<Prepared, Fault> {
        let base = store.base(&ready.base).ok_or_else(|| {
            Fault::environment(format!("the base store {} is gone from {}", ready.base, store.root().display()))
                .hint("restore the home directory from a backup, or reject the task")
        })?;
        let mut readable = vec![base.objects()];
        let (mut root, mut home) = (Tree::Directory(self.tree()), Tree::Directory(self.home()));
        if ready.is_layered() {
            let under = store.stack(&ready.layers)?;
            readable.push(under.index);
            root = Tree::Layers(Layers { lower: under.trees, upper: self.upper(), work: self.work() });
            if !under.homes.is_empty() {
                home = Tree::Layers(Layers { lower: under.homes, upper: self.home(), work: self.home_work() });
            }
        }
        Ok(Prepared { root, home, scratch: self.scratch(), readable, spill: self.spill(), lock: self.lock() })
    }
}
