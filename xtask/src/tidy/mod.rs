//! `cargo xtask tidy`: the rules of the house that a program can check. Each rule is a function from the files to complaints.

mod docs;
mod imports;
mod licences;
mod sources;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::house;

/// One breach of a rule: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    pub path: PathBuf,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    pub what: String,
}

impl Complaint {
    fn of_file(path: &Path, what: impl Into<String>) -> Self {
        Self { path: path.into(), line: 0, what: what.into() }
    }

    fn of_line(path: &Path, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.into(), line, what: what.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path.display(), self.what),
            line => write!(f, "{}:{line}: {}", self.path.display(), self.what),
        }
    }
}

/// A text file of the house.
#[derive(Debug)]
pub(crate) struct Text {
    path: PathBuf,
    text: String,
}

impl Text {
    fn is(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|own| own == extension)
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// Every complaint about the house, sorted; empty when it is tidy. Errors only where the house cannot be looked at.
pub fn check() -> Result<Vec<Complaint>> {
    let mut texts = Vec::new();
    for path in house::files()? {
        let bytes = fs::read(house::root().join(&path)).with_context(|| format!("cannot read {}", path.display()))?;
        // Other files (archives, pictures) have no rules.
        if let Ok(text) = String::from_utf8(bytes) {
            texts.push(Text { path, text });
        }
    }
    let mut complaints = imports::check(&texts)?;
    complaints.extend(sources::check(&texts));
    complaints.extend(docs::check(&texts));
    complaints.extend(licences::check()?);
    complaints.sort();
    Ok(complaints)
}
