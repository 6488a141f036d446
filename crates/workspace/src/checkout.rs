//! `checkout`: a throw-away tree of an exact commit for one check run, with protected paths taken from another commit.

use std::path::Path;

use domain::{
    Fault,
    ids::CommitId,
    ports::workspace::{Checkout, CheckoutRequest},
};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::{
    base::Base,
    git::{Identity, copy_index, pieces},
    home::{Home, make_dir},
    path_of,
    prepare::{Head, Place, make_dot_git},
    store::{NewCommit, Store},
};

impl Home {
    pub fn checkout(&self, request: &CheckoutRequest) -> Result<Checkout, Fault> {
        let name = &request.name;
        let safe = !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b));
        if !safe {
            return Err(Fault::bug(format!("`{name}` cannot name a checkout")));
        }
        let place = Place::new(self.checkouts().join(name));
        self.alone(place.root(), || {
            // One of this name is what a crash left.
            self.throw_away(place.root())?;
            for directory in [place.tree(), place.home(), place.spill()] {
                make_dir(&directory)?;
            }
            let store = self.store(&request.repository.id)?;
            let commit = match &request.protect {
                Some((from, globs)) => store.protected(&request.commit, from, globs)?,
                None => request.commit.clone(),
            };
            let base = store.base_under(&commit)?;
            store.fill(&place, &commit)?;
            make_dot_git(&place.tree(), &base, Head::Detached(&commit))?;
            copy_index(&place.index(), &place.tree().join(".git/index"))?;
            store.lend(&commit, &base, &place.tree().join(".git/objects"))?;
            Ok(Checkout {
                root: place.tree(),
                home: place.home(),
                readable: vec![base.objects()],
                spill: place.spill(),
                lock: place.lock(),
            })
        })
    }

    pub fn discard_checkout(&self, checkout: &Checkout) -> Result<(), Fault> {
        match checkout.root.parent() {
            Some(root) if root.parent() == Some(&self.checkouts()) => self.throw_away(root),
            _ => Err(Fault::bug(format!("{} is not a checkout", checkout.root.display()))),
        }
    }
}

impl Store<'_> {
    /// Packs what `commit` has beyond `base` into another object directory.
    fn lend(&self, commit: &CommitId, base: &Base, objects: &Path) -> Result<(), Fault> {
        if *commit == base.commit {
            return Ok(());
        }
        let own = self.objects();
        self.git()
            .objects(objects)
            .also_objects(&[&own])
            // It lives as long as one check run, and is small.
            .config("core.fsync", "none".as_ref())
            .config("pack.threads", "1".as_ref())
            .args(["pack-objects", "--revs", "--delta-base-offset", "-q"])
            .args([objects.join("pack/pack")])
            .input(format!("{commit}\n^{}\n", base.commit))
            .run()?;
        Ok(())
    }

    /// A commit as `commit`, but with every path that matches a glob as it is in `from`. `commit` itself where none differs.
    fn protected(&self, commit: &CommitId, from: &CommitId, globs: &[String]) -> Result<CommitId, Fault> {
        let matcher = matcher(globs)?;
        if matcher.is_empty() || commit == from {
            return Ok(commit.clone());
        }
        let out = self.git().args(["diff-tree", "-r", "-z", "--no-renames", commit.as_str(), from.as_str()]).run()?;
        let mut entries = Vec::new();
        let mut parts = pieces(&out);
        while let (Some(change), Some(path)) = (parts.next(), parts.next()) {
            if !matcher.matched_path_or_any_parents(path_of(path), false).is_ignore() {
                continue;
            }
            // `:<old mode> <new mode> <old object> <new object> <letter>`; a new mode of zeros removes the entry.
            let mut words = change.split(|byte| *byte == b' ');
            let (Some(mode), Some(object)) = (words.nth(1), words.nth(1)) else {
                return Err(Fault::bug("git diff-tree printed what cannot be read"));
            };
            for part in [mode, b" ", object, b"\t", path, b"\0"] {
                entries.extend_from_slice(part);
            }
        }
        if entries.is_empty() {
            return Ok(commit.clone());
        }
        let index = self.home.unique(self.root());
        let tree = (|| {
            self.git().index(&index).args(["read-tree", commit.as_str()]).run()?;
            self.git().index(&index).args(["update-index", "--replace", "-z", "--index-info"]).input(entries).run()?;
            self.git().index(&index).args(["write-tree"]).object()
        })();
        self.home.throw_away(&index)?;
        self.commit(&NewCommit {
            tree: &tree?,
            parents: &[&self.first_parent(commit)?],
            message: "With the protected files of the base",
            who: Identity::overnight(),
            at: jiff::Timestamp::UNIX_EPOCH,
        })
    }
}

/// Globs as `.gitignore` at the root would read them.
fn matcher(globs: &[String]) -> Result<Gitignore, Fault> {
    let mut builder = GitignoreBuilder::new("");
    for glob in globs {
        builder.add_line(None, glob).map_err(|error| {
            Fault::input(format!("`{glob}` is not a glob: {error}")).hint("write it as in a .gitignore file")
        })?;
    }
    builder.build().map_err(|error| Fault::input(format!("the globs cannot be used together: {error}")))
}
