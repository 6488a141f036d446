//! Files of the workspace from the host's side, against links that lead out.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    sync::Arc,
};

use domain::{
    FaultClass,
    ports::sandbox::{Confinement, Sandbox},
};

use crate::host::{Place, exec, run};

async fn open() -> (Place, Arc<dyn Sandbox>) {
    let place = Place::new();
    fs::write(place.path().join("secret"), "canary").unwrap();
    fs::create_dir(place.path().join("outside")).unwrap();
    let sandbox = place.open(Confinement::Confined).await;
    (place, sandbox)
}

#[tokio::test]
async fn reads_parts_of_files() {
    let (place, sandbox) = open().await;
    fs::create_dir(place.root().join("dir")).unwrap();
    fs::write(place.root().join("dir/file"), "0123456789").unwrap();
    let files = sandbox.files().await.unwrap();
    for path in ["dir/file", "/workspace/dir/file", "./dir/../dir/file"] {
        assert_eq!(files.read(path, 0, 100).unwrap(), ("0123456789".into(), 10));
    }
    assert_eq!(files.read("dir/file", 3, 4).unwrap(), ("3456".into(), 10));
    assert_eq!(files.read("dir/file", 9, usize::MAX).unwrap(), ("9".into(), 10));
    assert_eq!(files.read("dir/file", 11, 4).unwrap(), ("".into(), 10));
}

#[tokio::test]
async fn what_is_no_file_is_refused() {
    let (place, sandbox) = open().await;
    fs::create_dir(place.root().join("dir")).unwrap();
    // Nobody writes to it: an open that waits would never return.
    run(&*sandbox, exec(&["mkfifo", "fifo"])).await;
    symlink("loop", place.root().join("loop")).unwrap();
    let files = sandbox.files().await.unwrap();
    for (path, class) in [
        ("missing", FaultClass::NotFound),
        ("dir/missing/file", FaultClass::NotFound),
        ("", FaultClass::Input),
        ("/workspace", FaultClass::Input),
        ("dir", FaultClass::Input),
        ("fifo", FaultClass::Input),
        ("loop", FaultClass::Input),
        ("nul\0", FaultClass::Input),
        ("/etc/passwd", FaultClass::Input),
        ("/workspaces/x", FaultClass::Input),
    ] {
        assert_eq!(files.read(path, 0, 10).unwrap_err().class, class, "{path:?}");
        if class == FaultClass::Input {
            assert_eq!(files.write(path, b"x").unwrap_err().class, class, "{path:?}");
        }
    }
    assert_eq!(files.write("dir/", b"x").unwrap_err().class, FaultClass::Input);
    assert_eq!(files.write("..", b"x").unwrap_err().class, FaultClass::Input);
}

#[tokio::test]
async fn no_link_leads_out() {
    let (place, sandbox) = open().await;
    let root = place.root();
    symlink(place.path().join("secret"), root.join("absolute")).unwrap();
    symlink("../secret", root.join("relative")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink(place.path(), root.join("away")).unwrap();
    symlink("/proc/self/cwd", root.join("magic")).unwrap();
    symlink("/dev/zero", root.join("device")).unwrap();
    let files = sandbox.files().await.unwrap();
    for path in ["absolute", "relative", "up/secret", "away/secret", "magic/Cargo.toml", "../secret", "device"] {
        let read = files.read(path, 0, 100);
        assert!(matches!(read, Err(ref fault) if fault.class == FaultClass::NotFound), "{path}: {read:?}");
    }
    for path in ["absolute", "relative", "up/secret", "../secret", "away/secret", "up/outside/new", "away/outside/new"]
    {
        // Some of these make a file inside, none reaches outside.
        let _ = files.write(path, b"overwritten");
    }
    assert_eq!(fs::read(place.path().join("secret")).unwrap(), b"canary");
    assert_eq!(fs::read_dir(place.path().join("outside")).unwrap().count(), 0);
}

#[tokio::test]
async fn writes_whole_files_and_their_directories() {
    let (place, sandbox) = open().await;
    let files = sandbox.files().await.unwrap();
    files.write("/workspace/a/b/c/new", b"one").unwrap();
    let new = place.root().join("a/b/c/new");
    assert_eq!(fs::read(&new).unwrap(), b"one");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o4751)).unwrap();
    files.write("a/b/c/new", b"two").unwrap();
    assert_eq!(fs::read(&new).unwrap(), b"two");
    assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o7777, 0o751);
    let names: Vec<_> = fs::read_dir(new.parent().unwrap()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["new"]);
}

#[tokio::test]
async fn a_link_inside_is_written_through() {
    let (place, sandbox) = open().await;
    fs::create_dir(place.root().join("real")).unwrap();
    fs::write(place.root().join("real/file"), "old").unwrap();
    symlink("real/file", place.root().join("link")).unwrap();
    symlink("real", place.root().join("directory")).unwrap();
    let files = sandbox.files().await.unwrap();
    files.write("link", b"new").unwrap();
    assert_eq!(fs::read(place.root().join("real/file")).unwrap(), b"new");
    assert!(fs::symlink_metadata(place.root().join("link")).unwrap().is_symlink());
    files.write("directory/other", b"x").unwrap();
    assert_eq!(fs::read(place.root().join("real/other")).unwrap(), b"x");
    files.write("directory/deep/er", b"x").unwrap();
    assert_eq!(fs::read(place.root().join("real/deep/er")).unwrap(), b"x");
}

#[tokio::test]
async fn unconfined_paths_are_the_same() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Unconfined).await;
    sandbox.files().await.unwrap().write("/workspace/x", b"x").unwrap();
    assert_eq!(run(&*sandbox, exec(&["cat", "x"])).await.1, "x");
}
