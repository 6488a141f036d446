//! What one sandbox may use of the machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use domain::ports::sandbox::{Confinement, Exit, Limits, Sandboxes as _};

use crate::host::{BOTH, LONG, Place, alive, exec, mark, options, printed, run, sandboxes, sh, start, text};

/// Whether the machine has this wall; says so where not.
fn stands(name: &str) -> bool {
    let wall = sandboxes().probe().walls.into_iter().find(|wall| wall.name == name).unwrap();
    if !wall.stands {
        eprintln!("SKIPPED: {name}: {}", wall.note);
    }
    wall.stands
}

/// Takes memory, and touches every page of it.
const BOMB: &str = "held = []\nwhile True: held.append(bytearray(b'x') * (8 << 20))";

#[tokio::test]
async fn a_memory_bomb_ends_and_harms_nobody_else() {
    if !stands("memory") {
        return;
    }
    for confinement in BOTH {
        let (place, other) = (Place::new(), Place::new());
        let mut spec = place.spec(confinement);
        spec.limits = Limits { memory_bytes: Some(256 << 20), ..spec.limits };
        let sandbox = sandboxes().open(spec).await.unwrap();
        let neighbour = other.open(confinement).await;
        let mut witness = neighbour.spawn(sh("until test -e go; do sleep 0.01; done; echo unharmed")).await.unwrap();
        let (exit, printed) = run(&*sandbox, exec(&["/usr/bin/env", "python3", "-c", BOMB])).await;
        assert_eq!(exit, Exit::Signal(libc::SIGKILL), "{confinement:?} {printed}");
        let told = "\n[a process was killed: all that runs in the sandbox may use 0.2 GiB of memory together]\n";
        assert!(printed.ends_with(told), "{confinement:?} {printed}");
        // The sandbox itself goes on too.
        assert_eq!(run(&*sandbox, sh("echo again; exit 1")).await.1, "again\n");
        fs::write(other.root().join("go"), "").unwrap();
        assert_eq!(witness.wait(LONG).await, Some(Exit::Code(0)));
        assert_eq!(text(&witness.output()), "unharmed\n");
    }
}

#[tokio::test]
async fn many_processes_share_one_limit_of_memory() {
    if !stands("memory") {
        return;
    }
    let place = Place::new();
    let mut spec = place.spec(Confinement::Confined);
    spec.limits = Limits { memory_bytes: Some(256 << 20), ..spec.limits };
    let sandbox = sandboxes().open(spec).await.unwrap();
    // 40 MiB each.
    let script = "for n in 1 2 3 4 5 6 7 8 9 10; do python3 -c 'import time; x = bytearray(b\"x\") * (40 << 20); \
                  time.sleep(1); print(1)' & done; wait; echo done";
    let (exit, printed) = run(&*sandbox, sh(script)).await;
    assert_eq!((exit, printed.lines().last()), (Exit::Code(0), Some("done")), "{printed}");
    assert!(printed.matches('1').count() < 10, "{printed}");
}

#[tokio::test]
async fn processor_time_is_bounded() {
    if !stands("processor time") {
        return;
    }
    let (own, zygote) = start(options());
    for confinement in BOTH {
        let place = Place::new();
        let mut spec = place.spec(confinement);
        spec.limits.processor_percent = Some(20);
        let sandbox = own.open(spec).await.unwrap();
        // More processor time than it gets at a stretch, in four processes.
        let script =
            "for n in 1 2 3 4; do timeout 10 sh -c 'n=0; while test $n -lt 200000; do n=$((n+1)); done' & done; wait";
        assert_eq!(run(&*sandbox, sh(script)).await.0, Exit::Code(0));
        let stats: Vec<String> = groups(zygote)
            .into_iter()
            .flat_map(|group| fs::read_dir(group).unwrap().flatten())
            .filter_map(|entry| fs::read_to_string(entry.path().join("cpu.stat")).ok())
            .collect();
        let throttled = |stat: &String| {
            stat.lines().any(|line| line.strip_prefix("nr_throttled ").is_some_and(|number| number != "0"))
        };
        assert!(stats.iter().any(throttled), "{confinement:?} {stats:?}");
        sandbox.kill().await;
    }
}

#[tokio::test]
async fn a_machine_without_memory_ends_commands_first() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        assert_eq!(run(&*sandbox, sh("cat /proc/self/oom_score_adj")).await.1, "500\n");
        let (_, printed) = run(&*sandbox, sh("echo 0 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj")).await;
        assert!(confinement == Confinement::Unconfined || printed.ends_with("500\n"), "{printed}");
    }
}

#[tokio::test]
async fn who_uses_up_descriptors_harms_nobody_else() {
    for confinement in BOTH {
        let (place, other) = (Place::new(), Place::new());
        let mut spec = place.spec(confinement);
        spec.limits.open_files = Some(100);
        let sandbox = sandboxes().open(spec).await.unwrap();
        let code = "import os, signal\nheld = []\ntry:\n while True: held.append(os.open('/dev/null', 0))\n\
                    except OSError as error: print(error, flush=True)\nsignal.pause()";
        let mut hog = sandbox.spawn(exec(&["/usr/bin/env", "python3", "-c", code])).await.unwrap();
        printed(&*hog, "Too many open files").await;
        assert_eq!(run(&*sandbox, sh("cat < /dev/null; echo again")).await.1, "again\n");
        let neighbour = other.open(confinement).await;
        assert_eq!(run(&*neighbour, sh("echo unharmed")).await.1, "unharmed\n");
        hog.kill().await;
    }
}

#[tokio::test]
async fn files_in_memory_are_bounded_too() {
    let place = Place::new();
    let mut spec = place.spec(Confinement::Confined);
    spec.limits = Limits { memory_bytes: Some(64 << 20), ..spec.limits };
    let sandbox = sandboxes().open(spec).await.unwrap();
    for directory in ["/dev/shm", "/run"] {
        let script = format!("head -c 64M /dev/zero > {directory}/full");
        let (exit, printed) = run(&*sandbox, sh(&script)).await;
        assert_ne!(exit, Exit::Code(0), "{printed}");
        assert!(printed.contains("No space left"), "{exit:?} {printed}");
    }
    assert_eq!(run(&*sandbox, sh("echo again")).await.1, "again\n");
}

#[tokio::test]
async fn plain_processes_are_counted_too() {
    let probe = sandboxes().probe();
    if !probe.walls.iter().any(|wall| wall.name == "process count" && wall.note.contains("control group")) {
        eprintln!("SKIPPED: this machine cannot count the processes of a control group: {probe:?}");
        return;
    }
    for confinement in BOTH {
        let place = Place::new();
        let mut spec = place.spec(confinement);
        spec.limits.processes = Some(64);
        let sandbox = sandboxes().open(spec).await.unwrap();
        let mark = mark();
        let process = sandbox.spawn(sh(&format!("for n in $(seq 500); do sleep {mark} & done; wait"))).await.unwrap();
        printed(&*process, "fork").await;
        let count = alive(&mark);
        assert!((40..=64).contains(&count), "{confinement:?} {count}");
    }
}

/// The groups of this machine that this zygote made, in every hierarchy.
fn groups(zygote: u32) -> Vec<PathBuf> {
    let prefix = format!("overnight-sandboxes-{zygote}-");
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                found.push(entry.path());
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
    found
}

fn below(group: &Path) -> usize {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count()
}

#[tokio::test]
async fn no_group_outlives_its_sandbox_or_its_zygote() {
    if !stands("memory") {
        return;
    }
    let (own, zygote) = start(options());
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = own.open(place.spec(confinement)).await.unwrap();
        run(&*sandbox, sh("true")).await;
        // One is the next keeper's.
        while groups(zygote).iter().any(|group| below(group) < 2) {
            tokio::task::yield_now().await;
        }
        sandbox.kill().await;
        while groups(zygote).iter().any(|group| below(group) > 1) {
            tokio::task::yield_now().await;
        }
    }
    drop(own);
    while !groups(zygote).is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_a_killed_zygote_left_is_swept() {
    if !stands("memory") {
        return;
    }
    let (own, zygote) = start(options());
    let place = Place::new();
    let sandbox = own.open(place.spec(Confinement::Confined)).await.unwrap();
    run(&*sandbox, sh("true")).await;
    assert!(std::process::Command::new("kill").args(["-9", &zygote.to_string()]).status().unwrap().success());
    // Its keeper lives on, and so does its group; nobody may sweep it now.
    let (second, _) = start(options());
    let other = Place::new();
    run(&*second.open(other.spec(Confinement::Confined)).await.unwrap(), sh("true")).await;
    assert!(groups(zygote).iter().any(|group| below(group) > 0));
    assert_eq!(run(&*sandbox, sh("echo still here")).await.1, "still here\n");
    sandbox.kill().await;
    drop((sandbox, own));
    let (third, _) = start(options());
    run(&*third.open(other.spec(Confinement::Confined)).await.unwrap(), sh("true")).await;
    assert_eq!(groups(zygote), Vec::<PathBuf>::new());
}
