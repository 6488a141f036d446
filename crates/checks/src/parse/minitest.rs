//! Minitest, loud or not. A test is named `Class#test`; passing ones are counted, as only `-v` names them.

use std::{ops::Range, sync::LazyLock};

use domain::check::TestStatus;
use regex::Regex;

use super::{
    Lines, Located, Report, Tally,
    text::{expression, place},
};

static TOTAL: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^(\d+) (?:runs|tests), \d+ assertions, (\d+) failures, (\d+) errors, (\d+) skips$"));
static KIND: LazyLock<Regex> = LazyLock::new(|| expression(r"^ +\d+\) (Failure|Error|Skipped):$"));
static NAME: LazyLock<Regex> = LazyLock::new(|| expression(r"^(\S.*?#.+?)(?: \[([^\]]+)\])?:$"));

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let mut from = 0;
    while let Some(total) = (from..lines.len()).find(|index| TOTAL.is_match(lines.at(*index))) {
        let Some(found) = TOTAL.captures(lines.at(total)) else { return };
        let number = |group: usize| found[group].parse::<u32>().unwrap_or(0);
        let (all, failed, skipped) = (number(1), number(2).saturating_add(number(3)), number(4));
        let mut named = Report::default();
        let starts: Vec<usize> = (from..total).filter(|index| KIND.is_match(lines.at(*index))).collect();
        for (nth, start) in starts.iter().enumerate() {
            let end = starts.get(nth + 1).copied().unwrap_or(total);
            let Some(name) = NAME.captures(lines.at(start + 1)) else { continue };
            if lines.at(*start).ends_with("Skipped:") {
                continue;
            }
            named.record(&name[1], TestStatus::Failed);
            let declared = name.get(2).and_then(|declared| place(declared.as_str()));
            named.locate(failure(lines, start + 2..end, name[1].to_owned(), declared));
        }
        named.sum_up(Tally { passed: all.saturating_sub(failed).saturating_sub(skipped), failed, skipped });
        report.absorb(named);
        lines.claim(starts.first().copied().unwrap_or(total)..total + 1);
        from = total + 1;
    }
}

/// The words up to the frames, and the deepest frame of the repository's own.
fn failure(lines: &Lines<'_>, range: Range<usize>, test: String, declared: Option<(String, u32)>) -> Located {
    let is_frame = |line: &&str| line.starts_with("    ") && line.contains(":in ");
    let all = || range.clone().map(|index| lines.at(index));
    let raised = all().filter(is_frame).filter_map(place).find(|(path, _)| !path.starts_with('/'));
    let words: Vec<&str> = all().take_while(|line| !is_frame(line) && !line.is_empty()).collect();
    let (path, line) = declared.or(raised).unzip();
    Located { test: Some(test), path, line, message: words.join("\n") }
}
