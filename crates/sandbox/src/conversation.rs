//! The two ends of a command that is talked with: what is written to it, and the lines it answers with.

use std::{io, os::fd::OwnedFd, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use domain::{
    Fault,
    ports::{
        BoxFuture,
        sandbox::{self, LINE_BYTES},
    },
    redact::Redactor,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    scratch::{self, CHUNK},
    sys,
};

/// The writing end of a command's standard input.
#[derive(Debug)]
pub struct Input(AsyncFd<OwnedFd>);

impl Input {
    pub fn new(pipe: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        sys::watch(pipe, Interest::WRITABLE).map(Self)
    }
}

impl sandbox::Input for Input {
    fn write(&mut self, mut bytes: Bytes) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            while !bytes.is_empty() {
                let write = |pipe: &OwnedFd| Ok(rustix::io::write(pipe, &bytes)?);
                let written = self.0.async_io(Interest::WRITABLE, write).await.map_err(|error| {
                    Fault::transient(format!("the command reads no more of its standard input: {error}"))
                })?;
                bytes.advance(written);
            }
            Ok(())
        })
    }
}

/// The reading end of a command's standard output.
pub struct Lines {
    pipe: AsyncFd<OwnedFd>,
    redactor: Arc<Redactor>,
    buffer: BytesMut,
    /// At the start of the buffer, known to hold no end of a line.
    searched: usize,
    /// What comes up to the next end of a line belongs to one that was too long.
    skipping: bool,
    /// Nothing more can come.
    closed: bool,
}

impl Lines {
    pub fn new(pipe: OwnedFd, redactor: Arc<Redactor>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let pipe = sys::watch(pipe, Interest::READABLE)?;
        Ok(Self { pipe, redactor, buffer: BytesMut::new(), searched: 0, skipping: false, closed: false })
    }

    /// Waits for more and reads once. Loses nothing when canceled.
    async fn fill(&mut self) {
        let Self { pipe, buffer, .. } = self;
        if buffer.is_empty() {
            // A long line's room is not kept for a command that is silent.
            *buffer = BytesMut::new();
        }
        let read = |pipe: &OwnedFd| {
            scratch::read(pipe, CHUNK, |bytes| {
                buffer.extend_from_slice(bytes);
                bytes.len()
            })
        };
        // Reading a pipe fails only where the runtime is shutting down.
        self.closed = pipe.async_io(Interest::READABLE, read).await.unwrap_or(0) == 0;
    }

    /// Takes the next line out of the buffer; `None` where more must be read first.
    fn take(&mut self) -> Option<Result<Bytes, Fault>> {
        loop {
            let end = memchr::memchr(b'\n', &self.buffer[self.searched..]).map(|at| self.searched + at);
            let length = end.unwrap_or(self.buffer.len());
            let too_long = length > LINE_BYTES;
            let whole = end.is_some() || self.closed && length > 0;
            if !(whole || too_long || self.skipping) {
                self.searched = length;
                return None;
            }
            let line = self.buffer.split_to(length).freeze();
            self.buffer.advance(usize::from(end.is_some()));
            self.searched = 0;
            let skipped = self.skipping;
            self.skipping = end.is_none() && (skipped || too_long);
            match (skipped, self.skipping) {
                (true, true) => return None,
                (true, false) => {}
                (false, _) if too_long => {
                    let what = format!("the command printed a line of more than {LINE_BYTES} bytes");
                    return Some(Err(Fault::input(what)));
                }
                (false, _) => return Some(Ok(self.redactor.redact(&line).map_or(line, Bytes::from))),
            }
        }
    }
}

impl sandbox::Lines for Lines {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Fault>> {
        Box::pin(async move {
            loop {
                match self.take() {
                    Some(line) => return line.map(Some),
                    None if self.closed => return Ok(None),
                    None => self.fill().await,
                }
            }
        })
    }
}
