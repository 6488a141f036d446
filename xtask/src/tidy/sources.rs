//! What every file keeps to: a header that says what it is, a size that can be read, words of the glossary, nothing of one
//! machine.

use std::path::{Component, Path};

use super::{Complaint, Text};

const AIMED_LINES: usize = 600;
const MOST_LINES: usize = 800;

/// Files above the aim, with the reason. None is above the most.
const LONG: [(&str, &str); 1] =
    [("crates/agents/tests/it/scene.rs", "one scripted provider and one sandbox stand-in, read side by side")];

/// Names that say nothing about what is inside.
const BANNED_NAMES: [&str; 8] = ["util", "utils", "helper", "helpers", "common", "manager", "misc", "shared"];

/// The only room with `unsafe`, each block justified.
const UNSAFE_ROOM: &str = "crates/sandbox/";

/// Other tools' words, kept as those tools print them or need them.
const FOREIGN_WORDS: [(&str, &str); 6] = [
    ("crates/checks/src/parse/", "reports of test runners"),
    ("crates/agents/src/acp/asks.rs", "outcomes as the Agent Client Protocol spells them"),
    ("crates/agents/src/acp/turn.rs", "reasons to stop as the Agent Client Protocol spells them"),
    ("crates/agents/tests/it/acp_agent.py", "an agent that speaks that protocol"),
    ("/fixtures/", "captured output of real programs"),
    ("crates/egress/src/presets.rs", "the hosts that clients of public registries ask for"),
];

pub(super) fn check(texts: &[Text]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for text in texts {
        names(text, &mut complaints);
        if text.is("rs") {
            rust(text, &mut complaints);
        }
        words(text, &mut complaints);
    }
    complaints
}

fn names(text: &Text, complaints: &mut Vec<Complaint>) {
    let parts = text.path.components().filter_map(|part| match part {
        Component::Normal(name) => Path::new(name).file_stem().and_then(|stem| stem.to_str()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
    });
    if let Some(name) = parts.into_iter().find(|name| BANNED_NAMES.contains(name)) {
        complaints.push(Complaint::of_file(&text.path, format!("`{name}` says nothing: name it by what it is for")));
    }
}

fn rust(text: &Text, complaints: &mut Vec<Complaint>) {
    let mut complain = |what: String| complaints.push(Complaint::of_file(&text.path, what));
    if !text.text.starts_with("//! ") {
        complain("no `//!` header: open the file with a sentence that says what it is for".to_owned());
    }
    let lines = text.text.lines().count();
    let is_listed = LONG.iter().any(|(path, _)| text.path == Path::new(path));
    if lines > MOST_LINES || (lines > AIMED_LINES && !is_listed) {
        complain(format!("{lines} lines: split it by what its parts are for (aim at 400, {AIMED_LINES} at most)"));
    }
    let is_root = text.path.ends_with("src/lib.rs") || text.path.ends_with("src/main.rs");
    let is_crate = is_root && (text.path.starts_with("crates") || text.path.starts_with("xtask"));
    let is_ours = is_crate && !text.path.components().any(|part| part.as_os_str() == "demo");
    if is_ours && !text.path.starts_with(UNSAFE_ROOM) && !text.text.contains("#![forbid(unsafe_code)]") {
        complain("no `#![forbid(unsafe_code)]`: only `sandbox` may have unsafe code".to_owned());
    }
}

/// What must not be written anywhere, and what to write instead. Spelled in parts, so that this file passes.
const FORBIDDEN: [(&str, &str); 9] = [
    (concat!("TO", "DO"), "do it, or write an issue"),
    (concat!("FIX", "ME"), "fix it, or write an issue"),
    (concat!("cance", "lled"), "the glossary spells `canceled`"),
    (concat!("cance", "lling"), "the glossary spells `canceling`"),
    (concat!("/wo", "rk/"), "a path of one machine: use a relative or temporary one"),
    (concat!("/ro", "ot/"), "a path of one machine: use a relative or temporary one"),
    (concat!("registry.npmjs", ".org"), "the clients know their registries; name packages, not hosts"),
    (concat!("static.crates", ".io"), "the clients know their registries; name packages, not hosts"),
    (concat!("files.pythonhosted", ".org"), "the clients know their registries; name packages, not hosts"),
];

fn words(text: &Text, complaints: &mut Vec<Complaint>) {
    let path = text.path.to_string_lossy();
    if FOREIGN_WORDS.iter().any(|(part, _)| path.contains(part)) {
        return;
    }
    for (number, line) in text.lines() {
        for (word, instead) in FORBIDDEN {
            let found = line.match_indices(word).any(|(at, _)| stands_alone(line, at, word));
            if found && !is_foreign_call(line, word) {
                complaints.push(Complaint::of_line(&text.path, number, format!("`{word}`: {instead}")));
            }
        }
    }
}

/// Whether a path begins here: `/proc/1/root/` is not a path of one machine, nor is a word within a longer one.
fn stands_alone(line: &str, at: usize, word: &str) -> bool {
    let before = line.get(..at).and_then(|head| head.chars().next_back());
    !word.starts_with('/') || !before.is_some_and(|before| before.is_alphanumeric() || "._-*}".contains(before))
}

/// Methods of libraries that spell it their way.
fn is_foreign_call(line: &str, word: &str) -> bool {
    [format!(".{word}()"), format!("is_{word}()")].iter().any(|call| line.contains(call))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        let text = Text { path: path.into(), text: text.to_owned() };
        check(&[text]).into_iter().map(|complaint| complaint.what).collect()
    }

    #[test]
    fn a_tidy_file_passes() {
        assert!(complaints("crates/store/src/lib.rs", "//! Keeps.\n#![forbid(unsafe_code)]\n").is_empty());
        assert!(complaints("crates/sandbox/tests/walls.rs", concat!("//! Walls.\n\"/proc/1/ro", "ot/\"\n")).is_empty());
    }

    #[test]
    fn every_rule_is_kept() {
        assert_eq!(complaints("crates/store/src/lib.rs", "mod a;\n").len(), 2);
        assert_eq!(complaints("crates/store/src/helpers.rs", "//! Helps.\n").len(), 1);
        assert_eq!(complaints("docs/a.md", concat!("cance", "lled\n")).len(), 1);
        assert_eq!(complaints("docs/a.md", concat!("see /wo", "rk/main\n")).len(), 1);
        let long = format!("//! Long.\n{}", "\n".repeat(AIMED_LINES));
        assert_eq!(complaints("crates/store/src/long.rs", &long).len(), 1);
    }
}
