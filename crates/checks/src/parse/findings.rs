//! Diagnostics in JSON, whatever the tool: a list of objects with a place, words and how bad it is, under the names that ESLint,
//! Ruff, Pylint, mypy, Pyright, reviewdog (`rdjson`), GitLab's code quality and SARIF give them.

use serde_json::Value;

use super::{
    complaints::{Complaint, Complaints},
    sarif,
    text::relative,
};

/// Under which of these names a document keeps its list.
const LISTS: &[&str] = &["results", "diagnostics", "generalDiagnostics", "messages", "issues"];
const PATHS: &[&str] =
    &["filePath", "filename", "file", "path", "location/path", "location/file", "source/path", "artifact_path"];
const LINES: &[&str] = &[
    "line",
    "location/row",
    "location/line",
    "location/range/start/line",
    "location/positions/begin/line",
    "location/lines/begin",
    "start/line",
];
const WORDS: &[&str] = &["message", "description", "text"];
const CODES: &[&str] = &["code/value", "code", "ruleId", "symbol", "check_name", "rule"];
const LEVELS: &[&str] = &["severity", "level", "type"];

/// Adds what a document complains of; what it does not understand says nothing.
pub(super) fn read(index: usize, document: &Value, found: &mut Complaints) {
    if document.get("runs").is_some() {
        return sarif::read(index, document, found);
    }
    let listed = || LISTS.iter().find_map(|name| document.get(name)?.as_array());
    match document.as_array().or_else(listed) {
        Some(list) => list.iter().for_each(|entry| entry_of(index, entry, found)),
        None => finding(index, None, document, found),
    }
}

/// A finding, or a file with its findings.
fn entry_of(index: usize, entry: &Value, found: &mut Complaints) {
    match entry.get("messages").and_then(Value::as_array) {
        Some(messages) => messages.iter().for_each(|message| finding(index, text_of(entry, PATHS), message, found)),
        None => finding(index, None, entry, found),
    }
}

fn finding(index: usize, path: Option<&str>, value: &Value, found: &mut Complaints) {
    let Some((path, words)) = path.or_else(|| text_of(value, PATHS)).zip(text_of(value, WORDS)) else { return };
    let zero_based = value.get("range").and_then(|range| at(range, "start/line")).and_then(Value::as_u64);
    let line = LINES.iter().find_map(|name| at(value, name)?.as_u64()).or(zero_based.map(|line| line + 1));
    // A finding has a place, a test's result has none.
    let Some(line) = line.and_then(|line| u32::try_from(line).ok()) else { return };
    let words = match text_of(value, CODES) {
        // A letter and a number stand in front, a rule's name behind, as the tools themselves print them.
        Some(code) if !words.contains(code) && code.starts_with(|first: char| first.is_ascii_uppercase()) => {
            format!("{code} {words}")
        }
        Some(code) if !words.contains(code) => format!("{words} {code}"),
        _ => words.to_owned(),
    };
    let complaint = Complaint::at(relative(path), Some(line), &words);
    found.add(index, if is_mild(value) { complaint.mild() } else { complaint });
}

fn is_mild(value: &Value) -> bool {
    LEVELS.iter().find_map(|name| at(value, name)).is_some_and(|level| match level {
        Value::Number(number) => number.as_u64() == Some(1),
        Value::String(word) => {
            let word = word.to_ascii_lowercase();
            matches!(&*word, "warning" | "convention" | "refactor" | "info" | "information" | "note" | "minor")
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    })
}

fn text_of<'a>(value: &'a Value, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| at(value, name)?.as_str())
}

/// A value by its way down.
fn at<'a>(value: &'a Value, way: &str) -> Option<&'a Value> {
    way.split('/').try_fold(value, |value, name| value.get(name))
}
