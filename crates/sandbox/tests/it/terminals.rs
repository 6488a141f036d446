//! Commands on a terminal: what a person's shell needs of one.

use std::{fs, io, time::Duration};

use bytes::Bytes;
use domain::{
    FaultClass,
    ports::sandbox::{Confinement, Exec, Exit, Sandbox, Terminal, WindowSize},
};

use crate::host::{BOTH, Place, alive, exec, mark, run, sh};

const SIZE: WindowSize = WindowSize { rows: 31, columns: 97 };

/// A person before a terminal.
struct Person {
    terminal: Box<dyn Terminal>,
    seen: String,
}

impl Person {
    async fn at(sandbox: &dyn Sandbox, exec: Exec) -> Self {
        Self { terminal: sandbox.terminal(exec, SIZE).await.unwrap(), seen: String::new() }
    }

    fn types(&self, text: &str) {
        let written = rustix::io::write(self.terminal.io().unwrap(), text.as_bytes()).unwrap();
        assert_eq!(written, text.len());
    }

    /// What is printed next; `None` once nobody can print any more.
    fn reads(&mut self) -> Option<()> {
        let mut buffer = [0; 4096];
        match rustix::io::read(self.terminal.io().unwrap(), &mut buffer) {
            Ok(length) if length > 0 => self.seen.push_str(&String::from_utf8_lossy(&buffer[..length])),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            ended => {
                assert_eq!(ended, Err(rustix::io::Errno::IO));
                return None;
            }
        }
        Some(())
    }

    /// Waits for it, and forgets all before it.
    async fn sees(&mut self, text: &str) {
        while !self.seen.contains(text) {
            assert!(self.reads().is_some(), "{text} never came: {}", self.seen);
            tokio::task::yield_now().await;
        }
        let (_, after) = self.seen.split_once(text).unwrap();
        self.seen = after.to_owned();
    }
}

fn bash() -> Exec {
    let env = vec![("PS1".to_owned(), "ready> ".to_owned())];
    Exec { env, ..exec(&["bash", "--norc", "--noprofile", "-i"]) }
}

/// The state of the process with this mark, as the kernel's letter for it.
fn state(mark: &str) -> Option<char> {
    let process = fs::read_dir("/proc").unwrap().flatten().find(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.starts_with(b"sleep\0") && String::from_utf8_lossy(&line).contains(mark)
    })?;
    let stat = fs::read_to_string(process.path().join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

async fn until(fact: impl Fn() -> bool) {
    while !fact() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_shell_has_a_terminal_of_its_own() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let mut person = Person::at(&*sandbox, bash()).await;
        person.sees("ready> ").await;
        assert!(!person.seen.contains("job control"), "{confinement:?} {}", person.seen);
        person.types("stty size; tty; echo $TERM; test -t 0 -a -t 1 -a -t 2 && echo thr''ee; echo own > /dev/tty\n");
        for expected in ["31 97\r\n/dev/pts/", "xterm-256color\r\n", "three\r\n", "own\r\n", "ready> "] {
            person.sees(expected).await;
        }
        assert_eq!(sandbox.running(), ["bash --norc --noprofile -i"]);
        person.types("exit 5\n");
        assert_eq!(person.terminal.wait().await, Exit::Code(5));
        while person.reads().is_some() {}
        assert_eq!(person.terminal.wait().await, Exit::Code(5));
        until(|| sandbox.running().is_empty()).await;
    }
}

#[tokio::test]
async fn jobs_are_stopped_continued_and_interrupted() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let mark = mark();
    let mut person = Person::at(&*sandbox, bash()).await;
    person.sees("ready> ").await;
    person.types(&format!("sleep {mark}\n"));
    until(|| state(&mark) == Some('S')).await;
    person.types("\x1a");
    person.sees("Stopped").await;
    person.sees("ready> ").await;
    assert_eq!(state(&mark), Some('T'));
    person.types("fg\n");
    until(|| state(&mark) == Some('S')).await;
    person.types("\x03");
    person.sees("ready> ").await;
    assert_eq!(alive(&mark), 0);
    person.types("echo it was $?\n");
    person.sees("it was 130").await;
}

#[tokio::test]
async fn a_new_size_is_told() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done";
        let mut person = Person::at(&*sandbox, sh(script)).await;
        person.sees("ready").await;
        person.terminal.resize(WindowSize { rows: 40, columns: 120 });
        person.sees("40 120").await;
        assert_eq!(person.terminal.wait().await, Exit::Code(0));
    }
}

#[tokio::test]
async fn nothing_outlives_a_terminal() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let mark = mark();
        let script = format!("trap '' HUP TERM INT; setsid sleep {mark} & sleep {mark} & echo ready; wait");
        let mut killed = Person::at(&*sandbox, sh(&script)).await;
        killed.sees("ready").await;
        until(|| alive(&mark) >= 3).await;
        killed.terminal.kill().await;
        assert_eq!(alive(&mark), 0, "{confinement:?}");
        let mut dropped = Person::at(&*sandbox, sh(&script)).await;
        dropped.sees("ready").await;
        drop(dropped);
        until(|| alive(&mark) == 0).await;
        let timeout = Duration::from_millis(50);
        let mut late = Person::at(&*sandbox, Exec { timeout, ..sh(&script) }).await;
        assert_eq!(late.terminal.wait().await, Exit::TimedOut);
        assert_eq!(run(&*sandbox, sh("echo still here")).await.1, "still here\n");
    }
}

#[tokio::test]
async fn a_terminal_shows_nothing_of_the_host() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let mut one = Person::at(&*sandbox, sh("tty; ls /dev/pts; echo; ps -o pid,sid,tpgid,comm; read line")).await;
    one.sees("/dev/pts/0\r\n0  ptmx\r\n").await;
    // Each sandbox has terminals of its own: the first is everybody's 0.
    let other = Place::new();
    let elsewhere = other.open(Confinement::Confined).await;
    Person::at(&*elsewhere, sh("tty; read line")).await.sees("/dev/pts/0\r\n").await;
    Person::at(&*sandbox, sh("tty; read line")).await.sees("/dev/pts/1\r\n").await;
}

#[tokio::test]
async fn what_cannot_be_on_a_terminal_is_refused() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let given = Exec { stdin: Bytes::from_static(b"x"), ..sh("cat") };
    for exec in [given, exec(&["no-such-shell"]), exec(&[]), Exec { cwd: Some("no/where".into()), ..sh("true") }] {
        let Err(fault) = sandbox.terminal(exec, SIZE).await else { panic!() };
        assert_eq!(fault.class, FaultClass::Input, "{fault}");
    }
}

#[tokio::test]
async fn its_descriptor_is_the_callers_own_and_does_not_block() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let terminal = sandbox.terminal(sh("read line"), SIZE).await.unwrap();
    let fd = terminal.io().unwrap();
    assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    let empty = io::Read::read(&mut fs::File::from(fd), &mut [0; 1]).unwrap_err();
    assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
}
