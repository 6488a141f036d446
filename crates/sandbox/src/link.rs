//! The daemon's end of a packet socket, for tokio.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    sys,
    wire::{self, Report},
};

/// Closing it tells the process at the other end to kill its tree.
#[derive(Debug)]
pub struct Link(AsyncFd<OwnedFd>);

impl Link {
    /// Must be called within a tokio runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        sys::watch(socket, Interest::READABLE | Interest::WRITABLE).map(Self)
    }

    pub async fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let send = |socket: &OwnedFd| wire::send(socket, bytes, fds, SendFlags::DONTWAIT);
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// `None` once the other end is gone. A safe point to be canceled at.
    pub async fn report(&self) -> Option<Report> {
        self.receive().await.map(|(report, _)| report)
    }

    /// A report with the descriptors that come with it. As [`Self::report`].
    pub async fn receive(&self) -> Option<(Report, Vec<OwnedFd>)> {
        let receive = |socket: &OwnedFd| {
            let mut packet = [0; 8];
            let (length, fds) = wire::receive(socket, &mut packet, RecvFlags::DONTWAIT)?;
            Ok(Report::decode(&packet[..length]).map(|report| (report, fds)))
        };
        self.0.async_io(Interest::READABLE, receive).await.ok().flatten()
    }

    /// Tells the other end to kill its tree; it closes when the tree is gone.
    pub fn let_go(&self) {
        // Fails only when the other end is gone already.
        let _ = rustix::net::shutdown(self.0.get_ref(), Shutdown::Write);
    }

    /// Resolves when the other end is gone.
    pub async fn gone(&self) {
        while self.report().await.is_some() {}
    }
}
