//! Objects between the private store and the user's repository, both ways, without a transport: no program but git's own
//! packers runs, and no configuration of a remote is read.

use std::collections::BTreeSet;

use domain::{
    Fault,
    ids::{CommitId, TaskId},
};

use crate::{source::Source, store::Store};

/// A result of a task, as it is handed to the user's repository.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gift<'a> {
    pub task: TaskId,
    /// The snapshot that a person saw.
    pub head: &'a CommitId,
    /// What is handed over for it: itself, or a merge of it.
    pub commit: &'a CommitId,
}

impl Store<'_> {
    /// Puts a commit and everything it needs into the user's repository, where no ref points to it yet.
    pub fn give(&self, source: &Source, gift: Gift<'_>) -> Result<(), Fault> {
        self.set_handed_over(gift.task, gift.head, gift.commit)?;
        let mut wanted = format!("{}\n", gift.commit);
        for known in self.known_to_both(source)? {
            wanted.push_str(&format!("^{known}\n"));
        }
        let pack = self.git().args(["pack-objects", "--revs", "--stdout", "--delta-base-offset", "-q"]).input(wanted);
        let unpack = source.git(self.git_program()).args(["unpack-objects", "-q"]);
        pack.pipe_into(unpack).map_err(|fault| fault.at(format!("cannot write to {}", source.objects().display())))
    }

    /// Copies the history of a commit of the user's repository into the private store.
    pub fn take(&self, source: &Source, commit: &CommitId) -> Result<(), Fault> {
        if self.resolve(&format!("{commit}^{{commit}}"))?.is_some() {
            return Ok(());
        }
        let bases = self.git().args(["for-each-ref", "--format=^%(objectname)", "refs/overnight/base/"]).text()?;
        let pack = self.objects().join("pack/pack");
        self.git()
            .also_objects(&[&source.objects()])
            .shallow(source.shallow().as_deref())
            .args(["pack-objects", "--revs", "--delta-base-offset", "-q"])
            .args([pack])
            .input(format!("{commit}\n{bases}\n"))
            .run()
            .map_err(|fault| fault.at(format!("cannot copy {} from {}", commit.short(), source.objects().display())))?;
        Ok(())
    }

    /// Commits that branches of the user's repository point to and that the store has too.
    fn known_to_both(&self, source: &Source) -> Result<Vec<CommitId>, Fault> {
        let git = self.git_program();
        let mut tips =
            source.git(git).args(["for-each-ref", "--format=%(objectname)", "refs/heads", "refs/remotes"]).text()?;
        if let Some(head) = source.commit_of(git, "HEAD")? {
            tips.push('\n');
            tips.push_str(head.as_str());
        }
        let tips: BTreeSet<&str> = tips.lines().filter(|line| !line.is_empty()).collect();
        if tips.is_empty() {
            return Ok(Vec::new());
        }
        let tips: Vec<&str> = tips.into_iter().collect();
        let format = "--batch-check=%(objecttype) %(objectname)";
        let text = self.git().args(["cat-file", format]).input(tips.join("\n") + "\n").text()?;
        Ok(text.lines().filter_map(|line| CommitId::parse(line.strip_prefix("commit ")?)).collect())
    }
}
