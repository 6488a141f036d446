//! Workspaces that are hostile as they lie there: what a snapshot takes of them, what is made of it again, and what is removed.
//!
//! Each is made by a real sandbox. `Life` then does all that the host ever does with one.

use std::{fs, os::unix::fs::MetadataExt};

use domain::{
    FaultClass,
    brief::LandingMethod,
    ids::CommitId,
    ports::{
        sandbox::Confinement,
        workspace::{CheckoutRequest, LandRequest, Landing, PrepareRequest, Surroundings, Workspaces as _},
    },
};

use crate::world::{Attempt, World, git, holding, try_git};

/// The rest of a change's life on the host: read, checked, landed, rebuilt, released.
pub async fn live_on(world: &World, attempt: &Attempt<'_>, head: &CommitId) -> Landing {
    let (rooms, origin) = (&world.workspaces, &attempt.origin);
    let repository = || origin.repository.clone();
    rooms.diff(repository(), origin.base.clone(), head.clone()).await.unwrap();
    rooms.changed_paths(repository(), origin.base.clone(), head.clone()).await.unwrap();
    let surroundings = Surroundings { environment: None, confinement: Confinement::Unconfined };
    let checkout = CheckoutRequest {
        repository: repository(),
        commit: head.clone(),
        protect: Some((origin.base.clone(), vec!["src/**".to_owned()])),
        name: "judged".to_owned(),
        surroundings: surroundings.clone(),
    };
    rooms.checkout(checkout).await.unwrap();
    rooms.discard_checkout("judged".to_owned()).await;
    let landing = rooms
        .land(LandRequest {
            task: attempt.key.task,
            repository: repository(),
            base: origin.base.clone(),
            head: head.clone(),
            target: origin.target.clone(),
            method: LandingMethod::Squash,
            message: "Work\n\nOvernight-Task: T-1\n".to_owned(),
            approver: "grace".to_owned(),
            at: "2026-11-20T10:00:00Z".parse().unwrap(),
            rechecked: None,
        })
        .await
        .unwrap();
    attempt.sandbox.kill().await;
    rooms.release(repository(), attempt.key, Some(head.clone())).await.unwrap();
    let request = PrepareRequest { repository: repository(), key: attempt.key, commit: head.clone(), surroundings };
    rooms.prepare(request).await.unwrap();
    rooms.release(repository(), attempt.key, None).await.unwrap();
    rooms.discard(repository(), attempt.key.task).await.unwrap();
    landing
}

/// Makes a workspace with a script, takes its snapshot, and lives on with it. Returns the snapshot's listing.
async fn lives(world: &World, script: &str) -> String {
    let attempt = world.attempt(1).await;
    let printed = attempt.sh(&format!("echo work > work.txt; {script}; echo made")).await;
    assert!(printed.ends_with("made\n"), "{printed}");
    let head = attempt.snapshot().await.unwrap().commit;
    let listing = attempt.listing(&head);
    assert!(listing.contains("\twork.txt"), "{listing}");
    live_on(world, &attempt, &head).await;
    listing
}

#[tokio::test]
async fn links_carry_the_users_files_into_a_snapshot() {
    let world = World::new().await;
    let user = world.path("user").display().to_string();
    let listing = lives(
        &world,
        &format!("ln -s {user}/notes.txt notes; ln -s {user} dir; ln -s / root; ln -s loop loop; rm -r src; ln -s {user} src; ln -s /proc/self/environ env"),
    )
    .await;
    for name in ["notes", "dir", "root", "loop", "src", "env"] {
        assert!(
            listing.lines().any(|line| line.starts_with("120000 ") && line.ends_with(&format!("\t{name}"))),
            "{listing}"
        );
    }
    // The links landed; what they lead to is where it was, and nowhere else.
    let stores = holding(&world.home().join("repositories"), std::slice::from_ref(&world.canary));
    assert_eq!(stores, Vec::<std::path::PathBuf>::new());
    assert_eq!(fs::read_to_string(world.path("user/notes.txt")).unwrap(), world.canary);
}

#[tokio::test]
async fn a_change_is_written_through_a_link_that_it_brings() {
    // A link first, and in a later turn a file below its name: whoever rebuilds it must not write where the link leads.
    let world = World::new().await;
    let user = world.path("user").display().to_string();
    let attempt = world.attempt(1).await;
    attempt.sh(&format!("ln -s {user} out")).await;
    let linked = attempt.snapshot().await.unwrap().commit;
    attempt.sh("rm out; mkdir out; echo overwritten > out/notes.txt").await;
    let head = attempt.snapshot().await.unwrap().commit;
    assert_ne!(linked, head);
    // The repository's own work tree gets the link from a person, and then the directory from the landing.
    std::os::unix::fs::symlink(&user, world.repository().join("out")).unwrap();
    let landing = live_on(&world, &attempt, &head).await;
    assert!(matches!(&landing, Landing::LeftOnBranch { why, .. } if why.contains("symbolic link")), "{landing:?}");
    assert_eq!(fs::read_to_string(world.path("user/notes.txt")).unwrap(), world.canary);
}

#[tokio::test]
async fn files_of_the_host_are_linked_into_the_workspace() {
    let world = World::new().await;
    let script = "for f in /etc/passwd /usr/bin/id /dev/null /proc/self/environ ~/.cargo/registry/cached /tmp/own; do ln $f . 2>/dev/null && echo linked $f; done; true";
    assert_eq!(world.attempt(2).await.sh(&format!("touch /tmp/own; {script}")).await, "");
    assert!(!lives(&world, script).await.contains("passwd"));
}

#[tokio::test]
async fn pipes_sockets_and_devices_hold_up_a_snapshot() {
    let world = World::new().await;
    let listing = lives(
        &world,
        "mkfifo pipe; rm file.txt; mkfifo file.txt; mkdir d; mkfifo d/pipe; mknod null c 1 3; mknod zero c 0 0; mknod disk b 8 0; \
         python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'; mkfifo .gitignore .gitattributes",
    )
    .await;
    for name in ["pipe", "null", "zero", "disk", "socket", "file.txt", ".gitignore"] {
        assert!(!listing.contains(&format!("\t{name}")), "{name}: {listing}");
    }
}

#[tokio::test]
async fn setuid_programs_land() {
    let world = World::new().await;
    let listing = lives(
        &world,
        "cp /usr/bin/id id; chmod 6755 id; echo x > sticky; chmod 1777 sticky; mkdir d; chmod 2777 d; echo x > d/f",
    )
    .await;
    assert!(
        listing.contains("100755 ")
            && listing.lines().all(|line| line.starts_with("100755 ") || line.starts_with("100644 ")),
        "{listing}"
    );
    let landed = fs::metadata(world.repository().join("id")).unwrap();
    assert_eq!(landed.mode() & 0o6000, 0);
}

#[tokio::test]
async fn a_sparse_file_of_a_terabyte_is_read() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    let printed =
        attempt.sh("truncate -s 1T sparse; stat -c %s sparse; truncate -s 15G sparse; stat -c %b sparse").await;
    // One file's bound, before anything else.
    assert!(printed.contains("File size limit exceeded") && printed.ends_with("0\n0\n"), "{printed}");
    let fault = attempt.snapshot().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Input, "{fault}");
    assert!(fault.what.contains("sparse") || fault.hint.is_some(), "{fault}");
    // The work is not lost: without it, the snapshot is taken.
    attempt.sh("rm sparse; echo work > work.txt").await;
    assert!(!attempt.snapshot().await.unwrap().empty);
}

#[tokio::test]
async fn a_path_is_deeper_than_any_program_can_name() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    let code = "import os\nfor n in range(1500):\n os.mkdir('deep'); os.chdir('deep')\nopen('file', 'w').write('x'); print('dug')";
    assert_eq!(attempt.python(code).await, "dug\n");
    let fault = attempt.snapshot().await.unwrap_err();
    assert!(fault.class == FaultClass::Input && fault.hint.is_some(), "{fault}");
    let place = attempt.upper();
    attempt.sandbox.kill().await;
    // It can be removed, too.
    world.workspaces.release(attempt.origin.repository.clone(), attempt.key, None).await.unwrap();
    assert!(!place.exists());
}

#[tokio::test]
async fn names_break_out_of_lists() {
    let world = World::new().await;
    let code = r#"
import os
for name in [b'new\nline', b'\xff\xfe', b'tab\tquote"', b'back\\slash', b'-rf', b'--exec=x', b'$(touch x)', b'`x`', b' lead', b'trail ', b'...', b'..a', b'a:b', b'*', b'\x01', b'caf\xe9', b'a' * 255]:
    open(name, 'w').write('x')
    os.makedirs(b'd-' + name[:200], exist_ok=True); open(b'd-' + name[:200] + b'/f', 'w').write('x')
print('made')"#;
    let attempt = world.attempt(1).await;
    assert_eq!(attempt.python(code).await, "made\n");
    let head = attempt.snapshot().await.unwrap().commit;
    let listing = attempt.listing(&head);
    for name in [
        r#""new\nline""#,
        r#""\377\376""#,
        r#""tab\tquote\"""#,
        r#""back\\slash""#,
        "-rf",
        "--exec=x",
        "$(touch x)",
        "..a",
        "...",
        r#""d-new\nline/f""#,
    ] {
        assert!(listing.lines().any(|line| line.ends_with(&format!("\t{name}"))), "{name}: {listing}");
    }
    live_on(&world, &attempt, &head).await;
    assert!(world.repository().join("new\nline").exists() && !world.repository().join("x").exists());
}

#[tokio::test]
async fn names_pass_for_git_directories() {
    let world = World::new().await;
    let script = "for n in .GIT .Git 'git~1' 'GIT~1' '.git ' '.git.' '.git::$INDEX_ALLOCATION' 'x\\.git'; do mkdir -p \"d/$n/hooks\"; echo evil > \"d/$n/config\"; done; \
                  mkdir e; echo 'gitdir: /tmp' > e/.git; mkdir -p f; ln -s /etc f/.git; ln -s /etc/passwd .gitmodules; true";
    let listing = lives(&world, script).await;
    for line in listing.lines().map(str::to_lowercase) {
        assert!(!line.contains(".git") && !line.contains("git~1"), "{listing}");
    }
}

#[tokio::test]
async fn git_is_replaced_by_a_file() {
    let world = World::new().await;
    let repository = world.repository();
    let target = fs::canonicalize(repository.join(".git")).unwrap().display().to_string();
    let refs = || git(&repository, &["for-each-ref", "--format=%(refname)"]);
    let before = refs();
    let attempt = world.attempt(1).await;
    attempt.sh(&format!("rm -rf .git; echo 'gitdir: {target}' > .git; echo changed > file.txt")).await;
    // The control: a git that runs there takes the user's repository for the workspace's own.
    assert_eq!(git(&attempt.upper(), &["rev-parse", "--absolute-git-dir"]).trim(), target);
    let head = attempt.snapshot().await.unwrap().commit;
    assert!(!try_git(&repository, &["cat-file", "-e", head.as_str()]).0, "the snapshot is in the user's repository");
    assert_eq!((refs(), git(&repository, &["status", "--porcelain"])), (before.clone(), String::new()));
    assert!(!attempt.listing(&head).contains("\t.git"));
    // Only the landing, which a person asked for, moves anything there: by one commit.
    let landing = live_on(&world, &attempt, &head).await;
    assert!(matches!(landing, Landing::Landed { .. }), "{landing:?}");
    assert_eq!(refs(), before);
    let landed = format!("{}..main", attempt.origin.base);
    assert_eq!(git(&repository, &["rev-list", "--count", &landed]), "1\n");
    assert_eq!(git(&repository, &["diff", "--name-only", &landed]), "file.txt\n");
    assert_eq!(git(&repository, &["fsck", "--full", "--no-dangling"]), "");
}

#[tokio::test]
async fn git_is_replaced_by_a_link() {
    let world = World::new().await;
    let target = world.repository().join(".git");
    let config = fs::read(target.join("config")).unwrap();
    lives(&world, &format!("rm -rf .git; ln -s {} .git; echo changed > file.txt", target.display())).await;
    lives(&world, &format!("rm -rf .git; mkdir .git; ln -s {0}/HEAD .git/HEAD; ln -s {0}/objects .git/objects; ln -s {0}/refs .git/refs; ln -s {0}/index .git/index; echo again > file.txt", target.display())).await;
    assert_eq!(fs::read(target.join("config")).unwrap(), config);
}

#[tokio::test]
async fn git_is_taken_away() {
    let world = World::new().await;
    lives(&world, "rm -rf .git; echo changed > file.txt").await;
    lives(
        &world,
        "echo garbage > .git/index; echo garbage > .git/HEAD; rm -rf .git/refs .git/objects; echo again > file.txt",
    )
    .await;
}

#[tokio::test]
async fn rules_are_links_out_of_the_workspace() {
    let world = World::new().await;
    let rules = world.path("user/rules");
    fs::write(&rules, "*\n").unwrap();
    let listing = lives(&world, &format!("ln -s {0} .gitignore; mkdir d; ln -s {0} d/.gitignore; ln -s {0} .gitattributes; echo x > d/f; mkdir -p .git/info; ln -sf {0} .git/info/exclude", rules.display())).await;
    assert!(listing.contains("\td/f"), "a rule that lies outside ignored it: {listing}");
}

#[tokio::test]
async fn directories_are_locked_against_the_host() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    attempt
        .sh("mkdir -p lock/in; echo x > lock/in/f; chmod 0 lock/in lock; rm -r src; mkdir src; chmod 0 src file.txt")
        .await;
    let head = attempt.snapshot().await.unwrap().commit;
    assert!(attempt.listing(&head).contains("\tlock/in/f"));
    attempt.sh("chmod 0 lock/in lock").await;
    attempt.sandbox.kill().await;
    world.workspaces.release(attempt.origin.repository.clone(), attempt.key, None).await.unwrap();
    assert!(!attempt.upper().exists());
}

#[tokio::test]
async fn the_history_of_the_agent_is_taken_for_the_work() {
    // Commits, refs, notes, grafts and replacements of the agent's are its own: a snapshot is one commit on the base.
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    attempt
        .sh("echo a > a; git add a; git commit -qm a; git replace HEAD HEAD~1; git commit -q --amend --allow-empty -m evil --author 'Root <root@x>'; \
             git update-ref refs/heads/main HEAD; git tag v1; git notes add -m x; echo garbage > .git/info/grafts")
        .await;
    let head = attempt.snapshot().await.unwrap().commit;
    let parents = attempt.stored(&["log", "-1", "--format=%P%n%an%n%s", head.as_str()]);
    assert!(
        parents.starts_with(attempt.origin.base.as_str()) && !parents.contains("Root") && !parents.contains("evil"),
        "{parents}"
    );
    let before = git(&world.repository(), &["tag"]);
    live_on(&world, &attempt, &head).await;
    assert_eq!((before.as_str(), git(&world.repository(), &["tag"]).as_str()), ("", ""));
}

#[tokio::test]
async fn a_million_files_are_made() {
    let world = World::defined("[environment]\n[environment.resources]\ndisk = '64MB'\n").await;
    let attempt = world.attempt(1).await;
    let code = "import os\nfor n in range(1000000):\n if n % 1000 == 0: os.makedirs(f'd/{n // 1000}')\n os.close(os.open(f'd/{n // 1000}/{n}', os.O_CREAT))\nprint('made all')";
    let (exit, printed) = attempt.run(&["/usr/bin/python3", "-c", code]).await;
    assert!(matches!(exit, domain::ports::sandbox::Exit::OverQuota { .. }), "{exit:?} {printed}");
    let snapshot = attempt.snapshot().await;
    assert!(
        snapshot.as_ref().map_or_else(|fault| fault.class == FaultClass::Input, |snapshot| !snapshot.empty),
        "{snapshot:?}"
    );
    attempt.sandbox.kill().await;
    world.workspaces.release(attempt.origin.repository.clone(), attempt.key, None).await.unwrap();
    assert!(!attempt.upper().exists());
}
