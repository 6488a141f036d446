//! What the agent is told of a judgement, within 4 KB, and the mark by which two failures are known to be the same.

use std::{collections::BTreeSet, fmt::Write as _};

use domain::check::{CheckEnd, CheckRun, Verdict};
use sha2::{Digest as _, Sha256};

use crate::{
    contract::Touched,
    parse::{Located, Report, cut, for_people, normal_line},
    verdict::{count, told as in_words},
};

/// Bytes of a digest.
const MOST: usize = 4096;
/// Bytes of one test's message.
const MESSAGE: usize = 600;
/// Errors that belong to no test, told of where tests fail as well.
const CAUSES: usize = 4;
/// Failing tests told of, and other names in a list.
const TESTS: usize = 12;
const NAMES: usize = 10;
/// Bytes of a list of names: lists must leave room for what failed.
const LIST: usize = 800;
/// Below this an excerpt of the output says nothing.
const WORTHWHILE: usize = 160;

/// One check's run with what only the digest needs of it.
pub(crate) struct Told<'a> {
    pub run: &'a CheckRun,
    pub report: &'a Report,
    /// The output as a person reads it.
    pub text: &'a str,
}

impl Told<'_> {
    fn is_run(&self) -> bool {
        self.run.end != CheckEnd::NotRun
    }
}

pub(crate) fn digest(verdict: Verdict, runs: &[Told<'_>], touched: &Touched) -> String {
    let mut page = Page { text: String::new(), most: MOST };
    match verdict {
        Verdict::Green => page.line(&format!("The checks are green: {}.", names_of(runs, Verdict::Green))),
        Verdict::Red => page.line("The checks are red."),
        Verdict::Inconclusive if runs.is_empty() => {
            page.line("No check was run: nothing shows whether the change is right.")
        }
        Verdict::Inconclusive => page.line("The checks are inconclusive: a person has to decide."),
    }
    if !touched.outside_allowed.is_empty() {
        let paths = listed(&touched.outside_allowed);
        page.line(&format!(
            "These changed paths are outside the allowed ones, take the changes to them back: {paths}."
        ));
    }
    if !touched.protected.is_empty() {
        let paths = listed(&touched.protected);
        page.line(&format!("These changed paths are protected, the checks took them from the base: {paths}."));
    }
    let of = |verdict: Verdict| runs.iter().filter(move |told| told.run.verdict == verdict && told.is_run());
    let failing: Vec<&Told<'_>> = of(Verdict::Red).chain(of(Verdict::Inconclusive)).collect();
    for (nth, told) in failing.iter().enumerate() {
        let share = page.left() / (failing.len() - nth);
        let mut part = Page { text: String::new(), most: share };
        describe(told, &mut part);
        page.text.push_str(&part.text);
    }
    if verdict != Verdict::Green && of(Verdict::Green).next().is_some() {
        page.line(&format!("Green: {}.", names_of(runs, Verdict::Green)));
    }
    if runs.iter().any(|told| !told.is_run()) {
        page.line(&format!("Not run, as a fast check is not green: {}.", names(runs, |told| !told.is_run())));
    }
    page.text.truncate(page.text.trim_end().len());
    page.text
}

fn describe(told: &Told<'_>, page: &mut Page) {
    let run = told.run;
    page.line("");
    page.line(&format!("Check `{}` is {}: {}.", cut(&run.check.name, 200), run.verdict.word(), run.reason));
    // What does not compile comes first: it may be why tests fail, or why they are not there.
    let most = if run.new_failures.is_empty() { TESTS } else { CAUSES };
    let loose: Vec<&Located> = told.report.located.iter().filter(|located| located.test.is_none()).collect();
    for located in loose.iter().take(most) {
        page.line(&format!("- {}", message(located, "  ").trim_start()));
    }
    if loose.len() > most {
        page.line(&format!("and {} more in its output.", loose.len() - most));
    }
    let (explained, is_said) = failures(told, page);
    let bare: Vec<String> =
        run.new_failures.iter().filter(|name| !explained.contains(&name.as_str())).cloned().collect();
    if !bare.is_empty() {
        page.line(&format!("{} {}", if explained.is_empty() { "Failing:" } else { "Failing too:" }, listed(&bare)));
    }
    if !run.missing.is_empty() {
        page.line(&format!("Ran on the base and not now, bring them back: {}", listed(&run.missing)));
    }
    if !run.known_failures.is_empty() {
        let known = count(run.known_failures.len(), "failure");
        page.line(&format!(
            "{known} that the base has too {} not yours.",
            if run.known_failures.len() == 1 { "is" } else { "are" }
        ));
    }
    let says_why = is_said || (run.new_failures.is_empty() && !run.missing.is_empty());
    if !says_why {
        let text = for_people(told.text);
        // A document for programs says nothing more to a reader.
        let is_document = text.trim_start().starts_with(['{', '[']);
        if !is_document || told.report.located.is_empty() {
            excerpt(&text, page);
        }
    }
}

/// The new failures with their words, those that fail in the same way together; answers which they were, and whether any had
/// words. What is left of the page then is for names.
fn failures<'a>(told: &Told<'a>, page: &mut Page) -> (Vec<&'a str>, bool) {
    let new: BTreeSet<&str> = told.run.new_failures.iter().map(String::as_str).collect();
    let mut causes: Vec<(&Located, Vec<&'a str>)> = Vec::new();
    for located in &told.report.located {
        let Some(test) = located.test.as_deref().filter(|test| new.contains(test)) else { continue };
        let is_same =
            |one: &Located| (&one.path, one.line, &one.message) == (&located.path, located.line, &located.message);
        match causes.iter_mut().find(|(one, _)| !one.message.is_empty() && is_same(one)) {
            Some((_, tests)) => tests.push(test),
            None => causes.push((located, vec![test])),
        }
    }
    let mut explained = Vec::new();
    let mut is_said = false;
    for (located, tests) in causes.iter().take(TESTS) {
        if !explained.is_empty() && page.left() < LIST {
            break;
        }
        page.line(&format!("- {}", tests[0]));
        let words = message(located, "  ");
        if !words.is_empty() {
            page.line(&words);
        }
        is_said |= !located.message.is_empty();
        if let [_, same @ ..] = &tests[..]
            && !same.is_empty()
        {
            let same: Vec<String> = same.iter().map(|test| (*test).to_owned()).collect();
            page.line(&format!("  and in the same way: {}", listed(&same)));
        }
        explained.extend(tests);
    }
    (explained, is_said)
}

/// `path:line: message`, later lines indented.
fn message(located: &Located, indent: &str) -> String {
    let place = match (&located.path, located.line) {
        (Some(path), Some(line)) => format!("{path}:{line}: "),
        (Some(path), None) => format!("{path}: "),
        (None, _) => String::new(),
    };
    let words = format!("{place}{}", cut(&located.message, MESSAGE));
    let lines = words.lines().filter(|line| !line.trim().is_empty()).take(12);
    lines
        .enumerate()
        .map(|(nth, line)| if nth == 0 { format!("{indent}{line}") } else { format!("{indent}  {line}") })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The beginning and, larger, the end of an output.
fn excerpt(text: &str, page: &mut Page) {
    let text = text.trim();
    let room = page.left().saturating_sub(64);
    if text.is_empty() || room < WORTHWHILE {
        return;
    }
    if text.len() <= room {
        page.line("Its output:");
        page.line(text);
        return;
    }
    let head = cut(text, room / 5);
    let head = head.rsplit_once('\n').map_or(head, |(head, _)| head);
    let from = text.ceil_char_boundary(text.len() - (room - room / 5));
    let tail = &text[from..];
    let tail = tail.split_once('\n').map_or(tail, |(_, tail)| tail);
    let elided = text.len() - head.len() - tail.len();
    page.line("Its output:");
    page.line(&format!("{head}\n[{elided} bytes left out]\n{tail}"));
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMES).map(|name| cut(name, 200)).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES) {
        0 => cut(&shown, LIST).to_owned(),
        more => format!("{} and {more} more", cut(&shown, LIST)),
    }
}

fn names_of(runs: &[Told<'_>], verdict: Verdict) -> String {
    names(runs, |told| told.run.verdict == verdict)
}

fn names(runs: &[Told<'_>], is_wanted: impl Fn(&Told<'_>) -> bool) -> String {
    let names = runs.iter().filter(|told| is_wanted(told));
    listed(&names.map(|told| format!("`{}`", cut(&told.run.check.name, 200))).collect::<Vec<_>>())
}

/// Text that never grows beyond its bound.
struct Page {
    text: String,
    most: usize,
}

impl Page {
    fn left(&self) -> usize {
        self.most.saturating_sub(self.text.len())
    }

    fn line(&mut self, line: &str) {
        if self.left() > 1 {
            self.text.push_str(cut(line, self.left() - 1));
            self.text.push('\n');
        }
    }
}

/// Equal for two judgements that failed in the same way: the same tests, or the same complaints without what changes from
/// run to run. Empty when green.
pub(crate) fn fingerprint(verdict: Verdict, runs: &[Told<'_>], touched: &Touched) -> String {
    if verdict == Verdict::Green {
        return String::new();
    }
    let mut marks: BTreeSet<String> = touched.outside_allowed.iter().map(|path| format!("outside {path}")).collect();
    for told in runs.iter().filter(|told| told.run.verdict != Verdict::Green && told.is_run()) {
        let run = told.run;
        let names = run.new_failures.iter().chain(&run.missing);
        let before = marks.len();
        marks.extend(names.map(|name| format!("{} {name}", run.check.name)));
        if marks.len() == before {
            marks.insert(format!("{} {}", run.check.name, in_words(run.end)));
            let complaints = &told.report.loose;
            let last = || told.text.lines().rev().map(normal_line).filter(|line| !line.is_empty()).take(20);
            match complaints.is_empty() {
                true => marks.extend(last()),
                false => marks.extend(complaints.iter().cloned()),
            }
        }
    }
    let mut hash = Sha256::new();
    for mark in &marks {
        hash.update(mark.len().to_le_bytes());
        hash.update(mark);
    }
    hash.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
