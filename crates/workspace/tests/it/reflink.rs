//! The rung of copies that share their blocks: the tests of workspaces again, on file systems that can do so.
//!
//! Each is made in a file and mounted in a namespace of its own, which goes, with the mount, when its last process does.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use domain::ids::{AttemptKey, AttemptNo, TaskId};
use tempfile::TempDir;
use workspace::Rung;

use crate::ground::{Ground, Plain, write};

/// Tests, by what their names begin with, that take whatever rung the file system of the temporary directory has.
const AGAIN: [&str; 4] = ["work::a_", "changes::whatever", "environment::what_is", "reflink::copies_share"];
const IMAGE_BYTES: u64 = 512 << 20;

/// Set where these tests run again: then the file system is known to share blocks.
const INNER: &str = "OVERNIGHT_TEST_REFLINK";

/// Whether this is such a run.
pub fn is_inner() -> bool {
    std::env::var_os(INNER).is_some()
}

#[test]
fn workspaces_are_the_same_on_file_systems_that_share_blocks() {
    if is_inner() {
        return;
    }
    for (name, arguments) in [("btrfs", &["-q", "-f"][..]), ("xfs", &["-q", "-f", "-m", "reflink=1"])] {
        let place = TempDir::new().unwrap();
        let image = place.path().join("image");
        File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        if let Err(why) = make(name, arguments, &image) {
            eprintln!("SKIPPED: nothing is tried on {name}: {why}");
            continue;
        }
        let at = place.path().join("mounted");
        fs::create_dir(&at).unwrap();
        let script = "mount -o loop \"$0\" \"$1\" || exit; export TMPDIR=\"$1\"; shift; exec \"$@\"";
        let output = Command::new("unshare")
            .args(["--mount", "--propagation=private", "sh", "-c", script])
            .args([&image, &at, &std::env::current_exe().unwrap()])
            .args(AGAIN)
            .env(INNER, "1")
            .output()
            .unwrap();
        let (text, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // Neither the mount nor, where there may be no namespaces, anything was made.
        if !output.status.success() && text.is_empty() {
            eprintln!("SKIPPED: nothing is tried on {name}: {told}");
            continue;
        }
        assert!(output.status.success(), "on {name}: {text}\n{told}");
        assert!(text.contains("reflink::copies_share_their_blocks ... ok"), "on {name}: {text}");
    }
}

/// The reason, where it cannot be made.
fn make(name: &str, arguments: &[&str], image: &Path) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut maker = Command::new("sh");
    maker.env("PATH", path).args(["-c", "exec \"mkfs.$0\" \"$@\"", name]).args(arguments).arg(image);
    let output = maker.output().map_err(|error| error.to_string())?;
    let told = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    if output.status.success() { Ok(()) } else { Err(told) }
}

#[tokio::test]
async fn copies_share_their_blocks() {
    if !is_inner() {
        return;
    }
    assert_eq!(Rung::probe_copy(&std::env::temp_dir()), Rung::Reflink);
    let ground = Ground::new();
    let large: Vec<u8> = (0..4_u32 << 20).flat_map(u32::to_le_bytes).collect();
    write(&ground.repo, "large", &large);
    ground.commit("b.txt", "b\n");
    let origin = ground.resolve().await;
    ground.prepare(&origin).await;
    let free = || rustix::fs::statvfs(ground.dir.path()).map(|stat| stat.f_bavail * stat.f_frsize).unwrap();
    let sync = || rustix::fs::syncfs(File::open(ground.dir.path()).unwrap()).unwrap();
    sync();
    let before = free();
    for task in 100..110 {
        let key = AttemptKey { task: TaskId(task), attempt: AttemptNo(1) };
        let made = Plain::new(ground.prepare_as(key, &origin, None).await);
        assert_eq!(fs::read(made.root.join("large")).unwrap(), large);
    }
    sync();
    let taken = before.saturating_sub(free());
    assert!(taken < large.len() as u64, "ten copies took {taken} bytes");
}
