//! Talking with a plain process, line by line.

use std::process::Stdio;

use bytes::Bytes;
use domain::{
    Fault,
    ports::{
        BoxFuture,
        sandbox::{Conversation, Exec, Input, LINE_BYTES, Lines},
    },
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdin, ChildStdout},
};

use crate::yard::{Live, Yard};

impl Yard {
    /// As the sandbox does it: standard error alone is kept.
    pub fn talk(&self, exec: &Exec) -> Result<Conversation, Fault> {
        let environment = |error: std::io::Error| Fault::environment(error.to_string());
        let (read, write) = std::io::pipe().map_err(environment)?;
        let mut command = self.command(exec);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(write);
        let mut child = command.spawn().map_err(environment)?;
        drop(command);
        let input = Box::new(Words(child.stdin.take().unwrap()));
        let lines = Box::new(Told { reader: BufReader::new(child.stdout.take().unwrap()), line: Vec::new() });
        Ok(Conversation { process: Box::new(Live::new(self, child, read, exec.timeout)), input, lines })
    }
}

struct Words(ChildStdin);

impl Input for Words {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move { self.0.write_all(&bytes).await.map_err(|error| Fault::transient(error.to_string())) })
    }
}

struct Told {
    reader: BufReader<ChildStdout>,
    /// Of which a part was read when the reader was canceled.
    line: Vec<u8>,
}

impl Lines for Told {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Fault>> {
        Box::pin(async {
            let read = self.reader.read_until(b'\n', &mut self.line).await;
            let mut line = std::mem::take(&mut self.line);
            if line.last() == Some(&b'\n') {
                line.pop();
            } else if line.is_empty() || read.is_err() {
                return Ok(None);
            }
            if line.len() > LINE_BYTES { Err(Fault::input("the line is too long")) } else { Ok(Some(line.into())) }
        })
    }
}
