//! What a task starts from: right names, wrong names, and uncommitted work.

use std::fs;

use domain::{
    FaultClass,
    ids::TaskId,
    ports::workspace::{Wip, Workspaces as _},
};

use crate::ground::{Ground, git, try_git, write};

#[tokio::test]
async fn names_are_resolved_and_the_base_is_kept() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    assert_eq!(origin.base, ground.head());
    assert_eq!(origin.target.as_deref(), Some("main"));
    assert_eq!(origin.repository.path, ground.repo.canonicalize().unwrap());
    assert!(origin.repository.id.0.starts_with("user-"), "{}", origin.repository.id.0);
    assert_eq!(origin.notes, Vec::<String>::new());
    let below = ground.try_resolve(|request| request.directory = ground.repo.join("src")).await.unwrap();
    assert_eq!(below, origin);
    // The user may lose everything now.
    fs::remove_dir_all(&ground.repo).unwrap();
    let prepared = ground.prepare(&origin).await;
    assert!(prepared.root.join("src/lib.rs").is_file());
}

#[tokio::test]
async fn targets_follow_from_base_and_into() {
    let ground = Ground::new();
    git(&ground.repo, &["branch", "other"]);
    git(&ground.repo, &["tag", "-a", "v1", "-m", "v1"]);
    git(&ground.repo, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
    let target = async |base: Option<&str>, into: Option<&str>| {
        let origin = ground
            .try_resolve(|request| {
                request.base = base.map(str::to_owned);
                request.into = into.map(str::to_owned);
            })
            .await
            .unwrap();
        assert_eq!(origin.base, ground.head());
        (origin.target, origin.notes.len())
    };
    let main = Some("main".to_owned());
    assert_eq!(target(Some("HEAD"), None).await, (main.clone(), 0));
    assert_eq!(target(Some("main"), None).await, (main.clone(), 0));
    assert_eq!(target(Some("v1"), None).await, (None, 1));
    assert_eq!(target(Some("origin/main"), None).await, (None, 1));
    assert_eq!(target(Some("v1"), Some("other")).await, (Some("other".to_owned()), 0));
    assert_eq!(target(None, Some("refs/heads/other")).await, (Some("other".to_owned()), 0));
    git(&ground.repo, &["checkout", "-q", "--detach"]);
    assert_eq!(target(None, None).await, (None, 1));
    assert_eq!(target(None, Some("main")).await, (main, 0));
}

#[tokio::test]
async fn wrong_input_says_what_where_and_what_to_do() {
    let ground = Ground::new();
    let empty = ground.dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let expect = async |base: Option<&str>, into: Option<&str>, what: &str| {
        let fault = ground
            .try_resolve(|request| {
                request.base = base.map(str::to_owned);
                request.into = into.map(str::to_owned);
            })
            .await
            .unwrap_err();
        assert_eq!(fault.class, FaultClass::Input);
        assert!(fault.what.contains(what) && fault.hint.is_some(), "{fault}");
    };
    expect(Some("nowhere"), None, "`nowhere` is not a commit").await;
    expect(Some("main..v1"), None, "`main..v1`").await;
    expect(Some("main..main"), None, "`main..main`").await;
    expect(Some("HEAD:a.txt"), None, "`HEAD:a.txt` is not a commit").await;
    expect(Some("--all"), None, "`--all`").await;
    expect(Some(""), None, "``").await;
    expect(None, Some("nowhere"), "no branch `nowhere`").await;

    let not = ground.try_resolve(|request| request.directory = empty.clone()).await.unwrap_err();
    assert!(not.what.contains("not in a git repository"), "{not}");
    let not = ground.try_resolve(|request| request.directory = empty.join("nowhere")).await.unwrap_err();
    assert_eq!(not.class, FaultClass::Input);
    git(&empty, &["init", "-q"]);
    let none = ground.try_resolve(|request| request.directory = empty.clone()).await.unwrap_err();
    assert!(none.what.contains("has no commit yet"), "{none}");
    git(&ground.repo, &["checkout", "-q", "--orphan", "unborn"]);
    let unborn = ground.try_resolve(|_| {}).await.unwrap_err();
    assert!(unborn.what.contains("current branch"), "{unborn}");
    // A base that is named does not need HEAD.
    let origin = ground.try_resolve(|request| request.base = Some("main".into())).await.unwrap();
    assert_eq!(origin.target.as_deref(), Some("main"));
}

#[tokio::test]
async fn uncommitted_work_is_handed_over_and_left_as_it_is() {
    let ground = Ground::new();
    write(&ground.repo, ".gitignore", "*.log\n");
    write(&ground.repo, "noise.log", "x\n");
    write(&ground.repo, "private.txt", "x\n");
    write(&ground.repo, ".git/info/exclude", "private.txt\n");
    write(&ground.repo, "staged.txt", "staged\n");
    git(&ground.repo, &["add", "staged.txt"]);
    write(&ground.repo, "staged.txt", "and changed\n");
    write(&ground.repo, "only-staged.txt", "s\n");
    git(&ground.repo, &["add", "only-staged.txt"]);
    write(&ground.repo, "untracked.txt", "u\n");
    fs::remove_file(ground.repo.join("run.sh")).unwrap();
    git(&ground.repo.join("src"), &["init", "-q", "nested"]);
    write(&ground.repo, "src/nested/n.txt", "n\n");
    let before = state(&ground);
    let origin = ground.try_resolve(|request| request.wip = Wip::HandOver).await.unwrap();
    assert_eq!(state(&ground), before);
    assert_eq!(origin.target.as_deref(), Some("main"));
    assert!(origin.notes[0].contains("src/nested/"), "{:?}", origin.notes);
    let files = ground.files(&origin, &origin.base);
    assert_eq!(files, [".gitignore", "a.txt", "only-staged.txt", "src/lib.rs", "staged.txt", "untracked.txt"]);
    assert_eq!(ground.show(&origin, &origin.base, "staged.txt"), "and changed");
    let store = ground.store(&origin);
    assert_eq!(
        git(&store, &["log", "-1", "--format=%P %s", origin.base.as_str()]),
        format!("{} Work in progress handed to Overnight", ground.head())
    );
    let prepared = ground.prepare(&origin).await;
    assert_eq!(git(&prepared.root, &["status", "--porcelain"]), "");
    git(&prepared.root, &["fsck", "--full"]);
}

/// Everything of the repository that a hand-over must not touch.
fn state(ground: &Ground) -> (Vec<u8>, String, String) {
    let index = fs::read(ground.repo.join(".git/index")).unwrap();
    let mut objects = Vec::new();
    let mut open = vec![ground.repo.join(".git")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            objects.push(path.display().to_string());
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    objects.sort();
    (index, objects.join("\n"), git(&ground.repo, &["status", "--porcelain"]))
}

#[tokio::test]
async fn work_in_progress_has_its_limits() {
    let ground = Ground::new();
    let nothing = ground.try_resolve(|request| request.wip = Wip::HandOver).await.unwrap();
    assert_eq!(nothing.base, ground.head());
    assert_eq!(nothing.notes.len(), 1);
    let first = ground.head();
    ground.commit("b.txt", "b\n");
    let fault = ground
        .try_resolve(|request| {
            request.wip = Wip::HandOver;
            request.base = Some(first.to_string());
        })
        .await
        .unwrap_err();
    assert_eq!(fault.class, FaultClass::Input);
    // A split index cannot be copied alone: it is made anew.
    git(&ground.repo, &["update-index", "--split-index"]);
    write(&ground.repo, "a.txt", "changed\n");
    let origin = ground.try_resolve(|request| request.wip = Wip::HandOver).await.unwrap();
    assert_eq!(ground.files(&origin, &origin.base), ["a.txt", "b.txt", "run.sh", "src/lib.rs"]);
    assert_eq!(ground.show(&origin, &origin.base, "a.txt"), "changed");

    let bare = ground.dir.path().join("bare.git");
    git(&ground.repo, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let fault = ground
        .try_resolve(|request| {
            request.wip = Wip::HandOver;
            request.directory = bare;
        })
        .await
        .unwrap_err();
    assert!(fault.what.contains("bare"), "{fault}");
    assert!(!try_git(&ground.repo, &["rev-parse", "overnight"]).0);
}

#[tokio::test]
async fn a_scratch_repository_is_empty_and_the_same_for_all() {
    let ground = Ground::new();
    let origin = ground.rooms.scratch(TaskId(1)).await.unwrap();
    assert_eq!(ground.rooms.scratch(TaskId(2)).await.unwrap(), origin);
    assert_eq!(origin.target, None);
    let prepared = ground.prepare(&origin).await;
    assert_eq!(git(&prepared.root, &["status", "--porcelain"]), "");
    write(&prepared.root, "notes.md", "found\n");
    let snapshot = ground.snapshot(&origin, 1).await;
    assert_eq!(ground.files(&origin, &snapshot.commit), ["notes.md"]);
    ground.rooms.discard(origin.repository.clone(), crate::ground::TASK).await.unwrap();
}
