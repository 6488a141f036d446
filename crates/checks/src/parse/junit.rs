//! JUnit XML, tolerant of its dialects. A test is named `classname name`, or by its suites where the class name says nothing,
//! or by its name alone where the class name is the same.

use domain::check::TestStatus;
use quick_xml::{
    Reader,
    escape::{resolve_predefined_entity, unescape},
    events::{BytesStart, Event},
};

use super::{
    Located, Report,
    text::{looks_like_error, place},
};

/// Nested suites beyond this are taken for a broken file.
const DEEPEST: usize = 64;

struct Case {
    name: String,
    status: TestStatus,
    message: String,
    place: Option<(String, u32)>,
}

/// The failures that suites say they have, the outermost ones that say it.
#[derive(Default)]
struct Told {
    failed: u32,
    /// Nesting of the suite whose count holds.
    within: Option<usize>,
}

impl Told {
    fn enter(&mut self, tag: &BytesStart<'_>, open: usize) {
        if self.within.is_none() && matches!(tag.local_name().as_ref(), "testsuites" | "testsuite") {
            let count = |key: &str| attribute(tag, key).and_then(|count| count.parse::<u32>().ok());
            let (failures, errors) = (count("failures"), count("errors"));
            self.within = failures.or(errors).map(|_| open);
            self.failed = [failures, errors].into_iter().flatten().fold(self.failed, u32::saturating_add);
        }
    }

    fn leave(&mut self, open: usize) {
        self.within = self.within.filter(|within| *within != open);
    }
}

/// `None` for a file that is not well-formed JUnit: a broken report says nothing.
pub(super) fn read(content: &str) -> Option<Report> {
    let mut reader = Reader::from_str(content);
    let mut report = Report::default();
    let mut suites: Vec<String> = Vec::new();
    let mut case: Option<Case> = None;
    let mut said: Option<String> = None;
    let mut open = 0_usize;
    let mut told = Told::default();
    loop {
        match reader.read_event().ok()? {
            Event::Eof => {
                // Failures that it counts and does not show.
                report.unnamed.failed = told.failed.saturating_sub(report.total().failed);
                return (open == 0).then_some(report);
            }
            Event::Start(tag) => {
                open += 1;
                told.enter(&tag, open);
                start(&tag, &mut suites, &mut case);
                let is_silent =
                    case.as_ref().is_some_and(|case| case.status == TestStatus::Failed && case.message.is_empty());
                let name = tag.local_name();
                let is_output = matches!(name.as_ref(), "system-out" | "system-err") && is_silent;
                said = (is_failure(name.as_ref()) || is_output).then(String::new);
                if suites.len() > DEEPEST {
                    return None;
                }
            }
            Event::Empty(tag) => {
                let depth = suites.len();
                start(&tag, &mut suites, &mut case);
                suites.truncate(depth);
                if tag.local_name().as_ref() == "testcase" {
                    finish(case.take(), &mut report);
                }
            }
            Event::End(tag) => {
                told.leave(open);
                open = open.checked_sub(1)?;
                match (tag.local_name().as_ref(), &mut case) {
                    ("testcase", _) => finish(case.take(), &mut report),
                    ("testsuite", _) => drop(suites.pop()),
                    (name, Some(case)) if is_failure(name) => body(case, &said.take().unwrap_or_default()),
                    ("system-out" | "system-err", Some(case)) => printed(case, &said.take().unwrap_or_default()),
                    _ => {}
                }
            }
            event => {
                if let Some(said) = &mut said {
                    said.push_str(&words(&event));
                }
            }
        }
    }
}

fn is_failure(name: &str) -> bool {
    matches!(name, "failure" | "error")
}

/// The text of an event within a failure.
fn words(event: &Event<'_>) -> String {
    match event {
        Event::Text(text) => text.xml10_content().into_owned(),
        Event::CData(text) => text.xml10_content().into_owned(),
        Event::GeneralRef(entity) => match entity.resolve_char_ref() {
            Ok(Some(character)) => character.to_string(),
            _ => resolve_predefined_entity(entity).unwrap_or_default().to_owned(),
        },
        _ => String::new(),
    }
}

fn attribute(tag: &BytesStart<'_>, key: &str) -> Option<String> {
    let found = tag.try_get_attribute(key).ok()??;
    Some(unescape(&found.value).map_or_else(|_| found.value.clone().into_owned(), |text| text.into_owned()))
}

fn start(tag: &BytesStart<'_>, suites: &mut Vec<String>, case: &mut Option<Case>) {
    match tag.local_name().as_ref() {
        "testsuite" => suites.push(attribute(tag, "name").unwrap_or_default()),
        "testcase" => {
            let own = attribute(tag, "name").unwrap_or_default().trim().to_owned();
            let class = attribute(tag, "classname").filter(|class| !class.is_empty() && class != "test");
            let name = match class.as_deref().map(str::trim) {
                Some(class) if class == own => own,
                Some(class) => format!("{class} {own}"),
                None => {
                    let parts = suites.iter().chain([&own]).filter(|part| !part.is_empty());
                    parts.map(String::as_str).collect::<Vec<_>>().join(" > ")
                }
            };
            let line = attribute(tag, "line").and_then(|line| line.parse().ok()).unwrap_or(0);
            let place = attribute(tag, "file").map(|file| (file, line));
            // GoogleTest and CTest list what they were told to leave out.
            let is_out = attribute(tag, "status").is_some_and(|status| matches!(&*status, "notrun" | "disabled"));
            let status = if is_out { TestStatus::Skipped } else { TestStatus::Passed };
            *case = Some(Case { name, status, message: String::new(), place });
        }
        "skipped" => {
            if let Some(case) = case {
                case.status = TestStatus::Skipped;
            }
        }
        "failure" | "error" => {
            if let Some(case) = case.as_mut().filter(|case| case.status == TestStatus::Passed) {
                case.status = TestStatus::Failed;
            }
            if let Some(case) = case {
                case.message = attribute(tag, "message").unwrap_or_default();
            }
        }
        _ => {}
    }
}

fn body(case: &mut Case, text: &str) {
    let lines = || text.lines().filter(|line| !line.contains("node_modules/") && !line.contains("/rustc/"));
    if case.place.is_none() {
        case.place = lines()
            .filter_map(place)
            .find(|(path, _)| path.contains('.') && !path.starts_with('/') && !path.starts_with("node:"));
    }
    let first = text.trim().lines().next().unwrap_or("");
    if case.message.is_empty() {
        case.message = text.trim().to_owned();
    } else if case.message.lines().count() == 1 && first.contains(case.message.trim_end()) {
        // The attribute is the first line only: the body says what follows as well.
        let is_said = |line: &&str| {
            let line = line.trim_start();
            !["stack backtrace:", "note: run with", "at "].iter().any(|mark| line.starts_with(mark))
        };
        case.message = text.trim().lines().take_while(is_said).take(8).collect::<Vec<_>>().join("\n");
    }
}

/// What a failed test printed, where its failure says nothing: from the first line that looks like an error.
fn printed(case: &mut Case, text: &str) {
    let from = text.lines().position(looks_like_error).unwrap_or(0);
    let words: Vec<&str> = text.lines().skip(from).filter(|line| !line.trim().is_empty()).take(8).collect();
    if !words.is_empty() {
        body(case, &words.join("\n"));
    }
}

fn finish(case: Option<Case>, report: &mut Report) {
    let Some(case) = case else { return };
    report.record(&case.name, case.status);
    if case.status == TestStatus::Failed {
        let (path, line) = case.place.unzip();
        report.locate(Located {
            test: Some(case.name),
            path,
            line: line.filter(|line| *line > 0),
            message: case.message,
        });
    }
}
