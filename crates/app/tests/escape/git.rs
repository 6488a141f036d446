//! Repositories that would have git run something. Each trap, wherever git as a person runs it falls into it, makes a file.
//!
//! The control: the same script sets the same trap in a plain workspace, and the git commands that a person or a careless host
//! would use there spring it. Traps that need more than these (a merge, a push) are named where they are set.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::{
    uppers::live_on,
    world::{World, try_git, write},
};

/// What spring traps, among other things.
const CARELESS: [&[&str]; 12] = [
    &["status"],
    &["diff"],
    &["add", "-A"],
    &["commit", "-q", "-m", "x"],
    &["log", "-p", "-1", "--ext-diff", "--textconv"],
    &["checkout", "-q", "-B", "other"],
    &["checkout", "-q", "HEAD~1", "--", "."],
    &["stash"],
    &["fetch", "-q", "--refetch", "origin"],
    &["-c", "protocol.ext.allow=always", "fetch", "-q", "origin"],
    &["submodule", "update", "--init"],
    &["x"],
];

/// Sets a trap by a script, in which `$TRAP` is a command that springs it.
async fn springs_nothing(script: &str) {
    let world =
        World::of(&[("a.evil", "stored\n"), (".gitattributes", "*.evil filter=evil diff=evil merge=evil\n")]).await;
    let (marker, trap) = (world.path("sprung"), world.path("trap"));
    fs::write(&trap, format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
    fs::set_permissions(&trap, fs::Permissions::from_mode(0o755)).unwrap();
    let script = format!(
        "TRAP={}; hook() {{ printf '#!/bin/sh\\n%s\\n' $TRAP > $1; chmod +x $1; }}; {script}; echo more > b.evil; echo changed > a.evil; echo changed > file.txt; echo set",
        trap.display()
    );
    let plain = world.plain().await;
    let printed = plain.sh(&script).await;
    assert!(printed.ends_with("set\n"), "{printed}");
    for arguments in CARELESS {
        try_git(&plain.upper(), arguments);
    }
    assert!(marker.exists(), "the control: the trap works on a careless host");
    // They have moved the work about.
    plain.sh("echo changed > file.txt").await;
    fs::remove_file(&marker).unwrap();

    for (task, attempt) in [(900, plain), (1, world.attempt(1).await)] {
        if task == 1 {
            let printed = attempt.sh(&script).await;
            assert!(printed.ends_with("set\n"), "{printed}");
        }
        let head = attempt.snapshot().await.unwrap().commit;
        assert_eq!(attempt.stored(&["show", &format!("{head}:file.txt")]), "changed\n", "the work is there");
        live_on(&world, &attempt, &head).await;
        // What springs inside a sandbox finds no way to the marker.
        assert!(!marker.exists(), "sprung by the host, in {}", attempt.upper().display());
    }
}

fn config(name: &str) -> String {
    format!("git config {name} $TRAP")
}

#[tokio::test]
async fn hooks_run() {
    springs_nothing("mkdir -p .git/hooks; for h in pre-commit post-commit post-checkout post-index-change reference-transaction pre-push post-merge pre-auto-gc update; do hook .git/hooks/$h; done").await;
}

#[tokio::test]
async fn hooks_elsewhere_run() {
    springs_nothing("mkdir hooks; hook hooks/post-checkout; hook hooks/pre-commit; hook hooks/post-index-change; git config core.hooksPath \"$PWD/hooks\"").await;
}

#[tokio::test]
async fn fsmonitor_runs() {
    springs_nothing(&config("core.fsmonitor")).await;
}

#[tokio::test]
async fn a_clean_filter_runs() {
    springs_nothing(&config("filter.evil.clean")).await;
}

#[tokio::test]
async fn a_smudge_filter_runs() {
    springs_nothing(&config("filter.evil.smudge")).await;
}

#[tokio::test]
async fn a_process_filter_runs() {
    springs_nothing(&config("filter.evil.process")).await;
}

#[tokio::test]
async fn an_external_diff_runs() {
    springs_nothing(&config("diff.external")).await;
}

#[tokio::test]
async fn a_diff_driver_runs() {
    springs_nothing(&format!("{}; {}", config("diff.evil.command"), config("diff.evil.textconv"))).await;
}

#[tokio::test]
async fn attributes_bring_a_driver_to_every_file() {
    springs_nothing(&format!("{}; echo '* filter=evil diff=evil merge=evil' > .git/info/attributes; echo '* filter=evil' > src/.gitattributes", config("filter.evil.clean"))).await;
}

#[tokio::test]
async fn a_merge_driver_runs() {
    // Springs in a merge; the fsmonitor beside it shows that the place is one that git reads.
    springs_nothing(&format!("{}; {}", config("merge.evil.driver"), config("core.fsmonitor"))).await;
}

#[tokio::test]
async fn an_alias_runs() {
    springs_nothing("for a in x status diff rev-parse ls-files; do git config alias.$a \"!$TRAP\"; done").await;
}

#[tokio::test]
async fn a_credential_helper_runs() {
    // Asked by a fetch over HTTP that needs one; the remote is reached by `ext::`, which springs at once.
    springs_nothing("git config credential.helper \"!$TRAP\"; git config core.askPass $TRAP; git remote add origin \"ext::$TRAP\"; git config protocol.ext.allow always").await;
}

#[tokio::test]
async fn a_remotes_command_runs() {
    springs_nothing("git config core.sshCommand $TRAP; git remote add origin ssh://localhost/x; git config remote.origin.uploadpack $TRAP").await;
}

#[tokio::test]
async fn a_promisor_is_asked_for_objects() {
    springs_nothing("git config core.repositoryFormatVersion 1; git config extensions.partialClone origin; git config remote.origin.promisor true; git config protocol.ext.allow always; git config remote.origin.url \"ext::$TRAP\"").await;
}

#[tokio::test]
async fn a_signing_program_runs() {
    springs_nothing("printf '#!/bin/sh\\n%s\\n' $TRAP > gpg; chmod +x gpg; git config gpg.program \"$PWD/gpg\"; git config commit.gpgSign true").await;
}

#[tokio::test]
async fn an_included_configuration_is_read() {
    springs_nothing(
        "printf '[core]\\n\\tfsmonitor = \"%s\"\\n' $TRAP > evil.config; git config include.path ../evil.config",
    )
    .await;
}

#[tokio::test]
async fn a_submodules_address_runs() {
    springs_nothing(
        "printf '[submodule \"x\"]\\n\\tpath = sub\\n\\turl = ext::%s\\n\\tupdate = !%s\\n' $TRAP $TRAP > .gitmodules; \
         git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),sub; mkdir sub; git config submodule.x.url \"ext::$TRAP\"; \
         git config protocol.ext.allow always; git config submodule.x.active true; git config remote.origin.url \"ext::$TRAP\"",
    )
    .await;
}

#[tokio::test]
async fn a_pointer_to_large_files_has_them_fetched() {
    springs_nothing(
        "printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%064d\\nsize 1\\n' 1 > big.bin; printf '*.bin filter=lfs diff=lfs merge=lfs -text\\n' >> .gitattributes; \
         for c in clean smudge process; do git config filter.lfs.$c $TRAP; done; printf '[lfs]\\n\\turl = http://127.0.0.1:1/\\n' > .lfsconfig",
    )
    .await;
}

#[tokio::test]
async fn a_repository_inside_the_repository_is_trusted() {
    springs_nothing(
        "git init -q nested; echo n > nested/n; git -C nested config core.fsmonitor $TRAP; mkdir -p nested/.git/hooks; hook nested/.git/hooks/post-index-change; \
         git init -q --bare bare; git --git-dir=bare config core.fsmonitor $TRAP; git config core.fsmonitor $TRAP",
    )
    .await;
}

#[tokio::test]
async fn objects_of_the_host_are_borrowed() {
    // Alternates that name the user's own store would make its objects the agent's.
    let world = World::new().await;
    let secret = {
        write(&world.repository().join("plan.txt"), &world.canary);
        let repository = world.repository();
        let (_, id, _) = try_git(&repository, &["hash-object", "-w", "plan.txt"]);
        fs::remove_file(repository.join("plan.txt")).unwrap();
        id.trim().to_owned()
    };
    let objects = world.repository().join(".git/objects").display().to_string();
    let script = format!(
        "mkdir -p .git/objects/info; echo {objects} >> .git/objects/info/alternates; git cat-file -p {secret}; \
         git update-index --add --cacheinfo 100644,{secret},stolen.txt; echo work > work.txt; echo tried"
    );
    let (plain, confined) = world.tried(&script).await;
    assert!(plain.contains(&world.canary), "{plain}");
    assert!(!confined.contains(&world.canary) && confined.ends_with("tried\n"), "{confined}");
    let attempt = world.attempt(1).await;
    let head = attempt.snapshot().await.unwrap().commit;
    assert!(!attempt.listing(&head).contains("stolen"), "an index of the agent's is no work");
    live_on(&world, &attempt, &head).await;
}

#[tokio::test]
async fn a_work_tree_elsewhere_is_written() {
    let world = World::new().await;
    let user = world.path("user");
    let attempt = world.attempt(1).await;
    attempt.sh(&format!("git config core.worktree {}; echo overwritten > notes.txt", user.display())).await;
    let head = attempt.snapshot().await.unwrap().commit;
    live_on(&world, &attempt, &head).await;
    assert_eq!(fs::read_to_string(user.join("notes.txt")).unwrap(), world.canary);
    assert!(Path::new(&world.repository().join("notes.txt")).exists());
}
