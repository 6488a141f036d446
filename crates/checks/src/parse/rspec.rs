//! RSpec, dots or `-f documentation`. An example is named by its full description; passing ones are counted, as only one of the
//! two names them.

use std::{ops::Range, sync::LazyLock};

use domain::check::TestStatus;
use regex::Regex;

use super::{
    Lines, Located, Report, Tally,
    text::{expression, place},
};

static TOTAL: LazyLock<Regex> = LazyLock::new(|| {
    expression(
        r"^(\d+) examples?, (\d+) failures?(?:, (\d+) pending)?(?:, (\d+) errors? occurred outside of examples)?$",
    )
});
static TITLE: LazyLock<Regex> = LazyLock::new(|| expression(r"^  \d+\) (\S.*)$"));

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let mut from = 0;
    while let Some(total) = (from..lines.len()).find(|index| TOTAL.is_match(lines.at(*index))) {
        let Some(found) = TOTAL.captures(lines.at(total)) else { return };
        let number = |group: usize| found.get(group).map_or(0, |found| found.as_str().parse::<u32>().unwrap_or(0));
        let (all, failed, skipped, outside) = (number(1), number(2), number(3), number(4));
        let mut named = Report::default();
        let first = (from..total).find(|index| lines.at(*index) == "Failures:");
        let end = (total + 1..lines.len()).find(|index| !is_below(lines.at(*index))).unwrap_or(lines.len());
        if let Some(first) = first {
            let starts: Vec<usize> = (first + 1..total).filter(|index| TITLE.is_match(lines.at(*index))).collect();
            for (nth, start) in starts.iter().enumerate() {
                let end = starts.get(nth + 1).copied().unwrap_or(total);
                let Some(title) = TITLE.captures(lines.at(*start)) else { continue };
                named.record(&title[1], TestStatus::Failed);
                named.locate(failure(lines, start + 1..end, title[1].to_owned()));
            }
        }
        named.sum_up(Tally { passed: all.saturating_sub(failed).saturating_sub(skipped), failed, skipped });
        named.broken = outside > 0;
        named.cut_short = outside > 0;
        report.absorb(named);
        // What went wrong outside of examples stands above and is left to be seen.
        let pending = (from..total).find(|index| lines.at(*index).starts_with("Pending: (Failures"));
        lines.claim(pending.or(first).unwrap_or(total)..end);
        from = end;
    }
}

fn is_below(line: &str) -> bool {
    line.is_empty() || line == "Failed examples:" || line.starts_with("rspec ./") || line.starts_with("Randomized with")
}

/// The words up to the frames, and the deepest frame of the repository's own.
fn failure(lines: &Lines<'_>, range: Range<usize>, test: String) -> Located {
    let trimmed = |index: usize| lines.at(index).trim();
    let own = range.clone().find_map(|index| place(trimmed(index).strip_prefix("# ./")?));
    let words = range.map(trimmed).take_while(|line| !line.starts_with("# ") && !line.starts_with("Finished in "));
    let words: Vec<&str> = words.filter(|line| !line.is_empty()).collect();
    let (path, line) = own.unzip();
    Located { test: Some(test), path, line, message: words.join("\n") }
}
