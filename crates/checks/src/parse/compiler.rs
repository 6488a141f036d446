//! Errors of compilers, linters and interpreters that print one line for each, or a heading with its place below: rustc and
//! Clippy, Ruff, `path:line:column: message` (C, C++, Go, ESLint's unix format, mypy, TypeScript), Python tracebacks.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    Lines,
    complaints::{Complaint, Complaints},
    text::{expression, place, relative},
};

static RUSTC: LazyLock<Regex> = LazyLock::new(|| expression(r"^(error|warning)(?:\[[\w:-]+\])?: (.+)$"));
static RUFF: LazyLock<Regex> = LazyLock::new(|| expression(r"^(?:[A-Z]+\d+ |[a-z]+(?:-[a-z]+)*: )\S.*$"));
static PLACED: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^(?:vet: )?([\w.@+~-][\w./@+ ~-]*\.\w+):(\d+)(?::\d+)?:? (?:- )?(.+)$"));
static TYPESCRIPT: LazyLock<Regex> = LazyLock::new(|| expression(r"^(\S+\.\w+)\((\d+),\d+\): (error .+)$"));
static FRAME: LazyLock<Regex> = LazyLock::new(|| expression(r#"^\s*File "([^"]+)", line (\d+)"#));

/// How a placed message starts that blames nothing.
const MILD: &[&str] = &["warning", "note", "info", "in function", "hint", "help", "required from", "candidate"];

pub(super) fn read(lines: &Lines<'_>, found: &mut Complaints) {
    let mut frame: Option<(String, u32)> = None;
    for (index, line) in lines.unclaimed() {
        if found.are_enough() {
            break;
        }
        if let Some(complaint) = headed(lines, index) {
            found.add(index, complaint);
        } else if let Some(caught) = TYPESCRIPT.captures(line).or_else(|| PLACED.captures(line)) {
            let complaint = Complaint::at(relative(&caught[1]), caught[2].parse().ok(), &plain(&caught[3]));
            found.add(index, if is_mild(&caught[3]) { complaint.mild() } else { complaint });
        } else if let Some(caught) = FRAME.captures(line) {
            frame = caught[2].parse().ok().map(|at| (relative(&caught[1]), at));
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

/// A message without Ruff's mark of what it could mend.
fn plain(message: &str) -> String {
    message.trim().replacen("[*] ", "", 1)
}

fn is_mild(message: &str) -> bool {
    let message = message.trim_start().to_ascii_lowercase();
    MILD.iter().any(|mild| message.starts_with(mild)) || message.contains("[warning/")
}
