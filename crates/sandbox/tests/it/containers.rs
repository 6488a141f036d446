//! Sandboxes in containers, made by a real engine.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use domain::{
    FaultClass,
    ports::sandbox::{
        Bridge, Confinement, Door, Exit, Layers, Limits, Network, Sandbox, SandboxSpec, Sandboxes as _, Tree,
        WindowSize,
    },
    redact::Redactor,
};
use sandbox::{ContainerOptions, Containers};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::OnceCell,
};

use crate::{
    engine::{IMAGE, engine},
    host::{LONG, Place, alive, exec, mark, printed, run, sandboxes, sh, state, text},
};

fn options(engine: &Path, state: PathBuf) -> ContainerOptions {
    ContainerOptions {
        engine: engine.to_owned(),
        image: IMAGE.to_owned(),
        program: env!("CARGO_BIN_EXE_sandbox-fixture").into(),
        state,
        hidden: Vec::new(),
    }
}

/// One for all tests, as in the daemon.
async fn containers() -> Option<&'static Arc<Containers>> {
    static CONTAINERS: OnceCell<Arc<Containers>> = OnceCell::const_new();
    let engine = engine()?;
    // Each process of tests is a daemon of its own: it clears away what others of its state left.
    let own = state().join(format!("contained-{}", std::process::id()));
    let start = async || Containers::start(options(engine, own.clone()), sandboxes().clone()).await;
    Some(CONTAINERS.get_or_try_init(start).await.unwrap())
}

async fn open(place: &Place) -> Option<Arc<dyn Sandbox>> {
    open_with(place.spec(Confinement::Confined)).await
}

async fn open_with(spec: SandboxSpec) -> Option<Arc<dyn Sandbox>> {
    Some(containers().await?.open(spec).await.unwrap())
}

/// What a script prints that must succeed.
async fn says(sandbox: &dyn Sandbox, script: &str) -> String {
    let (exit, text) = run(sandbox, sh(script)).await;
    assert_eq!(exit, Exit::Code(0), "{script}: {text}");
    text.trim_end().to_owned()
}

#[tokio::test]
async fn commands_run_in_the_image() {
    let place = Place::new();
    let Some(sandbox) = open(&place).await else { return };
    assert_eq!(
        says(&*sandbox, "cat /etc/of-the-image; pwd; echo $OF_THE_IMAGE $HOME $PATH").await,
        "yes\n/workspace\nyes /home/agent /bin"
    );
    assert_eq!(run(&*sandbox, sh("echo out; echo err >&2; exit 7")).await, (Exit::Code(7), "out\nerr\n".to_owned()));
    assert_eq!(run(&*sandbox, sh("kill -TERM $$")).await.0, Exit::Signal(15));
    assert_eq!(run(&*sandbox, exec(&["no-such-program"])).await.0, Exit::NotStarted);
    let mut fed = exec(&["cat"]);
    fed.stdin = "fed".into();
    fed.cwd = Some("/etc".to_owned());
    assert_eq!(run(&*sandbox, fed.clone()).await.1, "fed");
    fed.cwd = Some("nowhere".to_owned());
    assert_eq!(sandbox.spawn(fed).await.err().unwrap().class, FaultClass::Input);
}

#[tokio::test]
async fn the_workspace_belongs_to_the_daemons_user() {
    let place = Place::new();
    fs::write(place.root().join("given"), "by the host").unwrap();
    let Some(sandbox) = open(&place).await else { return };
    assert_eq!(
        says(&*sandbox, "cat given; echo made > made; touch ~/of-home /tmp/of-tmp /var/tmp/too").await,
        "by the host"
    );
    let made = fs::metadata(place.root().join("made")).unwrap();
    assert_eq!(made.uid(), rustix::process::geteuid().as_raw());
    assert!(place.path().join("home/of-home").exists());
    assert!(place.path().join("scratch/tmp/of-tmp").exists() && place.path().join("scratch/tmp/too").exists());
    let files = sandbox.files().await.unwrap();
    assert_eq!(&files.read("made", 0, 9).unwrap().0[..], b"made\n");
    files.write("deep/written", b"by the daemon").unwrap();
    assert_eq!(says(&*sandbox, "cat deep/written").await, "by the daemon");
}

#[tokio::test]
async fn nothing_of_the_host_is_seen_but_what_is_named() {
    let place = Place::new();
    let shown = place.path().join("shown");
    fs::create_dir_all(shown.join("secrets")).unwrap();
    fs::write(shown.join("file"), "shown").unwrap();
    fs::write(shown.join("key"), "hidden").unwrap();
    fs::write(shown.join("secrets/key"), "hidden").unwrap();
    let mut spec = place.spec(Confinement::Confined);
    spec.readable = vec![shown.clone()];
    spec.hidden = vec![shown.join("secrets"), shown.join("key")];
    let Some(sandbox) = open_with(spec).await else { return };
    let script = format!(
        "cat {0}/file; cat {0}/key; ls {0}/secrets; touch {0}/new 2>/dev/null && echo written; ls {1}; ls -a /root /home",
        shown.display(),
        place.path().display()
    );
    let seen = run(&*sandbox, sh(&script)).await.1;
    assert!(seen.starts_with("shown") && !seen.contains("hidden") && !seen.contains("written"), "{seen}");
    assert!(!seen.contains("lock") && !seen.contains(".cargo"), "{seen}");
    let processes = says(&*sandbox, "for p in /proc/[0-9]*; do cat $p/comm; done").await;
    assert!(
        processes.lines().all(|name| ["overnight-keep", "overnight-init", "sh", "cat"].contains(&name)),
        "{processes}"
    );
}

#[tokio::test]
async fn the_walls_stand() {
    let place = Place::new();
    let Some(sandbox) = open(&place).await else { return };
    let status = says(&*sandbox, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status").await;
    for line in status.lines().filter(|line| line.starts_with("Cap")) {
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    assert_eq!(says(&*sandbox, "ls /sys/class/net").await, "lo");
    for attempt in [
        "touch /etc/changed",
        "touch /.overnight/program/overnight",
        "echo 1 > /proc/sys/kernel/panic",
        "echo -1000 > /proc/self/oom_score_adj",
        "mknod disk b 254 0",
        "mknod null c 1 3",
        "cat /proc/1/environ /proc/1/maps",
        "for file in /proc/1/fd/*; do cat $file && exit; done; false",
        "nc -w 1 1.1.1.1 80",
    ] {
        let (exit, printed) = run(&*sandbox, sh(attempt)).await;
        assert_ne!(exit, Exit::Code(0), "{attempt}: {printed}");
    }
    assert!(fs::symlink_metadata(place.path().join("scratch/keeper")).is_err(), "nobody comes by that door any more");
}

#[tokio::test]
async fn commands_do_not_signal_others() {
    let place = Place::new();
    let Some(sandbox) = open(&place).await else { return };
    let mark = mark();
    let mut other = sandbox.spawn(sh(&format!("echo started; exec sleep {mark}"))).await.unwrap();
    printed(&*other, "started").await;
    // Its own init is among what it may signal: it may be gone before it has told that it started.
    if let Ok(mut signaling) = sandbox.spawn(sh("kill -9 1 -1; kill -TERM 1")).await {
        signaling.wait(LONG).await;
    }
    let walls = containers().await.unwrap().probe().walls;
    // Scopes came with a later landlock than files.
    if walls.iter().any(|wall| wall.name == "files, again" && wall.stands) && kernel() >= (6, 12) {
        assert_eq!(other.wait(Duration::ZERO).await, None);
        assert_eq!(alive(&mark), 1);
    }
    other.kill().await;
    assert_eq!(alive(&mark), 0);
    assert_eq!(says(&*sandbox, "echo well").await, "well");
}

fn kernel() -> (u32, u32) {
    let name = rustix::system::uname();
    let mut numbers = name.release().to_str().unwrap().split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[tokio::test]
async fn timeouts_and_kills_take_the_whole_tree() {
    let place = Place::new();
    let Some(sandbox) = open(&place).await else { return };
    let mark = mark();
    let daemons = format!("for n in 1 2 3; do (setsid sleep {mark} >/dev/null 2>&1 &); done; echo started");
    let mut process = sandbox.spawn(sh(&daemons)).await.unwrap();
    assert_eq!(process.wait(LONG).await, Some(Exit::Code(0)));
    while alive(&mark) != 3 {
        tokio::task::yield_now().await;
    }
    process.kill().await;
    assert_eq!(alive(&mark), 0);
    let mut hanging = sh(&format!("{daemons}; sleep {mark}"));
    hanging.timeout = Duration::from_millis(300);
    assert_eq!(run(&*sandbox, hanging).await.0, Exit::TimedOut);
    drop(sandbox.spawn(sh(&daemons)).await.unwrap());
    while alive(&mark) != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_kill_leaves_nothing_and_a_command_starts_anew() {
    let place = Place::new();
    let Some(sandbox) = open(&place).await else { return };
    let mark = mark();
    let mut process = sandbox.spawn(sh(&format!("sleep {mark} & echo started; sleep {mark}"))).await.unwrap();
    printed(&*process, "started").await;
    assert_eq!(sandbox.running().len(), 1);
    sandbox.kill().await;
    assert_eq!(alive(&mark), 0);
    assert_eq!(process.wait(LONG).await, Some(Exit::Signal(9)));
    assert_eq!(says(&*sandbox, "echo again").await, "again");
    let still = sandbox.spawn(sh(&format!("sleep {mark}"))).await.unwrap();
    drop((sandbox, still));
    while alive(&mark) != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn services_are_reached_from_outside_and_doors_from_inside() {
    struct Greeter;
    impl Door for Greeter {
        fn serve(&self, listener: TcpListener) {
            tokio::spawn(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((mut stream, _)) = listener.accept().await {
                    stream.write_all(b"hello").await.unwrap();
                }
            });
        }
    }
    let place = Place::new();
    let mut spec = place.spec(Confinement::Confined);
    spec.network = Network::Own(vec![Bridge { port: 80, door: Arc::new(Greeter) }]);
    let Some(sandbox) = open_with(spec).await else { return };
    assert_eq!(says(&*sandbox, "nc 127.0.0.1 80 </dev/null").await, "hello");
    let _service = sandbox.spawn(sh("while true; do echo served | nc -l -p 81; done")).await.unwrap();
    let stream = loop {
        match sandbox.connect(81).await {
            Ok(stream) => break stream,
            Err(fault) => assert_eq!(fault.class, FaultClass::NotFound),
        }
    };
    let mut answer = String::new();
    tokio::net::TcpStream::from_std(stream).unwrap().read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "served\n");
    sandbox.kill().await;
    assert_eq!(says(&*sandbox, "nc 127.0.0.1 80 </dev/null").await, "hello");
}

#[tokio::test]
async fn a_command_is_talked_with() {
    let place = Place::new();
    let Some(sandbox) = open(&place).await else { return };
    let script = "while read word; do echo got-$word; done; echo over >&2";
    let mut told = sandbox.converse(sh(script)).await.unwrap();
    told.input.write(Bytes::from_static(b"one\n")).await.unwrap();
    assert_eq!(told.lines.next().await.unwrap().unwrap(), "got-one");
    drop(told.input);
    assert_eq!(told.lines.next().await.unwrap(), None);
    assert_eq!(told.process.wait(LONG).await, Some(Exit::Code(0)));
    assert_eq!(text(&told.process.output()), "over\n");
}

#[tokio::test]
async fn a_person_gets_a_terminal() {
    let place = Place::new();
    let Some(sandbox) = open(&place).await else { return };
    let size = WindowSize { rows: 30, columns: 90 };
    let mut terminal = sandbox.terminal(sh("test -t 0 && read line && echo got-$line-$TERM"), size).await.unwrap();
    rustix::io::write(terminal.io().unwrap(), b"typed\n").unwrap();
    assert_eq!(terminal.wait().await, Exit::Code(0));
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length) = rustix::io::read(terminal.io().unwrap(), &mut buffer) {
        seen.extend_from_slice(&buffer[..length]);
    }
    let seen = String::from_utf8(seen).unwrap();
    assert!(seen.contains("got-typed-xterm-256color"), "{seen}");
}

#[tokio::test]
async fn limits_hold() {
    let place = Place::new();
    let mut spec = place.spec(Confinement::Confined);
    spec.limits =
        Limits { memory_bytes: Some(64 << 20), processes: Some(30), disk_bytes: Some(8 << 20), ..Limits::default() };
    let Some(sandbox) = open_with(spec).await else { return };
    let stands =
        |name: &str, walls: &[domain::ports::sandbox::Wall]| walls.iter().any(|wall| wall.name == name && wall.stands);
    let walls = containers().await.unwrap().probe().walls;
    if stands("memory", &walls) {
        let (exit, told) = run(&*sandbox, sh("tail /dev/zero")).await;
        assert_ne!(exit, Exit::Code(0));
        assert!(told.contains("of memory together"), "{told}");
    }
    if stands("process count", &walls) {
        let (_, told) = run(&*sandbox, sh("for n in $(seq 60); do sleep 60 & done")).await;
        assert!(told.contains("fork"), "{told}");
        sandbox.kill().await;
    }
    let (exit, _) = run(&*sandbox, sh("head -c 64000000 /dev/zero > filled; sleep 60")).await;
    assert!(matches!(exit, Exit::OverQuota { .. }), "{exit:?}");
}

#[tokio::test]
async fn secrets_are_taken_out_of_output_and_files() {
    let place = Place::new();
    let mut spec = place.spec(Confinement::Confined);
    spec.redactor = Arc::new(Redactor::new([("TOKEN", "hunter2-hunter2")]));
    spec.env = vec![("TOKEN".to_owned(), "hunter2-hunter2".to_owned())];
    let Some(sandbox) = open_with(spec).await else { return };
    let printed = says(&*sandbox, "echo $TOKEN; echo $TOKEN > file").await;
    assert!(!printed.contains("hunter2"), "{printed}");
    let (content, _) = sandbox.files().await.unwrap().read("file", 0, 99).unwrap();
    assert!(!String::from_utf8_lossy(&content).contains("hunter2"));
}

#[tokio::test]
async fn what_an_engine_cannot_do_is_said() {
    let Some(containers) = containers().await else { return };
    let place = Place::new();
    let directory = |name: &str| {
        fs::create_dir(place.path().join(name)).unwrap();
        place.path().join(name)
    };
    let mut spec = place.spec(Confinement::Confined);
    spec.root =
        Tree::Layers(Layers { lower: vec![directory("lower")], upper: directory("upper"), work: directory("work") });
    let fault = containers.open(spec).await.err().unwrap();
    assert!(fault.class == FaultClass::Environment && fault.hint.is_some(), "{fault}");

    let engine = engine().unwrap();
    let without = |change: fn(&mut ContainerOptions)| {
        let mut options = options(engine, place.path().join("state"));
        change(&mut options);
        options
    };
    for (options, word) in [
        (without(|options| options.image = "localhost/no-such-image".to_owned()), "no-such-image"),
        (without(|options| options.engine = "/nowhere/engine.sock".into()), "/nowhere/engine.sock"),
    ] {
        let containers = Containers::start(options, sandboxes().clone()).await.unwrap();
        let fault = containers.open(place.spec(Confinement::Confined)).await.err().unwrap();
        assert!(fault.class == FaultClass::Environment && fault.hint.is_some(), "{fault}");
        assert!(fault.what.contains(word), "{fault}");
        let probe = containers.probe();
        assert!(!probe.confined && probe.walls[0].note.contains(word), "{probe:?}");
    }
    let probe = containers.probe();
    assert!(probe.confined && !probe.layers, "{probe:?}");
}

#[tokio::test]
async fn plain_processes_stay_plain() {
    let place = Place::new();
    let Some(sandbox) = open_with(place.spec(Confinement::Unconfined)).await else { return };
    let mut own = sh("pwd");
    own.cwd = None;
    assert_eq!(run(&*sandbox, own).await.1.trim_end(), fs::canonicalize(place.root()).unwrap().to_str().unwrap());
}

/// What the lock is for: recovery finds what an earlier daemon left, by its label, or by the lock.
#[tokio::test]
async fn what_holds_a_lock_is_made_to_end() {
    let place = Place::new();
    let Some(sandbox) = open(&place).await else { return };
    let mark = mark();
    let mut process = sandbox.spawn(sh(&format!("echo started; sleep {mark}"))).await.unwrap();
    printed(&*process, "started").await;
    containers().await.unwrap().ensure_dead(place.lock(), LONG).await.unwrap();
    assert_eq!(alive(&mark), 0);
    assert_eq!(process.wait(LONG).await, Some(Exit::Signal(9)));
    assert!(text(&process.output()).contains("started"));
    assert_eq!(says(&*sandbox, "echo anew").await, "anew");
}

#[tokio::test]
async fn a_container_ends_with_its_daemon() {
    let Some(engine) = engine() else { return };
    let place = Place::new();
    let mark = mark();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_sandbox-fixture"))
        .args(["daemon".as_ref(), place.path().as_os_str(), "contained".as_ref()])
        .arg(format!("setsid sleep {mark} & echo started; sleep {mark}"))
        .args([engine.as_os_str(), IMAGE.as_ref()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    containers().await.unwrap().ensure_dead(place.lock(), LONG).await.unwrap();
    assert_eq!(alive(&mark), 0);
}
