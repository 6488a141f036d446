//! Node's `spec` reporter. It does not tell a suite from a test with subtests; its totals do, so they count, and parents are
//! named only as far as the totals ask for it.

use std::sync::LazyLock;

use domain::check::TestStatus;
use regex::Regex;

use super::{
    Lines, Located, Report, Tally,
    text::{expression, own_frame, place},
};

static LINE: LazyLock<Regex> = LazyLock::new(|| expression(r"^( *)([✔✖﹣▶]) (.+?)(?: \(\d[\d.]*ms\)( # .*)?)?$"));
static TOTAL: LazyLock<Regex> = LazyLock::new(|| expression(r"^ℹ (tests|pass|fail|cancelled|skipped|todo) (\d+)$"));

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let mut from = 0;
    while let Some(totals) = (from..lines.len()).find(|index| lines.at(*index).starts_with("ℹ tests ")) {
        let end = (totals..lines.len()).find(|index| !lines.at(*index).starts_with('ℹ')).unwrap_or(lines.len());
        let told = told(lines, totals..end);
        let first = (from..totals).find(|index| LINE.is_match(lines.at(*index))).unwrap_or(totals);
        let mut named = results(lines, first..totals, told);
        from = retold(lines, end, &mut named);
        lines.claim(first..from);
        report.absorb(named);
    }
}

fn told(lines: &Lines<'_>, range: std::ops::Range<usize>) -> Tally {
    let mut told = Tally::default();
    for found in range.filter_map(|index| TOTAL.captures(lines.at(index))) {
        let count: u32 = found[2].parse().unwrap_or(0);
        match &found[1] {
            "pass" => told.passed += count,
            "fail" | "cancelled" => told.failed += count,
            "skipped" | "todo" => told.skipped += count,
            _ => {}
        }
    }
    told
}

fn results(lines: &Lines<'_>, range: std::ops::Range<usize>, told: Tally) -> Report {
    let mut named = Report::default();
    let mut parents: Vec<String> = Vec::new();
    let mut closed = Vec::new();
    for found in range.filter_map(|index| LINE.captures(lines.at(index))) {
        let depth = found[1].len() / 2;
        let name = |parents: &[String]| [parents, &[found[3].to_owned()]].concat().join(" > ");
        if &found[2] == "▶" {
            parents.truncate(depth);
            parents.push(found[3].to_owned());
            continue;
        }
        let is_directive = found.get(4).is_some();
        let status = match &found[2] {
            _ if is_directive => TestStatus::Skipped,
            "✔" => TestStatus::Passed,
            "✖" => TestStatus::Failed,
            _ => TestStatus::Skipped,
        };
        if parents.len() > depth && parents[depth] == found[3] {
            parents.truncate(depth);
            closed.push((name(&parents), status));
            continue;
        }
        parents.truncate(depth);
        named.record(&name(&parents), status);
    }
    let mut open = told.beyond(named.total());
    for (name, status) in closed {
        let wanted = match status {
            TestStatus::Passed => &mut open.passed,
            TestStatus::Failed => &mut open.failed,
            TestStatus::Skipped => continue,
        };
        if *wanted > 0 {
            *wanted -= 1;
            named.record(&name, status);
        }
    }
    named.sum_up(told);
    named
}

/// Reads the list of failures after the totals; returns the line after it.
fn retold(lines: &Lines<'_>, from: usize, named: &mut Report) -> usize {
    let Some(start) = (from..from + 3).find(|index| lines.at(*index) == "✖ failing tests:") else { return from };
    let mut index = start + 1;
    let mut end = index;
    while index < lines.len() {
        let line = lines.at(index);
        let Some(found) = line.strip_prefix("test at ").and(LINE.captures(lines.at(index + 1))) else {
            if !line.is_empty() && !line.starts_with(' ') {
                break;
            }
            index += 1;
            end = index;
            continue;
        };
        let body = (index + 2..lines.len())
            .map(|next| lines.at(next))
            .take_while(|line| line.is_empty() || line.starts_with("  "));
        let body: Vec<&str> = body.collect();
        if found.get(4).is_none() && named.has_room() {
            let words = body.iter().map(|line| line.strip_prefix("  ").unwrap_or(""));
            let words: Vec<&str> = words.take_while(|line| !line.trim_start().starts_with("at ")).collect();
            let (path, line) = body.iter().find_map(|line| own_frame(line)).or_else(|| place(line)).unzip();
            let own = &found[3];
            let full = named.failed_names().find(|name| *name == own || name.ends_with(&format!(" > {own}")));
            let test = Some(full.unwrap_or(own).to_owned());
            named.locate(Located { test, path, line, message: words.join("\n").trim().to_owned() });
        }
        index += 2 + body.len();
        end = index;
    }
    end
}
