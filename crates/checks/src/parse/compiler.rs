//! Errors of compilers, linters and interpreters that print one line for each, or a heading with its place below: rustc and
//! Clippy, Ruff, `path:line:column: message` (C, C++, Go, ESLint's unix format, mypy, TypeScript), Python tracebacks.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    Lines,
    complaints::{Complaint, Complaints},
    text::{expression, is_own, own_frame, place, relative},
};

static RUSTC: LazyLock<Regex> = LazyLock::new(|| expression(r"^(error|warning)(?:\[[\w:-]+\])?: (.+)$"));
static RUFF: LazyLock<Regex> = LazyLock::new(|| expression(r"^(?:[A-Z]+\d+ |[a-z]+(?:-[a-z]+)*: )\S.*$"));
static PLACED: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^(?:vet: )?([\w.@+~-][\w./@+ ~-]*\.\w+):(\d+)(?::\d+){0,3}:? (?:- )?(.+)$"));
static TYPESCRIPT: LazyLock<Regex> = LazyLock::new(|| expression(r"^(\S+\.\w+)\((\d+),\d+\): (error .+)$"));
/// Maven's compiler, PHP, Perl and Ruby say the line behind the path, or in brackets.
static BRACKETED: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^\[(ERROR|WARNING)\] (\S+\.\w+):\[(\d+),\d+\] (.+)$"));
static ON_LINE: LazyLock<Regex> = LazyLock::new(|| {
    expression(r"^(?:PHP )?((?:Parse|Fatal) error: .+?|.+?) (?:in|at) (\S+\.(?:php|p[lm]|t)) (?:on )?line (\d+)\.?$")
});
static PANICKED: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^\s*thread '.*' (?:\(\d+\) )?panicked at (\S+):(\d+):\d+:$"));
static THROWN: LazyLock<Regex> = LazyLock::new(|| expression(r"^(?:Uncaught )?[A-Z]\w*Error(?: \[\w+\])?: .+"));
static AT_END: LazyLock<Regex> = LazyLock::new(|| expression(r"(?:^|\s)(\S+\.[cm]?[jt]sx?):(\d+)$"));
static FRAME: LazyLock<Regex> = LazyLock::new(|| expression(r#"^\s*File "([^"]+)", line (\d+)"#));

/// How a placed message starts that blames nothing.
const MILD: &[&str] = &["warning", "note", "info", "in function", "hint", "help", "required from", "candidate"];

pub(super) fn read(lines: &Lines<'_>, found: &mut Complaints) {
    let mut frame: Option<(String, u32)> = None;
    for (index, line) in lines.unclaimed() {
        if found.are_enough() {
            break;
        }
        if let Some(complaint) =
            headed(lines, index).or_else(|| thrown(lines, index)).or_else(|| panicked(lines, index))
        {
            found.add(index, complaint);
        } else if let Some(caught) = TYPESCRIPT.captures(line).or_else(|| PLACED.captures(unindented(line))) {
            let complaint = Complaint::at(relative(&caught[1]), caught[2].parse().ok(), &plain(&caught[3]));
            found.add(index, if is_mild(&caught[3]) { complaint.mild() } else { complaint });
        } else if let Some(caught) = FRAME.captures(line) {
            let here = relative(&caught[1]);
            // The deepest frame of the repository's own; a foreign one where there is none.
            if is_own(&here) || frame.as_ref().is_none_or(|(before, _)| !is_own(before)) {
                frame = caught[2].parse().ok().map(|at| (here, at));
            }
        } else if let Some(caught) = line.starts_with('[').then(|| BRACKETED.captures(line)).flatten() {
            let complaint = Complaint::at(relative(&caught[2]), caught[3].parse().ok(), &caught[4]);
            found.add(index, if &caught[1] == "WARNING" { complaint.mild() } else { complaint });
        } else if let Some(caught) = line.contains(" line ").then(|| ON_LINE.captures(line)).flatten() {
            found.add(index, Complaint::at(relative(&caught[2]), caught[3].parse().ok(), &caught[1]));
        } else if !line.starts_with(' ')
            && line.split([':', ' ']).next().is_some_and(|word| word.ends_with("Error") || word.ends_with("Exception"))
            && let Some((path, at)) = frame.take()
        {
            found.add(index, Complaint::at(path, Some(at), line));
        }
    }
}

/// A heading with an arrow to its place below: at once, or for rustc after the rest of a long heading.
fn headed(lines: &Lines<'_>, index: usize) -> Option<Complaint> {
    let line = lines.at(index);
    let arrow = |within: usize| {
        let below = (index + 1..=index + within).map(|next| lines.at(next).trim_start());
        let own = below.take_while(|next| !RUSTC.is_match(next));
        own.filter_map(|next| next.strip_prefix("--> ")).next().and_then(place)
    };
    if !line.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return None;
    }
    if let Some(caught) = RUSTC.captures(line) {
        let (path, at) = arrow(3)?;
        let complaint = Complaint::at(path, Some(at), &caught[2]);
        return Some(if &caught[1] == "warning" { complaint.mild() } else { complaint });
    }
    let (path, at) = arrow(1).filter(|_| RUFF.is_match(line))?;
    Some(Complaint::at(path, Some(at), &plain(line)))
}

/// A panic of a Rust program: its words stand below its place.
fn panicked(lines: &Lines<'_>, index: usize) -> Option<Complaint> {
    let line = lines.at(index);
    let caught = line.contains(" panicked at ").then(|| PANICKED.captures(line)).flatten()?;
    Some(Complaint::at(relative(&caught[1]), caught[2].parse().ok(), lines.at(index + 1).trim()))
}

/// An error that a JavaScript program did not catch: the deepest frame of the repository's own, or where it could not be read.
fn thrown(lines: &Lines<'_>, index: usize) -> Option<Complaint> {
    let line = lines.at(index);
    if !lines.at(index + 1).starts_with("    at ") || !THROWN.is_match(line) {
        return None;
    }
    let below = (index + 1..lines.len()).map(|next| lines.at(next)).take_while(|next| next.starts_with("    at "));
    let unread = || {
        let above = (index.saturating_sub(5)..index).find_map(|before| AT_END.captures(lines.at(before)))?;
        Some((relative(&above[1]), above[2].parse().ok()?)).filter(|(path, _)| is_own(path))
    };
    let (path, at) = below.filter_map(own_frame).next().or_else(unread)?;
    Some(Complaint::at(path, Some(at), line))
}

/// A message without Ruff's mark of what it could mend.
fn plain(message: &str) -> String {
    message.trim().replacen("[*] ", "", 1)
}

/// Pyright sets its findings in below their file; others so set in what belongs to a message.
fn unindented(line: &str) -> &str {
    let is_own = |line: &&str| [" - error: ", " - warning: "].iter().any(|mark| line.contains(mark));
    line.strip_prefix("  ").filter(is_own).unwrap_or(line)
}

fn is_mild(message: &str) -> bool {
    let message = message.trim_start().to_ascii_lowercase();
    MILD.iter().any(|mild| message.starts_with(mild)) || message.contains("[warning/")
}
