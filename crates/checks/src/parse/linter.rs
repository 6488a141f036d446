//! Linters and formatters that print a file and what is wrong in it: ESLint's default format, workflow annotations
//! (`::error file=…`), rustfmt, Ruff and Black, Prettier, `gofmt -l`.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    Lines,
    complaints::{Complaint, Complaints},
    text::{expression, relative},
};

static STYLISH: LazyLock<Regex> = LazyLock::new(|| expression(r"^ +(\d+):\d+ +(error|warning) +(\S.*)$"));
static ANNOTATION: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^\s*\S*?::(error|warning) ([^:]*(?::[^:]+)*?)::(.*)$"));
static RUSTFMT: LazyLock<Regex> = LazyLock::new(|| expression(r"^Diff in (.+?)(?: at line |:)(\d+):?$"));
static UNFORMATTED: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^(?:(?:[Ww]ould reformat:? |\[warn\] )([\w./@+-]+\.\w+)|([\w./@+-]+\.go))$"));

pub(super) fn read(lines: &Lines<'_>, found: &mut Complaints) {
    let mut file = None;
    for (index, line) in lines.unclaimed() {
        if found.are_enough() {
            break;
        }
        if let Some(caught) = line.starts_with(' ').then(|| STYLISH.captures(line)).flatten() {
            let Some(path) = file else { continue };
            // The rule's name stands at the right, after blanks that align it.
            let words =
                caught[3].split("  ").map(str::trim).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
            let complaint = Complaint::at(relative(path), caught[1].parse().ok(), &words);
            found.add(index, if &caught[2] == "warning" { complaint.mild() } else { complaint });
            continue;
        }
        file = Some(line).filter(|line| !line.is_empty() && STYLISH.is_match(lines.at(index + 1)));
        if let Some(complaint) = annotation(line) {
            found.add(index, complaint);
        } else if let Some(caught) = line.starts_with("Diff in ").then(|| RUSTFMT.captures(line)).flatten() {
            let words = "is not formatted as rustfmt would";
            found.add(index, Complaint::at(relative(&caught[1]), caught[2].parse().ok(), words));
        } else if let Some(path) = UNFORMATTED.captures(line).and_then(|caught| caught.get(1).or(caught.get(2))) {
            found.add(index, Complaint::at(relative(path.as_str()), None, "is not formatted").mild());
        }
    }
}

/// `::error file=a.rs,line=3,title=t::message`, its percent signs resolved.
fn annotation(line: &str) -> Option<Complaint> {
    let caught = line.contains("::").then(|| ANNOTATION.captures(line)).flatten()?;
    let property = |name: &str| {
        let mut pairs = caught[2].split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| resolved(value))
    };
    let at = property("line").and_then(|line| line.parse().ok());
    let (path, words) = (property("file")?, resolved(&caught[3]));
    // Some say the place once more.
    let words = words.split_once(": ").filter(|(place, _)| place.starts_with(&path)).map_or(&*words, |(_, rest)| rest);
    let complaint = Complaint::at(relative(&path), at, words);
    Some(if &caught[1] == "warning" { complaint.mild() } else { complaint })
}

/// A workflow command's value as it was before it was escaped.
fn resolved(value: &str) -> String {
    let escapes = [("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")];
    escapes.iter().fold(value.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}
