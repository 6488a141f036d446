//! Errors of compilers, linters and interpreters in what no test report claimed: rustc, `path:line:column: message` (C, C++,
//! Go, ESLint's unix format, mypy, ruff), TypeScript, Python tracebacks.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    Lines, Located, Report,
    text::{expression, place, relative},
};

/// Located messages taken from here.
const MOST: usize = 30;

static RUSTC: LazyLock<Regex> = LazyLock::new(|| expression(r"^error(?:\[E\d+\])?: (.+)$"));
static PLACED: LazyLock<Regex> = LazyLock::new(|| expression(r"^([\w.@+~-][\w./@+ ~-]*\.\w+):(\d+)(?::\d+)?:? (.+)$"));
static TYPESCRIPT: LazyLock<Regex> = LazyLock::new(|| expression(r"^(\S+\.\w+)\((\d+),\d+\): (error .+)$"));
static FRAME: LazyLock<Regex> = LazyLock::new(|| expression(r#"^\s*File "([^"]+)", line (\d+)"#));

pub(super) fn read(lines: &Lines<'_>, report: &mut Report) {
    let mut frame: Option<(String, u32)> = None;
    let mut found = Vec::new();
    for (index, line) in lines.unclaimed() {
        if found.len() == MOST {
            break;
        }
        if let Some(caught) = line.starts_with("error").then(|| RUSTC.captures(line)).flatten() {
            let arrow =
                (index + 1..index + 4).map(|next| lines.at(next).trim_start()).find(|next| next.starts_with("--> "));
            if let Some((path, at)) = arrow.and_then(|arrow| place(&arrow[4..])) {
                found.push(Located { path: Some(path), line: Some(at), message: caught[1].to_owned(), test: None });
            }
        } else if let Some(caught) = TYPESCRIPT.captures(line).or_else(|| PLACED.captures(line)) {
            if !is_mild(&caught[3]) {
                let (path, at) = (Some(relative(&caught[1])), caught[2].parse().ok());
                found.push(Located { path, line: at, message: caught[3].to_owned(), test: None });
            }
        } else if let Some(caught) = FRAME.captures(line) {
            frame = caught[2].parse().ok().map(|at| (relative(&caught[1]), at));
        } else if !line.starts_with(' ')
            && line.split([':', ' ']).next().is_some_and(|word| word.ends_with("Error") || word.ends_with("Exception"))
            && let Some((path, at)) = frame.take()
        {
            found.push(Located { path: Some(path), line: Some(at), message: line.to_owned(), test: None });
        }
    }
    found.into_iter().for_each(|located| report.locate(located));
}

fn is_mild(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["warning", "note", "info", "in function", "hint", "help"].iter().any(|mild| message.starts_with(mild))
}
