//! Jest's default reporter, terse or `--verbose`. A test is named `file › describe › test`, a file that cannot be run by its
//! path.
//!
//! Jest is loud by itself where there is one file only. Passing tests of a single file are therefore counted, not named: else
//! a change that adds the second file would seem to have lost them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::LazyLock,
};

use domain::check::TestStatus;
use regex::Regex;

use super::{
    Lines, Located, Passes, Report, Tally,
    text::{counts, expression, own_frame, relative},
};

static FILE: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^ ?(?:PASS|FAIL) +(?:\S+ )?(\S+\.[cm]?[jt]sx?)(?: \(\d[\d.]* m?s\))?$"));
static CASE: LazyLock<Regex> = LazyLock::new(|| expression(r"^( {2,})([✓✕○✎√×]) (.+?)(?: \(\d[\d.]* m?s\))?$"));
static TITLE: LazyLock<Regex> = LazyLock::new(|| expression(r"^  ● (.+)$"));
static TOTAL: LazyLock<Regex> = LazyLock::new(|| expression(r"^Tests: +(?:(.+), )?\d+ total$"));

/// What a file says of itself rather than of a test.
const NO_SUITE: &str = "Test suite failed to run";
const CONSOLE: &str = "Console";

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let mut from = 0;
    let mut before = None;
    while let Some(first) = (from..lines.len()).find(|index| is_open(lines, *index)) {
        let totals = (first..lines.len()).find(|index| is_totals(lines, *index));
        let end = totals.unwrap_or(lines.len());
        let told = totals.and_then(|index| {
            Some(TOTAL.captures(lines.at(index))?.get(1).map_or(Tally::default(), |told| counts(told.as_str())))
        });
        let is_repeated = first == end && told.is_some() && told == before;
        if is_repeated {
            // A run that bails out sums up twice.
            report.cut_short = true;
        } else {
            report.absorb(session(lines, first..end, told));
        }
        before = told;
        from = end + 1;
        // `Test Suites:` stands above the tests' line, snapshots and time below it.
        let is_below =
            |line: &str| ["Snapshots:", "Time:", "Ran all test suites"].iter().any(|mark| line.starts_with(mark));
        while is_below(lines.at(from)) {
            from += 1;
        }
        lines.claim(first.saturating_sub(usize::from(first == end))..from);
    }
}

/// Whether a run's report may start here: Vitest's is read before.
fn is_open(lines: &Lines<'_>, index: usize) -> bool {
    !lines.is_claimed(index) && (is_file(lines.at(index)) || is_totals(lines, index))
}

fn is_file(line: &str) -> bool {
    // In colour the word stands between blanks.
    let word = line.strip_prefix(' ').unwrap_or(line);
    (word.starts_with("PASS ") || word.starts_with("FAIL ")) && FILE.is_match(line)
}

fn is_totals(lines: &Lines<'_>, index: usize) -> bool {
    lines.at(index).starts_with("Tests: ")
        && index > 0
        && lines.at(index - 1).starts_with("Test Suites: ")
        && TOTAL.is_match(lines.at(index))
}

/// Reads the files of one run. Without totals it was killed or crashed.
fn session(lines: &Lines<'_>, range: Range<usize>, told: Option<Tally>) -> Report {
    // Where there are many, failures are shown once more at the end.
    let retold = range.clone().find(|index| lines.at(*index) == "Summary of all failing tests");
    let range = range.start..retold.unwrap_or(range.end);
    let starts: Vec<usize> = range.clone().filter(|index| is_file(lines.at(*index))).collect();
    let mut named = Report::default();
    let mut broken_files = BTreeSet::new();
    for (nth, start) in starts.iter().enumerate() {
        let end = starts.get(nth + 1).copied().unwrap_or(range.end);
        let Some(path) = FILE.captures(lines.at(*start)).map(|found| relative(&found[1])) else { continue };
        let mut tests = cases(lines, start + 1..end, &path);
        for (title, body) in titles(lines, start + 1..end) {
            let name = match title {
                CONSOLE => continue,
                NO_SUITE => path.clone(),
                test => format!("{path} › {test}"),
            };
            if title == NO_SUITE {
                broken_files.insert(name.clone());
            } else if tests.get(&name).is_none_or(|tally| tally.failed == 0) {
                tests.entry(name.clone()).or_default().count(TestStatus::Failed);
            }
            if named.has_room() {
                named.locate(failure(lines, body, name));
            }
        }
        if starts.len() == 1 {
            tests.retain(|_, tally| {
                tally.passed = 0;
                *tally != Tally::default()
            });
            named.passes = Passes::Counted;
        }
        tests.into_iter().for_each(|(name, tally)| named.tests.entry(name).or_default().add(tally));
    }
    match told {
        Some(told) => named.sum_up(told),
        None => named.broken = true,
    }
    named.cut_short = told.is_none() || !broken_files.is_empty();
    // The totals count tests only.
    broken_files.iter().for_each(|path| named.record(path, TestStatus::Failed));
    named
}

/// The results that a loud report lists below a file, by their way down.
fn cases(lines: &Lines<'_>, range: Range<usize>, path: &str) -> BTreeMap<String, Tally> {
    let mut tests: BTreeMap<String, Tally> = BTreeMap::new();
    let mut way: Vec<&str> = Vec::new();
    for line in range.map(|index| lines.at(index)).take_while(|line| line.starts_with("  ") && !TITLE.is_match(line)) {
        let depth = (line.len() - line.trim_start().len()) / 2 - 1;
        way.truncate(depth);
        let Some(found) = CASE.captures(line) else {
            way.resize(depth, "");
            way.push(line.trim());
            continue;
        };
        let (status, own) = match &found[2] {
            "✓" | "√" => (TestStatus::Passed, &found[3]),
            "✕" | "×" => (TestStatus::Failed, &found[3]),
            _ => (TestStatus::Skipped, found[3].trim_start_matches("skipped ").trim_start_matches("todo ")),
        };
        let name = [path].iter().chain(&way).chain(&[own]).copied().collect::<Vec<_>>().join(" › ");
        tests.entry(name).or_default().count(status);
    }
    tests
}

/// The blocks below a file: their titles and the lines under them.
fn titles<'a>(lines: &Lines<'a>, range: Range<usize>) -> Vec<(&'a str, Range<usize>)> {
    let starts: Vec<usize> = range.clone().filter(|index| TITLE.is_match(lines.at(*index))).collect();
    let end = |nth: usize| starts.get(nth + 1).copied().unwrap_or(range.end);
    let block = |(nth, start): (usize, &usize)| (lines.at(*start).trim_start_matches("  ● "), start + 1..end(nth));
    starts.iter().enumerate().map(block).collect()
}

/// The words of a block up to the excerpt of the source, and the first frame of the repository's own.
fn failure(lines: &Lines<'_>, range: Range<usize>, test: String) -> Located {
    let (path, line) = range.clone().find_map(|index| own_frame(lines.at(index))).unzip();
    let is_source = |line: &&str| {
        let line = line.trim_start().trim_start_matches("> ");
        line.split_once(" |").is_some_and(|(number, _)| number.parse::<u32>().is_ok()) || line.starts_with("at ")
    };
    let words = range.map(|index| lines.at(index)).take_while(|line| !is_source(line));
    let words: Vec<&str> = words.map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    let words = words.join("\n").trim().to_owned();
    Located { test: Some(test), path, line, message: words }
}
