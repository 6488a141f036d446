//! How much a sandbox may write.

use std::{fs, sync::Arc};

use domain::ports::sandbox::{Confinement, Exit, Layers, Limits, Sandbox, SandboxSpec, Sandboxes as _, Tree};

use crate::host::{BOTH, LONG, Place, alive, mark, printed, run, sandboxes, sh};

const MIB: u64 = 1 << 20;
const QUOTA: u64 = 16 * MIB;

fn spec(place: &Place, confinement: Confinement) -> SandboxSpec {
    let spec = place.spec(confinement);
    SandboxSpec { limits: Limits { disk_bytes: Some(QUOTA), file_bytes: None, ..spec.limits }, ..spec }
}

async fn open(place: &Place, confinement: Confinement) -> Arc<dyn Sandbox> {
    sandboxes().open(spec(place, confinement)).await.unwrap()
}

/// Runs something that does not end by itself, until it is ended for what the sandbox holds. What that was.
async fn is_ended(sandbox: &dyn Sandbox, script: &str) -> u64 {
    let mark = mark();
    let (exit, printed) = run(sandbox, sh(&format!("{script}; setsid sleep {mark} & sleep {mark}"))).await;
    let Exit::OverQuota { held, quota } = exit else { panic!("{script}: {exit:?} {printed}") };
    assert_eq!((quota, alive(&mark)), (QUOTA, 0), "{script}");
    // It may have been in the middle of writing.
    assert!(held > QUOTA, "{script} {held}");
    held
}

#[tokio::test]
async fn who_fills_the_disk_is_ended_and_may_clear_up() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = open(&place, confinement).await;
        let held = is_ended(&*sandbox, "dd if=/dev/zero of=big bs=1M count=48 2>&1").await;
        assert!(held < 64 * MIB, "{confinement:?} {held}");
        // Beyond the quota commands run, as long as they write nothing that matters.
        for _ in 0..3 {
            assert_eq!(run(&*sandbox, sh("test -s big && echo x > small && cat small")).await.1, "x\n");
        }
        assert!(is_ended(&*sandbox, "dd if=/dev/zero of=more bs=1M count=8 2>&1").await > held);
        assert_eq!(run(&*sandbox, sh("rm big more; echo gone")).await, (Exit::Code(0), "gone\n".to_owned()));
        // What was given up can be used again, up to the quota.
        let held = is_ended(&*sandbox, "head -c 12M /dev/zero > once; head -c 12M /dev/zero > twice").await;
        assert!(held < 32 * MIB, "{confinement:?} {held}");
    }
}

#[tokio::test]
async fn every_writable_side_counts() {
    let place = Place::new();
    let sandbox = open(&place, Confinement::Confined).await;
    let held = is_ended(&*sandbox, "for place in . ~ /tmp; do head -c 7M /dev/zero > $place/part; done").await;
    assert!(held < 32 * MIB, "{held}");
}

#[tokio::test]
async fn of_layers_only_the_upper_one_counts() {
    if !sandboxes().probe().layers {
        eprintln!("SKIPPED: this machine cannot give a sandbox layers: {:?}", sandboxes().probe());
        return;
    }
    let place = Place::new();
    for name in ["lower", "upper", "work"] {
        fs::create_dir(place.path().join(name)).unwrap();
    }
    fs::write(place.path().join("lower/base"), vec![7; 40 << 20]).unwrap();
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| place.path().join(name));
    let root = Tree::Layers(Layers { lower: vec![lower], upper, work });
    let sandbox = sandboxes().open(SandboxSpec { root, ..spec(&place, Confinement::Confined) }).await.unwrap();
    let held = is_ended(&*sandbox, "head -c 20M base > own").await;
    assert!(held < 30 * MIB, "{held}");
    run(&*sandbox, sh("rm own")).await;
    // To change a file of a layer is to copy all of it.
    let held = is_ended(&*sandbox, "echo x >> base").await;
    assert!(held < 50 * MIB, "{held}");
}

#[tokio::test]
async fn many_empty_files_are_too_much_too() {
    let place = Place::new();
    let told = rustix::fs::statvfs(place.path()).unwrap();
    if told.f_files == 0 {
        eprintln!("SKIPPED: the file system of {} has no limit of files", place.path().display());
        return;
    }
    let sandbox = open(&place, Confinement::Confined).await;
    let each = told.f_blocks * told.f_frsize / told.f_files;
    let script = format!("mkdir d; cd d; seq {} | xargs touch", 2 * QUOTA / each);
    is_ended(&*sandbox, &script).await;
    assert_eq!(run(&*sandbox, sh("rm -r d; echo gone")).await, (Exit::Code(0), "gone\n".to_owned()));
}

#[tokio::test]
async fn holes_are_no_blocks() {
    let place = Place::new();
    let sandbox = open(&place, Confinement::Confined).await;
    let script = "truncate -s 1T sparse && stat -c %s sparse && head -c 20M /dev/zero > full";
    let held = is_ended(&*sandbox, script).await;
    assert!(held < 30 * MIB, "{held}");
}

#[tokio::test]
async fn files_without_a_name_are_found() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = open(&place, confinement).await;
        let held = is_ended(&*sandbox, "exec 3>nameless; rm nameless; head -c 40M /dev/zero >&3; exec 4>&3").await;
        assert!(held < 50 * MIB, "{confinement:?} {held}");
        // They went with those who held them.
        let held = is_ended(&*sandbox, "head -c 20M /dev/zero > named").await;
        assert!(held < 30 * MIB, "{confinement:?} {held}");
    }
}

#[tokio::test]
async fn a_daemon_that_was_left_behind_is_ended_too() {
    let place = Place::new();
    let sandbox = open(&place, Confinement::Confined).await;
    let mark = mark();
    let script = format!("(head -c 40M /dev/zero > big; exec sleep {mark}) > log 2>&1 & echo started");
    let mut process = sandbox.spawn(sh(&script)).await.unwrap();
    assert_eq!(process.wait(LONG).await, Some(Exit::Code(0)));
    while !place.root().join("big").exists() || !sandbox.running().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!((process.wait(LONG).await, alive(&mark)), (Some(Exit::Code(0)), 0));
}

#[tokio::test]
async fn all_that_run_are_ended_and_neighbours_are_not() {
    let (place, other) = (Place::new(), Place::new());
    let (sandbox, neighbour) = (open(&place, Confinement::Confined).await, open(&other, Confinement::Confined).await);
    let mark = mark();
    let mut service = sandbox.spawn(sh(&format!("echo up; sleep {mark}"))).await.unwrap();
    let mut witness =
        neighbour.spawn(sh("echo up; until test -e go; do sleep 0.01; done; echo unharmed")).await.unwrap();
    printed(&*service, "up").await;
    printed(&*witness, "up").await;
    is_ended(&*sandbox, "head -c 40M /dev/zero > big").await;
    assert!(matches!(service.wait(LONG).await, Some(Exit::OverQuota { .. })));
    assert_eq!(alive(&mark), 0);
    fs::write(other.root().join("go"), "").unwrap();
    assert_eq!(witness.wait(LONG).await, Some(Exit::Code(0)));
}
