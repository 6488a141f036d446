//! Perl's `prove`, loud or not. It sums up files, so a file is what is named, and fails as often as tests in it do. Passing ones
//! are counted.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    Lines, Located, Report, Tally,
    text::{expression, relative},
};

static FILES: LazyLock<Regex> = LazyLock::new(|| expression(r"^Files=(\d+), Tests=\d+, "));
static FAILED: LazyLock<Regex> = LazyLock::new(|| expression(r"^(\S+) +\(Wstat: .* Tests: \d+ Failed: (\d+)\)$"));
static STARTED: LazyLock<Regex> = LazyLock::new(|| expression(r"^\S+ \.{2,} ?"));
static AT: LazyLock<Regex> = LazyLock::new(|| expression(r"^ *#?  +at (\S+) line (\d+)\.?$"));

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let mut from = 0;
    while let Some(total) = (from..lines.len()).find(|index| FILES.is_match(lines.at(*index))) {
        let files = FILES.captures(lines.at(total)).and_then(|found| found[1].parse::<u32>().ok()).unwrap_or(0);
        let mut named = Report::default();
        let mut failed = 0_u32;
        for found in (from..total).filter_map(|index| FAILED.captures(lines.at(index))) {
            let times = found[2].parse::<u32>().unwrap_or(0).max(1);
            named.tests.entry(found[1].to_owned()).or_default().add(Tally { failed: times, ..Tally::default() });
            if named.has_room() {
                named.locate(failure(lines, from..total, &found[1]));
            }
            failed += 1;
        }
        // A loud run says it below what the file printed.
        let is_ok = |line: &str| {
            line == "ok" || (STARTED.is_match(line) && (line.ends_with(" ok") || line.contains(" skipped")))
        };
        let passed = (from..total).filter(|index| is_ok(lines.at(*index))).count();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        named.broken = passed.saturating_add(failed) != files;
        let told = named.total().failed;
        named.sum_up(Tally { passed, failed: told, skipped: 0 });
        report.absorb(named);
        // Failures are told on standard error, before their file.
        let is_prove = |index: &usize| lines.at(*index).starts_with('#') || STARTED.is_match(lines.at(*index));
        let first = (from..total).find(is_prove).unwrap_or(total);
        lines.claim(first..total + 2);
        from = total + 2;
    }
}

/// What was said at the first place of a file.
fn failure(lines: &Lines<'_>, range: std::ops::Range<usize>, file: &str) -> Located {
    let at = |index: &usize| AT.captures(lines.at(*index)).filter(|found| &found[1] == file);
    let first = range.clone().find(|index| at(index).is_some());
    let line = first.and_then(|index| at(&index)?[2].parse().ok());
    let around = first.map_or(range.end..range.end, |first| first.saturating_sub(1)..first + 4);
    let said = around.map(|index| lines.at(index).trim().trim_start_matches('#').trim());
    let said: Vec<&str> = said.filter(|line| !line.is_empty() && !line.starts_with("at ")).collect();
    let died = || {
        let mark = format!(" at {file} line ");
        range.clone().map(|index| lines.at(index)).find(|line| line.contains(&mark)).unwrap_or("").to_owned()
    };
    let message = if said.is_empty() { died() } else { said.join("\n") };
    Located { test: Some(file.to_owned()), path: Some(relative(file)), line, message }
}
