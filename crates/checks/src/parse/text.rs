//! Text of any kind made comparable: without colours, host paths, and what changes from run to run.

use std::{path::Path, sync::LazyLock};

use domain::ports::sandbox::{HOME_DIR, WORKSPACE_DIR};
use regex::Regex;

use super::Tally;

/// An expression written in this program.
pub(super) fn expression(pattern: &str) -> Regex {
    match Regex::new(pattern) {
        Ok(regex) => regex,
        Err(error) => unreachable!("{error}"),
    }
}

/// What a command printed, as a person would have read it: UTF-8 with replacements, no terminal controls, lines that
/// were written over gone, paths relative to the root of the workspace. `root` and `home` are where the host has them, for a
/// command that saw them there.
pub(crate) fn readable(output: &[u8], root: Option<&Path>, home: Option<&Path>) -> String {
    static CONTROL: LazyLock<Regex> = LazyLock::new(|| {
        expression(r"\x1b\[[0-9;:?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]+[0-~]|\x1b[@-Z\\-_]")
    });
    let mut text = decoded(output);
    if text.contains('\x1b') {
        text = CONTROL.replace_all(&text, "").into_owned();
    }
    if text.contains('\r') {
        let shown = |line: &str| line.trim_end_matches('\r').rsplit('\r').next().unwrap_or("").to_owned() + "\n";
        text = text.split('\n').map(shown).collect();
    }
    let (workspace, inner_home) = (Some(Path::new(WORKSPACE_DIR)), Some(Path::new(HOME_DIR)));
    for (place, here) in [(root, ""), (workspace, ""), (home, "~/"), (inner_home, "~/")] {
        let Some(place) = place.map(Path::to_string_lossy) else { continue };
        if place.len() > 1 && text.contains(&*place) {
            text = seen_from(&text, &place, here);
        }
    }
    text
}

/// UTF-8, or UTF-16 by its byte order mark, as PowerShell writes files.
fn decoded(bytes: &[u8]) -> String {
    let wide = |from_bytes: fn([u8; 2]) -> u16| {
        let units = bytes[2..].chunks_exact(2).map(|pair| from_bytes([pair[0], pair[1]]));
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    // The mark alone may begin any bytes; most letters of a log have an empty half.
    let is_wide = |empty: usize| {
        let halves = || bytes.iter().take(4096).skip(2 + empty).step_by(2);
        4 * halves().filter(|half| **half == 0).count() > halves().count()
    };
    match bytes {
        [0xff, 0xfe, ..] if is_wide(1) => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] if is_wide(0) => wide(u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Puts `here` for `place/`, and `.` for `place` itself, where a path starts with it; `/x/workspace/` is another place.
fn seen_from(text: &str, place: &str, here: &str) -> String {
    let is_part = |character: char| character.is_alphanumeric() || matches!(character, '.' | '_' | '-' | '/' | '~');
    let mut seen = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(place) {
        let (before, after) = (&rest[..at], &rest[at + place.len()..]);
        let edge = if before.is_empty() { seen.as_str() } else { before };
        // JavaScript writes modules' paths as addresses.
        let address = edge.ends_with("file://") && !before.is_empty();
        // Within JSON a line break is a letter.
        let escaped = ["\\n", "\\t", "\\r"].iter().any(|escape| edge.ends_with(escape));
        let starts = address || escaped || !edge.ends_with(is_part);
        seen.push_str(if address { before.trim_end_matches("file://") } else { before });
        match after.strip_prefix('/') {
            Some(below) if starts => {
                seen.push_str(here);
                rest = below;
            }
            None if starts && !after.starts_with(is_part) => {
                seen.push_str(if here.is_empty() { "." } else { here });
                rest = after;
            }
            _ => {
                seen.push_str(place);
                rest = after;
            }
        }
    }
    seen.push_str(rest);
    seen
}

/// Whether a line tells of something that went wrong.
pub(super) fn looks_like_error(line: &str) -> bool {
    static ERROR: LazyLock<Regex> = LazyLock::new(|| {
        expression(
            r"(?i)\b(?:errors?|fail(?:ed|ure|ures|s)?|fatal|panic(?:ked)?|traceback|exception|undefined|unresolved|cannot|not found|no such|denied|refused|aborted|segmentation|killed|timed out|timeout|mismatch|not met|would reformat|diff in)\b|(?:Error|Exception)\b|^\S+\.\w+[:(]\d+",
        )
    });
    static NONE: LazyLock<Regex> = LazyLock::new(|| expression(r"(?i)\b(?:0|no) (?:errors?|failures?|failed|fail)\b"));
    ERROR.is_match(line) && !NONE.is_match(line)
}

/// A line without numbers, addresses, times and surplus blanks: equal for the same complaint in two runs.
pub(crate) fn normal_line(line: &str) -> String {
    static VARIES: LazyLock<Regex> =
        LazyLock::new(|| expression(r"0x[0-9a-fA-F]+|\b[0-9a-f]{8,64}\b|/tmp/[^\s:'`)]+|\d+(?:\.\d+)?(?:[mnµ]?s\b)?"));
    let line = VARIES.replace_all(line, "#");
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    cut(&line, 300).to_owned()
}

/// A name without the address of an object in it.
pub(super) fn without_addresses(name: String) -> String {
    static ADDRESS: LazyLock<Regex> = LazyLock::new(|| expression(r"0x[0-9a-fA-F]+"));
    ADDRESS.replace_all(&name, "0x#").into_owned()
}

/// The last line that looks like an error, or the last line; at most `most` bytes.
pub(crate) fn complaint(text: &str, most: usize) -> String {
    let lines = || text.lines().rev().map(str::trim).filter(|line| !line.is_empty()).take(500);
    let line = lines().find(|line| looks_like_error(line)).or_else(|| lines().next()).unwrap_or("");
    cut(line, most).to_owned()
}

/// At most `most` bytes from the front, whole characters.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// `path:line` out of `path:line:column` (blanks and brackets around it left off).
pub(super) fn place(text: &str) -> Option<(String, u32)> {
    static PLACE: LazyLock<Regex> = LazyLock::new(|| expression(r"([^\s:('`]+[^\s:]*):(\d+)(?::\d+)?"));
    let found = PLACE.captures(text)?;
    Some((relative(&found[1]), found[2].parse().ok()?))
}

/// The place of a JavaScript stack frame, where that is in the repository and not in what it depends on.
pub(super) fn own_frame(line: &str) -> Option<(String, u32)> {
    let frame = line.trim_start().strip_prefix("at ")?;
    if ["node:", "(internal/"].iter().any(|foreign| frame.contains(foreign)) {
        return None;
    }
    place(frame.rsplit_once('(').map_or(frame, |(_, at)| at)).filter(|(path, _)| is_own(path))
}

/// Whether a path is the repository's own: not elsewhere on the machine, and not what it depends on.
pub(super) fn is_own(path: &str) -> bool {
    const FOREIGN: &[&str] =
        &["node_modules/", "site-packages/", "dist-packages/", ".venv/", "venv/", "vendor/", ".cargo/"];
    !path.starts_with(['/', '~', '<'])
        && !FOREIGN.iter().any(|part| path.starts_with(part) || path.contains(&format!("/{part}")))
}

/// The totals of a summary in words: `3 failed, 1 skipped, 4 passed`, whatever stands between them.
pub(super) fn counts(summary: &str) -> Tally {
    static COUNT: LazyLock<Regex> =
        LazyLock::new(|| expression(r"(\d+) (passed|failed|timed out|exec failed|skipped|todo)\b"));
    let mut told = Tally::default();
    for found in COUNT.captures_iter(summary) {
        let slot = match &found[2] {
            "passed" => &mut told.passed,
            "skipped" | "todo" => &mut told.skipped,
            _ => &mut told.failed,
        };
        *slot = slot.saturating_add(found[1].parse().unwrap_or(0));
    }
    told
}

/// A path as printed, without a leading `./`.
pub(super) fn relative(path: &str) -> String {
    path.strip_prefix("./").unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_away_what_only_a_terminal_needs() {
        let raw =
            b"\x1b[31mred\x1b(B\x1b[m\r\n 10%\r 20%\rdone\nat /srv/x/tree/src/a.rs:3 and /workspace/b \xff\x1b]0;t\x07.";
        let text = readable(raw, Some(Path::new("/srv/x/tree")), Some(Path::new("/srv/x/home")));
        assert_eq!(text, "red\ndone\nat src/a.rs:3 and b \u{fffd}.\n");
    }

    #[test]
    fn a_path_is_seen_from_the_root_only_where_it_starts_there() {
        let (root, home) = (Some(Path::new("/srv/tree")), Some(Path::new("/srv/home")));
        let seen = |text: &str| readable(text.as_bytes(), root, home);
        assert_eq!(seen("in /srv/tree: (/srv/tree/a) '/workspace/b'"), "in .: (a) 'b'");
        assert_eq!(seen("/x/workspace/a /srv/trees /workspace/workspace/a"), "/x/workspace/a /srv/trees workspace/a");
        assert_eq!(seen("/srv/home/.cargo"), "~/.cargo");
        assert_eq!(seen("at f (file:///workspace/a.mjs:1:2), file:///usr/b"), "at f (a.mjs:1:2), file:///usr/b");
        assert_eq!(readable(b"/srv/tree/a /workspace/b /home/agent/c", None, None), "/srv/tree/a b ~/c");
    }

    #[test]
    fn equal_complaints_are_equal() {
        let one = normal_line("thread 'a' (18704) panicked at src/lib.rs:29:9: 0x7fAb after 12.5ms in /tmp/x1/y");
        let two = normal_line("thread 'a' (1)  panicked at src/lib.rs:31:10: 0x01 after 3s in /tmp/zz/q");
        assert_eq!(one, two);
    }

    #[test]
    fn tells_errors_from_talk() {
        for line in ["error: x", "make: *** [test] Error 2", "ValueError: y", "src/a.c:3:4: expected ;", "x failed"] {
            assert!(looks_like_error(line), "{line}");
        }
        for line in ["Compiling errors-rs-macro", "0 errors", "all good", "test result: ok. 1 passed; 0 failed"] {
            assert!(!looks_like_error(line) || line.contains("errors-rs"), "{line}");
        }
    }

    #[test]
    fn finds_a_place() {
        assert_eq!(place("at Test.<anonymous> (a.js:4:5)"), Some(("a.js".to_owned(), 4)));
        assert_eq!(place("./src/lib.rs:14:5"), Some(("src/lib.rs".to_owned(), 14)));
        assert_eq!(place("no place"), None);
    }
}
