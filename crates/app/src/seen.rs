//! What a person last saw of each task, kept by the command line: an approval names that, and nothing newer.

use std::{fs, io::ErrorKind, path::PathBuf};

use domain::{
    Fault,
    ids::{CommitId, RequestId, TaskId},
};

use crate::home::Home;

/// Something that can be approved, as it was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    Head(CommitId),
    Plan(RequestId),
}

fn file(home: &Home, task: TaskId) -> PathBuf {
    home.seen_directory().join(task.to_string())
}

/// What was shown last; `None` when nothing was.
pub fn recall(home: &Home, task: TaskId) -> Result<Option<Shown>, Fault> {
    let path = file(home, task);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::environment(format!("{} cannot be read: {error}", path.display()))),
    };
    let shown = match text.trim().split_once(' ') {
        Some(("head", commit)) => CommitId::parse(commit).map(Shown::Head),
        Some(("plan", request)) => request.parse().ok().map(|number| Shown::Plan(RequestId(number))),
        Some(_) | None => None,
    };
    Ok(shown)
}

/// Remembers what is on the screen now. Each task has a file of its own, so that commands side by side do not mix.
pub fn remember(home: &Home, task: TaskId, shown: &Shown) -> Result<(), Fault> {
    if recall(home, task)?.as_ref() == Some(shown) {
        return Ok(());
    }
    let text = match shown {
        Shown::Head(commit) => format!("head {commit}\n"),
        Shown::Plan(request) => format!("plan {request}\n"),
    };
    let path = file(home, task);
    let written = fs::create_dir_all(home.seen_directory()).and_then(|()| {
        let new = path.with_extension(format!("{}.new", std::process::id()));
        fs::write(&new, text)?;
        fs::rename(&new, &path)
    });
    written.map_err(|error| Fault::environment(format!("{} cannot be written: {error}", path.display())))
}

/// Forgets what was shown of a task that has ended.
pub fn forget(home: &Home, task: TaskId) {
    // What stays behind is only a few bytes about a task that cannot be approved any more.
    let _ = fs::remove_file(file(home, task));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thing_shown_counts() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path()).unwrap();
        assert_eq!(recall(&home, TaskId(1)).unwrap(), None);
        let head = Shown::Head(CommitId::parse(&"a".repeat(40)).unwrap());
        for shown in [Shown::Plan(RequestId(3)), head] {
            remember(&home, TaskId(1), &shown).unwrap();
            assert_eq!(recall(&home, TaskId(1)).unwrap(), Some(shown));
        }
        assert_eq!(recall(&home, TaskId(2)).unwrap(), None);
        forget(&home, TaskId(1));
        assert_eq!(recall(&home, TaskId(1)).unwrap(), None);
    }
}
