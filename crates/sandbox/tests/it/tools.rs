//! Compilers that live in the hidden home can be used, and their caches too.

use std::{fs, path::PathBuf};

use domain::ports::sandbox::{Confinement, Exit};

use crate::host::{Place, run, sh};

/// A crate in the machine's cargo cache, as name and version.
fn cached(name: &str) -> Option<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let indices = fs::read_dir(home.join("registry/cache")).ok()?.flatten();
    let mut files = indices.filter_map(|index| fs::read_dir(index.path()).ok()).flatten().flatten();
    files.find_map(|file| {
        let file = file.file_name().into_string().ok()?;
        file.strip_prefix(name)?.strip_prefix('-')?.strip_suffix(".crate").map(str::to_owned)
    })
}

#[tokio::test]
async fn cargo_builds_offline_with_the_hosts_cache() {
    let Some(version) = cached("itoa") else {
        eprintln!("SKIPPED: this machine's cargo cache has no itoa; `cargo fetch` in this repository brings it");
        return;
    };
    let place = Place::new();
    let root = place.root();
    fs::create_dir(root.join("src")).unwrap();
    let manifest =
        format!("[package]\nname = \"x\"\nedition = \"2021\"\n[dependencies]\nitoa = \"={version}\"\n[workspace]\n");
    fs::write(root.join("Cargo.toml"), manifest).unwrap();
    let code = "#[test]\nfn works() { assert_eq!(itoa::Buffer::new().format(7), \"7\") }\n";
    fs::write(root.join("src/lib.rs"), code).unwrap();
    let sandbox = place.open(Confinement::Confined).await;
    let (exit, printed) = run(&*sandbox, sh("cargo test --offline 2>&1")).await;
    assert_eq!(exit, Exit::Code(0), "{printed}");
    assert!(printed.contains("test works ... ok"), "{printed}");
    // What cargo unpacks or locks goes into the attempt's own layer.
    let (exit, printed) = run(&*sandbox, sh("echo x > ~/.cargo/registry/new && cat ~/.cargo/registry/new")).await;
    assert_eq!((exit, printed.as_str()), (Exit::Code(0), "x\n"));
}

#[tokio::test]
async fn interpreters_and_git_run() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    for (script, needed) in [
        ("python3 -c 'import ssl, json; print(1)'", "python3"),
        ("python3 -c \"import pty; pty.spawn(['echo', '1'])\"", "python3"),
        ("node -e 'console.log(1)'", "node"),
        (
            "git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git rev-list --count HEAD",
            "git",
        ),
        ("tar -C / -cf x.tar etc/passwd && tar -xf x.tar && echo 1", "tar"),
        ("bash -c 'cat <(echo 1)'", "bash"),
    ] {
        let there = std::process::Command::new("sh").args(["-c", &format!("command -v {needed}")]).output().unwrap();
        if !there.status.success() {
            eprintln!("SKIPPED: this machine has no {needed}");
            continue;
        }
        let (exit, printed) = run(&*sandbox, sh(script)).await;
        assert_eq!((exit, printed.lines().last()), (Exit::Code(0), Some("1")), "{script}: {printed}");
    }
}
