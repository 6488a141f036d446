//! Branches of the user's repository: looked at, and moved by compare-and-swap, together with the work tree that has them
//! checked out. No hook runs.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout},
};

use domain::{Fault, ids::CommitId};

use crate::{
    git::Identity,
    path_of,
    source::{Settings, Source},
    store::Store,
    work_tree::{Move, Step, WorkTree},
};

/// Work on one repository of the user's.
#[derive(Debug)]
pub(crate) struct Desk<'a> {
    pub store: &'a Store<'a>,
    pub source: &'a Source,
    pub settings: Settings,
    /// For the reflog.
    pub who: Identity,
    pub why: String,
}

impl<'a> Desk<'a> {
    /// `who` is used where the user has no identity configured.
    pub fn new(store: &'a Store<'a>, source: &'a Source, who: Identity, why: String) -> Result<Self, Fault> {
        let settings = source.settings(store.git_program())?;
        let who = settings.identity().unwrap_or(who);
        Ok(Self { store, source, settings, who, why })
    }

    /// Moves a branch. Where a work tree has it checked out, its files and index move too, if it is clean.
    pub fn advance(&self, branch: &str, step: Step<'_>) -> Result<Move, Fault> {
        if let Some(why) = self.being_rebased(branch)? {
            return Ok(Move::Refused(why));
        }
        let holders = self.holders(branch)?;
        let Some(mut lock) = self.lock(branch, Some(step.old), step.new)? else { return Ok(Move::RefMoved) };
        match holders.as_slice() {
            [] => lock.commit().map(|()| Move::Done),
            [one] => self
                .work_tree(one)
                .map_or(Err(Fault::bug("a work tree has no directory")), |tree| tree.go(step, || lock.commit())),
            _ => Ok(Move::Refused(format!("`{branch}` is checked out in more than one work tree"))),
        }
    }

    /// Makes a branch that must not be there yet. `false`: it is.
    pub fn create(&self, branch: &str, commit: &CommitId) -> Result<bool, Fault> {
        match self.lock(branch, None, commit)? {
            Some(mut lock) => lock.commit().map(|()| true),
            None => Ok(false),
        }
    }

    pub fn work_tree<'b>(&'b self, source: &'b Source) -> Option<WorkTree<'b>> {
        let top = source.top.as_deref()?;
        Some(WorkTree { store: self.store, source, settings: &self.settings, top })
    }

    /// The work trees that have a branch checked out.
    pub fn holders(&self, branch: &str) -> Result<Vec<Source>, Fault> {
        let git = self.store.git_program();
        let out = self.source.git(git).args(["worktree", "list", "--porcelain", "-z"]).run()?;
        let branch = format!("branch refs/heads/{branch}");
        let mut holders = Vec::new();
        let mut path = None;
        for line in crate::git::pieces(&out) {
            if let Some(named) = line.strip_prefix(b"worktree ") {
                path = Some(path_of(named));
            } else if line == branch.as_bytes() {
                // One whose directory is gone has nothing to bring up to date.
                holders.extend(path.take().filter(|path| path.is_dir()).map(|path| Source::find(&path)).transpose()?);
            }
        }
        Ok(holders)
    }

    /// While a branch is rebased or bisected, `HEAD` is detached and the branch is moved at the end: it is in use all the same.
    fn being_rebased(&self, branch: &str) -> Result<Option<String>, Fault> {
        let mut git_dirs = vec![self.source.common_dir.clone()];
        let linked = self.source.common_dir.join("worktrees");
        if linked.is_dir() {
            git_dirs.extend(crate::home::read_dir(&linked)?);
        }
        for git_dir in git_dirs {
            for (name, what) in [
                ("rebase-merge/head-name", "rebased"),
                ("rebase-apply/head-name", "rebased"),
                ("BISECT_START", "bisected"),
            ] {
                let held = fs::read_to_string(git_dir.join(name)).unwrap_or_default();
                if held.trim_end().trim_start_matches("refs/heads/") == branch {
                    return Ok(Some(format!("`{branch}` is being {what}")));
                }
            }
        }
        Ok(None)
    }

    /// Locks a branch at `old`, ready to become `new`. `None`: it is not at `old`.
    fn lock(&self, branch: &str, old: Option<&CommitId>, new: &CommitId) -> Result<Option<RefLock>, Fault> {
        let zeros = "0".repeat(new.as_str().len());
        let old = old.map_or(zeros.as_str(), CommitId::as_str);
        let git = self.store.git_program();
        let call = self.source.git(git).stamp(&self.who, jiff::Timestamp::now());
        let child = call.args(["update-ref", "-m", &self.why, "--stdin"]).start()?;
        let mut lock = RefLock::new(child)?;
        for line in ["start".to_owned(), format!("update refs/heads/{branch} {new} {old}")] {
            lock.say(&line)?;
        }
        lock.hear("start")?;
        lock.say("prepare")?;
        match lock.hear("prepare") {
            Ok(()) => Ok(Some(lock)),
            Err(fault) => match self.source.branch(git, branch)? {
                Some(now) if now.as_str() == old => Err(fault),
                _ => Ok(None),
            },
        }
    }
}

/// A `git update-ref` that holds a ref locked between `prepare` and `commit`. Dropped before, it changes nothing.
struct RefLock {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl RefLock {
    fn new(mut child: Child) -> Result<Self, Fault> {
        match (child.stdin.take(), child.stdout.take()) {
            (stdin @ Some(_), Some(stdout)) => Ok(Self { child, stdin, stdout: BufReader::new(stdout) }),
            _ => Err(Fault::bug("git update-ref was started without pipes")),
        }
    }

    fn commit(&mut self) -> Result<(), Fault> {
        self.say("commit")?;
        self.hear("commit")
    }

    fn say(&mut self, line: &str) -> Result<(), Fault> {
        match &mut self.stdin {
            // Where it has ended, the answer that does not come tells why.
            Some(stdin) => drop(stdin.write_all(format!("{line}\n").as_bytes())),
            None => return Err(Fault::bug("git update-ref was spoken to after its end")),
        }
        Ok(())
    }

    fn hear(&mut self, of: &str) -> Result<(), Fault> {
        let mut answer = String::new();
        let heard = self.stdout.read_line(&mut answer);
        if heard.is_ok() && answer.trim_end() == format!("{of}: ok") {
            return Ok(());
        }
        self.stdin = None;
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // What it said is for the message only.
            let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
        }
        Err(crate::git::Done { code: Some(128), out: Vec::new(), err: said.trim_end().to_owned() }.fault("update-ref"))
    }
}

impl Drop for RefLock {
    fn drop(&mut self) {
        self.stdin = None;
        // At the end of its input it gives up what was not committed, and ends.
        let _ = self.child.wait();
    }
}
