//! Located messages that belong to no test, in the order in which they help: errors before warnings, the first cause first,
//! each once.

use std::collections::BTreeSet;

use super::{LOCATED, Located, Report};

/// One message and how bad it is.
#[derive(Debug)]
pub(super) struct Complaint {
    is_mild: bool,
    located: Located,
}

impl Complaint {
    pub fn at(path: String, line: Option<u32>, message: &str) -> Self {
        let located = Located { test: None, path: Some(path), line, message: message.to_owned() };
        Self { is_mild: false, located }
    }

    /// A warning: told only where there is nothing worse.
    pub fn mild(self) -> Self {
        Self { is_mild: true, ..self }
    }
}

/// What the readers found, with the line on which it stood.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    errors: Vec<(usize, Located)>,
    mild: Vec<(usize, Located)>,
    seen: BTreeSet<(Option<String>, Option<u32>, String)>,
}

impl Complaints {
    /// Whether more would not be told.
    pub fn are_enough(&self) -> bool {
        self.errors.len() >= LOCATED
    }

    /// Takes one, unless it was told before: a crate that is compiled twice complains twice.
    pub fn add(&mut self, index: usize, complaint: Complaint) {
        let Complaint { is_mild, located } = complaint;
        let list = if is_mild { &mut self.mild } else { &mut self.errors };
        let key = (located.path.clone(), located.line, located.message.clone());
        if list.len() < LOCATED && self.seen.insert(key) {
            list.push((index, located));
        }
    }

    /// Hands the errors on. Warnings explain a run only that tells of no error and no test.
    pub fn tell(self, report: &mut Report) {
        let explains = self.errors.is_empty() && report.total() == super::Tally::default();
        let mut told = if explains { self.mild } else { self.errors };
        told.sort_by_key(|(index, _)| *index);
        told.into_iter().for_each(|(_, located)| report.locate(located));
    }
}
