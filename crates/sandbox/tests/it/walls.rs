//! Ways out that must be closed.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
};

use domain::{
    FaultClass,
    ports::sandbox::{Confinement, Exit, Sandbox, Sandboxes as _},
};
use sandbox::Options;

use crate::host::{Place, exec, options, run, sandboxes, sh, start};

async fn confined() -> (Place, std::sync::Arc<dyn Sandbox>) {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    (place, sandbox)
}

#[tokio::test]
async fn the_probe_says_that_this_machine_can() {
    let probe = sandboxes().probe();
    assert!(probe.confined, "{probe:#?}");
    for name in ["files", "processes", "network", "privileges"] {
        assert!(probe.walls.iter().any(|wall| wall.name == name && wall.stands), "{name}: {probe:#?}");
    }
    let layers = probe.walls.iter().find(|wall| wall.name == "layers").unwrap();
    assert_eq!(layers.stands, probe.layers, "{layers:?}");
    assert!(probe.walls.iter().all(|wall| !wall.note.is_empty()), "{probe:#?}");
}

#[tokio::test]
async fn the_home_and_the_state_and_the_socket_are_not_there() {
    // Below a system directory that is shown, where the test may make one: that tries the veils and not only absence.
    let builder = || tempfile::Builder::new().prefix("overnight-host-").to_owned();
    let host = builder().tempdir_in("/opt").or_else(|_| builder().tempdir()).unwrap();
    let home = host.path().join("home");
    for directory in [".ssh", ".cargo/bin", ".config", ".local/share/overnight/stores/base"] {
        fs::create_dir_all(home.join(directory)).unwrap();
    }
    let canary = "canary-4711";
    for file in [".ssh/id", ".cargo/credentials.toml", ".config/token", ".local/share/overnight/state.db", ".netrc"] {
        fs::write(home.join(file), canary).unwrap();
    }
    fs::write(home.join(".cargo/bin/tool"), "#!/bin/sh\necho tool runs\n").unwrap();
    fs::set_permissions(home.join(".cargo/bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(home.join(".local/share/overnight/stores/base/object"), "object").unwrap();
    let state = home.join(".local/share/overnight");
    let _daemon = UnixListener::bind(state.join("socket")).unwrap();
    let options = Options {
        home: Some(home.clone()),
        cargo_home: None,
        rustup_home: None,
        path: home.join(".cargo/bin").into(),
        ..options()
    };
    let (own, _) = start(options);

    let place = Place::new();
    let mut spec = place.spec(Confinement::Confined);
    spec.hidden = vec![state.clone(), state.join("socket"), place.root().join("secret")];
    spec.readable = vec![state.join("stores/base")];
    fs::write(place.root().join("secret"), canary).unwrap();
    let sandbox = own.open(spec).await.unwrap();
    let script = format!(
        "cat {0}/.ssh/id {0}/.cargo/credentials.toml {0}/.config/token {0}/.netrc {1}/state.db secret; \
         grep -rs {canary} {0} /workspace /opt /etc /home /root; find {1}; touch {0}/new {1}/stores/new; \
         test -S {1}/socket && echo socket seen; cat {1}/stores/base/object; tool; echo x > {1}/stores/base/new",
        home.display(),
        state.display()
    );
    let (_, printed) = run(&*sandbox, sh(&script)).await;
    assert!(!printed.contains(canary), "{printed}");
    assert!(!printed.contains("socket seen") && !printed.contains("state.db\n"), "{printed}");
    assert!(printed.contains("object\n") || printed.contains("objecttool runs\n"), "{printed}");
    assert!(printed.contains("tool runs"), "{printed}");
    assert!(!state.join("stores/base/new").exists() && !home.join("new").exists());
}

#[tokio::test]
async fn the_test_runners_own_home_and_siblings_are_not_there() {
    let (place, sandbox) = confined().await;
    let home = std::env::var("HOME").unwrap();
    let script = format!("ls -a {home}; ls {}; ls -a /var /run /mnt /srv /boot /sys", place.path().display());
    let (_, printed) = run(&*sandbox, sh(&script)).await;
    for name in [".ssh", ".config", ".gitconfig", ".npmrc", ".bashrc", "lock\n", "spill"] {
        assert!(!printed.contains(name), "{name} in {printed}");
    }
}

#[tokio::test]
async fn the_systems_secrets_are_masked() {
    let (_place, sandbox) = confined().await;
    let script = "cat /etc/shadow /etc/gshadow /etc/ssl/private/* /proc/1/environ 2>/dev/null | wc -c; cat /etc/passwd | head -n 1";
    let (_, printed) = run(&*sandbox, sh(script)).await;
    assert!(printed.starts_with("0\n"), "{printed}");
    assert!(printed.contains("root:"), "{printed}");
}

#[tokio::test]
async fn only_its_own_processes_are_seen() {
    let (_place, sandbox) = confined().await;
    let host = std::process::id();
    let (_, printed) = run(&*sandbox, sh("echo /proc/[0-9]*")).await;
    // The init, the shell; pathname expansion is the shell's own.
    assert_eq!(printed.trim(), "/proc/1 /proc/2");
    let script = format!("kill -0 {host}; echo $?; kill -9 -1; echo alive");
    let (exit, printed) = run(&*sandbox, sh(&script)).await;
    assert!(printed.starts_with("sh: ") || printed.contains('1'), "{printed}");
    // `kill -1` takes every process but the caller and the init.
    assert_eq!((exit, printed.ends_with("alive\n")), (Exit::Code(0), true), "{printed}");
}

#[tokio::test]
async fn the_init_can_be_neither_killed_nor_traced() {
    let (_place, sandbox) = confined().await;
    let script = "kill -9 1; kill -TERM 1; cat /proc/1/fd/3; ls /proc/1/root/ /proc/1/cwd/; cat /proc/1/mem /proc/1/maps; echo alive";
    let (exit, printed) = run(&*sandbox, sh(script)).await;
    assert_eq!(exit, Exit::Code(0), "{printed}");
    assert_eq!(printed.matches("Permission denied").count(), 5, "{printed}");
    assert_eq!(python(&*sandbox, "import ctypes; print(ctypes.CDLL(None).ptrace(16, 1, 0, 0))").await, "-1");
}

/// What a line of Python prints; it can make any system call.
pub async fn python(sandbox: &dyn Sandbox, code: &str) -> String {
    let (exit, printed) = run(sandbox, exec(&["/usr/bin/env", "python3", "-c", code])).await;
    assert_eq!(exit, Exit::Code(0), "{printed}");
    printed.trim().to_owned()
}

#[tokio::test]
async fn a_secret_that_is_replaced_stays_masked() {
    let Ok(host) = tempfile::Builder::new().prefix("overnight-host-").tempdir_in("/opt") else {
        eprintln!("SKIPPED: this user cannot write to /opt");
        return;
    };
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (file, directory) = (host.path().join("key"), host.path().join("keys"));
    let secret = |path: &Path| {
        fs::write(path, "canary-4712").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let secrets = |path: &Path| {
        fs::create_dir(path).unwrap();
        secret(&path.join("key"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    };
    secret(&file);
    secrets(&directory);
    let (sandboxes, _) = start(options());
    let place = Place::new();
    let sandbox = sandboxes.open(place.spec(Confinement::Confined)).await.unwrap();
    let look = format!("cat {0}/key {0}/keys/key; ls {0}", host.path().display());
    for _ in 0..2 {
        let (_, printed) = run(&*sandbox, sh(&look)).await;
        assert!(!printed.contains("canary-4712") && printed.ends_with("key\nkeys\n"), "{printed}");
        // As programs replace files; the kernel takes veils away with the names that they are on.
        secret(&host.path().join("new"));
        fs::rename(host.path().join("new"), &file).unwrap();
        fs::rename(&directory, place.path().join("old")).unwrap();
        secrets(&directory);
        fs::remove_dir_all(place.path().join("old")).unwrap();
    }
}

#[tokio::test]
async fn nothing_of_the_system_can_be_written() {
    let (_place, sandbox) = confined().await;
    for path in
        ["/usr/x", "/etc/x", "/opt/x", "/x", "/bin/x", "/dev/x", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"]
    {
        let (exit, printed) = run(&*sandbox, sh(&format!("echo x > {path}"))).await;
        assert_ne!(exit, Exit::Code(0), "{path}: {printed}");
        assert!(!Path::new("/usr/x").exists());
    }
    for path in ["/tmp/x", "/var/tmp/x", "/dev/shm/x", "/run/x", "/home/agent/x", "/workspace/x", "/dev/null"] {
        let (exit, printed) = run(&*sandbox, sh(&format!("echo x > {path}"))).await;
        assert_eq!(exit, Exit::Code(0), "{path}: {printed}");
    }
}

#[tokio::test]
async fn no_power_is_held_or_gained() {
    let (_place, sandbox) = confined().await;
    let (_, printed) = run(&*sandbox, sh("grep -E '^(Cap|NoNewPrivs)' /proc/self/status")).await;
    for line in printed.lines() {
        let (name, value) = line.split_once(":\t").unwrap();
        let expected = if name == "NoNewPrivs" { "1" } else { "0000000000000000" };
        assert_eq!(value, expected, "{name}");
    }
    for script in [
        "mount -t tmpfs tmpfs /tmp",
        "umount /proc",
        "umount /etc/shadow",
        "mount -o remount,rw /usr",
        "unshare -r true",
        "unshare -Urm mount -t tmpfs tmpfs /tmp",
        "unshare -m true",
        "chroot / true",
        "mknod /workspace/disk b 254 0",
        "hostname other",
        "chown 1:1 /workspace",
        "nsenter -t 1 -m true",
    ] {
        let (exit, printed) = run(&*sandbox, sh(script)).await;
        assert_ne!(exit, Exit::Code(0), "{script}: {printed}");
    }
}

/// Nodes that belong to the daemon's user, which a sandbox's user is too.
#[tokio::test]
async fn devices_are_used_and_not_changed() {
    let (_place, sandbox) = confined().await;
    let before = fs::metadata("/dev/null").unwrap();
    let script = "chmod 600 /dev/null; touch -d 2001-01-01 /dev/zero; mv /dev/null /dev/x; rm /dev/full; ln -f /dev/zero /dev/null; \
                  head -c 1 /dev/zero > /dev/null && head -c 1 /dev/urandom > /dev/null && echo used";
    let (_, printed) = run(&*sandbox, sh(script)).await;
    assert!(printed.ends_with("used\n"), "{printed}");
    let after = fs::metadata("/dev/null").unwrap();
    assert_eq!((before.permissions(), before.modified().unwrap()), (after.permissions(), after.modified().unwrap()));
}

/// The host's program for crashes gets none of these, and programs that want no core go on.
#[tokio::test]
async fn crashes_are_nobodys_business() {
    let (place, sandbox) = confined().await;
    let script = "ulimit -c 0; python3 -c 'import resource as r; r.setrlimit(r.RLIMIT_CORE, (0, 0)); print(r.getrlimit(r.RLIMIT_CORE))'; \
                  sh -c 'kill -SEGV $$'; ls /workspace";
    let (_, printed) = run(&*sandbox, sh(script)).await;
    assert!(printed.starts_with("(1, 1)\n"), "{printed}");
    assert_eq!(fs::read_dir(place.root()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_kernels_tables_of_the_host_are_empty() {
    let (_place, sandbox) = confined().await;
    let tables = "keys kpagecgroup kpagecount kpageflags pagetypeinfo slabinfo timer_list vmallocinfo kcore kmsg";
    let script = format!(
        "for t in {tables}; do head -c 100 /proc/$t 2>/dev/null; done | wc -c; cut -d: -f3 /proc/self/cgroup | sort -u; hostname"
    );
    let (_, printed) = run(&*sandbox, sh(&script)).await;
    assert_eq!(printed, "0\n/\nlocalhost\n");
}

#[tokio::test]
async fn sockets_in_what_is_shown_are_not() {
    let Ok(host) = tempfile::Builder::new().prefix("overnight-host-").tempdir_in("/opt") else {
        eprintln!("SKIPPED: only user 0 can put a socket where every sandbox looks");
        return;
    };
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = host.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let (own, _) = start(options());
    let place = Place::new();
    let sandbox = own.open(place.spec(Confinement::Confined)).await.unwrap();
    let code = format!("import socket; print(socket.socket(socket.AF_UNIX).connect_ex({:?}))", path.to_str().unwrap());
    assert_eq!(python(&*sandbox, &code).await, libc::ECONNREFUSED.to_string());
    // One that goes between the look at the host and the first command is in nobody's way.
    let other = Place::new();
    let late = own.open(other.spec(Confinement::Confined)).await.unwrap();
    drop(host);
    assert_eq!(run(&*late, sh("echo runs")).await.1, "runs\n");
}

#[tokio::test]
async fn a_fork_bomb_is_bounded() {
    let place = Place::new();
    let probe = sandboxes().probe();
    if !probe.walls.iter().any(|wall| wall.name == "process count" && wall.stands) {
        eprintln!("SKIPPED: this machine cannot limit the number of processes: {probe:?}");
        return;
    }
    let mut spec = place.spec(Confinement::Confined);
    spec.limits.processes = Some(64);
    let sandbox = sandboxes().open(spec).await.unwrap();
    let mark = crate::host::mark();
    let script = format!("for n in $(seq 500); do sleep {mark} & done; wait");
    let process = sandbox.spawn(sh(&script)).await.unwrap();
    crate::host::printed(&*process, "fork").await;
    let count = crate::host::alive(&mark);
    assert!((40..=64 + 300).contains(&count), "{count}");
    drop(process);
}

#[tokio::test]
async fn files_keep_their_owner() {
    let (place, sandbox) = confined().await;
    fs::write(place.root().join("old"), "").unwrap();
    let (exit, printed) = run(&*sandbox, sh("touch new; test -O old && test -O new && test -O /tmp && id -u")).await;
    assert_eq!((exit, printed.trim()), (Exit::Code(0), rustix::process::geteuid().as_raw().to_string().as_str()));
}

#[tokio::test]
async fn a_temporary_directory_is_the_sandboxs_own_and_lasts() {
    let (place, sandbox) = confined().await;
    run(&*sandbox, sh("echo kept > /tmp/file")).await;
    assert_eq!(run(&*sandbox, sh("cat /tmp/file")).await.1, "kept\n");
    let (_other, other) = confined().await;
    assert_eq!(run(&*other, sh("ls /tmp")).await.1, "");
    drop(place);
}

/// A later sandbox on the same HOME must not be led out by what an earlier command left there.
#[tokio::test]
async fn links_left_in_home_lead_nowhere() {
    let place = Place::new();
    fs::create_dir(place.path().join("outside")).unwrap();
    fs::write(place.path().join("outside/secret"), "canary-4712").unwrap();
    let sandbox = place.open(Confinement::Confined).await;
    run(&*sandbox, sh("true")).await;
    let outside = place.path().join("outside");
    let script = format!(
        "rm -rf ~/.overnight/tmp ~/.overnight/cargo-*; mkdir -p ~/.overnight; cd ~/.overnight; \
         for name in tmp cargo-registry cargo-git; do ln -s {0} $name; done; rm -rf ~/.cargo; ln -s {0} ~/.cargo",
        outside.display()
    );
    sandbox.kill().await;
    let home = place.path().join("home");
    let done = std::process::Command::new("sh").args(["-c", &script]).env("HOME", &home).status().unwrap();
    assert!(done.success());
    let (exit, printed) = run(&*sandbox, sh("echo x > /tmp/x; cat /tmp/secret ~/.cargo/secret; ls -la /tmp")).await;
    assert!(!printed.contains("canary"), "{exit:?} {printed}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn where_a_sandbox_cannot_be_made_it_is_said_where() {
    let place = Place::new();
    let mut spec = place.spec(Confinement::Confined);
    spec.readable = vec![place.path().join("no-such-store")];
    let Err(fault) = sandboxes().open(spec).await else { panic!() };
    assert_eq!(fault.class, FaultClass::Environment);
    assert!(fault.what.contains("no-such-store"), "{fault}");

    let mut spec = place.spec(Confinement::Confined);
    let store = place.path().join("store");
    fs::create_dir(&store).unwrap();
    spec.readable = vec![store.clone()];
    let sandbox = sandboxes().open(spec).await.unwrap();
    fs::remove_dir(&store).unwrap();
    let Err(fault) = sandbox.spawn(sh("true")).await else { panic!() };
    assert_eq!(fault.class, FaultClass::Environment);
    assert!(fault.what.contains("store"), "{fault}");
}

#[tokio::test]
async fn an_unconfined_command_sees_the_host() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Unconfined).await;
    let (_, printed) = run(&*sandbox, sh(&format!("test -d /proc/{} && pwd", std::process::id()))).await;
    assert_eq!(printed.trim(), fs::canonicalize(place.root()).unwrap().to_str().unwrap());
}
