//! `cargo nextest run`. A test is named as there: `package tests::x`, `package::binary test`.

use std::{collections::BTreeMap, ops::Range, sync::LazyLock};

use domain::check::TestStatus;
use regex::Regex;

use super::{
    Lines, Report,
    cargo::{self, last_words},
    text::{counts, expression},
};

static STARTING: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^ +Starting \d+ tests? across \d+ binar(?:y|ies)(?: \(.*\))?$"));
static ENDED: LazyLock<Regex> = LazyLock::new(|| {
    expression(
        r"^ *((?:TRY \d+ )?[A-Z][A-Z-]+(?: \d+/\d+)?) \[[> ]*\d+\.\d+s\] (?:\( *\d+/\d+\) )?([\w@.:/-]+) ([^ ].*)$",
    )
});
static SUMMARY: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^ +Summary \[ *\d+\.\d+s\] (\d+)(?:/(\d+))? tests? run: (.+)$"));

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let mut from = 0;
    while let Some(start) = (from..lines.len()).find(|index| STARTING.is_match(lines.at(*index))) {
        let next = (start + 1..lines.len()).find(|index| STARTING.is_match(lines.at(*index))).unwrap_or(lines.len());
        from = session(lines, start..next, report);
        lines.claim(start..from);
    }
}

/// Reads one run from its first line; returns the line after its last.
fn session(lines: &Lines<'_>, range: Range<usize>, report: &mut Report) -> usize {
    // The last one is its own: a test may print anything before it.
    let summary = range.clone().rev().find(|index| SUMMARY.is_match(lines.at(*index)));
    let mut named = Report::default();
    // The last word on a test counts: it may have been tried again, and the list after the summary names what failed.
    let mut ends: BTreeMap<String, TestStatus> = BTreeMap::new();
    let mut end = range.start + 1;
    for index in range.clone() {
        let line = lines.at(index);
        if let Some((name, status)) = ended(line) {
            let is_first = ends.insert(name.clone(), status) != Some(TestStatus::Failed);
            if status == TestStatus::Failed && is_first && named.has_room() && summary.is_none_or(|at| index < at) {
                let block = block(lines, index + 1..summary.unwrap_or(range.end));
                if !block.is_empty() {
                    named.locate(last_words(&block, name));
                }
            }
            end = index + 1;
        } else if Some(index) == summary || line == "error: test run failed" {
            end = index + 1;
        }
    }
    ends.iter().for_each(|(name, status)| named.record(name, *status));
    named.located.retain(|located| located.test.as_ref().is_some_and(|test| ends[test] == TestStatus::Failed));
    cargo::uncaptured(lines, range.clone(), &mut named);
    match summary.and_then(|index| SUMMARY.captures(lines.at(index))) {
        Some(told) => {
            named.sum_up(counts(&told[3]));
            named.cut_short = told.get(2).is_some_and(|all| all.as_str() != &told[1]);
        }
        None => {
            named.broken = true;
            named.cut_short = true;
        }
    }
    report.absorb(named);
    if summary.is_none() { range.end } else { end }
}

/// The test and its end that a line tells of.
fn ended(line: &str) -> Option<(String, TestStatus)> {
    if !line.contains("s] ") {
        return None;
    }
    let found = ENDED.captures(line)?;
    let words: Vec<&str> = found[1].split(' ').collect();
    let word = if words[0] == "TRY" { words.get(2)? } else { words[0] };
    let status = match word {
        // A leak is a process that outlived its test: told, not held against it.
        "PASS" | "LEAK" | "FLAKY" => TestStatus::Passed,
        "FAIL" | "ABORT" | "TIMEOUT" | "XFAIL" | "LEAK-FAIL" | "FLKY-FL" => TestStatus::Failed,
        signal if signal.starts_with("SIG") => TestStatus::Failed,
        "SKIP" => TestStatus::Skipped,
        _ => return None,
    };
    Some((format!("{} {}", &found[2], &found[3]), status))
}

/// What a failed test printed: its standard error where there is any, without indentation and libtest's frame.
fn block<'a>(lines: &Lines<'a>, range: Range<usize>) -> Vec<&'a str> {
    let is_head = |line: &str, stream: &str| {
        line.trim_start().trim_start_matches("--- ").to_ascii_lowercase().starts_with(stream)
    };
    let all: Vec<&str> = range.map(|index| lines.at(index)).take_while(|line| ended(line).is_none()).collect();
    let is_frame = |line: &&str| {
        let line = line.trim();
        line.is_empty()
            || line.starts_with("running 1 test")
            || line == "failures:"
            || line.starts_with("test result: ")
    };
    let stderr = all.iter().position(|line| is_head(line, "stderr"));
    let said = match stderr {
        Some(at) => &all[at + 1..],
        None => all.get(1..).unwrap_or_default(),
    };
    said.iter().map(|line| line.strip_prefix("    ").unwrap_or(line)).filter(|line| !is_frame(line)).collect()
}
