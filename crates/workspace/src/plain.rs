//! Capturing a workspace that is a plain directory: by an index of the host's own, which knows by its stat data what is as the base
//! has it. What an earlier capture found is not in it: the base alone says what is tracked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use domain::{Fault, ids::CommitId};

use crate::{
    git::{copy_index, io_fault, pieces},
    given::Given,
    home::{make_dir, remove_tree},
    path_of,
    place::{Place, Ready},
    redaction::Redaction,
    stage::{Stage, Staged},
    store::Store,
};

/// One reading of a workspace.
pub(crate) struct Capture<'a> {
    pub store: &'a Store<'a>,
    pub place: &'a Place,
    pub ready: &'a Ready,
    pub redaction: &'a Redaction<'a>,
}

/// Git compares times in whole seconds: by an index younger than this it may not tell a file changed right after it was written.
const INDEX_SETTLES: Duration = Duration::from_secs(2);

impl Capture<'_> {
    /// The tree of all files of the workspace that are not ignored.
    pub fn tree(&self) -> Result<CommitId, Fault> {
        self.clear()?;
        let tree = match self.settle().and_then(|()| self.write()) {
            Ok(tree) => tree,
            Err(fault) => {
                tracing::debug!(%fault, place = %self.place.root().display(), "read again, from a new index");
                // The kept index is a cache: damaged, it is made anew. A fault of another cause comes again.
                self.clear()?;
                self.store.git().index(&self.index()).args(["read-tree", self.ready.base.as_str()]).run()?;
                self.keep()?;
                self.write()?
            }
        };
        self.clear()?;
        Ok(tree)
    }

    /// Git looks closer at files as young as the index that knows them. Once the one that was laid out has settled, it looks at
    /// them for the last time.
    fn settle(&self) -> Result<(), Fault> {
        let (kept, laid_out) = (self.place.index(), self.place.ready_file());
        let time = |file: &Path| fs::metadata(file).and_then(|file| file.modified());
        let (Ok(written), Ok(laid_out)) = (time(&kept), time(&laid_out)) else { return Ok(()) };
        if written > laid_out || SystemTime::now().duration_since(written).unwrap_or_default() < INDEX_SETTLES {
            return Ok(());
        }
        copy_index(&kept, &self.index())?;
        self.keep()
    }

    /// Gives an index the stat data of the files that are as it says, and keeps it.
    fn keep(&self) -> Result<(), Fault> {
        let (index, kept) = (self.index(), self.place.index());
        let call = self.store.git().work_tree(&self.place.tree()).index(&index);
        // Quietly, it ends well whatever differs.
        call.args(["update-index", "-q", "--refresh"]).run()?;
        fs::rename(&index, &kept).map_err(|error| io_fault("write", &kept, &error))
    }

    fn stage(&self) -> PathBuf {
        self.place.root().join("stage")
    }

    fn index(&self) -> PathBuf {
        self.place.root().join("index.next")
    }

    /// Removes what this or an interrupted capture left.
    fn clear(&self) -> Result<(), Fault> {
        remove_tree(&self.stage())?;
        for file in [self.index(), self.place.root().join("index.next.lock")] {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io_fault("remove", &file, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn write(&self) -> Result<CommitId, Fault> {
        let (index, tree) = (self.index(), self.place.tree());
        copy_index(&self.place.index(), &index)?;
        let done = self
            .store
            .git()
            .work_tree(&tree)
            .index(&index)
            .args(["ls-files", "-z", "--modified", "--deleted", "--others", "--deduplicate", "--exclude-standard"])
            .finish()?;
        // It only warns of directories that it cannot read, and goes on without them.
        if done.code != Some(0) || done.err.contains("could not open directory") {
            return Err(done.fault("ls-files"));
        }
        let paths = self.copy_out(&tree, &done.out)?;
        if !paths.is_empty() {
            self.store
                .git()
                .work_tree(&self.stage())
                .index(&index)
                .args(["update-index", "-z", "--add", "--remove", "--replace", "--stdin"])
                .input(paths)
                .run()?;
        }
        self.store.git().index(&index).args(["write-tree"]).object()
    }

    /// Copies what was listed to the stage. Returns the paths to bring the index up to date with, `\0` after each.
    fn copy_out(&self, tree: &Path, listed: &[u8]) -> Result<Vec<u8>, Fault> {
        make_dir(&self.stage())?;
        let given = Given::to(self.store, self.place, self.ready)?;
        let mut stage = Stage::open(tree, &self.stage(), self.redaction, &given)?;
        let mut paths: BTreeMap<PathBuf, Staged> = BTreeMap::new();
        for path in pieces(listed).map(path_of) {
            if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
                // A repository of its own: its files are work as any other; only its `.git` is not kept.
                paths.extend(self.not_ignored(&stage, &path)?.into_iter().map(|path| (path, Staged::Absent)));
            } else {
                paths.insert(path, Staged::Absent);
            }
        }
        let submodules = self.store.base(&self.ready.base).map(|base| base.about()).transpose()?;
        for submodule in submodules.iter().flat_map(|about| &about.submodules) {
            // Files where a submodule would be are kept in its stead.
            paths.extend(self.not_ignored(&stage, submodule)?.into_iter().map(|path| (path, Staged::Absent)));
        }
        for (path, staged) in &mut paths {
            *staged = stage.copy(path)?;
        }
        // First what is gone, so that nothing is in the way of what has come. What a file or link has replaced goes with it.
        let came = |path: &Path| paths.get(path) == Some(&Staged::Copied);
        let gone =
            paths.iter().filter(|(path, staged)| **staged == Staged::Absent && !path.ancestors().skip(1).any(came));
        let copied = paths.iter().filter(|(_, staged)| **staged == Staged::Copied);
        let mut out = Vec::new();
        for (path, _) in gone.chain(copied) {
            out.extend_from_slice(path.as_os_str().as_encoded_bytes());
            out.push(0);
        }
        Ok(out)
    }

    /// Files below a directory that git takes for another repository, without those that are ignored.
    fn not_ignored(&self, stage: &Stage, directory: &Path) -> Result<BTreeSet<PathBuf>, Fault> {
        let mut found: BTreeSet<PathBuf> = stage.below(directory)?.into_iter().collect();
        if found.is_empty() {
            return Ok(found);
        }
        let mut names = Vec::new();
        for path in &found {
            // It has no literal mode; with this in front no name can be magic.
            names.extend_from_slice(b"./");
            names.extend_from_slice(path.as_os_str().as_encoded_bytes());
            names.push(0);
        }
        let call = self.store.git().work_tree(&self.place.tree()).without_env("GIT_LITERAL_PATHSPECS");
        let done = call.args(["check-ignore", "-z", "--stdin", "--no-index"]).input(names).finish()?;
        if !matches!(done.code, Some(0 | 1)) {
            return Err(done.fault("check-ignore"));
        }
        for ignored in pieces(&done.out) {
            found.remove(&path_of(ignored.strip_prefix(b"./").unwrap_or(ignored)));
        }
        Ok(found)
    }
}
