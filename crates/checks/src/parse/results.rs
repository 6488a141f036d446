//! Test results in JSON documents: Jest's and Vitest's (`--json`, `--reporter=json`), RSpec's, Mocha's. Tests have the names that
//! the text reports give them.

use domain::check::TestStatus;
use serde_json::Value;

use super::{
    Located, Report,
    text::{own_frame, place, relative},
};

/// `None` where the document is none of them.
pub(super) fn read(document: &Value) -> Option<Report> {
    if let Some(files) = document.get("testResults").and_then(Value::as_array) {
        return Some(jest(document, files));
    }
    if let Some(examples) = document.get("examples").and_then(Value::as_array) {
        return Some(rspec(document, examples));
    }
    let stats = document.get("stats")?;
    Some(mocha(document, stats, document.get("tests")?.as_array()?))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

fn number(value: &Value, name: &str) -> u32 {
    value.get(name).and_then(Value::as_u64).map_or(0, |number| u32::try_from(number).unwrap_or(u32::MAX))
}

fn jest(document: &Value, files: &[Value]) -> Report {
    // Vitest knows nothing of handles.
    let between = if document.get("openHandles").is_some() { " › " } else { " > " };
    let mut named = Report::default();
    for file in files {
        let path = relative(text(file, "name"));
        let tests = file.get("assertionResults").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for test in tests {
            let parents = test.get("ancestorTitles").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let way = parents.iter().filter_map(Value::as_str).chain([text(test, "title")]);
            let name = [&*path].into_iter().chain(way).collect::<Vec<_>>().join(between);
            let status = match text(test, "status") {
                "passed" => TestStatus::Passed,
                "failed" => TestStatus::Failed,
                _ => TestStatus::Skipped,
            };
            named.record(&name, status);
            if status == TestStatus::Failed {
                let words = test.get("failureMessages").and_then(|all| all.get(0)).and_then(Value::as_str);
                named.locate(raised(name, words.unwrap_or(""), None));
            }
        }
        if tests.is_empty() && text(file, "status") == "failed" {
            named.record(&path, TestStatus::Failed);
            named.locate(raised(path.clone(), text(file, "message"), Some((path, None))));
            named.cut_short = true;
        }
    }
    let failed = number(document, "numFailedTests").saturating_add(number(document, "numRuntimeErrorTestSuites"));
    named.unnamed.failed = failed.saturating_sub(named.total().failed);
    let is_told = document.get("success").and_then(Value::as_bool) == Some(false);
    named.broken = is_told && named.total().failed == 0;
    named
}

fn rspec(document: &Value, examples: &[Value]) -> Report {
    let mut named = Report::default();
    for example in examples {
        let name = text(example, "full_description").trim().to_owned();
        let status = match text(example, "status") {
            "passed" => TestStatus::Passed,
            "failed" => TestStatus::Failed,
            _ => TestStatus::Skipped,
        };
        named.record(&name, status);
        if let Some(exception) = example.get("exception").filter(|_| status == TestStatus::Failed) {
            let frames = exception.get("backtrace").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let own =
                frames.iter().filter_map(Value::as_str).filter_map(place).find(|(path, _)| !path.starts_with('/'));
            let line = example.get("line_number").and_then(Value::as_u64).and_then(|line| u32::try_from(line).ok());
            let declared = || line.map(|line| (relative(text(example, "file_path")), line));
            let (path, line) = own.or_else(declared).unzip();
            let message = format!("{}: {}", text(exception, "class"), text(exception, "message").trim());
            named.locate(Located { test: Some(name), path, line, message });
        }
    }
    if let Some(summary) = document.get("summary") {
        named.unnamed.failed = number(summary, "failure_count").saturating_sub(named.total().failed);
        named.broken = number(summary, "errors_outside_of_examples_count") > 0;
    }
    named
}

fn mocha(document: &Value, stats: &Value, tests: &[Value]) -> Report {
    let mut named = Report::default();
    let titles = |list: &str| {
        let tests = document.get(list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        tests.iter().map(|test| text(test, "fullTitle")).collect::<Vec<_>>()
    };
    let (pending, failures) = (titles("pending"), titles("failures"));
    for test in tests {
        let name = text(test, "fullTitle");
        let status = if failures.contains(&name) {
            TestStatus::Failed
        } else if pending.contains(&name) {
            TestStatus::Skipped
        } else {
            TestStatus::Passed
        };
        named.record(name, status);
        if status == TestStatus::Failed {
            let words = test.get("err").map_or("", |error| text(error, "stack"));
            named.locate(raised(name.to_owned(), words, Some((relative(text(test, "file")), None))));
        }
    }
    // A hook that failed is no test.
    named.unnamed.failed = number(stats, "failures").saturating_sub(named.total().failed);
    named
}

/// The words of a JavaScript error up to its frames, and the first frame of the repository's own.
fn raised(test: String, stack: &str, otherwise: Option<(String, Option<u32>)>) -> Located {
    let own = stack.lines().find_map(own_frame).map(|(path, line)| (path, Some(line)));
    let words = stack.lines().take_while(|line| !line.trim_start().starts_with("at ")).collect::<Vec<_>>().join("\n");
    let (path, line) = own.or(otherwise).unzip();
    Located { test: Some(test), path, line: line.flatten(), message: words.trim().to_owned() }
}
