//! `prepare`: a workspace with the files of a commit and a `.git` that knows the base's history; over layers in constant time, or
//! as a plain directory.
//!
//! The branch `overnight/T-12` in it points to the base. When a workspace is rebuilt from a snapshot, the snapshot's content
//! is there as uncommitted changes. An agent may commit, amend or break its `.git` as it likes: a snapshot looks at files only.

use std::{ffi::OsStr, fs, path::Path};

use domain::{
    Fault,
    environment::EnvironmentId,
    ids::{AttemptKey, CommitId},
    ports::{
        sandbox::Confinement,
        workspace::{PrepareRequest, Prepared},
    },
};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, openat, openat2, renameat_with, unlinkat},
    io::Errno,
};

use crate::{
    base::Base,
    git::{branch_of, copy_index, io_fault, quote},
    home::{Home, make_dir},
    layer::{LayerName, use_now},
    place::{Place, Ready},
    rung::{Rung, lay_over},
    store::{Store, make_git_dir, put},
};

/// Where `HEAD` of a new `.git` points. Its index knows the same commit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Head<'a> {
    /// A branch at this commit.
    Branch(&'a str, &'a CommitId),
    Detached(&'a CommitId),
}

impl<'a> Head<'a> {
    fn commit(self) -> &'a CommitId {
        match self {
            Self::Branch(_, commit) | Self::Detached(commit) => commit,
        }
    }
}

/// How the index of a `.git` is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Index {
    Whole,
    /// The big part of it lies with a layer, and stays there whatever git writes.
    Shared,
}

/// What a place is to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub base: &'a Base,
    /// Whose files; on the base.
    pub commit: &'a CommitId,
    pub head: Head<'a>,
    pub environment: Option<&'a EnvironmentId>,
    pub confinement: Confinement,
}

impl Home {
    pub fn prepare(&self, request: &PrepareRequest) -> Result<Prepared, Fault> {
        let place = Place::new(self.workspace(request.key));
        self.alone(place.root(), || {
            let store = self.store(&request.repository.id)?;
            let surroundings = &request.surroundings;
            if let Some(ready) = place.ready()? {
                return keep(&store, &place, ready, surroundings.confinement);
            }
            let base = store.base_under(&request.commit)?;
            let wanted = Wanted {
                base: &base,
                commit: &request.commit,
                head: Head::Branch(&branch_of(request.key.task), &base.commit),
                environment: surroundings.environment.as_ref(),
                confinement: surroundings.confinement,
            };
            let prepared = store.lay_out(&place, wanted)?;
            self.bring_home(&place, request.key)?;
            Ok(prepared)
        })
    }

    /// Puts the HOME that an earlier workspace of the attempt left in place of the empty one.
    fn bring_home(&self, place: &Place, key: AttemptKey) -> Result<(), Fault> {
        let kept = self.kept_home(key);
        match renameat_with(CWD, &kept, CWD, place.home(), RenameFlags::EXCHANGE) {
            Ok(()) => self.throw_away(&kept),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(io_fault("bring back", &kept, &errno.into())),
        }
    }
}

/// A place that is there already.
fn keep(store: &Store<'_>, place: &Place, ready: Ready, confinement: Confinement) -> Result<Prepared, Fault> {
    if !ready.is_layered() {
        return place.prepared(store, &ready);
    }
    if confinement == Confinement::Unconfined {
        return Err(Fault::conflict(format!(
            "{} is laid out in layers, which plain processes cannot see",
            place.root().display()
        ))
        .hint("go on without `--unconfined`"));
    }
    // The layer of a base may have to be made again. It may lie over others then, and its index is another one.
    let mut now = ready.clone();
    if let Some(base) = store.base(&ready.base) {
        let layer = store.ensure_layer(&base)?;
        now.layers.retain(|name| matches!(name, LayerName::Environment(_)));
        now.layers.extend(layer.names());
        now.index = layer.index_name()?;
        if now.index != ready.index {
            drop_index(&place.upper())?;
        }
        if now != ready {
            place.set_ready(&now)?;
        }
    }
    place.prepared(store, &now)
}

/// Removes the index below an upper directory, which an agent could write, so that the layer's is seen. No link is followed; where
/// there is none, nothing is done.
fn drop_index(upper: &Path) -> Result<(), Fault> {
    let (directory, beneath) = (OFlags::DIRECTORY | OFlags::CLOEXEC, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS);
    let removed = openat(CWD, upper, directory, Mode::empty())
        .and_then(|upper| openat2(upper, ".git", directory, Mode::empty(), beneath))
        .and_then(|git_dir| unlinkat(&git_dir, "index", AtFlags::empty()));
    match removed {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::LOOP | Errno::XDEV) => Ok(()),
        Err(errno) => Err(io_fault("remove the index below", upper, &errno.into())),
    }
}

impl Store<'_> {
    /// Makes a place from nothing.
    pub fn lay_out(&self, place: &Place, wanted: Wanted<'_>) -> Result<Prepared, Fault> {
        // What is there is half made.
        self.home.throw_away(place.root())?;
        make_dir(&place.home())?;
        let layered = self.home.rung == Rung::Overlay && wanted.confinement == Confinement::Confined;
        let ready = if layered { self.lay_layers(place, wanted)? } else { self.lay_plain(place, wanted)? };
        place.prepared(self, &ready)
    }

    fn lay_layers(&self, place: &Place, wanted: Wanted<'_>) -> Result<Ready, Fault> {
        let layer = self.ensure_layer(wanted.base)?;
        let mut layers = Vec::new();
        if let Some(id) = wanted.environment {
            layers = self.environment_names(id)?;
            make_dir(&place.home_work())?;
            use_now(&self.layer_root(&LayerName::Environment(id.clone())));
        }
        layers.extend(layer.names());
        make_dir(&place.work())?;
        let git_dir = place.upper().join(".git");
        make_dir(&git_dir)?;
        set_head(&git_dir, wanted.head)?;
        let index = git_dir.join("index");
        let (base, head) = (&wanted.base.commit, wanted.head.commit());
        if layer.is_young() || head != base {
            // It is as young as the files then, or younger: git looks closer, or knows that it need not.
            fs::copy(layer.index(), &index).map_err(|error| io_fault("write", &index, &error))?;
        }
        if wanted.commit != base {
            self.lay(&place.upper(), base, wanted.commit)?;
        }
        if head != base {
            // The layer's own git directory, as it knows where the big part of the index is.
            let git = self.git_program().at(&layer.tree().join(".git")).objects(&self.objects());
            git.index(&index).args(["read-tree", "-m", "-i", head.as_str()]).run()?;
            self.lend(head, wanted.base, &git_dir.join("objects"))?;
        }
        let ready = self.ready_of(wanted, layers, layer.index_name()?);
        self.home.while_layers_stay(|| self.stack(&ready.layers).and_then(|_| place.set_ready(&ready)))?;
        Ok(ready)
    }

    fn lay_plain(&self, place: &Place, wanted: Wanted<'_>) -> Result<Ready, Fault> {
        let (tree, commit, head) = (place.tree(), wanted.commit, wanted.head.commit());
        make_dir(&tree)?;
        let call = || self.git().work_tree(&tree).index(&place.index());
        if wanted.environment.is_none() && self.home.rung != Rung::Reflink {
            call().args(["read-tree", "-m", "-u", commit.as_str()]).run()?;
        } else {
            self.copy_layers(place, wanted)?;
            call().args(["update-index", "-q", "--refresh"]).run()?;
            if *commit != wanted.base.commit {
                call().args(["read-tree", "--reset", "-u", commit.as_str()]).run()?;
            }
        }
        make_dot_git(&tree, wanted.base, wanted.head, Index::Whole)?;
        let index = tree.join(".git/index");
        copy_index(&place.index(), &index)?;
        // Entries of another commit, with the stat data of files that are the same in both.
        for (index, other) in [(&index, head), (&place.index(), &wanted.base.commit)] {
            if other != commit {
                self.git().work_tree(&tree).index(index).args(["read-tree", "-m", other.as_str()]).run()?;
            }
        }
        if *head != wanted.base.commit {
            self.lend(head, wanted.base, &tree.join(".git/objects"))?;
        }
        let ready = self.ready_of(wanted, Vec::new(), None);
        place.set_ready(&ready)?;
        Ok(ready)
    }

    /// The files of the base and of the environment with their own times: what was built of them is known to be up to date.
    fn copy_layers(&self, place: &Place, wanted: Wanted<'_>) -> Result<(), Fault> {
        let layer = self.ensure_layer(wanted.base)?;
        let mut names = layer.names();
        if let Some(id) = wanted.environment {
            names.splice(0..0, self.environment_names(id)?);
        }
        let under = self.stack(&names)?;
        let git = OsStr::new(".git");
        let (base, environment) = (layer.names().len(), under.homes.len());
        // The lowest first; what an environment holds, the base does not.
        for from in under.trees[environment..].iter().rev().take(base).chain(under.trees[..environment].iter().rev()) {
            lay_over(from, &place.tree(), git)?;
        }
        for from in under.homes.iter().rev() {
            lay_over(from, &place.home(), OsStr::new(""))?;
        }
        copy_index(&layer.whole_index()?, &place.index())
    }

    fn ready_of(&self, wanted: Wanted<'_>, layers: Vec<LayerName>, index: Option<String>) -> Ready {
        Ready {
            repository: Some(self.id()),
            base: wanted.base.commit.clone(),
            environment: wanted.environment.cloned(),
            layers,
            index,
        }
    }
}

/// A `.git` directory that borrows the base's objects and runs nothing on its own.
pub(crate) fn make_dot_git(tree: &Path, base: &Base, head: Head<'_>, index: Index) -> Result<(), Fault> {
    let git_dir = tree.join(".git");
    // A split index stays split; no other one is to become so.
    let shared = match index {
        Index::Whole => "",
        Index::Shared => "[splitIndex]\n\tmaxPercentChange = 100\n\tsharedIndexExpire = never\n",
    };
    let core = format!(
        "\tbare = false\n\tlogallrefupdates = true\n[user]\n\tname = Overnight\n\temail = overnight@localhost\n[gc]\n\tauto = \
         0\n[maintenance]\n\tauto = false\n{shared}"
    );
    make_git_dir(&git_dir, &base.commit, &core)?;
    let mut borrowed = quote(&base.objects());
    borrowed.push(b'\n');
    put(&git_dir.join("objects/info/alternates"), &borrowed)?;
    if let Some(shallow) = base.shallow() {
        let to = git_dir.join("shallow");
        fs::copy(&shallow, &to).map_err(|error| io_fault("write", &to, &error))?;
    }
    set_head(&git_dir, head)
}

fn set_head(git_dir: &Path, head: Head<'_>) -> Result<(), Fault> {
    match head {
        Head::Branch(name, commit) => {
            // As `git pack-refs` leaves it: one file instead of three directories and one.
            let packed = format!("# pack-refs with: peeled fully-peeled sorted \n{commit} refs/heads/{name}\n");
            put(&git_dir.join("packed-refs"), packed.as_bytes())?;
            put(&git_dir.join("HEAD"), format!("ref: refs/heads/{name}\n").as_bytes())
        }
        Head::Detached(commit) => put(&git_dir.join("HEAD"), format!("{commit}\n").as_bytes()),
    }
}
