//! Repositories and workspaces that try to have something executed. Every trap writes a marker file; none may appear.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use domain::{
    brief::LandingMethod,
    ports::workspace::{CheckoutRequest, Landing, Wip, Workspaces as _},
};

use crate::ground::{Ground, KEY, TASK, git, write};

/// Sets every trap that a git directory and its tree can hold.
fn set_traps(root: &Path, git_dir: &Path, marker: &Path) {
    let program = git_dir.join("trap.sh");
    fs::write(&program, format!("#!/bin/sh\necho \"$0 $*\" >> {}\ncat\n", marker.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let trap = program.to_str().unwrap();
    fs::create_dir_all(git_dir.join("hooks")).unwrap();
    for hook in [
        "pre-commit",
        "post-commit",
        "post-checkout",
        "post-merge",
        "pre-merge-commit",
        "reference-transaction",
        "post-index-change",
        "pre-push",
        "update",
        "pre-receive",
        "post-receive",
        "proc-receive",
        "pre-auto-gc",
        "fsmonitor-watchman",
        "post-rewrite",
    ] {
        fs::copy(&program, git_dir.join("hooks").join(hook)).unwrap();
    }
    for (key, value) in [
        ("core.fsmonitor", trap),
        ("core.pager", trap),
        ("core.editor", trap),
        ("core.sshCommand", trap),
        ("core.askPass", trap),
        ("core.alternateRefsCommand", trap),
        ("credential.helper", trap),
        ("diff.external", trap),
        ("diff.evil.command", trap),
        ("diff.evil.textconv", trap),
        ("merge.evil.driver", trap),
        ("filter.evil.clean", trap),
        ("filter.evil.smudge", trap),
        ("filter.evil.process", trap),
        ("filter.evil.required", "true"),
        ("uploadpack.packObjectsHook", trap),
        ("gpg.program", trap),
        ("commit.gpgSign", "true"),
        ("alias.rev-parse", &format!("!{trap}")),
        ("alias.ls-files", &format!("!{trap}")),
        ("remote.origin.url", &format!("ext::{trap}")),
        ("remote.origin.uploadpack", trap),
        ("protocol.ext.allow", "always"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("trace2.eventTarget", marker.to_str().unwrap()),
    ] {
        let config = git_dir.join("config");
        git(root, &["config", "--file", config.to_str().unwrap(), key, value]);
    }
    git(root, &["config", "--file", git_dir.join("config").to_str().unwrap(), "core.repositoryFormatVersion", "1"]);
    write(root, ".gitattributes", "*.evil filter=evil diff=evil merge=evil\n");
}

#[tokio::test]
async fn a_hostile_repository_has_nothing_executed() {
    let ground = Ground::new();
    write(&ground.repo, "x.evil", "stored\n");
    write(&ground.repo, ".gitattributes", "*.evil filter=evil diff=evil merge=evil\n");
    ground.commit("b.txt", "b\n");
    let marker = ground.dir.path().join("marker");
    set_traps(&ground.repo, &ground.repo.join(".git"), &marker);
    write(&ground.repo, "x.evil", "changed\n");
    write(&ground.repo, "y.evil", "new\n");
    let wip = ground.try_resolve(|request| request.wip = Wip::HandOver).await.unwrap();
    assert_eq!(ground.show(&wip, &wip.base, "x.evil"), "changed");
    write(&ground.repo, "x.evil", "stored\n");
    fs::remove_file(ground.repo.join("y.evil")).unwrap();

    let origin = ground.resolve().await;
    assert!(origin.notes.iter().any(|note| note.contains("evil")), "{:?}", origin.notes);
    let head = ground
        .change(&origin, |root| {
            write(root, "a.txt", "changed\n");
            write(root, "z.evil", "agent\n");
        })
        .await;
    let repository = &origin.repository;
    ground.rooms.diff(repository.clone(), origin.base.clone(), head.clone()).await.unwrap();
    ground.rooms.pull(ground.repo.clone(), repository.clone(), TASK, head.clone()).await.unwrap();
    let mut request = ground.landing(&origin, &head);
    let landing = ground.land(&request).await;
    // The user's own filter would write this file: only the user's git can do that.
    let Landing::LeftOnBranch { why, .. } = landing else { panic!("{landing:?}") };
    assert!(why.contains("z.evil") && why.contains("filter"), "{why}");
    // A change that no filter touches lands.
    let prepared = ground.prepare(&origin).await;
    fs::remove_file(prepared.root.join("z.evil")).unwrap();
    request.head = ground.snapshot(&origin, 2).await.commit;
    assert_eq!(ground.land(&request).await, Landing::Landed { target: "main".into(), commit: request.head.clone() });
    assert_eq!(fs::read_to_string(ground.repo.join("a.txt")).unwrap(), "changed\n");
    request.method = LandingMethod::Branch;
    ground.land(&request).await;
    ground.rooms.discard(repository.clone(), TASK).await.unwrap();
    assert!(!marker.exists(), "{}", fs::read_to_string(&marker).unwrap());
    // Whether it succeeds does not matter: git as a person runs it walks into them.
    crate::ground::try_git(&ground.repo, &["status"]);
    assert!(marker.exists(), "the traps do work");
}

#[tokio::test]
async fn a_hostile_agent_has_nothing_executed() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    let marker = ground.dir.path().join("marker");
    set_traps(&prepared.root, &prepared.root.join(".git"), &marker);
    write(&prepared.root, "x.evil", "agent\n");
    // A repository inside, as hostile, and a file that claims to be one elsewhere.
    let nested = prepared.root.join("nested");
    write(&nested, "n.txt", "n\n");
    git(&nested, &["init", "-q"]);
    git(&nested, &["add", "."]);
    git(&nested, &["-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "-m", "n"]);
    set_traps(&nested, &nested.join(".git"), &marker);
    write(&prepared.root, "sub/.git", format!("gitdir: {}\n", nested.join(".git").display()));
    write(&prepared.root, "sub/s.txt", "s\n");
    symlink("/etc/passwd", prepared.root.join("src/.gitignore")).unwrap();
    let snapshot = ground.snapshot(&origin, 1).await;
    assert_eq!(ground.show(&origin, &snapshot.commit, "x.evil"), "agent");
    assert_eq!(ground.show(&origin, &snapshot.commit, "sub/s.txt"), "s");
    let repository = &origin.repository;
    let diff = ground.rooms.diff(repository.clone(), origin.base.clone(), snapshot.commit.clone()).await.unwrap();
    assert!(String::from_utf8_lossy(&diff).contains("+agent"));
    let checkout = CheckoutRequest {
        repository: repository.clone(),
        commit: snapshot.commit.clone(),
        protect: Some((origin.base.clone(), vec!["src/**".to_owned()])),
        name: "c".to_owned(),
        surroundings: crate::ground::surroundings(None),
    };
    ground.rooms.checkout(checkout).await.unwrap();
    ground.rooms.discard_checkout("c".to_owned()).await;
    ground.land(&ground.landing(&origin, &snapshot.commit)).await;
    ground.rooms.release(repository.clone(), KEY, Some(snapshot.commit)).await.unwrap();
    assert!(!marker.exists(), "{}", fs::read_to_string(&marker).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_swapped_for_a_link_while_it_is_read_never_leaks_what_it_points_to() {
    let ground = Ground::new();
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    let secret = ground.dir.path().join("secret.txt");
    fs::write(&secret, "host secret\n").unwrap();
    let outside = ground.dir.path().join("outside");
    write(&outside, "f.txt", "host secret\n");
    write(&prepared.root, "d/f.txt", "mine\n");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let racer = {
        let (stop, root) = (std::sync::Arc::clone(&stop), prepared.root.clone());
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = fs::remove_file(root.join("x.txt"));
                let _ = symlink(&secret, root.join("x.txt"));
                let _ = fs::rename(root.join("d"), root.join("e"));
                let _ = symlink(&outside, root.join("d"));
                let _ = fs::remove_file(root.join("x.txt"));
                let _ = fs::write(root.join("x.txt"), "mine\n");
                let _ = fs::remove_file(root.join("d"));
                let _ = fs::rename(root.join("e"), root.join("d"));
            }
        })
    };
    for turn in 1..30 {
        // A tree that changes underneath may be refused, but never followed.
        let _ = ground.try_snapshot(&origin, turn).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    racer.join().unwrap();
    ground.snapshot(&origin, 30).await;
    let objects = git(&ground.store(&origin), &["cat-file", "--batch", "--batch-all-objects"]);
    assert!(objects.contains("mine") && !objects.contains("host secret"));
}
