//! Preparing, snapshotting and releasing a workspace.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use domain::{
    FaultClass,
    ids::{AttemptKey, AttemptNo, TaskId},
    ports::workspace::{Origin, Workspaces as _},
};

use crate::ground::{Ground, KEY, Plain, git, write};

#[tokio::test]
async fn a_workspace_is_clean_and_knows_the_history() {
    let ground = Ground::new();
    ground.commit("b.txt", "b\n");
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    assert_eq!(git(&prepared.root, &["status", "--porcelain"]), "");
    assert_eq!(git(&prepared.root, &["branch", "--show-current"]), "overnight/T-12");
    assert_eq!(git(&prepared.root, &["log", "--format=%s"]), "b.txt\nfirst");
    assert_eq!(git(&prepared.root, &["config", "user.name"]), "Overnight");
    assert!(prepared.root.join("run.sh").metadata().unwrap().permissions().mode() & 0o111 != 0);
    assert!(prepared.home.is_dir());
    // All that it needs is its own or readable.
    let borrowed = fs::read_to_string(prepared.root.join(".git/objects/info/alternates")).unwrap();
    assert_eq!(Path::new(borrowed.trim_end()), prepared.rest.readable[0]);
    git(&prepared.root, &["fsck", "--full"]);
}

#[tokio::test]
async fn a_workspace_sees_no_other_branch() {
    let ground = Ground::new();
    git(&ground.repo, &["checkout", "-q", "-b", "secret"]);
    let secret = ground.commit("secret.txt", "s3cret\n");
    git(&ground.repo, &["checkout", "-q", "main"]);
    ground.try_resolve(|request| request.base = Some("secret".into())).await.unwrap();
    let main = ground.commit("b.txt", "b\n");
    let origin = ground.resolve().await;
    assert_eq!(origin.base, main);
    let prepared = ground.prepare(&origin).await;
    let (seen, ..) = crate::ground::try_git(&prepared.root, &["cat-file", "-e", secret.as_str()]);
    assert!(!seen);
}

#[tokio::test]
async fn a_workspace_that_exists_is_kept_and_a_half_made_one_is_made_anew() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    write(&prepared.root, "work.txt", "hours\n");
    ground.prepare(&origin).await;
    assert_eq!(fs::read_to_string(prepared.root.join("work.txt")).unwrap(), "hours\n");
    fs::remove_file(prepared.root.parent().unwrap().join("ready")).unwrap();
    fs::write(prepared.root.parent().unwrap().join("index.lock"), "").unwrap();
    ground.prepare(&origin).await;
    assert!(!prepared.root.join("work.txt").exists());
    assert_eq!(git(&prepared.root, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_snapshot_holds_every_kind_of_change_as_one_commit_on_the_base() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    let root = &prepared.root;
    write(root, ".gitignore", "*.log\n");
    write(root, "noise.log", "ignored\n");
    write(root, "new/deep/file.txt", "new\n");
    git(root, &["add", "."]);
    git(root, &["commit", "-q", "-m", "the agent's own"]);
    fs::remove_file(root.join("src/lib.rs")).unwrap();
    fs::set_permissions(root.join("a.txt"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/etc/passwd", root.join("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let snapshot = ground.snapshot(&origin, 1).await;
    assert!(!snapshot.empty);
    assert_eq!(ground.files(&origin, &snapshot.commit), [".gitignore", "a.txt", "link", "new/deep/file.txt", "run.sh"]);
    let store = ground.store(&origin);
    let tree = git(&store, &["ls-tree", snapshot.commit.as_str(), "link", "a.txt"]);
    assert!(tree.contains("120000") && tree.contains("100755"), "{tree}");
    assert_eq!(ground.show(&origin, &snapshot.commit, "link"), "/etc/passwd");
    let parents = git(&store, &["log", "-1", "--format=%P %an %ae %at", snapshot.commit.as_str()]);
    assert_eq!(parents, format!("{} Overnight overnight@localhost {}", origin.base, crate::ground::at().as_second()));
    assert_eq!(git(&store, &["rev-parse", "refs/overnight/T-12/1/1"]), snapshot.commit.as_str());
    assert_eq!((snapshot.stat.files, snapshot.stat.added, snapshot.stat.deleted), (5, 3, 1));
}

#[tokio::test]
async fn equal_work_gives_an_equal_commit_and_later_work_is_seen() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    assert!(ground.snapshot(&origin, 1).await.empty);
    // The same length within the same second: only the content tells.
    write(&prepared.root, "a.txt", "ONE\ntwo\nthree\n");
    let first = ground.snapshot(&origin, 2).await;
    assert_eq!(ground.snapshot(&origin, 2).await, first);
    write(&prepared.root, "a.txt", "TWO\ntwo\nthree\n");
    let second = ground.snapshot(&origin, 3).await;
    assert_eq!(ground.show(&origin, &second.commit, "a.txt"), "TWO\ntwo\nthree");
    write(&prepared.root, "a.txt", "one\ntwo\nthree\n");
    assert!(ground.snapshot(&origin, 4).await.empty);
}

#[tokio::test]
async fn an_index_that_settled_is_kept_and_still_sees_everything() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    let index = prepared.root.parent().unwrap().join("index");
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    for round in 0..3 {
        write(&prepared.root, "a.txt", format!("round {round}\n"));
        write(&prepared.root, &format!("new-{round}.txt"), "x\n");
        fs::File::options().write(true).open(&index).unwrap().set_modified(past).unwrap();
        let snapshot = ground.snapshot(&origin, round + 1).await;
        assert_eq!(ground.show(&origin, &snapshot.commit, "a.txt"), format!("round {round}"));
        assert_eq!(snapshot.stat.files, round + 2);
    }
    // A damaged one is only a cache.
    fs::write(&index, "garbage").unwrap();
    assert_eq!(ground.snapshot(&origin, 9).await.stat.files, 4);
}

#[tokio::test]
async fn a_broken_or_missing_git_directory_of_the_agent_does_not_matter() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    write(&prepared.root, "a.txt", "changed\n");
    let wanted = ground.snapshot(&origin, 1).await;
    fs::remove_dir_all(prepared.root.join(".git")).unwrap();
    assert_eq!(ground.snapshot(&origin, 1).await, wanted);
    symlink("/", prepared.root.join(".git")).unwrap();
    assert_eq!(ground.snapshot(&origin, 1).await, wanted);
    fs::remove_file(prepared.root.join(".git")).unwrap();
    fs::write(prepared.root.join(".git"), "gitdir: /nowhere\n").unwrap();
    assert_eq!(ground.snapshot(&origin, 1).await, wanted);
}

#[tokio::test]
async fn files_of_nested_repositories_are_work_too() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    let nested = prepared.root.join("vendor/dep");
    write(&nested, "dep.txt", "dep\n");
    write(&nested, ".gitignore", "out\n");
    write(&nested, "out/big", "ignored\n");
    git(&nested, &["init", "-q"]);
    git(&nested, &["add", "."]);
    git(&nested, &["-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "-m", "nested"]);
    // One without a commit, at which `git add` gives up.
    write(&prepared.root, "empty/e.txt", "e\n");
    git(&prepared.root.join("empty"), &["init", "-q"]);
    for turn in 1..3 {
        let snapshot = ground.snapshot(&origin, turn).await;
        let files = ground.files(&origin, &snapshot.commit);
        assert!(files.contains(&"vendor/dep/dep.txt".to_owned()), "{files:?}");
        assert!(files.contains(&"empty/e.txt".to_owned()), "{files:?}");
        assert!(!files.iter().any(|file| file.contains(".git/") || file.contains("out/")), "{files:?}");
    }
    // In the kept index it is known by its files from now on.
    let index = prepared.root.parent().unwrap().join("index");
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    fs::File::options().write(true).open(&index).unwrap().set_modified(past).unwrap();
    ground.snapshot(&origin, 3).await;
    write(&nested, "dep.txt", "changed\n");
    let snapshot = ground.snapshot(&origin, 4).await;
    assert_eq!(ground.show(&origin, &snapshot.commit, "vendor/dep/dep.txt"), "changed");
}

#[tokio::test]
async fn files_become_directories_and_back() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    fs::remove_file(prepared.root.join("a.txt")).unwrap();
    write(&prepared.root, "a.txt/inner", "x\n");
    fs::remove_dir_all(prepared.root.join("src")).unwrap();
    write(&prepared.root, "src", "a file now\n");
    let snapshot = ground.snapshot(&origin, 1).await;
    assert_eq!(ground.files(&origin, &snapshot.commit), ["a.txt/inner", "run.sh", "src"]);
}

#[tokio::test]
async fn a_directory_swapped_for_a_link_out_of_the_tree_is_not_followed() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    let outside = ground.dir.path().join("outside");
    write(&outside, "lib.rs", "host secret\n");
    fs::remove_dir_all(prepared.root.join("src")).unwrap();
    symlink(&outside, prepared.root.join("src")).unwrap();
    let snapshot = ground.snapshot(&origin, 1).await;
    assert_eq!(ground.show(&origin, &snapshot.commit, "src"), outside.to_str().unwrap());
    let out = git(&ground.store(&origin), &["log", "-p", "--all"]);
    assert!(!out.contains("host secret"));
}

#[tokio::test]
async fn names_need_not_be_text() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    for name in [&b"caf\xe9"[..], b"new\nline", b"tab\tquote\"", b":(glob)*", b"-n"] {
        fs::write(prepared.root.join(OsStr::from_bytes(name)), "x\n").unwrap();
    }
    let snapshot = ground.snapshot(&origin, 1).await;
    assert_eq!(snapshot.stat.files, 5);
    let changes = ground
        .rooms
        .changed_paths(origin.repository.clone(), origin.base.clone(), snapshot.commit.clone())
        .await
        .unwrap();
    let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
    assert!(paths.contains(&"new\nline") && paths.contains(&"caf\u{fffd}"), "{paths:?}");
    ground.rooms.release(origin.repository.clone(), KEY, Some(snapshot.commit)).await.unwrap();
}

#[tokio::test]
async fn a_workspace_is_released_only_when_the_snapshot_holds_it() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    write(&prepared.root, "work.txt", "1\n");
    let snapshot = ground.snapshot(&origin, 1).await;
    write(&prepared.root, "more.txt", "2\n");
    let fault = ground.rooms.release(origin.repository.clone(), KEY, Some(snapshot.commit.clone())).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Conflict);
    assert!(prepared.root.join("more.txt").exists());
    fs::remove_file(prepared.root.join("more.txt")).unwrap();
    for _ in 0..2 {
        ground.rooms.release(origin.repository.clone(), KEY, Some(snapshot.commit.clone())).await.unwrap();
        assert!(!prepared.root.exists());
    }
    // Nothing of it is wanted: nothing is compared.
    let prepared = ground.prepare(&origin).await;
    write(&prepared.root, "work.txt", "1\n");
    ground.rooms.release(origin.repository.clone(), KEY, None).await.unwrap();
    assert!(!prepared.root.exists());
    assert_eq!(ground.try_snapshot(&origin, 2).await.unwrap_err().class, FaultClass::NotFound);
}

#[tokio::test]
async fn an_attempts_home_outlives_its_workspace_until_nothing_of_it_is_wanted() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let session = ground.home().join("workspaces").join(KEY.to_string()).join("home/.agent/session");
    let kept = ground.home().join("homes").join(KEY.to_string());
    ground.prepare(&origin).await;
    fs::create_dir_all(session.parent().unwrap()).unwrap();
    fs::write(&session, "so far").unwrap();
    let snapshot = ground.snapshot(&origin, 1).await;
    for _ in 0..2 {
        ground.rooms.release(origin.repository.clone(), KEY, Some(snapshot.commit.clone())).await.unwrap();
        assert!(!session.exists() && kept.is_dir());
    }
    ground.prepare(&origin).await;
    assert_eq!(fs::read_to_string(&session).unwrap(), "so far");
    assert!(!kept.exists());
    ground.rooms.release(origin.repository.clone(), KEY, Some(snapshot.commit.clone())).await.unwrap();
    ground.rooms.release(origin.repository.clone(), KEY, None).await.unwrap();
    assert!(!kept.exists());
    ground.prepare(&origin).await;
    assert!(!session.exists());
    ground.rooms.release(origin.repository.clone(), KEY, Some(snapshot.commit)).await.unwrap();
    ground.rooms.discard(origin.repository.clone(), KEY.task).await.unwrap();
    assert!(!kept.exists());
}

#[tokio::test]
async fn a_workspace_rebuilt_from_a_snapshot_shows_it_as_uncommitted_changes() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    write(&prepared.root, "a.txt", "changed\n");
    write(&prepared.root, "new.txt", "new\n");
    let snapshot = ground.snapshot(&origin, 1).await;
    ground.rooms.release(origin.repository.clone(), KEY, Some(snapshot.commit.clone())).await.unwrap();
    let rebuilt = Origin { base: snapshot.commit.clone(), ..origin.clone() };
    let prepared = ground.prepare(&rebuilt).await;
    assert_eq!(git(&prepared.root, &["status", "--porcelain"]), "M a.txt\n?? new.txt".replacen('M', " M", 1));
    assert_eq!(git(&prepared.root, &["rev-parse", "HEAD"]), origin.base.as_str());
    assert!(git(&prepared.root, &["diff"]).contains("+changed"));
    let again = ground.snapshot(&origin, 2).await;
    assert_eq!(again.commit, snapshot.commit);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_prepare_at_once() {
    let ground = Ground::new();
    let origins = (0..20).map(|_| ground.try_resolve(|_| {}));
    let origins: Vec<_> = futures_all(origins).await;
    let origin = origins.into_iter().next().unwrap().unwrap();
    let attempts = (1..=20).map(|number| {
        let key = AttemptKey { task: TaskId(number), attempt: AttemptNo(1) };
        ground.prepare_as(key, &origin, None)
    });
    for root in futures_all(attempts).await.into_iter().map(|prepared| Plain::new(prepared).root) {
        assert_eq!(fs::read_to_string(root.join("a.txt")).unwrap(), "one\ntwo\nthree\n");
    }
    assert_eq!(fs::read_dir(ground.store(&origin).parent().unwrap().join("bases")).unwrap().count(), 1);
}

async fn futures_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in waiting.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
