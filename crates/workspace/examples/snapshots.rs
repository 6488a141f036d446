//! What a snapshot of a change of 20 files costs in a small and in a large repository: `cargo run --release -p workspace --example
//! snapshots -- DIRECTORY`.
//!
//! Writes into the upper directories as an overlay would. Prints medians; judges nothing.
#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use std::{fs, path::Path, process::Command, sync::Arc, time::Instant};

use domain::{
    ids::{AttemptKey, AttemptNo, TaskId, TurnNo},
    ports::{
        sandbox::{Confinement, Tree},
        workspace::{PrepareRequest, ResolveRequest, SnapshotRequest, Surroundings, Workspaces as _},
    },
};
use workspace::{Options, Rung, Workspaces};

const ROUNDS: u32 = 21;

#[tokio::main]
async fn main() {
    let directory = std::env::args().nth(1).unwrap();
    for files in [500, 50_000] {
        measure(&Path::new(&directory).join(files.to_string()), files).await;
    }
}

fn path(number: usize) -> String {
    format!("d{}/e{}/f{number}.txt", number / 1000, number / 10 % 100)
}

async fn measure(directory: &Path, files: usize) {
    let (repo, home) = (directory.join("repository"), directory.join("home"));
    if !repo.exists() {
        for number in 0..files {
            let path = repo.join(path(number));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("file {number}\n").repeat(40)).unwrap();
        }
        let script =
            "git init -q && git add . && git -c user.name=x -c user.email=x commit -qm first && git repack -adq";
        assert!(Command::new("sh").current_dir(&repo).args(["-c", script]).status().unwrap().success());
    }
    if home.exists() {
        fs::remove_dir_all(&home).unwrap();
    }
    let rooms = Workspaces::open(Options { home, rung: Rung::Overlay, layers_bytes: None }).unwrap();
    let origin = rooms.resolve(ResolveRequest { directory: repo, ..ResolveRequest::default() }).await.unwrap();
    let key = AttemptKey { task: TaskId(1), attempt: AttemptNo(1) };
    let surroundings = Surroundings { environment: None, confinement: Confinement::Confined };
    let request =
        PrepareRequest { repository: origin.repository.clone(), key, commit: origin.base.clone(), surroundings };
    let Tree::Layers(layers) = rooms.prepare(request).await.unwrap().root else { panic!("no layers") };
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        for change in 0..20 {
            let path = layers.upper.join(path(change * files / 20));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("changed {round} {change}\n").repeat(40)).unwrap();
        }
        let request = SnapshotRequest {
            repository: origin.repository.clone(),
            key,
            turn: TurnNo(round),
            base: origin.base.clone(),
            message: "m".to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
            redactor: Arc::default(),
        };
        let start = Instant::now();
        let taken = rooms.snapshot(request).await.unwrap();
        times.push(start.elapsed());
        assert_eq!(taken.stat.files, 20);
    }
    times.sort();
    let middle = times.len() / 2;
    println!("{files} files: {:?} median, {:?} least, {:?} most", times[middle], times[0], times[times.len() - 1]);
}
