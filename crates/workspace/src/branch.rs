//! The branch `overnight/T-12` in the user's repository: put there, tried out, taken away, put back.

use std::path::Path;

use domain::{
    Fault,
    ids::{CommitId, TaskId},
    ports::workspace::Repository,
};

use crate::{
    git::{Identity, branch_of},
    hand_over::Gift,
    home::{Home, read_dir},
    refs::Desk,
    source::Source,
    store::Store,
    work_tree::{Move, Step, WorkTree},
};

/// A store with more loose objects than 256 times this is pruned.
const MANY_LOOSE: usize = 8;

/// Points the task's branch to the gift. A branch that holds work of the user's is never moved.
pub(crate) fn put_branch(desk: &Desk<'_>, gift: Gift<'_>) -> Result<(), Fault> {
    desk.store.give(desk.source, gift)?;
    let branch = branch_of(gift.task);
    let rename = format!("rename it: git branch -m {branch} NAME");
    let done = match desk.source.branch(desk.store.git_program(), &branch)? {
        Some(now) if now == *gift.commit => return Ok(()),
        Some(now) if !desk.store.was_handed_over(gift.task, &now) => {
            return Err(
                Fault::conflict(format!("the branch {branch} holds commits that are not Overnight's")).hint(rename)
            );
        }
        Some(now) => desk.advance(&branch, Step { old: &now, new: gift.commit })?,
        None if desk.create(&branch, gift.commit)? => Move::Done,
        None => Move::RefMoved,
    };
    match done {
        Move::Done => Ok(()),
        Move::Refused(why) => Err(Fault::conflict(format!("cannot move the branch {branch}: {why}"))
            .hint("commit or stash there, then try again")),
        Move::RefMoved => Err(Fault::transient(format!("the branch {branch} moved meanwhile"))),
    }
}

impl Home {
    pub fn pull(
        &self,
        directory: &Path,
        repository: &Repository,
        task: TaskId,
        head: &CommitId,
    ) -> Result<Vec<String>, Fault> {
        let source = Source::find(directory)?;
        let store = self.store(&repository.id)?;
        let start = store.first_parent(head)?;
        // Handed-over uncommitted work is a start that its own repository does not have.
        let is_its_own = source.repository().id == repository.id;
        if !is_its_own && source.commit_of(&self.git, start.as_str())?.is_none() {
            return Err(Fault::input(format!(
                "{} is not the repository of {task}",
                source.repository().path.display()
            ))
            .hint(format!("go to {}", repository.path.display())));
        }
        self.alone(&source.common_dir, || {
            let desk = Desk::new(&store, &source, Identity::overnight(), format!("overnight: pull {task}"))?;
            put_branch(&desk, Gift { task, head, commit: head })?;
            switch(&desk, task, head)
        })
    }

    pub fn discard(&self, repository: &Repository, task: TaskId) -> Result<(), Fault> {
        for parent in [self.workspaces(), self.homes(), self.checkouts()] {
            for place in read_dir(&parent)? {
                let name = place.file_name().unwrap_or_default().to_string_lossy();
                let rest = name.strip_prefix(&task.to_string());
                if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-'])) {
                    self.alone(&place, || self.throw_away(&place))?;
                }
            }
        }
        // A repository that is gone has no branch either.
        let Ok(source) = Source::find(&repository.path) else { return Ok(()) };
        self.alone(&source.common_dir, || {
            let store = self.store(&repository.id)?;
            remove_branch(self, &store, &source, task)
        })
    }

    pub fn purge(&self, repository: &Repository, task: TaskId) -> Result<(), Fault> {
        let store = self.store(&repository.id)?;
        if !store.git_dir().is_dir() {
            return Ok(());
        }
        store.forget(task)?;
        // Object names spread evenly: one directory of 256 tells of all.
        let some = store.objects().join("17");
        if some.is_dir() && read_dir(&some)?.len() > MANY_LOOSE {
            store.git().args(["prune", "--expire=2.weeks.ago"]).run()?;
        }
        Ok(())
    }
}

fn remove_branch(home: &Home, store: &Store<'_>, source: &Source, task: TaskId) -> Result<(), Fault> {
    let branch = branch_of(task);
    let Some(now) = source.branch(&home.git, &branch)? else { return Ok(()) };
    let kept = |why: String| {
        Err(Fault::conflict(format!("the branch {branch} was kept: {why}")).hint(format!("git branch -D {branch}")))
    };
    if !store.was_handed_over(task, &now) {
        return kept("it holds commits that are not Overnight's".to_owned());
    }
    let desk = Desk::new(store, source, Identity::overnight(), format!("overnight: discard {task}"))?;
    for holder in desk.holders(&branch)? {
        let Some(tree) = desk.work_tree(&holder) else { continue };
        if go_back(&desk, &tree, &now)? {
            continue;
        }
        if let Some(why) = tree.uncommitted(&now)? {
            return kept(why);
        }
        let call = holder.git(&home.git).stamp(&desk.who, jiff::Timestamp::now());
        call.args(["update-ref", "--no-deref", "-m", &desk.why, "HEAD", now.as_str(), now.as_str()]).run()?;
    }
    source.git(&home.git).args(["update-ref", "-d", &format!("refs/heads/{branch}"), now.as_str()]).run()?;
    Ok(())
}

/// Puts a work tree on the branch that it was on before the task's, as `git switch -` would. `false`: there is none such, or
/// something is in the way; then nothing was touched.
fn go_back(desk: &Desk<'_>, tree: &WorkTree<'_>, now: &CommitId) -> Result<bool, Fault> {
    let git = desk.store.git_program();
    let earlier = tree.source.git(git).args(["rev-parse", "--symbolic-full-name", "@{-1}"]).finish()?;
    let name = String::from_utf8_lossy(&earlier.out);
    let Some(branch) = name.trim_end().strip_prefix("refs/heads/").filter(|_| earlier.code == Some(0)) else {
        return Ok(false);
    };
    let Some(tip) = desk.source.branch(git, branch)? else { return Ok(false) };
    if !desk.holders(branch)?.is_empty() {
        return Ok(false);
    }
    desk.store.take(desk.source, &tip)?;
    let moved = tree.go(Step { old: now, new: &tip }, || {
        let call = tree.source.git(git).stamp(&desk.who, jiff::Timestamp::now());
        call.args(["symbolic-ref", "-m", &desk.why, "HEAD", &format!("refs/heads/{branch}")]).run().map(drop)
    })?;
    Ok(moved == Move::Done)
}

/// Checks the task's branch out, when the work tree is clean. Returns what to tell the person.
fn switch(desk: &Desk<'_>, task: TaskId, head: &CommitId) -> Result<Vec<String>, Fault> {
    let branch = branch_of(task);
    let at = format!("{branch} is at {}", head.short());
    let git = desk.store.git_program();
    let (Some(tree), Some(current)) = (desk.work_tree(desk.source), desk.source.commit_of(git, "HEAD")?) else {
        return Ok(vec![format!("{at}.")]);
    };
    let top = tree.top.display();
    let name = desk.source.git(git).args(["rev-parse", "--symbolic-full-name", "HEAD"]).text()?;
    let name = name.strip_prefix("refs/heads/");
    if name == Some(&branch) {
        return Ok(vec![format!("{at}, checked out in {top}."), "Go back with: git switch -".to_owned()]);
    }
    let by_hand =
        |why: &str| vec![format!("{at}; it is not checked out, as {why}."), format!("Then: git switch {branch}")];
    if let Some(holder) = desk.holders(&branch)?.first() {
        let place = holder.top.as_deref().unwrap_or(&holder.git_dir).display().to_string();
        return Ok(vec![format!("{at}, checked out in {place}.")]);
    }
    desk.store.take(desk.source, &current)?;
    // The words by which `git switch -` finds its way back.
    let reason = format!("checkout: moving from {} to {branch}", name.unwrap_or(current.as_str()));
    let moved = tree.go(Step { old: &current, new: head }, || {
        let call = desk.source.git(git).stamp(&desk.who, jiff::Timestamp::now());
        call.args(["symbolic-ref", "-m", &reason, "HEAD", &format!("refs/heads/{branch}")]).run().map(drop)
    })?;
    Ok(match moved {
        Move::Done => {
            let back = name.map_or(format!("git switch --detach {current}"), |name| format!("git switch {name}"));
            vec![format!("{at}, checked out in {top}."), format!("Go back with: {back}")]
        }
        Move::Refused(why) => by_hand(&why),
        Move::RefMoved => by_hand("it moved meanwhile"),
    })
}
