//! The TOML on top of a brief file, and errors that show the line.

use domain::Fault;

use crate::wire::Brief;

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
        let message = error.message().replace('\n', ", ");
        // serde lists every field there is; a person wants the nearest one.
        let what = message.split(", expected one of").next().unwrap_or(&message);
        let hint = suggestion(&message)
            .unwrap_or_else(|| "the front matter is TOML: `name = \"value\"`; docs/api.md has an example".to_owned());
        Fault::input(format!("line {line}: {what}: `{shown}`")).hint(hint)
    })
}

/// For serde's "unknown field" and "unknown variant": the nearest name there is, or all of them.
pub fn suggestion(message: &str) -> Option<String> {
    let (unknown, known) = message.strip_prefix("unknown ").and_then(|rest| rest.split_once(", expected "))?;
    let unknown = unknown.split('`').nth(1)?;
    // The names stand between backticks: every second piece.
    let names: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let nearest = names.iter().map(|name| (distance(unknown, name), name)).min()?;
    if nearest.0 <= 1 + unknown.chars().count() / 3 {
        return Some(format!("did you mean `{}`?", nearest.1));
    }
    Some(format!("known here: {}", names.join(", ")))
}

/// How many letters must be changed, added, left out or swapped with their neighbour to make `b` of `a` (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_far_ones_are_listed() {
        let known = "unknown field `X`, expected one of `budget`, `checks`, `goal`";
        let ask = |name: &str| suggestion(&known.replace('X', name)).unwrap();
        assert_eq!(ask("bugdet"), "did you mean `budget`?");
        assert_eq!(ask("check"), "did you mean `checks`?");
        assert_eq!(ask("colour"), "known here: budget, checks, goal");
        assert_eq!(suggestion("unknown field `x`, expected `text`"), Some("known here: text".to_owned()));
        assert_eq!(suggestion("invalid type: integer"), None);
    }
}
