//! The papers of the house: links lead somewhere, the picture is the code's own, every promise names a test that is there.

use std::{fs, path::Path};

use super::{Complaint, Text};
use crate::{house, picture};

const PROMISES: &str = "docs/promises.md";
const FIRST_PROMISE: u32 = 1;
const LAST_PROMISE: u32 = 10;

pub(super) fn check(texts: &[Text]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for text in texts.iter().filter(|text| text.is("md")) {
        links(text, &mut complaints);
    }
    check_picture(&mut complaints);
    promises(texts, &mut complaints);
    complaints
}

/// Relative links of Markdown, to files and directories.
fn links(text: &Text, complaints: &mut Vec<Complaint>) {
    let directory = house::root().join(text.path.parent().unwrap_or(Path::new("")));
    for (number, line) in text.lines() {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let file = link.split('#').next().unwrap_or_default();
            let is_elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
            if !is_elsewhere && !directory.join(file).exists() {
                complaints.push(Complaint::of_line(&text.path, number, format!("the link `{link}` leads nowhere")));
            }
        }
    }
}

fn check_picture(complaints: &mut Vec<Complaint>) {
    let path = house::root().join(picture::PATH);
    if fs::read_to_string(path).ok().as_deref() != Some(&domain::picture::render()) {
        let what = "not what the code says: run `cargo xtask picture` and commit the result";
        complaints.push(Complaint::of_file(Path::new(picture::PATH), what));
    }
}

/// A row per promise: `| P1 | … | `room::test_name`, … |`, or "not yet" in place of the tests.
fn promises(texts: &[Text], complaints: &mut Vec<Complaint>) {
    let page = Path::new(PROMISES);
    let Some(text) = texts.iter().find(|text| text.path == page) else {
        complaints.push(Complaint::of_file(page, "is missing: list P1 to P10 with the test that tries to break each"));
        return;
    };
    for promise in FIRST_PROMISE..=LAST_PROMISE {
        let row = text.lines().find(|(_, line)| line.starts_with(&format!("| P{promise} |")));
        let Some((number, row)) = row else {
            complaints.push(Complaint::of_file(page, format!("P{promise} has no row")));
            continue;
        };
        let tests: Vec<&str> = row.split('`').skip(1).step_by(2).filter(|code| code.contains("::")).collect();
        if tests.is_empty() && !row.contains("not yet") {
            complaints.push(Complaint::of_line(page, number, "names no test and does not say \"not yet\""));
        }
        for test in tests.into_iter().filter(|test| !exists(texts, test)) {
            complaints.push(Complaint::of_line(page, number, format!("there is no test `{test}`")));
        }
    }
}

/// Whether `room::…::name` is a function in a file of that room.
fn exists(texts: &[Text], test: &str) -> bool {
    let (Some((room, _)), Some((_, name))) = (test.split_once("::"), test.rsplit_once("::")) else { return false };
    let declaration = format!("fn {name}(");
    let in_room = |path: &Path| path.starts_with(Path::new("crates").join(room)) || path.starts_with(room);
    texts.iter().any(|text| text.is("rs") && in_room(&text.path) && text.text.contains(&declaration))
}
