//! CTest. A test is named as there; what it prints belongs to it, whatever format that has.

use std::sync::LazyLock;

use domain::check::TestStatus;
use regex::Regex;

use super::{Lines, Located, Report, Tally, gtest, text::expression};

static ENDED: LazyLock<Regex> = LazyLock::new(|| {
    expression(
        r"^ *\d+/\d+ Test +#\d+: (.+?) \.*\s*(?:\*\*\*)?(Passed|Failed|Skipped|Not Run|Timeout|Exception|Error)\b(.*?) +\d+\.\d+ sec",
    )
});
static TOTAL: LazyLock<Regex> = LazyLock::new(|| expression(r"^\d+% tests passed, (\d+) tests? failed out of (\d+)$"));

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let mut from = 0;
    while let Some(first) = (from..lines.len()).find(|index| lines.at(*index).starts_with("Test project ")) {
        let is_next = |index: &usize| lines.at(*index).starts_with("Test project ");
        let next = (first + 1..lines.len()).find(is_next).unwrap_or(lines.len());
        let total = (first..next).find(|index| TOTAL.is_match(lines.at(*index)));
        let mut named = Report::default();
        let mut ended = first;
        let mut counted_as_passed = 0;
        for index in first..total.unwrap_or(next) {
            let Some(found) = ENDED.captures(lines.at(index)) else { continue };
            let status = match &found[2] {
                "Passed" => TestStatus::Passed,
                "Skipped" => {
                    counted_as_passed += 1;
                    TestStatus::Skipped
                }
                "Not Run" if found[3].contains("Disabled") => TestStatus::Skipped,
                _ => TestStatus::Failed,
            };
            named.record(&found[1], status);
            ended = index + 1;
            if status == TestStatus::Failed && named.has_room() {
                let own = (index + 1..next).take_while(|index| !is_between(lines.at(*index))).last();
                let mut located =
                    gtest::failure(lines, index + 1..own.map_or(index + 1, |last| last + 1), found[1].to_owned());
                if located.path.is_none() {
                    let end = format!("{}{}", &found[2], &found[3]);
                    located = Located { message: format!("{end}\n{}", located.message), ..located };
                }
                named.locate(located);
            }
        }
        match total.and_then(|index| TOTAL.captures(lines.at(index))) {
            Some(found) => {
                let number = |group: usize| found[group].parse::<u32>().unwrap_or(0);
                let (failed, all) = (number(1), number(2));
                named.sum_up(Tally {
                    passed: all.saturating_sub(failed).saturating_sub(counted_as_passed),
                    failed,
                    skipped: 0,
                });
            }
            None if ended > first => (named.broken, named.cut_short) = (true, true),
            None => {}
        }
        report.absorb(named);
        let last = |index: &usize| {
            let line = lines.at(*index);
            line.is_empty() || line.starts_with(['\t', ' ']) || AFTER.iter().any(|mark| line.starts_with(mark))
        };
        let end = total.map_or(ended, |total| (total + 1..next).take_while(last).last().unwrap_or(total) + 1);
        lines.claim(first..end);
        from = next;
    }
}

/// How the lines below the totals start.
const AFTER: &[&str] = &[
    "Label Time Summary",
    "Total Test time",
    "The following tests",
    "Errors while running CTest",
    "Output from these tests",
    "Use \"--rerun-failed",
];

/// Whether a line is CTest's own, between two tests.
fn is_between(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("Start ") && line.contains(": ") || TOTAL.is_match(line) || ENDED.is_match(line)
}
