//! The port [`Blobs`]: files by the SHA-256 of their content, plain, at `blobs/ab/cdef…` (so that `sha256sum` can check them).

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use domain::{
    Fault,
    check::BlobId,
    ids::Epoch,
    ports::{BoxFuture, store::Blobs},
};
use sha2::{Digest, Sha256};

use crate::{Store, error, readers::blocking};

impl Blobs for Store {
    fn put(&self, content: Bytes) -> BoxFuture<'_, Result<BlobId, Fault>> {
        let files = Arc::clone(&self.files);
        Box::pin(blocking(move || files.put(&content)))
    }

    fn get(&self, id: BlobId) -> BoxFuture<'_, Result<Bytes, Fault>> {
        let files = Arc::clone(&self.files);
        Box::pin(blocking(move || files.get(&id)))
    }
}

/// The directory `blobs`. Files are written under `blobs/new` and renamed to their place.
pub(crate) struct Files {
    root: PathBuf,
    epoch: Epoch,
    written: AtomicU64,
    /// Whether the shard directory of this first byte is known to be durable.
    shards: [AtomicBool; 256],
}

impl Files {
    pub fn open(home: &Path, epoch: Epoch) -> Result<Self, Fault> {
        let root = home.join("blobs");
        let new = root.join("new");
        // What an earlier life left half written.
        match fs::remove_dir_all(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error::file("remove", &new, &error)),
            _ => {}
        }
        make_directory(&new).map_err(|error| error::file("make", &new, &error))?;
        // The directory's entries, those of the database's own files among them.
        fsync(home).map_err(|error| error::file("write", home, &error))?;
        Ok(Self { root, epoch, written: AtomicU64::new(0), shards: [const { AtomicBool::new(false) }; 256] })
    }

    fn put(&self, content: &[u8]) -> Result<BlobId, Fault> {
        let hash = Sha256::digest(content);
        let id = BlobId(hex(&hash));
        let path = self.path(&id);
        self.write(&path, hash[0], content).map_err(|error| error::file("write", &path, &error))?;
        Ok(id)
    }

    fn write(&self, path: &Path, shard: u8, content: &[u8]) -> io::Result<()> {
        let directory = path.parent().unwrap_or(&self.root);
        // Compared, not only looked for: one that was damaged since is written anew.
        if !fs::read(path).is_ok_and(|found| found == content) {
            make_directory(directory)?;
            let name = format!("{}-{}", self.epoch, self.written.fetch_add(1, Ordering::Relaxed));
            let new = self.root.join("new").join(name);
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            let moved = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, path));
            if let Err(error) = moved {
                // Best effort: the next start clears what is left.
                let _ = fs::remove_file(&new);
                return Err(error);
            }
        }
        // Also for a file that was there: whoever put it may not have come this far.
        fsync(directory)?;
        let durable = &self.shards[usize::from(shard)];
        if !durable.load(Ordering::Relaxed) {
            fsync(&self.root)?;
            durable.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn get(&self, id: &BlobId) -> Result<Bytes, Fault> {
        let unknown = || Fault::not_found(format!("there is no blob {}", id.0));
        if id.0.len() != 64 || !id.0.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(unknown());
        }
        let path = self.path(id);
        let content = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => unknown(),
            _ => error::file("read", &path, &error),
        })?;
        if hex(&Sha256::digest(&content)) != id.0 {
            return Err(Fault::environment(format!(
                "{} is damaged: its content does not match its name",
                path.display()
            ))
            .hint("put it back from a backup, or run what made it again"));
        }
        Ok(content.into())
    }

    /// `id` is a hash in hexadecimal.
    fn path(&self, id: &BlobId) -> PathBuf {
        let (shard, rest) = id.0.split_at(2);
        self.root.join(shard).join(rest)
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn fsync(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
