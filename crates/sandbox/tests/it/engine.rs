//! A container engine for the tests: Podman, run for them alone, with an image that has one static program and no C library.

use std::{
    env, fs,
    os::unix::{fs::symlink, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::host::state;

pub const IMAGE: &str = "localhost/overnight-test:1";
/// What the image's one program can be.
const APPLETS: [&str; 22] = [
    "sh", "cat", "chmod", "dd", "echo", "env", "false", "grep", "head", "id", "kill", "ls", "mkdir", "mknod", "nc",
    "rm", "seq", "setsid", "sleep", "tail", "touch", "true",
];

/// The path of its socket. `None`, told loudly, where there is none to be had.
pub fn engine() -> Option<&'static Path> {
    static ENGINE: OnceLock<Option<PathBuf>> = OnceLock::new();
    ENGINE
        .get_or_init(|| match start() {
            Ok(socket) => Some(socket),
            Err(why) => {
                eprintln!("SKIPPED: sandboxes in containers were not tried: {why}");
                None
            }
        })
        .as_deref()
}

/// Kept between runs: the image is made once, and the service ends by itself when nobody has asked for a while.
fn start() -> Result<PathBuf, String> {
    let busybox = find("busybox").ok_or("needs a static busybox in the PATH")?;
    find("podman").ok_or("needs podman in the PATH")?;
    let place = state().join("podman");
    fs::create_dir_all(&place).unwrap();
    let socket = place.join("socket");
    if UnixStream::connect(&socket).is_err() {
        serve(&place, &socket)?;
    }
    if !podman(&place).args(["image", "exists", IMAGE]).status().unwrap().success() {
        import(&place, &busybox)?;
    }
    Ok(socket)
}

#[expect(clippy::zombie_processes, reason = "it outlives the tests, until nobody asks it for a while")]
fn serve(place: &Path, socket: &Path) -> Result<(), String> {
    let log = fs::File::create(place.join("log")).unwrap();
    let mut service = podman(place)
        .args(["system", "service", "--time=60", &format!("unix://{}", socket.display())])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    while UnixStream::connect(socket).is_err() {
        if let Some(status) = service.try_wait().unwrap() {
            let log = fs::read_to_string(place.join("log")).unwrap();
            return Err(format!("podman's service ended with {status}: {log}"));
        }
        std::thread::yield_now();
    }
    Ok(())
}

fn import(place: &Path, busybox: &Path) -> Result<(), String> {
    let root = place.join("image");
    // A trial before this one may have been cut off.
    drop(fs::remove_dir_all(&root));
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir(root.join("etc")).unwrap();
    fs::write(root.join("etc/of-the-image"), "yes\n").unwrap();
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let tar = place.join("image.tar");
    let packed = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status().unwrap();
    assert!(packed.success());
    let change = ["--change", "ENV PATH=/bin", "--change", "ENV OF_THE_IMAGE=yes"];
    let imported = podman(place).arg("import").args(change).arg(&tar).arg(IMAGE).output().unwrap();
    match imported.status.success() {
        true => Ok(()),
        false => Err(format!("podman cannot import an image: {}", String::from_utf8_lossy(&imported.stderr))),
    }
}

fn podman(place: &Path) -> Command {
    let configuration = place.join("containers.conf");
    // Podman's own defaults are more than a machine's root may have that is shut in itself.
    fs::write(&configuration, "[containers]\ndefault_ulimits = [\"nofile=8192:8192\", \"nproc=8192:8192\"]\n").unwrap();
    let mut podman = Command::new("podman");
    podman.arg("--root").arg(place.join("storage")).arg("--runroot").arg(place.join("run"));
    // Where both are there: crun does not know mixed versions of control groups.
    if find("runc").is_some() {
        podman.args(["--runtime", "runc"]);
    }
    // What its own parts leave behind is not left here.
    podman.env("CONTAINERS_CONF", configuration).current_dir(place);
    podman
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(program)).find(|program| program.is_file())
}
