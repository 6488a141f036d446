//! A sandbox without walls: plain processes and files in a temporary directory.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use domain::{
    Fault,
    ports::{
        BoxFuture,
        sandbox::{Conversation, Entry, EntryKind, Exec, Exit, Files, Output, Process, Sandbox, Terminal, WindowSize},
    },
};
use tokio::io::AsyncReadExt;

use crate::scene::Record;

/// Plain processes in a directory.
pub struct Yard {
    pub root: PathBuf,
    pub home: PathBuf,
    pub path: OsString,
    pub record: Arc<Record>,
    pub without_bash: bool,
    pub spawned: Arc<AtomicU32>,
    /// How every command ends that runs to its end, instead of its own way.
    pub ends: Option<Exit>,
}

impl Yard {
    pub fn command(&self, exec: &Exec) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&exec.argv[0]);
        command
            .args(&exec.argv[1..])
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", &self.home)
            .envs(exec.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.root)
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

impl Sandbox for Yard {
    fn spawn(&self, exec: Exec) -> BoxFuture<'_, Result<Box<dyn Process>, Fault>> {
        Box::pin(async move {
            self.record.assert_durable();
            let number = self.spawned.fetch_add(1, Ordering::SeqCst);
            let (read, write) = std::io::pipe().map_err(|error| Fault::environment(error.to_string()))?;
            let mut command = self.command(&exec);
            command
                .stdin(if exec.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
                .stdout(write.try_clone().unwrap())
                .stderr(write);
            let buffer = Arc::new(Mutex::new(Vec::new()));
            let spill = self.home.join(format!("spill-{number}"));
            let mut live = Live {
                child: None,
                group: None,
                exit: None,
                ends: self.ends,
                reader: None,
                buffer,
                spill,
                deadline: None,
            };
            live.deadline = tokio::time::Instant::now().checked_add(exec.timeout);
            if self.without_bash && exec.argv[0] == "bash" {
                live.exit = Some(Exit::NotStarted);
                return Ok(Box::new(live) as Box<dyn Process>);
            }
            match command.spawn() {
                Ok(mut child) => {
                    if let Some(mut stdin) = child.stdin.take() {
                        let input = exec.stdin;
                        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut stdin, &input).await });
                    }
                    live.group = group(&child);
                    live.child = Some(child);
                    live.reader = Some(tokio::spawn(drain(read.into(), Arc::clone(&live.buffer))));
                }
                Err(_) => live.exit = Some(Exit::NotStarted),
            }
            drop(command);
            Ok(Box::new(live) as Box<dyn Process>)
        })
    }

    fn converse(&self, exec: Exec) -> BoxFuture<'_, Result<Conversation, Fault>> {
        Box::pin(async move {
            self.record.assert_durable();
            self.spawned.fetch_add(1, Ordering::SeqCst);
            self.talk(&exec)
        })
    }

    fn terminal(&self, _: Exec, _: WindowSize) -> BoxFuture<'_, Result<Box<dyn Terminal>, Fault>> {
        Box::pin(async { Err(Fault::bug("agents have no terminal")) })
    }

    fn files(&self) -> BoxFuture<'_, Result<Arc<dyn Files>, Fault>> {
        Box::pin(async { Ok(Arc::new(YardFiles(self.root.clone())) as Arc<dyn Files>) })
    }

    fn connect(&self, _: u16) -> BoxFuture<'_, Result<std::net::TcpStream, Fault>> {
        Box::pin(async { Err(Fault::bug("agents look at services from inside")) })
    }

    fn running(&self) -> Vec<String> {
        Vec::new()
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// The process group that a child leads.
fn group(child: &tokio::process::Child) -> Option<rustix::process::Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
}

async fn drain(pipe: std::os::fd::OwnedFd, buffer: Arc<Mutex<Vec<u8>>>) {
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(pipe).unwrap();
    let mut chunk = [0; 8192];
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        buffer.lock().unwrap().extend_from_slice(&chunk[..read]);
    }
}

pub struct Live {
    child: Option<tokio::process::Child>,
    /// Outlives its leader.
    group: Option<rustix::process::Pid>,
    exit: Option<Exit>,
    ends: Option<Exit>,
    reader: Option<tokio::task::JoinHandle<()>>,
    buffer: Arc<Mutex<Vec<u8>>>,
    spill: PathBuf,
    deadline: Option<tokio::time::Instant>,
}

impl Live {
    /// A process whose standard error comes by `errors`.
    pub fn new(yard: &Yard, child: tokio::process::Child, errors: std::io::PipeReader, timeout: Duration) -> Self {
        let buffer = Arc::new(Mutex::new(Vec::new()));
        Self {
            group: group(&child),
            child: Some(child),
            exit: None,
            ends: None,
            reader: Some(tokio::spawn(drain(errors.into(), Arc::clone(&buffer)))),
            buffer,
            spill: yard.home.join("spill-errors"),
            deadline: tokio::time::Instant::now().checked_add(timeout),
        }
    }

    fn end(&self) {
        if let Some(group) = self.group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

impl Process for Live {
    fn wait(&mut self, patience: Duration) -> BoxFuture<'_, Option<Exit>> {
        use std::os::unix::process::ExitStatusExt;
        Box::pin(async move {
            if let Some(exit) = self.exit {
                return Some(exit);
            }
            let patient_until = tokio::time::Instant::now() + patience;
            let deadline = self.deadline.unwrap();
            let child = self.child.as_mut().unwrap();
            let status = tokio::select! {
                biased;
                status = child.wait() => status.unwrap(),
                () = tokio::time::sleep_until(patient_until.min(deadline)) => {
                    if patient_until < deadline {
                        return None;
                    }
                    self.kill().await;
                    self.exit = Some(Exit::TimedOut);
                    return self.exit;
                }
            };
            if let Some(mut reader) = self.reader.take() {
                // What it left behind may hold its output open.
                let _ = tokio::time::timeout(Duration::from_millis(100), &mut reader).await;
            }
            let own = || status.code().map_or_else(|| Exit::Signal(status.signal().unwrap()), Exit::Code);
            self.exit = Some(self.ends.unwrap_or_else(own));
            self.exit
        })
    }

    fn output(&self) -> Output {
        const KEEP: usize = 32 * 1024;
        let all = self.buffer.lock().unwrap();
        let head = &all[..all.len().min(KEEP)];
        let rest = &all[head.len()..];
        let tail = &rest[rest.len().saturating_sub(KEEP)..];
        let file = (all.len() > 2 * KEEP).then(|| {
            std::fs::write(&self.spill, &*all).unwrap();
            self.spill.clone()
        });
        Output { head: Bytes::copy_from_slice(head), tail: Bytes::copy_from_slice(tail), total: all.len() as u64, file }
    }

    fn kill(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.end();
            if let Some(child) = &mut self.child {
                let _ = child.wait().await;
            }
            // Those whose parent has gone are taken by another, in its own time.
            while self.group.is_some_and(|group| rustix::process::test_kill_process_group(group).is_ok()) {
                tokio::task::yield_now().await;
            }
        })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.exit.is_none() {
            self.end();
        }
    }
}

struct YardFiles(PathBuf);

impl YardFiles {
    fn place(&self, path: &str) -> Result<PathBuf, Fault> {
        let path = path.strip_prefix("/workspace/").unwrap_or(path);
        if path.starts_with('/') || path.contains("..") {
            return Err(Fault::input(format!("{path} is outside of the workspace")));
        }
        Ok(self.0.join(path))
    }
}

impl Files for YardFiles {
    fn read(&self, path: &str, offset: u64, max: usize) -> Result<(Bytes, u64), Fault> {
        let place = self.place(path)?;
        if place.is_dir() {
            return Err(Fault::input(format!("{path} is a directory")));
        }
        let all = std::fs::read(place).map_err(|_| Fault::not_found(format!("there is no file {path}")))?;
        let from = usize::try_from(offset).unwrap().min(all.len());
        let to = all.len().min(from.saturating_add(max));
        Ok((Bytes::copy_from_slice(&all[from..to]), all.len() as u64))
    }

    fn write(&self, path: &str, content: &[u8]) -> Result<(), Fault> {
        let place = self.place(path)?;
        let fault = |error: std::io::Error| Fault::environment(format!("{path}: {error}"));
        std::fs::create_dir_all(place.parent().unwrap()).map_err(fault)?;
        std::fs::write(place, content).map_err(fault)
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>, Fault> {
        let Ok(entries) = std::fs::read_dir(self.place(path)?) else { return Ok(Vec::new()) };
        let entry = |entry: std::fs::DirEntry| {
            let metadata = entry.metadata().unwrap();
            Entry {
                name: entry.file_name().into_string().unwrap(),
                kind: if metadata.is_dir() { EntryKind::Directory } else { EntryKind::File },
                bytes: metadata.len(),
                modified: metadata.modified().unwrap(),
            }
        };
        Ok(entries.map(|found| entry(found.unwrap())).collect())
    }
}
