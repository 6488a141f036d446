//! Sandboxes without walls or processes: a terminal that shouts back what it hears, and this machine's own loopback.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use domain::{
    Fault,
    ports::{
        BoxFuture,
        sandbox::{
            Conversation, Entry, Exec, Exit, Files, Probe, Process, Sandbox, SandboxSpec, Sandboxes, Terminal, Wall,
            WindowSize,
        },
    },
};
use tokio::sync::watch;

use crate::stands_in::{done, unasked};

#[derive(Clone)]
pub struct Boxes {
    pub edits: Arc<AtomicU64>,
}

impl Sandboxes for Boxes {
    fn probe(&self) -> Probe {
        let wall = Wall { name: "user namespace".to_owned(), stands: true, note: "made one".to_owned() };
        Probe { confined: true, layers: false, walls: vec![wall] }
    }

    fn open(&self, _: SandboxSpec) -> BoxFuture<'_, Result<Arc<dyn Sandbox>, Fault>> {
        done(Ok(Arc::new(self.clone()) as Arc<dyn Sandbox>))
    }

    fn ensure_dead(&self, _: PathBuf, _: Duration) -> BoxFuture<'_, Result<(), Fault>> {
        done(Ok(()))
    }
}

impl Sandbox for Boxes {
    fn spawn(&self, _: Exec) -> BoxFuture<'_, Result<Box<dyn Process>, Fault>> {
        unasked("a process")
    }

    fn converse(&self, _: Exec) -> BoxFuture<'_, Result<Conversation, Fault>> {
        unasked("a conversation")
    }

    fn terminal(&self, exec: Exec, size: WindowSize) -> BoxFuture<'_, Result<Box<dyn Terminal>, Fault>> {
        let program = exec.argv.join(" ");
        done(Ok(Box::new(Shouter::start(program, size, self.edits.clone())) as Box<dyn Terminal>))
    }

    fn files(&self) -> BoxFuture<'_, Result<Arc<dyn Files>, Fault>> {
        done(Ok(Arc::new(self.clone()) as Arc<dyn Files>))
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, Result<TcpStream, Fault>> {
        done(TcpStream::connect(("127.0.0.1", port)).map_err(|error| Fault::not_found(error.to_string())))
    }

    fn running(&self) -> Vec<String> {
        Vec::new()
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        done(())
    }
}

impl Files for Boxes {
    fn read(&self, path: &str, _: u64, _: usize) -> Result<(Bytes, u64), Fault> {
        Err(Fault::not_found(path))
    }

    fn write(&self, path: &str, _: &[u8]) -> Result<(), Fault> {
        Err(Fault::environment(path))
    }

    fn list(&self, _: &str) -> Result<Vec<Entry>, Fault> {
        Ok(Vec::new())
    }
}

/// Says what it was started as, then shouts back whatever is typed. `edit` counts as a change, `exit` ends it with 3, Ctrl-D with 0.
struct Shouter {
    host: UnixStream,
    end: watch::Receiver<Option<Exit>>,
    size: Mutex<WindowSize>,
}

impl Shouter {
    fn start(program: String, size: WindowSize, edits: Arc<AtomicU64>) -> Self {
        let (host, mut inside) = UnixStream::pair().unwrap();
        let (ended, end) = watch::channel(None);
        writeln!(inside, "{program} at {}x{}", size.rows, size.columns).unwrap();
        host.set_nonblocking(true).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 64];
            let exit = loop {
                let count = inside.read(&mut buffer).unwrap_or(0);
                let typed = String::from_utf8_lossy(&buffer[..count]);
                if typed.contains("edit") {
                    edits.fetch_add(1, Ordering::SeqCst);
                }
                match typed.as_ref() {
                    "" => break Exit::Signal(9),
                    "\u{4}" => break Exit::Code(0),
                    typed if typed.contains("exit") => {
                        inside.write_all(b"LAST WORDS").unwrap();
                        break Exit::Code(3);
                    }
                    typed => inside.write_all(typed.to_uppercase().as_bytes()).unwrap(),
                }
            };
            ended.send_replace(Some(exit));
        });
        Self { host, end, size: Mutex::new(size) }
    }
}

impl Terminal for Shouter {
    fn io(&self) -> std::io::Result<OwnedFd> {
        Ok(self.host.try_clone()?.into())
    }

    fn resize(&self, size: WindowSize) {
        let was = std::mem::replace(&mut *self.size.lock().unwrap(), size);
        // What is typed next is about it.
        let told = format!("was {}x{}, is {}x{} ", was.rows, was.columns, size.rows, size.columns);
        (&self.host).write_all(told.as_bytes()).unwrap();
    }

    fn wait(&mut self) -> BoxFuture<'_, Exit> {
        Box::pin(async { self.end.wait_for(Option::is_some).await.unwrap().unwrap() })
    }

    fn kill(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.host.shutdown(std::net::Shutdown::Write).unwrap();
            self.end.wait_for(Option::is_some).await.unwrap();
        })
    }
}
