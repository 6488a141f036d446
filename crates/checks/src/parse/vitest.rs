//! Vitest's default and verbose reporters. A test is named `file > suite > test`, a file or suite that cannot be run by its own
//! way.
//!
//! The default reporter lists the passing tests of files in which one fails, and of no others: they are counted, not named,
//! else a mended file would seem to have lost its tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::LazyLock,
};

use domain::check::TestStatus;
use regex::Regex;

use super::{
    LOCATED, Lines, Located, Report,
    text::{counts, expression, is_own, place},
};

static RUN: LazyLock<Regex> = LazyLock::new(|| expression(r"^ ?(?:RUN|DEV) +v\d+\.\d+\.\d+"));
static CASE: LazyLock<Regex> = LazyLock::new(|| {
    expression(
        r"^ ([✓×↓□]) (?:\|[^|]+\| )?(\S+\.[cm]?[jt]sx? > .+?)(?: \[[^\]]*\])?(?: \((?:retry|repeat) x\d+\))?(?: \d+m?s)?$",
    )
});
static FAILED: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^ FAIL  (?:\|[^|]+\| )?(\S+\.[cm]?[jt]sx?)( > .+?)?(?: \[ .+ \])?$"));
static TOTAL: LazyLock<Regex> = LazyLock::new(|| expression(r"^ +Tests  (.+?)(?: \((\d+)\))?$"));

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let mut from = 0;
    while let Some(start) = (from..lines.len()).find(|index| RUN.is_match(lines.at(*index))) {
        let next = (start + 1..lines.len()).find(|index| RUN.is_match(lines.at(*index))).unwrap_or(lines.len());
        // A test may print anything, so that the last totals are the run's own.
        let totals = (start..next).rev().find(|index| is_totals(lines, *index));
        report.absorb(session(lines, start..totals.unwrap_or(next), totals));
        from = totals.map_or(next, |index| index + 1);
        let is_below = |line: &str| [" Errors  ", " Start at  ", " Duration  "].iter().any(|mark| line.contains(mark));
        while from < next && is_below(lines.at(from)) {
            from += 1;
        }
        lines.claim(start..from);
        from = next;
    }
}

fn is_totals(lines: &Lines<'_>, index: usize) -> bool {
    index > 0 && lines.at(index - 1).trim_start().starts_with("Test Files  ") && TOTAL.is_match(lines.at(index))
}

fn session(lines: &Lines<'_>, range: Range<usize>, totals: Option<usize>) -> Report {
    let mut named = Report::default();
    for found in range.clone().filter_map(|index| CASE.captures(lines.at(index))) {
        let status = match &found[1] {
            "✓" => TestStatus::Passed,
            "×" => TestStatus::Failed,
            _ => TestStatus::Skipped,
        };
        named.record(&found[2], status);
    }
    let mut suites = BTreeSet::new();
    for (name, is_suite, body) in failures(lines, range) {
        if is_suite {
            suites.insert(name.clone());
        } else if named.tests.get(&name).is_none_or(|tally| tally.failed == 0) {
            named.record(&name, TestStatus::Failed);
        }
        if named.has_room() {
            named.locate(failure(lines, body, name));
        }
    }
    match totals.and_then(|index| Some((index, TOTAL.captures(lines.at(index))?))) {
        Some((index, found)) => {
            let told = counts(&found[1]);
            let all = found.get(2).and_then(|all| all.as_str().parse::<u32>().ok()).unwrap_or(0);
            named.sum_up(told);
            named.cut_short = all > told.ran().saturating_add(told.skipped) || !suites.is_empty();
            // An error that belongs to no test.
            named.broken = lines.at(index + 1).trim_start().starts_with("Errors  ");
        }
        None => {
            named.broken = true;
            named.cut_short = true;
        }
    }
    // The totals count tests only.
    suites.iter().for_each(|name| named.record(name, TestStatus::Failed));
    named
}

/// The failures of the list, each name once: whether it is a suite's or file's own, and the lines that say why. Equal errors
/// stand below all of their names.
fn failures(lines: &Lines<'_>, range: Range<usize>) -> Vec<(String, bool, Range<usize>)> {
    let mut found: BTreeMap<String, (usize, bool, Range<usize>)> = BTreeMap::new();
    let mut in_suites = false;
    for index in range.clone() {
        let line = lines.at(index);
        if line.starts_with('⎯') {
            in_suites = (in_suites && !line.contains(" Failed Tests ")) || line.contains(" Failed Suites ");
        } else if let Some(failed) = line.starts_with(" FAIL  ").then(|| FAILED.captures(line)).flatten() {
            let is_suite = in_suites || failed.get(2).is_none();
            let name = format!("{}{}", &failed[1], failed.get(2).map_or("", |way| way.as_str()));
            if found.contains_key(&name) {
                continue;
            }
            let nth = found.len();
            // Only so many are told of: to look for the words of all would take too long where there are very many.
            let body = if nth < LOCATED { body(lines, index..range.end) } else { index..index };
            found.insert(name, (nth, is_suite, body));
        }
    }
    let mut list: Vec<_> = found.into_iter().collect();
    list.sort_by_key(|(_, (nth, ..))| *nth);
    list.into_iter().map(|(name, (_, is_suite, body))| (name, is_suite, body)).collect()
}

/// The lines below a failure's name, or below the names that share them.
fn body(lines: &Lines<'_>, range: Range<usize>) -> Range<usize> {
    let end = range.end;
    let from = (range.start..end).find(|next| !lines.at(*next).starts_with(" FAIL  ")).unwrap_or(end);
    let to = (from..end).find(|next| lines.at(*next).starts_with('⎯')).unwrap_or(end);
    from..to
}

/// The words of a failure up to its first frame, and that frame.
fn failure(lines: &Lines<'_>, range: Range<usize>, test: String) -> Located {
    let own = |line: &str| {
        let frame = line.strip_prefix(" ❯ ")?;
        place(frame.rsplit(' ').next()?).filter(|(path, _)| is_own(path))
    };
    let (path, line) = range.clone().find_map(|index| own(lines.at(index))).unzip();
    let words = range.map(|index| lines.at(index)).take_while(|line| !line.starts_with(" ❯ "));
    let words = words.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    Located { test: Some(test), path, line, message: words }
}
