//! Hosts that are open for reading only, with real git.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use bytes::Bytes;
use hyper::{Response, http::request::Parts};

use crate::{clients::run, stage::Stage};

fn git(directory: &Path, words: &[&str]) {
    let output = Command::new("git")
        .args(words)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs([
            ("GIT_AUTHOR_NAME", "a"),
            ("GIT_AUTHOR_EMAIL", "a@b"),
            ("GIT_COMMITTER_NAME", "a"),
            ("GIT_COMMITTER_EMAIL", "a@b"),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Answers as a forge does, by git's own server.
fn backend(root: &Path, parts: &Parts, body: &Bytes) -> Response<Vec<Bytes>> {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("REMOTE_USER", "someone")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let split = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..split]).lines() {
        let (name, value) = line.split_once(':').unwrap();
        response = match name {
            "Status" => response.status(&value.trim()[..3]),
            _ => response.header(name, value.trim()),
        };
    }
    response.body(vec![Bytes::copy_from_slice(&output[split + 4..])]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_and_cannot_push() {
    let stage = Stage::new();
    let root = stage.directory.path().join("forge");
    std::fs::create_dir(&root).unwrap();
    git(&root, &["init", "-q", "-b", "main", "seed"]);
    git(&root.join("seed"), &["commit", "-q", "--allow-empty", "-m", "first"]);
    git(&root, &["clone", "-q", "--bare", "seed", "o.git"]);
    git(&root.join("o.git"), &["config", "http.receivepack", "true"]);
    let served = root.clone();
    let server = stage.secure("forge.site.test", move |parts, body| backend(&served, parts, body)).await;

    let work = stage.directory.path().join("work");
    std::fs::create_dir(&work).unwrap();
    let gate = stage.gate(&["forge.site.test fetch"], &[]);
    let (good, told) = run(&gate, &work, &["git", "clone", "-q", "https://forge.site.test/o.git", "."]).await;
    assert!(good, "{told}");
    git(&work, &["commit", "-q", "--allow-empty", "-m", "second"]);
    let before = server.seen().len();
    let (good, told) = run(&gate, &work, &["git", "push", "origin", "main"]).await;
    assert!(!good && told.contains("403"), "{told}");
    assert_eq!(
        stage.refusals().pop(),
        Some(("forge.site.test:443 pushing by git is not allowed".to_owned(), Some("forge.site.test".to_owned())))
    );
    assert_eq!(server.seen().len(), before, "nothing of it was let through");

    // The same with the whole host allowed: it was the gate that stopped it.
    let open = stage.gate(&["forge.site.test"], &[("forge.site.test", "X-Token", "a token of the forge")]);
    let (good, told) = run(&open, &work, &["git", "push", "-q", "origin", "main"]).await;
    assert!(good, "{told}");
    assert_eq!(server.header("x-token").as_deref(), Some("a token of the forge"));
}
