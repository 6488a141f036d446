//! Checkouts for check runs, and looking at commits.

use std::{fs, os::unix::fs::PermissionsExt};

use domain::{
    FaultClass,
    ids::CommitId,
    ports::workspace::{ChangeKind, CheckoutRequest, Origin, Workspaces as _},
};

use crate::ground::{Ground, Plain, git, surroundings, write};

const NAME: &str = "T-12.1-check";

async fn checkout(ground: &Ground, origin: &Origin, commit: &CommitId, globs: &[&str]) -> Plain {
    let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
    let request = CheckoutRequest {
        repository: origin.repository.clone(),
        commit: commit.clone(),
        protect: (!globs.is_empty()).then(|| (origin.base.clone(), globs)),
        name: NAME.to_owned(),
        surroundings: surroundings(None),
    };
    Plain::new(ground.rooms.checkout(request).await.unwrap())
}

#[tokio::test]
async fn a_checkout_is_the_commit_itself_with_a_working_git() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let head = ground
        .change(&origin, |root| {
            write(root, "a.txt", "changed\n");
            write(root, "new.txt", "new\n");
        })
        .await;
    for _ in 0..2 {
        let made = checkout(&ground, &origin, &head, &[]).await;
        assert_eq!(git(&made.root, &["status", "--porcelain"]), "");
        assert_eq!(git(&made.root, &["rev-parse", "HEAD"]), head.as_str());
        assert!(git(&made.root, &["show", "--stat"]).contains("new.txt"));
        git(&made.root, &["fsck", "--full"]);
        write(&made.root, "left.txt", "by a check\n");
    }
    let made = checkout(&ground, &origin, &origin.base, &["**"]).await;
    assert!(!made.root.join("new.txt").exists() && !made.root.join("left.txt").exists());
    ground.rooms.discard_checkout(NAME.to_owned()).await;
    ground.rooms.discard_checkout(NAME.to_owned()).await;
    assert!(!made.root.exists());
}

#[tokio::test]
async fn what_a_crash_left_goes_at_the_start() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let made = checkout(&ground, &origin, &origin.base, &[]).await;
    let half_made = ground.store(&origin).parent().unwrap().join("bases/tmp-1-2");
    write(&half_made, "objects/pack/tmp_pack_x", "x");
    ground.open(workspace::Rung::Copy);
    assert!(!made.root.exists() && !half_made.exists());
    assert_eq!(ground.resolve().await, origin);
}

#[tokio::test]
async fn protected_paths_come_from_the_base_present_absent_and_mode_alike() {
    let ground = Ground::new();
    write(&ground.repo, "tests/a.rs", "base\n");
    write(&ground.repo, "tests/gone.rs", "base\n");
    write(&ground.repo, "deep/tests/x.rs", "base\n");
    ground.commit("b.txt", "b\n");
    let origin = ground.resolve().await;
    let head = ground
        .change(&origin, |root| {
            write(root, "tests/a.rs", "weakened\n");
            write(root, "tests/new.rs", "added\n");
            fs::remove_file(root.join("tests/gone.rs")).unwrap();
            write(root, "deep/tests/x.rs", "changed\n");
            write(root, "src/lib.rs", "pub fn g() {}\n");
            fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o644)).unwrap();
        })
        .await;
    let made = checkout(&ground, &origin, &head, &["/tests/", "*.sh"]).await;
    let read = |path: &str| fs::read_to_string(made.root.join(path)).ok();
    assert_eq!(read("tests/a.rs").as_deref(), Some("base\n"));
    assert_eq!(read("tests/gone.rs").as_deref(), Some("base\n"));
    assert_eq!(read("tests/new.rs"), None);
    assert_eq!(read("deep/tests/x.rs").as_deref(), Some("changed\n"));
    assert_eq!(read("src/lib.rs").as_deref(), Some("pub fn g() {}\n"));
    assert!(made.root.join("run.sh").metadata().unwrap().permissions().mode() & 0o100 != 0);
    assert_eq!(git(&made.root, &["status", "--porcelain"]), "");
    // Where no protected path was touched it is the commit itself.
    let made = checkout(&ground, &origin, &head, &["docs/**"]).await;
    assert_eq!(git(&made.root, &["rev-parse", "HEAD"]), head.as_str());
}

#[tokio::test]
async fn commits_are_looked_at_by_name() {
    let ground = Ground::new();
    write(&ground.repo, "odd[1].txt", "x\n");
    ground.commit("b.bin", "a\0b\n");
    let origin = ground.resolve().await;
    let head = ground
        .change(&origin, |root| {
            write(root, "b.bin", "a\0c\n");
            fs::remove_file(root.join("a.txt")).unwrap();
            std::os::unix::fs::symlink("a.txt", root.join("a.txt")).unwrap();
            write(root, "new/file.txt", "1\n2\n");
            fs::remove_file(root.join("run.sh")).unwrap();
        })
        .await;
    let (rooms, repository) = (&ground.rooms, &origin.repository);
    let changes = rooms.changed_paths(repository.clone(), origin.base.clone(), head.clone()).await.unwrap();
    let told: Vec<_> = changes.iter().map(|c| (c.path.as_str(), c.kind, c.added, c.deleted, c.binary)).collect();
    assert_eq!(
        told,
        [
            ("a.txt", ChangeKind::TypeChanged, 1, 3, false),
            ("b.bin", ChangeKind::Modified, 0, 0, true),
            ("new/file.txt", ChangeKind::Added, 2, 0, false),
            ("run.sh", ChangeKind::Deleted, 0, 1, false),
        ]
    );
    let diff = rooms.diff(repository.clone(), origin.base.clone(), head.clone()).await.unwrap();
    let diff = String::from_utf8_lossy(&diff);
    assert!(diff.contains("+++ b/new/file.txt") && diff.contains("GIT binary patch"), "{diff}");

    let read = async |path: &str, max: usize| {
        rooms.read(repository.clone(), head.clone(), path.to_owned(), max).await.unwrap()
    };
    assert_eq!(read("new/file.txt", 100).await.as_deref(), Some(&b"1\n2\n"[..]));
    assert_eq!(read("new/file.txt", 2).await.as_deref(), Some(&b"1\n"[..]));
    assert_eq!(read("odd[1].txt", 100).await.as_deref(), Some(&b"x\n"[..]));
    for none in ["a.txt", "new", "new/", "", "nowhere", "run.sh", "../a.txt", "/etc/passwd"] {
        let told = rooms.read(repository.clone(), head.clone(), none.to_owned(), 9).await;
        assert!(matches!(told, Ok(None)), "{none}: {told:?}");
    }
    let list = async |path: &str| rooms.list(repository.clone(), head.clone(), path.to_owned()).await.unwrap();
    assert_eq!(list("").await, ["a.txt", "b.bin", "new", "odd[1].txt", "src"]);
    assert_eq!(list("new").await, ["file.txt"]);
    assert_eq!(list("nowhere").await, Vec::<String>::new());
    let nobody = CommitId::parse(&"1".repeat(40)).unwrap();
    let fault = rooms.diff(repository.clone(), nobody.clone(), head.clone()).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::NotFound, "{fault}");
    let fault = rooms.read(repository.clone(), nobody, "a".to_owned(), 9).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::NotFound, "{fault}");
}
