//! Mocha's `spec` reporter, and what the others print below the results. A test is named `suite > test`.

use std::{ops::Range, sync::LazyLock};

use domain::check::TestStatus;
use regex::Regex;

use super::{
    Lines, Located, Report, Tally,
    text::{expression, own_frame},
};

static CASE: LazyLock<Regex> = LazyLock::new(|| expression(r"^( {2,})(✔|✓|√|-|\d+\)) (.+?)(?: \(\d+ms\))?$"));
static TOTAL: LazyLock<Regex> = LazyLock::new(|| expression(r"^  (\d+) (passing|pending|failing)(?: \(\d+\w+\))?$"));
static NUMBERED: LazyLock<Regex> = LazyLock::new(|| expression(r"^  (\d+)\) (\S.*)$"));

/// Lines within which the totals stand.
const NEAR: usize = 12;

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let mut from = 0;
    while let Some(totals) = (from..lines.len()).find(|index| is_passing(lines.at(*index))) {
        let mut told = Tally::default();
        let mut below = totals + 1;
        // Something else may print in between.
        for index in totals..(totals + NEAR).min(lines.len()) {
            let Some(found) = TOTAL.captures(lines.at(index)) else { continue };
            let number: u32 = found[1].parse().unwrap_or(0);
            match &found[2] {
                "passing" if index > totals => break,
                "passing" => told.passed = number,
                "failing" => told.failed = number,
                _ => told.skipped = number,
            }
            below = index + 1;
        }
        let first = (from..totals).find(|index| CASE.is_match(lines.at(*index))).unwrap_or(totals);
        let first = (from..first).rev().take_while(|index| lines.at(*index).starts_with("  ")).last().unwrap_or(first);
        let mut named = results(lines, first..totals);
        from = failures(lines, below, told.failed, &mut named);
        named.sum_up(told);
        lines.claim(first..from);
        report.absorb(named);
    }
}

fn is_passing(line: &str) -> bool {
    line.contains(" passing (") && TOTAL.is_match(line)
}

/// What the `spec` reporter lists; a failure there has only a number, which the list below gives its words.
fn results(lines: &Lines<'_>, range: Range<usize>) -> Report {
    let mut named = Report::default();
    let mut way: Vec<&str> = Vec::new();
    for line in range.map(|index| lines.at(index)).filter(|line| line.starts_with("  ")) {
        let depth = (line.len() - line.trim_start().len()) / 2 - 1;
        way.truncate(depth);
        let Some(found) = CASE.captures(line) else {
            way.resize(depth, "");
            way.push(line.trim());
            continue;
        };
        let status = match &found[2] {
            "✔" | "✓" | "√" => TestStatus::Passed,
            "-" => TestStatus::Skipped,
            _ => continue,
        };
        let name = way.iter().chain(&[&found[3]]).copied().collect::<Vec<_>>().join(" > ");
        named.record(&name, status);
    }
    named
}

/// Reads the list of failures, as many as the totals tell of; returns the line after it.
fn failures(lines: &Lines<'_>, from: usize, most: u32, named: &mut Report) -> usize {
    let mut end = from;
    for nth in 1..=most {
        let is_it = |index: usize, nth: u32| {
            NUMBERED.captures(lines.at(index)).is_some_and(|found| found[1].parse() == Ok(nth))
        };
        let Some(start) = (end..lines.len()).find(|index| is_it(*index, nth)) else { return end };
        let next = (start + 1..lines.len()).find(|index| is_it(*index, nth + 1) && nth < most);
        // The last one's words end with its frames.
        let last = || {
            (start + 1..lines.len())
                .take_while(|index| !is_passing(lines.at(*index)))
                .filter(|index| is_frame(lines.at(*index)))
        };
        end = next.unwrap_or_else(|| after_frames(lines, start, last().next()));
        failure(lines, start..end, named);
    }
    end
}

fn is_frame(line: &str) -> bool {
    line.trim_start().starts_with("at ")
}

/// The line after the stack that starts at `frame`; where there is none, after the title.
fn after_frames(lines: &Lines<'_>, start: usize, frame: Option<usize>) -> usize {
    let first = frame.unwrap_or(start + 1);
    (first..lines.len()).find(|index| !is_frame(lines.at(*index))).unwrap_or(lines.len())
}

fn failure(lines: &Lines<'_>, range: Range<usize>, named: &mut Report) {
    let Some(found) = NUMBERED.captures(lines.at(range.start)) else { return };
    // The way down stands on a line for each suite; the last one ends with a colon.
    let mut way = vec![found[2].trim().to_owned()];
    let mut index = range.start;
    while !lines.at(index).ends_with(':') && index + 1 < range.end && !lines.at(index + 1).is_empty() {
        index += 1;
        way.push(lines.at(index).trim().to_owned());
    }
    let name = way.join(" > ");
    let name = name.strip_suffix(':').unwrap_or(&name).to_owned();
    // What a hook was to prepare did not run.
    named.cut_short |= name.contains("\" hook");
    named.record(&name, TestStatus::Failed);
    if named.has_room() {
        let body = || (index + 1..range.end).map(|index| lines.at(index));
        let (path, line) = body().find_map(own_frame).unzip();
        let words = body().take_while(|line| !is_frame(line)).map(str::trim).filter(|line| !line.is_empty());
        let message = words.collect::<Vec<_>>().join("\n");
        named.locate(Located { test: Some(name), path, line, message });
    }
}
