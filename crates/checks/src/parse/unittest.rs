//! Python's `unittest`, terse or `-v`, of every version since 3.8. A test is named `package.module.Class.method`, a subtest
//! with its parameters behind it: `… (i=1)`.

use std::{collections::BTreeSet, sync::LazyLock};

use domain::check::TestStatus;
use regex::Regex;

use super::{
    Lines, Located, Report, Tally,
    text::{expression, is_own, relative},
};

const RULE: &str = "======================================================================";

static HEADER: LazyLock<Regex> = LazyLock::new(|| {
    expression(r"^(?:(FAIL|ERROR|UNEXPECTED SUCCESS): )?\s*(\S+) \(([\w.<>]+)\)( [\[(].+[\])])?( \.\.\..*)?$")
});
static RAN: LazyLock<Regex> = LazyLock::new(|| expression(r"^Ran (\d+) tests? in "));
static COUNT: LazyLock<Regex> =
    LazyLock::new(|| expression(r"(failures|errors|skipped|expected failures|unexpected successes)=(\d+)"));
/// A summary of which every word is understood.
static WHOLE: LazyLock<Regex> = LazyLock::new(|| {
    expression(
        r"^(?:OK.*|FAILED \((?:(?:failures|errors|skipped|expected failures|unexpected successes)=\d+(?:, )?)+\))$",
    )
});
static FRAME: LazyLock<Regex> = LazyLock::new(|| expression(r#"^\s*File "([^"]+)", line (\d+)"#));

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let mut from = 0;
    while let Some(ran) = (from..lines.len()).find(|index| RAN.is_match(lines.at(*index))) {
        let result = (ran + 1..ran + 4)
            .find(|index| lines.at(*index).starts_with("OK") || lines.at(*index).starts_with("FAILED"));
        // Without its last word it was killed, or more failed than can be read.
        report.broken |= result.is_none_or(|index| !WHOLE.is_match(lines.at(index)));
        report.cut_short |= result.is_none();
        let end = result.map_or(ran + 1, |index| index + 1);
        let result = lines.at(end - 1);
        let blocks = session(lines, from..ran, report, result);
        lines.claim(blocks..end);
        from = end;
    }
}

/// Reads one run of the loader; returns the line at which its failure blocks start.
fn session(lines: &mut Lines<'_>, range: std::ops::Range<usize>, report: &mut Report, result: &str) -> usize {
    let ran = RAN.captures(lines.at(range.end)).and_then(|found| found[1].parse::<u32>().ok()).unwrap_or(0);
    let first = range.clone().find(|index| is_block(lines, *index)).unwrap_or(range.end);
    let mut named = loud_results(lines, range.start..first);
    let mut failing = BTreeSet::new();
    let mut blocks = BTreeSet::new();
    let starts: Vec<usize> = (first..range.end).filter(|index| is_block(lines, *index)).collect();
    for (nth, start) in starts.iter().enumerate() {
        let end = starts.get(nth + 1).copied().unwrap_or(range.end);
        let Some((name, base)) = header(lines.at(start + 1)) else { continue };
        blocks.insert(name.clone());
        if named.tests.get(&name).is_none_or(|tally| tally.failed == 0) {
            named.record(&name, TestStatus::Failed);
        }
        // The set-up of a class or module fails without being one of the tests that ran.
        let is_setup =
            ["setUpClass", "tearDownClass", "setUpModule", "tearDownModule"].iter().any(|step| base.ends_with(step));
        if !is_setup {
            failing.insert(base);
        }
        named.locate(failure(lines, start + 2..end, name));
    }
    // nose2 names a test once more whose subtests failed.
    let is_parent = |name: &String, tally: &Tally| tally.failed > 0 && !blocks.contains(name) && failing.contains(name);
    named.tests.retain(|name, tally| !is_parent(name, tally));
    let told = told(result, ran, failing.len());
    named.sum_up(told);
    report.absorb(named);
    first
}

/// The summary's totals. Subtests fail several times for one test that ran, so passes are what is left of the tests.
fn told(result: &str, ran: u32, failing: usize) -> Tally {
    let counts = |names: &[&str]| {
        let counts = COUNT.captures_iter(result).filter(|found| names.contains(&&found[1]));
        counts.map(|found| found[2].parse::<u32>().unwrap_or(0)).sum::<u32>()
    };
    let failed = counts(&["failures", "errors", "unexpected successes"]);
    let skipped = counts(&["skipped", "expected failures"]);
    let named = u32::try_from(failing).unwrap_or(u32::MAX);
    let nameless = counts(&["unexpected successes"]);
    let passed = ran.saturating_sub(named).saturating_sub(nameless).saturating_sub(skipped);
    Tally { passed, failed, skipped }
}

fn is_block(lines: &Lines<'_>, index: usize) -> bool {
    let next = lines.at(index + 1);
    lines.at(index) == RULE && ["FAIL: ", "ERROR: ", "UNEXPECTED SUCCESS: "].iter().any(|mark| next.starts_with(mark))
}

/// The name of a test from a line that starts with it, and the same without a subtest's parameters.
fn header(line: &str) -> Option<(String, String)> {
    let found = HEADER.captures(line)?;
    let (method, owner) = (&found[2], &found[3]);
    let base = if owner.contains("_FailedTest") {
        method.to_owned()
    } else if owner == method || owner.ends_with(&format!(".{method}")) {
        owner.to_owned()
    } else {
        format!("{owner}.{method}")
    };
    let parameters = found.get(4).map_or("", |found| found.as_str());
    Some((format!("{base}{parameters}"), base))
}

/// Results of `-v`: on the line of the test, after its description, or below what it printed.
fn loud_results(lines: &mut Lines<'_>, range: std::ops::Range<usize>) -> Report {
    let mut named = Report::default();
    let mut open = None;
    for index in range {
        let line = lines.at(index);
        let is_header = line.contains(" (") && !line.starts_with("  File ");
        if let Some((name, _)) = is_header.then(|| header(line)).flatten() {
            open = Some(name);
            lines.claim(index..index + 1);
        }
        let tail = line.rsplit_once(" ... ").map_or(line, |(_, tail)| tail);
        let status = match tail.trim_end() {
            "ok" => TestStatus::Passed,
            "FAIL" | "ERROR" | "unexpected success" => TestStatus::Failed,
            "expected failure" => TestStatus::Skipped,
            other if other.starts_with("skipped ") => TestStatus::Skipped,
            _ => continue,
        };
        if let Some(name) = open.take() {
            named.record(&name, status);
            lines.claim(index..index + 1);
        }
    }
    named
}

/// The last frame in the workspace and the exception below it.
fn failure(lines: &Lines<'_>, range: std::ops::Range<usize>, test: String) -> Located {
    let mut frames = range.clone().filter_map(|index| FRAME.captures(lines.at(index)));
    let (path, line) = frames
        .rfind(|found| is_own(&found[1]))
        .and_then(|found| Some((relative(&found[1]), found[2].parse().ok()?)))
        .unzip();
    let raised = range.clone().rev().find(|index| FRAME.is_match(lines.at(*index))).unwrap_or(range.start);
    let words: Vec<&str> = (raised + 1..range.end)
        .map(|index| lines.at(index))
        .skip_while(|line| line.starts_with(' '))
        .take_while(|line| !line.starts_with("-----"))
        .collect();
    Located { test: Some(test), path, line, message: words.join("\n").trim().to_owned() }
}
