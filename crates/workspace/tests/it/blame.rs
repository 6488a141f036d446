//! Whose the lines of a file are.

use std::{fs, os::unix::fs::symlink};

use domain::{
    FaultClass,
    ids::CommitId,
    ports::workspace::{BlamedLine, Origin, Workspaces as _},
};

use crate::ground::{Ground, git, write};

async fn blame(ground: &Ground, origin: &Origin, head: &CommitId, path: &str) -> Vec<BlamedLine> {
    ground.rooms.blame(origin.repository.clone(), head.clone(), path.to_owned()).await.unwrap()
}

fn line(commit: &CommitId, line: u32, text: &str) -> BlamedLine {
    BlamedLine { commit: commit.clone(), line, text: text.to_owned() }
}

#[tokio::test]
async fn blame_names_the_commit_of_each_line() {
    let ground = Ground::new();
    let first = ground.head();
    let second = ground.commit("a.txt", "one\n\tTWO\nthree\n");
    let origin = ground.resolve().await;
    let head = ground
        .change(&origin, |root| {
            write(root, "a.txt", b"one\n\tTWO\nthree\n\nsummary \xff\r");
            write(root, "*.txt", format!("{}\nend\n", "\u{e4}".repeat(2_001)));
            fs::rename(root.join("src/lib.rs"), root.join("moved.rs")).unwrap();
            write(root, "empty", "");
        })
        .await;
    let lines = [
        line(&first, 1, "one"),
        line(&second, 2, "\tTWO"),
        line(&first, 3, "three"),
        line(&head, 4, ""),
        line(&head, 5, "summary \u{fffd}\r"),
    ];
    assert_eq!(blame(&ground, &origin, &head, "a.txt").await, lines);
    // Of the base the change is not known, and a name is no pattern.
    assert_eq!(blame(&ground, &origin, &origin.base, "a.txt").await, lines[..3]);
    let long = line(&head, 1, &"\u{e4}".repeat(2_000));
    assert_eq!(blame(&ground, &origin, &head, "*.txt").await, [long, line(&head, 2, "end")]);
    assert_eq!(blame(&ground, &origin, &head, "moved.rs").await, [line(&first, 1, "pub fn f() {}")]);
    assert_eq!(blame(&ground, &origin, &head, "empty").await, []);
}

#[tokio::test]
async fn blame_obeys_nothing_that_a_repository_says() {
    let ground = Ground::new();
    let first = ground.head();
    let touched = ground.dir.path().join("touched");
    let program = format!("touch {}; cat", touched.display());
    git(&ground.repo, &["config", "diff.evil.textconv", &program]);
    git(&ground.repo, &["config", "blame.ignoreRevsFile", "ignored"]);
    write(&ground.repo, ".gitattributes", "*.txt diff=evil\n");
    write(&ground.repo, ".mailmap", "Eve <eve@example.org> <ada@example.org>\n");
    let second = ground.commit("a.txt", "one\ntwo\n3\n");
    write(&ground.repo, "ignored", format!("{second}\n"));
    git(&ground.repo, &["add", "ignored"]);
    git(&ground.repo, &["commit", "-q", "-m", "ignored"]);
    let origin = ground.resolve().await;
    let lines = [line(&first, 1, "one"), line(&first, 2, "two"), line(&second, 3, "3")];
    assert_eq!(blame(&ground, &origin, &origin.base, "a.txt").await, lines);
    assert!(!touched.exists());
}

#[tokio::test]
async fn blame_is_of_regular_files_of_bearable_length() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground
        .change(&origin, |root| {
            symlink("a.txt", root.join("link")).unwrap();
            write(root, "most", "\n".repeat(49_999) + "x");
            write(root, "long", "\n".repeat(50_000) + "x");
            write(root, "large", "x".repeat((16 << 20) + 1));
        })
        .await;
    assert_eq!(blame(&ground, &origin, &head, "most").await.len(), 50_000);
    let class = async |commit: &CommitId, path: &str| {
        let blamed = ground.rooms.blame(origin.repository.clone(), commit.clone(), path.to_owned()).await;
        blamed.unwrap_err().class
    };
    for path in ["none", "", "src", "src/", "link", "../a.txt", "/a.txt", "--contents", ":(glob)*"] {
        assert_eq!(class(&head, path).await, FaultClass::NotFound, "{path}");
    }
    let unknown = CommitId::parse(&"1".repeat(40)).unwrap();
    assert_eq!(class(&unknown, "a.txt").await, FaultClass::NotFound);
    for path in ["long", "large"] {
        assert_eq!(class(&head, path).await, FaultClass::Input, "{path}");
    }
}
