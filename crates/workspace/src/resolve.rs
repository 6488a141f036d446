//! `resolve`: what a task starts from, kept in the store before anyone is told. And `scratch`, for no repository at all.

use std::fs;

use domain::{
    Fault,
    ids::{CommitId, RepositoryId},
    ports::workspace::{Origin, Repository, ResolveRequest, Wip},
};

use crate::{
    base::{Base, Objects},
    git::{Call, Identity, copy_index, pieces},
    home::{Home, make_dir, remove_tree},
    source::Source,
    store::{NewCommit, Store, put},
};

/// What the request's names stand for.
struct Names {
    base: CommitId,
    target: Option<String>,
    note: Option<String>,
}

impl Home {
    pub fn resolve(&self, request: &ResolveRequest) -> Result<Origin, Fault> {
        let source = Source::find(&request.directory)?;
        let names = self.names(&source, request)?;
        let repository = source.repository();
        let store = self.store(&repository.id)?;
        let objects = Objects { directory: source.objects(), shallow: source.shallow() };
        let base = store.ensure_base(&names.base, &objects)?;
        store.set_named(&repository.path)?;
        let mut notes = base.about()?.notes;
        notes.extend(names.note);
        let base = match request.wip {
            Wip::Leave => base.commit,
            Wip::HandOver => self.hand_over_wip(&source, &store, &base, &mut notes)?,
        };
        Ok(Origin { repository, base, target: names.target, notes })
    }

    /// A repository of Overnight's own with one empty commit, the same for all tasks.
    pub fn scratch(&self) -> Result<Origin, Fault> {
        let id = RepositoryId("scratch".to_owned());
        let store = self.store(&id)?;
        let empty_tree = CommitId::parse("4b825dc642cb6eb9a060e54bf8d69288fbee4904")
            .ok_or_else(|| Fault::bug("the empty tree has no name"))?;
        store.make(&empty_tree)?;
        let tree = store.git().args(["hash-object", "-t", "tree", "-w", "--stdin"]).input("").object()?;
        let base = store.commit(&NewCommit {
            tree: &tree,
            parents: &[],
            message: "Nothing yet",
            who: Identity::overnight(),
            at: jiff::Timestamp::UNIX_EPOCH,
        })?;
        store.ensure_base(&base, &Objects { directory: store.objects(), shallow: None })?;
        let path = store.git_dir();
        store.set_named(&path)?;
        Ok(Origin { repository: Repository { id, path }, base, target: None, notes: Vec::new() })
    }

    /// One process where all names are right; on any doubt, the names are tried one by one to say which is wrong.
    fn names(&self, source: &Source, request: &ResolveRequest) -> Result<Names, Fault> {
        let base = request.base.as_deref().unwrap_or("HEAD");
        let into = request.into.as_deref().map(|into| into.strip_prefix("refs/heads/").unwrap_or(into));
        for name in [Some(base), into].into_iter().flatten() {
            if name.is_empty() || name.starts_with('-') || name.starts_with('^') {
                return Err(
                    Fault::input(format!("`{name}` is not a revision")).hint("name a branch, a tag or a commit")
                );
            }
        }
        let mut args = vec!["rev-parse".to_owned(), format!("{base}^{{commit}}")];
        args.extend(into.map(|into| format!("refs/heads/{into}^{{commit}}")));
        args.extend(["--symbolic-full-name", base].map(str::to_owned));
        let done = source.git(&self.git).args(args).finish()?;
        let text = String::from_utf8_lossy(&done.out);
        let mut lines = text.lines();
        let mut commits = 1 + usize::from(into.is_some());
        let base_id = lines.next().and_then(CommitId::parse);
        while commits > 1 && lines.next().and_then(CommitId::parse).is_some() {
            commits -= 1;
        }
        let full_name = lines.next();
        let (Some(0), Some(base_id), 1, None) = (done.code, base_id, commits, lines.next()) else {
            return Err(self.wrong_name(source, base, into)?);
        };
        let local = full_name.and_then(|name| name.strip_prefix("refs/heads/"));
        let (target, note) = match (into, local) {
            (Some(into), _) => (Some(into.to_owned()), None),
            (None, Some(branch)) => (Some(branch.to_owned()), None),
            (None, None) if base == "HEAD" => {
                (None, Some("HEAD is detached: the result will be on a branch of its own.".to_owned()))
            }
            (None, None) => {
                (None, Some(format!("`{base}` is not a local branch: the result will be on a branch of its own.")))
            }
        };
        Ok(Names { base: base_id, target, note })
    }

    fn wrong_name(&self, source: &Source, base: &str, into: Option<&str>) -> Result<Fault, Fault> {
        let path = source.repository().path;
        let place = path.display();
        let is_commit = |name: &str| source.commit_of(&self.git, name).map(|commit| commit.is_some());
        if !is_commit(base)? {
            let refs = source.git(&self.git).args(["for-each-ref", "--count=1"]).text()?;
            return Ok(if base == "HEAD" && refs.is_empty() {
                Fault::input(format!("the repository {place} has no commit yet")).hint("make a first commit")
            } else if base == "HEAD" {
                Fault::input(format!("the current branch of {place} has no commit yet"))
                    .hint("make a first commit, or name what to start from with `--base`")
            } else {
                Fault::input(format!("`{base}` is not a commit of {place}"))
                    .hint("`git branch -a` lists branches; fetch first if it is on a remote")
            });
        }
        Ok(match into {
            Some(into) if !is_commit(&format!("refs/heads/{into}"))? => {
                Fault::input(format!("{place} has no branch `{into}` to land on"))
                    .hint(format!("make it with `git branch {into}`, or name another with `--into`"))
            }
            _ => Fault::input(format!("`{base}` names more than one thing in {place}"))
                .hint("write `refs/heads/NAME` or `refs/tags/NAME`"),
        })
    }

    /// The base that holds the user's uncommitted work on top of `head`. Git runs on the private store with a copy of the
    /// user's index: nothing of the user's repository is written, and none of its filters exists there.
    fn hand_over_wip(
        &self,
        source: &Source,
        store: &Store<'_>,
        head: &Base,
        notes: &mut Vec<String>,
    ) -> Result<CommitId, Fault> {
        let place = source.repository().path;
        let Some(top) = &source.top else {
            return Err(Fault::input(format!("{} is bare: it has no uncommitted work", place.display()))
                .hint("leave out `--wip`"));
        };
        let current = source.git(&self.git).args(["rev-parse", "--verify", "HEAD"]).object()?;
        if current != head.commit {
            return Err(Fault::input("`--wip` hands over work on HEAD, not on another base")
                .hint("leave out `--base`, or switch to it first"));
        }
        let desk = self.unique(&store.bases());
        make_dir(&desk)?;
        let tree = WipTree { home: self, source, store, top, desk: &desk }.write(head, notes);
        remove_tree(&desk)?;
        let tree = tree?;
        if tree == head.about()?.tree {
            notes.push("There is no uncommitted work: the task starts from HEAD.".to_owned());
            return Ok(head.commit.clone());
        }
        let commit = store.commit(&NewCommit {
            tree: &tree,
            parents: &[&head.commit],
            message: "Work in progress handed to Overnight",
            who: Identity::overnight(),
            at: jiff::Timestamp::now(),
        })?;
        // What was staged before is in the user's objects only, what was added now in ours only: both are looked at.
        let objects = Objects { directory: source.objects(), shallow: source.shallow() };
        Ok(store.ensure_base(&commit, &objects)?.commit)
    }
}

/// Writing the tree of a user's work tree.
struct WipTree<'a> {
    home: &'a Home,
    source: &'a Source,
    store: &'a Store<'a>,
    top: &'a std::path::Path,
    /// A directory for the copied index.
    desk: &'a std::path::Path,
}

impl WipTree<'_> {
    fn write(&self, head: &Base, notes: &mut Vec<String>) -> Result<CommitId, Fault> {
        let index = self.desk.join("index");
        let settings = self.source.settings(&self.home.git)?;
        let ignore = self.ignore_file(settings.get("core.excludesfile"))?;
        let call = || -> Call {
            let call = self.store.git().work_tree(self.top).index(&index).also_objects(&[&self.source.objects()]);
            settings.apply_to(call).config("core.excludesFile", ignore.as_os_str())
        };
        let list = || {
            call()
                .args(["ls-files", "-z", "--modified", "--deleted", "--others", "--deduplicate", "--exclude-standard"])
                .run()
        };
        // The copy spares hashing every file. One that cannot be read alone (a split index) is made anew from HEAD.
        let copied = copy_index(&self.source.git_dir.join("index"), &index).is_ok();
        let listed = match copied.then(list) {
            Some(Ok(listed)) => listed,
            _ => {
                put(&index, b"")?;
                call().args(["read-tree", head.commit.as_str()]).run()?;
                list()?
            }
        };
        let mut paths = Vec::new();
        for path in pieces(&listed) {
            if path.ends_with(b"/") {
                let name = String::from_utf8_lossy(path);
                notes.push(format!("`{name}` is a repository of its own: its content is not handed over."));
            } else {
                paths.extend_from_slice(path);
                paths.push(0);
            }
        }
        if !paths.is_empty() {
            call().args(["update-index", "-z", "--add", "--remove", "--replace", "--stdin"]).input(paths).run()?;
        }
        call().args(["write-tree"]).object().map_err(|fault| {
            if fault.what.contains("unmerged") {
                Fault::input(format!("{} is in the middle of a merge", self.top.display()))
                    .hint("finish or abort it first")
            } else {
                fault
            }
        })
    }

    /// All that the user ignores besides `.gitignore` files, as one file: the repository's own and the user's list.
    fn ignore_file(&self, named: Option<&str>) -> Result<std::path::PathBuf, Fault> {
        let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
        let config = std::env::var_os("XDG_CONFIG_HOME")
            .map(std::path::PathBuf::from)
            .or_else(|| home.as_ref().map(|home| home.join(".config")));
        let users = match (named, &home) {
            (Some(named), Some(home)) => Some(match named.strip_prefix("~/") {
                Some(rest) => home.join(rest),
                None => self.top.join(named),
            }),
            (Some(named), None) => Some(self.top.join(named)),
            (None, _) => config.map(|config| config.join("git/ignore")),
        };
        let mut text = Vec::new();
        for file in users.into_iter().chain([self.source.common_dir.join("info/exclude")]) {
            if let Ok(content) = fs::read(&file) {
                text.extend(content);
                text.push(b'\n');
            }
        }
        let path = self.desk.join("ignore");
        put(&path, &text)?;
        Ok(path)
    }
}
