//! From what a run left behind to named tests and located messages. One file per format; each recognises its own text by
//! strong marks and claims the lines it understood. What no format claims and looks like an error is kept as *loose*: it
//! keeps a failure that no test explains from being taken for a known one.

mod cargo;
mod compiler;
mod complaints;
mod ctest;
mod documents;
mod findings;
mod go;
mod gtest;
mod jest;
mod junit;
mod linter;
mod machine;
mod minitest;
mod mocha;
mod nextest;
mod node;
mod phpunit;
mod prove;
mod pytest;
mod results;
mod rspec;
mod sarif;
mod surefire;
mod tap;
mod text;
mod unittest;
mod vitest;

use std::collections::{BTreeMap, BTreeSet};

use complaints::Complaints;
use domain::check::TestStatus;
use serde::{Deserialize, Serialize};

pub(crate) use machine::translated as for_people;
pub(crate) use text::{complaint, cut, normal_line, readable};

/// Loose lines kept, different ones.
const LOOSE: usize = 200;
/// Located messages kept.
const LOCATED: usize = 200;
/// Bytes of one located message.
const MESSAGE: usize = 1500;

/// How often something ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub passed: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Tally {
    pub fn count(&mut self, status: TestStatus) {
        let slot = match status {
            TestStatus::Passed => &mut self.passed,
            TestStatus::Failed => &mut self.failed,
            TestStatus::Skipped => &mut self.skipped,
        };
        *slot = slot.saturating_add(1);
    }

    pub fn add(&mut self, other: Self) {
        self.passed = self.passed.saturating_add(other.passed);
        self.failed = self.failed.saturating_add(other.failed);
        self.skipped = self.skipped.saturating_add(other.skipped);
    }

    /// What is here beyond `other`.
    pub fn beyond(self, other: Self) -> Self {
        Self {
            passed: self.passed.saturating_sub(other.passed),
            failed: self.failed.saturating_sub(other.failed),
            skipped: self.skipped.saturating_sub(other.skipped),
        }
    }

    /// Passed or failed, not skipped.
    pub fn ran(self) -> u32 {
        self.passed.saturating_add(self.failed)
    }
}

/// A message with the place it speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Located {
    pub test: Option<String>,
    /// As printed, the workspace's root taken away.
    pub path: Option<String>,
    pub line: Option<u32>,
    pub message: String,
}

/// What a report says of the tests that pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Passes {
    #[default]
    Named,
    /// Only how many: a name that is absent may be one that passed.
    Counted,
    /// Not even how many.
    Untold,
}

/// What one run told of its tests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// By name. The same name may end several times, as formats do not always say which package a test belongs to.
    pub tests: BTreeMap<String, Tally>,
    /// Results that were counted and not named.
    #[serde(default)]
    pub unnamed: Tally,
    #[serde(default)]
    pub passes: Passes,
    /// Something broke that is not among the tests: a suite that never ended, a plan that was not kept.
    #[serde(default)]
    pub broken: bool,
    /// It stopped before everything ran, so that an absent test says nothing.
    #[serde(default)]
    pub cut_short: bool,
    /// Lines that look like errors and belong to no report, without what changes from run to run.
    #[serde(default)]
    pub loose: BTreeSet<String>,
    #[serde(skip)]
    pub located: Vec<Located>,
}

impl Report {
    fn record(&mut self, name: &str, status: TestStatus) {
        self.tests.entry(name.to_owned()).or_default().count(status);
    }

    /// Whether more messages would be kept: finding one costs more than the line it stands on.
    fn has_room(&self) -> bool {
        self.located.len() < LOCATED
    }

    fn locate(&mut self, mut located: Located) {
        if self.has_room() {
            located.message = text::cut(located.message.trim_end(), MESSAGE).to_owned();
            self.located.push(located);
        }
    }

    fn absorb(&mut self, other: Self) {
        for (name, tally) in other.tests {
            self.tests.entry(name).or_default().add(tally);
        }
        self.unnamed.add(other.unnamed);
        self.passes = self.passes.max(other.passes);
        self.broken |= other.broken;
        self.cut_short |= other.cut_short;
        self.loose.extend(other.loose);
        other.located.into_iter().for_each(|located| self.locate(located));
    }

    /// Takes a summary's totals: what they hold beyond the names was counted only.
    fn sum_up(&mut self, told: Tally) {
        self.unnamed = told.beyond(self.total());
        if self.unnamed.passed > 0 {
            self.passes = Passes::Counted;
        }
    }

    /// All results, named or not.
    pub fn total(&self) -> Tally {
        let mut total = self.unnamed;
        self.tests.values().for_each(|tally| total.add(*tally));
        total
    }

    pub fn failed_names(&self) -> impl Iterator<Item = &str> {
        self.tests.iter().filter(|(_, tally)| tally.failed > 0).map(|(name, _)| name.as_str())
    }
}

/// The lines of an output, and which of them a format has understood.
struct Lines<'a> {
    text: Vec<&'a str>,
    claimed: Vec<bool>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let text: Vec<&str> = text.lines().collect();
        let claimed = vec![false; text.len()];
        Self { text, claimed }
    }

    fn len(&self) -> usize {
        self.text.len()
    }

    /// `""` beyond the end.
    fn at(&self, index: usize) -> &'a str {
        self.text.get(index).copied().unwrap_or("")
    }

    fn is_claimed(&self, index: usize) -> bool {
        self.claimed.get(index).copied().unwrap_or(false)
    }

    fn claim(&mut self, range: std::ops::Range<usize>) {
        let end = range.end.min(self.claimed.len());
        self.claimed[range.start.min(end)..end].fill(true);
    }

    fn unclaimed(&self) -> impl Iterator<Item = (usize, &'a str)> {
        self.text.iter().copied().enumerate().filter(|(index, _)| !self.claimed[*index])
    }
}

/// Reads the output and the contents of the JUnit and SARIF files that the run wrote, all of them already [`readable`].
pub(crate) fn parse(output: &str, files: &[String]) -> Report {
    let output = machine::translated(output);
    let mut lines = Lines::new(&output);
    let mut report = Report::default();
    // nextest, CTest and prove print what a test's own binary says, which is another's format, within their reports.
    for read in [
        nextest::read,
        ctest::read,
        prove::read,
        cargo::read,
        gtest::read,
        pytest::read,
        unittest::read,
        rspec::read,
        minitest::read,
        phpunit::read,
        surefire::read,
        tap::read,
        go::read,
        node::read,
        vitest::read,
        jest::read,
        mocha::read,
    ] {
        read(&mut lines, &mut report);
    }
    let printed = documents::junit(&mut lines);
    let (sarif_files, junit_files): (Vec<&String>, Vec<&String>) = files.iter().partition(|file| sarif::is_it(file));
    prefer(&mut report, merged(printed.iter().filter_map(|content| junit::read(content))));
    prefer(&mut report, merged(junit_files.into_iter().filter_map(|content| junit::read(content))));
    // Complaints are located and claim nothing: they explain a failure to its reader, never to the verdict.
    let mut complaints = Complaints::default();
    for (range, document) in documents::json(&lines) {
        match results::read(&document) {
            Some(written) => {
                prefer(&mut report, written);
                lines.claim(range);
            }
            None => findings::read(range.start, &document, &mut complaints),
        }
    }
    compiler::read(&lines, &mut complaints);
    linter::read(&lines, &mut complaints);
    sarif_files.iter().for_each(|file| sarif::read_file(file, &mut complaints));
    complaints.tell(&mut report);
    if report.tests.keys().any(|name| name.contains("0x")) {
        let stable = |(name, tally)| (text::without_addresses(name), tally);
        report.tests = gather(std::mem::take(&mut report.tests).into_iter().map(stable));
        for located in &mut report.located {
            located.test = located.test.take().map(text::without_addresses);
        }
    }
    for (_, line) in lines.unclaimed().filter(|(_, line)| text::looks_like_error(line)) {
        if report.loose.len() == LOOSE {
            // Not all are held, so that nobody can say that another run complained of the same.
            report.broken = true;
            break;
        }
        report.loose.insert(normal_line(line));
    }
    report
}

fn gather(results: impl Iterator<Item = (String, Tally)>) -> BTreeMap<String, Tally> {
    let mut tests: BTreeMap<String, Tally> = BTreeMap::new();
    results.for_each(|(name, tally)| tests.entry(name).or_default().add(tally));
    tests
}

fn merged(reports: impl Iterator<Item = Report>) -> Report {
    let mut all = Report::default();
    reports.for_each(|one| all.absorb(one));
    all
}

/// A JUnit or JSON document names what a terminal report often only counts, so it takes its place; but it never hides what
/// the terminal showed: where it tells of fewer failures or fewer tests, both count.
fn prefer(report: &mut Report, mut written: Report) {
    let (shown, told) = (report.total(), written.total());
    if written.tests.is_empty() {
        report.broken |= written.broken;
        return;
    }
    if told.failed >= shown.failed && told.ran() >= shown.ran() && !report.broken {
        let loud = std::mem::take(report);
        written.cut_short |= loud.cut_short;
        *report = written;
    } else {
        report.absorb(written);
    }
}

#[cfg(test)]
pub(crate) mod tests;
