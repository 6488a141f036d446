//! The whole suite once more, as an ordinary user.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

/// Nobody's number.
const USER: &str = "54321";

#[test]
fn everything_is_tried_by_an_ordinary_user_too() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: this is an ordinary user already");
        return;
    }
    let directory = tempfile::Builder::new().prefix("overnight-ordinary-").tempdir().unwrap();
    let below = |name: &str| directory.path().join(name);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Where they were built, others may not look.
    fs::copy(std::env::current_exe().unwrap(), below("escape")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_overnight"), below("overnight")).unwrap();
    fs::create_dir(below("home")).unwrap();
    let number = USER.parse().ok();
    std::os::unix::fs::chown(below("home"), number, number).unwrap();
    let mut suite = Command::new("setpriv");
    suite
        .args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"])
        .arg(below("escape"))
        .arg("--test-threads=4");
    suite.current_dir(below("home")).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    suite.env("HOME", below("home")).env("TMPDIR", below("home")).env("ESCAPE_PROGRAM", below("overnight"));
    let output = suite.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "as an ordinary user:\n{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("test result: ok"), "{told}");
}
