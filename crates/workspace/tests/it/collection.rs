//! Layers within their bound: what goes, what stays, what is made again.

use std::{
    fs::{self, File, FileTimes},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use domain::{
    ids::{AttemptKey, AttemptNo, TaskId},
    ports::workspace::{Origin, Workspaces as _},
};
use workspace::{Options, Rung, Workspaces};

use crate::{
    ground::{Ground, inside, write},
    layers::layers,
};

fn key(task: u64) -> AttemptKey {
    AttemptKey { task: TaskId(task), attempt: AttemptNo(1) }
}

fn open(ground: &Ground, bytes: u64) -> Arc<Workspaces> {
    Workspaces::open(Options { home: ground.home(), rung: Rung::Overlay, layers_bytes: Some(bytes) }).unwrap()
}

fn layer(ground: &Ground, origin: &Origin) -> std::path::PathBuf {
    ground.store(origin).parent().unwrap().join("layers/base").join(origin.base.as_str())
}

fn use_long_ago(layer: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    let about = File::options().write(true).open(layer.join("about.json")).unwrap();
    about.set_times(FileTimes::new().set_modified(long_ago)).unwrap();
}

/// Lets the background finish what it does now.
async fn wait_until(fact: impl Fn() -> bool) {
    while !fact() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn layers_go_when_nobody_uses_them_and_come_again_when_somebody_does() {
    let ground = Ground::on(Rung::Overlay);
    let mut origins = Vec::new();
    for number in 0..3 {
        // Each so different from the last that none is laid over another.
        for file in 0..8 {
            write(&ground.repo, &format!("{file}.txt"), format!("{number}\n").repeat(5000));
        }
        ground.commit("last", &format!("{number}\n"));
        let origin = ground.resolve().await;
        let made = ground.prepare_as(key(number), &origin, None).await;
        assert_eq!(layers(&made.root).lower.len(), 1);
        wait_until(|| layer(&ground, &origin).join("durable").exists()).await;
        use_long_ago(&layer(&ground, &origin));
        origins.push(origin);
    }
    let held = ground.rooms.disk_use().await.unwrap();
    assert_eq!((held.layers, held.workspaces), (3, 3));
    assert!(held.layer_bytes > 300_000 && held.layer_bytes <= held.budget_bytes, "{held:?}");

    ground.rooms.release(origins[1].repository.clone(), key(1), None).await.unwrap();
    let rooms = open(&ground, 1);
    wait_until(|| !layer(&ground, &origins[1]).exists()).await;
    // Those that workspaces lie over are there, though beyond the bound.
    let held = rooms.disk_use().await.unwrap();
    assert_eq!((held.layers, held.budget_bytes), (2, 1));
    let ground = Ground { rooms, ..ground };
    let made = ground.prepare_as(key(1), &origins[1], None).await;
    assert_eq!(inside(&made, "git status --porcelain; cat last"), "1");
}

#[tokio::test]
async fn a_base_that_is_worked_on_again_goes_last() {
    let ground = Ground::on(Rung::Overlay);
    let mut origins = Vec::new();
    for number in 0..2 {
        for file in 0..8 {
            write(&ground.repo, &format!("{file}.txt"), format!("{number}\n").repeat(5000));
        }
        ground.commit("last", &format!("{number}\n"));
        let origin = ground.resolve().await;
        ground.prepare_as(key(number), &origin, None).await;
        wait_until(|| layer(&ground, &origin).join("durable").exists()).await;
        use_long_ago(&layer(&ground, &origin));
        origins.push(origin);
    }
    ground.prepare_as(key(2), &origins[0], None).await;
    for (number, origin) in [(0, &origins[0]), (1, &origins[1]), (2, &origins[0])] {
        ground.rooms.release(origin.repository.clone(), key(number), None).await.unwrap();
    }
    let _rooms = open(&ground, 1);
    wait_until(|| !layer(&ground, &origins[1]).exists()).await;
    assert!(layer(&ground, &origins[0]).exists());
}

#[tokio::test]
async fn a_layer_that_may_be_damaged_is_made_again_under_its_workspaces() {
    let ground = Ground::on(Rung::Overlay);
    write(&ground.repo, "gone.txt", "x\n");
    for file in 0..20 {
        write(&ground.repo, &format!("{file}.txt"), "x\n");
    }
    ground.commit("last", "1\n");
    let first = ground.resolve().await;
    ground.prepare_as(key(1), &first, None).await;
    fs::remove_file(ground.repo.join("gone.txt")).unwrap();
    ground.commit("last", "2\n");
    let second = ground.resolve().await;
    let made = ground.prepare_as(key(2), &second, None).await;
    inside(&made, "echo work > work.txt");
    assert_eq!(layers(&made.root).lower.len(), 2);
    wait_until(|| layer(&ground, &second).join("durable").exists()).await;
    // As a machine leaves it that went down before the files were on disk.
    let lost = layer(&ground, &second);
    let about = fs::read_to_string(lost.join("about.json")).unwrap();
    fs::write(lost.join("about.json"), about.replace("\"boot\":\"", "\"boot\":\"before ")).unwrap();
    fs::write(lost.join("tree/last"), "").unwrap();
    fs::remove_file(lost.join("durable")).unwrap();
    fs::remove_dir_all(layer(&ground, &first)).unwrap();
    let ground = Ground { rooms: ground.open(Rung::Overlay), ..ground };
    assert!(!lost.exists());
    let made = ground.prepare_as(key(2), &second, None).await;
    assert_eq!(
        inside(&made, "git status --porcelain; cat last work.txt; ls gone.txt 2>/dev/null || true"),
        "?? work.txt\n2\nwork"
    );
    assert_eq!(layers(&made.root).lower.len(), 1);
}

#[tokio::test]
async fn nothing_is_kept_for_long_of_a_repository_that_is_gone() {
    let ground = Ground::on(Rung::Overlay);
    let origin = ground.resolve().await;
    ground.prepare_as(key(1), &origin, None).await;
    wait_until(|| layer(&ground, &origin).join("durable").exists()).await;
    use_long_ago(&layer(&ground, &origin));
    fs::rename(&ground.repo, ground.dir.path().join("elsewhere")).unwrap();
    let rooms = ground.open(Rung::Overlay);
    assert_eq!(rooms.disk_use().await.unwrap().layers, 1, "a workspace lies over it");
    rooms.release(origin.repository.clone(), key(1), None).await.unwrap();
    let store = ground.store(&origin).parent().unwrap().to_owned();
    let rooms = ground.open(Rung::Overlay);
    wait_until(|| !layer(&ground, &origin).exists()).await;
    assert!(store.exists(), "it may come back");
    let long_ago = SystemTime::now() - Duration::from_secs(31 * 24 * 3600);
    let named = File::options().write(true).open(store.join("path")).unwrap();
    named.set_times(FileTimes::new().set_modified(long_ago)).unwrap();
    drop(rooms);
    let rooms = ground.open(Rung::Overlay);
    wait_until(|| !store.exists()).await;
    assert_eq!(rooms.disk_use().await.unwrap().layers, 0);
}
