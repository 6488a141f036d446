//! Real clients, told of the gate by its variables only.

use std::path::Path;

use bytes::Bytes;
use tokio::process::Command;

use crate::stage::{Opened, Stage, text};

/// Runs a program with the gate's variables and nothing else of the environment; whether it succeeded, and what it printed.
pub async fn run(gate: &Opened, directory: &Path, words: &[&str]) -> (bool, String) {
    let output = Command::new(words[0])
        .args(&words[1..])
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", directory)
        .envs(gate.env())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&told).into_owned())
}

fn has(program: &str) -> bool {
    let found =
        std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|at| at.join(program).exists()));
    if !found {
        eprintln!("SKIPPED: there is no {program} on this machine");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_python_and_node_believe_the_gate() {
    let stage = Stage::new();
    let server = stage.secure("api.site.test", |parts, _| {
        let key = parts.headers.get("x-key").and_then(|key| key.to_str().ok()).unwrap_or("no key");
        text(&format!("answer to {key}"))
    });
    let server = server.await;
    let gate = stage.gate(&[], &[("api.site.test", "X-Key", "k3y-of-the-host")]);
    let home = stage.directory.path();
    // As strict as newer versions are by themselves.
    let python = "import ssl, urllib.request as r; c = ssl.create_default_context(); c.verify_flags |= ssl.VERIFY_X509_STRICT;\
        print(r.urlopen('https://api.site.test/', context=c).read().decode())";
    let node = "const http = require('http'), tls = require('tls'), proxy = new URL(process.env.HTTPS_PROXY);\
        http.request({host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: 'api.site.test:443'})\
        .on('connect', (_, socket) => { const s = tls.connect({socket, servername: 'api.site.test'}, () =>\
        s.end('GET / HTTP/1.1\\r\\nHost: api.site.test\\r\\nConnection: close\\r\\n\\r\\n')); s.pipe(process.stdout); }).end();";
    let mut asked = 0;
    for words in [&["curl", "-sS", "https://api.site.test/"][..], &["python3", "-c", python], &["node", "-e", node]] {
        if has(words[0]) {
            asked += 1;
            let (good, told) = run(&gate, home, words).await;
            assert!(good && told.contains("answer to [X-Key redacted]"), "{}: {told}", words[0]);
            assert_eq!(server.header("x-key").as_deref(), Some("k3y-of-the-host"));
        }
    }
    assert_eq!(server.seen().len(), asked);
    if has("curl") {
        let (good, told) = run(&gate, home, &["curl", "-sS", "https://elsewhere.example/"]).await;
        assert!(!good && told.contains("403"), "{told}");
        let (_, told) = run(&gate, home, &["curl", "-sS", "http://elsewhere.example/"]).await;
        assert!(told.contains("elsewhere.example:80 is refused: not on the allow-list"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_installs_from_an_allowed_registry() {
    if !has("npm") || !has("tar") {
        return;
    }
    let stage = Stage::new();
    let home = stage.directory.path();
    std::fs::create_dir(home.join("package")).unwrap();
    std::fs::write(home.join("package/package.json"), r#"{"name":"leaf","version":"1.0.0"}"#).unwrap();
    let packed =
        std::process::Command::new("tar").args(["czf", "leaf.tgz", "package"]).current_dir(home).status().unwrap();
    assert!(packed.success());
    let archive = Bytes::from(std::fs::read(home.join("leaf.tgz")).unwrap());
    let play = move |parts: &hyper::http::request::Parts, _: &Bytes| match parts.uri.path() {
        "/leaf" => text(
            r#"{"name":"leaf","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"leaf","version":"1.0.0",
            "dist":{"tarball":"https://npm.site.test/leaf/-/leaf-1.0.0.tgz"}}}}"#,
        ),
        "/leaf/-/leaf-1.0.0.tgz" => hyper::Response::new(vec![archive.clone()]),
        _ => hyper::Response::builder().status(404).body(vec![]).unwrap(),
    };
    let server = stage.secure("npm.site.test", play).await;
    let project = home.join("project");
    std::fs::create_dir(&project).unwrap();
    std::fs::write(project.join("package.json"), r#"{"name":"app","version":"1.0.0"}"#).unwrap();
    let gate = stage.gate(&["npm.site.test fetch"], &[]);
    let install = ["npm", "install", "--registry=https://npm.site.test/", "--no-audit", "--no-fund", "leaf"];
    let (good, told) = run(&gate, &project, &install).await;
    assert!(good, "{told}");
    assert!(project.join("node_modules/leaf/package.json").exists());
    assert!(server.seen().len() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn pip_installs_from_an_allowed_index() {
    if !has("python3") {
        return;
    }
    let stage = Stage::new();
    let home = stage.directory.path();
    let wheel = "import zipfile as z; w = z.ZipFile('leaf-1.0-py3-none-any.whl', 'w'); w.writestr('leaf.py', 'x = 1');\
        w.writestr('leaf-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: leaf\\nVersion: 1.0\\n');\
        w.writestr('leaf-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n');\
        w.writestr('leaf-1.0.dist-info/RECORD', ''); w.close()";
    let made = std::process::Command::new("python3").args(["-c", wheel]).current_dir(home).status().unwrap();
    assert!(made.success());
    let wheel = Bytes::from(std::fs::read(home.join("leaf-1.0-py3-none-any.whl")).unwrap());
    let play = move |parts: &hyper::http::request::Parts, _: &Bytes| match parts.uri.path() {
        "/simple/leaf/" => hyper::Response::builder()
            .header("content-type", "text/html")
            .body(vec![Bytes::from_static(b"<a href=\"/leaf-1.0-py3-none-any.whl\">leaf-1.0-py3-none-any.whl</a>")])
            .unwrap(),
        path if path.ends_with(".whl") => hyper::Response::new(vec![wheel.clone()]),
        _ => hyper::Response::builder().status(404).body(vec![]).unwrap(),
    };
    let _server = stage.secure("pypi.site.test", play).await;
    let gate = stage.gate(&["pypi.site.test fetch"], &[]);
    let target = home.join("installed");
    let install =
        ["python3", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-cache-dir", "--retries", "0"];
    let target = ["--index-url", "https://pypi.site.test/simple", "--target", target.to_str().unwrap(), "leaf"];
    let (good, told) = run(&gate, home, &[&install[..], &target].concat()).await;
    assert!(good, "{told}");
    assert!(home.join("installed/leaf.py").exists());
    let elsewhere = ["--index-url", "https://pypi.example/simple", "--target", "x", "leaf"];
    let (good, _) = run(&gate, home, &[&install[..], &elsewhere].concat()).await;
    assert!(!good);
    assert_eq!(stage.last_refusal(), "pypi.example:443 not on the allow-list");
}
