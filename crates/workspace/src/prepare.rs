//! `prepare`: a directory with the files of a commit and a `.git` that knows the base's history.
//!
//! The branch `overnight/T-12` in it points to the base. When a workspace is rebuilt from a snapshot, the snapshot's content
//! is there as uncommitted changes. An agent may commit, amend or break its `.git` as it likes: a snapshot looks at files only.

use std::{
    fs,
    path::{Path, PathBuf},
};

use domain::{
    Fault,
    ids::{AttemptKey, CommitId},
    ports::workspace::{Prepared, Repository},
};

use crate::{
    base::Base,
    git::{branch_of, copy_index, io_fault, quote},
    home::{Home, make_dir, remove_tree},
    store::{Store, make_git_dir, put},
};

/// What a workspace or checkout consists of, below its own directory.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    root: PathBuf,
}

impl Place {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn tree(&self) -> PathBuf {
        self.root.join("tree")
    }

    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    pub fn spill(&self) -> PathBuf {
        self.root.join("spill")
    }

    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The host's own index of the tree: what it held last, with the stat data of the files that git wrote.
    pub fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    /// Names the base; written last, so a tree without it is half made.
    fn ready(&self) -> PathBuf {
        self.root.join("ready")
    }

    pub fn base(&self) -> Option<CommitId> {
        CommitId::parse(fs::read_to_string(self.ready()).ok()?.trim_end())
    }
}

/// Where `HEAD` of a new `.git` points.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Head<'a> {
    /// A branch at this commit.
    Branch(&'a str, &'a CommitId),
    Detached(&'a CommitId),
}

impl Home {
    pub fn prepare(&self, repository: &Repository, key: AttemptKey, commit: &CommitId) -> Result<Prepared, Fault> {
        let place = Place::new(self.workspace(key));
        self.alone(place.root(), || {
            let store = self.store(&repository.id)?;
            let base = match place.base() {
                Some(base) => store.base(&base).ok_or_else(|| {
                    Fault::environment(format!(
                        "the base store {base} of {key} is gone from {}",
                        store.root().display()
                    ))
                    .hint("restore the home directory from a backup, or reject the task")
                })?,
                None => self.build(&store, &place, key, commit)?,
            };
            for directory in [place.home(), place.spill()] {
                make_dir(&directory)?;
            }
            Ok(Prepared {
                root: place.tree(),
                home: place.home(),
                readable: vec![base.objects()],
                spill: place.spill(),
                lock: place.lock(),
            })
        })
    }

    fn build(&self, store: &Store<'_>, place: &Place, key: AttemptKey, commit: &CommitId) -> Result<Base, Fault> {
        remove_tree(&place.tree())?;
        make_dir(&place.tree())?;
        let base = store.base_under(commit)?;
        store.fill(place, commit)?;
        let branch = branch_of(key.task);
        make_dot_git(&place.tree(), &base, Head::Branch(&branch, &base.commit))?;
        let index = place.tree().join(".git/index");
        copy_index(&place.index(), &index)?;
        if base.commit != *commit {
            // Entries of the base, with the stat data of files that are the same in both.
            let call = store.git().work_tree(&place.tree()).index(&index);
            call.args(["read-tree", "-m", base.commit.as_str()]).run()?;
        }
        put(&place.ready(), format!("{}\n", base.commit).as_bytes())?;
        Ok(base)
    }
}

impl Store<'_> {
    /// Writes the files of `commit` into the place's empty tree, and its index.
    pub fn fill(&self, place: &Place, commit: &CommitId) -> Result<(), Fault> {
        let index = place.index();
        for stale in [index.clone(), index.with_extension("lock")] {
            match fs::remove_file(&stale) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io_fault("remove", &stale, &error));
                }
                _ => {}
            }
        }
        self.git().work_tree(&place.tree()).index(&index).args(["read-tree", "-m", "-u", commit.as_str()]).run()?;
        Ok(())
    }
}

/// A `.git` directory that borrows the base's objects and runs nothing on its own.
pub(crate) fn make_dot_git(tree: &Path, base: &Base, head: Head<'_>) -> Result<(), Fault> {
    let git_dir = tree.join(".git");
    make_git_dir(
        &git_dir,
        &base.commit,
        "\tbare = false\n\tlogallrefupdates = true\n[user]\n\tname = Overnight\n\temail = overnight@localhost\n[gc]\n\tauto = \
         0\n[maintenance]\n\tauto = false\n",
    )?;
    let mut borrowed = quote(&base.objects());
    borrowed.push(b'\n');
    put(&git_dir.join("objects/info/alternates"), &borrowed)?;
    if let Some(shallow) = base.shallow() {
        let to = git_dir.join("shallow");
        fs::copy(&shallow, &to).map_err(|error| io_fault("write", &to, &error))?;
    }
    match head {
        Head::Branch(name, commit) => {
            let path = git_dir.join("refs/heads").join(name);
            if let Some(parent) = path.parent() {
                make_dir(parent)?;
            }
            put(&path, format!("{commit}\n").as_bytes())?;
            put(&git_dir.join("HEAD"), format!("ref: refs/heads/{name}\n").as_bytes())
        }
        Head::Detached(commit) => put(&git_dir.join("HEAD"), format!("{commit}\n").as_bytes()),
    }
}
