//! TAP 13 and 14, as `node --test`, tape and their like print it. A test is named by its way down: `suite > case`, an
//! assertion of tape by the test it stands in: `parse args > should be equal`.

use std::sync::LazyLock;

use domain::check::TestStatus;
use regex::Regex;

use super::{
    Lines, Located, Report,
    text::{expression, is_own, own_frame, place, relative},
};

static RESULT: LazyLock<Regex> = LazyLock::new(|| expression(r"^( *)(not )?ok +\d+(?: +-)?(?: +(.*))?$"));
static PLAN: LazyLock<Regex> = LazyLock::new(|| expression(r"^1\.\.(\d+)(?:\s*#.*)?$"));
static DIRECTIVE: LazyLock<Regex> = LazyLock::new(|| expression(r"(?i)(?:^|\s)#\s*(skip|todo)\b"));

/// One result line and the block below it.
struct Point<'a> {
    depth: usize,
    failed: bool,
    description: &'a str,
    block: Vec<&'a str>,
}

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let open: Vec<usize> = (0..lines.len()).filter(|index| !lines.is_claimed(*index)).collect();
    let versions: Vec<usize> =
        open.iter().copied().filter(|index| lines.at(*index).starts_with("TAP version ")).collect();
    // Without its first line TAP is told by a plan at the margin and result lines.
    let has_plan = || open.iter().any(|index| lines.at(*index).starts_with("1..") && PLAN.is_match(lines.at(*index)));
    let starts = if versions.is_empty() && has_plan() { vec![0] } else { versions };
    for (nth, start) in starts.iter().enumerate() {
        document(lines, *start..starts.get(nth + 1).copied().unwrap_or(lines.len()), report);
    }
}

/// Reads one document: from its version line (or the start) to the next one.
fn document(lines: &mut Lines<'_>, range: std::ops::Range<usize>, report: &mut Report) {
    let has_subtests = range.clone().any(|index| lines.at(index).trim_start().starts_with("# Subtest: "));
    let mut group = String::new();
    let mut path: Vec<String> = Vec::new();
    let (mut planned, mut seen, mut told_failed) = (None, 0_u32, 0_u32);
    let mut named = Report::default();
    let mut index = range.start;
    while index < range.end {
        if lines.is_claimed(index) {
            index += 1;
            continue;
        }
        let line = lines.at(index);
        let mut next = index + 1;
        if let Some(point) = point(lines, index, range.end) {
            next += point.block.len();
            seen += u32::from(point.depth == 0);
            path.truncate(point.depth);
            let parents = if has_subtests || point.depth > 0 { path.join(" > ") } else { group.clone() };
            if let Some(suite) = point.description.strip_suffix(" {") {
                // Its results stand within the braces and speak for it.
                path.resize(point.depth, String::new());
                path.push(untimed(suite).to_owned());
            } else {
                result(&point, &parents, &mut named);
            }
        } else if let Some(name) = line.trim_start().strip_prefix("# Subtest: ") {
            let depth = depth_of(line);
            path.truncate(depth);
            path.resize(depth, String::new());
            path.push(name.replace("\\#", "#"));
        } else if let Some(plan) = PLAN.captures(line) {
            planned = plan[1].parse::<u32>().ok();
        } else if let Some(count) = line.strip_prefix("# fail ") {
            told_failed = count.trim().parse().unwrap_or(0);
        } else if let Some(comment) = line.strip_prefix("# ").filter(|_| !has_subtests && !is_count(line)) {
            comment.clone_into(&mut group);
        } else if line.starts_with("Bail out!") {
            named.broken = true;
            named.cut_short = true;
        } else if !line.trim_start().starts_with('#') && line.trim() != "}" && !line.starts_with("TAP version ") {
            // Something else was printed in between: no format has understood it.
            index = next;
            continue;
        }
        lines.claim(index..next);
        index = next;
    }
    if seen == 0 && planned.is_none_or(|planned| planned > 0) {
        return;
    }
    if planned.is_none_or(|planned| seen < planned) {
        named.broken = true;
        named.cut_short = true;
    }
    named.unnamed.failed = if has_subtests { told_failed.saturating_sub(named.total().failed) } else { 0 };
    report.absorb(named);
}

/// A description without how long it took.
fn untimed(description: &str) -> &str {
    description.split_once(" # time=").map_or(description, |(own, _)| own)
}

fn depth_of(line: &str) -> usize {
    (line.len() - line.trim_start_matches(' ').len()) / 4
}

fn is_count(line: &str) -> bool {
    let mut words = line.trim_start_matches("# ").split_whitespace();
    let first = words.next().unwrap_or("");
    matches!(
        first,
        "tests" | "pass" | "fail" | "ok" | "skip" | "todo" | "SKIP" | "duration_ms" | "suites" | "cancelled"
    ) && words.next().is_none_or(|word| word.parse::<f64>().is_ok() || first == "SKIP")
}

fn point<'a>(lines: &Lines<'a>, index: usize, end: usize) -> Option<Point<'a>> {
    let line = lines.at(index);
    let trimmed = line.trim_start_matches(' ');
    if !trimmed.starts_with("ok") && !trimmed.starts_with("not ok") {
        return None;
    }
    let found = RESULT.captures(line)?;
    let indent = found[1].len();
    let mut block = Vec::new();
    if lines.at(index + 1).trim() == "---" {
        let below = (index + 1..end).map(|next| lines.at(next));
        for line in below {
            block.push(line);
            if line.trim() == "..." && line.len() - 3 <= indent + 4 {
                break;
            }
        }
    }
    if block.is_empty() && found.get(2).is_some() {
        block.extend((index + 1..end).map(|next| lines.at(next)).take_while(|line| is_said(line, indent)).take(40));
    }
    let description = found.get(3).map_or("", |found| found.as_str());
    Some(Point { depth: indent / 4, failed: found.get(2).is_some(), description, block })
}

/// Whether a line below a failure tells of it, where there is no block: a comment that is set in, or words that are.
fn is_said(line: &str, indent: usize) -> bool {
    let words = line.trim_start();
    let is_result = words.starts_with("ok ") || words.starts_with("not ok ") || PLAN.is_match(words) || words == "}";
    match words.strip_prefix('#') {
        Some(comment) => ["  ", " (", " `", " Looks like"].iter().any(|mark| comment.starts_with(mark)),
        None => !words.is_empty() && line.len() - words.len() > indent && !is_result,
    }
}

fn result(point: &Point<'_>, parents: &str, named: &mut Report) {
    if field(point, "type").is_some_and(|kind| kind == "suite") {
        return;
    }
    let directive = DIRECTIVE.find(point.description);
    let own = directive.map_or(point.description, |found| &point.description[..found.start()]);
    let own = untimed(own).trim().replace("\\#", "#");
    let own = if own.is_empty() { "(no name)".to_owned() } else { own };
    let name = if parents.is_empty() { own } else { format!("{parents} > {own}") };
    let status = match (directive, point.failed) {
        (Some(_), _) => TestStatus::Skipped,
        (None, true) => TestStatus::Failed,
        (None, false) => TestStatus::Passed,
    };
    named.record(&name, status);
    // A parent that failed for its children adds nothing to what they say.
    let is_cause = field(point, "failureType").is_none_or(|kind| kind != "subtestsFailed");
    if status == TestStatus::Failed && is_cause {
        named.locate(failure(point, name));
    }
}

/// A one-line value of the block, without its quotes.
fn field<'a>(point: &Point<'a>, key: &str) -> Option<&'a str> {
    let value = point.block.iter().find_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix(':'))?;
    Some(value.trim().trim_matches(['\'', '"']))
}

/// The same, of one line or of those that stand deeper; `None` where it is empty.
fn value(point: &Point<'_>, key: &str) -> Option<String> {
    let text = field(point, key)?;
    let is_below = text.is_empty() || text.starts_with(['|', '>']);
    Some(if is_below { indented(point, &format!("{key}:")) } else { text.to_owned() }).filter(|text| !text.is_empty())
}

fn failure(point: &Point<'_>, test: String) -> Located {
    if point.block.first().is_some_and(|line| line.trim() != "---") {
        return said(&point.block, test);
    }
    // Vitest's words stand one level deeper, as the error's message.
    let mut message = ["message", "error"].iter().find_map(|key| value(point, key)).unwrap_or_default();
    if message.is_empty() {
        let said = ["operator", "expected", "actual"].iter().filter_map(|key| {
            let value = value(point, key)?;
            Some(format!("{key}: {value}"))
        });
        message = said.collect::<Vec<_>>().join("\n");
    }
    let raised = point
        .block
        .iter()
        .skip_while(|line| !line.trim_start().starts_with("stack:"))
        .find_map(|line| stack_frame(line));
    let declared =
        || field(point, "at").or_else(|| field(point, "location")).and_then(place).filter(|(path, _)| is_own(path));
    let (path, line) = raised.or_else(declared).unzip();
    Located { test: Some(test), path, line, message }
}

/// The place of a frame in a stack, which stands without `at` in some reports.
fn stack_frame(line: &str) -> Option<(String, u32)> {
    let line = line.trim_start();
    let is_foreign = !line.contains('(') || line.contains("(node:") || line.contains("(internal/");
    if is_foreign { None } else { place(line).filter(|(path, _)| is_own(path)) }
}

/// Comments or words below a failure, and the first place of the repository's own in them.
fn said(block: &[&str], test: String) -> Located {
    static LINE: LazyLock<Regex> = LazyLock::new(|| expression(r"(?:at|file) (\S+?),? line (\d+)"));
    let lines = || block.iter().map(|line| line.trim().trim_start_matches('#').trim());
    let in_words = |line| {
        let found = LINE.captures(line)?;
        Some((relative(&found[1]), found[2].parse().ok()?)).filter(|(path, _)| is_own(path))
    };
    let (path, line) = lines().find_map(|line| own_frame(line).or_else(|| in_words(line))).unzip();
    let words = lines().take_while(|line| !line.starts_with("at ") || line.contains(" line "));
    Located { test: Some(test), path, line, message: words.take(8).collect::<Vec<_>>().join("\n") }
}

/// The lines of a block value that stand deeper than its key.
fn indented(point: &Point<'_>, key: &str) -> String {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut below = point.block.iter().skip_while(|line| !line.trim_start().starts_with(key));
    let at = below.next().map_or(0, |line| depth(line));
    let inner = below.take_while(|line| line.trim().is_empty() || depth(line) > at);
    inner.map(|line| line.get(at + 2..).unwrap_or("")).collect::<Vec<_>>().join("\n").trim().to_owned()
}
