//! Base stores: for each commit that tasks start from, the objects of its history and of nothing else. A sandbox sees
//! one, read-only; other branches and other attempts stay in the private store.
//!
//! A base store shares the packs of an older base in its history by hard link, so it costs what is new.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use domain::{Fault, FaultClass, ids::CommitId};
use serde::{Deserialize, Serialize};

use crate::{
    git::{io_fault, pieces},
    home::{make_dir, read_dir},
    store::{Store, put_durably},
};

/// Beyond this many packs a base store is packed anew instead of sharing.
const MANY_PACKS: usize = 24;

/// What is known of a base, kept beside its objects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct About {
    pub tree: CommitId,
    /// For a person: shallow, submodules, LFS. One sentence each.
    pub notes: Vec<String>,
    /// Paths of submodules, which are empty directories in a workspace.
    pub submodules: Vec<PathBuf>,
}

/// Where the objects of a new base come from.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    pub directory: PathBuf,
    pub shallow: Option<PathBuf>,
}

/// A base store on disk.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub commit: CommitId,
    root: PathBuf,
}

impl Base {
    /// The directory that a workspace borrows objects from.
    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    pub fn shallow(&self) -> Option<PathBuf> {
        let file = self.root.join("shallow");
        file.is_file().then_some(file)
    }

    pub fn about(&self) -> Result<About, Fault> {
        let path = self.root.join("about.json");
        let text = fs::read(&path).map_err(|error| io_fault("read", &path, &error))?;
        serde_json::from_slice(&text).map_err(|error| Fault::bug(format!("{}: {error}", path.display())))
    }

    fn packs(&self) -> Result<Vec<PathBuf>, Fault> {
        read_dir(&self.objects().join("pack"))
    }
}

impl Store<'_> {
    pub fn base(&self, commit: &CommitId) -> Option<Base> {
        let root = self.bases().join(commit.as_str());
        // It came here by a rename, so it is there in whole or not at all.
        root.is_dir().then(|| Base { commit: commit.clone(), root })
    }

    /// The base store of `commit`, made from `objects` when it is not there.
    pub fn ensure_base(&self, commit: &CommitId, objects: &Objects) -> Result<Base, Fault> {
        if let Some(base) = self.base(commit) {
            return Ok(base);
        }
        self.make(commit)?;
        let root = self.bases().join(commit.as_str());
        self.home.alone(&root, || match self.base(commit) {
            Some(base) => Ok(base),
            None => self.make_base(commit, objects, root.clone()),
        })
    }

    /// The base store that a workspace of `commit` borrows from: its own when it is a base, else its first parent's.
    pub fn base_under(&self, commit: &CommitId) -> Result<Base, Fault> {
        if let Some(base) = self.base(commit) {
            return Ok(base);
        }
        let parent = self.first_parent(commit)?;
        let shallow = Some(self.git_dir().join("shallow")).filter(|file| file.is_file());
        self.ensure_base(&parent, &Objects { directory: self.objects(), shallow })
    }

    fn make_base(&self, commit: &CommitId, from: &Objects, root: PathBuf) -> Result<Base, Fault> {
        let new = Base { commit: commit.clone(), root: self.home.unique(&self.bases()) };
        let made = self.fill_base(&new, from).and_then(|()| {
            // First all that the private store needs of it: once it has its name, it counts as complete.
            self.adopt(&new)?;
            self.set_ref(&format!("refs/overnight/base/{commit}"), commit)?;
            let about = serde_json::to_vec(&self.learn(&new)?).map_err(|error| Fault::bug(error.to_string()))?;
            put_durably(&new.root.join("about.json"), &about)?;
            fs::rename(&new.root, &root).map_err(|error| io_fault("make", &root, &error))
        });
        match made {
            Ok(()) => Ok(Base { root, ..new }),
            Err(fault) => {
                // Best effort: what stays is never read, and the fault that led here matters more.
                let _ = self.home.throw_away(&new.root);
                Err(fault)
            }
        }
    }

    /// Shares packs with an older base and packs the rest.
    fn fill_base(&self, new: &Base, from: &Objects) -> Result<(), Fault> {
        let pack = new.objects().join("pack");
        make_dir(&pack)?;
        if let Some(file) = &from.shallow {
            let to = new.root.join("shallow");
            fs::copy(file, &to).map_err(|error| io_fault("copy", file, &error))?;
        }
        let mut wanted = format!("{}\n", new.commit);
        if let Some(older) = self.older_base(new, from)? {
            link_all(&older.packs()?, &pack)?;
            wanted = format!("{wanted}^{}\n", older.commit);
        }
        let own = self.objects();
        self.git()
            .objects(&new.objects())
            .also_objects(&[&from.directory, &own])
            .shallow(new.shallow().as_deref())
            .args(["pack-objects", "--revs", "--delta-base-offset", "-q"])
            .args([pack.join("pack")])
            .input(wanted)
            .run()
            .map_err(|fault| {
                let place = format!("cannot copy {} from {}", new.commit.short(), from.directory.display());
                match fault.class {
                    FaultClass::Environment | FaultClass::Transient => fault.at(place),
                    _ => fault.at(place).hint(
                        "run `git fsck` there; in a partial clone, fetch what is missing (`git fetch --refetch --filter=blob:limit=1t`)",
                    ),
                }
            })?;
        Ok(())
    }

    /// The latest base whose history is part of the new one's, is cut at the same places, and has few packs.
    fn older_base(&self, new: &Base, from: &Objects) -> Result<Option<Base>, Fault> {
        let merged = format!("--merged={}", new.commit);
        let text = self
            .git()
            .also_objects(&[&from.directory])
            .shallow(new.shallow().as_deref())
            .args(["for-each-ref", "--sort=-committerdate", "--format=%(objectname)"])
            .args([&merged, "refs/overnight/base/"])
            .text()?;
        let cut = |base: &Base| base.shallow().map(fs::read).transpose().ok();
        for older in text.lines().filter_map(CommitId::parse).filter_map(|commit| self.base(&commit)) {
            if cut(&older) == cut(new) && older.packs()?.len() < 3 * MANY_PACKS {
                return Ok(Some(older));
            }
        }
        Ok(None)
    }

    /// Makes a base's objects part of the private store.
    fn adopt(&self, new: &Base) -> Result<(), Fault> {
        if let Some(file) = new.shallow() {
            let own = self.git_dir().join("shallow");
            self.home.alone(&own, || {
                let mut lines = BTreeSet::new();
                for file in [&file, &own] {
                    let text = fs::read_to_string(file).unwrap_or_default();
                    lines.extend(text.lines().map(str::to_owned));
                }
                let lines: Vec<String> = lines.into_iter().map(|line| line + "\n").collect();
                let unique = self.home.unique(self.root());
                put_durably(&unique, lines.concat().as_bytes())?;
                fs::rename(&unique, &own).map_err(|error| io_fault("write", &own, &error))
            })?;
        }
        link_all(&new.packs()?, &self.objects().join("pack"))
    }

    /// What a person and a workspace should know of the base.
    fn learn(&self, base: &Base) -> Result<About, Fault> {
        let out = self.git().args(["ls-tree", "-r", "-z", base.commit.as_str()]).run()?;
        let mut submodules = Vec::new();
        let mut attributes = String::new();
        for entry in pieces(&out).filter_map(Entry::parse) {
            if entry.mode == b"160000" {
                submodules.push(crate::path_of(entry.path));
            } else if entry.path == b".gitattributes" || entry.path.ends_with(b"/.gitattributes") {
                attributes.push_str(&String::from_utf8_lossy(entry.object));
                attributes.push('\n');
            }
        }
        let mut notes = Vec::new();
        if base.shallow().is_some() {
            notes.push("The repository is a shallow clone: the agent sees only the history that is there.".to_owned());
        }
        if !submodules.is_empty() {
            let names: Vec<String> = submodules.iter().map(|path| path.display().to_string()).collect();
            notes.push(format!("Submodules are left as empty directories: {}.", names.join(", ")));
        }
        if !attributes.is_empty() {
            let out = self.git().args(["cat-file", "--batch"]).input(attributes).run()?;
            let text = String::from_utf8_lossy(&out);
            let filters: BTreeSet<&str> =
                text.split_ascii_whitespace().filter_map(|word| word.strip_prefix("filter=")).collect();
            if !filters.is_empty() {
                let names: Vec<&str> = filters.into_iter().collect();
                notes.push(format!(
                    "Files with a filter ({}) are handed over as they are stored, an LFS file as its pointer: filters of a \
                     repository are not run.",
                    names.join(", ")
                ));
            }
        }
        Ok(About { tree: self.tree_of(&base.commit)?, notes, submodules })
    }
}

/// One line of `git ls-tree -z`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub mode: &'a [u8],
    pub object: &'a [u8],
    pub path: &'a [u8],
}

impl<'a> Entry<'a> {
    pub fn parse(piece: &'a [u8]) -> Option<Self> {
        let tab = piece.iter().position(|byte| *byte == b'\t')?;
        let mut words = piece[..tab].split(|byte| *byte == b' ');
        let (mode, _kind, object) = (words.next()?, words.next()?, words.next()?);
        Some(Self { mode, object, path: &piece[tab + 1..] })
    }
}

/// Hard-links pack files into another pack directory of this home. The same name is the same content.
fn link_all(files: &[PathBuf], directory: &Path) -> Result<(), Fault> {
    let mut files: Vec<&PathBuf> = files.iter().collect();
    // A pack is found by its index: that comes last.
    files.sort_by_key(|file| file.extension().is_some_and(|kind| kind == "idx"));
    for file in files {
        let to = directory.join(file.file_name().unwrap_or_default());
        match fs::hard_link(file, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(io_fault("link", &to, &error));
            }
            _ => {}
        }
    }
    Ok(())
}
