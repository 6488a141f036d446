//! JUnit files at their usual places, as far as the run itself wrote them: one that came with the commit is the agent's word.

use std::{collections::BTreeMap, path::Path, time::SystemTime};

use domain::ports::sandbox::Files;

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

/// Looks from the host's side without following a link. Only names and times come from here: contents are read through the
/// sandbox's own files, which never leave the workspace.
pub(crate) fn find(root: &Path) -> Stamps {
    let mut stamps = Stamps::new();
    for file in FILES {
        note(root, (*file).to_owned(), &mut stamps);
    }
    for directory in DIRECTORIES {
        let mut path = root.to_owned();
        let is_real = directory.split('/').all(|part| {
            path.push(part);
            path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
        });
        let entries = is_real.then(|| path.read_dir().ok()).flatten();
        for name in entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            if name.ends_with(".xml") {
                note(root, format!("{directory}/{name}"), &mut stamps);
            }
        }
    }
    stamps
}

fn note(root: &Path, file: String, stamps: &mut Stamps) {
    let meta = root.join(&file).symlink_metadata();
    if let Ok(meta) = meta.as_ref()
        && meta.is_file()
        && stamps.len() < MOST
        && let Ok(modified) = meta.modified()
    {
        stamps.insert(file, (modified, meta.len()));
    }
}

/// The contents of what was written since `before`. A file that cannot be read says nothing.
pub(crate) fn read(files: &dyn Files, before: &Stamps, root: &Path) -> Vec<String> {
    let written = find(root).into_iter().filter(|(path, stamp)| before.get(path) != Some(stamp));
    written
        .filter_map(|(path, _)| {
            let (content, length) = files.read(&path, 0, LONGEST).ok()?;
            (length as usize == content.len()).then(|| String::from_utf8_lossy(&content).into_owned())
        })
        .collect()
}
