//! Maven's Surefire and Failsafe on the terminal. A test is named `package.Class test`, as in their files; passing ones are
//! counted.

use std::{ops::Range, sync::LazyLock};

use domain::check::TestStatus;
use regex::Regex;

use super::{Lines, Located, Report, Tally, text::expression};

static TOTAL: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^\[[A-Z]+\] Tests run: (\d+), Failures: (\d+), Errors: (\d+), Skipped: (\d+)$"));
static FAILED: LazyLock<Regex> = LazyLock::new(|| {
    expression(r"^\[ERROR\] (?:(\S+)\((\S+)\)|(\S+)\.(\S+)) +(?:-- )?Time elapsed: \S+ s +<<< (?:FAILURE|ERROR)!")
});
static FRAME: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^\s+at (?:\S*/)?([\w.$]+)\.[\w$<>]+\(([\w$]+\.\w+):(\d+)\)$"));

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let mut from = 0;
    while let Some(first) = (from..lines.len()).find(|index| is_start(lines.at(*index))) {
        let total = (first..lines.len()).find(|index| TOTAL.is_match(lines.at(*index)));
        let next = total.map_or(lines.len(), |total| total + 1);
        let mut named = failures(lines, first..next);
        match total.and_then(|index| TOTAL.captures(lines.at(index))) {
            Some(found) => {
                let number = |group: usize| found[group].parse::<u32>().unwrap_or(0);
                let (failed, skipped) = (number(2).saturating_add(number(3)), number(4));
                named.sum_up(Tally {
                    passed: number(1).saturating_sub(failed).saturating_sub(skipped),
                    failed,
                    skipped,
                });
            }
            None => (named.broken, named.cut_short) = (true, true),
        }
        report.absorb(named);
        lines.claim(first..total.map_or(first + 1, |total| total + 1));
        from = next;
    }
}

/// The banner, or with `-q` the first class in which a test fails.
fn is_start(line: &str) -> bool {
    line.starts_with('[')
        && (line.ends_with("]  T E S T S") || (line.contains("] Tests run: ") && line.contains("<<<")))
}

fn failures(lines: &Lines<'_>, range: Range<usize>) -> Report {
    let mut named = Report::default();
    for index in range.clone() {
        let Some(found) = lines.at(index).contains("<<<").then(|| FAILED.captures(lines.at(index))).flatten() else {
            continue;
        };
        let part = |group: usize| found.get(group).map_or("", |part| part.as_str());
        let (class, test) = if found.get(1).is_some() { (part(2), part(1)) } else { (part(3), part(4)) };
        let name = format!("{class} {test}");
        named.record(&name, TestStatus::Failed);
        if named.has_room() {
            named.locate(failure(lines, index + 1..range.end, name, class));
        }
    }
    named
}

/// The words up to the frames, and the deepest frame in the package of the test or below it.
fn failure(lines: &Lines<'_>, range: Range<usize>, test: String, class: &str) -> Located {
    let block: Vec<&str> = range.map(|index| lines.at(index)).take_while(|line| !line.starts_with('[')).collect();
    let package = class.rsplit_once('.').map_or("", |(package, _)| package);
    let own = block.iter().filter_map(|line| FRAME.captures(line)).find(|found| found[1].starts_with(package));
    let place = own.and_then(|found| {
        let folder = found[1].rsplit_once('.').map_or(String::new(), |(package, _)| package.replace('.', "/") + "/");
        Some((format!("{folder}{}", &found[2]), found[3].parse().ok()?))
    });
    let is_frame = |line: &&&str| line.trim_start().starts_with("at ");
    let words: Vec<&str> = block.iter().take_while(|line| !is_frame(line)).copied().collect();
    let (path, line) = place.unzip();
    Located { test: Some(test), path, line, message: words.join("\n").trim().to_owned() }
}
