//! Real bugs with real fixes: the old version of a published package with the tests of the next one is the repository, the
//! difference is the fix. The real command line hands it over, the scripted model first mends it wrongly, is told by the real
//! checks what fails, and mends it as its authors did. The material is fetched by `cargo xtask test` (or `material`).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use xtask::{
    program,
    scene::{Repository, Scene},
    trial::material,
};

struct Bug {
    package: &'static str,
    versions: [&'static str; 2],
    /// Files or directories that hold the tests.
    tests: &'static str,
    /// Files or directories that hold what is mended.
    sources: &'static str,
    /// A runner of the tests: package, version, and where it is in the repository.
    runner: Option<[&'static str; 3]>,
    check: &'static str,
    /// A mend that is wrong: file, old, new.
    wrong: [&'static str; 3],
    /// A test that the wrong mend breaks, as the model must hear of it.
    broken: &'static str,
}

#[test]
fn smallvec_insert_many_overflows() {
    play(&Bug {
        package: "smallvec",
        versions: ["1.6.0", "1.6.1"],
        tests: "src/tests.rs",
        sources: "src/lib.rs",
        runner: None,
        check: "cargo test --offline",
        wrong: [
            "src/lib.rs",
            "        let iter = iterable.into_iter();\n        if index == self.len() {",
            "        let iter = iterable.into_iter();\n        let hint = iter.size_hint().0;\n        let iter = iter.take(hint);\n\
             \x20       if index == self.len() {",
        ],
        broken: "test_insert_many_overflow",
    });
}

#[test]
fn minimist_pollutes_constructors() {
    play(&Bug {
        package: "minimist",
        versions: ["1.2.5", "1.2.6"],
        tests: "test",
        sources: "index.js",
        runner: Some(["tape", "3.6.1", "node_modules"]),
        check: "node node_modules/tape/bin/tape 'test/*.js'",
        wrong: [
            "index.js",
            "            if (key === '__proto__') return;\n            if (o[key]",
            "            if (key === '__proto__' || key in o) return;\n            if (o[key]",
        ],
        broken: "nested dotted objects",
    });
}

#[test]
fn sqlparse_does_not_know_json_operators() {
    play(&Bug {
        package: "sqlparse",
        versions: ["0.4.4", "0.5.0"],
        tests: "tests",
        sources: "sqlparse",
        runner: Some(["pytest", "8.3.4", "vendor"]),
        check: "PYTHONPATH=vendor python3 -m pytest -q tests",
        wrong: [
            "sqlparse/keywords.py",
            "    (r'[<>=~!]+', tokens.Operator.Comparison),",
            "    (r'[-<>=~!#@]+', tokens.Operator),",
        ],
        broken: "test_grouping_comparison",
    });
}

#[test]
fn xmltodict_strips_and_streams_wrongly() {
    play(&Bug {
        package: "xmltodict",
        versions: ["0.13.0", "0.14.0"],
        tests: "tests",
        sources: "xmltodict.py",
        runner: Some(["pytest", "8.3.4", "vendor"]),
        check: "PYTHONPATH=vendor python3 -m pytest -q tests",
        wrong: [
            "xmltodict.py",
            "            if self.strip_whitespace and data:",
            "            if not self.strip_whitespace and data:",
        ],
        broken: "test_comments",
    });
}

/// Red, told, green, approved, landed.
fn play(bug: &Bug) {
    let [old, new] = bug.versions.map(|version| material::find(bug.package, version).unwrap());
    let fix = fix(bug, &old, &new);
    let goal = format!("Make the new tests of {} pass", bug.package);
    let mut scene = Scene::new(&program::for_tests().unwrap(), &script(bug, &goal, &fix)).unwrap();
    let repository = repository(bug, &scene, &old, &new);
    let base = repository.git(&["rev-parse", "main"]).unwrap();
    scene.start().unwrap();

    let id = scene.submit(&repository, &goal, &["--check", bug.check]).unwrap();
    scene.settle().unwrap();
    let shown = json_of(&scene, &["show", &id, "--json"]);
    assert_eq!(shown["verdict"], "green", "{shown:#}");
    let export = scene.ask(repository.path(), &["export", &id]).unwrap();
    assert_eq!(verdicts(&export), ["red", "green"]);
    // The script's third reply is only given to who names the broken test: four replies say that the model heard of it.
    let indices: Vec<u64> =
        scene.requests().unwrap().iter().filter(|request| request.is_complete).map(|request| request.index).collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    assert_eq!(repository.git(&["rev-parse", "main"]).unwrap(), base, "nothing lands before its approval");

    let diff = scene.ask(repository.path(), &["diff", &id]).unwrap();
    assert!(fix.iter().all(|(path, _)| diff.contains(&format!("+++ b/{path}"))), "{diff}");
    scene.ask(repository.path(), &["approve", &id]).unwrap();
    scene.settle().unwrap();
    assert_eq!(json_of(&scene, &["show", &id, "--json"])["detail"], "landed");
    for (path, content) in &fix {
        assert_eq!(&repository.git(&["show", &format!("main:{path}")]).unwrap(), content, "{path} is not as mended");
    }
    assert_eq!(repository.git(&["rev-list", "--count", &format!("{}..main", base.trim())]).unwrap().trim(), "1");
    assert_eq!(repository.git(&["status", "--porcelain"]).unwrap(), "", "the work tree follows its branch");
}

/// What differs between the versions besides the tests: path and new content.
fn fix(bug: &Bug, old: &Path, new: &Path) -> Vec<(String, String)> {
    let differs = |path: &PathBuf| fs::read(old.join(path)).ok() != fs::read(new.join(path)).ok();
    let paths = files(new, Path::new(bug.sources)).into_iter().filter(differs);
    paths.map(|path| (path.to_str().unwrap().to_owned(), fs::read_to_string(new.join(&path)).unwrap())).collect()
}

fn script(bug: &Bug, goal: &str, fix: &[(String, String)]) -> Value {
    let [path, old, new] = bug.wrong;
    let mend: Vec<Value> = fix
        .iter()
        .map(|(path, content)| json!({ "name": "write", "arguments": { "path": path, "content": content } }))
        .collect();
    let finish = |summary: &str| json!({ "tools": [{ "name": "finish", "arguments": { "summary": summary } }] });
    json!({
        "conversations": [{
            "match": goal,
            "replies": [
                {
                    "text": "This should do.",
                    "tools": [{ "name": "edit", "arguments": { "path": path, "old": old, "new": new } }],
                },
                finish("Mended, I believe."),
                { "when": bug.broken, "text": "That broke more than it mended.", "tools": mend },
                finish("Mended as the tests want it."),
            ],
        }],
    })
}

/// The old version with the new tests, and with what runs them.
fn repository(bug: &Bug, scene: &Scene, old: &Path, new: &Path) -> Repository {
    let place = scene.directory().join(bug.package);
    for path in files(old, Path::new("")).into_iter().filter(|path| !path.starts_with(bug.tests)) {
        copy(old, &place, &path);
    }
    for path in files(new, Path::new(bug.tests)) {
        copy(new, &place, &path);
    }
    if let Some([package, version, directory]) = bug.runner {
        let runner = material::find(package, version).unwrap();
        for path in files(&runner, Path::new("")) {
            copy(&runner, &place.join(directory), &path);
        }
    } else {
        // A crate's optional and development dependencies are not needed by its own tests, and there is no network.
        let manifest = fs::read_to_string(place.join("Cargo.toml")).unwrap();
        let sections = manifest.split("\n[").filter(|section| !section.contains("dependencies."));
        fs::write(place.join("Cargo.toml"), sections.collect::<Vec<_>>().join("\n[")).unwrap();
        fs::write(place.join(".gitignore"), "/target\n/Cargo.lock\n").unwrap();
    }
    Repository::of_directory(place).unwrap()
}

fn copy(from: &Path, to: &Path, path: &Path) {
    fs::create_dir_all(to.join(path).parent().unwrap()).unwrap();
    fs::copy(from.join(path), to.join(path)).unwrap();
}

/// All files at or below `below`, relative to `root`, without what tools leave behind.
fn files(root: &Path, below: &Path) -> Vec<PathBuf> {
    let place = root.join(below);
    if place.is_file() {
        return vec![below.to_owned()];
    }
    let names = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name());
    let kept = names.filter(|name| name != "__pycache__" && name != ".cargo-checksum.json" && name != "benches");
    let mut found: Vec<PathBuf> = kept.flat_map(|name| files(root, &below.join(name))).collect();
    found.sort();
    found
}

fn json_of(scene: &Scene, arguments: &[&str]) -> Value {
    serde_json::from_str(&scene.ask(scene.directory(), arguments).unwrap()).unwrap()
}

/// Of each time the checks ran, in order.
fn verdicts(export: &str) -> Vec<String> {
    let lines = export.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let judged =
        lines.filter_map(|line| line.pointer("/event/judged/verdict").and_then(Value::as_str).map(str::to_owned));
    judged.collect()
}
