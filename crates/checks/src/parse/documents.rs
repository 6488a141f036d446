//! Whole documents within an output: JSON on one line or from a bracket at the margin to its end, JUnit XML.

use std::ops::Range;

use serde_json::Value;

use super::Lines;

/// Bytes of a document that is looked into: a parsed one takes several times as much.
const LONGEST: usize = 8 << 20;

/// Lines looked at for the ends of documents: brackets that nothing closes must not be tried one by one.
const LINES: usize = 1 << 20;

/// The JSON objects and arrays of what nobody claimed, and the lines on which they stand.
pub(super) fn json(lines: &Lines<'_>) -> Vec<(Range<usize>, Value)> {
    let mut found = Vec::new();
    let mut index = 0;
    let mut left = LINES;
    while index < lines.len() && left > 0 {
        let end = if lines.is_claimed(index) { None } else { json_end(lines, index, &mut left) };
        let Some(end) = end else {
            index += 1;
            continue;
        };
        match parsed(lines, index..end) {
            Some(value) => {
                found.push((index..end, value));
                index = end;
            }
            None => index += 1,
        }
    }
    found
}

/// The line after a document that may start at `index`.
fn json_end(lines: &Lines<'_>, index: usize, left: &mut usize) -> Option<usize> {
    let line = lines.at(index).trim_end();
    let close = match line.as_bytes().first()? {
        b'{' => '}',
        b'[' => ']',
        _ => return None,
    };
    if line.len() > 2 {
        return line.ends_with(close).then_some(index + 1);
    }
    let is_end = |next: &usize| lines.at(*next).starts_with(close);
    let end = (index + 1..lines.len()).take(*left).find(is_end).map(|end| end + 1);
    // The lines are read once more where it is no document.
    *left = left.saturating_sub(2 * (end.unwrap_or(lines.len()) - index));
    end
}

fn parsed(lines: &Lines<'_>, range: Range<usize>) -> Option<Value> {
    let length: usize = range.clone().map(|index| lines.at(index).len() + 1).sum();
    if length > LONGEST {
        return None;
    }
    let text: Vec<&str> = range.map(|index| lines.at(index)).collect();
    serde_json::from_str(text.join("\n").trim_end()).ok().filter(|value: &Value| !is_empty(value))
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// JUnit documents, which are taken for files.
pub(super) fn junit(lines: &mut Lines<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut index = 0;
    while index < lines.len() {
        let line = lines.at(index).trim_start();
        let close = if line.starts_with("<testsuites") {
            "</testsuites>"
        } else if line.starts_with("<testsuite") {
            "</testsuite>"
        } else {
            index += 1;
            continue;
        };
        let end = (index..lines.len()).find(|next| lines.at(*next).trim_end().ends_with(close));
        let Some(end) = end else { break };
        let text: Vec<&str> = (index..=end).map(|next| lines.at(next)).collect();
        found.push(text.join("\n"));
        lines.claim(index..end + 1);
        index = end + 1;
    }
    found
}
