//! pytest's terminal report, plain, `-q`, `-v`, with or without xdist. A test is named by its node id:
//! `tests/test_a.py::TestX::test_y[param]`; a file that cannot be collected by its path.

use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
};

use domain::check::TestStatus;
use regex::Regex;

use super::{
    Lines, Located, Report, Tally,
    text::{expression, is_own, relative},
};

static SUMMARY: LazyLock<Regex> = LazyLock::new(|| {
    expression(
        r"^(?:=+ )?((?:\d+ (?:failed|passed|skipped|deselected|xfailed|xpassed|warnings?|errors?|rerun|subtests passed)(?:, )?)+|no tests ran) in \d[\d.]*s(?: \([\d:, days]+\))?(?: =+)?$",
    )
});
static COUNT: LazyLock<Regex> = LazyLock::new(|| expression(r"(\d+) ([a-z]+)"));
static LOUD: LazyLock<Regex> = LazyLock::new(|| {
    expression(r"^(\S+\.\w+::.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)(?: \(.*\)?)?(?:\s+\[ *\d+%\])?$")
});
static WORKER: LazyLock<Regex> = LazyLock::new(|| {
    expression(r"^\[gw\d+\] \[ *\d+%\] (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) (\S+\.\w+::.+?)\s*$")
});
static BRIEF: LazyLock<Regex> = LazyLock::new(|| expression(r"^(FAILED|ERROR|PASSED|XPASS) (\S.*)$"));
static TITLE: LazyLock<Regex> = LazyLock::new(|| expression(r"^_{3,} (.+?) _{3,}$"));
static RAISED: LazyLock<Regex> = LazyLock::new(|| expression(r"^([^\s:][^:]*\.\w+):(\d+): "));

/// The words each test ended with, in the order of their first mention. One that passes may still fail when it is torn
/// down, and then counts twice.
#[derive(Default)]
struct Ends {
    order: Vec<String>,
    words: HashMap<String, BTreeSet<String>>,
}

impl Ends {
    fn note(&mut self, name: &str, word: &str) {
        let words = self.words.entry(name.to_owned()).or_insert_with(|| {
            self.order.push(name.to_owned());
            BTreeSet::new()
        });
        words.insert(word.to_owned());
    }
}

pub(super) fn read(lines: &mut Lines<'_>, report: &mut Report) {
    let mut from = 0;
    for index in 0..lines.len() {
        let line = lines.at(index);
        if line.contains(" in ") && SUMMARY.is_match(line) {
            let first = session(lines, from..index, report);
            lines.claim(first..index + 1);
            from = index + 1;
        }
    }
    // A session that was announced and never summed up was killed or crashed.
    if (from..lines.len())
        .any(|index| lines.at(index).starts_with("=") && lines.at(index).contains(" test session starts "))
    {
        report.broken = true;
        report.cut_short = true;
    }
}

/// Reads one session; returns its first line.
fn session(lines: &Lines<'_>, range: std::ops::Range<usize>, report: &mut Report) -> usize {
    let mut ends = Ends::default();
    let mut first = range.end;
    let mut messages: HashMap<String, String> = HashMap::new();
    let mut sections = Vec::new();
    let mut in_summary = false;
    for index in range.clone() {
        let line = lines.at(index);
        let banner = line.starts_with("===");
        if banner || line.contains("%]") || LOUD.is_match(line) {
            first = first.min(index);
        }
        if banner {
            in_summary = line.contains(" short test summary info ");
        } else if let Some(found) = LOUD.captures(line) {
            ends.note(&found[1], &found[2]);
        } else if let Some(found) = line.starts_with("[gw").then(|| WORKER.captures(line)).flatten() {
            ends.note(&found[2], &found[1]);
        } else if let Some(found) = in_summary.then(|| BRIEF.captures(line)).flatten() {
            let (name, message) = split(&found[2]);
            ends.note(name, &found[1]);
            if matches!(&found[1], "FAILED" | "ERROR") {
                messages.insert(name.to_owned(), message.to_owned());
            }
        } else if line.starts_with("!!!") && (line.contains("Interrupted") || line.contains("stopping after")) {
            report.cut_short = true;
        } else if let Some(found) = line.starts_with("___").then(|| TITLE.captures(line)).flatten() {
            sections.push(section(lines, index + 1..range.end, &found[1]));
        }
    }
    let told = told(lines.at(range.end));
    let mut named = Report::default();
    for name in &ends.order {
        let tally = tally(&ends.words[name]);
        named.tests.insert(name.clone(), tally);
        if tally.failed > 0 && named.has_room() {
            named.locate(located(name, messages.get(name), &mut sections));
        }
    }
    named.sum_up(told);
    report.absorb(named);
    first
}

fn tally(words: &BTreeSet<String>) -> Tally {
    let mut tally = Tally::default();
    for word in words {
        tally.count(match word.as_str() {
            "PASSED" | "XPASS" => TestStatus::Passed,
            "FAILED" | "ERROR" => TestStatus::Failed,
            _ => TestStatus::Skipped,
        });
    }
    tally
}

fn told(summary: &str) -> Tally {
    let mut told = Tally::default();
    for found in COUNT.captures_iter(summary) {
        let count = found[1].parse().unwrap_or(0);
        match &found[2] {
            "passed" | "xpassed" => told.passed += count,
            "failed" | "error" | "errors" => told.failed += count,
            "skipped" | "xfailed" => told.skipped += count,
            _ => {}
        }
    }
    told
}

/// Splits `name - message`; a parameter may hold ` - ` as well, within its brackets.
fn split(text: &str) -> (&str, &str) {
    let mut depth = 0_i32;
    for (at, character) in text.char_indices() {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            ' ' if depth <= 0 && text[at..].starts_with(" - ") => return (&text[..at], &text[at + 3..]),
            _ => {}
        }
    }
    (text.trim_end(), "")
}

/// One failure's section: its title, the place that raised, the `E` lines.
struct Section {
    title: String,
    place: Option<(String, u32)>,
    words: Vec<String>,
}

fn section(lines: &Lines<'_>, range: std::ops::Range<usize>, title: &str) -> Section {
    let mut section = Section { title: title.to_owned(), place: None, words: Vec::new() };
    for line in range.map(|index| lines.at(index)) {
        if line.starts_with("___") && TITLE.is_match(line)
            || line.starts_with("===")
            || line.starts_with("--- Captured")
        {
            break;
        }
        if let Some(word) = line.strip_prefix("E  ") {
            if section.words.len() < 8 {
                section.words.push(word.trim_start().to_owned());
            }
        } else if let Some(found) = RAISED.captures(line).filter(|found| is_own(&found[1])) {
            section.place = found[2].parse().ok().map(|at| (relative(&found[1]), at));
        }
    }
    section
}

/// Takes the section that belongs to a test: titles leave out the file, so equal ones are taken in order.
fn located(name: &str, words: Option<&String>, sections: &mut Vec<Section>) -> Located {
    let short = name.split_once("::").map_or(name, |(_, rest)| rest).replace("::", ".");
    let file = name.split("::").next().unwrap_or(name);
    let belongs = |section: &Section| {
        let title = section.title.as_str();
        title == short
            || title.strip_prefix("ERROR at setup of ").is_some_and(|rest| rest == short)
            || title.strip_prefix("ERROR at teardown of ").is_some_and(|rest| rest == short)
            || title.strip_prefix("ERROR collecting ").is_some_and(|rest| rest == file)
    };
    let in_file = |section: &Section| section.place.as_ref().is_some_and(|(path, _)| path == file);
    let at = sections.iter().position(|one| belongs(one) && in_file(one)).or_else(|| sections.iter().position(belongs));
    let section = at.map(|at| sections.remove(at));
    let (path, line) = section.as_ref().and_then(|section| section.place.clone()).unzip();
    let told = section.map(|section| section.words.join("\n")).filter(|words| !words.is_empty());
    let message = told.or_else(|| words.cloned()).unwrap_or_default();
    Located { test: Some(name.to_owned()), path: path.or_else(|| Some(file.to_owned())), line, message }
}
