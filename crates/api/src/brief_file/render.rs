//! A brief written as a brief file that reads back to the same brief.

use std::fmt::Write as _;

use domain::Fault;

use super::{Sections, parse};
use crate::wire::Brief;

/// Writes goal, lists and notes as Markdown and the rest as front matter. A text that would not survive as Markdown (a
/// heading or an open code fence in it, blanks at its ends) is written in the front matter too.
///
/// Errors: `Bug` when the result would not read back to the same.
pub fn render(brief: &Brief) -> Result<String, Fault> {
    let mut front = brief.clone();
    let mut body = String::new();

    let (title, rest) = brief.goal.split_once("\n\n").unwrap_or((&brief.goal, ""));
    let titled = if rest.is_empty() { format!("# {title}\n") } else { format!("# {title}\n\n{rest}\n") };
    let plain = format!("# Goal\n\n{}\n", brief.goal);
    if let Some(part) = [titled, plain].into_iter().find(|part| survives(part, |read| read.goal == brief.goal)) {
        body.push_str(&part);
        front.goal.clear();
    }
    for (heading, field, read) in LISTS {
        let list = field(&mut front);
        let part = format!("\n## {heading}\n\n{}", bullets(list));
        if !list.is_empty() && survives(&part, |sections| read(sections) == list) {
            body.push_str(&part);
            list.clear();
        }
    }
    let notes = format!("\n## Notes\n\n{}\n", brief.notes);
    if !brief.notes.is_empty() && Sections::read(&notes).notes == brief.notes {
        body.push_str(&notes);
        front.notes.clear();
    }

    let toml =
        toml::to_string(&front).map_err(|error| Fault::bug(format!("a brief does not go into TOML: {error}")))?;
    let text = if toml.is_empty() {
        body
    } else {
        // Longer than any line inside that could be taken for the end, which a text of several lines may hold.
        let lines = toml.lines().map(str::trim_end).filter(|line| line.bytes().all(|byte| byte == b'+'));
        let longest = lines.map(str::len).max();
        let fence = "+".repeat(3.max(longest.unwrap_or(0) + 1));
        format!("{fence}\n{toml}{fence}\n{body}")
    };
    match parse(&text) {
        Ok(read) if read == *brief => Ok(text),
        Ok(_) => Err(Fault::bug("a brief changed when it was written as a file")),
        Err(fault) => Err(Fault::bug(format!("a brief could not be read back from its file: {fault}"))),
    }
}

type Field = fn(&mut Brief) -> &mut Vec<String>;
type Read = fn(&Sections) -> &Vec<String>;

const LISTS: [(&str, Field, Read); 7] = [
    ("Non-goals", |brief| &mut brief.non_goals, |sections| &sections.non_goals),
    ("Requirements", |brief| &mut brief.requirements, |sections| &sections.requirements),
    ("Acceptance criteria", |brief| &mut brief.acceptance, |sections| &sections.acceptance),
    ("Evidence", |brief| &mut brief.evidence, |sections| &sections.evidence),
    ("Allowed paths", |brief| &mut brief.allowed_paths, |sections| &sections.allowed_paths),
    ("Protected paths", |brief| &mut brief.protected_paths, |sections| &sections.protected_paths),
    ("Approval boundary", |brief| &mut brief.approval_boundary, |sections| &sections.approval_boundary),
];

fn bullets(items: &[String]) -> String {
    let mut text = String::new();
    for item in items {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "- {}", item.replace('\n', "\n  "));
    }
    text
}

/// Whether a part reads back, and leaves what follows alone.
fn survives(part: &str, same: impl Fn(&Sections) -> bool) -> bool {
    let read = Sections::read(&format!("{part}\n## Notes\n\nend\n"));
    read.notes == "end" && same(&read)
}
