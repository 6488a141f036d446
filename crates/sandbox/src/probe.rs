//! What this machine can enforce, found by doing it once.

use std::{
    env,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::Path,
    process,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use domain::{
    Fault,
    ports::sandbox::{Confinement, Exec, Exit, Limits, Probe, Sandbox as _, SandboxSpec, Wall},
};

use crate::{groups, keeper, sandboxes::Sandboxes};

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `true` in a sandbox. Blocks for some milliseconds.
pub fn probe(sandboxes: &Sandboxes) -> Probe {
    // On a thread and runtime of its own: the caller may be inside one, which must not be blocked on itself.
    let tried = thread::scope(|scope| {
        scope.spawn(|| attempt(sandboxes)).join().unwrap_or_else(|_| Err(Fault::bug("the trial of a sandbox panicked")))
    });
    let (bounds, trouble) = match tried {
        Ok(bounds) => (bounds, None),
        Err(fault) => (0, Some(fault.to_string())),
    };
    let wall = |name: &str, note: &str| Wall {
        name: name.to_owned(),
        stands: trouble.is_none(),
        note: trouble.clone().unwrap_or_else(|| note.to_owned()),
    };
    let mut walls = vec![
        wall(
            "files",
            "the home directory and Overnight's state are not seen; the system is read-only (mount namespace)",
        ),
        wall("processes", "no other process is seen or signaled (PID and IPC namespaces)"),
        wall("privileges", "no capability, none gained by exec, no further user namespace (user namespace)"),
    ];
    let open = |name: &str, note: String| Wall { name: name.to_owned(), stands: false, note };
    let root = rustix::process::geteuid().is_root();
    let bounded = |bit: u32| bounds & bit != 0;
    walls.push(if bounded(groups::SYSTEM_CALLS) {
        wall("system calls", "no tracing, mounts, namespaces, keys, io_uring, bpf, raw sockets and the like (seccomp)")
    } else {
        open("system calls", "not filtered: needs a kernel with seccomp filters, on x86-64 or ARM64".to_owned())
    });
    walls.push(if bounded(groups::FILES_TWICE) {
        wall(
            "files, again",
            "nothing outside of what a sandbox may write can be written, whatever is mounted (landlock)",
        )
    } else {
        open("files, again", "no second wall: needs landlock, Linux 6.2 or later".to_owned())
    });
    walls.push(if bounded(groups::SOCKETS) {
        wall("abstract sockets", "those of the host's programs cannot be reached (landlock)")
    } else {
        open(
            "abstract sockets",
            "those of the host's programs can be reached: needs landlock, Linux 6.12 or later".to_owned(),
        )
    });
    walls.push(if bounded(groups::PROCESSES) {
        wall("process count", "limited for each sandbox (control group)")
    } else if root && !keeper::can_limit_namespace() {
        open("process count", format!("not limited: {}", lend_groups()))
    } else {
        wall("process count", "limited for each sandbox (user and PID namespace)")
    });
    walls.push(if bounded(groups::MEMORY) {
        wall("memory", "limited for each sandbox; what exceeds it is killed (control group)")
    } else {
        open("memory", format!("not limited: {}", lend_groups()))
    });
    walls.push(if bounded(groups::PROCESSOR) {
        wall("processor", "shared equally among sandboxes, however many processes each has (control group)")
    } else {
        open("processor", format!("not shared out: {}", lend_groups()))
    });
    walls.push(open("network", "commands share the host's network for now".to_owned()));
    Probe { confined: trouble.is_none(), walls }
}

/// How to get control groups.
fn lend_groups() -> &'static str {
    "no control group can be made here; start the daemon with `systemd-run --user --scope -p Delegate=yes overnight serve`, \
     or as a service with `Delegate=yes`"
}

/// What the processes of a sandbox are bounded in.
fn attempt(sandboxes: &Sandboxes) -> Result<u32, Fault> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let directory = env::temp_dir().join(format!("overnight-probe-{}-{number}", process::id()));
    // Refuses one that is there: the temporary directory is everybody's.
    let made = DirBuilder::new().mode(0o700).create(&directory).and_then(|()| fs::create_dir(directory.join("root")));
    made.map_err(|error| {
        Fault::environment(format!("cannot make {} to try a sandbox in: {error}", directory.display()))
            .hint("make sure that the temporary directory (TMPDIR) can be written to")
    })?;
    let tried = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::environment(format!("cannot try a sandbox: {error}")))
        .and_then(|runtime| runtime.block_on(run_true(sandboxes, &directory)));
    // Only the probe's own empty directories.
    drop(fs::remove_dir_all(&directory));
    tried
}

async fn run_true(sandboxes: &Sandboxes, directory: &Path) -> Result<u32, Fault> {
    let sandbox = sandboxes.open_untested(SandboxSpec {
        root: directory.join("root"),
        home: directory.join("home"),
        readable: Vec::new(),
        hidden: Vec::new(),
        env: Vec::new(),
        limits: Limits::default(),
        lock: directory.join("lock"),
        spill: directory.join("spill"),
        confinement: Confinement::Confined,
    })?;
    let exec = Exec {
        argv: vec!["true".to_owned()],
        cwd: None,
        env: Vec::new(),
        stdin: bytes::Bytes::new(),
        timeout: PATIENCE,
    };
    let mut process = sandbox.spawn(exec).await?;
    let exit = process.wait(PATIENCE).await;
    sandbox.kill().await;
    match exit {
        Some(Exit::Code(0)) => Ok(sandbox.bounds()),
        other => Err(Fault::environment(format!("`true` in a sandbox ended with {other:?}"))),
    }
}

/// How to mend a machine that refuses user namespaces, where one of the known switches is the cause.
pub fn mend() -> Option<String> {
    let is = |name: &str, value: &str| {
        fs::read_to_string(Path::new("/proc/sys").join(name)).is_ok_and(|text| text.trim() == value)
    };
    if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        let program = env::current_exe().unwrap_or_else(|_| "/usr/bin/overnight".into());
        return Some(format!(
            "this system's AppArmor denies user namespaces; allow them to this program with a file \
             /etc/apparmor.d/overnight of the line `profile overnight {} flags=(unconfined) {{ userns, }}`, loaded by \
             `sudo apparmor_parser -r /etc/apparmor.d/overnight`, or to all with \
             `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`",
            program.display()
        ));
    }
    if is("kernel/unprivileged_userns_clone", "0") {
        return Some("`sudo sysctl -w kernel.unprivileged_userns_clone=1` allows user namespaces".to_owned());
    }
    if is("user/max_user_namespaces", "0") {
        return Some("`sudo sysctl -w user.max_user_namespaces=15000` allows user namespaces".to_owned());
    }
    Path::new("/.dockerenv").exists().then(|| {
        "in a container, namespaces need `--security-opt seccomp=unconfined --security-opt apparmor=unconfined \
         --security-opt systempaths=unconfined`"
            .to_owned()
    })
}
