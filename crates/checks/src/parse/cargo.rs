//! `cargo test` (libtest's text): unit, integration and doc tests, of one or many packages, loud or `-q`.
//!
//! A test is named `binary test`, as nextest does it: `smallvec tests::grows`, `bin/app tests::x`, `doc smallvec
//! src/lib.rs - f`. Doc tests lose their line, which moves with every edit above it. Integration binaries of two packages may
//! share a name; tallies hold both.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use domain::check::TestStatus;
use regex::Regex;

use super::{
    Lines, Located, Report, Tally,
    text::{expression, is_own, place, relative},
};

static SUITE: LazyLock<Regex> = LazyLock::new(|| {
    expression(r"^ +Running (?:unittests )?(\S+) \((?:.*[/\\])?([^/\\]+?)(?:-[0-9a-f]{16})?(?:\.exe)?\)$")
});
static SUMMARY: LazyLock<Regex> = LazyLock::new(|| {
    expression(
        r"^test result: (?:ok|FAILED)\. (\d+) passed; (\d+) failed; (\d+) ignored; \d+ measured; \d+ filtered out",
    )
});
static TEST: LazyLock<Regex> = LazyLock::new(|| {
    expression(
        r"^test (.+?)(?: - should panic| - compile fail| - compile)? \.\.\. (ok|FAILED|ignored)(?:, .*| \(.*\)| <\d.*>)?$",
    )
});
static STARTED: LazyLock<Regex> = LazyLock::new(|| expression(r"^running \d+ tests?$"));
static STDOUT: LazyLock<Regex> = LazyLock::new(|| expression(r"^---- (.+) (?:stdout|stderr) ----$"));

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let mut label = String::new();
    let mut index = 0;
    while index < lines.len() {
        let line = lines.at(index);
        if let Some(found) = line.starts_with(' ').then(|| SUITE.captures(line)).flatten() {
            label = binary(&found[1], &found[2]);
        } else if let Some(package) = line.strip_prefix("   Doc-tests ") {
            label = format!("doc {package} ");
        } else if !lines.is_claimed(index) && STARTED.is_match(line) {
            let end = suite(lines, index + 1, &label, report);
            lines.claim(index..end);
            index = end;
            continue;
        } else if line.starts_with("error: ") && is_aftermath(line) {
            // Cargo stops at the first binary that fails; `--no-fail-fast` goes on and ends with the list of targets.
            report.cut_short |= line.contains("to rerun pass");
            if line.contains(" failed:") {
                report.cut_short = false;
            }
            lines.claim(index..index + 1);
        }
        index += 1;
    }
}

fn is_aftermath(line: &str) -> bool {
    line.contains("test failed, to rerun pass") || (line.contains(" target") && line.ends_with(" failed:"))
}

/// The name of a test binary from its source and its file.
fn binary(source: &str, file: &str) -> String {
    let kind = if source.ends_with("main.rs") && !source.starts_with("tests") || source.contains("src/bin/") {
        "bin/"
    } else if source.starts_with("examples/") {
        "example/"
    } else if source.starts_with("benches/") {
        "bench/"
    } else {
        ""
    };
    format!("{kind}{file} ")
}

fn full_name(label: &str, name: &str) -> String {
    static LINE: LazyLock<Regex> = LazyLock::new(|| expression(r" \(line \d+\)$"));
    let stable = if name.ends_with(')') { LINE.replace(name, "") } else { name.into() };
    format!("{label}{stable}")
}

/// Reads one binary's report from after `running N tests`; returns the line after it.
fn suite(lines: &Lines<'_>, from: usize, label: &str, report: &mut Report) -> usize {
    let mut named = Report::default();
    let mut failures: BTreeSet<String> = BTreeSet::new();
    let mut listing = false;
    for index in from..lines.len() {
        let line = lines.at(index);
        if let Some(counts) = SUMMARY.captures(line) {
            let number = |group: usize| counts[group].parse().unwrap_or(0);
            let told = Tally { passed: number(1), failed: number(2), skipped: number(3) };
            for name in failures {
                if named.tests.get(&name).is_none_or(|tally| tally.failed == 0) {
                    named.record(&name, TestStatus::Failed);
                }
            }
            uncaptured(lines, from..index, &mut named);
            named.sum_up(told);
            report.absorb(named);
            return index + 1;
        }
        if STARTED.is_match(line) || SUITE.is_match(line) || line.starts_with("error: ") {
            return abandoned(named, report, index);
        }
        if let Some(found) = line.starts_with("test ").then(|| TEST.captures(line)).flatten() {
            let status = match &found[2] {
                "ok" => TestStatus::Passed,
                "FAILED" => TestStatus::Failed,
                _ => TestStatus::Skipped,
            };
            named.record(&full_name(label, &found[1]), status);
        } else if let Some(found) = STDOUT.captures(line) {
            named.locate(failure(lines, index + 1, full_name(label, &found[1])));
        } else if line == "failures:" {
            listing = lines.at(index + 1).starts_with("    ");
        } else if listing {
            match line.strip_prefix("    ") {
                Some(name) => drop(failures.insert(full_name(label, name))),
                None => listing = false,
            }
        }
    }
    abandoned(named, report, lines.len())
}

/// Where a failure's words stand apart from its name (`--nocapture`, a quiet nextest), its thread's name leads to them.
pub(super) fn uncaptured(lines: &Lines<'_>, range: std::ops::Range<usize>, named: &mut Report) {
    let told: BTreeSet<&str> = named.located.iter().filter_map(|located| located.test.as_deref()).collect();
    let silent = named.failed_names().filter(|name| !told.contains(name));
    let mut silent: BTreeMap<String, String> =
        silent.map(|name| (name.split_once(' ').map_or(name, |(_, own)| own).to_owned(), name.to_owned())).collect();
    for index in range.clone() {
        if silent.is_empty() || !named.has_room() {
            return;
        }
        let line = lines.at(index);
        let thread = line.split_once("thread '").filter(|_| line.contains(" panicked at ")).map(|(_, rest)| rest);
        let thread = thread.and_then(|rest| rest.split_once("' ")).map(|(name, _)| name);
        let Some(name) = thread.and_then(|thread| silent.remove(thread)) else { continue };
        let is_said = |line: &&str| !line.starts_with("test ") && !line.trim().is_empty();
        let block = (index..range.end).map(|next| lines.at(next)).take_while(is_said);
        let block: Vec<&str> = block.map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
        named.locate(last_words(&block, name));
    }
}

/// A binary that never summed up: it crashed, or was killed.
fn abandoned(named: Report, report: &mut Report, end: usize) -> usize {
    report.absorb(named);
    report.broken = true;
    report.cut_short = true;
    end
}

/// What a failed test printed.
fn failure(lines: &Lines<'_>, from: usize, test: String) -> Located {
    let block: Vec<&str> = (from..lines.len())
        .map(|index| lines.at(index))
        .take_while(|line| !STDOUT.is_match(line) && *line != "failures:" && !line.starts_with("test result: "))
        .collect();
    last_words(&block, test)
}

/// The panic's place and message out of what a failed test printed, or the whole of it.
pub(super) fn last_words(block: &[&str], test: String) -> Located {
    let is_end =
        |line: &&&str| line.starts_with("stack backtrace:") || line.starts_with("note: run with `RUST_BACKTRACE");
    let panicked = block.iter().position(|line| line.contains("panicked at "));
    if let Some((at, (_, place_text))) = panicked.and_then(|at| Some((at, block[at].split_once("panicked at ")?))) {
        let message = block[at + 1..].iter().take_while(|line| !is_end(line)).copied().collect::<Vec<_>>().join("\n");
        // Where it panicked in what the repository depends on, a backtrace tells who called.
        let frame = |line: &&str| place(line.trim_start().strip_prefix("at ")?).filter(|(path, _)| is_own(path));
        let found = place(place_text).filter(|(path, _)| is_own(path));
        let found = found.or_else(|| block.iter().find_map(frame)).or_else(|| place(place_text));
        // Before Rust 1.73 the message stood between quotes in front of the place.
        let message = if message.trim().is_empty() { place_text.to_owned() } else { message };
        let (path, line) = found.unzip();
        return Located { test: Some(test), path, line, message };
    }
    let message = block.iter().take_while(|line| !is_end(line)).copied().collect::<Vec<_>>().join("\n");
    let (path, line) = message.rsplit_once(" at ").and_then(|(_, tail)| place(tail)).unzip();
    Located { test: Some(test), path: path.map(|path| relative(&path)), line, message: message.trim().to_owned() }
}
