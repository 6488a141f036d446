//! Layers that many stand on, and the workspaces of others.
//!
//! The control of all that write: the attempt's own view shows the change (it went to a copy), as it would show on the host if
//! the layer were not one.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use domain::{
    environment::EnvironmentId,
    ports::sandbox::{Confinement, Tree},
    ports::workspace::Surroundings,
};

use crate::world::{Attempt, World, git, holding, write};

/// Everything below a directory that a writer could have changed.
fn picture(directory: &Path) -> Vec<String> {
    let mut picture = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let (path, stat) = (entry.path(), entry.metadata().unwrap());
        let content = if stat.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let told = (stat.mode(), stat.nlink(), stat.mtime_nsec(), stat.ctime_nsec(), content);
        picture.push(format!("{} {told:?}", path.display()));
        if stat.is_dir() {
            picture.extend(self::picture(&path));
        }
    }
    picture.sort();
    picture
}

/// What lies under an attempt; `None` where this machine has no layers.
fn lower(world: &World, attempt: &Attempt<'_>) -> Option<Vec<std::path::PathBuf>> {
    match &attempt.place.root {
        Tree::Layers(layers) => Some(layers.lower.clone()),
        Tree::Directory(_) => {
            assert!(!world.stands("layers"));
            None
        }
    }
}

/// Runs an attack in Python on the file `file.txt` of the base. It must print `changed` when its own view has changed. No layer
/// and no other attempt may have.
async fn no_layer_changes(code: &str) {
    let world = World::new().await;
    let neighbour = world.attempt(2).await;
    assert_eq!(neighbour.sh("cat file.txt").await, "one\n");
    let attempt = world.attempt(1).await;
    let Some(lower) = lower(&world, &attempt) else { return };
    let before: Vec<_> = lower.iter().map(|layer| picture(layer)).collect();
    let printed = attempt.python(code).await;
    assert!(printed.ends_with("changed\n"), "{printed}");
    assert_eq!(neighbour.sh("cat file.txt src/lib.txt; ls").await, "one\ntwo\nfile.txt\nsrc\n");
    attempt.sandbox.kill().await;
    assert_eq!(lower.iter().map(|layer| picture(layer)).collect::<Vec<_>>(), before);
    assert_eq!(world.attempt(3).await.sh("cat file.txt src/lib.txt; ls").await, "one\ntwo\nfile.txt\nsrc\n");
}

#[tokio::test]
async fn a_layer_is_written_directly() {
    no_layer_changes("open('file.txt', 'w').write('x'); import shutil; shutil.rmtree('src'); print('changed')").await;
}

#[tokio::test]
async fn a_layer_is_written_through_a_hard_link() {
    no_layer_changes(
        "import os; os.link('file.txt', 'link'); open('link', 'a').write('x'); os.link('link', 'src/again'); \
         open('src/again', 'a').write('y'); assert open('file.txt').read() == 'one\\nxy'; print('changed')",
    )
    .await;
}

#[tokio::test]
async fn a_layer_is_written_through_a_mapping() {
    no_layer_changes(
        r"
import ctypes, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
early = os.open('file.txt', os.O_RDONLY)
page = mmap.mmap(early, 0, mmap.MAP_SHARED, mmap.PROT_READ)
for line in open('/proc/self/maps'):
    if line.rstrip().endswith('file.txt'): at = ctypes.c_void_p(int(line.split('-')[0], 16))
assert libc.mprotect(at, 4096, 3) != 0
try: mmap.mmap(early, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
except PermissionError: pass
late = os.open('file.txt', os.O_RDWR)
mmap.mmap(late, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)[:3] = b'AAA'
again = os.open(f'/proc/self/fd/{early}', os.O_RDWR); os.write(again, b'BBB'); os.ftruncate(again, 1)
print('changed')",
    )
    .await;
}

#[tokio::test]
async fn a_layer_is_written_through_a_descriptor_from_before_the_copy() {
    no_layer_changes(
        r"
import fcntl, os
early = os.open('file.txt', os.O_RDONLY)
open('file.txt', 'a').write('x')
for flags in [os.O_RDWR, os.O_WRONLY | os.O_TRUNC]:
    os.write(os.open(f'/proc/self/fd/{early}', flags), b'y')
for call in [lambda: os.fchmod(early, 0o777), lambda: os.utime(early, (1, 1)), lambda: os.ftruncate(early, 0), lambda: os.setxattr(early, 'user.x', b'y'),
             lambda: fcntl.ioctl(early, 0x40086602, b'\x10\0\0\0\0\0\0\0'), lambda: fcntl.ioctl(early, 0x40049409, os.open('src/lib.txt', 0))]:
    try: call()
    except OSError: pass
print('changed')",
    )
    .await;
}

#[tokio::test]
async fn a_layer_is_written_through_a_bind_of_a_bind() {
    no_layer_changes(
        r"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
os.mkdir('/tmp/bind')
for flags in [4096, 4096 | 16384, 4096 | 32, 32, 0]:
    assert libc.mount(b'/workspace', b'/tmp/bind', None, flags, None) != 0
    assert libc.mount(b'overlay', b'/tmp/bind', b'overlay', 0, b'lowerdir=/workspace,upperdir=/tmp,workdir=/tmp') != 0
for call in [428, 429, 442, 467]:
    assert libc.syscall(call, -100, b'/workspace', 1, 0, 0) < 0
os.rename('src', 'moved') if not os.system('mv src moved2 && mv moved2 src') is None else None
open('moved/lib.txt', 'w').write('x'); print('changed')",
    )
    .await;
}

#[tokio::test]
async fn marks_of_the_overlay_are_forged() {
    no_layer_changes(
        r"
import os
for name in ['user.overlay.redirect', 'user.overlay.opaque', 'user.overlay.metacopy', 'user.overlay.origin', 'user.overlay.overlay.opaque', 'trusted.overlay.redirect', 'trusted.overlay.opaque']:
    for value in [b'y', b'x', b'/../../../..', b'../../..']:
        for path in ['src', 'file.txt', '.']:
            try: os.setxattr(path, name, value)
            except OSError: pass
for kind in [0o020000, 0o060000]:
    try: os.mknod('forged', kind, 0)
    except OSError: pass
assert not os.path.lexists('forged')
os.mkdir('made')
for path in ['src', 'made']: open(path + '/new', 'w').write('x')
print('changed')",
    )
    .await;
}

#[tokio::test]
async fn a_layer_is_given_other_owners_modes_and_times() {
    no_layer_changes(
        r"
import os
for call in [lambda: os.chmod('file.txt', 0o6777), lambda: os.utime('file.txt', (1, 1)), lambda: os.setxattr('file.txt', 'user.x', b'y'),
             lambda: os.chown('file.txt', 1, 1), lambda: os.setxattr('file.txt', 'security.capability', b'\0' * 20),
             lambda: os.chmod('src', 0), lambda: os.chmod('.', 0o777)]:
    try: call()
    except OSError: pass
os.chmod('src', 0o700)
print('changed')",
    )
    .await;
}

#[tokio::test]
async fn the_directories_behind_the_workspace_are_reached() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    let Some(lower) = lower(&world, &attempt) else { return };
    let tell = "grep -E ' (/workspace|/home/agent) ' /proc/self/mountinfo";
    // A look at where the directories are may succeed; the way there must not.
    attempt.sh(tell).await;
    for directory in lower.iter().chain([&attempt.upper()]) {
        let script =
            format!("ls {0}; echo x > {0}/escape; cat /proc/*/root{0}/file.txt; echo tried", directory.display());
        let printed = attempt.sh(&script).await;
        assert!(
            !printed.contains("file.txt\n") && !printed.contains("one\n") && printed.ends_with("tried\n"),
            "{printed}"
        );
        assert!(!directory.join("escape").exists());
    }
}

#[tokio::test]
async fn another_attempts_workspace_is_read_and_written() {
    let world = World::new().await;
    let (attempt, other) = (world.attempt(1).await, world.attempt(2).await);
    let canary = &format!("other-{}", world.canary);
    other.sh(&format!("for f in /workspace/x ~/x /tmp/x /dev/shm/x /run/x; do echo {canary} > $f; done")).await;
    assert_eq!(other.sh(&format!("cat /workspace/x ~/x /tmp/x /dev/shm/x /run/x | grep -c {canary}")).await, "5\n");
    let upper = other.upper().display().to_string();
    let script = format!(
        "cat {upper}/x; echo x > {upper}/escape; grep -rs {canary} /workspace ~ /tmp /dev/shm /run /opt /home | head -c 100; echo tried"
    );
    assert!(world.plain().await.sh(&script).await.contains(canary), "the script finds it where it can");
    let printed = attempt.sh(&script).await;
    assert!(!printed.contains(&format!("{canary}\n")) && printed.ends_with("tried\n"), "{printed}");
    assert_eq!(holding(&attempt.upper(), std::slice::from_ref(canary)).len(), 0);
}

#[tokio::test]
async fn history_that_the_base_does_not_have_is_read() {
    let world = World::new().await;
    let repository = world.repository();
    git(&repository, &["checkout", "-q", "-b", "secret"]);
    let canary = &world.canary;
    write(&repository.join("plan.txt"), canary);
    git(&repository, &["add", "-A"]);
    git(&repository, &["commit", "-q", "-m", "Secret"]);
    let commit = git(&repository, &["rev-parse", "HEAD"]).trim().to_owned();
    // Known to the store, as a task may work on it.
    world.attempt(2).await.sh("true").await;
    git(&repository, &["checkout", "-q", "main"]);
    let attempt = world.attempt(1).await;
    let script = format!(
        "git cat-file -p {commit}; git show {commit}:plan.txt; git log --all --oneline; git fsck --lost-found; git branch -a; echo tried"
    );
    assert!(world.attempt(2).await.sh(&script).await.contains(canary), "its own attempt has it");
    let printed = attempt.sh(&script).await;
    assert!(!printed.contains(canary) && !printed.contains("Secret") && printed.ends_with("tried\n"), "{printed}");
}

#[tokio::test]
async fn the_base_store_is_written() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    let shown: Vec<_> = attempt.place.readable.iter().map(|path| path.display().to_string()).collect();
    assert!(!shown.is_empty());
    let before: Vec<_> = attempt.place.readable.iter().map(|path| picture(path)).collect();
    let script = format!(
        "for d in {}; do find $d | head -n 1; for f in $(find $d); do echo x >> $f; chmod 777 $f; rm -f $f; mv $f $f.x; ln $f /workspace/l; \
         touch $f/new; done; done 2>/dev/null; git gc -q 2>/dev/null; git repack -adfq 2>/dev/null; git prune; git commit -qam x --allow-empty; \
         git log --oneline | wc -l",
        shown.join(" ")
    );
    let printed = attempt.sh(&script).await;
    assert!(printed.starts_with(shown[0].as_str()) && printed.ends_with("2\n"), "{printed}");
    assert_eq!(attempt.place.readable.iter().map(|path| picture(path)).collect::<Vec<_>>(), before);
    assert_eq!(world.attempt(2).await.sh("git fsck --full 2>&1; git log --format=%s").await, "First\n");
}

#[tokio::test]
async fn the_private_store_is_read() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    attempt.sh("echo two >> file.txt").await;
    attempt.snapshot().await.unwrap();
    let store = attempt.store();
    assert!(store.join("HEAD").exists());
    let script = format!("ls {0}; git --git-dir={0} for-each-ref; cat {0}/HEAD; echo tried", store.display());
    let printed = attempt.sh(&script).await;
    assert!(!printed.contains("refs/") && printed.ends_with("tried\n"), "{printed}");
}

#[tokio::test]
async fn an_environment_is_poisoned_for_those_who_come_later() {
    let world = World::of(&[
        ("overnight.toml", "[environment]\ninstall = 'mkdir deps && echo good > deps/tool && echo good > ~/tool'\n"),
        (".gitignore", "deps/\n"),
    ])
    .await;
    let built = world.build().await.unwrap();
    let environment: Option<EnvironmentId> = built.used.layer;
    let surroundings = || Surroundings { environment: environment.clone(), confinement: Confinement::Confined };
    let poison = "echo evil > deps/tool; echo evil > ~/tool; echo evil > deps/new; rm -rf deps/*; ln -s /etc deps/etc; cat ~/tool";
    assert_eq!(world.attempt_over(1, surroundings()).await.sh(poison).await, "evil\n");
    let printed = world.attempt_over(2, surroundings()).await.sh("cat deps/tool ~/tool; ls deps").await;
    assert_eq!(printed, "good\ngood\ntool\n");
}

#[tokio::test]
async fn a_program_of_a_layer_has_its_owners_power() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    let script = "for d in . ~ /tmp /dev/shm /run; do cp /usr/bin/id $d/id && chmod 6755 $d/id; $d/id -u; done; grep -E 'NoNewPrivs|CapEff' /proc/self/status";
    let printed = attempt.sh(script).await;
    let me = rustix::process::geteuid().as_raw();
    assert!(printed.lines().take(5).all(|line| line == me.to_string()), "{printed}");
    assert!(printed.contains("NoNewPrivs:\t1") && printed.contains("CapEff:\t0000000000000000"), "{printed}");
    // On the host it lies where nobody else gets.
    let above = attempt.upper();
    let shut = above
        .ancestors()
        .take_while(|path| path.starts_with(world.home()))
        .any(|path| fs::metadata(path).unwrap().permissions().mode() & 0o077 == 0);
    assert!(shut, "{}", above.display());
}
