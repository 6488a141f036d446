//! The TOML on top of a brief file, and errors that show the line.

use domain::Fault;

use crate::{mistakes, wire::Brief};

/// Splits the front matter off and reads it; the rest is the Markdown body.
pub(super) fn split(text: &str) -> Result<(Brief, &str), Fault> {
    let start = text.trim_start();
    let first_line = 1 + text[..text.len() - start.len()].matches('\n').count();
    let (opening, rest) = start.split_once('\n').unwrap_or((start, ""));
    let fence = opening.trim_end();
    if !is_fence(fence) {
        return Ok((Brief::default(), text));
    }
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == fence {
            let brief = read(&rest[..end], first_line + 1)?;
            return Ok((brief, &rest[end + line.len()..]));
        }
        end += line.len();
    }
    Err(Fault::input(format!("line {first_line}: the front matter that starts with `{fence}` has no end"))
        .hint(format!("close it with a line of its own that says `{fence}`")))
}

fn is_fence(line: &str) -> bool {
    line.len() >= 3 && (line.bytes().all(|byte| byte == b'+') || line.bytes().all(|byte| byte == b'-'))
}

/// `first_line`: the number of the front matter's first line in the file.
fn read(toml: &str, first_line: usize) -> Result<Brief, Fault> {
    toml::from_str(toml).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start).min(toml.len());
        let before = &toml.as_bytes()[..offset];
        let line = first_line + before.iter().filter(|byte| **byte == b'\n').count();
        let shown = toml.lines().nth(line - first_line).unwrap_or_default().trim();
        let shown: String = shown.chars().take(120).collect();
        let fault = mistakes::explain(&error.message().replace('\n', ", "));
        let hint = fault
            .hint
            .unwrap_or_else(|| "the front matter is TOML: `name = \"value\"`; docs/api.md has an example".to_owned());
        Fault::input(format!("line {line}: {}: `{shown}`", fault.what)).hint(hint)
    })
}
