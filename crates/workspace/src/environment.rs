//! Environment layers: what an installation made beside the files of a base, and its HOME. Raised as a place like a workspace,
//! then frozen.
//!
//! Builders compare times: a source that looks older than what was built of it is taken for built. So a layer lies only under
//! bases whose files, where they differ from what it was built of, were written later. And where the installation changed a file
//! of the base, the layer holds the base's own, written last.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::SystemTime,
};

use domain::{
    Fault,
    environment::EnvironmentId,
    ids::CommitId,
    ports::workspace::{EnvironmentLayer, Prepared, RaiseRequest, Repository},
};
use serde::{Deserialize, Serialize};

use crate::{
    base::{Base, Entry},
    git::{io_fault, pieces},
    home::{Chore, Home, make_dir, read_dir, remove_tree},
    layer::{LayerName, about},
    path_of,
    place::{Place, Ready},
    prepare::{Head, Wanted},
    rung::{Enter, clear_opaque, disk_bytes, is_opaque, is_whiteout, lay_over, walk},
    store::{Store, put},
};

/// A stack with more environment layers than this is built as one.
const DEEPEST: usize = 4;
/// So many changed tracked paths are told.
const TOLD: usize = 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AboutEnvironment {
    pub base: CommitId,
    pub frozen_at: jiff::Timestamp,
    pub bytes: u64,
    /// As the caller gave it.
    pub about: String,
    /// The environment layers that it lies over, topmost first.
    pub below: Vec<EnvironmentId>,
}

impl Home {
    pub fn raise(&self, request: &RaiseRequest) -> Result<Prepared, Fault> {
        let store = self.store(&request.repository.id)?;
        let place = store.raised(&request.id);
        self.alone(place.root(), || {
            let base = store.base_under(&request.base)?;
            if base.commit != request.base {
                return Err(Fault::bug(format!("{} is not a base", request.base)));
            }
            let over = match &request.over {
                // What it built must not be taken for built of this base.
                Some(over) if store.looks_newer_than(over, &base)? => Some(over),
                _ => None,
            };
            let mut wanted = Wanted {
                base: &base,
                commit: &base.commit,
                head: Head::Detached(&base.commit),
                environment: over,
                confinement: request.confinement,
            };
            let Some(over) = over else { return store.lay_out(&place, wanted) };
            if store.environment_names(over)?.len() < DEEPEST && !store.collides(over, &base)? {
                return store.lay_out(&place, wanted);
            }
            wanted.environment = None;
            let prepared = store.lay_out(&place, wanted)?;
            store.flatten(over, &place, &base.commit)?;
            Ok(prepared)
        })
    }

    pub fn freeze(&self, repository: &Repository, id: &EnvironmentId, about: String) -> Result<Vec<String>, Fault> {
        let store = self.store(&repository.id)?;
        let place = store.raised(id);
        let root = store.layer_root(&LayerName::Environment(id.clone()));
        self.alone(place.root(), || {
            let Some(ready) = place.ready()? else {
                return Err(Fault::not_found(format!("no environment {} is being built", id.short())));
            };
            let mut left_out = Vec::new();
            if !root.exists() {
                left_out = store.strip(&place, &ready)?;
                store.keep_environment(&place, &ready, &root, about)?;
                self.later(Chore::Collect);
            }
            self.destroy(place.root())?;
            Ok(left_out)
        })
    }

    pub fn remove_environment(&self, repository: &Repository, id: &EnvironmentId) -> Result<(), Fault> {
        let store = self.store(&repository.id)?;
        let place = store.raised(id);
        self.alone(place.root(), || self.destroy(place.root()))?;
        let name = LayerName::Environment(id.clone());
        self.while_layers_go(|| {
            let used = self.used_layers()?.contains(&(repository.id.clone(), name.clone()))
                || store.environment_ids()?.iter().any(|(_, about)| about.below.contains(id));
            if used {
                return Err(Fault::conflict(format!("the environment {} is in use", id.short()))
                    .hint("finish or reject the tasks that work over it, then try again"));
            }
            self.throw_away(&store.layer_root(&name))
        })
    }

    pub fn environments(&self, repository: &Repository) -> Result<Vec<EnvironmentLayer>, Fault> {
        let store = self.store(&repository.id)?;
        let places = self.places()?;
        let users = |id: &EnvironmentId| {
            let over = |ready: &&Ready| {
                ready.repository.as_ref() == Some(&repository.id) && ready.environment.as_ref() == Some(id)
            };
            places.iter().filter(over).count().try_into().unwrap_or(u32::MAX)
        };
        let mut layers: Vec<EnvironmentLayer> = store
            .environment_ids()?
            .into_iter()
            .map(|(id, about)| EnvironmentLayer {
                users: users(&id),
                id,
                base: about.base,
                frozen_at: about.frozen_at,
                bytes: about.bytes,
                about: about.about,
            })
            .collect();
        layers.sort_by_key(|layer| std::cmp::Reverse(layer.frozen_at));
        Ok(layers)
    }

    pub fn serves(&self, repository: &Repository, id: &EnvironmentId, base: &CommitId) -> Result<bool, Fault> {
        let store = self.store(&repository.id)?;
        let Some(base) = store.base(base) else {
            return Err(Fault::not_found(format!("{} has no base {base}", repository.id.0)));
        };
        let root = store.layer_root(&LayerName::Environment(id.clone()));
        Ok(root.is_dir() && store.looks_newer_than(id, &base)? && !store.collides(id, &base)?)
    }
}

impl Store<'_> {
    /// Where an environment is built.
    fn raised(&self, id: &EnvironmentId) -> Place {
        Place::new(self.root().join("raised").join(id.as_str()))
    }

    fn about_environment(&self, id: &EnvironmentId) -> Result<AboutEnvironment, Fault> {
        about(&self.layer_root(&LayerName::Environment(id.clone())))?
            .ok_or_else(|| Fault::not_found(format!("the environment {} is gone", id.short())))
    }

    /// A layer and those that it lies over, topmost first.
    pub fn environment_names(&self, id: &EnvironmentId) -> Result<Vec<LayerName>, Fault> {
        let below = self.about_environment(id)?.below;
        Ok(std::iter::once(id.clone()).chain(below).map(LayerName::Environment).collect())
    }

    pub fn environment_ids(&self) -> Result<Vec<(EnvironmentId, AboutEnvironment)>, Fault> {
        let parent = self.layers().join("environment");
        let mut found = Vec::new();
        for root in if parent.is_dir() { read_dir(&parent)? } else { Vec::new() } {
            let name = root.file_name().unwrap_or_default().to_string_lossy();
            if let Some(id) = EnvironmentId::parse(&name)
                && let Some(about) = about(&root)?
            {
                found.push((id, about));
            }
        }
        Ok(found)
    }

    /// Whether all files of a base that differ from what an environment was built of were written after that.
    fn looks_newer_than(&self, id: &EnvironmentId, base: &Base) -> Result<bool, Fault> {
        let mut names = self.environment_names(id)?;
        while let Some(LayerName::Environment(id)) = names.pop() {
            let built = self.about_environment(&id)?;
            if built.base == base.commit {
                continue;
            }
            let trees = self.stack(&self.ensure_layer(base)?.names())?.trees;
            for path in self.changed_names(&built.base, &base.commit)? {
                let there = trees.iter().find_map(|tree| fs::symlink_metadata(tree.join(&path)).ok());
                let written = there.and_then(|entry| entry.modified().ok());
                if written.is_some_and(|written| written <= SystemTime::from(built.frozen_at)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether an environment holds, or hides, something that has become a file of the base since.
    fn collides(&self, id: &EnvironmentId, base: &Base) -> Result<bool, Fault> {
        let built = self.about_environment(id)?;
        if built.base == base.commit {
            return Ok(false);
        }
        let trees = self.stack(&self.environment_names(id)?)?.trees;
        for path in self.changed_names(&built.base, &base.commit)? {
            for tree in &trees {
                if hides(tree, &path).map_err(|error| io_fault("look at", &tree.join(&path), &error))? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Puts what an environment holds into a raised place itself, without what has become a file of the base since.
    fn flatten(&self, id: &EnvironmentId, place: &Place, base: &CommitId) -> Result<(), Fault> {
        let Some(ready) = place.ready()? else { return Err(Fault::bug("a place that was laid out is not ready")) };
        let under = self.stack(&self.environment_names(id)?)?;
        let whole = place.root().join("whole");
        make_dir(&whole)?;
        for from in under.trees.iter().rev() {
            lay_over(from, &whole, OsStr::new(".git"))?;
        }
        let tracked = Tracked::of(self, base)?;
        let mut held = HashSet::new();
        tracked.strip(&whole, &mut |path| {
            held.insert(path.to_owned());
        })?;
        let to = if ready.is_layered() { place.upper() } else { place.tree() };
        lay_over(&whole, &to, OsStr::new(""))?;
        remove_tree(&whole)?;
        self.write_anew(base, &tracked.below(&held), &to)?;
        for from in under.homes.iter().rev() {
            lay_over(from, &place.home(), OsStr::new(""))?;
        }
        Ok(())
    }

    /// Leaves of what was written in a raised place only what the base does not track, and writes anew what it does and had changed.
    /// Returns the first of these paths.
    fn strip(&self, place: &Place, ready: &Ready) -> Result<Vec<String>, Fault> {
        let mut changed = HashSet::new();
        let tracked = Tracked::of(self, &ready.base)?;
        if ready.is_layered() {
            let trees = self.stack(&ready.layers)?.trees;
            tracked.strip(&place.upper(), &mut |path| {
                let written = place.upper().join(path);
                let was = trees.iter().map(|tree| tree.join(path)).find(|file| fs::symlink_metadata(file).is_ok());
                if !was.is_some_and(|was| is_same(&was, &written)) {
                    changed.insert(path.to_owned());
                }
            })?;
            self.write_anew(&ready.base, &tracked.below(&changed), &place.upper())?;
        } else {
            let call = self.git().work_tree(&place.tree()).index(&place.index());
            let out = call.args(["ls-files", "-z", "--modified", "--deleted", "--deduplicate"]).run()?;
            changed.extend(pieces(&out).map(path_of));
            tracked.strip(&place.tree(), &mut |_| {})?;
            self.write_anew(&ready.base, &tracked.below(&changed), &place.tree())?;
        }
        let mut changed: Vec<String> = changed.iter().map(|path| path.display().to_string()).collect();
        changed.sort();
        changed.truncate(TOLD);
        Ok(changed)
    }

    /// Writes files of a base below `to`: they look newer than whatever was built of something else in their place.
    fn write_anew(&self, base: &CommitId, files: &[&Path], to: &Path) -> Result<(), Fault> {
        if files.is_empty() {
            return Ok(());
        }
        let index = self.home.unique(self.root());
        let call = || self.git().index(&index);
        let paths: Vec<&[u8]> = files.iter().map(|path| path.as_os_str().as_bytes()).collect();
        let check_out = ["checkout-index", "-q", "-f", "-z", "--stdin"];
        let done = call()
            .args(["read-tree", base.as_str()])
            .run()
            .and_then(|_| call().work_tree(to).args(check_out).input(paths.join(&0)).run());
        remove_tree(&index)?;
        done.map(drop)
    }

    /// Makes the writable side of a raised place a layer. On disk when it returns: an installation takes long, and may never be had
    /// again.
    fn keep_environment(&self, place: &Place, ready: &Ready, root: &Path, about: String) -> Result<(), Fault> {
        let parent = self.layers().join("environment");
        make_dir(&parent)?;
        let new = self.home.unique(&parent);
        make_dir(&new)?;
        let written = if ready.is_layered() { place.upper() } else { place.tree() };
        walk(&place.home(), &mut |path, entry| unlock(&place.home().join(path), entry).map(|()| Enter::Yes))?;
        for (from, name) in [(written, "tree"), (place.home(), "home")] {
            fs::rename(&from, new.join(name)).map_err(|error| io_fault("move", &from, &error))?;
        }
        let below = ready.layers.iter().filter_map(|name| match name {
            LayerName::Environment(id) => Some(id.clone()),
            LayerName::Base(_) => None,
        });
        let about = AboutEnvironment {
            base: ready.base.clone(),
            frozen_at: jiff::Timestamp::now(),
            bytes: disk_bytes(&new)?,
            about,
            below: below.collect(),
        };
        let text = serde_json::to_vec(&about).map_err(|error| Fault::bug(error.to_string()))?;
        put(&new.join("about.json"), &text)?;
        let sync = || -> std::io::Result<()> { Ok(rustix::fs::syncfs(fs::File::open(&new)?)?) };
        sync().map_err(|error| io_fault("sync", &new, &error))?;
        fs::rename(&new, root).map_err(|error| io_fault("make", root, &error))
    }
}

/// What a base tracks.
struct Tracked {
    files: HashSet<PathBuf>,
    /// Those that files are in.
    directories: HashSet<PathBuf>,
}

impl Tracked {
    fn of(store: &Store<'_>, base: &CommitId) -> Result<Self, Fault> {
        let out = store.git().args(["ls-tree", "-r", "-z", base.as_str()]).run()?;
        let (mut files, mut directories) = (HashSet::new(), HashSet::new());
        for entry in pieces(&out).filter_map(Entry::parse) {
            // The place of a submodule is a directory in which the base tracks nothing.
            if entry.mode == b"160000" {
                continue;
            }
            let path = path_of(entry.path);
            for parent in path.ancestors().skip(1) {
                if !directories.insert(parent.to_owned()) {
                    break;
                }
            }
            files.insert(path);
        }
        Ok(Self { files, directories })
    }

    /// The files among these paths, and below those that are directories.
    fn below(&self, paths: &HashSet<PathBuf>) -> Vec<&Path> {
        let is_below = |file: &&PathBuf| file.ancestors().any(|path| paths.contains(path));
        if paths.is_empty() { Vec::new() } else { self.files.iter().filter(is_below).map(PathBuf::as_path).collect() }
    }

    /// Removes below `root` what is tracked, what hides it, the repository, and what no layer can hold. `tracked` is told of each
    /// tracked path before it goes.
    fn strip(&self, root: &Path, tracked: &mut dyn FnMut(&Path)) -> Result<(), Fault> {
        let mut directories = Vec::new();
        walk(root, &mut |path, entry| {
            let full = root.join(path);
            let kind = entry.file_type();
            if self.directories.contains(path) && kind.is_dir() {
                unlock(&full, entry)?;
                // It was taken away and made again: what lay under it belongs to the base.
                if is_opaque(&full).map_err(|error| io_fault("look at", &full, &error))? {
                    tracked(path);
                    clear_opaque(&full)?;
                }
                directories.push(full);
                return Ok(Enter::Yes);
            }
            let is_tracked = self.directories.contains(path) || self.files.contains(path);
            if is_tracked {
                tracked(path);
            }
            let cannot_be = kind.is_socket() || kind.is_fifo() || kind.is_block_device();
            let is_device = kind.is_char_device() && !is_whiteout(entry);
            if is_tracked || cannot_be || is_device || path.as_os_str() == ".git" {
                remove_tree(&full)?;
                return Ok(Enter::No);
            }
            unlock(&full, entry)?;
            Ok(Enter::Yes)
        })?;
        for directory in directories.iter().rev() {
            // One that holds nothing any more says nothing; others stay.
            let _ = fs::remove_dir(directory);
        }
        Ok(())
    }
}

/// Lets the owner read a file and enter a directory: a layer that an ordinary user cannot read, it cannot copy or remove either.
fn unlock(path: &Path, entry: &fs::Metadata) -> Result<(), Fault> {
    let needed = if entry.is_dir() { 0o700 } else { 0o400 };
    let plain = entry.is_dir() || entry.is_file();
    if !plain || entry.mode() & needed == needed {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(entry.mode() & 0o777 | needed))
        .map_err(|error| io_fault("unlock", path, &error))
}

/// Whether a tree of an environment layer hides a path of what lies under it.
fn hides(tree: &Path, path: &Path) -> std::io::Result<bool> {
    for parent in path.ancestors() {
        let here = tree.join(parent);
        match fs::symlink_metadata(&here) {
            Ok(entry) if entry.is_dir() && parent != path => {
                if is_opaque(&here)? {
                    return Ok(true);
                }
            }
            Ok(_) => return Ok(true),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether two files (not links to them) have the same content.
fn is_same(one: &Path, other: &Path) -> bool {
    let (Ok(a), Ok(b)) = (fs::symlink_metadata(one), fs::symlink_metadata(other)) else { return false };
    if a.is_symlink() && b.is_symlink() {
        return fs::read_link(one).ok() == fs::read_link(other).ok();
    }
    a.is_file() && b.is_file() && a.len() == b.len() && fs::read(one).ok() == fs::read(other).ok()
}
