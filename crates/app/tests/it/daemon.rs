//! The daemon's life as the command line meets it.

use std::{fs, os::unix::net::UnixListener, process::Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Place, mode, read_until, spawn};

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn any_command_starts_one_daemon_and_stop_ends_it() {
    let place = Place::new();
    assert_eq!(place.on(&["daemon", "status"]).code, Some(1));
    assert!(!place.home.exists(), "asking changes nothing");

    let lists: Vec<_> = (0..4).map(|_| place.command(&["list"]).spawn().unwrap()).collect();
    for list in lists {
        assert!(list.wait_with_output().unwrap().status.success());
    }
    let pid = place.daemon().unwrap();
    assert_eq!(mode(&place.home), 0o700);
    assert_eq!(mode(&place.home.join("daemon.sock")), 0o600);
    assert_eq!(fs::read_to_string(place.home.join("daemon.log")).unwrap().matches(" ready ").count(), 1);

    let second = place.on(&["serve"]).refused();
    assert!(second.contains(&format!("process {pid}")) && second.contains("daemon stop"), "{second}");

    assert!(place.on(&["daemon", "stop"]).ok().contains(&pid.to_string()));
    assert_eq!(place.daemon(), None);
    assert!(!place.home.join("daemon.sock").exists());
    place.on(&["daemon", "stop"]).ok();
}

#[test]
fn a_daemon_in_the_foreground_ends_at_a_signal_and_keeps_no_keys() {
    let place = Place::new();
    let mut serve = place.command(&["serve"]);
    serve.env("ANTHROPIC_API_KEY", "sk-secret").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut serve = serve.spawn().unwrap();
    let mut said = std::io::BufReader::new(serve.stderr.take().unwrap());
    read_until(&mut said, " ready ");
    let environment = fs::read(format!("/proc/{}/environ", serve.id())).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("sk-secret"));

    signal(serve.id(), Signal::TERM);
    read_until(&mut said, "stopped");
    assert!(serve.wait().unwrap().success());
}

#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    let place = Place::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut serve = place.command(&["serve"]);
    let mut serve = serve.env("OVERNIGHT_LOG", "debug").stderr(full).stdout(Stdio::null()).spawn().unwrap();
    while place.daemon().is_none() && serve.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let id = place.run_shell("echo two >> file.txt", &["--check", "true"]);
    assert_eq!(place.show(&id)["verdict"], "green");
    assert_eq!(place.daemon(), Some(serve.id()));
    signal(serve.id(), Signal::TERM);
    assert!(serve.wait().unwrap().success());
}

#[test]
fn a_killed_daemon_is_started_again_and_its_task_goes_on() {
    let place = Place::new();
    let script = "test -e started && echo again >> file.txt || { touch started; echo '[PROGRESS] begun'; sleep 1000; }";
    let (mut run, mut out) =
        spawn(&mut place.command(&["run", "Outlive it", "--check", "true", "--wait", "--", "sh", "-c", script]));
    read_until(&mut out, "begun");
    signal(place.daemon().unwrap(), Signal::KILL);
    // The waiting command itself brings the daemon back; a program that was cut off is tried again.
    read_until(&mut out, "review");
    run.wait().unwrap();
}

#[test]
fn a_stopped_daemon_stays_stopped_under_a_follower() {
    let place = Place::new();
    let (mut follower, mut out) =
        spawn(&mut place.command(&["run", "Take long", "--check", "true", "--wait", "--", "sleep", "1000"]));
    read_until(&mut out, "agent at work");
    place.on(&["daemon", "stop"]).ok();
    assert_eq!(place.daemon(), None, "the follower has not started another one");
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert!(place.on(&["list"]).ok().contains("T-1"), "and the task is still there");
    place.on(&["cancel", "T-1"]).ok();
}

#[test]
fn interrupting_the_wait_leaves_the_task_alone() {
    let place = Place::new();
    let (run, mut out) =
        spawn(&mut place.command(&["run", "Take long", "--check", "true", "--wait", "--", "sleep", "1000"]));
    read_until(&mut out, "agent at work");
    signal(run.id(), Signal::INT);
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("T-1 goes on without you") && said.contains("logs -f T-1"), "{said}");
    assert_eq!(place.show("T-1")["phase"], "working");
    assert!(place.on(&["kill", "1", "--why", "enough"]).ok().contains("canceled by"));
}

#[test]
fn a_home_whose_path_is_too_long_for_a_socket_works_all_the_same() {
    let mut place = Place::new();
    place.home = place.directory.path().join("long-".repeat(30));
    place.on(&["list"]).ok();
    assert!(place.daemon().is_some());
    place.on(&["daemon", "stop"]).ok();
}

#[test]
fn a_daemon_of_another_version_is_named() {
    let place = Place::new();
    fs::create_dir(&place.home).unwrap();
    let listener = UnixListener::bind(place.home.join("daemon.sock")).unwrap();
    let daemon = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let count = stream.read(&mut [0; 1024]).unwrap();
        assert!(count > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nx-overnight-version: 99.0.0\r\ncontent-length: 2\r\n\r\n{}").unwrap();
    });
    let refused = place.on(&["list"]).refused();
    daemon.join().unwrap();
    assert!(refused.contains("99.0.0") && refused.contains("overnight daemon stop"), "{refused}");
}
