//! The session that benchmarks play: ten rounds with every kind of tool, on a small repository.

use anyhow::Result;
use serde_json::{Value, json};

use crate::scene::{Repository, Scene};

/// Model calls of one session.
pub(super) const ROUNDS: u64 = 10;

/// Every task's goal begins so; what follows tells tasks apart.
pub(super) const GOAL: &str = "Count the words of chapter";

/// A check that costs next to nothing.
pub(super) const CHECK: [&str; 2] = ["--check", "test -s words.txt"];

/// The session with the provider's latency.
pub(super) fn script(latency_ms: u64) -> Value {
    let call = |name: &str, arguments: Value| json!({ "name": name, "arguments": arguments });
    let reply = |text: &str, call: Value| json!({ "text": text, "tools": [call] });
    json!({
        "latency_ms": latency_ms,
        "conversations": [{
            "match": GOAL,
            "replies": [
                reply("First a look around.", call("shell", json!({ "command": "ls -la && git status --short" }))),
                reply("The chapter.", call("read", json!({ "path": "book/chapter-3.md" }))),
                reply("Where is it named?", call("search", json!({ "pattern": "chapter-3" }))),
                reply("A file for the counts.", call("write", json!({ "path": "words.txt", "content": "chapter words\n" }))),
                reply("Count.", call("shell", json!({ "command": "wc -w < book/chapter-3.md >> words.txt; cat words.txt" }))),
                reply("A better heading.", call("edit", json!({ "path": "words.txt", "old": "chapter words", "new": "words of the chapter" }))),
                reply("And into the index.", call("edit", json!({ "path": "README.md", "old": "# Book", "new": "# Book\n\nCounts: words.txt" }))),
                reply("Read it again.", call("read", json!({ "path": "README.md" }))),
                reply("The whole change.", call("shell", json!({ "command": "git diff --stat; wc -c words.txt" }))),
                reply("Done.", call("finish", json!({ "summary": "Counted the words of the chapter." }))),
            ],
        }],
    })
}

/// A repository of twenty chapters.
pub(super) fn repository(scene: &Scene) -> Result<Repository> {
    let text = "It was a quiet night, and somebody worked while everybody else slept.\n".repeat(40);
    let index: String = (1..=20).map(|number| format!("- book/chapter-{number}.md\n")).collect();
    let mut files = vec![("README.md".to_owned(), format!("# Book\n\n{index}"))];
    files.extend((1..=20).map(|number| (format!("book/chapter-{number}.md"), format!("# Chapter {number}\n\n{text}"))));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    Repository::of_files(scene, "book", &files)
}

/// Hands over the `number`th task; its id.
pub(super) fn submit(scene: &Scene, repository: &Repository, number: usize) -> Result<String> {
    scene.submit(repository, &format!("{GOAL} 3, take {number}"), &CHECK)
}
