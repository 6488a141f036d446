//! `go test`, plain or `-v`. A test is named `package TestName/sub`. Plain output names no passing test, so there each package
//! counts as one result of its own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use domain::check::TestStatus;
use regex::Regex;

use super::{
    LOCATED, Lines, Located, Passes, Report,
    text::{expression, is_own, place},
};

/// Failures looked into: most parents say nothing, and are not kept.
const LOOKED: usize = 5 * LOCATED;

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
    // Results with no end of their package: it was killed.
    if let Some(first) = (from..lines.len()).find(|index| is_started(lines.at(*index))) {
        let mut named = Report { broken: true, cut_short: true, ..Report::default() };
        results(lines, first..lines.len(), "?", &mut named);
        // Their package is unknown: nothing can be said of them by name.
        named.located.iter_mut().for_each(|located| located.test = None);
        report.absorb(Report { tests: BTreeMap::new(), unnamed: named.total(), ..named });
    }
}

fn is_started(line: &str) -> bool {
    line.starts_with("=== RUN   ") || (line.starts_with("--- ") && RESULT.is_match(line))
}

/// Reads one package's lines and the one that ends it.
fn package(lines: &mut Lines<'_>, range: std::ops::Range<usize>, report: &mut Report) {
    let Some(closed) = PACKAGE.captures(lines.at(range.end)) else { return };
    let (failed, name) = (&closed[1] == "FAIL", closed[2].to_owned());
    let first = range.clone().find(|index| is_start(lines.at(*index))).unwrap_or(range.end);
    let is_loud = (first..range.end).any(|index| lines.at(index).starts_with("=== RUN"));
    let mut named = Report::default();
    results(lines, first..range.end, &name, &mut named);
    if failed {
        unended(lines, first..range.end, &name, &mut named);
    }
    let explained = named.failed_names().next().is_some();
    if !is_loud || (failed && !explained) {
        // A package whose failures have names got through by itself.
        named.record(&name, if failed && !explained { TestStatus::Failed } else { TestStatus::Passed });
    }
    if !is_loud && !closed[0].ends_with("failed]") {
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

fn results(lines: &Lines<'_>, range: std::ops::Range<usize>, package: &str, named: &mut Report) {
    let mut looked = 0;
    // Where each test began or went on to print.
    let mut turns: HashMap<&str, Vec<usize>> = HashMap::new();
    for index in range.clone() {
        let line = lines.at(index);
        let turn = ["=== RUN ", "=== CONT ", "=== NAME "].iter().find_map(|mark| line.strip_prefix(mark));
        if let Some(name) = turn {
            turns.entry(name.trim()).or_default().push(index);
        }
    }
    for index in range.clone() {
        let Some(found) = RESULT.captures(lines.at(index)) else { continue };
        let status = match &found[1] {
            "PASS" => TestStatus::Passed,
            "FAIL" => TestStatus::Failed,
            _ => TestStatus::Skipped,
        };
        let test = format!("{package} {}", &found[2]);
        named.record(&test, status);
        if status == TestStatus::Failed && named.has_room() && looked < LOOKED {
            looked += 1;
            // A parent says nothing of its own.
            let said = logged(lines, index..range.end, turns.get(&found[2]).map_or(&[][..], Vec::as_slice));
            let located = failure(lines, index..range.end, &said, test);
            if !located.message.is_empty() {
                named.locate(located);
            }
        }
    }
}

/// The test that was under way when its package ended: it called for the exit, panicked elsewhere, or took too long.
fn unended(lines: &Lines<'_>, range: std::ops::Range<usize>, package: &str, named: &mut Report) {
    let started = |index: &usize| {
        let line = lines.at(*index);
        line.strip_prefix("=== RUN   ").or_else(|| line.strip_prefix("=== CONT  "))
    };
    let panic = range.clone().find(|index| lines.at(*index).starts_with("panic: "));
    let test = range.clone().rev().find_map(|index| started(&index)).map(|own| format!("{package} {}", own.trim()));
    let open = test.filter(|test| !named.tests.contains_key(test));
    if panic.is_none() && open.is_none() {
        return;
    }
    if let Some(test) = &open {
        named.record(test, TestStatus::Failed);
    }
    if named.located.iter().any(|located| located.message.starts_with("panic: ")) {
        return;
    }
    let test = open.unwrap_or_else(|| package.to_owned());
    let located = match panic {
        Some(at) => panicked(lines, at..range.end, test),
        None => Located { test: Some(test), message: "the package ended within it".to_owned(), ..Located::default() },
    };
    named.locate(located);
}

/// A panic's words, and the deepest frame that is not the language's own.
fn panicked(lines: &Lines<'_>, range: std::ops::Range<usize>, test: String) -> Located {
    let frames = range.clone().map(|index| lines.at(index)).filter(|line| line.starts_with('\t'));
    let (path, line) =
        frames.filter_map(|line| place(line.trim())).find(|(path, _)| is_own(path) && path != "_testmain.go").unzip();
    Located { test: Some(test), path, line, message: lines.at(range.start).to_owned() }
}

fn is_start(line: &str) -> bool {
    line.starts_with("=== RUN")
        || line.starts_with("--- ")
        || line.starts_with("panic: ")
        || line == "FAIL"
        || line == "PASS"
}

/// Log lines stand under the result in plain output, and above it, where the test printed, with `-v`.
fn logged<'a>(lines: &Lines<'a>, after: std::ops::Range<usize>, turns: &[usize]) -> Vec<&'a str> {
    let is_end = |line: &&str| {
        RESULT.is_match(line) || line.starts_with("=== ") || *line == "FAIL" || line.starts_with("FAIL\t")
    };
    let from =
        |start: usize, end: usize| (start..end).map(|index| lines.at(index)).take_while(move |line| !is_end(line));
    match turns {
        [] => from(after.start + 1, after.end).collect(),
        _ => turns.iter().filter(|turn| **turn < after.start).flat_map(|turn| from(turn + 1, after.start)).collect(),
    }
}

/// Reads what a failure at the start of `after` says.
fn failure(lines: &Lines<'_>, after: std::ops::Range<usize>, logged: &[&str], test: String) -> Located {
    if lines.at(after.start + 1).starts_with("panic: ") {
        return panicked(lines, after.start + 1..after.end, test);
    }
    let last = logged.iter().rev().find_map(|line| LOGGED.captures(line));
    let (path, line) = last.and_then(|found| Some((found[1].to_owned(), found[2].parse().ok()?))).unzip();
    let message = logged.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n");
    Located { test: Some(test), path, line, message }
}
