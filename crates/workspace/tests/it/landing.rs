//! Landing: every method, a moved or busy target, and that a landing cut at any point lands once.

use std::fs;

use domain::{
    FaultClass,
    brief::LandingMethod,
    ids::{CommitId, TaskId},
    ports::workspace::{Landing, Workspaces as _},
};

use crate::ground::{Ground, git, try_git, write};

fn landed(landing: &Landing) -> &CommitId {
    match landing {
        Landing::Landed { commit, .. } => commit,
        other => panic!("not landed: {other:?}"),
    }
}

fn left(landing: &Landing) -> (&CommitId, &str) {
    match landing {
        Landing::LeftOnBranch { commit, why, hint, branch } => {
            assert_eq!((branch.as_str(), hint.as_str()), ("overnight/T-12", "git merge overnight/T-12"));
            (commit, why)
        }
        other => panic!("not left on the branch: {other:?}"),
    }
}

#[tokio::test]
async fn an_unmoved_clean_target_gets_the_approved_commit_itself() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground
        .change(&origin, |root| {
            write(root, "a.txt", "changed\n");
            write(root, "deep/new.txt", "new\n");
            fs::remove_file(root.join("run.sh")).unwrap();
        })
        .await;
    write(&ground.repo, "untracked.txt", "mine\n");
    let request = ground.landing(&origin, &head);
    for _ in 0..2 {
        assert_eq!(landed(&ground.land(&request).await), &head);
        assert_eq!(ground.head(), head);
        assert_eq!(git(&ground.repo, &["status", "--porcelain"]), "?? untracked.txt");
        assert_eq!(fs::read_to_string(ground.repo.join("deep/new.txt")).unwrap(), "new\n");
        assert!(!ground.repo.join("run.sh").exists() && !ground.repo.join(".git/index.lock").exists());
    }
    assert_eq!(git(&ground.repo, &["rev-list", "--count", "HEAD"]), "2");
    assert!(git(&ground.repo, &["reflog", "-1"]).contains("overnight: land T-12"));
    git(&ground.repo, &["fsck", "--full", "--strict"]);
}

#[tokio::test]
async fn a_merge_commit_is_made_where_it_was_asked_for() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "changed\n")).await;
    let mut request = ground.landing(&origin, &head);
    request.method = LandingMethod::Merge;
    let commit = landed(&ground.land(&request).await).clone();
    assert_eq!(
        git(&ground.repo, &["log", "-1", "--format=%P|%an|%ae|%at|%s", "HEAD"]),
        format!("{} {head}|Ada|ada@example.org|{}|Do it", origin.base, crate::ground::at().as_second())
    );
    assert_eq!(ground.head(), commit);
    assert_eq!(landed(&ground.land(&request).await), &commit);
}

#[tokio::test]
async fn only_the_branch_is_put_where_it_was_asked_for_or_nothing_else_is_known() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "changed\n")).await;
    let mut request = ground.landing(&origin, &head);
    request.method = LandingMethod::Branch;
    assert_eq!(left(&ground.land(&request).await).0, &head);
    request.method = LandingMethod::Squash;
    request.target = None;
    assert_eq!(left(&ground.land(&request).await).0, &head);
    request.target = Some("gone".to_owned());
    assert!(left(&ground.land(&request).await).1.contains("gone"));
    assert_eq!(ground.head(), origin.base);
    git(&ground.repo, &["merge", "-q", "overnight/T-12"]);
    // Merged by hand since: that is a landing too.
    request.target = Some("main".to_owned());
    assert_eq!(landed(&ground.land(&request).await), &head);
}

#[tokio::test]
async fn a_moved_target_is_merged_checked_and_landed_once() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "one\ntwo\nTHREE\n")).await;
    let moved = ground.commit("a.txt", "zero\none\ntwo\nthree\n");
    let mut request = ground.landing(&origin, &head);
    let Landing::Moved { combined, target_head } = ground.land(&request).await else { panic!() };
    assert_eq!(target_head, moved);
    assert_eq!(ground.head(), moved);
    assert_eq!(ground.show(&origin, &combined, "a.txt"), "zero\none\ntwo\nTHREE");
    // Asked again, it is the same; and it can be checked out to be checked.
    let Landing::Moved { combined: again, .. } = ground.land(&request).await else { panic!() };
    assert_eq!(again, combined);
    request.rechecked = Some(combined.clone());
    for _ in 0..2 {
        assert_eq!(landed(&ground.land(&request).await), &combined);
    }
    assert_eq!(git(&ground.repo, &["log", "-1", "--format=%P"]), moved.as_str());
    assert_eq!(git(&ground.repo, &["status", "--porcelain"]), "");
    // The person goes on working; a landing performed again after a crash does not land again.
    let later = ground.commit("b.txt", "b\n");
    request.rechecked = None;
    assert_eq!(landed(&ground.land(&request).await), &combined);
    assert_eq!(ground.head(), later);
}

#[tokio::test]
async fn a_target_that_moves_after_the_check_is_merged_anew() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "one\ntwo\nTHREE\n")).await;
    ground.commit("b.txt", "b\n");
    let mut request = ground.landing(&origin, &head);
    let Landing::Moved { combined, .. } = ground.land(&request).await else { panic!() };
    let newer = ground.commit("c.txt", "c\n");
    request.rechecked = Some(combined.clone());
    let Landing::Moved { combined: next, target_head } = ground.land(&request).await else { panic!() };
    assert_eq!(target_head, newer);
    assert_ne!(next, combined);
    request.rechecked = Some(next.clone());
    assert_eq!(landed(&ground.land(&request).await), &next);
    // The re-checked commit may also be given as the head itself.
    assert_eq!(git(&ground.repo, &["show", "HEAD:a.txt"]), "one\ntwo\nTHREE");
}

#[tokio::test]
async fn a_merge_of_a_moved_target_has_both_parents() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "one\ntwo\nTHREE\n")).await;
    let moved = ground.commit("b.txt", "b\n");
    let mut request = ground.landing(&origin, &head);
    request.method = LandingMethod::Merge;
    let Landing::Moved { combined, .. } = ground.land(&request).await else { panic!() };
    request.rechecked = Some(combined.clone());
    assert_eq!(landed(&ground.land(&request).await), &combined);
    assert_eq!(git(&ground.repo, &["log", "-1", "--format=%P"]), format!("{moved} {head}"));
}

#[tokio::test]
async fn a_conflict_names_its_paths_and_touches_nothing() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "theirs\n")).await;
    let moved = ground.commit("a.txt", "ours\n");
    let landing = ground.land(&ground.landing(&origin, &head)).await;
    assert_eq!(landing, Landing::Conflict { paths: vec!["a.txt".to_owned()], target_head: moved.clone() });
    assert_eq!(ground.head(), moved);
}

#[tokio::test]
async fn a_target_that_holds_the_change_already_needs_nothing() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "same\n")).await;
    let by_hand = ground.commit("a.txt", "same\n");
    assert_eq!(landed(&ground.land(&ground.landing(&origin, &head)).await), &by_hand);
}

#[tokio::test]
async fn squashing_onto_another_branch_takes_the_change_only() {
    let ground = Ground::new();
    git(&ground.repo, &["branch", "stable"]);
    ground.commit("unreleased.txt", "not for stable\n");
    let origin = ground.try_resolve(|request| request.into = Some("stable".into())).await.unwrap();
    let head = ground.change(&origin, |root| write(root, "a.txt", "fix\n")).await;
    let mut request = ground.landing(&origin, &head);
    let Landing::Moved { combined, .. } = ground.land(&request).await else { panic!() };
    request.rechecked = Some(combined.clone());
    assert_eq!(landed(&ground.land(&request).await), &combined);
    assert_eq!(git(&ground.repo, &["rev-parse", "stable"]), combined.as_str());
    assert_eq!(git(&ground.repo, &["ls-tree", "-r", "--name-only", "stable"]), "a.txt\nrun.sh\nsrc/lib.rs");
    // `main` is checked out, `stable` is not: no file moved.
    assert_eq!(git(&ground.repo, &["status", "--porcelain"]), "");
    assert_eq!(fs::read_to_string(ground.repo.join("a.txt")).unwrap(), "one\ntwo\nthree\n");
}

#[tokio::test]
async fn a_busy_work_tree_is_left_alone_and_told_of() {
    type Mess = fn(&Ground);
    let messes: [(&str, Mess); 6] = [
        ("uncommitted changes: run.sh", |ground| write(&ground.repo, "run.sh", "mine\n")),
        ("uncommitted changes: x.txt", |ground| {
            write(&ground.repo, "x.txt", "mine\n");
            git(&ground.repo, &["add", "x.txt"]);
        }),
        ("a.txt", |ground| write(&ground.repo, "a.txt", "mine\n")),
        ("new.txt", |ground| write(&ground.repo, "new.txt", "mine\n")),
        ("merge is in progress", |ground| write(&ground.repo, ".git/MERGE_HEAD", "x\n")),
        ("another git process", |ground| write(&ground.repo, ".git/index.lock", "")),
    ];
    for (expected, mess) in messes {
        let ground = Ground::new();
        let origin = ground.resolve().await;
        let head = ground
            .change(&origin, |root| {
                write(root, "a.txt", "changed\n");
                write(root, "new.txt", "new\n");
            })
            .await;
        mess(&ground);
        let tree = |ground: &Ground| {
            ["a.txt", "new.txt", "run.sh", "x.txt", ".git/index.lock"].map(|name| fs::read(ground.repo.join(name)).ok())
        };
        let before = (tree(&ground), fs::read(ground.repo.join(".git/index")).unwrap());
        let landing = ground.land(&ground.landing(&origin, &head)).await;
        let (commit, why) = left(&landing);
        assert!(why.contains(expected), "{why}");
        assert_eq!(commit, &head);
        assert_eq!(ground.head(), origin.base);
        assert_eq!(git(&ground.repo, &["rev-parse", "overnight/T-12"]), head.as_str());
        assert_eq!((tree(&ground), fs::read(ground.repo.join(".git/index")).unwrap()), before, "{expected}");
    }
}

#[tokio::test]
async fn a_rebase_of_the_target_is_not_disturbed() {
    let ground = Ground::new();
    git(&ground.repo, &["checkout", "-q", "-b", "side"]);
    ground.commit("a.txt", "side\n");
    git(&ground.repo, &["checkout", "-q", "main"]);
    ground.commit("a.txt", "main\n");
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "new.txt", "new\n")).await;
    assert!(!try_git(&ground.repo, &["rebase", "side"]).0);
    assert!(left(&ground.land(&ground.landing(&origin, &head)).await).1.contains("being rebased"));
}

#[tokio::test]
async fn a_linked_work_tree_and_a_bare_repository_are_landed_in() {
    let ground = Ground::new();
    let linked = ground.dir.path().join("linked");
    git(&ground.repo, &["worktree", "add", "-q", "-b", "feature", linked.to_str().unwrap()]);
    let origin = ground.try_resolve(|request| request.directory = linked.join("src")).await.unwrap();
    assert_eq!(origin.target.as_deref(), Some("feature"));
    assert_eq!(origin.repository.path, linked.canonicalize().unwrap());
    let head = ground.change(&origin, |root| write(root, "a.txt", "changed\n")).await;
    assert_eq!(landed(&ground.land(&ground.landing(&origin, &head)).await), &head);
    assert_eq!(fs::read_to_string(linked.join("a.txt")).unwrap(), "changed\n");
    assert_eq!(git(&linked, &["status", "--porcelain"]), "");
    assert_eq!(fs::read_to_string(ground.repo.join("a.txt")).unwrap(), "one\ntwo\nthree\n");

    let bare = ground.dir.path().join("bare.git");
    git(&ground.repo, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let origin = ground.try_resolve(|request| request.directory = bare.clone()).await.unwrap();
    assert_eq!(origin.target.as_deref(), Some("main"));
    let key = domain::ids::AttemptKey { task: TaskId(13), ..crate::ground::KEY };
    let prepared = crate::ground::Plain::new(ground.prepare_as(key, &origin, None).await);
    write(&prepared.root, "a.txt", "bare\n");
    let request = domain::ports::workspace::SnapshotRequest {
        repository: origin.repository.clone(),
        key,
        turn: domain::ids::TurnNo(1),
        base: origin.base.clone(),
        message: "m".to_owned(),
        at: crate::ground::at(),
        redactor: std::sync::Arc::default(),
    };
    let head = ground.rooms.snapshot(request).await.unwrap().commit;
    assert_eq!(landed(&ground.land(&ground.landing(&origin, &head)).await), &head);
    assert_eq!(git(&bare, &["rev-parse", "main"]), head.as_str());
}

#[tokio::test]
async fn a_landing_cut_at_any_point_is_finished_by_the_next() {
    type Cut = fn(&Ground, &CommitId);
    // What stands on the disk after each step of a landing, as a crash would leave it.
    let cuts: [Cut; 4] = [
        |ground, _| {
            let store = fs::read_dir(ground.home().join("repositories")).unwrap().next().unwrap().unwrap().path();
            let mark = format!("overnight {}\n", store.canonicalize().unwrap().display());
            write(&ground.repo, ".git/index.lock", mark);
        },
        |ground, _| write(&ground.repo, "a.txt", "changed\n"),
        |ground, _| {
            write(&ground.repo, "a.txt", "changed\n");
            write(&ground.repo, "new/n.txt", "new\n");
            fs::remove_file(ground.repo.join("run.sh")).unwrap();
        },
        |ground, _| {
            write(&ground.repo, "a.txt", "changed\n");
            write(&ground.repo, "new/n.txt", "new\n");
            fs::remove_file(ground.repo.join("run.sh")).unwrap();
            git(&ground.repo, &["add", "-A"]);
        },
    ];
    for cut in cuts {
        let ground = Ground::new();
        let origin = ground.resolve().await;
        let head = ground
            .change(&origin, |root| {
                write(root, "a.txt", "changed\n");
                write(root, "new/n.txt", "new\n");
                fs::remove_file(root.join("run.sh")).unwrap();
            })
            .await;
        cut(&ground, &head);
        assert_eq!(landed(&ground.land(&ground.landing(&origin, &head)).await), &head);
        assert_eq!(git(&ground.repo, &["status", "--porcelain"]), "");
        assert!(!ground.repo.join(".git/index.lock").exists());
        assert_eq!(ground.head(), head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_landings_at_once_land_once_each() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "changed\n")).await;
    let request = ground.landing(&origin, &head);
    let (one, two) = tokio::join!(ground.rooms.land(request.clone()), ground.rooms.land(request));
    assert_eq!((landed(&one.unwrap()), landed(&two.unwrap())), (&head, &head));
    assert_eq!(git(&ground.repo, &["rev-list", "--count", "HEAD"]), "2");
}

#[tokio::test]
async fn a_repository_that_was_replaced_is_not_landed_in() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "changed\n")).await;
    let mut request = ground.landing(&origin, &head);
    request.repository.path = ground.dir.path().join("nowhere");
    assert_eq!(ground.rooms.land(request.clone()).await.unwrap_err().class, FaultClass::Input);
    let other = ground.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    git(&other, &["init", "-q"]);
    request.repository.path = other;
    assert_eq!(ground.rooms.land(request).await.unwrap_err().class, FaultClass::Conflict);
}

#[tokio::test]
async fn a_base_that_the_user_lost_does_not_stop_a_landing() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "new.txt", "new\n")).await;
    git(&ground.repo, &["commit", "-q", "--amend", "-m", "amended"]);
    git(&ground.repo, &["reflog", "expire", "--expire=now", "--all"]);
    git(&ground.repo, &["gc", "-q", "--prune=now"]);
    let mut request = ground.landing(&origin, &head);
    let Landing::Moved { combined, .. } = ground.land(&request).await else { panic!() };
    request.rechecked = Some(combined.clone());
    assert_eq!(landed(&ground.land(&request).await), &combined);
    git(&ground.repo, &["fsck", "--full"]);
    request.method = LandingMethod::Branch;
    request.head = head.clone();
    assert_eq!(left(&ground.land(&request).await).0, &head);
    git(&ground.repo, &["fsck", "--full"]);
}
