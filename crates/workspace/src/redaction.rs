//! What secrets are in the files of a workspace does not get into a snapshot of it.
//!
//! A workspace is released only when a snapshot is proven to hold its files; where a secret was replaced in one, it does not hold
//! that one as it is. So what a file was replaced by is remembered beside the workspace, under the hash of what it was.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use domain::{Fault, redact::Redactor};
use sha2::{Digest, Sha256};

use crate::{
    git::io_fault,
    home::{make_dir, remove_tree},
    store::put,
};

/// Files up to this many bytes are handled in memory.
const IN_MEMORY: u64 = 4 << 20;
const PIECE: usize = 1 << 20;
/// What one changed file may hold. Forges take none of a tenth of that.
const FILE_BYTES: u64 = 1 << 30;

/// What happens to the content of files on their way into a commit.
#[derive(Debug)]
pub(crate) struct Redaction<'a> {
    /// `None`: what was remembered is applied again.
    redactor: Option<&'a Redactor>,
    remembered: PathBuf,
    /// Whether a content may have been remembered.
    known: bool,
    /// A directory for large files on their way.
    aside: PathBuf,
}

/// The content of a file, as it is to be committed.
#[derive(Debug)]
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// Large: read from its beginning.
    Spool(File, u64),
}

impl Content {
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Spool(_, length) => *length,
        }
    }
}

impl<'a> Redaction<'a> {
    /// For a snapshot; what was remembered before is forgotten. `beside` is the workspace's own directory on the host.
    pub fn apply(beside: &Path, redactor: &'a Redactor) -> Result<Self, Fault> {
        let remembered = beside.join("redacted");
        remove_tree(&remembered)?;
        let redactor = (!redactor.is_empty()).then_some(redactor);
        Ok(Self { redactor, remembered, known: false, aside: beside.to_owned() })
    }

    /// For a proof: what the last snapshot replaced is replaced again.
    pub fn again(beside: &Path) -> Self {
        let remembered = beside.join("redacted");
        let known = remembered.is_dir();
        Self { redactor: None, remembered, known, aside: beside.to_owned() }
    }

    /// Whether contents stay as they are.
    fn is_idle(&self) -> bool {
        self.redactor.is_none() && !self.known
    }

    /// Reads a file to its end, as it is to be committed, and whether it is a program. `path` is for messages.
    pub fn read(&self, file: File, path: &[u8]) -> Result<(bool, Content), Fault> {
        let aside = |error: io::Error| io_fault("copy a file to", &self.aside, &error);
        let about = file.metadata().map_err(aside)?;
        let is_program = about.mode() & 0o100 != 0;
        let too_large = |length: u64| {
            Fault::input(format!("`{}` is larger than {} MiB", String::from_utf8_lossy(path), FILE_BYTES >> 20))
                .at(format!("{length} bytes"))
                .hint("remove it, or have git ignore it by a line in .gitignore")
        };
        // Told at once of a file with holes, however large it says it is.
        if about.len() > FILE_BYTES {
            return Err(too_large(about.len()));
        }
        let mut bytes = Vec::new();
        let read = (&file).take(IN_MEMORY + 1).read_to_end(&mut bytes).map_err(aside)?;
        if read as u64 <= IN_MEMORY {
            return Ok((is_program, Content::Bytes(self.pass(bytes)?)));
        }
        let mut raw = self.spool().map_err(aside)?;
        let rest = &mut (&file).take(FILE_BYTES + 1 - bytes.len() as u64);
        let copied = raw.write_all(&bytes).and_then(|()| io::copy(rest, &mut raw)).map_err(aside)?;
        let length = bytes.len() as u64 + copied;
        drop(bytes);
        // It grows while it is read.
        if length > FILE_BYTES {
            return Err(too_large(length));
        }
        raw.rewind().map_err(aside)?;
        let content = if self.is_idle() { Content::Spool(raw, length) } else { self.pass_large(raw, length)? };
        Ok((is_program, content))
    }

    /// Bytes that are held in memory.
    pub fn pass(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Fault> {
        if let Some(redactor) = self.redactor {
            let Some(redacted) = redactor.redact(&bytes) else { return Ok(bytes) };
            put(&self.remember(&Sha256::digest(&bytes))?, &redacted)?;
            return Ok(redacted);
        }
        if !self.known {
            return Ok(bytes);
        }
        let place = self.place_of(&Sha256::digest(&bytes));
        match fs::read(&place) {
            Ok(redacted) => Ok(redacted),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(bytes),
            Err(error) => Err(io_fault("read", &place, &error)),
        }
    }

    fn pass_large(&self, mut raw: File, length: u64) -> Result<Content, Fault> {
        let aside = |error: io::Error| io_fault("read a copy of a file in", &self.aside, &error);
        let mut hash = Sha256::new();
        let mut redacted = self.redactor.map(|_| self.spool()).transpose().map_err(aside)?;
        let (mut held, mut piece, mut found) = (Vec::new(), vec![0; PIECE], false);
        loop {
            let read = raw.read(&mut piece).map_err(aside)?;
            hash.update(&piece[..read]);
            if let (Some(redactor), Some(to)) = (self.redactor, &mut redacted) {
                held.extend_from_slice(&piece[..read]);
                let settled = if read == 0 { held.len() } else { redactor.settled(&held) };
                let passed = redactor.redact(&held[..settled]);
                found |= passed.is_some();
                to.write_all(passed.as_deref().unwrap_or(&held[..settled])).map_err(aside)?;
                held.drain(..settled);
            }
            if read == 0 {
                break;
            }
        }
        let digest = hash.finalize();
        raw.rewind().map_err(aside)?;
        if let Some(mut redacted) = redacted.filter(|_| found) {
            let place = self.remember(&digest)?;
            let length = redacted.stream_position().map_err(aside)?;
            redacted.rewind().map_err(aside)?;
            File::create(&place)
                .and_then(|mut to| io::copy(&mut redacted, &mut to))
                .and_then(|_| redacted.rewind())
                .map_err(|error| io_fault("write", &place, &error))?;
            return Ok(Content::Spool(redacted, length));
        }
        match File::open(self.place_of(&digest)) {
            Ok(redacted) if self.known => {
                let length = redacted.metadata().map_err(aside)?.len();
                Ok(Content::Spool(redacted, length))
            }
            _ => Ok(Content::Spool(raw, length)),
        }
    }

    fn remember(&self, digest: &[u8]) -> Result<PathBuf, Fault> {
        make_dir(&self.remembered)?;
        Ok(self.place_of(digest))
    }

    fn place_of(&self, digest: &[u8]) -> PathBuf {
        self.remembered.join(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    /// A file without a name.
    fn spool(&self) -> io::Result<File> {
        let path = self.aside.join("spool");
        let file = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }
}
