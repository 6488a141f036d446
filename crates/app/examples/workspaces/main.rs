//! What workspaces and sandboxes cost: `cargo run --release -p overnight --example workspaces -- DIRECTORY`. `cargo xtask bench
//! workspace` runs it and writes what it prints, a sample a line, into the page.
#![expect(clippy::unwrap_used, reason = "a measurement has nobody to report to")]

mod ground;
mod mount;
mod warm;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use domain::ports::{
    sandbox::{Exit, Sandboxes as _},
    workspace::Workspaces as _,
};
use ground::{Ground, Repository, command, run};
use sandbox::{ZYGOTE_ARGUMENT, zygote_main};
use workspace::Rung;

/// Tracked files, and untracked ones in the environment's layer.
const FILES: usize = 50_000;
const FEW: usize = 500;
const PROVISIONS: usize = 40;
const AT_ONCE: usize = 100;
const COMMANDS: usize = 200;
const SNAPSHOTS: usize = 20;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some(ZYGOTE_ARGUMENT) => zygote_main(),
        Some(mount::ARGUMENT) => mount::measure(Path::new(&std::env::args().nth(2).unwrap())),
        Some(directory) => {
            let directory = PathBuf::from(directory);
            tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(measure(&directory));
        }
        None => eprintln!("name an empty directory to work in"),
    }
}

/// One sample, as the page's maker reads it.
pub fn tell(key: &str, value: f64) {
    println!("{key} {value:.4}");
}

pub fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

async fn measure(directory: &Path) {
    let large = Repository::make(&directory.join("large"), FILES);
    let small = Repository::make(&directory.join("small"), FEW);
    let caches = ground::cache_files(&directory.join("caches"), FILES);

    let ground = Ground::open(&directory.join("home"), Rung::Overlay);
    let at = ground.settle(&large, &caches).await;
    let few = ground.settle_bare(&small).await;

    // Before anything is torn down: the kernel takes its time over network namespaces, and new ones wait for it.
    cold(&ground, &few).await;
    worktree(&large, &caches, directory);
    provision("overlay", &ground, &at).await;
    mount::run(directory);
    disk(&ground, &at).await;
    at_once(&ground, &at).await;
    snapshots(&ground, &at, "50000").await;
    snapshots(&ground, &few, "500").await;
    commands(&ground, &few).await;
    status(&ground, &at, &large).await;
    killing(&ground, &at).await;
    warm::measure(&ground, directory).await;
    drop(ground);

    for (rung, name) in [(Rung::Copy, "copy"), (Rung::Reflink, "reflink")] {
        let Some(home) = ground::home_for(rung, directory) else {
            println!("# no file system here for the rung {name}");
            continue;
        };
        let ground = Ground::open(&home, rung);
        let at = ground.settle(&large, &caches).await;
        provision(name, &ground, &at).await;
        drop(ground);
        ground::leave(rung, &home);
    }
}

/// What most systems do.
fn worktree(large: &Repository, caches: &Path, directory: &Path) {
    for nth in 0..2 {
        let to = directory.join(format!("worktree-{nth}"));
        let since = Instant::now();
        large.git(&["worktree", "add", "-q", "--detach", to.to_str().unwrap()]);
        let done = Command::new("cp").arg("-a").arg(caches).arg(to.join("cache")).status().unwrap();
        assert!(done.success());
        tell("worktree_and_copy_ms", milliseconds(since));
        large.git(&["worktree", "remove", "--force", to.to_str().unwrap()]);
    }
}

/// From the request for a workspace until its first command runs.
async fn provision(rung: &str, ground: &Ground, at: &ground::Settled) {
    let rounds = if rung == "overlay" { PROVISIONS } else { 2 };
    for _ in 0..rounds {
        let key = ground.next_key();
        let since = Instant::now();
        let prepared = ground.workspaces.prepare(at.request(key, rung)).await.unwrap();
        let laid = milliseconds(since);
        let sandbox = ground.sandboxes.open(ground.spec(prepared, rung)).await.unwrap();
        let mut process = sandbox.spawn(command(&["true"])).await.unwrap();
        tell(&format!("provision_{rung}_ms"), milliseconds(since));
        tell(&format!("laid_out_{rung}_ms"), laid);
        assert_eq!(process.wait(Duration::from_secs(60)).await, Some(Exit::Code(0)));
        sandbox.kill().await;
        drop(sandbox);
        let since = Instant::now();
        ground.workspaces.release(at.repository.clone(), key, None).await.unwrap();
        tell(&format!("removed_{rung}_ms"), milliseconds(since));
    }
}

async fn disk(ground: &Ground, at: &ground::Settled) {
    let key = ground.next_key();
    let prepared = ground.workspaces.prepare(at.request(key, "overlay")).await.unwrap();
    let place = ground::place_of(&prepared);
    tell("fresh_kib", ground::disk_of(&place, |_| true) / 1024.0);
    let sandbox = ground.sandboxes.open(ground.spec(prepared, "overlay")).await.unwrap();
    run(&*sandbox, &["true"]).await;
    tell("untouched_kib", ground::disk_of(&place, |_| true) / 1024.0);
    run(&*sandbox, &["sh", "-c", &at.edits(20, "once")]).await;
    run(&*sandbox, &["git", "status", "--short"]).await;
    let in_git = |path: &Path| path.iter().any(|part| part == ".git");
    tell("edited_kib", ground::disk_of(&place, |path| !in_git(path)) / 1024.0);
    tell("edited_git_kib", ground::disk_of(&place, in_git) / 1024.0);
    run(&*sandbox, &["sh", "-c", "git add -A && git commit -qm edits"]).await;
    tell("committed_git_kib", ground::disk_of(&place, in_git) / 1024.0);
    sandbox.kill().await;
    drop(sandbox);
    ground.workspaces.release(at.repository.clone(), key, None).await.unwrap();
}

async fn at_once(ground: &Ground, at: &ground::Settled) {
    for _ in 0..3 {
        let since = Instant::now();
        let all = (0..AT_ONCE).map(|_| async {
            let key = ground.next_key();
            let prepared = ground.workspaces.prepare(at.request(key, "overlay")).await.unwrap();
            let place = ground::place_of(&prepared);
            let sandbox = ground.sandboxes.open(ground.spec(prepared, "overlay")).await.unwrap();
            run(&*sandbox, &["true"]).await;
            (key, place, sandbox)
        });
        let all = futures::future::join_all(all).await;
        tell("hundred_s", since.elapsed().as_secs_f64());
        let disk: f64 = all.iter().map(|(_, place, _)| ground::disk_of(place, |_| true)).sum();
        tell("hundred_mib", disk / 1048576.0);
        for (key, _, sandbox) in all {
            sandbox.kill().await;
            drop(sandbox);
            ground.workspaces.release(at.repository.clone(), key, None).await.unwrap();
        }
    }
}

async fn snapshots(ground: &Ground, at: &ground::Settled, size: &str) {
    let key = ground.next_key();
    let prepared = ground.workspaces.prepare(at.request(key, "overlay")).await.unwrap();
    let sandbox = ground.sandboxes.open(ground.spec(prepared, "overlay")).await.unwrap();
    for nth in 0..SNAPSHOTS {
        run(&*sandbox, &["sh", "-c", &at.edits(20, &format!("round {nth}"))]).await;
        let request = at.snapshot(key, nth);
        let since = Instant::now();
        let snapshot = ground.workspaces.snapshot(request).await.unwrap();
        tell(&format!("snapshot_{size}_ms"), milliseconds(since));
        assert_eq!(snapshot.stat.files, 20);
    }
    sandbox.kill().await;
    drop(sandbox);
    ground.workspaces.release(at.repository.clone(), key, None).await.unwrap();
}

/// A command in a sandbox made for it, while those before it live on.
async fn cold(ground: &Ground, at: &ground::Settled) {
    let mut living = Vec::new();
    for _ in 0..PROVISIONS {
        let key = ground.next_key();
        let prepared = ground.workspaces.prepare(at.request(key, "overlay")).await.unwrap();
        let spec = ground.spec(prepared, "overlay");
        let since = Instant::now();
        let sandbox = ground.sandboxes.open(spec).await.unwrap();
        run(&*sandbox, &["true"]).await;
        tell("command_cold_ms", milliseconds(since));
        living.push((key, sandbox));
    }
    for (key, sandbox) in living {
        sandbox.kill().await;
        drop(sandbox);
        ground.workspaces.release(at.repository.clone(), key, None).await.unwrap();
    }
}

/// A command in a sandbox that is warm, one in a sandbox made while another is torn down, and a plain one, in turn.
async fn commands(ground: &Ground, at: &ground::Settled) {
    let key = ground.next_key();
    let prepared = ground.workspaces.prepare(at.request(key, "overlay")).await.unwrap();
    let warm = ground.sandboxes.open(ground.spec(prepared, "overlay")).await.unwrap();
    run(&*warm, &["true"]).await;
    for nth in 0..COMMANDS {
        let since = Instant::now();
        run(&*warm, &["true"]).await;
        tell("command_warm_ms", milliseconds(since));
        let since = Instant::now();
        let plain = tokio::process::Command::new("true").stdin(Stdio::null()).status().await.unwrap();
        assert!(plain.success());
        tell("command_plain_ms", milliseconds(since));
        if nth % 5 == 0 {
            let other = ground.next_key();
            let prepared = ground.workspaces.prepare(at.request(other, "overlay")).await.unwrap();
            let spec = ground.spec(prepared, "overlay");
            let since = Instant::now();
            let cold = ground.sandboxes.open(spec).await.unwrap();
            run(&*cold, &["true"]).await;
            tell("command_cold_beside_ms", milliseconds(since));
            cold.kill().await;
            drop(cold);
            ground.workspaces.release(at.repository.clone(), other, None).await.unwrap();
        }
    }
    warm.kill().await;
    drop(warm);
    ground.workspaces.release(at.repository.clone(), key, None).await.unwrap();
}

/// `git status` inside and in a plain checkout, in turn.
async fn status(ground: &Ground, at: &ground::Settled, large: &Repository) {
    let key = ground.next_key();
    let prepared = ground.workspaces.prepare(at.request(key, "overlay")).await.unwrap();
    let sandbox = ground.sandboxes.open(ground.spec(prepared, "overlay")).await.unwrap();
    let arguments = ["git", "status", "--short"];
    run(&*sandbox, &arguments).await;
    large.git(&arguments[1..]);
    for _ in 0..15 {
        let since = Instant::now();
        run(&*sandbox, &arguments).await;
        tell("status_inside_ms", milliseconds(since));
        let since = Instant::now();
        large.git(&arguments[1..]);
        tell("status_plain_ms", milliseconds(since));
    }
    sandbox.kill().await;
    drop(sandbox);
    ground.workspaces.release(at.repository.clone(), key, None).await.unwrap();
}

/// Fifty daemons that ignore every signal they can.
async fn killing(ground: &Ground, at: &ground::Settled) {
    for nth in 0..10 {
        let key = ground.next_key();
        let prepared = ground.workspaces.prepare(at.request(key, "overlay")).await.unwrap();
        let sandbox = ground.sandboxes.open(ground.spec(prepared, "overlay")).await.unwrap();
        let mark = format!("overnight-bench-{}-{nth}", std::process::id());
        let script = format!(
            "for i in $(seq 50); do setsid sh -c 'trap \"\" TERM INT HUP; echo > up-$0; : {mark}; while :; do sleep 1000; done' $i & \
             done; while [ $(ls up-* 2>/dev/null | wc -l) -lt 50 ]; do :; done; dd if=/dev/zero of=dirty bs=1M count=64 2>/dev/null"
        );
        // Dropped, it would take its daemons with it.
        let mut process = sandbox.spawn(command(&["sh", "-c", &script])).await.unwrap();
        assert_eq!(process.wait(Duration::from_secs(60)).await, Some(Exit::Code(0)));
        assert!(ground::processes_with(&mark) >= 50);
        let since = Instant::now();
        sandbox.kill().await;
        tell("kill_ms", milliseconds(since));
        tell("left_after_kill", ground::processes_with(&mark) as f64);
        drop(sandbox);
        ground.workspaces.release(at.repository.clone(), key, None).await.unwrap();
    }
}
