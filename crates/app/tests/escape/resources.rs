//! What one sandbox may use up. Of each: it is bounded, it is told, its sandbox goes on, and so does everybody else.
//!
//! The controls are the bounds themselves: each script goes on until something stops it, and says so if nothing has.

use std::{fs, path::Path};

use domain::ports::sandbox::Exit;

use crate::world::{Attempt, World, printed, text};

const SMALL: &str = "[environment]\n[environment.resources]\nmemory = '256MB'\nprocesses = 64\ndisk = '32MB'\n";

/// Runs an attack while a neighbour works. Returns how it ended and what it printed.
async fn beside_a_neighbour(world: &World, script: &str) -> (Exit, String) {
    let (attempt, other) = (world.attempt(1).await, world.attempt(2).await);
    let witness = "echo up; until test -e go; do sleep 0.01; done; echo x > made && cat made && echo unharmed";
    let mut neighbour = other.start(&["sh", "-c", witness]).await;
    printed(&mut *neighbour, "up").await;
    let (exit, told) = attempt.run(&["sh", "-c", script]).await;
    goes_on(&attempt).await;
    other.files().await.write("go", b"").unwrap();
    printed(&mut *neighbour, "unharmed").await;
    (exit, told)
}

/// Whether a sandbox still does what it is told, once what it ran is gone.
async fn goes_on(attempt: &Attempt<'_>) {
    attempt.sandbox.kill().await;
    assert_eq!(attempt.sh("echo again").await, "again\n");
}

#[tokio::test]
async fn processes_without_end() {
    let world = World::defined(SMALL).await;
    if !world.stands("process count") {
        return;
    }
    let code = "import os\nn = 0\ntry:\n while True:\n  if os.fork() == 0: os.execv('/bin/sleep', ['sleep', '100'])\n  n += 1\nexcept OSError: print('stopped at', n)";
    let (exit, told) = beside_a_neighbour(&world, &format!("python3 -c \"{code}\"")).await;
    let count: u32 = told
        .trim()
        .rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{exit:?} {told}"));
    assert!(count <= 64, "{told}");
    // The classic one, which never says anything.
    let attempt = world.attempt(1).await;
    let mut bomb = attempt.start(&["bash", "-c", "f() { f | f & }; f; sleep 2; echo over"]).await;
    let _ = bomb.wait(crate::world::LONG).await;
    bomb.kill().await;
    goes_on(&attempt).await;
}

#[tokio::test]
async fn memory_without_end() {
    let world = World::defined(SMALL).await;
    if !world.stands("memory") {
        return;
    }
    let (exit, told) = beside_a_neighbour(
        &world,
        "exec python3 -c \"held = []\nwhile True: held.append(bytearray(b'x') * (8 << 20))\"",
    )
    .await;
    assert!(exit == Exit::Signal(9) && told.contains("memory"), "{exit:?} {told}");
}

#[tokio::test]
async fn memory_as_files() {
    let world = World::defined(SMALL).await;
    if !world.stands("memory") {
        return;
    }
    let (_, told) =
        beside_a_neighbour(&world, "for d in /dev/shm /run; do head -c 1G /dev/zero > $d/full; done; echo over").await;
    assert!(told.matches("No space left").count() == 2 || told.contains("memory"), "{told}");
}

#[tokio::test]
async fn a_disk_is_filled() {
    let world = World::defined(SMALL).await;
    for place in ["/workspace", "~", "/tmp"] {
        let (exit, told) =
            beside_a_neighbour(&world, &format!("head -c 200M /dev/zero > {place}/full; sleep 50; echo over")).await;
        assert!(matches!(exit, Exit::OverQuota { .. }), "{place}: {exit:?} {told}");
        world.attempt(1).await.sh(&format!("rm -f {place}/full")).await;
    }
}

#[tokio::test]
async fn a_disk_is_filled_by_files_without_names() {
    let world = World::defined(SMALL).await;
    let (exit, told) =
        beside_a_neighbour(&world, "exec 3> held; rm held; head -c 200M /dev/zero >&3; sleep 50; echo over").await;
    assert!(matches!(exit, Exit::OverQuota { .. }), "{exit:?} {told}");
}

#[tokio::test]
async fn a_disk_is_filled_by_output() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    let mut flood = attempt.start(&["sh", "-c", "yes | head -c 200M; echo; echo over"]).await;
    printed(&mut *flood, "over").await;
    let output = flood.output();
    assert!(output.total > 200_000_000);
    let kept: u64 = files_of(&attempt.place.spill).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(kept <= 64 << 20, "{kept}");
    assert!(text(&output).len() <= 64 << 10);
}

fn files_of(directory: &Path) -> Vec<std::path::PathBuf> {
    crate::world::files_below(directory)
}

#[tokio::test]
async fn inodes_are_used_up() {
    let world = World::defined(SMALL).await;
    let code = "import os\nos.chdir('/tmp')\nfor n in range(10000000): os.close(os.open(str(n), os.O_CREAT))";
    let (exit, told) = beside_a_neighbour(&world, &format!("python3 -c \"{code}\"; echo over")).await;
    assert!(matches!(exit, Exit::OverQuota { .. }), "{exit:?} {told}");
}

#[tokio::test]
async fn descriptors_are_used_up() {
    let world = World::new().await;
    let code =
        "import os\nn = 0\ntry:\n while True: os.dup(1); n += 1\nexcept OSError as error: print(error.strerror, n)";
    let (_, told) = beside_a_neighbour(&world, &format!("python3 -c \"{code}\"")).await;
    let count: u32 = told.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(told.starts_with("Too many open files") && count <= 65_536, "{told}");
}

#[tokio::test]
async fn descriptors_of_the_daemon_are_used_up() {
    // Every connection to the proxy is one of the daemon's; and of those it takes a bounded number.
    let world = World::new().await;
    let code = "import socket, time\nheld = []\ntry:\n for n in range(5000): s = socket.socket(); s.setblocking(False); s.connect_ex(('127.0.0.1', 19128)); held.append(s)\n\
                except OSError as error: print(error)\nprint('held', flush=True); time.sleep(50)";
    let attempt = world.attempt(1).await;
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    let mut holder = attempt.start(&["/usr/bin/python3", "-c", code]).await;
    printed(&mut *holder, "held").await;
    assert_eq!(world.attempt(2).await.sh("echo unharmed").await, "unharmed\n");
    let after = fs::read_dir("/proc/self/fd").unwrap().count();
    // Other tests of this process open some, too.
    assert!(after < before + 1500, "{before} {after}");
}

#[tokio::test]
async fn terminals_are_used_up() {
    let world = World::new().await;
    let code =
        "import os\nn = 0\ntry:\n while True: os.openpty(); n += 1\nexcept OSError as error: print('stopped at', n)";
    let (_, told) = beside_a_neighbour(&world, &format!("python3 -c \"{code}\"")).await;
    let count: u32 = told.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(count <= 256, "{told}");
}

#[tokio::test]
async fn every_signal_is_ignored() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    let code = "import signal, time\nfor n in range(1, 65):\n try: signal.signal(n, signal.SIG_IGN)\n except (OSError, ValueError): pass\nprint('deaf', flush=True)\nwhile True: time.sleep(1)";
    let mut deaf = attempt.start(&["/usr/bin/python3", "-c", code]).await;
    printed(&mut *deaf, "deaf").await;
    deaf.kill().await;
    assert!(attempt.sandbox.running().is_empty());
    let mut deaf = attempt.start(&["/usr/bin/python3", "-c", code]).await;
    printed(&mut *deaf, "deaf").await;
    attempt.sandbox.kill().await;
    assert_eq!(deaf.wait(crate::world::LONG).await, Some(Exit::Signal(9)));
}

#[tokio::test]
async fn zombies_and_orphans_are_left() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    let script = "for n in $(seq 300); do (sleep 0.01 &) ; done; python3 -c 'import os\nfor n in range(200):\n if os.fork() == 0: os._exit(0)\nprint(\"left\")'";
    assert!(attempt.sh(script).await.ends_with("left\n"));
    goes_on(&attempt).await;
}

#[tokio::test]
async fn a_command_never_ends() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    let exec = domain::ports::sandbox::Exec {
        argv: ["sh", "-c", "trap '' TERM INT; (setsid sleep 1000 &); while :; do :; done"].map(str::to_owned).to_vec(),
        cwd: None,
        env: Vec::new(),
        stdin: bytes::Bytes::new(),
        timeout: std::time::Duration::from_millis(200),
    };
    let mut process = attempt.sandbox.spawn(exec).await.unwrap();
    assert_eq!(process.wait(crate::world::LONG).await, Some(Exit::TimedOut));
    drop(process);
    goes_on(&attempt).await;
}

#[tokio::test]
async fn output_is_never_read_nor_ended() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    // A daemon keeps the pipe open: who waits for the command does not wait for it.
    let (exit, told) = attempt.run(&["sh", "-c", "(setsid sleep 1000 &) ; echo told"]).await;
    assert_eq!((exit, told.as_str()), (Exit::Code(0), "told\n"));
    goes_on(&attempt).await;
}

#[tokio::test]
async fn the_bounds_are_lifted_from_inside() {
    let world = World::defined(SMALL).await;
    let script = "ulimit -n unlimited; ulimit -f unlimited; ulimit -u unlimited; echo $$ > /sys/fs/cgroup/cgroup.procs; \
                  find / -xdev -name memory.max -o -xdev -name pids.max 2>/dev/null | head; \
                  python3 -c 'import resource as r\nfor what in [r.RLIMIT_NOFILE, r.RLIMIT_FSIZE]:\n try: r.setrlimit(what, (-1, -1)); print(\"lifted\")\n except (ValueError, OSError): pass'; echo tried";
    let told = world.attempt(1).await.sh(script).await;
    assert!(told.ends_with("tried\n") && !told.contains("lifted") && !told.contains(".max"), "{told}");
}
