//! Moving a work tree of the user from one commit to another, as careful as `git merge --ff-only` and without any program
//! that the repository names: git runs on the private store with a copy of the user's index.
//!
//! A move can be cut at any instant and begun again: a path may be as in the old commit or as in the new one; anything else
//! is the user's, and then nothing is touched.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use domain::{Fault, ids::CommitId};

use crate::{
    git::{Call, copy_index, io_fault, pieces},
    home::{make_dir, remove_tree},
    source::{Settings, Source},
    store::Store,
};

/// How long another git process may hold the index before the move is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of an attempt to move something of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    Done,
    /// Nothing was touched, and why: a clause for a sentence.
    Refused(String),
    /// The ref is not where it was.
    RefMoved,
}

/// One work tree of the user's repository and what is known of it.
#[derive(Debug)]
pub(crate) struct WorkTree<'a> {
    pub store: &'a Store<'a>,
    pub source: &'a Source,
    pub settings: &'a Settings,
    pub top: &'a Path,
}

/// From where to where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    pub old: &'a CommitId,
    pub new: &'a CommitId,
}

impl WorkTree<'_> {
    /// Moves files and index, then calls `finish`, which moves the ref or `HEAD`.
    pub fn go(&self, step: Step<'_>, finish: impl FnOnce() -> Result<(), Fault>) -> Result<Move, Fault> {
        if let Some(why) = self.in_the_way() {
            return Ok(Move::Refused(why));
        }
        let Some(lock) = IndexLock::take(self.source, self.store.root())? else {
            return Ok(Move::Refused(format!("another git process is at work in {}", self.top.display())));
        };
        let desk = self.store.home.unique(self.store.root());
        make_dir(&desk)?;
        let moved = self.move_files(step, &desk.join("index"));
        let ended = match moved {
            Ok(None) => lock.replace_index(&desk.join("index")).and_then(|()| finish()).map(|()| Move::Done),
            Ok(Some(why)) => Ok(Move::Refused(why)),
            Err(fault) => Err(fault),
        };
        remove_tree(&desk)?;
        ended
    }

    /// Whether nothing is uncommitted on `head`. A clause that says what is, if something is.
    pub fn uncommitted(&self, head: &CommitId) -> Result<Option<String>, Fault> {
        if let Some(why) = self.in_the_way() {
            return Ok(Some(why));
        }
        let desk = self.store.home.unique(self.store.root());
        make_dir(&desk)?;
        let index = desk.join("index");
        let told = copy_index(&self.source.git_dir.join("index"), &index)
            .and_then(|()| self.dirt(head, &index, &BTreeSet::new()));
        remove_tree(&desk)?;
        told
    }

    /// What makes the work tree none of ours to move.
    fn in_the_way(&self) -> Option<String> {
        let top = self.top.display();
        for (name, what) in [
            ("MERGE_HEAD", "a merge"),
            ("CHERRY_PICK_HEAD", "a cherry-pick"),
            ("REVERT_HEAD", "a revert"),
            ("rebase-merge", "a rebase"),
            ("rebase-apply", "a rebase"),
            ("sequencer", "a cherry-pick"),
        ] {
            if self.source.git_dir.join(name).exists() {
                return Some(format!("{what} is in progress in {top}"));
            }
        }
        if self.settings.is_true("core.sparsecheckout") {
            return Some(format!("{top} is a sparse checkout"));
        }
        if !self.source.git_dir.join("index").is_file() {
            return Some(format!("{top} has no index"));
        }
        None
    }

    fn git(&self, index: &Path) -> Call {
        let call = self.store.git().work_tree(self.top).index(index).also_objects(&[&self.source.objects()]);
        let attributes = self.source.common_dir.join("info/attributes");
        self.settings.apply_to(call).config("core.attributesFile", attributes.as_os_str())
    }

    /// Brings files and the copied index from old to new. `Some`: refused, and why.
    fn move_files(&self, step: Step<'_>, index: &Path) -> Result<Option<String>, Fault> {
        let top = self.top.display();
        copy_index(&self.source.git_dir.join("index"), index)?;
        let (old, new) = (step.old.as_str(), step.new.as_str());
        let changed = self.git(index).args(["diff-tree", "-r", "-z", "--name-only", "--no-renames", old, new]).run()?;
        if let Some(why) = self.dirt(step.old, index, &pieces(&changed).collect())? {
            return Ok(Some(why));
        }
        if self.settings.has_filters() {
            let out = self.git(index).args(["check-attr", "-z", "--stdin", "filter"]).input(changed.clone()).run()?;
            let mut told = pieces(&out);
            while let (Some(path), Some(_), Some(value)) = (told.next(), told.next(), told.next()) {
                if value != b"unspecified" && value != b"unset" {
                    return Ok(Some(format!("`{}` is written by a filter", String::from_utf8_lossy(path))));
                }
            }
        }
        // What is in the tree is written down in the copy, so that a path which already is as in `new` counts as done.
        let noted =
            self.git(index).args(["update-index", "-z", "--add", "--remove", "--stdin"]).input(changed).finish()?;
        let moved = match noted.code {
            Some(0) => self.git(index).args(["read-tree", "-m", "-u", old, new]).finish()?,
            _ => noted,
        };
        let refuses = [
            "would be overwritten",
            "not uptodate",
            "Cannot merge",
            "is a directory",
            "would lose untracked",
            "is beyond a symbolic link",
        ];
        match moved.code {
            Some(0) => Ok(None),
            _ if refuses.iter().any(|words| moved.err.contains(words)) => {
                let why = moved.err.lines().next().unwrap_or_default().trim_start_matches("error: ");
                Ok(Some(format!("{top} has a file in the way: {why}")))
            }
            _ => Err(moved.fault("read-tree").at(top)),
        }
    }

    /// Paths outside `expected` that differ between `head`, the index and the files; as a clause.
    fn dirt(&self, head: &CommitId, index: &Path, expected: &BTreeSet<&[u8]>) -> Result<Option<String>, Fault> {
        let top = self.top.display();
        let files = self.git(index).args(["ls-files", "-z", "--modified", "--deleted", "--deduplicate"]).finish()?;
        if files.code != Some(0) {
            return Ok(Some(format!("the index of {top} cannot be read ({})", files.err.replace('\n', "; "))));
        }
        let staged = self.git(index).args(["diff-index", "--cached", "-z", "--name-only", head.as_str()]).run()?;
        let dirty: BTreeSet<&[u8]> =
            pieces(&files.out).chain(pieces(&staged)).filter(|path| !expected.contains(path)).collect();
        Ok(dirty.first().map(|path| {
            let path = String::from_utf8_lossy(path);
            match dirty.len() {
                1 => format!("{top} has uncommitted changes: {path}"),
                more => format!("{top} has uncommitted changes: {path} and {} more", more - 1),
            }
        }))
    }
}

/// The user's `index.lock`, held by us: every other git process keeps away from the index meanwhile.
#[derive(Debug)]
struct IndexLock {
    lock: PathBuf,
    index: PathBuf,
}

impl IndexLock {
    /// `None`: someone else has it and keeps it. The mark tells a lock that an earlier life of this home left.
    fn take(source: &Source, mark: &Path) -> Result<Option<Self>, Fault> {
        let lock = source.git_dir.join("index.lock");
        let mark = format!("overnight {}\n", mark.display());
        let until = Instant::now() + PATIENCE;
        loop {
            match fs::File::create_new(&lock) {
                Ok(mut file) => {
                    let held = Self { index: source.git_dir.join("index"), lock };
                    file.write_all(mark.as_bytes()).map_err(|error| io_fault("write", &held.lock, &error))?;
                    return Ok(Some(held));
                }
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(io_fault("make", &lock, &error));
                }
                Err(_) if fs::read(&lock).is_ok_and(|content| content == mark.as_bytes()) => {
                    fs::remove_file(&lock).map_err(|error| io_fault("remove", &lock, &error))?;
                }
                Err(_) if Instant::now() > until => return Ok(None),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Puts a new index in the old one's place; then others may have it again.
    fn replace_index(self, new: &Path) -> Result<(), Fault> {
        let fault = |error| io_fault("write", &self.index, &error);
        let mode = fs::metadata(&self.index).map_err(fault)?.permissions();
        // By a file of our own, so that the lock keeps its mark until the last instant.
        let beside = self.index.with_extension("overnight");
        copy_index(new, &beside)?;
        fs::set_permissions(&beside, mode).map_err(fault)?;
        fs::rename(&beside, &self.index).map_err(fault)
    }
}

impl Drop for IndexLock {
    fn drop(&mut self) {
        // One that stays carries our mark, and the next move takes it.
        let _ = fs::remove_file(&self.lock);
    }
}
