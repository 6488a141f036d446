//! `go test`, plain or `-v`. A test is named `package TestName/sub`. Plain output names no passing test, so there each package
//! counts as one result of its own.

use std::sync::LazyLock;

use domain::check::TestStatus;
use regex::Regex;

use super::{
    Lines, Located, Passes, Report,
    text::{expression, place},
};

static RESULT: LazyLock<Regex> = LazyLock::new(|| expression(r"^\s*--- (PASS|FAIL|SKIP): (\S+) \(\d+\.\d+s\)$"));
static PACKAGE: LazyLock<Regex> = LazyLock::new(|| {
    expression(r"^(ok  |FAIL)\t(\S+)(?:\t(?:\d+\.\d+s|\(cached\))(?:\t.*)?| \[(?:build|setup) failed\])$")
});
static LOGGED: LazyLock<Regex> = LazyLock::new(|| expression(r"^\s+(\S+\.go):(\d+): (.*)$"));

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let is_go = |index: usize| {
        let line = lines.at(index);
        (line.starts_with("ok  \t") || line.starts_with("FAIL\t")) && PACKAGE.is_match(line)
    };
    let ends: Vec<usize> = (0..lines.len()).filter(|index| is_go(*index)).collect();
    let mut from = 0;
    for end in ends {
        package(lines, from..end, report);
        from = end + 1;
    }
}

/// Reads one package's lines and the one that ends it.
fn package(lines: &mut Lines<'_>, range: std::ops::Range<usize>, report: &mut Report) {
    let Some(closed) = PACKAGE.captures(lines.at(range.end)) else { return };
    let (failed, name) = (&closed[1] == "FAIL", closed[2].to_owned());
    let first = range.clone().find(|index| is_start(lines.at(*index))).unwrap_or(range.end);
    let is_loud = (first..range.end).any(|index| lines.at(index).starts_with("=== RUN"));
    let mut named = Report::default();
    for index in first..range.end {
        let Some(found) = RESULT.captures(lines.at(index)) else { continue };
        let status = match &found[1] {
            "PASS" => TestStatus::Passed,
            "FAIL" => TestStatus::Failed,
            _ => TestStatus::Skipped,
        };
        let test = format!("{name} {}", &found[2]);
        named.record(&test, status);
        if status == TestStatus::Failed && named.has_room() {
            // A parent says nothing of its own.
            let located = failure(lines, first..range.end, index, test);
            if !located.message.is_empty() {
                named.locate(located);
            }
        }
    }
    let explained = named.failed_names().next().is_some();
    if !is_loud || (failed && !explained) {
        // A package whose failures have names got through by itself.
        named.record(&name, if failed && !explained { TestStatus::Failed } else { TestStatus::Passed });
    }
    if !is_loud {
        named.passes = Passes::Untold;
    }
    // A panic ends the package's whole binary: what comes after in it did not run.
    named.cut_short = failed && (first..range.end).any(|index| lines.at(index).starts_with("panic: "));
    named.cut_short |= failed && !explained;
    report.absorb(named);
    // Build errors stand before the package's lines: they stay for the compilers' reader.
    lines.claim(first..range.end + 1);
    let is_total = |line: &str| line == "FAIL" || line == "PASS";
    if is_total(lines.at(range.end + 1)) {
        lines.claim(range.end + 1..range.end + 2);
    }
}

fn is_start(line: &str) -> bool {
    line.starts_with("=== RUN")
        || line.starts_with("--- ")
        || line.starts_with("panic: ")
        || line == "FAIL"
        || line == "PASS"
}

/// Log lines stand under the result in plain output, and above it, since the test's `=== RUN`, with `-v`.
fn failure(lines: &Lines<'_>, range: std::ops::Range<usize>, at: usize, test: String) -> Located {
    let method = test.rsplit(' ').next().unwrap_or(&test);
    let started =
        range.clone().find(|index| lines.at(*index).strip_prefix("=== RUN").is_some_and(|rest| rest.trim() == method));
    let body = match started {
        Some(started) => started + 1..at,
        None => at + 1..range.end,
    };
    let is_end = |line: &&str| {
        RESULT.is_match(line) || line.starts_with("=== ") || *line == "FAIL" || line.starts_with("FAIL\t")
    };
    let logged: Vec<&str> = body.map(|index| lines.at(index)).take_while(|line| !is_end(line)).collect();
    let panicked = (at..range.end).map(|index| lines.at(index)).take(40).take_while(|line| !line.starts_with("FAIL"));
    let panicked: Vec<&str> = panicked.skip_while(|line| !line.starts_with("panic: ")).collect();
    if let Some(words) = panicked.first() {
        let own =
            |line: &&&str| line.starts_with('\t') && !line.contains("/src/testing/") && !line.contains("/src/runtime/");
        let (path, line) = panicked.iter().find(own).and_then(|line| place(line.trim())).unzip();
        return Located { test: Some(test), path, line, message: (*words).to_owned() };
    }
    let last = logged.iter().rev().find_map(|line| LOGGED.captures(line));
    let (path, line) = last.and_then(|found| Some((found[1].to_owned(), found[2].parse().ok()?))).unzip();
    let message = logged.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n");
    Located { test: Some(test), path, line, message }
}
