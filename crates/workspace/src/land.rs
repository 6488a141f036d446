//! `land`: an approved head reaches its target, exactly once, and nothing of the agent's or the repository's is executed.
//!
//! 1. A commit that was handed over for this head and is in the target's history: it has landed, whatever happened since.
//! 2. The target is where the head starts: the head itself (squash) or a merge commit is to land.
//! 3. The target has moved: the clean merge is returned to be checked, or lands where it was checked already.
//! 4. The commit is noted as handed over, its objects are given, and the target is moved by compare-and-swap.

use domain::{
    Fault,
    brief::LandingMethod,
    ids::CommitId,
    ports::workspace::{LandRequest, Landing},
};

use crate::{
    branch::put_branch,
    git::{Identity, branch_of, pieces},
    hand_over::Gift,
    home::Home,
    refs::Desk,
    source::Source,
    store::{NewCommit, Store},
    work_tree::{Move, Step},
};

/// How often a target that moves at the very moment is looked at again.
const TRIES: usize = 3;

impl Home {
    pub fn land(&self, request: &LandRequest) -> Result<Landing, Fault> {
        let source = Source::find(&request.repository.path)?;
        if source.repository().id != request.repository.id {
            return Err(Fault::conflict(format!(
                "{} is not the repository that {} was submitted from",
                request.repository.path.display(),
                request.task
            ))
            .hint("put the repository back where it was"));
        }
        self.alone(&source.common_dir, || {
            let store = self.store(&request.repository.id)?;
            let approver = Identity { name: request.approver.clone(), email: "overnight@localhost".to_owned() };
            let desk = Desk::new(&store, &source, approver, format!("overnight: land {}", request.task))?;
            let lander = Lander { store: &store, source: &source, desk: &desk, request };
            for _ in 0..TRIES {
                if let Some(landing) = lander.land()? {
                    return Ok(landing);
                }
            }
            Err(Fault::transient(format!("the target of {} keeps moving", request.task)))
        })
    }
}

struct Lander<'a> {
    store: &'a Store<'a>,
    source: &'a Source,
    desk: &'a Desk<'a>,
    request: &'a LandRequest,
}

/// What would be on the target.
enum Candidate {
    Ready(CommitId),
    /// To be checked first.
    Combined(CommitId),
    Conflict(Vec<String>),
    /// The target holds all of the change already.
    Nothing,
}

impl Lander<'_> {
    /// `None`: the target moved under it; look again.
    fn land(&self) -> Result<Option<Landing>, Fault> {
        let LandRequest { task, head, .. } = self.request;
        let git = self.store.git_program();
        let target = match (self.request.method, &self.request.target) {
            (LandingMethod::Branch, _) => return self.leave(head, "that is what the task asked for".to_owned()),
            (_, None) => return self.leave(head, "the task has no target branch".to_owned()),
            (LandingMethod::Squash | LandingMethod::Merge, Some(target)) => target,
        };
        let Some(target_head) = self.source.branch(git, target)? else {
            return self.leave(head, format!("there is no branch `{target}` any more"));
        };
        self.store.take(self.source, &target_head)?;
        let landed = |commit| Ok(Some(Landing::Landed { target: target.clone(), commit }));
        if let Some(commit) = self.store.handed_over_in(*task, head, &target_head)? {
            return landed(commit);
        }
        let commit = match self.candidate(&target_head)? {
            Candidate::Ready(commit) => commit,
            Candidate::Combined(combined) => return Ok(Some(Landing::Moved { combined, target_head })),
            Candidate::Conflict(paths) => return Ok(Some(Landing::Conflict { paths, target_head })),
            Candidate::Nothing => return landed(target_head),
        };
        self.store.give(self.source, Gift { task: *task, head, commit: &commit })?;
        match self.desk.advance(target, Step { old: &target_head, new: &commit })? {
            Move::Done => landed(commit),
            Move::RefMoved => Ok(None),
            Move::Refused(why) => self.leave(&commit, why),
        }
    }

    /// Puts the result on the task's own branch.
    fn leave(&self, commit: &CommitId, why: String) -> Result<Option<Landing>, Fault> {
        let LandRequest { task, head, .. } = self.request;
        put_branch(self.desk, Gift { task: *task, head, commit })?;
        let branch = branch_of(*task);
        let hint = format!("git merge {branch}");
        Ok(Some(Landing::LeftOnBranch { branch, commit: commit.clone(), hint, why }))
    }

    fn candidate(&self, target_head: &CommitId) -> Result<Candidate, Fault> {
        let head = &self.request.head;
        if let Some(rechecked) = &self.request.rechecked
            && self.store.first_parent(rechecked)? == *target_head
        {
            return Ok(Candidate::Ready(rechecked.clone()));
        }
        let start = self.store.first_parent(head)?;
        if start == *target_head {
            return Ok(Candidate::Ready(match self.request.method {
                LandingMethod::Merge => self.combine(&self.store.tree_of(head)?, target_head)?,
                LandingMethod::Squash | LandingMethod::Branch => head.clone(),
            }));
        }
        match self.merge(target_head, &start)? {
            Merged::Conflict(paths) => Ok(Candidate::Conflict(paths)),
            Merged::Clean(tree) if tree == self.store.tree_of(target_head)? => Ok(Candidate::Nothing),
            Merged::Clean(tree) => {
                let combined = self.combine(&tree, target_head)?;
                self.store.set_ref(&format!("refs/overnight/{}/combined/{combined}", self.request.task), &combined)?;
                Ok(Candidate::Combined(combined))
            }
        }
    }

    fn combine(&self, tree: &CommitId, target_head: &CommitId) -> Result<CommitId, Fault> {
        let parents: &[&CommitId] = match self.request.method {
            LandingMethod::Merge => &[target_head, &self.request.head],
            LandingMethod::Squash | LandingMethod::Branch => &[target_head],
        };
        self.store.commit(&NewCommit {
            tree,
            parents,
            message: &self.request.message,
            who: self.desk.who.clone(),
            at: self.request.at,
        })
    }

    /// The three-way merge of the head with the target, without a work tree.
    fn merge(&self, target_head: &CommitId, start: &CommitId) -> Result<Merged, Fault> {
        let ours = match self.request.method {
            LandingMethod::Merge => target_head.clone(),
            // Only the approved change, whatever else its start has that the target has not: as if the target's tree had
            // been made from the same start. (`--merge-base` says this directly, from git 2.40 on.)
            LandingMethod::Squash | LandingMethod::Branch => self.store.commit(&NewCommit {
                tree: &self.store.tree_of(target_head)?,
                parents: &[start],
                message: "The target as if made from the same start",
                who: Identity::overnight(),
                at: self.request.at,
            })?,
        };
        let head = self.request.head.as_str();
        let done = self
            .store
            .git()
            .args(["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours.as_str(), head])
            .finish()?;
        let mut told = pieces(&done.out).map(|piece| String::from_utf8_lossy(piece).into_owned());
        let tree = told.next().and_then(|tree| CommitId::parse(&tree));
        match (done.code, tree) {
            (Some(0), Some(tree)) => Ok(Merged::Clean(tree)),
            (Some(1), Some(_)) => Ok(Merged::Conflict(told.collect())),
            _ => Err(done.fault("merge-tree")),
        }
    }
}

enum Merged {
    Clean(CommitId),
    Conflict(Vec<String>),
}
