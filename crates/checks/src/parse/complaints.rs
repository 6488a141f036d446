//! Located messages that belong to no test, in the order in which they help: errors before warnings, the first cause first,
//! each once.

use std::collections::{BTreeMap, BTreeSet};

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
    /// What was said of a place, in bare words.
    seen: BTreeMap<(Option<String>, Option<u32>), Vec<String>>,
}

impl Complaints {
    /// Whether more would not be told.
    pub fn are_enough(&self) -> bool {
        self.errors.len() >= LOCATED
    }

    /// Takes one, unless it was told before: a crate that is compiled twice complains twice, and a finding may stand on the
    /// terminal and in a file, or be an annotation besides.
    pub fn add(&mut self, index: usize, complaint: Complaint) {
        let Complaint { is_mild, located } = complaint;
        let list = if is_mild { &mut self.mild } else { &mut self.errors };
        if list.len() == LOCATED {
            return;
        }
        let said = self.seen.entry((located.path.clone(), located.line)).or_default();
        let words = bare(&located.message);
        if said.iter().all(|before| !before.contains(&words) && !words.contains(before)) {
            said.push(words);
            list.push((index, located));
        }
    }

    /// Hands the errors on. Warnings explain a run only that tells of no error and no test.
    pub fn tell(self, report: &mut Report) {
        let explains = self.errors.is_empty() && report.total() == super::Tally::default();
        let mut told = if explains { self.mild } else { self.errors };
        told.sort_by_key(|(index, _)| *index);
        // A test that failed there says it already.
        let place = |located: &Located| located.path.clone().zip(located.line);
        let failed: BTreeSet<_> = report.located.iter().filter_map(place).collect();
        told.retain(|(_, located)| place(located).is_none_or(|place| !failed.contains(&place)));
        told.into_iter().for_each(|(_, located)| report.locate(located));
    }
}

/// The words of a message alone: no level, no rule's name at either end, no marks.
fn bare(message: &str) -> String {
    let is_rule =
        |word: &str| word.len() > 2 && word.contains(['-', '/']) || word.ends_with(|last: char| last.is_ascii_digit());
    let line = message.lines().next().unwrap_or("");
    let mut words: Vec<&str> = line.split_whitespace().collect();
    while words.len() > 1 {
        let first = words[0].trim_end_matches(':').trim_matches(['[', ']', '(', ')']);
        let is_level = matches!(&*first.to_ascii_lowercase(), "error" | "warning" | "fatal" | "note");
        if !is_level && !is_rule(first) {
            break;
        }
        words.remove(0);
    }
    while words.len() > 1 && is_rule(words[words.len() - 1].trim_matches(['[', ']', '(', ')'])) {
        words.pop();
    }
    let letters = words.join(" ");
    letters.chars().filter(|letter| letter.is_alphanumeric() || *letter == ' ').collect::<String>().to_lowercase()
}
