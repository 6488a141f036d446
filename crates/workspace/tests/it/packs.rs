//! The packs of a private store: many snapshots leave few, and lose nothing.

use std::{fs, path::Path, sync::Arc};

use domain::{
    ids::{AttemptKey, AttemptNo, CommitId, TaskId, TurnNo},
    ports::workspace::{Origin, SnapshotRequest, Workspaces as _},
};
use futures::future::join_all;
use workspace::Rung;

use crate::{
    ground::{Ground, at, git, inside, write},
    layers::layers,
};

const WORKSPACES: u64 = 4;
const TURNS: u32 = 20;

fn key(task: u64) -> AttemptKey {
    AttemptKey { task: TaskId(task), attempt: AttemptNo(1) }
}

fn packs(store: &Path) -> usize {
    let files = fs::read_dir(store.join("objects/pack")).unwrap();
    files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "pack")).count()
}

/// Takes snapshots of a workspace, each of another change.
async fn take_many(ground: &Ground, origin: &Origin, task: u64) -> Vec<CommitId> {
    let made = ground.prepare_as(key(task), origin, None).await;
    let mut taken = Vec::new();
    for turn in 1..=TURNS {
        write(&layers(&made.root).upper, "work.txt", format!("task {task}, turn {turn}\n").repeat(100));
        let request = SnapshotRequest {
            repository: origin.repository.clone(),
            key: key(task),
            turn: TurnNo(turn),
            base: origin.base.clone(),
            message: format!("turn {turn}\n"),
            at: at(),
            redactor: Arc::default(),
        };
        taken.push(ground.rooms.snapshot(request).await.unwrap().commit);
    }
    taken
}

#[tokio::test]
async fn packs_of_many_snapshots_are_rolled_up_beside_whoever_writes_and_reads() {
    let ground = Ground::on(Rung::Overlay);
    let origin = ground.resolve().await;
    let store = ground.store(&origin);
    let base = store.parent().unwrap().join("bases").join(origin.base.as_str()).join("objects/pack");
    let all = (1..=WORKSPACES).map(|task| take_many(&ground, &origin, task));
    let newer = async {
        // New bases share packs with older ones meanwhile.
        for number in 0..8 {
            ground.commit("newer.txt", &format!("{number}\n"));
            let newer = ground.resolve().await;
            let made = ground.prepare_as(key(100 + number), &newer, None).await;
            assert_eq!(inside(&made, "cat newer.txt"), number.to_string());
        }
    };
    let (all, ()) = tokio::join!(join_all(all), newer);
    // Those of the bases stay.
    while packs(&store) > 50 + 9 {
        tokio::task::yield_now().await;
    }
    for (task, taken) in (1..).zip(all) {
        for (turn, commit) in (1..).zip(taken) {
            let text = ground.show(&origin, &commit, "work.txt");
            assert!(text.starts_with(&format!("task {task}, turn {turn}\n")), "{text}");
        }
    }
    git(&store, &["fsck", "--full", "--strict"]);
    // What a base shares with the store is still shared.
    for pack in fs::read_dir(base).unwrap() {
        assert!(store.join("objects/pack").join(pack.unwrap().file_name()).is_file());
    }
    // What a git that was killed left goes at the next start.
    for left in [".tmp-12-pack-x.pack", "tmp_pack_x"] {
        write(&store, &format!("objects/pack/{left}"), "x");
    }
    drop(ground.open(Rung::Overlay));
    let names = fs::read_dir(store.join("objects/pack")).unwrap().map(|file| file.unwrap().file_name());
    assert!(names.into_iter().all(|name| name.to_string_lossy().starts_with("pack-")));
}
