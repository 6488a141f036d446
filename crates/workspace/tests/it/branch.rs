//! The task's branch: pull, discard, restore, purge.

use std::fs;

use domain::{
    FaultClass,
    ports::workspace::{Wip, Workspaces as _},
};

use crate::ground::{Ground, KEY, TASK, git, write};

#[tokio::test]
async fn pulling_checks_the_change_out_and_says_how_to_go_back() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "changed\n")).await;
    for _ in 0..2 {
        let lines =
            ground.rooms.pull(ground.repo.clone(), origin.repository.clone(), TASK, head.clone()).await.unwrap();
        assert!(lines[0].contains("checked out in"), "{lines:?}");
        assert_eq!(git(&ground.repo, &["branch", "--show-current"]), "overnight/T-12");
        assert_eq!(git(&ground.repo, &["status", "--porcelain"]), "");
        assert_eq!(fs::read_to_string(ground.repo.join("a.txt")).unwrap(), "changed\n");
    }
    // A later round moves the branch and the files with it.
    let prepared = ground.prepare(&origin).await;
    write(&prepared.root, "b.txt", "more\n");
    let later = ground.snapshot(&origin, 2).await.commit;
    ground.rooms.pull(ground.repo.clone(), origin.repository.clone(), TASK, later.clone()).await.unwrap();
    assert_eq!(ground.head(), later);
    assert_eq!(git(&ground.repo, &["status", "--porcelain"]), "");
    git(&ground.repo, &["switch", "-q", "-"]);
    assert_eq!(git(&ground.repo, &["branch", "--show-current"]), "main");
}

#[tokio::test]
async fn pulling_into_a_dirty_tree_makes_the_branch_only() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "changed\n")).await;
    write(&ground.repo, "a.txt", "mine\n");
    let lines = ground.rooms.pull(ground.repo.clone(), origin.repository.clone(), TASK, head.clone()).await.unwrap();
    assert!(lines[0].contains("not checked out") && lines[1].contains("git switch overnight/T-12"), "{lines:?}");
    assert_eq!(git(&ground.repo, &["branch", "--show-current"]), "main");
    assert_eq!(git(&ground.repo, &["rev-parse", "overnight/T-12"]), head.as_str());
    assert_eq!(fs::read_to_string(ground.repo.join("a.txt")).unwrap(), "mine\n");

    let other = ground.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    git(&other, &["init", "-q"]);
    let fault = ground.rooms.pull(other, origin.repository.clone(), TASK, head).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Input);
}

#[tokio::test]
async fn a_change_on_uncommitted_work_is_pulled_into_its_own_repository() {
    let ground = Ground::new();
    write(&ground.repo, "a.txt", "mine\n");
    let origin = ground.try_resolve(|request| request.wip = Wip::HandOver).await.unwrap();
    let head = ground.change(&origin, |root| write(root, "a.txt", "mine\nand more\n")).await;
    let lines = ground.rooms.pull(ground.repo.clone(), origin.repository.clone(), TASK, head.clone()).await.unwrap();
    assert!(lines[0].contains("not checked out"), "{lines:?}");
    assert_eq!(git(&ground.repo, &["show", "overnight/T-12:a.txt"]), "mine\nand more");
    assert_eq!(fs::read_to_string(ground.repo.join("a.txt")).unwrap(), "mine\n");
}

#[tokio::test]
async fn discarding_leaves_no_trace_outside_the_store_and_pulling_brings_the_branch_back() {
    let ground = Ground::new();
    let before = fs::read_to_string(ground.repo.join("a.txt")).unwrap();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "changed\n")).await;
    ground.rooms.pull(ground.repo.clone(), origin.repository.clone(), TASK, head.clone()).await.unwrap();
    for _ in 0..2 {
        ground.rooms.discard(origin.repository.clone(), TASK).await.unwrap();
        assert_eq!(git(&ground.repo, &["branch", "--list", "overnight/*"]), "");
        assert_eq!(fs::read_dir(ground.home().join("workspaces")).unwrap().count(), 0);
        // It was checked out: the person stands where they stood before.
        assert_eq!(git(&ground.repo, &["status", "--porcelain"]), "");
        assert_eq!(git(&ground.repo, &["branch", "--show-current"]), "main");
        assert_eq!(fs::read_to_string(ground.repo.join("a.txt")).unwrap(), before);
    }
    ground.rooms.pull(ground.repo.clone(), origin.repository.clone(), TASK, head.clone()).await.unwrap();
    assert_eq!(git(&ground.repo, &["rev-parse", "overnight/T-12"]), head.as_str());

    ground.rooms.purge(origin.repository.clone(), TASK).await.unwrap();
    let refs = git(&ground.store(&origin), &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, format!("refs/overnight/base/{}", origin.base));
    ground.rooms.purge(origin.repository.clone(), TASK).await.unwrap();
}

#[tokio::test]
async fn what_is_in_the_way_of_going_back_is_kept_and_the_branch_goes() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| fs::remove_file(root.join("a.txt")).unwrap()).await;
    ground.rooms.pull(ground.repo.clone(), origin.repository.clone(), TASK, head.clone()).await.unwrap();
    write(&ground.repo, "a.txt", "mine, and in no commit\n");
    ground.rooms.discard(origin.repository.clone(), TASK).await.unwrap();
    assert_eq!(git(&ground.repo, &["branch", "--list", "overnight/*"]), "");
    assert_eq!(ground.head(), head);
    assert_eq!(fs::read_to_string(ground.repo.join("a.txt")).unwrap(), "mine, and in no commit\n");
}

#[tokio::test]
async fn a_branch_with_the_users_own_commits_is_never_moved_or_removed() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "changed\n")).await;
    ground.rooms.pull(ground.repo.clone(), origin.repository.clone(), TASK, head.clone()).await.unwrap();
    let mine = ground.commit("mine.txt", "mine\n");
    for fault in [
        ground.rooms.pull(ground.repo.clone(), origin.repository.clone(), TASK, head.clone()).await.unwrap_err(),
        ground.rooms.discard(origin.repository.clone(), TASK).await.unwrap_err(),
    ] {
        assert_eq!(fault.class, FaultClass::Conflict);
    }
    assert_eq!(git(&ground.repo, &["rev-parse", "overnight/T-12"]), mine.as_str());
}

#[tokio::test]
async fn a_dirty_tree_on_the_branch_keeps_it() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "changed\n")).await;
    ground.rooms.pull(ground.repo.clone(), origin.repository.clone(), TASK, head.clone()).await.unwrap();
    write(&ground.repo, "a.txt", "mine\n");
    let fault = ground.rooms.discard(origin.repository.clone(), TASK).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Conflict);
    assert!(fault.hint.unwrap().contains("git branch -D"));
    assert!(!ground.home().join("workspaces").join(KEY.to_string()).exists());
    assert_eq!(git(&ground.repo, &["branch", "--show-current"]), "overnight/T-12");
}

#[tokio::test]
async fn discarding_where_the_repository_is_gone_still_removes_the_workspaces() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    ground.prepare(&origin).await;
    fs::remove_dir_all(&ground.repo).unwrap();
    ground.rooms.discard(origin.repository.clone(), TASK).await.unwrap();
    assert_eq!(fs::read_dir(ground.home().join("workspaces")).unwrap().count(), 0);
}
