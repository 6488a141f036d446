//! JUnit and SARIF files at their usual places, as far as the run itself wrote them: one that came with the commit is the agent's word.

use std::{collections::BTreeMap, time::SystemTime};

use domain::{
    Fault,
    ports::sandbox::{Entry, EntryKind, Files},
};

/// Bytes of one file; a longer one is not read.
const LONGEST: usize = 16 << 20;
/// Files taken, and bytes of all of them: they are what the checked commit writes, and are held in memory together.
const MOST: usize = 200;
const ALTOGETHER: usize = 64 << 20;

/// Files at the root besides `*.sarif`, and directories whose `*.xml` and `*.sarif` count.
const FILES: &[&str] = &["junit.xml", "test-results.xml", "report.xml"];
const DIRECTORIES: &[&str] = &[
    "test-results",
    "test-reports",
    "reports",
    "build/reports",
    "build/test-results/test",
    "target/surefire-reports",
    "target/failsafe-reports",
    "target/nextest/default",
    "target/nextest/ci",
];

/// What tells a file written anew from the same one untouched, by its path from the root.
pub(crate) type Stamps = BTreeMap<String, (SystemTime, u64)>;

/// Looks where reports are written, without following a link.
pub(crate) fn find(files: &dyn Files) -> Result<Stamps, Fault> {
    let mut seen = Seen { files, listed: BTreeMap::new() };
    let is_report = |entry: &Entry| FILES.contains(&entry.name.as_str()) || entry.name.ends_with(".sarif");
    let mut stamps: Stamps = stamped(seen.entries(ROOT)?, "", is_report).collect();
    for directory in DIRECTORIES {
        let entries = seen.entries(directory)?;
        stamps.extend(stamped(entries, &format!("{directory}/"), |entry| is_filed(&entry.name)));
    }
    Ok(stamps)
}

fn is_filed(name: &str) -> bool {
    name.ends_with(".xml") || name.ends_with(".sarif")
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

/// The contents of what was written since `before`. What cannot be read, or is too large, says nothing.
pub(crate) fn read(files: &dyn Files, before: &Stamps) -> Vec<String> {
    let after = find(files).unwrap_or_default();
    let written = after.into_iter().filter(|(path, stamp)| before.get(path) != Some(stamp));
    let mut left = ALTOGETHER;
    written
        .take(MOST)
        .filter_map(|(path, (_, bytes))| {
            let most = LONGEST.min(left);
            if bytes > most as u64 {
                return None;
            }
            // It may have grown meanwhile.
            let (content, length) = files.read(&path, 0, most).ok()?;
            left -= content.len();
            (length == content.len() as u64).then(|| String::from_utf8_lossy(&content).into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;

    use super::*;

    /// A directory of reports of this size each.
    struct Reports {
        bytes: u64,
        read: Mutex<usize>,
    }

    impl Files for Reports {
        fn read(&self, _: &str, _: u64, max: usize) -> Result<(Bytes, u64), Fault> {
            let content = vec![b' '; max.min(self.bytes as usize)];
            *self.read.lock().unwrap() += content.len();
            Ok((content.into(), self.bytes))
        }

        fn write(&self, path: &str, _: &[u8]) -> Result<(), Fault> {
            Err(Fault::input(path))
        }

        fn list(&self, directory: &str) -> Result<Vec<Entry>, Fault> {
            let entry = |name: String, kind| Entry { name, kind, bytes: self.bytes, modified: SystemTime::UNIX_EPOCH };
            Ok(match directory {
                ROOT => vec![entry("reports".to_owned(), EntryKind::Directory)],
                _ => (0..300).map(|nth| entry(format!("{nth}.xml"), EntryKind::File)).collect(),
            })
        }
    }

    #[test]
    fn reports_are_read_up_to_a_bound() {
        for (bytes, taken) in [(1, MOST), (LONGEST as u64, ALTOGETHER / LONGEST), (LONGEST as u64 + 1, 0)] {
            let reports = Reports { bytes, read: Mutex::default() };
            assert_eq!(read(&reports, &Stamps::new()).len(), taken);
            assert_eq!(*reports.read.lock().unwrap(), taken * bytes as usize, "no more than what is taken");
        }
    }
}
