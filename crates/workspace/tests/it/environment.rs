//! Environment layers: raised, frozen, laid under workspaces, and no longer taken where they would be wrong.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use domain::{
    FaultClass,
    environment::EnvironmentId,
    ids::{AttemptKey, AttemptNo, CommitId, TaskId},
    ports::{
        sandbox::{Confinement, Tree},
        workspace::{CheckoutRequest, Origin, PrepareRequest, Prepared, RaiseRequest, Surroundings, Workspaces as _},
    },
};
use workspace::Rung;

use crate::{
    ground::{Ground, KEY, git, inside, surroundings, write},
    layers::{LISTING, assert_same, layers},
};

fn id(digit: char) -> EnvironmentId {
    EnvironmentId::parse(&digit.to_string().repeat(16)).unwrap()
}

async fn raise(ground: &Ground, origin: &Origin, id: &EnvironmentId, over: Option<&EnvironmentId>) -> Prepared {
    let request = RaiseRequest {
        repository: origin.repository.clone(),
        base: origin.base.clone(),
        id: id.clone(),
        over: over.cloned(),
        confinement: Confinement::Confined,
    };
    ground.rooms.raise(request).await.unwrap()
}

/// Builds a layer by a script. Returns the tracked paths that the script changed.
async fn build(
    ground: &Ground,
    origin: &Origin,
    id: &EnvironmentId,
    over: Option<&EnvironmentId>,
    script: &str,
) -> Vec<String> {
    let raised = raise(ground, origin, id, over).await;
    inside(&raised, script);
    ground.rooms.freeze(origin.repository.clone(), id.clone(), format!("by {script}")).await.unwrap()
}

async fn serves(ground: &Ground, origin: &Origin, id: &EnvironmentId) -> bool {
    ground.rooms.serves(origin.repository.clone(), id.clone(), origin.base.clone()).await.unwrap()
}

const INSTALL: &str = "mkdir -p node_modules/x target/debug; echo lib > node_modules/x/index.js; ln -s x node_modules/y; echo built > \
                       target/debug/app; chmod 755 target/debug/app; echo cache > \"$HOME/cache\"; echo odd > src/generated.rs; echo \
                       changed > a.txt; rm run.sh; cat src/lib.rs > copy && cat copy > src/lib.rs && rm copy; git status > /dev/null; \
                       mkfifo target/pipe";

#[tokio::test]
async fn what_is_installed_lies_under_workspaces_and_checks_on_every_rung() {
    let mut told = Vec::new();
    for rung in [Rung::Overlay, Rung::Copy] {
        let ground = Ground::on(rung);
        write(&ground.repo, ".gitignore", "node_modules\ntarget\nsrc/generated.rs\n");
        ground.commit("b.txt", "b\n");
        let origin = ground.resolve().await;
        let id = id('a');
        let left_out = build(&ground, &origin, &id, None, INSTALL).await;
        assert_eq!(left_out, ["a.txt", "run.sh"], "{rung:?}");
        let [layer] = ground.rooms.environments(origin.repository.clone()).await.unwrap().try_into().unwrap();
        assert_eq!((&layer.id, &layer.base, layer.users), (&id, &origin.base, 0));
        assert!(layer.bytes > 0 && layer.about.starts_with("by mkdir"));

        let made = ground.prepare_as(KEY, &origin, Some(&id)).await;
        let script = format!(
            "git status --porcelain; cat a.txt \"$HOME/cache\"; test target/debug/app -nt src/lib.rs && test -x run.sh && test a.txt -nt target/debug/app && test run.sh -nt \
             target/debug/app; stat -c %Y \
             target/debug/app >&2; {LISTING}"
        );
        told.push(inside(&made, &script));
        assert!(told[0].starts_with("one\ntwo\nthree\ncache\n"), "{}", told[0]);
        // What it writes stays its own.
        inside(&made, "echo mine > node_modules/x/index.js; rm -r target; echo mine > \"$HOME/cache\"");
        let request = CheckoutRequest {
            repository: origin.repository.clone(),
            commit: origin.base.clone(),
            protect: None,
            name: "c".to_owned(),
            surroundings: surroundings(Some(&id)),
        };
        let check = ground.rooms.checkout(request).await.unwrap();
        assert_same(&inside(&check, &script), &told[0]);
        let [layer] = ground.rooms.environments(origin.repository.clone()).await.unwrap().try_into().unwrap();
        assert_eq!(layer.users, 2);
        // Ignored things are no work.
        let snapshot = ground.snapshot(&origin, 1).await;
        assert!(snapshot.empty, "{:?}", snapshot.stat);

        let gone = ground.rooms.remove_environment(origin.repository.clone(), id.clone()).await;
        assert_eq!(gone.unwrap_err().class, FaultClass::Conflict);
        ground.rooms.release(origin.repository.clone(), KEY, Some(snapshot.commit)).await.unwrap();
        ground.rooms.discard_checkout("c".to_owned()).await;
        ground.rooms.remove_environment(origin.repository.clone(), id.clone()).await.unwrap();
        assert!(ground.rooms.environments(origin.repository.clone()).await.unwrap().is_empty());
        assert!(!serves(&ground, &origin, &id).await);
    }
    assert_same(&told[0].replace(" 0 ", " "), &told[1].replace(" 0 ", " "));
}

#[tokio::test]
async fn plain_processes_get_a_copy_of_what_was_built_in_layers() {
    let ground = Ground::on(Rung::Overlay);
    let origin = ground.resolve().await;
    build(
        &ground,
        &origin,
        &id('a'),
        None,
        "mkdir -p out/old; echo 1 > out/old/a; echo 1 > out/b; echo 1 > \"$HOME/h\"",
    )
    .await;
    let script = "rm -r out/old; mkdir out/old; echo 2 > out/old/c; rm out/b; echo 2 > \"$HOME/i\"";
    build(&ground, &origin, &id('b'), Some(&id('a')), script).await;
    let mut told = Vec::new();
    for (number, confinement) in [Confinement::Confined, Confinement::Unconfined].into_iter().enumerate() {
        let request = PrepareRequest {
            repository: origin.repository.clone(),
            key: AttemptKey { task: TaskId(number as u64 + 1), attempt: AttemptNo(1) },
            commit: origin.base.clone(),
            surroundings: Surroundings { environment: Some(id('b')), confinement },
        };
        let made = ground.rooms.prepare(request).await.unwrap();
        assert_eq!(matches!(made.root, Tree::Directory(_)), confinement == Confinement::Unconfined);
        told.push(inside(
            &made,
            &format!("git status --porcelain; ls \"$HOME\"; {LISTING}; stat -c %Y out/old/c a.txt"),
        ));
    }
    assert!(told[0].starts_with("?? out/\nh\ni\n"), "{}", told[0]);
    assert_same(&told[0], &told[1]);
}

#[tokio::test]
async fn a_layer_serves_another_base_only_where_its_files_look_newer() {
    let ground = Ground::on(Rung::Overlay);
    for number in 0..20 {
        write(&ground.repo, &format!("{number}.txt"), "x\n");
    }
    ground.commit("more", "x\n");
    let first = ground.resolve().await;
    let side = ground.commit("side.txt", "made before\n");
    let before = ground.resolve().await;
    assert_eq!(before.base, side);
    let key = |task| AttemptKey { task: TaskId(task), attempt: AttemptNo(1) };
    ground.prepare_as(key(1), &before, None).await;
    ground.prepare_as(key(2), &first, None).await;
    build(&ground, &first, &id('a'), None, "mkdir target; echo built > target/app; echo x > notes.txt").await;
    assert!(serves(&ground, &first, &id('a')).await);
    // Its layer was there before what was built: it would be taken for older.
    assert!(!serves(&ground, &before, &id('a')).await);

    ground.commit("a.txt", "changed\n");
    let after = ground.resolve().await;
    // Of what differs from the first, one file lies in the older layer.
    assert!(!serves(&ground, &after, &id('a')).await);
    git(&ground.repo, &["checkout", "-q", "-B", "main", first.base.as_str()]);
    ground.commit("a.txt", "changed otherwise\n");
    let after = ground.resolve().await;
    assert!(serves(&ground, &after, &id('a')).await);
    let made = ground.prepare_as(key(3), &after, Some(&id('a'))).await;
    assert_eq!(
        inside(&made, "cat a.txt target/app; test a.txt -nt target/app; git status --porcelain"),
        "changed otherwise\nbuilt\n?? notes.txt\n?? target/"
    );

    // What was untracked has become a file of the base.
    ground.commit("notes.txt", "tracked now\n");
    let tracked = ground.resolve().await;
    assert!(!serves(&ground, &tracked, &id('a')).await);
    // What is there need not be made again, all the same.
    let raised = raise(&ground, &tracked, &id('b'), Some(&id('a'))).await;
    assert_eq!(layers(&raised.root).lower.len(), layers(&made.root).lower.len());
    assert_eq!(inside(&raised, "cat notes.txt target/app; git status --porcelain"), "tracked now\nbuilt\n?? target/");
    let repository = tracked.repository.clone();
    assert_eq!(ground.rooms.freeze(repository.clone(), id('b'), String::new()).await.unwrap(), Vec::<String>::new());
    assert!(serves(&ground, &tracked, &id('b')).await);
    let fault = ground.rooms.freeze(repository, id('c'), String::new()).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::NotFound);
}

#[tokio::test]
async fn a_stack_of_environments_does_not_grow_without_end() {
    let ground = Ground::on(Rung::Overlay);
    let origin = ground.resolve().await;
    let mut over = None;
    let mut deepest = 0;
    for digit in "abcdef".chars() {
        build(&ground, &origin, &id(digit), over.as_ref(), &format!("echo {digit} > f-{digit}; echo {digit} > last"))
            .await;
        over = Some(id(digit));
        let key = AttemptKey { task: TaskId(u64::from(digit)), attempt: AttemptNo(1) };
        let made = ground.prepare_as(key, &origin, over.as_ref()).await;
        deepest = deepest.max(layers(&made.root).lower.len());
        assert_eq!(inside(&made, "cat last; ls | grep -c f-"), format!("{digit}\n{}", u32::from(digit) - 96));
    }
    assert_eq!(deepest, 5);
    // One that others lie over stays.
    for (digit, stays) in [('a', true), ('f', true)] {
        let gone = ground.rooms.remove_environment(origin.repository.clone(), id(digit)).await;
        assert_eq!(gone.is_err(), stays, "{digit}");
    }
}

#[tokio::test]
async fn odd_things_of_an_installation_harm_nobody() {
    let ground = Ground::on(Rung::Overlay);
    write(&ground.repo, "dir/sub/f.txt", "f\n");
    ground.commit("link-to-be", "x\n");
    let origin = ground.resolve().await;
    let script = "rm -r dir && ln -s /etc dir; rm link-to-be && mkdir link-to-be && echo x > link-to-be/y; rm -r src; mkdir src; echo new > \
                  src/new.txt; ln -s /etc/passwd passwd; mkdir -p locked/in && echo z > locked/in/z && chmod 000 locked; rm -rf .git; echo \
                  gitdir: /nowhere > .git; printf x > \"$(printf 'new\\nline')\"; chmod u+s passwd-not 2>/dev/null || true";
    let left_out = build(&ground, &origin, &id('a'), None, script).await;
    assert_eq!(left_out, ["dir", "link-to-be", "src"]);
    let made = ground.prepare_as(KEY, &origin, Some(&id('a'))).await;
    let told = inside(
        &made,
        "cat dir/sub/f.txt link-to-be src/lib.rs src/new.txt; git status --porcelain; git log --format=%s -1",
    );
    assert!(told.starts_with("f\nx\npub fn f() {}\nnew\n") && told.ends_with("link-to-be"), "{told}");
    assert!(!told.contains(" D ") && !told.contains(" M "), "{told}");
    let tree = &layers(&made.root).lower[0];
    let mut found: Vec<_> = fs::read_dir(tree).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    found.sort();
    // Of what was taken away, the base's own is written anew.
    assert_eq!(found, ["dir", "link-to-be", "locked", "new\nline", "passwd", "src"]);
    assert_eq!(fs::symlink_metadata(tree.join("src")).unwrap().mode() & 0o170_000, 0o040_000);
    let unknown = CommitId::parse(&"1".repeat(40)).unwrap();
    let fault = ground.rooms.serves(origin.repository.clone(), id('a'), unknown).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::NotFound);
    assert!(Path::new("/etc/passwd").is_file());
}
