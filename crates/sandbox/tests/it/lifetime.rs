//! Nothing outlives its handle, its sandbox, or the daemon.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use domain::{
    FaultClass,
    ports::sandbox::{Confinement, Exit, Sandboxes as _},
};

use crate::host::{BOTH, LONG, Place, alive, mark, options, printed, run, sandboxes, sh, start};

/// Starts daemons that leave their parent, their session and their group.
fn daemons(mark: &str, count: usize) -> String {
    format!("for n in $(seq {count}); do (setsid sleep {mark} >/dev/null 2>&1 &) ; done; echo started")
}

#[tokio::test]
async fn daemons_do_not_hold_up_the_end_and_live_on() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let mark = mark();
        // This one keeps the output open too.
        let mut process = sandbox.spawn(sh(&format!("sleep {mark} & echo started"))).await.unwrap();
        assert_eq!(process.wait(LONG).await, Some(Exit::Code(0)));
        // It may be about to become `sleep`.
        while alive(&mark) != 1 {
            tokio::task::yield_now().await;
        }
        process.kill().await;
        assert_eq!(alive(&mark), 0);
    }
}

#[tokio::test]
async fn a_kill_takes_fifty_daemons() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let mark = mark();
        let mut process = sandbox.spawn(sh(&daemons(&mark, 50))).await.unwrap();
        process.wait(LONG).await.unwrap();
        // The shells in between have forked them, they may not be `sleep` yet.
        while alive(&mark) < 50 {
            tokio::task::yield_now().await;
        }
        let begun = std::time::Instant::now();
        process.kill().await;
        println!("{confinement:?}: 50 daemons killed in {:?}", begun.elapsed());
        assert_eq!(alive(&mark), 0);
    }
}

#[tokio::test]
async fn dropping_a_process_kills_its_tree() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let mark = mark();
        let process = sandbox.spawn(sh(&format!("{}; sleep {mark}", daemons(&mark, 3)))).await.unwrap();
        printed(&*process, "started").await;
        drop(process);
        while alive(&mark) > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(run(&*sandbox, sh("echo still here")).await.1, "still here\n");
    }
}

#[tokio::test]
async fn killing_a_sandbox_kills_every_command_and_it_can_be_used_again() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let mark = mark();
        let mut one = sandbox.spawn(sh(&format!("echo started; sleep {mark}"))).await.unwrap();
        let two = sandbox.spawn(sh(&daemons(&mark, 3))).await.unwrap();
        printed(&*one, "started").await;
        printed(&*two, "started").await;
        sandbox.kill().await;
        assert_eq!(alive(&mark), 0);
        assert!(was_killed(one.wait(LONG).await));
        assert_eq!(run(&*sandbox, sh("echo again")).await.1, "again\n");
    }
}

#[tokio::test]
async fn dropping_a_sandbox_kills_everything_and_frees_the_lock() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let mark = mark();
        let process = sandbox.spawn(sh(&format!("{}; sleep {mark}", daemons(&mark, 3)))).await.unwrap();
        printed(&*process, "started").await;
        drop(sandbox);
        sandboxes().ensure_dead(place.lock(), LONG).await.unwrap();
        assert_eq!(alive(&mark), 0);
    }
}

#[tokio::test]
async fn a_lock_that_nobody_took_is_free() {
    let place = Place::new();
    sandboxes().ensure_dead(place.lock(), Duration::ZERO).await.unwrap();
    let sandbox = place.open(Confinement::Confined).await;
    run(&*sandbox, sh("true")).await;
    sandbox.kill().await;
    sandboxes().ensure_dead(place.lock(), Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_running_sandbox_is_asked_to_die() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let mark = mark();
        let mut process = sandbox.spawn(sh(&format!("{}; sleep {mark}", daemons(&mark, 3)))).await.unwrap();
        printed(&*process, "started").await;
        sandboxes().ensure_dead(place.lock(), LONG).await.unwrap();
        assert_eq!(alive(&mark), 0);
        assert!(was_killed(process.wait(LONG).await));
        // The handle finds its keeper dead, and makes another.
        assert_eq!(run(&*sandbox, sh("echo again")).await.1, "again\n");
    }
}

#[tokio::test]
async fn a_lock_held_by_a_stranger_is_an_environment_fault() {
    let place = Place::new();
    let stranger = fs::File::create(place.lock()).unwrap();
    stranger.lock_shared().unwrap();
    let fault = sandboxes().ensure_dead(place.lock(), Duration::from_millis(30)).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Environment);
    assert!(fault.hint.is_some());
}

#[tokio::test]
async fn the_daemons_death_is_its_sandboxes_death() {
    for (confinement, name) in BOTH.into_iter().zip(["confined", "unconfined"]) {
        let place = Place::new();
        let mark = mark();
        let script = format!("{}; sleep {mark}", daemons(&mark, 5));
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_sandbox-fixture"))
            .args(["daemon".as_ref(), place.path().as_os_str(), name.as_ref(), script.as_ref()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "started\n", "{confinement:?}");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        sandboxes().ensure_dead(place.lock(), LONG).await.unwrap();
        assert_eq!(alive(&mark), 0, "{confinement:?}");
    }
}

#[tokio::test]
async fn a_dead_zygote_is_replaced_and_takes_nobody_with_it() {
    let (own, zygote) = start(options());
    let (one, two) = (Place::new(), Place::new());
    let first = own.open(one.spec(Confinement::Confined)).await.unwrap();
    let mut process = first.spawn(sh("echo started; until test -e go; do sleep 0.01; done")).await.unwrap();
    printed(&*process, "started").await;
    assert!(Command::new("kill").args(["-9", &zygote.to_string()]).status().unwrap().success());
    let second = own.open(two.spec(Confinement::Confined)).await.unwrap();
    assert_eq!(run(&*second, sh("echo new")).await.1, "new\n");
    fs::write(one.root().join("go"), "").unwrap();
    assert_eq!(process.wait(LONG).await, Some(Exit::Code(0)));
}

/// A shell may have seen its child die by SIGKILL an instant before it did, and say so.
fn was_killed(exit: Option<Exit>) -> bool {
    matches!(exit, Some(Exit::Signal(libc::SIGKILL) | Exit::Code(137)))
}
