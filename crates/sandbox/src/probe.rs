//! What this machine can enforce, found by doing it once.

use std::{
    env,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use domain::{
    Fault,
    ports::sandbox::{Confinement, Exec, Exit, Layers, Limits, Network, Probe, Sandbox as _, SandboxSpec, Tree, Wall},
};

use crate::{groups, keeper, sandbox::Sandbox, sandboxes::Sandboxes};

const PATIENCE: Duration = Duration::from_secs(10);
/// Kinds of file systems (statfs(2)).
const OVERLAYFS: i64 = 0x794c_7630;
const NFS: i64 = 0x6969;

/// Runs a command in a sandbox. Blocks for some milliseconds.
pub fn probe(sandboxes: &Sandboxes) -> Probe {
    let tried = attempt(sandboxes.state(), async |directory| try_out(sandboxes, directory).await);
    let tried = tried.unwrap_or_else(Tried::failed);
    Probe { confined: tried.confined.is_ok(), layers: tried.layered.is_ok(), walls: walls(&tried) }
}

fn walls(tried: &Tried) -> Vec<Wall> {
    let Tried { bounds, confined, layered } = tried;
    let wall = |name: &str, stands: bool, with: &str, without: &str| Wall {
        name: name.to_owned(),
        stands: stands && confined.is_ok(),
        note: match confined {
            Err(fault) => fault.to_string(),
            Ok(()) => if stands { with } else { without }.to_owned(),
        },
    };
    let always = |name, note| wall(name, true, note, "");
    let bounded = |bit: u32| bounds & bit != 0;
    let grouped = |name, bit, with| wall(name, bounded(bit), with, NO_GROUPS);
    vec![
        always(
            "files",
            "the home directory and Overnight's state are not seen; the system is read-only (mount namespace)",
        ),
        always("processes", "no other process is seen or signaled (PID and IPC namespaces)"),
        always(
            "network",
            "a loopback of its own, from which only what Overnight serves is reached (network namespace)",
        ),
        always("privileges", "no capability, none gained by exec, no further user namespace (user namespace)"),
        wall(
            "system calls",
            bounded(groups::SYSTEM_CALLS),
            "no tracing, mounts, namespaces, keys, io_uring, bpf, raw sockets and the like (seccomp)",
            "not filtered: needs a kernel with seccomp filters, on x86-64 or ARM64",
        ),
        wall(
            "files, again",
            bounded(groups::FILES_TWICE),
            "nothing outside of what a sandbox may write can be written, whatever is mounted (landlock)",
            "no second wall: needs landlock, Linux 6.2 or later",
        ),
        match bounded(groups::PROCESSES) || rustix::process::geteuid().is_root() && !keeper::can_limit_namespace() {
            true => grouped("process count", groups::PROCESSES, "limited for each sandbox (control group)"),
            false => always("process count", "limited for each sandbox (user and PID namespace)"),
        },
        grouped("memory", groups::MEMORY, "limited for each sandbox; what exceeds it is killed (control group)"),
        grouped(
            "processor",
            groups::PROCESSOR,
            "shared equally among sandboxes, however many processes each has (control group)",
        ),
        wall(
            "processor time",
            bounded(groups::PROCESSOR_TIME),
            "limited for a sandbox that is given a limit (control group)",
            if bounded(groups::PROCESSOR) {
                "not limited: needs a kernel with CFS bandwidth control"
            } else {
                NO_GROUPS
            },
        ),
        always("disk", "looked at about once a second while commands run; who holds more than the quota is ended"),
        wall(
            "layers",
            layered.is_ok(),
            "a workspace shares the files of its base until it changes them (overlayfs)",
            &layered.as_ref().err().map_or_else(String::new, |fault| format!("every workspace is a copy: {fault}")),
        ),
    ]
}

/// And how to get them.
const NO_GROUPS: &str = "not limited: no control group can be made here; start the daemon with `systemd-run --user --scope \
                         -p Delegate=yes overnight serve`, or as a service with `Delegate=yes`";

/// What the trials came to.
struct Tried {
    bounds: u32,
    confined: Result<(), Fault>,
    layered: Result<(), Fault>,
}

impl Tried {
    fn failed(fault: Fault) -> Self {
        Self { bounds: 0, confined: Err(fault.clone()), layered: Err(fault) }
    }
}

/// Does something in a directory of its own, which is removed then. Blocks.
pub fn attempt<T: Send>(state: &Path, trial: impl AsyncFnOnce(&Path) -> T + Send) -> Result<T, Fault> {
    // On a thread and runtime of its own: the caller may be inside one, which must not be blocked on itself.
    thread::scope(|scope| {
        let attempt = scope.spawn(|| attempt_here(state, trial));
        attempt.join().unwrap_or_else(|_| Err(Fault::bug("the trial of a sandbox panicked")))
    })
}

fn attempt_here<T>(state: &Path, trial: impl AsyncFnOnce(&Path) -> T) -> Result<T, Fault> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let directory = state.join(format!("probe-{}-{number}", process::id()));
    let made = ["lower/directory/file", "upper", "work", "plain"]
        .iter()
        .try_for_each(|below| DirBuilder::new().recursive(true).mode(0o700).create(directory.join(below)));
    made.map_err(|error| {
        Fault::environment(format!("cannot make {} to try a sandbox in: {error}", directory.display()))
            .hint("make sure that Overnight's home can be written to (OVERNIGHT_HOME)")
    })?;
    let tried = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::environment(format!("cannot try a sandbox: {error}")))
        .map(|runtime| runtime.block_on(trial(&directory)));
    // Only the probe's own directories.
    drop(fs::remove_dir_all(&directory));
    tried
}

async fn try_out(sandboxes: &Sandboxes, directory: &Path) -> Tried {
    let below = |name: &str| directory.join(name);
    let layers = Layers { lower: vec![below("lower")], upper: below("upper"), work: below("work") };
    let run = async |root, script| run(&*sandboxes.open_untested(spec(directory, root))?, script).await;
    let layered = run(Tree::Layers(layers), "rm -r directory && mkdir directory").await;
    match layered {
        Ok(bounds) => Tried { bounds, confined: Ok(()), layered: shows_change(&below("upper/directory")) },
        Err(fault) => match run(Tree::Directory(below("plain")), "true").await {
            Ok(bounds) => Tried { bounds, confined: Ok(()), layered: Err(explain(fault, directory)) },
            Err(fault) => Tried::failed(fault),
        },
    }
}

pub fn spec(directory: &Path, root: Tree) -> SandboxSpec {
    SandboxSpec {
        root,
        home: Tree::Directory(directory.join("home")),
        scratch: directory.join("scratch"),
        readable: Vec::new(),
        hidden: Vec::new(),
        env: Vec::new(),
        network: Network::Own(Vec::new()),
        redactor: Arc::default(),
        // Whether it can be given is found out by giving it.
        limits: Limits { processor_percent: Some(100), ..Limits::default() },
        lock: directory.join("lock"),
        spill: directory.join("spill"),
        confinement: Confinement::Confined,
    }
}

/// What the processes of a sandbox are bounded in, after one has run this script.
pub async fn run(sandbox: &Sandbox, script: &str) -> Result<u32, Fault> {
    let exec = Exec {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        cwd: None,
        env: Vec::new(),
        stdin: bytes::Bytes::new(),
        timeout: PATIENCE,
    };
    let mut process = sandbox.spawn(exec).await?;
    let exit = process.wait(PATIENCE).await;
    let output = process.output();
    sandbox.kill().await;
    match exit {
        Some(Exit::Code(0)) => Ok(sandbox.bounds()),
        other => {
            let printed = String::from_utf8_lossy(&output.head).trim().to_owned();
            Err(Fault::environment(format!("`{script}` in a sandbox ended with {other:?}: {printed}")))
        }
    }
}

/// Whether a directory that replaced one of a lower layer is marked as such.
fn shows_change(directory: &Path) -> Result<(), Fault> {
    let mut value = [0; 1];
    match rustix::fs::lgetxattr(directory, "user.overlay.opaque", &mut value) {
        Ok(_) if value == *b"y" => Ok(()),
        Ok(_) | Err(_) => Err(Fault::environment("the file system of Overnight's home keeps no extended attributes")),
    }
}

/// Says what it is about the file system that carries no overlay, where that is known.
fn explain(fault: Fault, directory: &Path) -> Fault {
    let Ok(held) = rustix::fs::statfs(directory) else { return fault };
    let why = match held.f_type {
        OVERLAYFS => "is on overlayfs, a container's own file system, which carries no further overlay",
        NFS => "is on NFS, which carries no overlay",
        _ if fault.hint.is_none() => return fault.hint("overlays without privileges need Linux 5.11 or later"),
        _ => return fault,
    };
    Fault::environment(format!("Overnight's home {why}")).hint("put it on a volume or a local disk (OVERNIGHT_HOME)")
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
             /etc/apparmor.d/overnight of the lines `abi <abi/4.0>,` and \
             `profile overnight {} flags=(unconfined) {{ userns, }}`, loaded by \
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
