//! JUnit files at their usual places, as far as the run itself wrote them: one that came with the commit is the agent's word.

use std::{collections::BTreeMap, time::SystemTime};

use domain::{
    Fault,
    ports::sandbox::{Entry, EntryKind, Files},
};

/// Bytes of one file; a longer one is not read.
const LONGEST: usize = 16 << 20;
/// Files taken.
const MOST: usize = 200;

/// Files at the root, and directories whose `*.xml` count.
const FILES: &[&str] = &["junit.xml", "test-results.xml", "report.xml"];
const DIRECTORIES: &[&str] = &[
    "test-results",
    "test-reports",
    "reports",
    "build/test-results/test",
    "target/surefire-reports",
    "target/nextest/default",
    "target/nextest/ci",
];

/// What tells a file written anew from the same one untouched, by its path from the root.
pub(crate) type Stamps = BTreeMap<String, (SystemTime, u64)>;

/// Looks where reports are written, without following a link.
pub(crate) fn find(files: &dyn Files) -> Result<Stamps, Fault> {
    let mut seen = Seen { files, listed: BTreeMap::new() };
    let is_report = |entry: &Entry| FILES.contains(&entry.name.as_str());
    let mut stamps: Stamps = stamped(seen.entries(ROOT)?, "", is_report).collect();
    for directory in DIRECTORIES {
        let entries = seen.entries(directory)?;
        stamps.extend(stamped(entries, &format!("{directory}/"), |entry| entry.name.ends_with(".xml")));
    }
    Ok(stamps)
}

const ROOT: &str = ".";

/// Directories that were listed, each once.
struct Seen<'a> {
    files: &'a dyn Files,
    listed: BTreeMap<String, Vec<Entry>>,
}

impl Seen<'_> {
    /// What is in a directory; nothing where a part of its path is a link.
    fn entries(&mut self, directory: &str) -> Result<&[Entry], Fault> {
        if !self.listed.contains_key(directory) {
            let (parent, name) = directory.rsplit_once('/').unwrap_or((ROOT, directory));
            let is_it = |entry: &Entry| entry.name == name && entry.kind == EntryKind::Directory;
            let is_real = directory == ROOT || self.entries(parent)?.iter().any(is_it);
            let entries = if is_real { self.files.list(directory)? } else { Vec::new() };
            self.listed.insert(directory.to_owned(), entries);
        }
        Ok(&self.listed[directory])
    }
}

fn stamped<'a>(
    entries: &'a [Entry],
    prefix: &str,
    is_report: impl Fn(&Entry) -> bool + 'a,
) -> impl Iterator<Item = (String, (SystemTime, u64))> + 'a {
    let reports = entries.iter().filter(move |entry| entry.kind == EntryKind::File && is_report(entry));
    let prefix = prefix.to_owned();
    reports.map(move |entry| (format!("{prefix}{}", entry.name), (entry.modified, entry.bytes)))
}

/// The contents of what was written since `before`. What cannot be read says nothing.
pub(crate) fn read(files: &dyn Files, before: &Stamps) -> Vec<String> {
    let after = find(files).unwrap_or_default();
    let written = after.into_iter().filter(|(path, stamp)| before.get(path) != Some(stamp));
    written
        .take(MOST)
        .filter_map(|(path, _)| {
            let (content, length) = files.read(&path, 0, LONGEST).ok()?;
            (length as usize == content.len()).then(|| String::from_utf8_lossy(&content).into_owned())
        })
        .collect()
}
