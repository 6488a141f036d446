//! The import table: which room may know which. It is the table of `ARCHITECTURE.md`, and this is where it is enforced.

use std::path::Path;

use anyhow::{Context, Result};

use super::{Complaint, Text};

/// A room, the rooms it may import, and those its tests may import besides (`testkit` always).
struct Room {
    name: &'static str,
    imports: &'static [&'static str],
    tests_import: &'static [&'static str],
}

const ANY: &str = "*";

const fn room(name: &'static str, imports: &'static [&'static str]) -> Room {
    Room { name, imports, tests_import: &[] }
}

const TABLE: [Room; 14] = [
    room("domain", &[]),
    room("engine", &["domain"]),
    room("store", &["domain"]),
    room("workspace", &["domain"]),
    room("sandbox", &["domain"]),
    // Its tests pay from a real ledger and record into a real home.
    Room { name: "gateway", imports: &["domain"], tests_import: &["store"] },
    // Its tests let agents find a real gateway before a scripted provider.
    Room { name: "agents", imports: &["domain"], tests_import: &["gateway"] },
    room("checks", &["domain"]),
    room("egress", &["domain"]),
    // Its tests build real environments.
    Room { name: "environments", imports: &["domain"], tests_import: &["workspace", "sandbox", "egress", "store"] },
    // Its tests put a real home behind the routes.
    Room { name: "api", imports: &["domain", "engine"], tests_import: &["store"] },
    room("app", &[ANY]),
    room("testkit", &["domain"]),
    room("xtask", &["domain"]),
];

/// What `domain` may depend on: values and errors, nothing that does anything.
const DOMAIN_CRATES: [&str; 5] = ["serde", "thiserror", "jiff", "bytes", "futures-core"];

/// Rooms that hold development tools: only tests of other rooms may import them.
const ONLY_FOR_TESTS: [&str; 2] = ["testkit", "xtask"];

pub(super) fn check(texts: &[Text]) -> Result<Vec<Complaint>> {
    let mut complaints = Vec::new();
    for text in texts.iter().filter(|text| text.path.ends_with("Cargo.toml") && text.path != Path::new("Cargo.toml")) {
        let manifest: toml::Table =
            toml::from_str(&text.text).with_context(|| format!("{} is no valid TOML", text.path.display()))?;
        if !manifest.contains_key("package") || text.path.components().any(|part| part.as_os_str() == "demo") {
            continue;
        }
        check_room(text, &manifest, &mut complaints);
    }
    Ok(complaints)
}

fn check_room(text: &Text, manifest: &toml::Table, complaints: &mut Vec<Complaint>) {
    let name = text.path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    let Some(room) = TABLE.iter().find(|room| room.name == name) else {
        complaints.push(Complaint::of_file(
            &text.path,
            format!("`{name}` is not in the import table: add it to xtask/src/tidy/imports.rs and ARCHITECTURE.md"),
        ));
        return;
    };
    for (section, in_tests) in [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)] {
        for dependency in names(manifest, section) {
            if let Some(why) = refuse(room, &dependency, in_tests) {
                complaints.push(Complaint::of_file(&text.path, format!("[{section}] {dependency}: {why}")));
            }
        }
    }
}

fn names(manifest: &toml::Table, section: &str) -> Vec<String> {
    manifest
        .get(section)
        .and_then(toml::Value::as_table)
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

fn refuse(room: &Room, dependency: &str, in_tests: bool) -> Option<String> {
    let is_room = TABLE.iter().any(|other| other.name == dependency) || dependency == "overnight";
    if !is_room {
        let is_free = room.name != "domain" || in_tests || DOMAIN_CRATES.contains(&dependency);
        return (!is_free).then(|| format!("`domain` may depend on {} only", DOMAIN_CRATES.join(", ")));
    }
    if in_tests && (ONLY_FOR_TESTS.contains(&dependency) || room.tests_import.contains(&dependency)) {
        return None;
    }
    if ONLY_FOR_TESTS.contains(&dependency) {
        return Some("it is for tests only: move it to [dev-dependencies]".to_owned());
    }
    let is_allowed = room.imports.contains(&dependency) || room.imports.contains(&ANY);
    (!is_allowed).then(|| format!("`{}` may import {:?} only: go through a port of `domain`", room.name, room.imports))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(room: &str, dependency: &str, in_tests: bool) -> bool {
        let room = TABLE.iter().find(|other| other.name == room).unwrap();
        refuse(room, dependency, in_tests).is_some()
    }

    #[test]
    fn rooms_import_what_the_table_says_and_nothing_else() {
        assert!(!refused("store", "domain", false));
        assert!(!refused("store", "rusqlite", false));
        assert!(refused("store", "gateway", false));
        assert!(refused("store", "engine", false));
        assert!(refused("agents", "overnight", false));
        assert!(!refused("app", "gateway", false));
    }

    #[test]
    fn domain_stays_free_of_what_does_something() {
        assert!(!refused("domain", "serde", false));
        assert!(refused("domain", "tokio", false));
        assert!(!refused("domain", "proptest", true));
    }

    #[test]
    fn tools_of_tests_stay_in_tests() {
        assert!(refused("engine", "testkit", false));
        assert!(!refused("engine", "testkit", true));
        assert!(!refused("api", "store", true));
        assert!(refused("engine", "store", true));
    }
}
