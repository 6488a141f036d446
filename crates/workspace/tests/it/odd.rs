//! Repositories that are not the plain case: submodules, shallow clones, attributes, another hash, many files.

use std::fs;

use domain::ports::workspace::{Landing, Workspaces as _};

use crate::ground::{Ground, KEY, git, write};

#[tokio::test]
async fn submodules_are_left_empty_noted_and_kept() {
    let ground = Ground::new();
    let library = Ground::new();
    git(&ground.repo, &["submodule", "--quiet", "add", library.repo.to_str().unwrap(), "lib"]);
    ground.commit("b.txt", "b\n");
    let origin = ground.resolve().await;
    assert!(origin.notes[0].contains("Submodules") && origin.notes[0].contains("lib"), "{:?}", origin.notes);
    let prepared = ground.prepare(&origin).await;
    assert_eq!(fs::read_dir(prepared.root.join("lib")).unwrap().count(), 0);
    assert!(ground.snapshot(&origin, 1).await.empty);
    write(&prepared.root, "a.txt", "changed\n");
    let head = ground.snapshot(&origin, 2).await.commit;
    assert_eq!(git(&ground.store(&origin), &["ls-tree", head.as_str(), "lib"]).split(' ').next(), Some("160000"));
    let landing = ground.land(&ground.landing(&origin, &head)).await;
    assert!(matches!(landing, Landing::Landed { .. }), "{landing:?}");
    assert_eq!(git(&ground.repo, &["status", "--porcelain"]), "");
    // Files put where the submodule would be are work: they are kept in its stead.
    write(&prepared.root, "lib/mine.txt", "mine\n");
    let snapshot = ground.snapshot(&origin, 3).await;
    assert_eq!(ground.show(&origin, &snapshot.commit, "lib/mine.txt"), "mine");
    ground.rooms.release(origin.repository.clone(), KEY, Some(snapshot.commit)).await.unwrap();
}

#[tokio::test]
async fn a_shallow_clone_works_and_is_noted() {
    let mut ground = Ground::new();
    for number in 0..5 {
        ground.commit("b.txt", &format!("{number}\n"));
    }
    let shallow = ground.dir.path().join("shallow");
    let url = format!("file://{}", ground.repo.display());
    git(ground.dir.path(), &["clone", "-q", "--depth=2", &url, shallow.to_str().unwrap()]);
    ground.repo = shallow;
    let origin = ground.resolve().await;
    assert!(origin.notes[0].contains("shallow"), "{:?}", origin.notes);
    let prepared = ground.prepare(&origin).await;
    assert_eq!(git(&prepared.root, &["log", "--format=%s"]).lines().count(), 2);
    git(&prepared.root, &["fsck", "--full"]);
    write(&prepared.root, "a.txt", "changed\n");
    let head = ground.snapshot(&origin, 1).await.commit;
    let landing = ground.land(&ground.landing(&origin, &head)).await;
    assert!(matches!(landing, Landing::Landed { .. }), "{landing:?}");
    git(&ground.repo, &["fsck", "--full"]);
    // Deepened later, it is another cut: the next base has the whole history.
    git(&ground.repo, &["fetch", "-q", "--unshallow"]);
    let origin = ground.resolve().await;
    assert_eq!(origin.notes, Vec::<String>::new());
    let key = domain::ids::AttemptKey { task: domain::ids::TaskId(13), ..KEY };
    let prepared = crate::ground::Plain::new(ground.prepare_as(key, &origin, None).await);
    assert_eq!(git(&prepared.root, &["log", "--format=%s"]).lines().count(), 7);
}

#[tokio::test]
async fn line_endings_follow_the_attributes_both_ways() {
    let ground = Ground::new();
    write(&ground.repo, ".gitattributes", "*.txt text\n*.bat text eol=crlf\n");
    write(&ground.repo, "run.bat", "echo one\necho two\n");
    ground.commit("b.txt", "b\n");
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    assert_eq!(fs::read_to_string(prepared.root.join("run.bat")).unwrap(), "echo one\r\necho two\r\n");
    assert!(ground.snapshot(&origin, 1).await.empty);
    write(&prepared.root, "new.bat", "echo\r\n");
    write(&prepared.root, "a.txt", "one\r\ntwo\r\nthree\r\n");
    let snapshot = ground.snapshot(&origin, 2).await;
    assert_eq!(ground.show(&origin, &snapshot.commit, "new.bat"), "echo");
    assert_eq!(snapshot.stat.files, 1, "a.txt is the same but for its line endings");
    let landing = ground.land(&ground.landing(&origin, &snapshot.commit)).await;
    assert!(matches!(landing, Landing::Landed { .. }), "{landing:?}");
    assert_eq!(fs::read_to_string(ground.repo.join("new.bat")).unwrap(), "echo\r\n");
}

#[tokio::test]
async fn an_lfs_pointer_is_handed_over_as_it_is() {
    let ground = Ground::new();
    write(&ground.repo, ".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    write(&ground.repo, "big.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n");
    ground.commit("b.txt", "b\n");
    let origin = ground.resolve().await;
    assert!(origin.notes[0].contains("lfs"), "{:?}", origin.notes);
    let prepared = ground.prepare(&origin).await;
    assert!(fs::read_to_string(prepared.root.join("big.bin")).unwrap().starts_with("version"));
    assert!(ground.snapshot(&origin, 1).await.empty);
}

#[tokio::test]
async fn a_repository_with_sha256_names_works() {
    let mut ground = Ground::new();
    let repo = ground.dir.path().join("sha256");
    fs::create_dir(&repo).unwrap();
    git(&repo, &["init", "-q", "-b", "main", "--object-format=sha256"]);
    git(&repo, &["config", "user.name", "Ada"]);
    git(&repo, &["config", "user.email", "ada@example.org"]);
    ground.repo = repo;
    ground.commit("a.txt", "a\n");
    let origin = ground.resolve().await;
    assert_eq!(origin.base.as_str().len(), 64);
    let head = ground.change(&origin, |root| write(root, "a.txt", "changed\n")).await;
    let landing = ground.land(&ground.landing(&origin, &head)).await;
    assert!(matches!(landing, Landing::Landed { .. }), "{landing:?}");
    assert_eq!(git(&ground.repo, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn paths_with_odd_characters_hold_a_home_and_a_repository() {
    let mut ground = Ground::new();
    let odd = ground.dir.path().join("a:b \"c\"");
    fs::create_dir(&odd).unwrap();
    fs::rename(&ground.repo, odd.join("user")).unwrap();
    ground.repo = odd.join("user");
    let options = workspace::Options { home: odd.join("home"), rung: workspace::Rung::Copy, layers_bytes: None };
    ground.rooms = workspace::Workspaces::open(options).unwrap();
    let origin = ground.resolve().await;
    let prepared = ground.prepare(&origin).await;
    assert_eq!(git(&prepared.root, &["status", "--porcelain"]), "");
    write(&prepared.root, "a.txt", "changed\n");
    let head = ground.snapshot(&origin, 1).await.commit;
    let landing = ground.land(&ground.landing(&origin, &head)).await;
    assert!(matches!(landing, Landing::Landed { .. }), "{landing:?}");
}

#[tokio::test]
async fn a_sparse_checkout_is_left_alone() {
    let ground = Ground::new();
    git(&ground.repo, &["sparse-checkout", "set", "src"]);
    let origin = ground.resolve().await;
    let head = ground.change(&origin, |root| write(root, "a.txt", "changed\n")).await;
    let landing = ground.land(&ground.landing(&origin, &head)).await;
    assert!(matches!(&landing, Landing::LeftOnBranch { why, .. } if why.contains("sparse")), "{landing:?}");
}

#[tokio::test]
async fn bases_in_one_history_share_packs_and_others_do_not() {
    let ground = Ground::new();
    let first = ground.resolve().await;
    ground.commit("b.txt", "b\n");
    let second = ground.resolve().await;
    git(&ground.repo, &["checkout", "-q", "--orphan", "alone"]);
    ground.commit("c.txt", "c\n");
    let alone = ground.resolve().await;
    let packs = |base: &str| {
        let directory = ground.store(&first).parent().unwrap().join("bases").join(base).join("objects/pack");
        let packs = fs::read_dir(directory)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "pack"));
        packs.count()
    };
    assert_eq!([packs(first.base.as_str()), packs(second.base.as_str()), packs(alone.base.as_str())], [1, 2, 1]);
}
