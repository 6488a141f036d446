//! One buffer for all that a thread reads from pipes: a thousand commands that are silent cost none.

use std::{cell::RefCell, io, os::fd::OwnedFd};

/// The most that a pipe holds and one read takes.
pub const CHUNK: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into());
}

/// Reads once, at most [`CHUNK`] bytes, and hands them over; none at the end.
pub fn read<T>(pipe: &OwnedFd, most: usize, take: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    SCRATCH.with_borrow_mut(|scratch| {
        let length = rustix::io::read(pipe, &mut scratch[..most])?;
        Ok(take(&scratch[..length]))
    })
}
