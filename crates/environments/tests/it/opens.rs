//! Sandboxes as a definition furnishes them.

use std::io::{Read as _, Write as _};

use domain::{
    FaultClass,
    environment::Stage,
    ports::{
        environments::{Environments as _, OpenRequest, Purpose},
        sandbox::{Exit, Sandboxes as _},
    },
};

use crate::{
    registry::HOST,
    world::{LONG, World, fetch, program, run},
};

#[tokio::test]
async fn variables_and_the_network_of_each_purpose() {
    let text = format!(
        "[environment]\nnetwork = ['{HOST}']\nvariables = {{ MODE = 'test', LAST = 'first' }}\n[checks]\nnetwork = ['checks.test']"
    );
    let world = World::of(&[("overnight.toml", &text)]).await;
    let (turn, refused) = world.open(None, Purpose::Turn).await;
    assert!(turn.notes.is_empty());
    assert!(turn.sandbox.running().is_empty(), "nothing was started");
    assert_eq!(run(&*turn.sandbox, "echo $MODE $LAST").await.0, "test added\n");
    assert_eq!(run(&*turn.sandbox, &fetch("x")).await, ("package\n".to_owned(), Exit::Code(0)));
    let other = fetch("x").replace(HOST, "checks.test");
    assert_ne!(run(&*turn.sandbox, &other).await.1, Exit::Code(0));
    {
        let refused = refused.lock().unwrap();
        assert_eq!((refused[0].host.as_str(), refused[0].entry.as_deref()), ("checks.test", Some("checks.test")));
        assert!(refused[0].by.as_ref().unwrap().starts_with("curl --silent"), "{refused:?}");
    }
    turn.sandbox.kill().await;

    let (check, _) = world.open(None, Purpose::Check).await;
    assert_eq!(run(&*check.sandbox, &other).await.1, Exit::Code(0));
    assert_ne!(run(&*check.sandbox, &fetch("x")).await.1, Exit::Code(0));
}

#[tokio::test]
async fn programs_are_seen_beside_the_path_and_hosts_are_added() {
    let text = "[environment]\nvariables = { PATH = '/workspace/bin' }";
    let world = World::of(&[("overnight.toml", text), ("bin/given", "")]).await;
    let programs = tempfile::tempdir().unwrap();
    // As npm lays programs out; another is its neighbour by a link.
    let script = "#!/bin/sh\necho $(basename $0) of $(cd $(dirname $(readlink -f $0)) && pwd)\n";
    program(&programs.path().join("node_modules/pkg/cli"), script);
    std::fs::create_dir_all(programs.path().join("node_modules/.bin")).unwrap();
    std::os::unix::fs::symlink("../pkg/cli", programs.path().join("node_modules/.bin/given")).unwrap();
    program(&programs.path().join("bin/sh-too"), script);
    let (request, _) = world.opening(None, Purpose::Turn).await;
    let link = world.user().join("current");
    std::os::unix::fs::symlink(programs.path(), &link).unwrap();
    let request = OpenRequest { programs: vec![link], allow: vec![HOST.to_owned()], ..request };
    let opened = world.environments.open(request).await.unwrap();
    let real = std::fs::canonicalize(programs.path()).unwrap();
    let expected = format!("given of {0}/node_modules/pkg\nsh-too of {0}/bin\n", real.display());
    let by_path = format!("{0}/node_modules/.bin/given; {0}/bin/sh-too", real.display());
    assert_eq!(run(&*opened.sandbox, &by_path).await.0, expected);
    let written = format!("touch {}/new", real.display());
    assert_ne!(run(&*opened.sandbox, &written).await.1, Exit::Code(0));
    // What the repository's commands find is the repository's affair.
    assert!(run(&*opened.sandbox, "echo $PATH").await.0.starts_with("/workspace/bin:"));
    assert_eq!(run(&*opened.sandbox, &fetch("x")).await, ("package\n".to_owned(), Exit::Code(0)));

    let (request, _) = world.opening(None, Purpose::Turn).await;
    let request = OpenRequest { programs: vec![world.user().join("missing")], ..request };
    let fault = world.environments.open(request).await.unwrap_err();
    assert!(fault.class == FaultClass::Environment && fault.what.contains("/missing"), "{fault}");
}

#[tokio::test]
async fn services_are_ready_and_those_that_are_not_are_told() {
    let text = "
[[environment.service]]
name = 'web'
command = 'exec python3 -m http.server 8000'
ready = { http = 'http://localhost:8000/' }
[[environment.service]]
name = 'echo'
command = 'echo warming up; echo no such database >&2; exit 4'
ready = { port = 9000 }
[[environment.service]]
name = 'slow'
command = 'echo still thinking; sleep 1000'
ready = { command = 'test -e never' }
ready_within = '1s'
[[environment.service]]
name = 'absent'
command = 'no-such-program'
";
    let world = World::of(&[("overnight.toml", &format!("[environment]\n{text}")), ("page", "hello\n")]).await;
    let (opened, _) = world.open(None, Purpose::Turn).await;
    let [ended, slow, absent] = &opened.notes[..] else { panic!("{:#?}", opened.notes) };
    assert!(
        ended.contains("The service echo") && ended.contains("ended with exit code 4 before it was ready"),
        "{ended}"
    );
    assert!(ended.ends_with("Its last words:\nwarming up\nno such database"), "{ended}");
    assert!(slow.contains("was not ready within 1 s: `test -e never` ended with exit code 1"), "{slow}");
    assert!(slow.ends_with("still thinking"), "{slow}");
    assert!(absent.contains("ended at once with exit code 127 (a program was not found)"), "{absent}");

    let mut stream = opened.sandbox.connect(8000).await.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("hello\n"), "{answer}");
    assert!(opened.sandbox.running().iter().any(|line| line.contains("http.server")), "{:?}", opened.sandbox.running());
    opened.sandbox.kill().await;
    assert!(opened.sandbox.running().is_empty());
}

#[tokio::test]
async fn a_service_is_ready_by_its_status_though_it_keeps_the_connection() {
    const CODE: &str = "
import socket
server = socket.create_server(('127.0.0.1', 8000))
kept = []
while True:
    connection, _ = server.accept()
    connection.sendall(b'HTTP/1.1 204 ok\\r\\n\\r\\n')
    kept.append(connection)
";
    let text = "[[environment.service]]\nname = 'terse'\ncommand = 'exec python3 terse.py'\nready_within = '1s'\n\
                ready = { http = 'http://localhost:8000/' }";
    let world = World::of(&[("overnight.toml", text), ("terse.py", CODE)]).await;
    let (opened, _) = world.open(None, Purpose::Turn).await;
    assert!(opened.notes.is_empty(), "{:?}", opened.notes);
    opened.sandbox.kill().await;
}

#[tokio::test]
async fn nothing_outlives_a_sandbox_that_is_dropped() {
    let text = "[[environment.service]]\nname = 'a'\ncommand = 'setsid sleep 1000 & sleep 1000'";
    let world = World::of(&[("overnight.toml", &format!("[environment]\n{text}"))]).await;
    let (repository, base) = world.origin().await;
    let place = world.place(None).await;
    let lock = place.lock.clone();
    let opened = world.environments.open(OpenRequest {
        repository,
        base,
        place,
        purpose: Purpose::Turn,
        confinement: world.confinement,
        programs: Vec::new(),
        allow: Vec::new(),
        env: Vec::new(),
        bridges: Vec::new(),
        refused: std::sync::Arc::new(|_| {}),
        output_bytes: 1 << 20,
    });
    let opened = opened.await.unwrap();
    assert_eq!((opened.notes.len(), opened.sandbox.running().len()), (0, 1));
    drop(opened);
    world.sandboxes.ensure_dead(lock, LONG).await.unwrap();
}

#[tokio::test]
async fn secrets_for_the_proxy_never_enter_and_missing_ones_are_told() {
    let text = "[environment.secrets]\nAPI = { proxy = 'api.test' }\nMORE = { proxy = 'more.test' }\nNPM = 'install'\n";
    let world = World::of(&[("overnight.toml", text)]).await;
    world.secret("API", "v3ry-s3cret", Stage::Staging).await;
    let (opened, _) = world.open(None, Purpose::Turn).await;
    let notes = opened.notes.join("\n");
    assert!(notes.contains("The secret MORE is not set: `overnight secret set MORE`."), "{notes}");
    assert!(!notes.contains("API"), "{notes}");
    let (seen, _) = run(&*opened.sandbox, "env; echo v3ry-s3cret; echo djNyeS1zM2NyZXQ=").await;
    assert!(
        seen.contains("[API redacted]") && !seen.contains("v3ry-s3cret") && !seen.contains("djNyeS1zM2NyZXQ"),
        "{seen}"
    );
    opened.sandbox.kill().await;

    // A new value is known at once.
    let (repository, _) = world.origin().await;
    let before = world.environments.redactor(repository.clone()).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&before, &world.environments.redactor(repository.clone()).await.unwrap()));
    world.secret("LATER", "an0ther-s3cret", Stage::Production).await;
    let after = world.environments.redactor(repository).await.unwrap();
    assert_eq!(after.redact_text("an0ther-s3cret v3ry-s3cret").unwrap(), "[LATER redacted] [API redacted]");
}

#[tokio::test]
async fn a_definition_that_cannot_be_read_opens_nothing() {
    let world = World::of(&[("overnight.toml", "[environment")]).await;
    let (repository, base) = world.origin().await;
    let fault = world.environments.definition(repository, base).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Input);
}
