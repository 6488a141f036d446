//! Workspaces of layers: what a sandbox does to them, and what it cannot do to those below.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use domain::{
    FaultClass,
    ports::sandbox::{Confinement, EntryKind, Exit, Layers, Network, Sandbox, Sandboxes as _, Tree},
};
use sandbox::Options;

use crate::{
    host::{LONG, Place, alive, exec, mark, options, printed, run, sandboxes, sh, start},
    walls::python,
};

/// Layers below `place`, the topmost first, each with a file of its own name.
fn layers(place: &Place, lower: &[&str]) -> Layers {
    let make = |name: &str| {
        let directory = place.path().join(name);
        fs::create_dir_all(&directory).unwrap();
        directory
    };
    let lower: Vec<PathBuf> = lower
        .iter()
        .map(|name| {
            let layer = make(name);
            fs::create_dir_all(layer.join("directory")).unwrap();
            for file in ["common", &format!("only-{name}"), "directory/inner"] {
                fs::write(layer.join(file), format!("{name}\n")).unwrap();
            }
            layer
        })
        .collect();
    Layers { lower, upper: make("upper"), work: make("work") }
}

async fn open(place: &Place, layers: &Layers) -> Arc<dyn Sandbox> {
    let mut spec = place.spec(Confinement::Confined);
    spec.root = Tree::Layers(layers.clone());
    sandboxes().open(spec).await.unwrap()
}

fn skipped() -> bool {
    let probe = sandboxes().probe();
    if !probe.layers {
        eprintln!("SKIPPED: no layers here: {:?}", probe.walls.last());
    }
    !probe.layers
}

/// Everything below a directory that a writer could have changed.
fn picture(directory: &Path) -> Vec<String> {
    let mut picture = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let (path, stat) = (entry.path(), entry.metadata().unwrap());
        let content = fs::read(&path).unwrap_or_default();
        let told = (stat.mode(), stat.nlink(), stat.mtime_nsec(), stat.ctime_nsec(), content);
        picture.push(format!("{} {told:?}", path.display()));
        if stat.is_dir() {
            picture.extend(self::picture(&path));
        }
    }
    picture.sort();
    picture
}

#[tokio::test]
async fn a_change_is_in_the_upper_and_nowhere_else() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let layers = layers(&place, &["new", "old"]);
    let before = picture(&layers.lower[0]);
    let sandbox = open(&place, &layers).await;
    let script = "set -e; cat common only-new only-old; echo changed > common; rm only-old; rm -r directory; \
                  mkdir directory; echo made > directory/made; ls . directory";
    let (exit, printed) = run(&*sandbox, sh(script)).await;
    assert_eq!(exit, Exit::Code(0), "{printed}");
    assert_eq!(printed, "new\nnew\nold\n.:\ncommon\ndirectory\nonly-new\n\ndirectory:\nmade\n");
    sandbox.kill().await;
    let upper = |name: &str| layers.upper.join(name);
    assert_eq!(fs::read(upper("common")).unwrap(), b"changed\n");
    let gone = fs::symlink_metadata(upper("only-old")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0, "{gone:?}");
    let mut opaque = [0; 1];
    rustix::fs::lgetxattr(upper("directory"), "user.overlay.opaque", &mut opaque).unwrap();
    assert_eq!(&opaque, b"y");
    assert!(!upper("only-new").exists());
    assert_eq!(picture(&layers.lower[0]), before);
    assert_eq!(fs::read(layers.lower[1].join("only-old")).unwrap(), b"old\n");
}

/// Each line tries to reach what lies below in one way; some succeed, on a copy.
const ASSAULT: &str = r#"
import ctypes, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what):
    try: what()
    except OSError: pass
def mapped():
    early = os.open('common', os.O_RDONLY)
    page = mmap.mmap(early, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    address = ctypes.c_void_p(0)
    for line in open('/proc/self/maps'):
        if line.rstrip().endswith('common'): address = ctypes.c_void_p(int(line.split('-')[0], 16))
    if libc.mprotect(address, 4096, mmap.PROT_READ | mmap.PROT_WRITE) == 0: ctypes.memset(address, 65, 3)
    writer = os.open('common', os.O_RDWR)
    page = mmap.mmap(writer, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    page[:3] = b'AAA'; page.flush()
    again = os.open(f'/proc/self/fd/{early}', os.O_RDWR)
    os.write(again, b'BBB')
    os.ftruncate(again, 1)
def linked():
    os.link('only-lower', 'linked'); open('linked', 'a').write('more')
    os.link('linked', '/workspace/directory/linked')
def renamed():
    os.rename('directory', 'moved'); open('moved/inner', 'w').write('x')
def metadata():
    os.chmod('only-lower', 0o777); os.utime('only-lower', (1, 1)); os.setxattr('only-lower', 'user.x', b'y')
def around():
    for process in [1, os.getpid(), os.getppid()]:
        for path in [f'/proc/{process}/root/workspace/only-lower', f'/proc/{process}/cwd/only-lower']:
            attempt(lambda: open(path, 'a').write('x'))
def bound():
    os.makedirs('/tmp/bind', exist_ok=True)
    for flags in [4096, 4096 | 16384, 32, 0]:
        libc.mount(b'/workspace', b'/tmp/bind', b'overlay', flags, b'lowerdir=/workspace,upperdir=/tmp,workdir=/tmp')
    libc.syscall(428, -100, b'/workspace', 1)
def layered():
    for name in ['user.overlay.redirect', 'user.overlay.opaque', 'user.overlay.metacopy', 'trusted.overlay.redirect']:
        attempt(lambda: os.setxattr('directory', name, b'/../../lower'))
    attempt(lambda: os.mknod('whiteout', 0o020000, 0))
for what in [mapped, linked, renamed, metadata, around, bound, layered]: attempt(what)
print('tried')
"#;

#[tokio::test]
async fn no_way_of_writing_reaches_a_lower() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let layers = layers(&place, &["lower"]);
    let before = picture(&layers.lower[0]);
    let sandbox = open(&place, &layers).await;
    assert_eq!(python(&*sandbox, ASSAULT).await, "tried");
    // What the names lead to later is no more of it.
    run(
        &*sandbox,
        sh("echo x >> linked; echo x >> moved/inner; echo x >> common; find . -type f -exec sh -c 'echo x > {}' ';'"),
    )
    .await;
    sandbox.kill().await;
    assert_eq!(picture(&layers.lower[0]), before);
    assert!(!layers.upper.join("whiteout").exists());
}

#[tokio::test]
async fn setuid_files_and_devices_of_layers_have_no_power() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let layers = layers(&place, &["lower"]);
    let lower = &layers.lower[0];
    fs::copy("/usr/bin/id", lower.join("id")).unwrap();
    fs::set_permissions(lower.join("id"), fs::Permissions::from_mode(0o6755)).unwrap();
    let null = rustix::fs::makedev(1, 3);
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        lower.join("null"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        null,
    );
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(lower.join("id"), Some(65_534), Some(65_534)).unwrap();
        fs::set_permissions(lower.join("id"), fs::Permissions::from_mode(0o6755)).unwrap();
        made.unwrap();
    }
    let sandbox = open(&place, &layers).await;
    let me = rustix::process::geteuid().as_raw().to_string();
    assert_eq!(run(&*sandbox, sh("./id -u")).await, (Exit::Code(0), format!("{me}\n")));
    if made.is_ok() {
        assert_ne!(run(&*sandbox, sh("cat null || echo x > null")).await.0, Exit::Code(0));
    }
    // Nor those that a command makes, wherever it can.
    for directory in ["/workspace", "/home/agent", "/tmp", "/dev/shm", "/run"] {
        let script =
            format!("cp /usr/bin/id {directory}/own; chmod 6755 {directory}/own; findmnt -no OPTIONS -T {directory}");
        let (_, printed) = run(&*sandbox, sh(&script)).await;
        assert!(printed.contains("nosuid") && printed.contains("nodev"), "{directory}: {printed}");
    }
}

#[tokio::test]
async fn layers_are_mounted_again_whatever_became_of_the_last_time() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let layers = layers(&place, &["lower"]);
    let sandbox = open(&place, &layers).await;
    assert_eq!(run(&*sandbox, sh("echo one > kept")).await.0, Exit::Code(0));
    sandbox.kill().await;
    assert_eq!(run(&*sandbox, sh("cat kept; echo two > kept")).await.1, "one\n");
    drop(sandbox);
    sandboxes().ensure_dead(place.lock(), LONG).await.unwrap();
    // As a kernel leaves it that was stopped between the mount and its marker's removal.
    let marker = layers.work.join("work/incompat/volatile");
    fs::create_dir_all(&marker).unwrap();
    fs::write(marker.join("dirty"), "").unwrap();
    let sandbox = open(&place, &layers).await;
    assert_eq!(run(&*sandbox, sh("cat kept")).await.1, "two\n");
    assert!(!layers.work.join("work/incompat").exists());
}

/// The daemon is killed, and its machine goes on.
#[tokio::test]
async fn what_was_written_survives_the_daemon() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let layers = layers(&place, &["lower"]);
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_sandbox-fixture"))
        .args(["daemon".as_ref(), place.path().as_os_str(), "layered".as_ref()])
        .arg("echo before > kept; echo started; n=0; while :; do n=$((n + 1)); echo $n > counter; done")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(daemon.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line, "started\n");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    sandboxes().ensure_dead(place.lock(), LONG).await.unwrap();
    assert_eq!(fs::read(layers.upper.join("kept")).unwrap(), b"before\n");
    let sandbox = open(&place, &layers).await;
    assert_eq!(run(&*sandbox, sh("cat kept only-lower")).await.1, "before\nlower\n");
}

#[tokio::test]
async fn a_kill_waits_for_no_disk() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let layers = layers(&place, &["lower"]);
    let sandbox = open(&place, &layers).await;
    let mark = mark();
    let script = format!(
        "for n in $(seq 50); do (setsid sh -c 'trap \"\" TERM HUP INT; sleep {mark}; sleep {mark}' >/dev/null 2>&1 &); done; \
         head -c 128M /dev/urandom > dirty; echo started"
    );
    let process = sandbox.spawn(sh(&script)).await.unwrap();
    printed(&*process, "started").await;
    while alive(&mark) < 100 {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    sandbox.kill().await;
    println!("50 daemons, 128 MiB not on disk: killed in {:?}", begun.elapsed());
    assert_eq!(alive(&mark), 0);
    assert_eq!(fs::metadata(layers.upper.join("dirty")).unwrap().len(), 128 << 20);
}

#[tokio::test]
async fn more_layers_than_one_value_holds() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let names: Vec<String> = (0..40).map(|number| format!("layer-{number}")).collect();
    let layers = layers(&place, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let sandbox = open(&place, &layers).await;
    let (exit, printed) = run(&*sandbox, sh("cat common only-layer-39; ls | wc -l")).await;
    assert_eq!((exit, printed.as_str()), (Exit::Code(0), "layer-0\nlayer-39\n42\n"));
}

#[tokio::test]
async fn files_are_those_that_commands_see() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let layers = layers(&place, &["new", "old"]);
    symlink("directory/inner", layers.lower[1].join("link")).unwrap();
    symlink("/etc/hostname", layers.lower[1].join("away")).unwrap();
    let sandbox = open(&place, &layers).await;
    // There is no process yet.
    let files = sandbox.files().await.unwrap();
    assert_eq!(files.read("only-old", 0, 100).unwrap().0, "old\n");
    files.write("link", b"through\n").unwrap();
    files.write("made/deep/file", b"made\n").unwrap();
    assert_eq!(run(&*sandbox, sh("cat directory/inner made/deep/file; rm common")).await.1, "through\nmade\n");
    assert_eq!(fs::read(layers.upper.join("directory/inner")).unwrap(), b"through\n");
    assert_eq!(fs::read(layers.lower[0].join("directory/inner")).unwrap(), b"new\n");
    assert_eq!(files.read("common", 0, 100).unwrap_err().class, FaultClass::NotFound);
    assert_eq!(files.read("away", 0, 100).unwrap_err().class, FaultClass::NotFound);

    let mut listed = files.list("/workspace").unwrap();
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    let told: Vec<(&str, EntryKind)> = listed.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect();
    use EntryKind::{Directory, File, Other};
    let expected = [
        ("away", Other),
        ("directory", Directory),
        ("link", Other),
        ("made", Directory),
        ("only-new", File),
        ("only-old", File),
    ];
    assert_eq!(told, expected);
    let old = listed.iter().find(|entry| entry.name == "only-old").unwrap();
    assert_eq!(
        (old.bytes, old.modified),
        (4, fs::metadata(layers.lower[1].join("only-old")).unwrap().modified().unwrap())
    );
    assert_eq!(files.list("nowhere").unwrap(), []);
    assert_eq!(files.list("only-old").unwrap_err().class, FaultClass::Input);
    assert_eq!(files.list("away").unwrap(), []);
}

#[tokio::test]
async fn files_hold_no_killed_sandbox() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let layers = layers(&place, &["lower"]);
    let sandbox = open(&place, &layers).await;
    let files = sandbox.files().await.unwrap();
    files.write("one", b"1").unwrap();
    sandbox.kill().await;
    assert_eq!(files.read("one", 0, 1).unwrap_err().class, FaultClass::Transient);
    run(&*sandbox, sh("printf 2 > one")).await;
    assert_eq!(files.read("one", 0, 1).unwrap().0, "2");
    drop(sandbox);
    assert_eq!(files.read("one", 0, 1).unwrap_err().class, FaultClass::Transient);
}

/// A first process that is killed takes its mounts with it, before others are made.
#[tokio::test]
async fn a_killed_keeper_leaves_its_layers_to_the_next() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let layers = layers(&place, &["lower"]);
    let sandbox = open(&place, &layers).await;
    let mark = mark();
    let mut process =
        sandbox.spawn(sh(&format!("head -c 32M /dev/zero > dirty; echo started; sleep {mark}"))).await.unwrap();
    printed(&*process, "started").await;
    let files = sandbox.files().await.unwrap();
    let holder = fs::read_to_string(place.lock()).unwrap();
    let keeper = holder.split(' ').next().unwrap();
    assert!(Command::new("kill").args(["-9", keeper]).status().unwrap().success());
    assert_eq!(process.wait(LONG).await, Some(Exit::Signal(libc::SIGKILL)));
    assert_eq!(run(&*sandbox, sh("wc -c < dirty; echo again > dirty")).await.1, "33554432\n");
    assert_eq!(alive(&mark), 0);
    assert_eq!(files.read("dirty", 0, 100).unwrap().0, "again\n");
}

/// What an installation adds to a cache of the host is part of HOME, and so of the layer that is made of it.
#[tokio::test]
async fn caches_of_the_host_lie_under_those_of_home() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let cargo_home = place.path().join("cargo");
    fs::create_dir_all(cargo_home.join("registry/cache")).unwrap();
    fs::write(cargo_home.join("registry/cache/host"), "host\n").unwrap();
    fs::write(cargo_home.join("credentials.toml"), "canary").unwrap();
    let (own, _) = start(Options { cargo_home: Some(cargo_home.clone()), ..options() });

    let first = own.open(place.spec(Confinement::Confined)).await.unwrap();
    let install = "set -e; cd ~/.cargo/registry/cache; cat host; echo installed > new; rm host; ls ~/.cargo";
    assert_eq!(run(&*first, sh(install)).await, (Exit::Code(0), "host\nregistry\n".to_owned()));
    first.kill().await;
    let installed = place.path().join("home");
    assert_eq!(fs::read(installed.join(".cargo/registry/cache/new")).unwrap(), b"installed\n");

    let mut spec = place.spec(Confinement::Confined);
    let [upper, work] = ["home-upper", "home-work"].map(|name| place.path().join(name));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    spec.home = Tree::Layers(Layers { lower: vec![installed.clone()], upper: upper.clone(), work });
    let second = own.open(spec).await.unwrap();
    let script = "cd ~/.cargo/registry/cache; cat new; cat host; echo more > more; echo x > ~/outside";
    let (_, printed) = run(&*second, sh(script)).await;
    assert!(printed.starts_with("installed\n") && printed.contains("No such file"), "{printed}");
    second.kill().await;
    assert!(upper.join(".cargo/registry/cache/more").exists() && upper.join("outside").exists());
    assert!(!installed.join("outside").exists() && !installed.join(".cargo/registry/cache/more").exists());
    assert_eq!(fs::read(cargo_home.join("registry/cache/host")).unwrap(), b"host\n");
}

#[tokio::test]
async fn what_does_not_go_together_is_refused() {
    let place = Place::new();
    let layers = layers(&place, &["lower"]);
    let mut layered = place.spec(Confinement::Unconfined);
    layered.root = Tree::Layers(layers.clone());
    let mut shared = place.spec(Confinement::Confined);
    shared.network = Network::Host;
    let mut alone = place.spec(Confinement::Unconfined);
    alone.network = Network::Own(Vec::new());
    for spec in [layered, shared, alone] {
        let Err(fault) = sandboxes().open(spec).await else { panic!() };
        assert_eq!(fault.class, FaultClass::Bug, "{fault}");
    }
    let mut missing = place.spec(Confinement::Confined);
    missing.root = Tree::Layers(Layers { lower: vec![place.path().join("nowhere")], ..layers });
    let Err(fault) = sandboxes().open(missing).await else { panic!() };
    assert!(fault.class == FaultClass::Environment && fault.what.contains("nowhere"), "{fault}");
    run(&*place.open(Confinement::Confined).await, exec(&["true"])).await;
}

/// Whoever the daemon is, what it made is removed like any directory.
#[tokio::test]
async fn what_overlays_leave_can_be_removed() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let layers = layers(&place, &["lower"]);
    let sandbox = open(&place, &layers).await;
    run(&*sandbox, sh("rm -r directory; chmod 700 .; echo x > y")).await;
    sandbox.kill().await;
    fs::remove_dir_all(place.path()).unwrap();
}

#[tokio::test]
async fn one_upper_is_in_one_sandbox_at_a_time() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let layers = layers(&place, &["base"]);
    let (first, second) = (open(&place, &layers).await, open(&place, &layers).await);
    run(&*first, sh("true")).await;
    let (seen, ()) = tokio::join!(run(&*second, sh("cat late")), async {
        run(&*first, sh("echo late > late")).await;
        first.kill().await;
    });
    assert_eq!(seen.1, "late\n", "it waited for the first one's end");
}
