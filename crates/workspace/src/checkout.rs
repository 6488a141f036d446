//! `checkout`: a throw-away tree of an exact commit for one check run, with protected paths taken from another commit.

use std::path::{Path, PathBuf};

use domain::{
    Fault,
    ids::CommitId,
    ports::workspace::{CheckoutRequest, Prepared},
};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::{
    base::Base,
    git::{Identity, pieces},
    home::{Home, make_dir},
    path_of,
    place::Place,
    prepare::{Head, Wanted},
    store::{NewCommit, Store},
};

impl Home {
    pub fn checkout(&self, request: &CheckoutRequest) -> Result<Prepared, Fault> {
        let place = Place::new(self.checkout_root(&request.name)?);
        self.alone(place.root(), || {
            let store = self.store(&request.repository.id)?;
            let commit = match &request.protect {
                Some((from, globs)) => store.protected(&request.commit, from, globs)?,
                None => request.commit.clone(),
            };
            let wanted = Wanted {
                base: &store.base_under(&commit)?,
                commit: &commit,
                head: Head::Detached(&commit),
                environment: request.surroundings.environment.as_ref(),
                confinement: request.surroundings.confinement,
            };
            store.lay_out(&place, wanted)
        })
    }

    pub fn discard_checkout(&self, name: &str) -> Result<(), Fault> {
        let root = self.checkout_root(name)?;
        self.alone(&root, || self.throw_away(&root))
    }

    fn checkout_root(&self, name: &str) -> Result<PathBuf, Fault> {
        let safe = !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b));
        if !safe {
            return Err(Fault::bug(format!("`{name}` cannot name a checkout")));
        }
        Ok(self.checkouts().join(name))
    }
}

impl Store<'_> {
    /// Packs what `commit` has beyond `base` into another object directory.
    pub fn lend(&self, commit: &CommitId, base: &Base, objects: &Path) -> Result<(), Fault> {
        make_dir(&objects.join("pack"))?;
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
