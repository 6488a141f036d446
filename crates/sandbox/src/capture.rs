//! What a command has printed: the first and the last of it in memory, all of it in a file once that is not everything.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use bytes::Bytes;
use domain::ports::sandbox::Output;

/// The bytes kept of each end.
const KEPT: usize = 32 << 10;

/// Grows with what is printed, to at most three times [`KEPT`].
#[derive(Debug, Default)]
pub struct Capture {
    head: Vec<u8>,
    /// Its last [`KEPT`] bytes count; cut back when twice as long, so that keeping it costs one copy per byte.
    tail: Vec<u8>,
    total: u64,
    file: Option<PathBuf>,
}

impl Capture {
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (first, rest) = bytes.split_at(bytes.len().min(KEPT - self.head.len()));
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(KEPT)..];
        if self.tail.len() + rest.len() > 2 * KEPT {
            let keep = KEPT - rest.len();
            self.tail.drain(..self.tail.len() - keep);
        }
        self.tail.extend_from_slice(rest);
    }

    /// Whether head and tail could not show everything after `more` bytes.
    pub fn would_overflow(&self, more: usize) -> bool {
        self.total + more as u64 > 2 * KEPT as u64
    }

    /// All that was printed, as long as that is no more than head and tail show.
    pub fn everything(&self) -> Vec<u8> {
        [self.head.as_slice(), &self.tail].concat()
    }

    pub fn set_file(&mut self, file: Option<PathBuf>) {
        self.file = file;
    }

    pub fn output(&self) -> Output {
        let tail = &self.tail[self.tail.len().saturating_sub(KEPT)..];
        Output {
            head: Bytes::copy_from_slice(&self.head),
            tail: Bytes::copy_from_slice(tail),
            total: self.total,
            file: self.file.clone(),
        }
    }
}

/// The file that takes the full output, up to a limit.
#[derive(Debug)]
pub struct Spill {
    file: File,
    path: PathBuf,
    room: u64,
}

impl Spill {
    /// Makes a new file in `directory` (made if absent) that will take `limit` bytes. Blocks.
    pub fn create(directory: &Path, limit: u64) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(directory)?;
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("output-{time:x}-{number}.txt"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { file, path, room: limit })
    }

    /// Blocks. After an error the file is of no use: see [`Self::remove`].
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let kept = &bytes[..usize::try_from(self.room).map_or(bytes.len(), |room| bytes.len().min(room))];
        self.file.write_all(kept)?;
        self.room -= kept.len() as u64;
        Ok(())
    }

    pub fn is_full(&self) -> bool {
        self.room == 0
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn remove(self) {
        // What is left behind goes with the directory.
        drop(fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_tail_adjoin_until_something_is_elided() {
        let all: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        for length in [0, 1, KEPT - 1, KEPT, KEPT + 1, 2 * KEPT, 2 * KEPT + 1, 3 * KEPT, all.len()] {
            for chunk in [1000, 4096, 65_536, 200_000] {
                let mut capture = Capture::default();
                all[..length].chunks(chunk).for_each(|bytes| capture.push(bytes));
                let output = capture.output();
                assert_eq!(output.total, length as u64);
                assert_eq!(output.head, &all[..length.min(KEPT)]);
                assert_eq!(output.tail, &all[length.saturating_sub(KEPT).max(length.min(KEPT))..length]);
                assert_eq!(capture.would_overflow(0), length > 2 * KEPT);
                assert!(capture.tail.capacity() <= 4 * KEPT);
            }
        }
    }
}
