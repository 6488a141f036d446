//! PHPUnit's default and TestDox reports. A test is named `Class::test`, with its data set behind it. Passing ones are counted.

use std::{ops::Range, sync::LazyLock};

use domain::check::TestStatus;
use regex::Regex;

use super::{
    Lines, Located, Report, Tally,
    text::{expression, is_own, place},
};

static TOTAL: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^(?:OK \((\d+) tests?, .*\)|Tests: (\d+), Assertions: .*\.)$"));
static COUNT: LazyLock<Regex> = LazyLock::new(|| expression(r"([A-Z][A-Za-z ]+): (\d+)"));
/// What a summary may count besides.
const KNOWN: &[&str] = &["Tests", "Assertions", "Errors", "Failures", "Skipped", "Incomplete"];

static SECTION: LazyLock<Regex> = LazyLock::new(|| expression(r"^There (?:was|were) \d+ (?:PHPUnit )?([a-z ]+?)s?:$"));
static TITLE: LazyLock<Regex> = LazyLock::new(|| expression(r"^\d+\) (\S+::.+)$"));

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let is_first = |index: &usize, lines: &Lines<'_>| {
        lines.at(*index).starts_with("PHPUnit ") && lines.at(*index).contains(" by Sebastian Bergmann")
    };
    let starts: Vec<usize> = (0..lines.len()).filter(|index| is_first(index, lines)).collect();
    for (nth, start) in starts.iter().enumerate() {
        let next = starts.get(nth + 1).copied().unwrap_or(lines.len());
        let Some(total) = (*start..next).rev().find(|index| TOTAL.is_match(lines.at(*index))) else {
            // It never summed up: a fatal error ended it.
            report.broken |= !(*start..next).any(|index| lines.at(index).starts_with("No tests executed"));
            report.cut_short |= report.broken;
            continue;
        };
        let mut named = failures(lines, *start..total);
        sum_up(lines.at(total), &mut named);
        report.absorb(named);
        lines.claim(*start..total + 1);
    }
}

fn sum_up(total: &str, named: &mut Report) {
    let counted = |names: &[&str]| {
        let counts = COUNT.captures_iter(total).filter(|found| names.contains(&found[1].trim()));
        counts.map(|found| found[2].parse::<u32>().unwrap_or(0)).fold(0, u32::saturating_add)
    };
    let all =
        TOTAL.captures(total).and_then(|found| found.get(1).or(found.get(2))?.as_str().parse().ok()).unwrap_or(0_u32);
    let (failed, skipped) = (counted(&["Errors", "Failures"]), counted(&["Skipped", "Incomplete"]));
    named.sum_up(Tally { passed: all.saturating_sub(failed).saturating_sub(skipped), failed, skipped });
    // Warnings, risky tests and their like may be what the exit code speaks of, and are no test's failure.
    let is_known = |part: &str| part.split_once(": ").is_some_and(|(name, _)| KNOWN.contains(&name));
    named.broken = !total.starts_with("OK (") && !total.trim_end_matches('.').split(", ").all(is_known);
}

fn failures(lines: &Lines<'_>, range: Range<usize>) -> Report {
    let mut named = Report::default();
    let mut is_failing = false;
    for index in range.clone() {
        let line = lines.at(index);
        if let Some(section) = line.starts_with("There ").then(|| SECTION.captures(line)).flatten() {
            is_failing = matches!(&section[1], "error" | "failure");
        } else if let Some(title) = TITLE.captures(line).filter(|_| is_failing) {
            named.record(&title[1], TestStatus::Failed);
            if named.has_room() {
                named.locate(failure(lines, index + 1..range.end, title[1].to_owned()));
            }
        }
    }
    named
}

/// The words up to the frames, and the deepest frame of the repository's own.
fn failure(lines: &Lines<'_>, range: Range<usize>, test: String) -> Located {
    let is_end = |line: &&str| TITLE.is_match(line) || SECTION.is_match(line) || *line == "--";
    let block: Vec<&str> = range.map(|index| lines.at(index)).take_while(|line| !is_end(line)).collect();
    let frame = |line: &&&str| line.contains(".php:") && !line.contains(' ');
    let own = block.iter().filter(frame).filter_map(|line| place(line)).find(|(path, _)| is_own(path));
    let words: Vec<&str> = block.iter().take_while(|line| !frame(line)).copied().collect();
    let (path, line) = own.unzip();
    Located { test: Some(test), path, line, message: words.join("\n").trim().to_owned() }
}
