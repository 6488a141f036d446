//! Workspaces over layers: the same as plain ones to whoever works in them.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use domain::{
    FaultClass,
    ids::{AttemptKey, AttemptNo, TaskId},
    ports::{
        sandbox::{Confinement, Layers, Tree},
        workspace::{CheckoutRequest, PrepareRequest, Prepared, Surroundings, Workspaces as _},
    },
};
use workspace::Rung;

use crate::ground::{Ground, KEY, Plain, git, inside, sh, surroundings, write};

pub fn layers(tree: &Tree) -> &Layers {
    match tree {
        Tree::Layers(layers) => layers,
        Tree::Directory(path) => panic!("{} has no layers", path.display()),
    }
}

/// What a tree holds, with kinds, modes and contents, but for `.git`.
pub const LISTING: &str = "find . -path ./.git -prune -o -printf '%P %y %m %l\\n' | sort; find . -path ./.git -prune -o -type f -print0 \
                       | sort -z | xargs -0 cat";

fn disk(path: &Path) -> u64 {
    let out = std::process::Command::new("du").args(["-s", "-B1"]).arg(path).output().unwrap();
    String::from_utf8_lossy(&out.stdout).split_whitespace().next().unwrap().parse().unwrap()
}

pub fn place(prepared: &Prepared) -> &Path {
    prepared.lock.parent().unwrap()
}

#[tokio::test]
async fn a_layered_workspace_is_what_a_plain_one_is() {
    let ground = Ground::on(Rung::Overlay);
    ground.commit("b.txt", "more\n");
    let origin = ground.resolve().await;
    let made = ground.prepare_as(KEY, &origin, None).await;
    assert!(disk(place(&made)) <= 64 << 10, "{}", disk(place(&made)));
    let told = inside(
        &made,
        "git status --porcelain; git branch --show-current; git log --format=%s; git config user.name; git fsck --full",
    );
    assert_eq!(told, "overnight/T-12\nb.txt\nfirst\nOvernight");
    assert!(disk(place(&made)) <= 64 << 10, "{}", disk(place(&made)));
    assert_eq!(inside(&made, "cat a.txt; test -x run.sh; test ! -e .git/index.lock"), "one\ntwo\nthree");
    let told = inside(
        &made,
        "echo x > new; echo changed > a.txt; git rm -q b.txt; git add -A; git commit -q -m mine; git status --porcelain; git show \
         --stat --format=%s; git diff --stat HEAD~1 -- new; git branch other; git checkout -q other; git checkout -q -",
    );
    assert!(told.starts_with("mine") && told.contains("3 files changed"), "{told}");
    // The work is kept when it is asked for again.
    let again = ground.prepare_as(KEY, &origin, None).await;
    assert_eq!(again.root, made.root);
    assert_eq!(inside(&again, "cat a.txt new; git log --format=%s -1"), "changed\nx\nmine");
    let plain = Surroundings { environment: None, confinement: Confinement::Unconfined };
    let request = PrepareRequest {
        repository: origin.repository.clone(),
        key: KEY,
        commit: origin.base.clone(),
        surroundings: plain.clone(),
    };
    assert_eq!(ground.rooms.prepare(request.clone()).await.unwrap_err().class, FaultClass::Conflict);
    let key = AttemptKey { task: TaskId(13), attempt: AttemptNo(1) };
    let unconfined = Plain::new(ground.rooms.prepare(PrepareRequest { key, ..request }).await.unwrap());
    assert_eq!(git(&unconfined.root, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn the_index_is_not_copied_into_a_workspace() {
    let ground = Ground::on(Rung::Overlay);
    for number in 0..3000 {
        write(&ground.repo, &format!("d{}/a-file-with-a-long-name-{number}.txt", number % 100), format!("{number}\n"));
    }
    ground.commit("last", "x\n");
    let origin = ground.resolve().await;
    ground.prepare_as(AttemptKey { task: TaskId(13), attempt: AttemptNo(1) }, &origin, None).await;
    // What is as young as its layer, git looks at closer, and notes so.
    let layer = ground.store(&origin).parent().unwrap().join("layers/base").join(origin.base.as_str());
    let settles = fs::metadata(layer.join("tree/.git/index")).unwrap().modified().unwrap();
    while SystemTime::now() < settles + Duration::from_millis(50) {
        tokio::task::yield_now().await;
    }
    let made = ground.prepare_as(KEY, &origin, None).await;
    let script = "git status --porcelain; for n in $(seq 20); do echo changed > d1/a-file-with-a-long-name-${n}01.txt; done; git add -A; \
                  git commit -q -m x; git status --porcelain; echo more >> d2/a-file-with-a-long-name-102.txt; git stash -q; git stash \
                  pop -q; git reset -q --hard; git status --porcelain; du -sb .git/index | cut -f1";
    let told = inside(&made, script);
    assert!(told.parse::<u64>().is_ok_and(|bytes| bytes < 20_000), "{told}");
    let written = layers(&made.root).upper.join(".git");
    assert!(
        !fs::read_dir(written)
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with("sharedindex") })
    );
}

#[tokio::test]
async fn a_layer_over_a_near_one_holds_what_differs() {
    let ground = Ground::on(Rung::Overlay);
    for number in 0..200 {
        write(&ground.repo, &format!("d{}/{number}.txt", number % 20), format!("{number}\n"));
    }
    write(&ground.repo, "gone/deep/er/x.txt", "x\n");
    write(&ground.repo, "kind", "a file\n");
    write(&ground.repo, "folder/one", "1\n");
    ground.commit("last", "x\n");
    let first = ground.resolve().await;
    let made = ground.prepare_as(KEY, &first, None).await;
    assert_eq!(layers(&made.root).lower.len(), 1);
    let mut deepest = 0;
    for round in 1..=9 {
        write(&ground.repo, &format!("d{round}/{round}.txt"), format!("round {round}\n"));
        match round {
            1 => fs::remove_dir_all(ground.repo.join("gone")).unwrap(),
            2 => {
                fs::remove_file(ground.repo.join("kind")).unwrap();
                fs::remove_dir_all(ground.repo.join("folder")).unwrap();
                write(&ground.repo, "kind/now/a/directory", "x\n");
                std::os::unix::fs::symlink("kind", ground.repo.join("folder")).unwrap();
            }
            3 => write(&ground.repo, "gone/again.txt", "back\n"),
            4 => git(&ground.repo, &["rm", "-q", "-r", "kind"]).truncate(0),
            _ => {}
        }
        ground.commit("last", &format!("{round}\n"));
        let origin = ground.resolve().await;
        let key = AttemptKey { task: TaskId(round), attempt: AttemptNo(2) };
        let made = ground.prepare_as(key, &origin, None).await;
        let over = layers(&made.root).lower.len();
        deepest = deepest.max(over);
        if over > 1 {
            assert!(disk(&layers(&made.root).lower[0]) < 400 << 10);
        }
        let told =
            inside(&made, &format!("git status --porcelain; git rev-parse HEAD; git log --oneline | wc -l; {LISTING}"));
        let rest = told.strip_prefix(&format!("{}\n{}\n", origin.base, round + 2)).unwrap_or_else(|| panic!("{told}"));
        let plain = sh(&ground.repo, LISTING);
        assert_same(&without_modes(rest), &without_modes(&plain));
    }
    assert_eq!(deepest, 8);
}

pub fn assert_same(one: &str, other: &str) {
    let differs = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    assert_eq!((differs, one.lines().count()), (None, other.lines().count()));
}

/// A user's own files may be readable by others.
fn without_modes(listing: &str) -> String {
    listing.replace(" 755 ", " 700 ").replace(" 775 ", " 700 ").replace(" 644 ", " 600 ").replace(" 664 ", " 600 ")
}

#[tokio::test]
async fn a_checkout_over_layers_is_the_commit_itself() {
    let ground = Ground::on(Rung::Overlay);
    write(&ground.repo, "tests/a.rs", "base\n");
    ground.commit("b.txt", "b\n");
    let origin = ground.resolve().await;
    let head = ground
        .change(&origin, |root| {
            write(root, "a.txt", "changed\n");
            write(root, "tests/a.rs", "weakened\n");
            fs::remove_file(root.join("b.txt")).unwrap();
            write(root, "new/x.txt", "new\n");
        })
        .await;
    for (globs, test) in [(vec![], "weakened"), (vec!["tests/**".to_owned()], "base")] {
        let request = CheckoutRequest {
            repository: origin.repository.clone(),
            commit: head.clone(),
            protect: Some((origin.base.clone(), globs)),
            name: "c".to_owned(),
            surroundings: surroundings(None),
        };
        let made = ground.rooms.checkout(request).await.unwrap();
        let told = inside(
            &made,
            "git status --porcelain; cat a.txt new/x.txt tests/a.rs; ls; git fsck --full; git show --stat HEAD",
        );
        assert!(told.starts_with(&format!("changed\nnew\n{test}\na.txt\nnew\nrun.sh\nsrc\ntests\ncommit")), "{told}");
        ground.rooms.discard_checkout("c".to_owned()).await;
        assert!(!place(&made).exists());
    }
}
