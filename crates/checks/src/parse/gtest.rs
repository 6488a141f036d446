//! GoogleTest, loud or `--gtest_brief=1`. A test is named `Suite.test`, `Instance/Suite.test/0`; what it is given is left out.
//!
//! A brief run names no passing test: they are counted.

use std::{ops::Range, sync::LazyLock};

use domain::check::TestStatus;
use regex::Regex;

use super::{
    Lines, Located, Passes, Report, Tally,
    text::{expression, relative},
};

static ENDED: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^\[ +(OK|FAILED|SKIPPED) +\] (\S+?)(?:, where .*)? \(\d+ ms\)$"));
static TOTAL: LazyLock<Regex> = LazyLock::new(|| expression(r"^\[ +(PASSED|FAILED|SKIPPED) +\] (\d+) tests?[.,]"));
static PLACE: LazyLock<Regex> = LazyLock::new(|| expression(r"^(\S[^:]*):(\d+): (?:Failure|error)"));

const RUN: &str = "[ RUN      ] ";
const BAR: &str = "[==========] ";

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let mut from = 0;
    while let Some(first) = (from..lines.len()).find(|index| !lines.is_claimed(*index) && is_start(lines.at(*index))) {
        // A brief run prints an assertion before anything else.
        let said = (from..first).rev().take_while(|index| !lines.at(*index).is_empty()).last().unwrap_or(first);
        let first = if lines.at(first).starts_with(BAR) { first } else { said };
        let is_next = |index: &usize| lines.at(*index).starts_with(BAR) && lines.at(*index).contains("] Running ");
        let next = (first + 1..lines.len()).find(is_next).unwrap_or(lines.len());
        let (named, end) = session(lines, first..next);
        report.absorb(named);
        lines.claim(first..end);
        from = end;
    }
}

fn is_start(line: &str) -> bool {
    line.starts_with('[') && (line.starts_with(BAR) || ENDED.is_match(line))
}

/// Reads one binary's run, and says where it ends.
fn session(lines: &Lines<'_>, range: Range<usize>) -> (Report, usize) {
    let mut named = Report::default();
    let mut told: Option<Tally> = None;
    let mut end = range.start + 1;
    let mut open: Option<(usize, &str)> = None;
    let mut after = range.start;
    for index in range {
        let line = lines.at(index);
        if let Some(name) = line.strip_prefix(RUN) {
            open = Some((index, name.split(", where ").next().unwrap_or(name)));
        } else if let Some(found) = ENDED.captures(line) {
            let from = open.take().map_or(after, |(start, _)| start);
            let name = found[2].to_owned();
            match &found[1] {
                "OK" => named.record(&name, TestStatus::Passed),
                "SKIPPED" => named.record(&name, TestStatus::Skipped),
                _ => {
                    named.record(&name, TestStatus::Failed);
                    named.locate(failure(lines, from + 1..index, name));
                }
            }
            after = index;
        } else if let Some(found) = TOTAL.captures(line) {
            let number = found[2].parse().unwrap_or(0);
            let told = told.get_or_insert_default();
            match &found[1] {
                "PASSED" => told.passed = number,
                "FAILED" => told.failed = number,
                _ => told.skipped = number,
            }
        } else if !line.starts_with('[') {
            continue;
        }
        end = index + 1;
    }
    if let Some((start, name)) = open {
        // It took the whole binary down.
        named.record(name, TestStatus::Failed);
        let message = "it started and never ended".to_owned();
        let said = failure(lines, start + 1..end, name.to_owned());
        named.locate(if said.message.is_empty() { Located { message, ..said } } else { said });
    }
    match told {
        Some(told) => named.sum_up(told),
        None => (named.broken, named.cut_short) = (true, true),
    }
    if named.tests.values().all(|tally| tally.passed == 0) && named.unnamed.passed == 0 {
        // Loud or not, there was none to name.
        named.passes = Passes::Named;
    }
    (named, end)
}

/// The first assertion that failed, and what it says.
pub(super) fn failure(lines: &Lines<'_>, range: Range<usize>, test: String) -> Located {
    let is_head = |index: &usize| lines.at(*index) == "unknown file: Failure" || PLACE.is_match(lines.at(*index));
    let first = range.clone().find(is_head);
    let found = first.and_then(|index| PLACE.captures(lines.at(index)));
    let place = found.and_then(|found| Some((relative(&found[1]), found[2].parse().ok()?)));
    let from = first.map_or(range.start, |first| first + 1);
    let is_said = |line: &&str| !line.starts_with('[') && !PLACE.is_match(line);
    let words: Vec<&str> = (from..range.end).map(|index| lines.at(index)).take_while(is_said).collect();
    let (path, line) = place.unzip();
    Located { test: Some(test), path, line, message: words.join("\n").trim().to_owned() }
}
