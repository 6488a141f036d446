//! A command on a terminal, as the daemon sees it.

use std::{io, os::fd::OwnedFd};

use domain::ports::{
    BoxFuture,
    sandbox::{self, Exit, WindowSize},
};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::{
    link::Link,
    process::{Hold, Life, Terms},
};

/// Dropping it kills the command's tree.
#[derive(Debug)]
pub struct Terminal {
    /// The side that is not the command's.
    master: OwnedFd,
    hold: Hold,
}

impl Terminal {
    /// Attends to a command that its init has started on the other side of `master`.
    pub fn attend(init: Link, master: OwnedFd, terms: Terms) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self { master, hold: Hold::attend(init, terms) })
    }

    pub fn life(&self) -> Life {
        self.hold.life()
    }
}

impl sandbox::Terminal for Terminal {
    fn io(&self) -> io::Result<OwnedFd> {
        self.master.try_clone()
    }

    fn resize(&self, size: WindowSize) {
        // A terminal takes every size; the command is told by SIGWINCH.
        let _ = tcsetwinsize(&self.master, window(size));
    }

    fn wait(&mut self) -> BoxFuture<'_, Exit> {
        Box::pin(self.hold.end())
    }

    fn kill(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.hold.kill())
    }
}

/// As the kernel has it; nobody asks for the size in points.
pub fn window(size: WindowSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}
