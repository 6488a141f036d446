//! Looking at commits: diffs, changed paths, files, whose their lines are, and directories. All by object names on the private store.

use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

use bytes::Bytes;
use domain::{
    Fault,
    ids::CommitId,
    ports::workspace::{BlamedLine, ChangeKind, ChangedPath, DiffStat},
};

use crate::{base::Entry, git::Call, store::Store};

/// A longer file is not blamed.
const LINES_MAX: usize = 50_000;
/// Nor is a larger one, however few its lines are.
const BLAMED_MAX: usize = 16 << 20;
/// Characters that are kept of a blamed line.
const LINE_MAX: usize = 2_000;

impl Store<'_> {
    pub fn diff(&self, from: &CommitId, to: &CommitId) -> Result<Bytes, Fault> {
        let out = self
            .diff_tree()
            .args(["-p", "-M", "--full-index", "--binary", "--src-prefix=a/", "--dst-prefix=b/"])
            .args([from.as_str(), to.as_str()])
            .run()?;
        Ok(out.into())
    }

    pub fn changed_paths(&self, from: &CommitId, to: &CommitId) -> Result<Vec<ChangedPath>, Fault> {
        let out = self
            .diff_tree()
            .args(["-r", "-z", "--no-renames", "--raw", "--numstat"])
            .args([from.as_str(), to.as_str()])
            .run()?;
        parse_changes(&out).ok_or_else(|| Fault::bug("git diff-tree printed what cannot be read"))
    }

    pub fn stat(&self, from: &CommitId, to: &CommitId) -> Result<DiffStat, Fault> {
        let changes = self.changed_paths(from, to)?;
        let mut stat = DiffStat::default();
        for change in changes {
            stat.files += 1;
            stat.added += change.added;
            stat.deleted += change.deleted;
        }
        Ok(stat)
    }

    pub fn read(&self, commit: &CommitId, path: &str, max: usize) -> Result<Option<Bytes>, Fault> {
        if path.is_empty() || path.ends_with('/') || leaves_the_tree(path) {
            return Ok(None);
        }
        let out = self.git().args(["ls-tree", "-z", commit.as_str(), "--", path]).run()?;
        let Some(entry) = Entry::parse(out.strip_suffix(b"\0").unwrap_or(&out)) else { return Ok(None) };
        if !entry.mode.starts_with(b"100") {
            return Ok(None);
        }
        let object = String::from_utf8_lossy(entry.object);
        Ok(Some(self.git().args(["cat-file", "blob", &object]).head(max)?.into()))
    }

    pub fn blame(&self, commit: &CommitId, path: &str) -> Result<Vec<BlamedLine>, Fault> {
        let content = self.read(commit, path, BLAMED_MAX + 1)?.ok_or_else(|| {
            Fault::not_found(format!("{} has no regular file `{path}`", commit.short()))
                .hint("name it from the top of the repository")
        })?;
        let ends = content.iter().filter(|byte| **byte == b'\n').count();
        let lines = ends + usize::from(content.last().is_some_and(|byte| *byte != b'\n'));
        if content.len() > BLAMED_MAX || lines > LINES_MAX {
            return Err(Fault::input(format!("`{path}` is too long to be blamed line by line")).hint(
                "files of up to 50,000 lines and 16 MiB are; `overnight diff` shows what was changed in longer ones",
            ));
        }
        // It reads a mailmap too, but only for the names of people, which nobody asks for here.
        let out = self
            .git()
            .args(["blame", "--porcelain", "--no-textconv", "--ignore-revs-file=", commit.as_str(), "--", path])
            .run()?;
        parse_blame(&out).ok_or_else(|| Fault::bug("git blame printed what cannot be read"))
    }

    pub fn list(&self, commit: &CommitId, directory: &str) -> Result<Vec<String>, Fault> {
        let call = self.git().args(["ls-tree", "-z", "--name-only", commit.as_str()]);
        let directory = directory.trim_end_matches('/');
        if leaves_the_tree(directory) {
            return Ok(Vec::new());
        }
        let call = if directory.is_empty() { call } else { call.args(["--", &format!("{directory}/")]) };
        let out = call.run()?;
        let names = crate::git::pieces(&out).map(|path| {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
            String::from_utf8_lossy(name).into_owned()
        });
        Ok(names.collect())
    }

    fn diff_tree(&self) -> Call {
        self.git().args(["diff-tree", "--no-ext-diff", "--no-textconv", "--no-color"])
    }
}

/// Whether a name is none that a commit can have.
fn leaves_the_tree(path: &str) -> bool {
    !Path::new(path).components().all(|component| matches!(component, Component::Normal(_)))
}

/// Reads `--raw --numstat -z`: first all `:modes objects letter`, `path`; then all `added<TAB>deleted<TAB>path`.
fn parse_changes(out: &[u8]) -> Option<Vec<ChangedPath>> {
    let mut kinds: BTreeMap<&[u8], ChangeKind> = BTreeMap::new();
    let mut changes = Vec::new();
    let mut pieces = crate::git::pieces(out);
    while let Some(piece) = pieces.next() {
        if piece.starts_with(b":") {
            let kind = match piece.last()? {
                b'A' => ChangeKind::Added,
                b'D' => ChangeKind::Deleted,
                b'T' => ChangeKind::TypeChanged,
                _ => ChangeKind::Modified,
            };
            kinds.insert(pieces.next()?, kind);
            continue;
        }
        let mut fields = piece.splitn(3, |byte| *byte == b'\t');
        let (added, deleted, path) = (fields.next()?, fields.next()?, fields.next()?);
        // Binary files have `-` for both.
        let count = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
        changes.push(ChangedPath {
            path: String::from_utf8_lossy(path).into_owned(),
            kind: *kinds.get(path)?,
            added: count(added).unwrap_or(0),
            deleted: count(deleted).unwrap_or(0),
            binary: added == b"-",
        });
    }
    Some(changes)
}

/// Reads `--porcelain`: for each line `commit line-there line-here …`, then what is said of a commit when it is first named,
/// then the line itself after a tab.
fn parse_blame(out: &[u8]) -> Option<Vec<BlamedLine>> {
    let mut blamed = Vec::new();
    let mut pieces = out.strip_suffix(b"\n").unwrap_or(out).split(|byte| *byte == b'\n');
    while let Some(head) = pieces.next().filter(|head| !head.is_empty()) {
        let mut words = std::str::from_utf8(head).ok()?.split(' ');
        let (commit, line) = (CommitId::parse(words.next()?)?, words.nth(1)?.parse().ok()?);
        let text = pieces.find_map(|piece| piece.strip_prefix(b"\t"))?;
        let text = String::from_utf8_lossy(text).chars().take(LINE_MAX).collect();
        blamed.push(BlamedLine { commit, line, text });
    }
    Some(blamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_and_numstat_are_joined_by_path() {
        let out = b":100644 100644 aa bb M\0a\tb\0:000000 100755 00 cc A\0bin\x001\t2\ta\tb\0-\t-\tbin\0";
        let changes = parse_changes(out).unwrap();
        assert_eq!(changes[0].path, "a\tb");
        assert_eq!((changes[0].added, changes[0].deleted, changes[0].binary), (1, 2, false));
        assert_eq!((changes[1].kind, changes[1].binary), (ChangeKind::Added, true));
    }
}
