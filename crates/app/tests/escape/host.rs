//! The host's files and processes.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    process::{Command, Stdio},
};

use domain::ports::sandbox::Tree;

use crate::world::{World, holding, printed, write};

/// Looks for the canary everywhere below these directories.
fn search(world: &World, directories: &[&str]) -> String {
    let canary = &world.canary;
    format!("grep -rsh {canary} {} | head -n 3; echo searched", directories.join(" "))
}

#[tokio::test]
async fn the_users_files_are_read() {
    let world = World::new().await;
    let user = world.path("user").display().to_string();
    let (plain, confined) = world.tried(&search(&world, &[&user])).await;
    assert!(plain.contains(&world.canary), "{plain}");
    assert_eq!(confined, "searched\n");
}

#[tokio::test]
async fn keys_are_read_by_their_paths() {
    let world = World::new().await;
    let (user, canary) = (world.path("user").display().to_string(), &world.canary);
    let script = format!(
        "cd {user}; cat .ssh/id_ed25519 .netrc .aws/credentials .config/gh/hosts.yml .git-credentials .gnupg/private.key \
         .cargo/credentials.toml notes.txt 2>/dev/null | grep -o {canary} | wc -l"
    );
    let (plain, confined) = world.tried(&script).await;
    assert_eq!((plain.trim(), confined.lines().last()), ("8", Some("0")), "{confined}");
}

#[tokio::test]
async fn the_whole_file_system_is_searched_for_the_users_files() {
    let world = World::new().await;
    let script = search(
        &world,
        &["/opt", "/home", "/root", "/mnt", "/srv", "/media", "/run", "/var", "/tmp", "/dev/shm", "/proc/1"],
    );
    assert_eq!(world.attempt(1).await.sh(&script).await, "searched\n");
}

#[tokio::test]
async fn the_daemons_environment_is_read() {
    let world = World::new().await;
    let mut bearer = Command::new("sleep");
    let mut bearer = bearer.arg("1000").env("KEY", &world.canary).spawn().unwrap();
    let canary = &world.canary;
    let script = format!("cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c ^KEY={canary}");
    let (plain, confined) = world.tried(&script).await;
    bearer.kill().unwrap();
    bearer.wait().unwrap();
    assert_ne!(plain.trim(), "0");
    assert_eq!(confined.trim(), "0");
}

#[tokio::test]
async fn other_processes_are_listed() {
    let world = World::new().await;
    let host = std::process::id();
    let script = format!("test -e /proc/{host}/cmdline && echo seen; ls /proc | grep -c '^[0-9]'");
    let (plain, confined) = world.tried(&script).await;
    assert!(plain.starts_with("seen"), "{plain}");
    let count: u32 = confined.trim().parse().unwrap();
    assert!(count <= 6, "{confined}");
}

#[tokio::test]
async fn processes_are_entered_through_proc() {
    let world = World::new().await;
    // `plain` cannot be the control here, as its own process 1 is the host's: a process of its own does it.
    let script = "for what in root/etc cwd fd exe maps mem environ; do cat /proc/1/$what 2>&1 | head -c 20; ls /proc/1/$what/ 2>&1; done; \
                  (sleep 5 & ls /proc/$!/cwd/ && echo own)";
    let printed = world.attempt(1).await.sh(script).await;
    assert!(printed.contains("own") && !printed.contains("passwd") && !printed.contains("bin/"), "{printed}");
}

#[tokio::test]
async fn the_state_directory_is_read_and_written() {
    let world = World::new().await;
    let home = world.home().display().to_string();
    write(&world.home().join("probe"), &world.canary);
    let made = world.home().join("made");
    let script = format!("cat {home}/probe; ls {home} | wc -l; touch {home}/made; echo searched");
    let plain = world.plain().await.sh(&script).await;
    assert!(plain.contains(&world.canary) && made.exists(), "{plain}");
    fs::remove_file(&made).unwrap();
    let confined = world.attempt(1).await.sh(&script).await;
    // Below a directory of the sandbox's own, it may make one of the same name.
    assert!(!confined.contains(&world.canary) && confined.contains("searched") && !made.exists(), "{confined}");
}

#[tokio::test]
async fn the_database_and_the_key_are_opened() {
    let world = World::new().await;
    let names: Vec<String> = fs::read_dir(world.home())
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| entry.path().display().to_string())
        .collect();
    assert!(names.len() >= 2, "{names:?}");
    let script =
        format!("for f in {}; do head -c 1 $f > /dev/null 2>&1 && echo opened; done; echo tried", names.join(" "));
    let (plain, confined) = world.tried(&script).await;
    assert!(plain.contains("opened"), "{plain}");
    assert_eq!(confined, "tried\n");
}

#[tokio::test]
async fn the_daemons_socket_is_connected_to() {
    let world = World::new().await;
    let path = world.home().join("socket");
    let _daemon = UnixListener::bind(&path).unwrap();
    let code = format!("import socket; print(socket.socket(socket.AF_UNIX).connect_ex({:?}))", path.to_str().unwrap());
    assert_eq!(world.plain().await.python(&code).await, "0\n");
    assert_ne!(world.attempt(1).await.python(&code).await, "0\n");
}

#[tokio::test]
async fn sockets_of_the_hosts_services_are_connected_to() {
    // As Docker's, an agent's for keys, or a bus: where every sandbox looks, and wherever such are kept.
    let world = World::new().await;
    let code = format!(
        "import glob, socket\n\
         def answers(path):\n try: socket.socket(socket.AF_UNIX).connect(path); return True\n except OSError: return False\n\
         print([p for p in [{:?}] + glob.glob('/run/**', recursive=True) + glob.glob('/etc/*') if answers(p)])",
        world.path("bus").to_str().unwrap()
    );
    assert!(world.plain().await.python(&code).await.contains("bus"));
    assert_eq!(world.attempt(1).await.python(&code).await, "[]\n");
}

#[tokio::test]
async fn the_systems_secrets_are_read() {
    let world = World::new().await;
    let script = "cat /etc/shadow /etc/gshadow /etc/sudoers /etc/ssl/private/* 2>/dev/null | wc -c";
    let (plain, confined) = world.tried(script).await;
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: the control, as only user 0 can read these files");
    } else {
        assert_ne!(plain.trim(), "0");
    }
    assert_eq!(confined.trim(), "0");
}

#[tokio::test]
async fn the_system_is_written() {
    let world = World::new().await;
    let script = "for d in / /usr /usr/bin /etc /etc/cron.d /opt /lib /var /boot /dev /proc /sys /home; do \
                  (echo x > $d/overnight-escape) 2>/dev/null && echo wrote $d; done; \
                  for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/self/oom_score_adj /proc/sys/vm/drop_caches; do \
                  (echo 0 > $f) 2>/dev/null && echo wrote $f; done; (echo x > /workspace/x) && echo tried";
    assert_eq!(world.attempt(1).await.sh(script).await, "tried\n");
}

#[tokio::test]
async fn a_link_in_the_workspace_leads_out() {
    let world = World::new().await;
    let notes = world.path("user/notes.txt");
    let script = format!(
        "ln -s {0} out; cat out; ln -s {1} dir; cat dir/notes.txt; cat ../../../../../../../../../../../..{0}; echo tried",
        notes.display(),
        world.path("user").display()
    );
    let (plain, confined) = world.tried(&script).await;
    assert_eq!(plain.matches(&world.canary).count(), 3, "{plain}");
    assert!(!confined.contains(&world.canary) && confined.contains("tried"), "{confined}");
}

#[tokio::test]
async fn a_link_leads_the_daemons_reader_out() {
    let world = World::new().await;
    let notes = world.path("user/notes.txt");
    let attempt = world.attempt(1).await;
    attempt
        .sh(&format!("ln -s {} out; ln -s {} dir; ln -s ../../../.. up", notes.display(), world.path("user").display()))
        .await;
    let files = attempt.files().await;
    let deep = format!("up{}", notes.display());
    for path in [
        "out",
        "dir/notes.txt",
        &deep,
        &format!("../../../..{}", notes.display()),
        notes.to_str().unwrap(),
        "/proc/self/environ",
    ] {
        let read = files.read(path, 0, 1 << 20);
        assert!(read.is_err(), "{path}: {read:?}");
    }
    assert!(files.read("file.txt", 0, 9).is_ok());
    // Names, as well as contents.
    for path in ["dir", "up/opt", &format!("up{}", world.path("user").display())] {
        let listed = files.list(path).unwrap_or_default();
        assert!(listed.iter().all(|entry| entry.name != "notes.txt"), "{path}: {listed:?}");
    }
}

#[tokio::test]
async fn a_link_leads_the_daemons_writer_out() {
    let world = World::new().await;
    let notes = world.path("user/notes.txt");
    let attempt = world.attempt(1).await;
    attempt.sh(&format!("ln -s {} out; ln -s {} dir", notes.display(), world.path("user").display())).await;
    let files = attempt.files().await;
    for path in ["out", "dir/notes.txt", "dir/new.txt", &format!("../../../..{}", notes.display())] {
        // It may be written where it leads inside, or refused.
        let _ = files.write(path, b"overwritten");
    }
    assert_eq!(fs::read_to_string(&notes).unwrap(), world.canary);
    assert!(!world.path("user/new.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_swapped_while_the_daemon_reads() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    let files = attempt.files().await;
    let swap = format!(
        "import os\nos.makedirs('d')\nopen('d/notes.txt', 'w').write('own')\nprint('swaps', flush=True)\n\
         while not os.path.exists('stop'):\n os.rename('d', 'e'); os.symlink({:?}, 'd'); os.unlink('d'); os.rename('e', 'd')\n\
         print('stopped')",
        world.path("user").to_str().unwrap()
    );
    let mut swapper = attempt.start(&["/usr/bin/python3", "-c", &swap]).await;
    printed(&mut *swapper, "swaps").await;
    let mut seen = 0;
    while seen < 100 {
        match files.read("d/notes.txt", 0, 100) {
            Ok((content, _)) => {
                assert_eq!(&content[..], b"own");
                seen += 1;
            }
            Err(_) => tokio::task::yield_now().await,
        }
    }
    files.write("stop", b"").unwrap();
    printed(&mut *swapper, "stopped").await;
}

#[tokio::test]
async fn descriptors_of_the_daemon_are_inherited() {
    let world = World::new().await;
    let code = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd'))); print([os.readlink(f'/proc/self/fd/{n}') for n in range(3)])";
    let printed = world.attempt(1).await.python(code).await;
    // The fourth is the listing's own.
    assert!(printed.starts_with("[0, 1, 2, 3]\n"), "{printed}");
    assert!(!printed.contains("socket") && !printed.contains("opt/"), "{printed}");
}

#[tokio::test]
async fn disks_are_opened_as_devices() {
    let world = World::new().await;
    let script = "ls /dev | tr '\\n' ' '; for kind in 'b 254 0' 'b 8 0' 'b 259 0' 'c 1 1' 'c 10 229'; do \
                  mknod /workspace/node $kind 2>/dev/null && head -c 1 /workspace/node && echo opened; done; echo tried";
    let printed = world.attempt(1).await.sh(script).await;
    assert!(printed.ends_with("tried\n") && !printed.contains("opened"), "{printed}");
    for name in ["sd", "vd", "nvme", "mem", "kmsg", "fuse", "kvm", "loop", "mapper", "net"] {
        assert!(!printed.contains(name), "{name}: {printed}");
    }
}

#[tokio::test]
async fn a_crash_is_handed_to_a_program_of_the_host() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    // A handler by pipe runs as the host's root where the limit is not exactly 1; no core is left either.
    let script = "python3 -c 'import resource as r; print(r.getrlimit(r.RLIMIT_CORE))'; ulimit -c unlimited; ulimit -c; \
                  sh -c 'kill -SEGV $$'; ls -a | grep -c core";
    let printed = attempt.sh(script).await;
    assert!(printed.starts_with("(1, 1)\n") && printed.ends_with("0\n"), "{printed}");
}

#[tokio::test]
async fn the_caches_of_the_user_are_poisoned() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    let script = "cat ~/.cargo/registry/cached; echo poison > ~/.cargo/registry/cached; echo x > ~/.cargo/registry/more; \
                  cat ~/.cargo/registry/cached; cat ~/.cargo/credentials.toml";
    let printed = attempt.sh(script).await;
    // The attack arrives somewhere: in this sandbox's own copy.
    assert!(printed.starts_with("as downloaded\n") && !printed.contains(&world.canary), "{printed}");
    assert_eq!(fs::read_to_string(world.path("user/.cargo/registry/cached")).unwrap(), "as downloaded\n");
    assert!(!world.path("user/.cargo/registry/more").exists());
    assert_eq!(world.attempt(2).await.sh("cat ~/.cargo/registry/cached").await, "as downloaded\n");
}

#[tokio::test]
async fn home_is_replaced_by_links_before_the_next_sandbox() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    let user = world.path("user").display().to_string();
    // What the next sandbox's mount points would be made in.
    attempt
        .sh(&format!(
            "rm -rf ~/.cargo/* ~/.cargo 2>/dev/null; ln -s {user} ~/.cargo; rm -rf /tmp/*; ln -s {user} /tmp/x; true"
        ))
        .await;
    if let Tree::Layers(layers) = &attempt.place.home {
        let _ = fs::remove_dir_all(layers.upper.join(".cargo"));
        symlink(&user, layers.upper.join(".cargo")).unwrap();
    }
    attempt.sandbox.kill().await;
    let printed = attempt
        .sh(&format!(
            "cat ~/.cargo/../.netrc /tmp/x/.netrc ~/.cargo/.netrc; echo poison > ~/.cargo/registry/cached; {}",
            search(&world, &["~", "/tmp"])
        ))
        .await;
    assert!(printed.ends_with("searched\n") && !printed.contains(&world.canary), "{printed}");
    assert_eq!(fs::read_to_string(world.path("user/.cargo/registry/cached")).unwrap(), "as downloaded\n");
}

#[tokio::test]
async fn the_program_itself_is_rewritten() {
    // A container's escape of 2019: the executable that runs inside is the host's.
    let world = World::new().await;
    let code = "import os, glob\nfor exe in glob.glob('/proc/[0-9]*/exe'):\n try: os.close(os.open(exe, os.O_RDWR)); print('opened', os.readlink(exe))\n except OSError: pass\nprint('tried')";
    assert_eq!(world.attempt(1).await.python(code).await, "tried\n");
}

#[tokio::test]
async fn standard_streams_lead_to_the_daemons_files() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    // Output that does not fit goes to a file of the host: no descriptor leads there, before or after.
    let code = "import os\nkinds = lambda: print([os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in os.listdir('/proc/self/fd') \
                if os.path.lexists(f'/proc/self/fd/{n}')], flush=True)\n";
    let printed = attempt.python(&format!("{code}kinds(); print('fills\\n' * 100000); kinds()")).await;
    let kinds: Vec<&str> = printed.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(kinds, ["['/dev/null', 'pipe', 'pipe']"; 2]);
    assert_eq!(holding(&attempt.place.spill, &["fills".to_owned()]).len(), 1, "the control: it spilled");
    // The control: a descriptor that leads to a file is seen.
    attempt.files().await.write("kinds.py", format!("{code}kinds()").as_bytes()).unwrap();
    assert!(attempt.sh("python3 kinds.py 3< file.txt").await.contains("/file.txt'"));
}

#[test]
fn nobody_else_on_the_machine_reads_the_home() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::new());
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only user 0 can become another");
        return;
    }
    let home = world.home().display().to_string();
    let mut other = Command::new("setpriv");
    other.args(["--reuid=54322", "--regid=54322", "--clear-groups", "ls", &home]).stdout(Stdio::piped());
    assert!(!other.stderr(Stdio::null()).status().unwrap().success());
}
