//! What the calls on the way of a task cost on a small repository. Printed, never judged: `cargo test -p workspace timing
//! -- --nocapture`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    ids::{AttemptKey, AttemptNo, TaskId, TurnNo},
    ports::workspace::{CheckoutRequest, SnapshotRequest, Workspaces as _},
};

use crate::ground::{Ground, Plain, at, surroundings, write};

#[tokio::test]
async fn timing() {
    let ground = Ground::new();
    for number in 0..40 {
        write(&ground.repo, &format!("src/m{number}.rs"), "pub fn f() {}\n".repeat(50));
    }
    ground.commit("more", "x\n");
    let mut times: Vec<(&str, Vec<Duration>)> =
        ["resolve", "prepare", "snapshot", "snapshot, nothing new", "checkout", "release"]
            .map(|name| (name, Vec::new()))
            .into();
    let first = Instant::now();
    let origin = ground.resolve().await;
    println!("resolve, new base: {:?}", first.elapsed());
    for number in 1..=15 {
        let key = AttemptKey { task: TaskId(number), attempt: AttemptNo(1) };
        let mut timer = Instant::now();
        let mut column = 0;
        let mut lap = |times: &mut Vec<(&str, Vec<Duration>)>| {
            times[column].1.push(timer.elapsed());
            column += 1;
            timer = Instant::now();
        };
        ground.resolve().await;
        lap(&mut times);
        let prepared = Plain::new(ground.prepare_as(key, &origin, None).await);
        lap(&mut times);
        write(&prepared.root, "src/m1.rs", format!("changed {number}\n"));
        write(&prepared.root, "new.rs", "new\n");
        let request = |turn| SnapshotRequest {
            repository: origin.repository.clone(),
            key,
            turn: TurnNo(turn),
            base: origin.base.clone(),
            message: "m".to_owned(),
            at: at(),
            redactor: Arc::default(),
        };
        let snapshot = ground.rooms.snapshot(request(1)).await.unwrap();
        lap(&mut times);
        ground.rooms.snapshot(request(2)).await.unwrap();
        lap(&mut times);
        ground
            .rooms
            .checkout(CheckoutRequest {
                repository: origin.repository.clone(),
                commit: snapshot.commit.clone(),
                protect: None,
                name: format!("c-{number}"),
                surroundings: surroundings(None),
            })
            .await
            .unwrap();
        lap(&mut times);
        ground.rooms.release(origin.repository.clone(), key, Some(snapshot.commit)).await.unwrap();
        lap(&mut times);
        ground.rooms.discard_checkout(format!("c-{number}")).await;
    }
    for (name, mut times) in times {
        times.sort();
        println!("{name}: {:?} median of {}", times[times.len() / 2], times.len());
    }
}
